#!/usr/bin/env bash
# Sets itself up in a virtual environment and checks the project: format, lint, types, scripts, tests.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: bash launch/test.sh [pytest arguments]

Makes a virtual environment (VENV, default .venv in the repository) with the test tools. Then it runs
ruff format --check, ruff check, mypy, bash -n and pytest. Arguments go to pytest: bash launch/test.sh tests/moe -x
Exit status: 0 if all pass. You need no GPU, no MPI and no SLURM: tests for these are skipped if they are missing.
TEXT
}

if [[ "${1:-}" == --help || "${1:-}" == -h ]]; then
  usage
  exit 0
fi

# shellcheck source=launch/setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

failed=()

# check NAME COMMAND...: runs it, remembers a failure, goes on.
check() {
  local name="$1"
  shift
  say "$name"
  "$@" || failed+=("$name")
}

check_scripts() {
  local script status=0
  while IFS= read -r -d '' script; do
    bash -n "$script" || status=1
  done < <(find launch .ci -type f \( -name '*.sh' -o -name run \) -print0)
  return "$status"
}

say "SMoE tests: set up $VENV, then format, lint, types, shell syntax and pytest"
install_project test
cd -- "$REPO"
set_environment 2
export OMP_NUM_THREADS=1
check "ruff format --check" ruff format --check .
check "ruff check" ruff check .
check "mypy" mypy
check "bash -n" check_scripts
check "pytest" python -m pytest "$@"
if ((${#failed[@]})); then
  die "failed: $(IFS=, && printf '%s' "${failed[*]}")"
fi
say "All passed"
