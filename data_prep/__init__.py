"""From parallel text to tokenised, sharded corpora: ``python -m data_prep SPEC.yaml``."""
