"""One unit of EmoDB, of the default and on frames of whisper-tiny.en: CPU seconds by phase and by kind of operation.

    python tests/benchmarks/unit.py [--against COMMIT] [--units log_mel encoder] [--epochs 6] [--repeats 3] [--plain]

Three sides, each in a process of its own with one thread: this checkout; another commit (`--against`, in a clean copy);
and, with `--plain`, this checkout out of plain parts (`Supernet(fused=False)`, batch norms and convolutions out of
PyTorch's own functions, freed memory given back). They take turns, epoch by epoch. All search; what the first side
derives, all train. An epoch's figure is the median over the epochs of its phase, the first one left out; `dev` is the
part of both phases that goes to the evaluation on dev. The last epoch of each phase is not counted: it runs under
PyTorch's profiler, by which the kinds of operations are divided.

The search steps of the small preset follow, fast against plain (those of `search_step.py`, `--repeats` turns), on
log-mel and on encoder frames: in two processes in turn, since a search keeps its freed memory and plain PyTorch does
not. Last line: one JSON object. `training_ratio` is COMMIT's CPU seconds of a training epoch, dev and all, by this
checkout's, on log-mel frames, `encoder_training_ratio` on an encoder's; the ratios of the steps are plain / fast.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
UNITS = ("log_mel", "encoder")
KINDS = {  # part of an operation's name in PyTorch -> its kind; the first that fits
    "rnn_layer": "recurrent layers",
    "_Recurrence": "recurrent layers",
    "conv": "convolutions",
    "_Depthwise": "convolutions",
    "_Normalise": "batch norms, mixtures",
    "_BatchMixture": "batch norms, mixtures",
    "mm": "matrix products",
    "bmm": "matrix products",
    "pool": "pooling",
    "copy_": "copies",
    "cat": "copies",
    "fill_": "copies",
    "fused_adam": "optimiser",
    "fused_sgd": "optimiser",
    "norm": "optimiser",
    "Optimizer": "optimiser",
}


def measure(options):
    """Run a unit in this process, of the checkout that is first on the path; lines of JSON, one for each epoch."""
    import torch

    from emodarts import corpora
    from emodarts.corpora.labels import label_utterances
    from emodarts.corpora.protocols.folds import make_folds
    from emodarts.corpora.settings import CorpusSettings
    from emodarts.experiment import stages
    from emodarts.experiment.fold_data import FoldData, FoldSettings
    from emodarts.features.settings import FeatureSettings
    from emodarts.features.store.building import build_store
    from emodarts.networks.genotype import Genotype
    from emodarts.search.settings import SearchSettings
    from emodarts.training.settings import TrainingSettings

    torch.set_num_threads(1)
    if options.plain:
        make_plain()
    features = FeatureSettings()
    if options.measure == "encoder":
        features = FeatureSettings(kind="encoder", model=str(options.model), speeds=[1.0])
    corpus_settings = CorpusSettings(
        name="emodb", root=str(options.corpora / "emodb"), protocol="emodb/speaker10", source="intended"
    )
    corpus = corpora.read(corpus_settings)
    store = build_store(corpus.utterances, corpus.root, features, corpora.cache_folder() / "features", processes=1)
    settings = FoldSettings(
        features,
        SearchSettings(epochs=options.epochs + 1),
        TrainingSettings(epochs=options.epochs + 1),
    )
    labels = label_utterances(corpus.utterances, corpus_settings)
    data = FoldData.of(store, make_folds(corpus_settings, corpus.utterances, labels)[0], settings)
    clock = Clock(options.epochs)
    search_result = stages.search(data, 0, clock.on_epoch_end)
    say({"genotype": search_result.genotype.to_json()})
    genotype = Genotype.from_json(json.loads(sys.stdin.readline())["genotype"])
    architecture = stages.derive(data, replace(search_result, genotype=genotype))
    clock.start = time.process_time()
    stages.train(data, architecture, 0, clock.on_epoch_end)


def make_plain():
    """Let searches and trainings of this process be made of plain parts."""
    from emodarts.experiment import stages
    from emodarts.search import loop
    from emodarts.training import acceleration
    from tests.support.plain import with_plain_parts

    supernet, build = loop.Supernet, stages.Architecture.build
    loop.Supernet = lambda *values, **names: with_plain_parts(supernet(*values, **names, fused=False))
    stages.Architecture.build = lambda architecture: with_plain_parts(build(architecture))
    acceleration.keep_freed_memory = lambda: False


class Clock:
    """The CPU seconds of each epoch and of its evaluations; it waits for its turn after each."""

    def __init__(self, epochs):
        import torch

        from emodarts.search import loop
        from emodarts.training import prediction

        self.epochs, self.dev, self.profiler = epochs, 0.0, None
        self.new_profiler = lambda: torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
        plain_predict = prediction.predict

        def timed_predict(*values, **names):
            start = time.process_time()
            try:
                return plain_predict(*values, **names)
            finally:
                self.dev += time.process_time() - start

        prediction.predict = loop.predict = timed_predict
        self.start = time.process_time()

    def on_epoch_end(self, record):
        seconds = time.process_time() - self.start
        line = {"phase": record.phase, "epoch": record.epoch, "seconds": seconds, "dev": self.dev}
        if self.profiler is not None:
            self.profiler.__exit__(None, None, None)
            line["kinds"] = kinds_of(self.profiler.key_averages())
            self.profiler = None
        say(line)
        sys.stdin.readline()
        if record.epoch + 1 == self.epochs:
            self.profiler = self.new_profiler()
            self.profiler.__enter__()
        self.dev, self.start = 0.0, time.process_time()


def kinds_of(averages):
    """Seconds of each kind of operation, the rest as `small calls`."""
    seconds = {}
    for average in averages:
        kind = next((kind for part, kind in KINDS.items() if part in average.key), None)
        if kind is None:
            kind = "value by value" if average.key.startswith("aten::") else "small calls"
        seconds[kind] = seconds.get(kind, 0.0) + average.self_cpu_time_total * 1e-6
    return seconds


def say(line):
    print(json.dumps(line), file=sys.__stdout__, flush=True)


class Side:
    """A process that runs a unit of one checkout, epoch by epoch."""

    def __init__(self, root, unit, options, plain=False, mode="--measure"):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [sys.executable, str(Path(__file__).resolve()), mode, unit, "--root", str(root)]
        command += ["--epochs", str(options.epochs), "--corpora", str(options.corpora), "--model", str(options.model)]
        command += ["--plain"] if plain else []
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.lines = []

    def read(self):
        """The next line; None where the process has come to its end. Raises SystemExit where it failed."""
        text = self.process.stdout.readline()
        if not text:
            if self.process.wait() != 0:
                sys.exit(f"{' '.join(self.process.args)} failed")
            return None
        self.lines.append(json.loads(text))
        return self.lines[-1]

    def answer(self, content):
        self.process.stdin.write(json.dumps(content) + "\n")
        self.process.stdin.flush()

    def seconds(self, phase, name="seconds"):
        """The median over the epochs of a phase that count."""
        epochs = [line[name] for line in self.lines if line.get("phase") == phase and "kinds" not in line]
        return statistics.median(epochs[1:])

    def kinds(self, phase):
        return next(line["kinds"] for line in self.lines if line.get("phase") == phase and "kinds" in line)


def run_in_turns(sides):
    """Run all sides to their ends, one line of each after the other; all train what the first has derived."""
    running, genotype = list(sides), None
    while running:
        for side in list(running):
            line = side.read()
            if line is None:
                running.remove(side)
                continue
            genotype = genotype or line.get("genotype")
            side.answer({"genotype": genotype})


def report_unit(unit, sides):
    """Print the table of a unit; its ratios to the first side."""
    ratios, names, first = {}, list(sides), next(iter(sides.values()))
    print(f"\n{unit}, CPU seconds of an epoch" + "".join(f"{name:>16}" for name in names))
    for phase in ("search", "train"):
        for name in ("seconds", "dev"):
            seconds = [side.seconds(phase, name) for side in sides.values()]
            label = phase if name == "seconds" else "  of it dev"
            print(f"{label:{len(unit) + 27}}" + "".join(f"{value:16.3f}" for value in seconds))
        for side_name, side in list(sides.items())[1:]:
            ratios[f"{unit}_{phase}_{side_name}"] = side.seconds(phase) / first.seconds(phase)
    kinds = {phase: [side.kinds(phase) for side in sides.values()] for phase in ("search", "train")}
    for phase, by_side in kinds.items():
        print(f"{phase}, by kind (under the profiler)")
        for kind in sorted({kind for found in by_side for kind in found}, key=lambda k: -by_side[0].get(k, 0)):
            print(f"  {kind:{len(unit) + 25}}" + "".join(f"{found.get(kind, 0.0):16.3f}" for found in by_side))
    return ratios


def measure_step(options):
    """The small preset's search steps in this process, first and second order in turn; a line of JSON for each."""
    import torch

    sys.path.append(str(Path(__file__).parent))
    import search_step

    from emodarts.training.acceleration import keep_freed_memory

    torch.set_num_threads(1)
    shape, _, frames = search_step.shapes("small", 64)
    if options.step == "encoder":
        shape = replace(shape, bins=384, over_time=True)
    torch.manual_seed(0)
    network = search_step.Supernet(
        shape, search_step.SPACES["emodarts"].cnn_operations, search_step.SMALL_SEQUENCE_OPERATIONS
    )
    if options.plain:
        network = search_step.plain_twin(network)
    else:
        keep_freed_memory()
    losses = search_step.Losses(shape.bins, frames, 16)
    for _ in range(options.epochs + 1):
        for order, unrolled in (("first", False), ("second", True)):
            start = time.process_time()
            (search_step.plain_step if options.plain else search_step.fast_step)(network, losses, unrolled)
            say({"phase": order, "seconds": time.process_time() - start})
            sys.stdin.readline()


