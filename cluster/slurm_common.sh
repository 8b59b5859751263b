# shellcheck shell=bash
# What slurm.sbatch and slurm_elastic.sh share: where the packages come from, ports, the token, and a Ray node's start.
# CHANGE the next lines; a variable of your own environment has precedence.

export EMODARTS_CORPORA=${EMODARTS_CORPORA:-/shared/corpora} EMODARTS_RESULTS=${EMODARTS_RESULTS:-/shared/results}
# Packages in a virtual environment that all nodes see ...
ENVIRONMENT=${ENVIRONMENT:-$HOME/emodarts-env}
# module load python/3.11
container=()
# ... or in the image of the Dockerfile (`apptainer build emodarts.sif docker://REGISTRY/emodarts:0.2.0`):
# module load apptainer
# container=(apptainer exec --nv --bind "$EMODARTS_CORPORA,$EMODARTS_RESULTS" "$HOME/emodarts.sif")
# A disk of the node's own for features, where there is one:
# export EMODARTS_CACHE=$SLURM_TMPDIR/emodarts-cache
# The address by which other nodes reach this one, where it is not that of the way out (such as InfiniBand's):
# HEAD_ADDRESS=$(ip -4 -o addr show ib0 | awk '{sub("/.*", "", $4); print $4}')

export EMODARTS_RESOURCES=gpu RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=${RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S:-60} # to end a batch and save in
export PATH=$ENVIRONMENT/bin:$PATH
cpus=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}

fail() {
  echo "emodarts: $*" >&2
  exit 1
}

python_here() { "${container[@]}" python "$@"; }

write_token() { # file
  mkdir -p -m 700 "$(dirname "$1")"
  (umask 077 && python_here -c 'import secrets; print(secrets.token_hex(32), end="")' > "$1")
}

sum_of_gpus() { # `4`, `a100:4`, `gpu:a100:2,gpu:v100:2`, `a100`
  local total=0 part
  for part in ${1//,/ }; do
    part=${part%%(*}
    part=${part##*:}
    case $part in *[!0-9]* | '') part=1 ;; esac
    total=$((total + part))
  done
  echo "$total"
}

# GPUs of this job on this node, whichever option asked for them. nvidia-smi comes last: it may show those of others.
count_gpus() {
  case ${CUDA_VISIBLE_DEVICES:-} in
    '') ;;
    NoDevFiles | -1) echo 0; return ;;
    *) awk -F, '{print NF}' <<< "$CUDA_VISIBLE_DEVICES"; return ;;
  esac
  local devices=${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-}} number=${SLURM_GPUS_ON_NODE:-${SLURM_GPUS_PER_NODE:-}}
  if [ -n "$devices" ]; then
    awk -F, '{print NF}' <<< "$devices"
  elif [ -n "$number" ]; then
    sum_of_gpus "$number"
  elif listed=$(nvidia-smi -L 2> /dev/null); then
    grep -c '^GPU' <<< "$listed"
  else
    fail "$(hostname) has no GPU for this job: ask for some (--gpus-per-node=4, --gres=gpu:a100:4, --gpus=8)"
  fi
}

# The first of 100 ports that nothing listens on here: jobs on one node begin to look at different ones. They lie below
# those that Linux hands out (32768 and up) and beside Ray's defaults (6379, 8265, 10001), which another head may have.
first_port() {
  python_here - "$SLURM_JOB_ID" <<'PYTHON'
import contextlib, socket, sys


def is_free(port):
    with contextlib.suppress(OSError):
        socket.create_server(("", port)).close()
        return True
    return False


for attempt in range(200):
    first = 11000 + (int(sys.argv[1]) + attempt) % 200 * 100
    if all(map(is_free, range(first, first + 100))):
        print(first)
        break
else:
    sys.exit("no 100 ports in a row are free on this node: see `ss -tln`")
PYTHON
}

own_address() {
  if [ -n "${HEAD_ADDRESS:-}" ]; then
    echo "$HEAD_ADDRESS"
  else # that of the way out; nothing is sent
    python_here -c '
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
    way.connect(("192.0.2.1", 9))
    print(way.getsockname()[0])' || fail "this node has no way out: set HEAD_ADDRESS to its address"
  fi
}

# In place of this process: a Ray node with what the job has here. Ray's object store holds little of a sweep, and would
# be sized after the whole machine's memory, of which the job may have a part.
start_ray() { # first port, number of processors, number of GPUs, further options
  local first=$1 processors=$2 gpus=$3
  shift 3
  exec "${container[@]}" ray start --block --num-cpus="$processors" --num-gpus="$gpus" \
    --object-store-memory=$((1 << 30)) --temp-dir="${SLURM_TMPDIR:-/tmp}/emodarts-$SLURM_JOB_ID" \
    --node-manager-port=$((first + 1)) --object-manager-port=$((first + 2)) --metrics-export-port=$((first + 3)) \
    --dashboard-agent-listen-port=$((first + 4)) --dashboard-agent-grpc-port=$((first + 5)) \
    --runtime-env-agent-port=$((first + 6)) --min-worker-port=$((first + 10)) --max-worker-port=$((first + 99)) "$@"
}

start_head() { # first port, address, number of GPUs: no units on a head without GPUs
  local processors=$cpus
  if [ "$3" = 0 ]; then processors=0; fi
  start_ray "$1" "$processors" "$3" --head --node-ip-address="$2" --port="$1" --ray-client-server-port=$(($1 + 7)) \
    --dashboard-host=127.0.0.1 --dashboard-port=$(($1 + 8))
}

wait_for_head() { # address, port, process id of what starts it
  local attempt
  for attempt in $(seq 240); do
    if (exec 3<> "/dev/tcp/$1/$2") 2> /dev/null; then return; fi
    kill -0 "$3" 2> /dev/null || fail "the head did not start: see the output above"
    sleep 0.5
  done
  fail "the head did not start within two minutes: see the output above"
}

# The sweep as a child; exit code in `code`. On SIGTERM (the time is nearly over, or the job is preempted) it is stopped
# within its epochs and `requeue` is 1, unless it had ended just then.
run_sweep() { # address and port, options of sweeps/run.py
  local ray_address=$1 sweep
  shift
  code=0 requeue=0
  "${container[@]}" python sweeps/run.py ray.address="$ray_address" sweep.wait=true "$@" &
  sweep=$! # of Python itself, as no function runs it: a shell between would take the signal
  trap 'requeue=1; kill -TERM "$sweep" 2> /dev/null || true' TERM
  wait "$sweep" || code=$?
  while kill -0 "$sweep" 2> /dev/null; do # the signal ended the wait: the sweep is still closing its tables
    code=0
    wait "$sweep" || code=$?
  done
  trap : TERM
  if [ "$code" = 0 ]; then requeue=0; fi
}
