#!/usr/bin/env bash
# What needs a GPU, in one go: the tests marked gpu, then the benchmarks of the layer and of whole systems.
#
#   bash tests/on_gpu.sh CORPUS [OUTPUT]     about 6 minutes on one H200
#
# CORPUS is a prepared corpus with a vocabulary of 32,000; texts and figures go to OUTPUT (default: gpu-results).
# A part that fails or takes too long does not keep the others from running; the exit code is then 1.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

corpus=$(realpath "${1:?give the folder of a prepared corpus}")
output=$(realpath -m "${2:-gpu-results}")
unset DS_ACCELERATOR
export OMP_NUM_THREADS=2 PYTHONPATH=$PWD
failed=0

# part NAME SECONDS COMMAND...: runs it, its output into a file and its last lines to the terminal
part() {
  local name=$1 limit=$2
  shift 2
  printf '== %s (%d s so far)\n' "$name" "$SECONDS"
  timeout "$limit" "$@" > "$output/$name.txt" 2>&1 || {
    printf 'FAILED: %s, exit code %d\n' "$name" "$?"
    failed=1
  }
  grep -v -e '^{' -e 'INFO' "$output/$name.txt" | tail -n 25
}

if ! python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo 'no CUDA device here' >&2
  exit 2
fi
mkdir -p "$output" || exit 2
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
python3 -c 'import torch, deepspeed; print("torch", torch.__version__, "deepspeed", deepspeed.__version__)'

spread=()
if python3 -c 'import xdist' 2> /dev/null; then spread=(-n 8); fi
part tests 240 python3 -m pytest tests/moe tests/decode tests/train -m gpu -q -p no:cacheprovider "${spread[@]}"

for backend in auto lean loop; do
  part "layer_$backend" 90 python3 -m tests.benchmarks.layer --device cuda --dtype bfloat16 --width m4 \
    --tokens 4096 16384 --repeats 15 --backend "$backend" --json "$output/layer_$backend.json"
done

run=(ds_configs/m4.json --set extends=engine/h200_bf16_zero1.json --set "smoe.data.path=$corpus"
  --set optimizer.params.torch_adam=true)
part systems_8k 120 python3 -m tests.benchmarks.throughput "${run[@]}" --set train_batch_size=8 --rounds 3 \
  --profile 20 --json "$output/systems_8k.json"
part systems_64k 120 python3 -m tests.benchmarks.throughput "${run[@]}" --set train_batch_size=2 \
  --set smoe.data.max_tokens=65536 --rounds 3 --systems dense vanilla 4-4 --profile 20 --json "$output/systems_64k.json"
part constants 90 python3 -m smoe_ds calibrate "${run[@]}" --output "$output/constants.json"
part plan 60 python3 -m smoe_ds plan "${run[@]}" --nodes 1 --gpus-per-node 1 --constants "$output/constants.json"
exit "$failed"
