"""Jobs for SLURM: ``python -m launch render`` writes the sbatch script of a training, evaluation or preparation."""
