#!/usr/bin/env bash
# Sets itself up in a virtual environment and checks the project: format, lint, types, scripts, tests.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: bash launch/test.sh [--all] [pytest arguments]

Makes a virtual environment (VENV, default .venv in the repository) with the test tools. Then it runs
ruff format --check, ruff check, mypy, bash -n and pytest, and prints how long each part took.

  (nothing)  all tests that an ordinary change can break; some 20 minutes on two cores
  --all      every test: whole grids, kills at random moments, every launcher, benchmarks; some 45 minutes

Other arguments go to pytest: bash launch/test.sh tests/moe -x. Tests run side by side, one process a core up to JOBS
(default 4). Tests with deadlines run afterwards, one at a time.
Exit status: 0 if all pass. You need no GPU, no MPI and no SLURM: tests for these are skipped if they are missing.
TEXT
}

selection=()
arguments=()
for argument in "$@"; do
  case "$argument" in
    --help | -h)
      usage
      exit 0
      ;;
    --all) selection=(--all) ;;
    *) arguments+=("$argument") ;;
  esac
done

# shellcheck source=launch/setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

failed=()
times=()

# check NAME COMMAND...: runs it, remembers how long it took and a failure, goes on.
check() {
  local name="$1" began=$SECONDS
  shift
  say "$name"
  "$@" || failed+=("$name")
  times+=("$(printf '%2d:%02d  %s' "$(((SECONDS - began) / 60))" "$(((SECONDS - began) % 60))" "$name")")
}

check_scripts() {
  local script status=0
  while IFS= read -r -d '' script; do
    bash -n "$script" || status=1
  done < <(find launch .ci -type f \( -name '*.sh' -o -name run \) -print0)
  return "$status"
}

tests_found=0

# run_tests ARGUMENTS...: pytest; none of its tests is no failure as long as the other turn has some.
run_tests() {
  local status=0
  python -m pytest ${selection[@]+"${selection[@]}"} "$@" ${arguments[@]+"${arguments[@]}"} || status=$?
  if ((status == 5)); then
    return 0
  fi
  tests_found=1
  return "$status"
}

say "SMoE tests: set up $VENV, then format, lint, types, shell syntax and pytest"
install_project test
times+=("$(printf '%2d:%02d  %s' "$((SECONDS / 60))" "$((SECONDS % 60))" "environment")")
cd -- "$REPO"
set_environment 2
export OMP_NUM_THREADS=1
unset PYTHONDONTWRITEBYTECODE # tests start hundreds of processes, each of which would compile every module anew
export TORCH_EXTENSIONS_DIR="${TORCH_EXTENSIONS_DIR:-$VENV/torch_extensions}" # DeepSpeed's Adam is compiled once
cores="$(env -u OMP_NUM_THREADS nproc)" # which takes OMP_NUM_THREADS for a limit
jobs="${JOBS:-$((cores < 4 ? cores : 4))}"
check "ruff format --check" ruff format --check .
check "ruff check" ruff check .
check "mypy" mypy
check "bash -n" check_scripts
check "pytest, side by side" run_tests --turn together -n "$jobs" --dist loadfile --no-loadscope-reorder
check "pytest, one at a time" run_tests --turn alone
if ((!tests_found)); then
  failed+=("pytest: no test is meant by ${arguments[*]}")
fi
printf '%s\n' "${times[@]}"
if ((${#failed[@]})); then
  die "failed: $(IFS=, && printf '%s' "${failed[*]}")"
fi
say "All passed"
