"""Section "Systems": all systems of a comparison with intervals, and their differences from the first, corrected."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from emodarts.errors import EmodartsError
from emodarts.report import plots
from emodarts.report.comparisons import ComparedSystem, Comparison
from emodarts.report.elements import Collapsible, Element, Paragraph, Section
from emodarts.report.figures import Figure
from emodarts.report.tables import Cell, ReportTable, Tone, head, slug
from emodarts.results.statistics import (
    ENOUGH_CORPORA,
    ENOUGH_SEEDS,
    MARGIN,
    Difference,
    Interval,
    Metrics,
    Spread,
    Tally,
    Verdict,
    chance,
    compare_systems,
    compute_metrics,
    dev_test_drop,
    interval,
    judge,
    majority,
    mean_metrics,
    mean_over_corpora,
    spread,
)

FEW_SPEAKERS = 8
_COLUMNS = head(
    "system | UAR [95 %]: figure | WAR: figure | macro-F1: figure | UAR, mean over folds: figure | "
    "sd over folds: figure | difference [95 %]: difference | p (Holm): p | p, as good (Holm): p | "
    "verdict | seeds: count | parameters: count"
)
_DEV_COLUMNS = head(
    "system | dev UAR, pooled: figure | test UAR, pooled: figure | dev − test [95 %]: difference | "
    "sd over seeds: figure | seeds: count"
)
_CORPORA_COLUMNS = head(
    "system | against | corpora: count | mean difference [95 %]: difference | sd between corpora: figure | "
    "p (Holm): p | p, as good (Holm): p | verdict"
)


@dataclass(frozen=True)
class SystemFigures:
    """The figures of a compared system. `from_first`, the verdict against the first, is None for the first itself."""

    system: ComparedSystem
    uar: Interval
    metrics: Metrics  # means over seeds
    over_folds: Spread
    from_first: Verdict | None


def compare(comparison: Comparison) -> list[SystemFigures]:
    """Intervals, and differences from the first system, paired by speaker; in the order of the comparison."""
    first, *others = comparison.systems
    verdicts = [None, *judge([_difference(other, first) for other in others])]
    return [_figures_of(system, verdict) for system, verdict in zip(comparison.systems, verdicts, strict=True)]


def systems_section(compared: Sequence[tuple[Comparison, list[SystemFigures]]]) -> Section:
    """The headline tables, each with its figure; `compared`: comparisons with what `compare` gave."""
    elements: list[Element] = []
    if len(compared) > 1:
        text = (
            "Each table has one protocol, one set of folds (by hash), classes and rules. Figures of different tables "
            "must not be compared."
        )
        elements.append(Paragraph(text, "warning"))
    for number, (comparison, figures) in enumerate(compared):
        table = headline_table(comparison, figures)
        elements += [table, _intervals_figure(comparison, figures, f"{table.name}-{number}")]
        if any(s.system.results.dev_tallies for s in figures):
            dev_table = dev_and_seeds_table(comparison, figures)
            elements.append(Collapsible("Dev beside test, and how much seeds differ", (dev_table,)))
    elements += _over_corpora(compared)
    if not compared:
        text = "No test figures by the clean rules: nothing is finished, or the labels are not public."
        elements.append(Paragraph(text))
    return Section("Systems", tuple(elements))


def headline_table(comparison: Comparison, figures: Sequence[SystemFigures]) -> ReportTable:
    """The table of systems, with the rows of chance and majority."""
    rows: list[tuple[Cell, ...]] = [_headline_row(system) for system in figures]
    tally = comparison.test_tally
    for name, guesses in (("chance", chance(tally)), ("majority class of the test", majority(tally))):
        m = compute_metrics(guesses.confusion())
        rows.append((name, m.uar, m.war, m.macro_f1, None, None, None, None, None, "", None, None))
    plain: list[Tone] = [""] * (len(figures) - 1)
    name = slug(f"systems {comparison.protocol} {comparison.test_set} {_name_suffix(comparison)}")
    tones: tuple[Tone, ...] = ("strong", *plain, "soft", "soft")
    return ReportTable(name, comparison.title, _COLUMNS, tuple(rows), tuple(_notes(comparison)), tones)


def dev_and_seeds_table(comparison: Comparison, figures: Sequence[SystemFigures]) -> ReportTable:
    """What selection and seeds are worth: dev beside test, and the spread over seeds."""
    rows: list[tuple[Cell, ...]] = []
    for s in figures:
        system = s.system
        dev, test = system.results.dev_tallies, system.tallies
        rows.append(
            (
                system.name,
                mean(tally.uar() for tally in dev) if dev else None,
                s.uar.value,
                dev_test_drop(dev, test) if dev else None,
                spread([tally.uar() for tally in test]).deviation,
                len(test),
            )
        )
    name = slug(f"dev and seeds {comparison.protocol} {comparison.test_set} {_name_suffix(comparison)}")
    notes = ("Dev chose the configuration and the epoch, so its figure is too good; test speakers may be harder, too.",)
    return ReportTable(name, f"Dev beside test, and seeds: {comparison.title}", _DEV_COLUMNS, tuple(rows), notes)


def over_speakers(tallies: Sequence[Tally]) -> Interval:
    """The UAR with its interval, which ends where the UAR does; without limits where there is one speaker."""
    return clip_to_range(interval(tallies))


def clip_to_range(uar: Interval) -> Interval:
    """The same with limits within 0 .. 1."""
    return Interval(uar.value, float(np.clip(uar.low, 0, 1)), float(np.clip(uar.high, 0, 1)))


def _over_corpora(compared: Sequence[tuple[Comparison, list[SystemFigures]]]) -> list[Element]:
    """The differences that several corpora show between the same two systems, as means over corpora."""
    pairs: dict[tuple[str, str], dict[str, list[Difference]]] = defaultdict(lambda: defaultdict(list))
    for comparison, (first, *others) in compared:
        corpus = comparison.test_set.partition("/")[0]
        for s in others if comparison.train_corpora == (corpus,) and not comparison.shared else ():
            if s.from_first is not None:
                pairs[s.system.name, first.system.name][corpus].append(s.from_first.difference)
    most = max((len(of_corpora) for of_corpora in pairs.values()), default=0)
    if 1 < most < ENOUGH_CORPORA:
        text = f"No mean over corpora: the same systems were compared on {most}, and it takes {ENOUGH_CORPORA}."
        return [Paragraph(text)]
    means = {names: m for names, of_corpora in pairs.items() if (m := mean_over_corpora(of_corpora))}
    verdicts = judge([m.difference for m in means.values()])
    rows: list[tuple[Cell, ...]] = [
        (*names, m.corpora, v.difference, m.deviation, v.p, v.p_equivalence, str(v))
        for (names, m), v in zip(means.items(), verdicts, strict=True)
    ]
    notes = (
        "Random-effects means, each corpus one vote, however many of its protocols were compared: the interval is for "
        "corpora like these. p is corrected for the comparisons of this table (Holm).",
    )
    title = "Differences over corpora"
    return [ReportTable("over-corpora", title, _CORPORA_COLUMNS, tuple(rows), notes)] if rows else []


def _figures_of(system: ComparedSystem, from_first: Verdict | None) -> SystemFigures:
    by_fold = list(system.results.by_fold(system.part, "uar").values())
    tallies = system.tallies
    return SystemFigures(system, over_speakers(tallies), mean_metrics(tallies), spread(by_fold), from_first)


def _difference(system: ComparedSystem, first: ComparedSystem) -> Difference:
    try:
        return compare_systems(system.tallies, first.tallies)
    except EmodartsError as error:
        raise EmodartsError(
            f"{system.name} and {first.name} share the fold hashes of {system.results.protocol} and not their "
            f"predictions ({error}): files of a sweep are missing or were changed"
        ) from error


def _headline_row(s: SystemFigures) -> tuple[Cell, ...]:
    folds, v = s.over_folds, s.from_first
    compared = (None, None, None, "reference") if v is None else (v.difference, v.p, v.p_equivalence, str(v))
    figures = (s.uar, s.metrics.war, s.metrics.macro_f1, folds.mean, folds.deviation)
    return (s.system.name, *figures, *compared, len(s.system.tallies), s.system.parameters)


def _name_suffix(comparison: Comparison) -> str:
    """What distinguishes comparisons of one protocol and test set in a file's name."""
    corpora = "" if len(comparison.train_corpora) < 2 else "+".join(comparison.train_corpora)
    digest = hashlib.sha256(repr((comparison.hashes, comparison.classes)).encode()).hexdigest()[:6]
    return f"{corpora} {digest} {comparison.epoch_rule} {'shared' if comparison.shared else ''}"


