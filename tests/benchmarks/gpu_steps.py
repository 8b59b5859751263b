"""What `gpu.sh` measures, each in a process of its own: steps, an encoder's extraction, units side by side.

    python tests/benchmarks/gpu_steps.py steps|extraction|units [--device cuda] [--short]
        [--count 1] [--precision float32] [--compile none]

Prints `name<TAB>figure` lines for gpu.sh's table. On a CPU it only shows that it runs: no figure is printed there.
steps: search steps of the small preset, fused against plain, by the clock, the device waited for.
extraction: EmoDB through a Whisper, in seconds of sound a second.
units: so many units at once on one device, a process each; seconds of their epochs (the first of a phase left out), and
the memory that each process has reserved.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
SHARED = ROOT.parent / "shared"


def synchronise(device):
    """Wait for what the device still has to do."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()


def steps(options):
    """Name -> figure: seconds of a search step, plain and fused."""
    import search_step
    import torch

    from emodarts.networks.spaces import SMALL_SEQUENCE_OPERATIONS, SPACES
    from emodarts.networks.supernet import Supernet
    from tests.support.plain import plain_twin

    torch.manual_seed(0)
    shape, _, frames = search_step.shapes("small", 64)
    fast = Supernet(shape, SPACES["emodarts"].cnn_operations, SMALL_SEQUENCE_OPERATIONS).to(options.device)
    plain = plain_twin(fast)
    losses = search_step.Losses(shape.bins, frames, 4 if options.short else 16)
    for name in ("x", "lengths", "labels"):
        setattr(losses, name, getattr(losses, name).to(options.device))
    figures = {}
    for order, unrolled in (("first-order", False), ("second-order", True)):
        seconds = ([], [])
        for _ in range(2 if options.short else 12):
            for times, step, network in zip(
                seconds, (search_step.plain_step, search_step.fast_step), (plain, fast), strict=True
            ):
                start = time.perf_counter()
                step(network, losses, unrolled)
                synchronise(options.device)
                times.append(time.perf_counter() - start)
        slow, quick = (1e3 * statistics.median(times[1:]) for times in seconds)
        figures[f"{order} step, plain / fused"] = f"{slow:.1f} ms / {quick:.1f} ms = {slow / quick:.2f}"
    return figures


def corpus(short):
    """EmoDB where it is there, and else (or for a short run) the demo corpus: settings, and what was read."""
    from emodarts import corpora
    from emodarts.corpora.settings import CorpusSettings

    root = SHARED / "corpora" / "emodb"
    settings = CorpusSettings("demo") if short or not root.is_dir() else CorpusSettings("emodb", root=str(root))
    return settings, corpora.read(settings)


def extraction(options):
    """Name -> figure: seconds of sound that an encoder takes in a second, decoding and writing included."""
    from emodarts.features.settings import FeatureSettings
    from emodarts.features.store.building import build_store

    model = SHARED / "encoders" / "whisper-tiny.en"
    if not model.is_dir():
        raise SystemExit(f"no encoder in {model}")
    _, read = corpus(options.short)
    utterances = read.utterances.slice(0, 16) if options.short else read.utterances
    settings = FeatureSettings(kind="encoder", model=str(model), speeds=[1.0])
    with tempfile.TemporaryDirectory() as folder:  # a first store loads the weights, and starts the device
        build_store(utterances.slice(0, 8), read.root, settings, Path(folder), options.device, 1)
        start = time.perf_counter()
        store = build_store(utterances, read.root, settings, Path(folder), options.device, 1)
        seconds = time.perf_counter() - start
    sound = sum(store.measures()["seconds"].to_pylist())
    return {f"{model.name}, {len(store.utterances)} utterances": f"{sound / seconds:.0f} s of sound a second"}


def unit(options):
    """One unit in this process; a line of JSON: epochs of both phases (s), memory (MB)."""
    import torch

    from emodarts.experiment.fold_settings import FoldSettings
    from emodarts.experiment.training_corpus import TrainingCorpus, extract_features
    from emodarts.experiment.unit import run_fold
    from emodarts.search.settings import SearchSettings
    from emodarts.training.settings import TrainingSettings

    speed = {"epochs": 2 if options.short else 4, "precision": options.precision, "compile": options.compile}
    small = {"cells": 2, "nodes": 1, "channels": 4, "stem_strides": [8, 2]} if options.short else {}
    settings = FoldSettings(search=SearchSettings(**speed, **small), training=TrainingSettings(**speed))
    own, read = corpus(options.short)
    trained = TrainingCorpus.of(own, read, *extract_features(read, settings.features, options.device))
    records = run_fold(trained.store, trained.folds[0], settings, 0, options.device, tests=False)
    memory = torch.cuda.max_memory_reserved() / 2**20 if options.device.startswith("cuda") else None
    print(json.dumps({"epochs": [asdict(record) for record in records.epochs], "memory": memory}, default=str))


def units(options):
    """Name -> figure: epochs and memory of `count` units that run at once."""
    corpus(options.short)  # the demo corpus is written once
    own = [sys.executable, __file__, "unit", "--device", options.device]
    own += ["--precision", options.precision, "--compile", options.compile, *(["--short"] if options.short else [])]
    running = [subprocess.Popen(own, stdout=subprocess.PIPE, text=True) for _ in range(options.count)]
    try:
        printed = [process.communicate()[0] for process in running]
    finally:
        for process in running:
            process.kill()
    if any(process.returncode for process in running):
        raise SystemExit(f"{sum(bool(p.returncode) for p in running)} of {options.count} units failed")
    results = [json.loads(text.splitlines()[-1]) for text in printed]
    phases = []
    for phase in ("search", "train"):
        seconds = [e["seconds"] for r in results for e in r["epochs"] if e["phase"] == phase and e["epoch"]]
        phases.append(f"{phase} {statistics.median(seconds):.2f} s an epoch")
    memory = max(result["memory"] or 0 for result in results)
    name = f"{options.count} at once, {options.precision}, compile={options.compile}"
    return {name: f"{', '.join(phases)}; {memory:.0f} MB a unit"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("steps", "extraction", "units", "unit"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", default="none")
    options = parser.parse_args()
    if options.what == "unit":
        unit(options)
        return
    for name, figure in {"steps": steps, "extraction": extraction, "units": units}[options.what](options).items():
        print(f"{name}\t{figure if options.device.startswith('cuda') else 'ran on a CPU: no figure'}")


if __name__ == "__main__":
    main()
