# Sourced by launch/quickstart.sh and launch/test.sh: a virtual environment with this project in it, and lines that show progress.
#
# Reads VENV (folder of the environment, default .venv in the repository) and PYTHON (interpreter to make it with).
# shellcheck shell=bash

REPO="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$REPO/.venv}"
LOG_DIR="${LOG_DIR:-$VENV/log}"
HEARTBEAT_SECONDS="${HEARTBEAT_SECONDS:-15}"
TORCH_CPU_INDEX="https://download.pytorch.org/whl/cpu"
MIN_PYTHON="3.10"
_heartbeat_pid=""

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

# say TEXT: one line with the time since the start.
say() {
  printf '[%2d:%02d] %s\n' "$((SECONDS / 60))" "$((SECONDS % 60))" "$*"
}

# die TEXT...: the reason on stderr, one line an argument, and exit 1.
die() {
  printf 'error: %s\n' "$1" >&2
  shift
  if (($#)); then printf '       %s\n' "$@" >&2; fi
  exit 1
}

stop_heartbeat() {
  if [[ -n "$_heartbeat_pid" ]]; then
    kill "$_heartbeat_pid" 2>/dev/null || true
    wait "$_heartbeat_pid" 2>/dev/null || true
    _heartbeat_pid=""
  fi
}
trap stop_heartbeat EXIT

# heartbeat LOG: every HEARTBEAT_SECONDS the time and the last line of LOG, until stop_heartbeat.
heartbeat() {
  local log="$1"
  (
    trap - EXIT
    while sleep "$HEARTBEAT_SECONDS" >/dev/null 2>&1; do # must not hold a reader of our output
      say "  ... $(tail -n 1 -- "$log" 2>/dev/null | tr -d '\r' | cut -c 1-100)"
    done
  ) &
  _heartbeat_pid=$!
}

# show LOG COMMAND...: a stage whose output is its progress: on the terminal and in LOG; its exit status.
# tee ignores the interrupt that the command handles, so that its last words are kept.
show() {
  local log="$1"
  shift
  mkdir -p -- "$(dirname -- "$log")"
  printf '$ %s\n' "$*" >>"$log"
  "$@" 2>&1 | tee -ia -- "$log"
}

# attempt LOG COMMAND...: COMMAND with its output in LOG, progress on the terminal; its exit status.
attempt() {
  local log="$1" status=0
  shift
  mkdir -p -- "$(dirname -- "$log")"
  printf '$ %s\n' "$*" >>"$log"
  heartbeat "$log"
  "$@" >>"$log" 2>&1 || status=$?
  stop_heartbeat
  return "$status"
}

# step NAME LOG COMMAND...: a stage that has to succeed; else the end of its log, the log's place, and exit.
step() {
  local name="$1" log="$2" status=0
  begin "$name" "$log"
  shift 2
  attempt "$log" "$@" || status=$?
  if ((status)); then
    fail "$name" "$log" "$status"
  fi
}

begin() {
  say "$1"
  mkdir -p -- "$(dirname -- "$2")"
  : >"$2"
}

fail() {
  tail -n 20 -- "$2" >&2
  die "step \"$1\" failed with exit status $3" "all of its output: $2"
}

# count_gpus: NVIDIA devices of this machine.
count_gpus() {
  { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null || true; } | grep -c '^GPU ' || true
}

# find_python: sets PYTHON to an interpreter that is new enough and can make virtual environments.
find_python() {
  local candidate found=""
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.10; do
    command -v "$candidate" >/dev/null || continue
    "$candidate" -c "import sys; sys.exit(sys.version_info < (${MIN_PYTHON/./, }))" 2>/dev/null || continue
    found="${found:-$candidate}"
    if "$candidate" -c "import ensurepip, venv" 2>/dev/null; then
      PYTHON="$candidate"
      return
    fi
  done
  if [[ -z "$found" ]]; then
    die "no Python >= $MIN_PYTHON found (looked for python3 and python3.10 to python3.13)" \
      "install one, or name it: PYTHON=/path/to/python bash $0"
  fi
  PYTHON="$found"
  install_venv_package
}

# install_venv_package: Debian and Ubuntu keep ensurepip in a package of its own.
install_venv_package() {
  local package
  package="python$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
  if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
    die "$PYTHON cannot make virtual environments: its module ensurepip is missing" \
      "on Debian and Ubuntu: sudo apt-get update && sudo apt-get install $package" \
      "or name another interpreter: PYTHON=/path/to/python bash $0"
  fi
  step "Installing $package with apt-get" "$LOG_DIR/apt.log" apt_install "$package"
}

apt_install() {
  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# make_venv: the environment, made anew when it is broken; never in a folder that holds something else.
make_venv() {
  if "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    return
  fi
  if [[ -d "$VENV" && ! -f "$VENV/pyvenv.cfg" && -n "$(find "$VENV" -mindepth 1 -maxdepth 1 ! -name log -print -quit)" ]]; then
    die "$VENV is not a virtual environment, and not empty" "choose another folder: VENV=/path bash $0"
  fi
  find_python
  step "Making the virtual environment $VENV with $("$PYTHON" --version)" "$LOG_DIR/venv.log" "$PYTHON" -m venv "$VENV"
}

# fingerprint: changes when what is to be installed changes.
fingerprint() {
  { cat -- "$REPO/requirements.txt" "$REPO/pyproject.toml" && "$VENV/bin/python" -VV && printf '%s\n' "$REPO"; } |
    sha256sum | cut -d ' ' -f 1
}

torch_requirement() {
  sed -n 's/^\(torch==[0-9.]*\).*/\1/p' "$REPO/requirements.txt"
}

# install_torch_cpu: the CPU build from pip's own indexes, else from PyTorch's. Without either, the default build is
# left to requirements.txt. --no-deps keeps an index that does not answer from being asked once per dependency.
install_torch_cpu() {
  local torch log="$LOG_DIR/torch.log" index
  torch="$(torch_requirement)+cpu"
  if [[ "$("$VENV/bin/python" -m pip list --format=freeze 2>/dev/null)" == *"$torch"* ]]; then
    return
  fi
  say "Installing $torch (no NVIDIA driver here)"
  : >"$log"
  for index in "" "$TORCH_CPU_INDEX"; do
    if attempt "$log" "$VENV/bin/python" -m pip install --no-deps --retries 1 --timeout 10 \
      ${index:+--index-url "$index"} "$torch"; then
      return
    fi
  done
  say "No CPU build of torch can be reached; installing the default build (larger: it may bring CUDA libraries)"
}

# install_project runtime|test: torch, the requirements and this project (with its test tools) into the environment, once
# per fingerprint.
install_project() {
  local extra="${1#runtime}" pip stamp want
  pip=("$VENV/bin/python" -m pip install)
  mkdir -p -- "$LOG_DIR"
  make_venv
  want="$(fingerprint)"
  for stamp in "$VENV/.installed-test" "$VENV/.installed${extra:+-$extra}"; do
    if [[ -f "$stamp" && "$(<"$stamp")" == "$want" ]]; then
      say "Environment is there: $VENV"
      return
    fi
  done
  step "Bringing pip up to date" "$LOG_DIR/pip.log" "${pip[@]}" --upgrade "pip>=24"
  if (($(count_gpus) == 0)); then
    install_torch_cpu
  fi
  step "Installing requirements.txt" "$LOG_DIR/requirements.log" "${pip[@]}" -r "$REPO/requirements.txt"
  step "Installing smoe_ds${extra:+ with its $extra tools}" "$LOG_DIR/project.log" \
    "${pip[@]}" -e "$REPO${extra:+[$extra]}"
  printf '%s\n' "$want" >"$stamp"
}

# set_environment RANKS: what processes that share this machine should be started with. Without a GPU for each: the CPU.
set_environment() {
  local ranks="$1" cores
  cores="$(env -u OMP_NUM_THREADS nproc)" # which takes OMP_NUM_THREADS for a limit
  if (($(count_gpus) < ranks)); then
    export DS_ACCELERATOR=cpu
  fi
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores > ranks ? cores / ranks : 1))}"
  export PYTHONUNBUFFERED=1
  export PATH="$VENV/bin:$PATH"
}

# free_port: a TCP port nobody listens on; never 29500, which every other job of a shared machine tries first.
free_port() {
  PYTHONPATH="$REPO" "$VENV/bin/python" -c 'from smoe_ds.parallel.ports import free_port; print(free_port())'
}
