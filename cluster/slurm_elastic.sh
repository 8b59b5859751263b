#!/usr/bin/env bash
# A sweep that takes what Slurm has to give: a small head job without GPUs, and an array of one-GPU jobs that join when
# they start, leave when their time is over or others have precedence, and come again. From the repository's folder:
#
#     bash cluster/slurm_elastic.sh 16 corpus=msp_podcast sweep.trials=40       # at most 16 GPUs
#
# All after the number goes to sweeps/run.py. The head's end ends the array. `scancel` of the head job's and the array's
# number stops all; the same line goes on with the sweep. Needs a home folder that all nodes see.
# CHANGE the next lines, and the first ones of slurm_common.sh.
set -euo pipefail
head_options=(--partition=cpu --cpus-per-task=4 --mem=16G --time=7-00:00:00)
worker_options=(--partition=gpu --gres=gpu:1 --cpus-per-task=6 --mem=24G --time=8:00:00) # four units share a GPU

submit() { # number of workers, options of sweeps/run.py
  case ${1:-} in '' | *[!0-9]* | 0*) echo "usage: bash cluster/slurm_elastic.sh GPUS OPTIONS..." >&2; exit 2 ;; esac
  test -f cluster/slurm_common.sh || { echo "run this from the repository's folder" >&2; exit 2; }
  local workers=$1 folder head array common
  shift
  folder=$HOME/.emodarts/elastic-$(date +%Y%m%d-%H%M%S)-$$
  mkdir -p -m 700 "$folder"
  common=(--parsable --requeue --open-mode=append)
  head=$(sbatch "${common[@]}" --job-name=emodarts-head --signal=B:TERM@300 "${head_options[@]}" \
    cluster/slurm_elastic.sh head "$folder" "$workers" "$@")
  array=$(sbatch "${common[@]}" --job-name=emodarts-gpu --signal=B:TERM@120 "${worker_options[@]}" \
    --array="1-$workers" --dependency="after:${head%%;*}" cluster/slurm_elastic.sh worker "$folder") || {
    scancel "${head%%;*}"
    exit 1
  }
  echo "${array%%;*}" > "$folder/array"
  echo "head: job ${head%%;*}, output in slurm-${head%%;*}.out; $workers jobs with a GPU: array ${array%%;*}"
}

run_head() { # folder, number of workers, options of sweeps/run.py
  local folder=$1 workers=$2 first address ray
  shift 2
  export RAY_AUTH_TOKEN_PATH=$folder/token
  test -f "$RAY_AUTH_TOKEN_PATH" || write_token "$RAY_AUTH_TOKEN_PATH"
  first=$(first_port)
  address=$(own_address)
  (start_head "$first" "$address" 0) &
  ray=$!
  wait_for_head "$address" "$first" "$ray"
  echo "$address:$first" > "$folder/address.new"
  mv "$folder/address.new" "$folder/address" # at once: workers read it
  export RAY_ADDRESS=$address:$first EMODARTS_WORKERS=${EMODARTS_WORKERS:-$((4 * workers))}
  run_sweep "$RAY_ADDRESS" "$@"
  rm -f "$folder/address"
  kill "$ray" 2> /dev/null || true
  if [ "$requeue" = 1 ]; then # workers wait for the next head
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
  fi
  touch "$folder/ended"
  rm -f "$RAY_AUTH_TOKEN_PATH"
  scancel "$(cat "$folder/array")" 2> /dev/null || true
  exit "$code"
}

run_worker() { # folder
  local folder=$1 first gpus ray=
  export RAY_AUTH_TOKEN_PATH=$folder/token
  gpus=$(count_gpus)
  leaving=0
  trap 'leaving=1; test -z "$ray" || kill -TERM "$ray" 2> /dev/null || true' TERM
  while [ "$leaving" = 0 ] && [ ! -e "$folder/ended" ]; do
    if [ -e "$folder/address" ]; then
      first=$(first_port)
      (start_ray "$first" "$cpus" "$gpus" --address="$(cat "$folder/address")") &
      ray=$!
      while kill -0 "$ray" 2> /dev/null; do # a signal ends a wait; Ray lets units save where they are
        wait "$ray" || true
      done
      ray=
    fi
    sleep "${REJOIN_SECONDS:-10}" & # the head is not there, or gone: it may come again
    wait $! || true
  done
  # A job that leaves is queued again, to join when there is room; one that Slurm has preempted may be queued already.
  if [ ! -e "$folder/ended" ]; then
    scontrol requeue "$SLURM_JOB_ID" || true
  fi
}

case ${1:-} in
  head | worker)
    role=$1
    shift
    cd "$SLURM_SUBMIT_DIR"
    source cluster/slurm_common.sh
    "run_$role" "$@"
    ;;
  *) submit "$@" ;;
esac
