#!/usr/bin/env bash
# From nothing to a trained, evaluated SMoE-2-2-2-2 on real bitext: see --help.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: bash launch/quickstart.sh [options]

Goes from nothing to a BLEU table: makes a virtual environment, installs the project, fetches real bitext, prepares it,
trains SMoE-2-2-2-2 with DeepSpeed, translates held-out sentences, prints BLEU and chrF++ and writes a report of the run.
It takes about 10 minutes on two cores, 7 of them for training. Run it again to reuse what is there, or to go on after an
interruption.

  --languages "L ..."  languages besides English (default "nso msa tgl cat"). Also: run ssw ind nob isl fao slv ltz
                       lim fur glg, or any locale name of Debian's translation catalogs, such as de or xh
  --minutes M          training time in all (default 7); a longer time than before continues the earlier run
  --ranks N            processes (default 2); with an even number, each two ranks share the experts (ep_size 2)
  --limit N            test sentences to translate per direction, at most (default 100)
  --source S           auto (default), debian or cldr: where the text comes from, see below
  --spec FILE          your own text, in any languages: a specification for `python -m data_prep`
  --set KEY=VALUE      change one key of ds_configs/quickstart.json; repeatable
  --dir DIR            folder for data/ and runs/ (default: the repository)
  --fresh              first throw away the text, corpus and run of this setup; downloaded packages stay
  --help               show this text

Environment: VENV (virtual environment, default .venv in the repository), PYTHON (interpreter to make it with).

Where the text comes from: on Debian and Ubuntu, apt-get downloads packages (76 MB; nothing is installed, and you need
not be root). The translations of their messages are the bitext. It keeps only plain sentences of at most 12 words,
without placeholders and file names: a few minutes can teach them, and copying the source does not solve them.
Elsewhere it composes dates and lists from CLDR (Python package babel). That shows that training works, but they are not
natural sentences.
TEXT
}

languages="nso msa tgl cat" minutes=7 ranks=2 limit=100 source=auto spec="" dir="" fresh=no overrides=()

# shellcheck source=launch/setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

parse_arguments() {
  while (($#)); do
    case "$1" in
      --help | -h) usage && exit 0 ;;
      --fresh) fresh=yes && shift && continue ;;
      --languages | --minutes | --ranks | --limit | --source | --spec | --set | --dir) ;;
      *) die "unknown option $1" "bash launch/quickstart.sh --help lists the options" ;;
    esac
    (($# > 1)) || die "$1 needs a value" "bash launch/quickstart.sh --help lists the options"
    case "$1" in
      --languages) languages="${2//,/ }" ;;
      --minutes) minutes="$2" ;;
      --ranks) ranks="$2" ;;
      --limit) limit="$2" ;;
      --source) source="$2" ;;
      --spec) spec="$2" ;;
      --set) overrides+=(--set "$2") ;;
      --dir) dir="$2" ;;
    esac
    shift 2
  done
}

check_arguments() {
  [[ "$minutes" =~ ^[0-9]+(\.[0-9]+)?$ && ! "$minutes" =~ ^0+(\.0+)?$ ]] || die "--minutes $minutes: expected a number above 0"
  [[ "$ranks" =~ ^[1-9][0-9]*$ ]] || die "--ranks $ranks: expected 1 or more"
  [[ "$limit" =~ ^[1-9][0-9]*$ ]] || die "--limit $limit: expected 1 or more"
  [[ "$source" =~ ^(auto|debian|cldr)$ ]] || die "--source $source: expected auto, debian or cldr"
  [[ -z "$spec" || -f "$spec" ]] || die "--spec $spec: no such file"
  [[ -n "${languages// /}" ]] || die "--languages: expected at least one"
  read -ra language_list <<<"$languages"
}

