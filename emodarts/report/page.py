"""The report: all sections of some results, and one HTML page that needs no network and does without scripts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from emodarts import __version__
from emodarts.records import LATE_DEV
from emodarts.report.comparisons import Comparison, group_comparisons
from emodarts.report.cover import cover_sentences
from emodarts.report.elements import (
    Collapsible,
    Paragraph,
    RecordingCard,
    Section,
    iter_tables_and_figures,
    with_unique_names,
)
from emodarts.report.figures import Figure
from emodarts.report.joined_table import join_predictions
from emodarts.report.listening import Listening
from emodarts.report.notices import all_notices
from emodarts.report.predictions import load_predictions, load_utterances
from emodarts.report.report_data import ReportData, load_report_data
from emodarts.report.sections.breakdowns import classes_section, folds_section, speakers_section
from emodarts.report.sections.changes import changes_section
from emodarts.report.sections.cross_corpus import cross_corpus_section, transfer_section
from emodarts.report.sections.enrolment import enrolment_section
from emodarts.report.sections.ensembles import ensembles_section
from emodarts.report.sections.groups import groups_section
from emodarts.report.sections.hard_recordings import JudgedRecordings, hard_section, judge_recordings
from emodarts.report.sections.health import health_section
from emodarts.report.sections.hyperparameters import hyperparameters_section
from emodarts.report.sections.learning_curves import learning_curves_section
from emodarts.report.sections.networks import networks_section
from emodarts.report.sections.provenance import losses_section, provenance_section
from emodarts.report.sections.published_protocol import published_section
from emodarts.report.sections.robustness import robustness_section
from emodarts.report.sections.selection import selection_section
from emodarts.report.sections.sizes import sizes_section
from emodarts.report.sections.systems import SystemFigures, compare, systems_section
from emodarts.report.sections.trust import trust_section
from emodarts.report.tables import ReportTable, format_cell
from emodarts.results.reader import Results
from emodarts.templates import render_template


@dataclass(frozen=True)
class Page:
    """What a reader sees, in order."""

    title: str
    subtitle: str
    cover: tuple[str, ...]
    tiles: tuple[tuple[str, str], ...]
    notices: tuple[str, ...]
    sections: tuple[Section, ...]
    judged: tuple[JudgedRecordings, ...] = ()  # for `--hard`
    joined: Callable[[], pa.Table] | None = None  # for `--parquet`

    def tables_and_figures(self) -> list[ReportTable | Figure]:
        """All of them, in order."""
        return [element for section in self.sections for element in iter_tables_and_figures(section.elements)]


def build_page(
    results: Results, top: int | None = None, ensemble: Sequence[str] = (), listening: Listening | None = None
) -> Page:
    """Read and compute everything; `top`, `ensemble`: see `load_report_data`; `listening`: with recordings, of where.

    Raises EmodartsError for results that are damaged or contradict each other.
    """
    data = load_report_data(results, top, ensemble)
    comparisons = group_comparisons(data)
    clean = [comparison for comparison in comparisons if comparison.epoch_rule == LATE_DEV]
    compared = [(comparison, compare(comparison)) for comparison in clean]
    notices = all_notices(data, comparisons)
    predicted, facts = load_predictions(data, clean), load_utterances(data)
    judged = judge_recordings(data, predicted)
    sections = (
        systems_section(compared),
        changes_section(data, clean),
        trust_section(predicted),
        groups_section(predicted, facts),
        None if listening is None else listening.section(predicted, facts),
        hard_section(judged),
        robustness_section(data, clean),
        health_section(data),
        ensembles_section(data),
        enrolment_section(clean),
        selection_section(data),
        published_section(data),
        cross_corpus_section(data),
        transfer_section(clean, data),
        folds_section(clean),
        classes_section(clean),
        speakers_section(clean),
        learning_curves_section(data),
        hyperparameters_section(data),
        sizes_section(data),
        networks_section(data, compared),
        provenance_section(data),
        losses_section(data),
    )
    corpora = sorted({corpus for system in data.systems for corpus in system.train_corpora})
    return Page(
        f"Speech emotion recognition: {', '.join(corpora) or 'no results yet'}",
        f"Sweeps {', '.join(results.sweeps)}; reported by emodarts {__version__}. Every figure is computed from the "
        "result tables; winners are chosen on dev alone.",
        cover_sentences(data, compared, notices),
        tuple(_tiles(data, compared)),
        notices,
        with_unique_names(tuple(s for s in sections if s is not None and s.elements)),
        tuple(judged),
        lambda: join_predictions(predicted, facts),
    )


def render_page(page: Page) -> str:
    """The page as text. Everything from results (names of files, speakers, systems) is escaped."""
    return render_template(
        "emodarts.report",
        "page.html.j2",
        {},
        page=page,
        is_table=lambda element: isinstance(element, ReportTable),
        is_paragraph=lambda element: isinstance(element, Paragraph),
        is_collapsible=lambda element: isinstance(element, Collapsible),
        is_recording=lambda element: isinstance(element, RecordingCard),
    )


def _tiles(data: ReportData, compared: Sequence[tuple[Comparison, list[SystemFigures]]]) -> list[tuple[str, str]]:
    """The first figures of the page: a name and a value each."""
    systems = {system.system for system in data.systems if not system.is_ensemble}
    tiles = [("sweeps", str(len(data.sweeps))), ("systems", str(len(systems)))]
    tiles.append(("configurations", f"{sum(n for record in data.sweeps for n in record.statuses.values()):,}"))
    for comparison, (first, *_) in [c for c in compared if not c[0].shared][:1]:  # a shared choice heads nothing
        caveat = " (weak protocol)" if comparison.protocol_caveat else ""
        uar, _, limits = format_cell(first.uar, "figure").partition(" ")
        tiles.append((f"UAR of {first.system.name}, {comparison.test_set}{caveat}", uar))
        tiles.append(("its interval (95 %)", limits or "none"))
        tiles.append(("test speakers", str(len(comparison.test_tally.speakers))))
    return tiles
