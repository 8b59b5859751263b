"""The steps of `emodarts export`: choose on dev, train again, make ONNX, prove it equal, write a folder."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from emodarts.console import print_logs, progress_bar
from emodarts.corpora.settings import short_name
from emodarts.errors import EmodartsError
from emodarts.export import package
from emodarts.export.card import ModelCard, TrainingPart
from emodarts.export.data import SweepCorpus, corpora_settings, read_sweep_corpus
from emodarts.export.graph import Member
from emodarts.export.onnx import check_exportable, check_parity, to_onnx
from emodarts.export.units import ExportedUnit, ReportedFigures, chosen_units, ensemble_figures
from emodarts.export.weights import DevAgreement, labelled, refit, retrain
from emodarts.processors import check_device
from emodarts.records import EpochRecord
from emodarts.results import reader
from emodarts.results.reader import Results
from emodarts.results.sweep_file import settings_of
from emodarts.results.winners import rank_on_dev

_CHECKED = 4  # recordings that torch and ONNX are compared on
Progress = Callable[[int, int], None]


def export_model(options: argparse.Namespace) -> None:
    """Export as the options say. Raises EmodartsError."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    out = Path(options.out)
    _check_options(options)
    package.check_target(out)
    results = _open_sweep(options)
    settings = settings_of(results.parts[0].storage, results.sweeps[0])
    systems = [None] if options.system is None else list(dict.fromkeys(options.system.split(",")))
    units = [u for name in systems for u in chosen_units(results, settings, name, options.fold, options.top)]
    if options.refit:
        columns = ([u.dev_uar for u in units], [u.parameters for u in units], [u.key.fold for u in units])
        units = [units[rank_on_dev(*columns)[0]]]
    features = units[0].settings.features
    check_exportable(features)
    torch.set_num_threads(options.threads)
    by_name = {short_name(file): file for file in options.grammar}
    corpora = tuple(
        replace(corpus, name=by_name.get(corpus.name, corpus.name))
        for corpus in corpora_settings(settings, options.root, options.protocol)
    )
    with print_logs(console):
        corpus = read_sweep_corpus(corpora, features, options.device)
    members, agreements = _train(units, corpus, options, console)
    kind = "refit" if options.refit else "fold" if len(units) == 1 else "ensemble"
    export = package.Export(kind, tuple(units), tuple(members), units[0].key.classes)
    classifier, store = export.classifier(), corpus.store
    model = to_onnx(classifier, store.bins, store.channels, export.classes)
    sounds = () if classifier.spectra is None else corpus.sounds(_of_all_lengths(units[0], corpus), features)
    parity = check_parity(model, classifier, store.bins, store.channels, features.sample_rate, sounds)
    figures = () if options.refit else ensemble_figures(results, units)
    package.write_export(out, export, model, _model_card(export, corpus, agreements, parity, figures))
    console.print(f"torch and ONNX differ by at most {parity:.1e} of a probability")
    console.print(f"{out}: {_describe(export)}; try `python {out / 'predict.py'} <recording>`, and read {package.CARD}")


def _of_all_lengths(unit: ExportedUnit, corpus: SweepCorpus) -> list[str]:
    """Some dev utterances of a unit, from the shortest to the longest."""
    order = np.argsort(corpus.store.lengths(corpus.store.positions(unit.dev_utterances)), kind="stable")
    return [unit.dev_utterances[p] for p in order[np.linspace(0, len(order) - 1, _CHECKED).round().astype(int)]]


def _check_options(options: argparse.Namespace) -> None:
    if options.threads < 1:
        raise EmodartsError(f"--threads {options.threads}: give 1 or more")
    if options.top < 1:
        raise EmodartsError(f"--top {options.top}: give 1 or more")
    check_device(options.device)
    if options.refit and options.top > 1:
        raise EmodartsError(f"--refit makes one network, --top {options.top} the mean of several: give one of them")
    if options.refit and options.ensemble:
        raise EmodartsError("--refit makes one network of all data, --ensemble one a fold: give one of them")


def _open_sweep(options: argparse.Namespace) -> Results:
    """The one sweep there is, or that was named."""
    results = reader.open(options.results, sweep=options.sweep)
    if len(results.sweeps) > 1:
        raise EmodartsError(f"{options.results} has several sweeps: name one with --sweep: {', '.join(results.sweeps)}")
    return results


def _train(
    units: Sequence[ExportedUnit], corpus: SweepCorpus, options: argparse.Namespace, console: Console
) -> tuple[list[Member], list[DevAgreement]]:
    """The network of each unit, and how far it agrees with the stored one (nothing of a refit)."""
    members, agreements = [], []
    for unit in units:
        epochs = unit.epoch + 1 if options.refit else unit.settings.training.epochs
        trained = f"fold {unit.key.fold}, trial {unit.key.trial} (dev UAR {unit.dev_uar:.3f})"
        with progress_bar(console, f"training fold {unit.key.fold}", epochs) as progress:

            def on_epoch_end(record: EpochRecord, progress: Progress = progress, epochs: int = epochs) -> None:
                progress(record.epoch + 1, epochs)

            if options.refit:
                member, count = refit(unit, corpus, options.device, on_epoch_end)
                console.print(f"{trained}: trained on all {count} utterances for {epochs} epochs")
            else:
                member, agreement = retrain(unit, corpus, options.device, on_epoch_end)
                agreements.append(agreement)
                console.print(f"{trained}: {agreement}")
            members.append(member)
    return members, agreements


def _model_card(
    export: package.Export,
    corpus: SweepCorpus,
    agreements: Sequence[DevAgreement],
    parity: float,
    ensemble_figures: tuple[ReportedFigures, ...],
) -> ModelCard:
    folds = [corpus.fold(unit.key) for unit in export.units]
    trained = [labelled(fold) if export.kind == "refit" else fold.train for fold in folds]
    return ModelCard(
        kind=export.kind,
        units=export.units,
        parts=tuple(TrainingPart.of(fold, ids) for fold, ids in zip(folds, trained, strict=True)),
        agreements=tuple(agreements),
        corpus=corpus.settings,
        sources=corpus.sources,
        seconds=corpus.seconds(trained[0], export.features.frame_rate),
        parity=parity,
        ensemble_figures=ensemble_figures,
    )


def _describe(export: package.Export) -> str:
    """What was exported, in a few words."""
    if export.kind == "refit":
        return "one network of all data, without a test figure of its own"
    if export.kind == "fold":
        return f"the winner of fold {export.units[0].key.fold}"
    folds, networks = {unit.key.fold for unit in export.units}, f"{len(export.units)} networks"
    if len(folds) == 1:
        return f"an ensemble of {networks}, the best on dev of fold {export.units[0].key.fold}"
    how_many = "" if len(folds) == len(export.units) else f" ({networks})"
    return f"an ensemble of {len(folds)} folds{how_many}, without a test figure of its own"