# The folders of this choice of text, under $dir.
name_folders() {
  local name
  name="$(IFS=- && printf '%s' "${language_list[*]}")"
  if ((${#name} > 60)); then
    name="${#language_list[@]}-languages-$(printf '%s' "$name" | sha256sum | cut -c 1-8)"
  fi
  if [[ "$source" == cldr ]]; then name="cldr-$name"; fi
  if [[ "$source" == own ]]; then
    name="$(basename -- "${spec%.*}")-$(realpath -- "$spec" | sha256sum | cut -c 1-6)"
    corpus="$(spec_output "$spec")"
  else
    text="$dir/data/quickstart-source/$name"
    corpus="$dir/data/quickstart-$name"
  fi
  run="$dir/runs/quickstart-$name"
  logs="$run/log"
}

# spec_output SPEC: the folder that a specification has its corpus written to.
spec_output() {
  "$VENV/bin/python" - "$1" <<'PYTHON'
import sys
from pathlib import Path

from data_prep.spec.load_spec import load_spec
from smoe_ds.errors import SmoeError

spec = Path(sys.argv[1]).resolve()
try:
    print(spec.parent / load_spec(spec).output)
except SmoeError as error:
    sys.exit(f"error: {error}")
PYTHON
}

choose_source() {
  asked_source="$source"
  if [[ -n "$spec" ]]; then
    source=own
  elif [[ "$source" == auto ]]; then
    source=debian
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
      say "No apt-get here: this is not Debian or Ubuntu."
      source=cldr
    fi
  fi
  name_folders
}

fetch_text() {
  if [[ "$source" == own ]]; then
    say "Text: yours, as $spec describes it"
    return
  fi
  if [[ "$source" == debian ]]; then
    fetch_debian
  fi
  if [[ "$source" == cldr ]]; then
    say "NOTE: the text is composed from CLDR (dates, amounts, lists). It is smoke-test data, not natural sentences:"
    say "      the scores below show that training works; they say nothing about translation."
    fetch_cldr
  fi
  spec="$text/spec.yaml"
}

fetch_debian() {
  local name="Fetching translation catalogs with apt-get (76 MB; nothing is installed)" log="$logs/fetch.log" status=0
  if [[ -f "$text/spec.yaml" ]]; then
    say "Text is there: $text"
    return
  fi
  begin "$name" "$log"
  attempt "$log" "$VENV/bin/python" -m data_prep.quickstart.debian --languages "${language_list[@]}" --max-plain-words 12 \
    --source-dir "$dir/data/quickstart-source/packages" --out "$text" --output "../../$(basename -- "$corpus")" || status=$?
  if ((status == 3)) && [[ "$asked_source" == auto ]]; then
    say "The packages cannot be downloaded ($(tail -n 1 -- "$log" | cut -c 1-200))"
    source=cldr
    name_folders
  elif ((status)); then
    fail "$name" "$log" "$status"
  else
    grep ' sentence pairs$' "$log"
  fi
}

fetch_cldr() {
  if [[ -f "$text/spec.yaml" ]]; then
    say "Text is there: $text"
  else
    step "Installing babel, which carries CLDR" "$logs/babel.log" "$VENV/bin/python" -m pip install "babel==2.18.0"
    step "Composing text" "$logs/fetch.log" \
      "$VENV/bin/python" -m data_prep.quickstart.cldr --languages "${language_list[@]}" --out "$text" \
      --output "../../$(basename -- "$corpus")"
    grep ' composed pairs$' "$logs/fetch.log"
  fi
}

# data_prep verifies a corpus that is there, and does nothing else.
prepare_corpus() {
  local name="Preparing the corpus: cleaning, held-out split, SentencePiece, shards"
  if [[ -f "$corpus/manifest.json" ]]; then name="Verifying the corpus $corpus"; fi
  local again=()
  if [[ "$fresh" == yes && "$source" == own ]]; then again=(--overwrite); fi
  step "$name" "$logs/prepare.log" "$VENV/bin/python" -m data_prep "$spec" ${again[@]+"${again[@]}"}
}

# settings: changes when a model trained before answers another question: text, configuration, ranks.
settings() {
  {
    cat -- "$corpus/manifest.json" "$REPO/ds_configs/quickstart.json" "$REPO/ds_configs/engine/cpu_fp32.json"
    printf '%s\n' "$ranks" ${overrides[@]+"${overrides[@]}"}
  } | sha256sum | cut -d ' ' -f 1
}

# check_settings: an earlier run in this folder must have had the same ones, else its model would be shown for this one.
check_settings() {
  if [[ -f "$run/settings" && "$(<"$run/settings")" != "$(settings)" ]]; then
    die "$run was trained on other text or with other settings (ranks, --set, ds_configs/quickstart.json)" \
      "add --fresh to start over, or choose another --dir"
  fi
  settings >"$run/settings"
}

# is_trained: whether an earlier run has trained to its end for at least $minutes.
is_trained() {
  [[ -f "$run/trained_minutes" ]] &&
    awk -v want="$minutes" -v have="$(<"$run/trained_minutes")" 'BEGIN { exit !(have >= want) }'
}

# max_minutes is the time of the run over all its parts: an interrupted one goes on with what is left of it.
train_model() {
  local status=0 ep_size=1 arguments command
  check_settings
  if is_trained; then
    say "Model is trained: $run"
    return
  fi
  if ((ranks % 2 == 0)); then ep_size=2; fi
  arguments=(train "$REPO/ds_configs/quickstart.json" --resume auto
    --set "smoe.data.path=$corpus" --set "smoe.train.output_dir=$run" --set "smoe.train.max_minutes=$minutes"
    --set smoe.train.max_steps=1000000 --set "smoe.moe.ep_size=$ep_size"
    --set "train_batch_size=$((ranks > 2 ? ranks : 2))" ${overrides[@]+"${overrides[@]}"})
  if ((ranks == 1)); then
    command=("$VENV/bin/python" -m smoe_ds "${arguments[@]}")
  else
    # By its module: the script `deepspeed` does not start from a path with spaces.
    command=("$VENV/bin/python" -m deepspeed.launcher.runner -q --num_accelerators "$ranks" --master_addr 127.0.0.1
      --master_port "$(free_port)" --module smoe_ds "${arguments[@]}")
  fi
  say "Training for $minutes min in total on $ranks rank(s) (ep_size $ep_size); log: $logs/train.log"
  show "$logs/train.log" "${command[@]}" || status=$?
  if ((status)); then
    die "training ended with exit status $status" "log: $logs/train.log" \
      "run the same command again to go on from the last checkpoint, if there is one"
  fi
  printf '%s\n' "$minutes" >"$run/trained_minutes"
}

# The table goes to the terminal and to a file that names the limit and the checkpoint it belongs to.
evaluate_model() {
  local table status=0
  table="$run/scores-$limit-$(<"$run/checkpoints/latest").txt"
  if [[ -f "$table" && -f "$run/scores.json" ]]; then
    say "Scores are there: $run/scores.json"
    cat -- "$table"
    return
  fi
  say "Translating up to $limit held-out sentences per direction with beam search"
  OMP_NUM_THREADS="$(env -u OMP_NUM_THREADS nproc)" "$VENV/bin/python" -m smoe_ds evaluate "$run" --split test --limit "$limit" --untrained |
    tee -i -- "$table.tmp" || status=$?
  if ((status)); then
    die "evaluation ended with exit status $status; the reason is above"
  fi
  mv -- "$table.tmp" "$table"
}

# Made anew each time: it takes seconds.
write_report() {
  step "Writing the report" "$logs/report.log" \
    "$VENV/bin/python" -m smoe_ds report "$run" --recipe "$REPO/ds_configs/quickstart.json"
}

print_places() {
  cat <<TEXT

Report            $run/report.html
                  (open it in a browser: curves, scores, and what the experts do, token by token)
TensorBoard log   $run/tensorboard
                  ($VENV/bin/tensorboard --logdir "$run/tensorboard")
Checkpoint        $run/checkpoints
Configuration     $run/config.json
Scores            $run/scores.json
Corpus            $corpus
Logs              $logs
TEXT
  if [[ "$source" == cldr ]]; then
    echo "The text was composed from CLDR: smoke-test data, not natural sentences."
  fi
  say "Done"
}

start_over() {
  if [[ "$fresh" != yes ]]; then return; fi
  say "Starting over: removing $run"
  rm -rf -- "$run"
  if [[ "$source" != own ]]; then
    rm -rf -- "$text" "$corpus"
  fi
}

main() {
  parse_arguments "$@"
  check_arguments
  dir="${dir:-$REPO}"
  mkdir -p -- "$dir"
  dir="$(cd -- "$dir" && pwd)"
  trap 'say "Interrupted; run the same command again to go on from here"; exit 130' INT
  say "SMoE quickstart: set up, fetch, prepare, train $minutes min, evaluate, report"
  install_project runtime
  choose_source
  start_over
  fetch_text
  prepare_corpus
  set_environment "$ranks"
  train_model
  evaluate_model
  write_report
  print_places
}

main "$@"
