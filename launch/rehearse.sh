#!/usr/bin/env bash
# Rehearses on this machine what happens to a job at its time limit: see --help.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: bash launch/rehearse.sh [--dir DIR]

Tries out what happens to a job at its time limit. It trains a tiny model on 2 processes and sends them USR1, as
SLURM does. The run saves itself, exits with 75, is started again like a requeued job, and goes on. A second run is left
undisturbed. The losses of every step must be equal. It needs no SLURM and no GPU and takes about a minute.
Exit status: 0 if everything went as it should.

  --dir DIR   folder for text, corpus and runs, which stay there (default: a new folder in TMPDIR, removed afterwards)
  --help      show this text

Environment: VENV (virtual environment with the project, default .venv in the repository).
TEXT
}

# shellcheck source=launch/setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

dir="" keep=no steps=1000000 ranks=()

parse_arguments() {
  while (($#)); do
    case "$1" in
      --help | -h) usage && exit 0 ;;
      --dir)
        (($# > 1)) || die "--dir needs a value" "bash launch/rehearse.sh --help lists the options"
        dir="$2" keep=yes
        shift 2
        ;;
      *) die "unknown option $1" "bash launch/rehearse.sh --help lists the options" ;;
    esac
  done
}

clean_up() {
  stop_heartbeat
  if ((${#ranks[@]})); then
    kill -KILL "${ranks[@]}" 2>/dev/null || true # their watchers end with them
    wait
  fi
  if [[ "$keep" == no && -n "$dir" ]]; then rm -rf -- "$dir"; fi
}

# make_text: 300 sentences of a made-up language, word by word from English.
make_text() {
  awk 'BEGIN {
    split("house dog friend book teacher village tree river road door", noun)
    split("sees finds likes follows remembers carries", verb)
    split("casa gos amic llibre mestra poble arbre riu camí porta", own_noun)
    split("veu troba vol segueix recorda porta", own_verb)
    for (i = 0; i < 300; i++) {
      a = i % 10 + 1; v = int(i / 10) % 6 + 1; b = int(i / 60) + 1
      print "The " noun[a] " " verb[v] " the " noun[b] "." > ARGV[1]
      print "La " own_noun[a] " " own_verb[v] " la " own_noun[b] "." > ARGV[2]
    }
  }' "$dir/text.eng" "$dir/text.cat"
  cat >"$dir/spec.yaml" <<'YAML'
output: corpus
pivot: eng
pairs:
  - pair: eng-cat
    train: [{src: text.eng, tgt: text.cat}]
held_out: {valid: 10, test: 10}
sentencepiece: {vocab_size: 360, allow_smaller: true}
YAML
}

make_run() {
  cat >"$dir/run.json" <<'JSON'
{
  "train_batch_size": 2,
  "optimizer": {"type": "Adam", "params": {"lr": 2e-3}},
  "zero_optimization": {"stage": 1},
  "smoe": {
    "model": {"d_model": 32, "d_ffn": 48, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2, "max_positions": 64},
    "moe": {"strata": [2, 2], "ep_size": 2},
    "data": {"path": "corpus", "max_tokens": 256, "window": 128},
    "train": {
      "output_dir": "run", "warmup_steps": 4, "log_every": 1, "validate_every": 1000, "checkpoint_every": 1000
    }
  }
}
JSON
}

# start RUN: its two ranks in the background, as srun would start them; $ranks are their processes.
start() {
  local rank port
  port="$(free_port)"
  ranks=()
  for rank in 0 1; do
    RANK="$rank" LOCAL_RANK="$rank" WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT="$port" \
      "$VENV/bin/python" -m smoe_ds train "$dir/run.json" --set "smoe.data.path=$dir/corpus" \
      --set "smoe.train.output_dir=$dir/$1" --set "smoe.train.max_steps=$steps" >>"$dir/$1.log" 2>&1 &
    ranks+=("$!")
  done
}

# finish: waits for the ranks; the last one's exit status that is not 0 in $status.
finish() {
  local rank
  status=0
  for rank in "${ranks[@]}"; do
    wait "$rank" || status=$?
  done
  ranks=()
}

# train_to_the_end RUN: has to end with 0.
train_to_the_end() {
  start "$1"
  finish
  ((status == 0)) || fail "training" "$dir/$1.log" "$status"
}

# wait_for_step STEP RUN: until its log shows the step.
wait_for_step() {
  local waited=0
  until grep -qs "^step $1/" "$dir/$2.log"; do
    kill -0 "${ranks[0]}" 2>/dev/null || die "the job ended before step $1" "log: $dir/$2.log"
    ((waited++ < 3000)) || die "step $1 was not reached in five minutes" "log: $dir/$2.log"
    sleep 0.1
  done
}

# losses RUN: step and loss of every step, all digits.
losses() {
  "$VENV/bin/python" - "$dir/$1/tensorboard" <<'PYTHON'
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
for event in events.Scalars("train/loss"):
    print(event.step, repr(event.value))
PYTHON
}

disturbed_run() {
  local saved
  start disturbed
  wait_for_step 4 disturbed
  say "It trains: sending USR1 to both ranks, as SLURM does before the time limit"
  kill -USR1 "${ranks[@]}"
  finish
  ((status == 75)) || fail "saving at the signal (expected exit status 75)" "$dir/disturbed.log" "$status"
  saved="$(<"$dir/disturbed/checkpoints/latest")"
  say "It has saved $saved and ended with exit status 75: a job script would now requeue the job"
  steps=$((10#${saved#step_} + 8))
  say "The job starts again and goes on to step $steps"
  train_to_the_end disturbed
  grep "continuing after step" "$dir/disturbed.log" || die "it has started over" "log: $dir/disturbed.log"
}

compare() {
  losses undisturbed >"$dir/undisturbed.losses"
  losses disturbed >"$dir/disturbed.losses"
  (($(wc -l <"$dir/undisturbed.losses") == steps)) || die "the undisturbed run has not logged $steps steps"
  if ! diff "$dir/undisturbed.losses" "$dir/disturbed.losses"; then
    die "the losses differ (< undisturbed, > disturbed)"
  fi
  say "The losses of all $steps steps are equal to the last digit; step $(tail -n 1 -- "$dir/disturbed.losses")"
}

main() {
  parse_arguments "$@"
  [[ -x "$VENV/bin/python" ]] || die "$VENV: no virtual environment" "make one with launch/setup.sh, or name it: VENV=DIR"
  trap clean_up EXIT
  dir="${dir:-$(mktemp -d)}"
  mkdir -p -- "$dir"
  dir="$(cd -- "$dir" && pwd)"
  [[ ! -e "$dir/undisturbed" && ! -e "$dir/disturbed" ]] || die "$dir has an earlier rehearsal" "choose another --dir"
  cd -- "$REPO"
  export DS_ACCELERATOR=cpu OMP_NUM_THREADS=1
  make_text
  make_run
  step "Preparing a tiny corpus" "$dir/prepare.log" "$VENV/bin/python" -m data_prep "$dir/spec.yaml"
  say "Training on 2 ranks"
  disturbed_run
  say "Training the same $steps steps undisturbed"
  train_to_the_end undisturbed
  compare
}

main "$@"