def _notes(comparison: Comparison) -> list[str]:
    tally, systems = comparison.test_tally, comparison.systems
    speakers = len(tally.speakers)
    notes = [
        f"{round(float(tally.counts.sum())):,} test utterances of {speakers} speakers, all folds pooled; the figure of "
        "each seed, then the mean. Intervals of the UAR are over speakers."
    ]
    if len(systems) > 1:
        notes.append(
            f"Differences are from {systems[0].name}, paired by speaker; p is corrected for the comparisons of this "
            f'table (Holm), the differences\' intervals are not. "As good" is a test that they are less than '
            f"{MARGIN:g} apart; no difference shown is no such test."
        )
        notes.append(
            f"A verdict on a method holds the luck of speakers and of seeds, and takes {ENOUGH_SEEDS} seeds; with "
            "fewer it is about these networks as they were trained."
        )
    if 1 < speakers < FEW_SPEAKERS:
        notes.append(f"{speakers} speakers are few: the interval is wide, and rests on the t distribution.")
    if speakers == 1:
        notes.append("One speaker: there is no interval, and no difference can be told.")
    if comparison.shared:
        notes.append("The selection saw these speakers in other folds (study_per=sweep): no figure for a comparison.")
    if comparison.protocol_caveat:
        notes.append(f"The protocol is weaker than it should be: {comparison.protocol_caveat}.")
    return notes


def _intervals_figure(comparison: Comparison, figures: Sequence[SystemFigures], name: str) -> Figure:
    names, colours = [s.system.name for s in figures], [s.system.colour for s in figures]
    values, chance_uar = [s.uar for s in figures], 1 / len(comparison.classes)
    return Figure(
        f"intervals-{name}",
        f"UAR with its interval: {comparison.title}",
        "; ".join(f"{name} {uar.value:.3f}" for name, uar in zip(names, values, strict=True)),
        lambda canvas: plots.draw_intervals(canvas, names, colours, values, chance_uar),
        height=1.0 + 0.36 * len(names),
    )
