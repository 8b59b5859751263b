"""The cover of a page: what was searched, what it reached beside what, and whether that can be believed."""

from collections.abc import Sequence

from emodarts.report.comparisons import Comparison, features_name
from emodarts.report.report_data import ReportData
from emodarts.report.sections.systems import FEW_SPEAKERS, SystemFigures
from emodarts.report.tables import format_cell
from emodarts.results.statistics import ENOUGH_SEEDS, SIGNIFICANT


def cover_sentences(
    data: ReportData, compared: Sequence[tuple[Comparison, list[SystemFigures]]], notices: Sequence[str]
) -> tuple[str, ...]:
    """Three sentences on the first comparison that may head a page; none without one."""
    heading = [(comparison, figures) for comparison, figures in compared if not comparison.shared]
    if not heading:
        return ()
    comparison, figures = heading[0]
    return _searched(data, comparison, figures), _reached(comparison, figures), _believed(comparison, figures, notices)


def _searched(data: ReportData, comparison: Comparison, figures: Sequence[SystemFigures]) -> str:
    first = figures[0].system.results
    of = max(winner.of for winner in first.winners.values())
    method = first.system.partition(":")[2]
    is_searched = first.system.startswith("emodarts") and not method.startswith(("fixed", "random_architecture"))
    what = "A network was searched" if is_searched else f"{first.system} was trained"
    choice = f"of {of} configurations a fold the best on dev was taken" if of > 1 else "one configuration a fold"
    others = "" if len(heading := data.sweeps) == 1 else f", in {len(heading)} sweeps"
    return (
        f"{what} for {len(comparison.classes)} classes ({', '.join(comparison.classes)}) of {first.corpora_name}, from "
        f"{features_name(first).replace('_', '-')} features; {choice}{others}."
    )


def _reached(comparison: Comparison, figures: Sequence[SystemFigures]) -> str:
    first = figures[0]
    rivals = [f for f in figures[1:] if not f.system.results.is_ensemble] or list(figures[1:])
    beside = ""
    if rivals:
        best = max(rivals, key=lambda f: f.uar.value)
        verdict = "" if best.from_first is None else f" ({best.from_first})"
        beside = f", beside {format_cell(best.uar.value, 'figure')} of {best.system.name}{verdict}"
    chance = format_cell(1 / len(comparison.classes), "figure")
    return (
        f"On {len(comparison.test_tally.speakers)} speakers that it never heard {first.system.name} reached a UAR of "
        f"{format_cell(first.uar, 'figure')}{beside}; guessing reaches {chance}."
    )


def _believed(comparison: Comparison, figures: Sequence[SystemFigures], notices: Sequence[str]) -> str:
    speakers, seeds = len(comparison.test_tally.speakers), len(figures[0].system.tallies)
    doubts = []
    if comparison.protocol_caveat:
        doubts.append(f"the protocol is weak ({comparison.protocol_caveat})")
    if any("leak" in notice for notice in notices):
        doubts.append("the audit has a leak")
    if speakers < FEW_SPEAKERS:
        doubts.append(f"{speakers} speakers are few")
    if seeds < ENOUGH_SEEDS:
        doubts.append(f"{seeds} seed{'s' if seeds > 1 else ''} of {ENOUGH_SEEDS} that a claim about the method takes")
    verdicts = [f.from_first for f in figures[1:] if f.from_first is not None]
    shown = sum(v.p <= SIGNIFICANT for v in verdicts)
    differences = f" {shown} of {len(verdicts)} differences are more than luck." if verdicts else ""
    if not doubts:
        return f"It can be believed as far as the interval says: nothing of these speakers chose anything.{differences}"
    return f"Believe the interval, and not more: {'; '.join(doubts)}.{differences}"
