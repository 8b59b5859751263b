"""Every speed ratio of the project beside the recorded one: what was won is not to be lost again.

    python tests/benchmarks/all.py [--quick] [--only NAME ...] [--record]

Runs the benchmarks one after the other, each in a process of its own, and reads its last line. Ratios alone are
compared: they hold on any machine. `--quick` takes short forms, under ten minutes on two quiet cores; they are what
`recorded_ratios.json` is of (`--record` writes it anew), and the long forms are only printed beside it. A benchmark
whose recordings, weights or packages are not there is skipped, with the reason. Status 1 where a ratio has lost more
than 15 % or a benchmark fails. Last line: one JSON object, `lost` (the ratios that did) and all ratios.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared"
RECORDED = HERE / "recorded_ratios.json"
TOLERANCE = 0.15
PATIENCE = 300  # s that a quick form may take


class Benchmark(NamedTuple):
    """A script, its short form, and the ratios of its last line: the more the better, and the less the better."""

    script: str
    quick: tuple[str, ...]
    higher: tuple[str, ...] = ()
    lower: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()  # packages, and paths below shared/
    name: str = ""  # where a script stands twice


_SEQUENCE_CASES = ("small_ratio", "modern_ratio", "modern_4_nodes_ratio")
_STEPS = ("first_order_ratio", "second_order_ratio")
BENCHMARKS = (
    Benchmark(
        "search_step",
        ("--size", "32", "--batch", "4", "--repeats", "3"),
        (*_STEPS, *(f"cnn_{step}" for step in _STEPS), "seqnn_ratio"),
        ("activation_ratio",),
    ),
    Benchmark("search_step", ("--preset", "small", "--repeats", "3"), _STEPS, (), (), "search_step_small"),
    Benchmark("sequence_step", ("--repeats", "3", "--cases", *_SEQUENCE_CASES), _SEQUENCE_CASES),
    Benchmark(
        "features",
        ("--rounds", "2"),
        ("librosa_ratio",),
        ("decode_ratio",),
        ("librosa", "corpora/emodb", "corpora/ravdess"),
    ),
    Benchmark(
        "encoders",
        ("--files", "20", "--rounds", "2"),
        (),
        ("encoder_ratio",),
        ("transformers", "corpora/emodb", "encoders/whisper-tiny.en"),
    ),
    Benchmark("store", ("--utterances", "20000"), ("random_ratio",)),
    Benchmark("sweep_overhead", ("--trials", "1", "--workers", "1"), (), ("overhead_ratio",)),
    Benchmark(
        "waiting",
        ("--quick", "--rounds", "2", "--without-ray", "--only", "noop_start", "help", "report", "comparison"),
        (),
        ("noop_start_imports", "help_imports", "report_imports", "comparison_imports"),
    ),
)


def name_of(benchmark: Benchmark) -> str:
    """What it is called in the table and in the file."""
    return benchmark.name or benchmark.script


def what_is_missing(benchmark: Benchmark) -> list[str]:
    """Packages and folders that it needs and that are not there."""
    return [
        need
        for need in benchmark.needs
        if not ((SHARED / need).exists() if "/" in need else importlib.util.find_spec(need) is not None)
    ]


def run(benchmark: Benchmark, quick: bool) -> dict[str, float]:
    """The ratios of a benchmark. Raises RuntimeError where it fails, or its last line has not all of them."""
    command = [sys.executable, str(HERE / f"{benchmark.script}.py"), *(benchmark.quick if quick else ())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE if quick else None, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"not at its end after {PATIENCE} s") from error
    try:
        last = json.loads(done.stdout.strip().splitlines()[-1])
        return {name: float(last[name]) for name in (*benchmark.higher, *benchmark.lower)}
    except (IndexError, ValueError, KeyError) as error:
        raise RuntimeError(f"status {done.returncode}, no ratios: {done.stderr.strip()[-1500:]}") from error


def has_lost(benchmark: Benchmark, name: str, ratio: float, recorded: float | None) -> bool:
    """Whether a ratio is worse than the recorded one by more than the tolerance."""
    if recorded is None:
        return False
    if name in benchmark.higher:
        return ratio < (1 - TOLERANCE) * recorded
    return ratio > (1 + TOLERANCE) * recorded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, compare; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short forms, compared with the recorded ratios")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[name_of(b) for b in BENCHMARKS])
    parser.add_argument("--record", action="store_true", help="write the ratios as the recorded ones (with --quick)")
    options = parser.parse_args(arguments)
    if options.record and not options.quick:
        parser.error("--record is of the short forms: give --quick")
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    ratios: dict[str, dict[str, float]] = {}
    lost, failed, begin = [], [], time.perf_counter()
    print(f"{'':44}{'ratio':>10}{'recorded':>10}")
    for benchmark in BENCHMARKS:
        label = name_of(benchmark)
        if options.only and label not in options.only:
            continue
        if missing := what_is_missing(benchmark):
            print(f"{label}: skipped, without {', '.join(missing)}", flush=True)
            continue
        start = time.perf_counter()
        try:
            ratios[label] = run(benchmark, options.quick)
        except RuntimeError as error:
            failed.append(label)
            print(f"{label}: FAILED, {error}", flush=True)
            continue
        for name, ratio in ratios[label].items():
            before = recorded.get(label, {}).get(name)
            worse = options.quick and has_lost(benchmark, name, ratio, before)
            lost += [f"{label}.{name}"] if worse else []
            beside = "-" if before is None else f"{before:.3f}"
            print(f"{f'{label}.{name}':44}{ratio:10.3f}{beside:>10}{'  LOST' if worse else ''}", flush=True)
        print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)
    if options.record:
        RECORDED.write_text(json.dumps(recorded | ratios, indent=2) + "\n")
    print(f"{time.perf_counter() - begin:.0f} s; the lower the better: activations, decode, encoder, overhead, waiting")
    print(json.dumps({"lost": lost, "failed": failed, "ratios": ratios}))
    return int(bool(lost or failed) and not options.record)


if __name__ == "__main__":
    sys.exit(main())