def measure_steps(options):
    """Ratios of the small preset's search steps, plain / fast, on log-mel frames and on those of an encoder."""
    results = {}
    for unit, name in (("log_mel", "small"), ("encoder", "small_encoder")):
        of_steps = argparse.Namespace(**{**vars(options), "epochs": options.repeats})
        plain, fast = (Side(ROOT, unit, of_steps, plain=plain, mode="--step") for plain in (True, False))
        run_in_turns([plain, fast])
        for order in ("first", "second"):
            results[f"{name}_{order}_order_ratio"] = plain.seconds(order) / fast.seconds(order)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="COMMIT", help="another commit, whose units are run beside these")
    parser.add_argument("--plain", action="store_true", help="and the units out of plain parts")
    parser.add_argument("--units", nargs="*", choices=UNITS, default=UNITS)
    parser.add_argument("--epochs", type=int, default=6, help="epochs of each phase that are measured, at least 2")
    parser.add_argument("--repeats", type=int, default=3, help="of the search steps; 0: none")
    parser.add_argument("--corpora", type=Path, default=SHARED / "corpora", help="a folder with emodb/")
    parser.add_argument("--model", type=Path, default=SHARED / "encoders" / "whisper-tiny.en")
    parser.add_argument("--measure", choices=UNITS, help=argparse.SUPPRESS)
    parser.add_argument("--step", choices=UNITS, help=argparse.SUPPRESS)
    parser.add_argument("--root", default=str(ROOT), help=argparse.SUPPRESS)
    options = parser.parse_args()
    # The folder of this file has modules whose names are those of packages.
    sys.path[0] = options.root
    if options.measure or options.step:
        (measure if options.measure else measure_step)(options)
        return
    from tests.benchmarks.compare_commits import WORKING_TREE, check_out

    results = {"epochs": options.epochs, "against": options.against}
    with tempfile.TemporaryDirectory(prefix="unit-") as folder:
        other = options.against and check_out(options.against, Path(folder) / "other")
        for unit in options.units:
            sides = {"here": Side(check_out(WORKING_TREE, Path(folder)), unit, options)}
            if other:
                sides["against"] = Side(other, unit, options)
            if options.plain:
                sides["plain"] = Side(ROOT, unit, options, plain=True)
            run_in_turns(list(sides.values()))
            results |= report_unit(unit, sides)
    if options.repeats:
        results |= measure_steps(options)
    for name, unit in (("training_ratio", "log_mel"), ("encoder_training_ratio", "encoder")):
        results[name] = results.get(f"{unit}_train_against")
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in results.items()}))


if __name__ == "__main__":
    main()
