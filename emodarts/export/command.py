"""The command `emodarts export`: choose on dev, train again, make ONNX, prove it equal, write a folder."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emodarts.errors import EmodartsError

if TYPE_CHECKING:
    from rich.console import Console

    from emodarts.export.card import Card
    from emodarts.export.data import SweepCorpus
    from emodarts.export.graph import Member
    from emodarts.export.package import Export
    from emodarts.export.units import ExportedUnit
    from emodarts.export.weights import Likeness
    from emodarts.results.reader import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`<results> --out FOLDER [--ensemble | --fold K] [--refit] [--system NAME] [--root PATH]`."""
    parser.add_argument("results", help="a results folder with one sweep, or a sweep's folder below it")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="a new folder for the model")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ensemble", action="store_true", help="the mean of the winners of all folds (default)")
    which.add_argument("--fold", type=int, metavar="K", help="the winner of one fold")
    parser.add_argument(
        "--refit",
        action="store_true",
        help="one network, trained on all data: the winner of --fold, else the best on dev; it has no test figure",
    )
    parser.add_argument("--sweep", help="which sweep, where the folder holds several")
    parser.add_argument("--system", help="which system, where the sweep has several")
    parser.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="the corpus's folder (default: $EMODARTS_CORPORA/<corpus>); once for each where the sweep has several",
    )
    parser.add_argument("--protocol", metavar="FILE", help="the split, where the sweep had one of your own")
    parser.add_argument("--device", default="cpu", help="to train on: cpu (default; the same bits again) or cuda")
    parser.add_argument("--threads", type=int, default=1, help="to train with on a CPU (default: 1, as a sweep does)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Export as the options say. Raises EmodartsError."""
    import torch
    from rich.console import Console

    from emodarts.console import print_logs
    from emodarts.export import data, onnx, package
    from emodarts.export.units import chosen_units
    from emodarts.results.winners import rank_on_dev

    console = Console(soft_wrap=True, highlight=False, markup=False)
    out = Path(options.out)
    _check(options)
    package.check_target(out)
    results, sweep = _sweep(options)
    units = chosen_units(results, sweep, options.system, options.fold)
    if options.refit:
        columns = ([u.dev_uar for u in units], [u.parameters for u in units], [u.key.fold for u in units])
        units = [units[rank_on_dev(*columns)[0]]]
    features = units[0].settings.features
    onnx.require(features)
    torch.set_num_threads(options.threads)
    settings = data.corpora_settings(sweep, options.root, options.protocol)
    with print_logs(console):
        corpus = data.read(settings, features, options.device)
    members, likeness = _trained(units, corpus, options, console)
    kind = "refit" if options.refit else "fold" if len(units) == 1 else "ensemble"
    export = package.Export(kind, tuple(units), tuple(members), units[0].key.classes)
    model, parity = _model(export, corpus)
    package.write(out, export, model, _card(export, corpus, likeness, parity))
    console.print(f"torch and ONNX differ by at most {parity:.1e} of a probability")
    console.print(f"{out}: {_told(export)}; try `python {out / 'predict.py'} <recording>`, and read {package.CARD}")


def _check(options: argparse.Namespace) -> None:
    import torch

    if options.threads < 1:
        raise EmodartsError(f"--threads {options.threads}: give 1 or more")
    if options.device != "cpu" and not (options.device == "cuda" and torch.cuda.is_available()):
        raise EmodartsError(f"--device {options.device}: there is no such device here; give cpu")
    if options.refit and options.ensemble:
        raise EmodartsError("--refit makes one network of all data, --ensemble one a fold: give one of them")


def _sweep(options: argparse.Namespace) -> "tuple[Results, dict[str, Any]]":
    """The one sweep there is, or that was named, and its settings by dotted name."""
    from emodarts.results import reader
    from emodarts.results.sweep_file import settings_of

    results = reader.open(options.results, sweep=options.sweep)
    if len(results.sweeps) > 1:
        raise EmodartsError(
            f"{options.results} holds several sweeps: name one with --sweep: {', '.join(results.sweeps)}"
        )
    (sweep,) = results.parts
    return results, settings_of(sweep.storage, sweep.name)


def _trained(
    units: "list[ExportedUnit]", corpus: "SweepCorpus", options: argparse.Namespace, console: "Console"
) -> "tuple[list[Member], list[Likeness]]":
    """The network of each unit, and what is said of how like the stored one it is (nothing of a refit)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from emodarts.export.weights import refit, retrain

    members, likeness = [], []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        for unit in units:
            task = bar.add_task(f"training fold {unit.key.fold}", total=None)

            def tell(done: int, total: int, task: Any = task) -> None:
                bar.update(task, completed=done, total=total)

            where = f"fold {unit.key.fold}, trial {unit.key.trial} (dev UAR {unit.dev_uar:.3f})"
            if options.refit:
                member, count = refit(unit, corpus, options.device, tell)
                console.print(f"{where}: trained on all {count} utterances for {unit.epoch + 1} epochs")
            else:
                member, like = retrain(unit, corpus, options.device, tell)
                likeness.append(like)
                console.print(f"{where}: {like}")
            members.append(member)
    return members, likeness


def _model(export: "Export", corpus: "SweepCorpus") -> tuple[bytes, float]:
    """The ONNX model, and the largest difference between it and torch."""
    from emodarts.export import onnx

    classifier, store = export.classifier(), corpus.store
    model = onnx.to_onnx(classifier, store.bins, store.channels, export.classes)
    return model, onnx.check(model, classifier, store.bins, store.channels, export.features.sample_rate)


def _card(export: "Export", corpus: "SweepCorpus", likeness: "list[Likeness]", parity: float) -> "Card":
    from emodarts.export.card import Card, TrainingPart
    from emodarts.export.weights import labelled

    folds = [corpus.fold(unit.key) for unit in export.units]
    trained = [labelled(fold) if export.kind == "refit" else fold.train for fold in folds]
    return Card(
        kind=export.kind,
        units=export.units,
        parts=tuple(TrainingPart.of(fold, ids) for fold, ids in zip(folds, trained, strict=True)),
        likeness=tuple(likeness),
        corpus=corpus.settings,
        sources=corpus.sources,
        seconds=corpus.seconds(trained[0], export.features.frames_per_second),
        parity=parity,
    )


def _told(export: "Export") -> str:
    """What was exported, in a few words."""
    if export.kind == "refit":
        return "one network of all data, without a test figure of its own"
    if export.kind == "fold":
        return f"the winner of fold {export.units[0].key.fold}"
    return f"an ensemble of {len(export.units)} folds, without a test figure of its own"
