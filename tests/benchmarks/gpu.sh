#!/usr/bin/env bash
# Everything that is to be measured on the day a GPU is there, in eight minutes, as one table at the end.
#
#     bash tests/benchmarks/gpu.sh [--device cuda] [--short] [--python PYTHON]
#
# The tests marked `gpu`; search steps, fused against plain; extraction with an encoder (../shared/encoders); one to four
# units at once on one GPU, in float32 and bfloat16, without and with CUDA graphs, and their memory. Each step has a
# timeout of its own: one that fails says so, with its last words, and the others go on. `--device cpu` shows that all of
# it runs, and prints no figure: none of a CPU stands for one of a GPU.
set -u
device=cuda short=() python=python
while (($#)); do
    case $1 in
        --device) device=$2 && shift 2 ;;
        --python) python=$2 && shift 2 ;;
        --short) short=(--short) && shift ;;
        *) echo "unknown option $1: --device, --short, --python" >&2 && exit 2 ;;
    esac
done
cd "$(dirname "$0")/../.." || exit 2
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
patience=1 failures=0
[[ $device == cpu ]] && patience=5 # a dry run may take its time
limit=$((480 * patience))
table=$(mktemp) output=$(mktemp) words=$(mktemp)
trap 'rm -f "$table" "$output" "$words"' EXIT

row() { printf '%-12s %-48s %s\n' "$1" "$2" "$3" | tee -a "$table"; }

# step GROUP SECONDS COMMAND...: its lines `name<TAB>figure` become rows of the table.
step() {
    local group=$1 seconds=$(($2 * patience)) left=$((limit - SECONDS)) begin=$SECONDS status=0
    shift 2
    if ((left < 5)); then
        row "$group" "${*: -4}" "not reached: $limit s are over"
        failures=$((failures + 1))
        return
    fi
    timeout --kill-after=5 "$((seconds < left ? seconds : left))" "$@" >"$output" 2>"$words" || status=$?
    while IFS=$'\t' read -r name figure; do
        [[ -n ${figure-} ]] && row "$group" "$name" "$figure ($((SECONDS - begin)) s)"
    done <"$output"
    if ((status)); then
        failures=$((failures + 1))
        row "$group" "${*: -4}" "FAILED: status $status$( ((status == 124 || status == 137)) && echo ", $seconds s were over")"
        tail -n 5 "$words" "$output"
    fi
}

tests() { # the summary line of pytest as a row; that all are skipped is right on a CPU alone
    local status=0
    "$python" -m pytest -m gpu -p no:cacheprovider -o addopts=--import-mode=importlib >"$words.tests" 2>&1 || status=$?
    printf 'pytest -m gpu\t%s\n' "$(tail -n 1 "$words.tests" | tr -d =)"
    ((status == 0)) || tail -n 20 "$words.tests" >&2
    rm -f "$words.tests"
    return $status
}
export -f tests
export python words

measured=("$python" tests/benchmarks/gpu_steps.py)
step tests 150 bash -c tests
step steps 60 "${measured[@]}" steps --device "$device" "${short[@]}"
step extraction 60 "${measured[@]}" extraction --device "$device" "${short[@]}"
for count in 1 2 4; do
    for precision in float32 bfloat16; do
        step units 40 "${measured[@]}" units --device "$device" "${short[@]}" --count $count --precision $precision
    done
done
for count in 1 4; do # CUDA graphs are those of `reduce-overhead`; compiling takes most of this
    step units 75 "${measured[@]}" units --device "$device" "${short[@]}" --count $count --precision bfloat16 \
        --compile "$([[ $device == cpu ]] && echo default || echo reduce-overhead)"
done

echo
echo "device: $([[ $device == cpu ]] && echo "cpu, a dry run" || nvidia-smi --query-gpu=name,driver_version --format=csv,noheader)"
echo "commit: $(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)"
cat "$table"
echo "$SECONDS s; $failures steps failed"
exit $((failures > 0))
