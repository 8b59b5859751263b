"""The report: all sections of some results, and one HTML page of them that needs no scripts and no network."""

from collections.abc import Sequence
from dataclasses import dataclass

from emodarts import __version__
from emodarts.records import LATE_DEV
from emodarts.report.choices import selection_section
from emodarts.report.conditions import conditions, other_predictions
from emodarts.report.figures import Figure
from emodarts.report.headline import Headline, headline
from emodarts.report.matrices import corpora_section, transfer_section
from emodarts.report.origins import leaks, losses_section, origins_section
from emodarts.report.published import published_section
from emodarts.report.report_data import ReportData, load_report_data
from emodarts.report.searching import courses_section, genotypes_section, hyperparameters_section, sizes_section
from emodarts.report.sections import Collapsible, Paragraph, Section, told_apart, walk_parts
from emodarts.report.sheets import Sheet, shown
from emodarts.report.tables import incomplete, notices
from emodarts.report.within import classes_section, folds_section, speakers_section, systems_section
from emodarts.results.reader import Results
from emodarts.templates import render_template


@dataclass(frozen=True)
class Page:
    """What a reader sees, in order."""

    title: str
    subtitle: str
    tiles: tuple[tuple[str, str], ...]
    notices: tuple[str, ...]
    sections: tuple[Section, ...]

    def parts(self) -> list[Sheet | Figure]:
        """All tables and figures."""
        return [part for section in self.sections for part in walk_parts(section.parts)]


def page_of(results: Results) -> Page:
    """Read and compute everything. Raises EmodartsError for results that are damaged or contradict each other."""
    evidence = load_report_data(results)
    found = conditions(evidence)
    headlines = [headline(c) for c in found if c.epoch_rule == LATE_DEV]
    compared = [h.condition for h in headlines]
    sections = (
        systems_section(headlines),
        selection_section(evidence),
        published_section(evidence),
        corpora_section(evidence),
        transfer_section(compared, evidence),
        folds_section(compared),
        classes_section(compared),
        speakers_section(compared),
        courses_section(evidence),
        hyperparameters_section(evidence),
        sizes_section(evidence),
        genotypes_section(evidence),
        origins_section(evidence),
        losses_section(evidence),
    )
    corpora = sorted({c for e in evidence.entries for c in e.train_corpora})
    return Page(
        f"Speech emotion recognition: {', '.join(corpora) or 'no results yet'}",
        f"Sweeps {', '.join(results.sweeps)}; reported by emodarts {__version__}. Every figure is computed from the "
        "result tables; winners are chosen on dev alone.",
        tuple(_tiles(evidence, headlines)),
        (*leaks(evidence), *notices(list(evidence.entries)), *incomplete(evidence), *other_predictions(found)),
        told_apart(tuple(s for s in sections if s is not None and s.parts)),
    )


def render_page(page: Page) -> str:
    """The page as text. Everything from results (names of files, speakers, systems) is escaped."""
    return render_template(
        "emodarts.report",
        "page.html.j2",
        {},
        page=page,
        is_table=lambda part: isinstance(part, Sheet),
        is_paragraph=lambda part: isinstance(part, Paragraph),
        is_collapsible=lambda part: isinstance(part, Collapsible),
    )


def _tiles(evidence: ReportData, headlines: Sequence[Headline]) -> list[tuple[str, str]]:
    tiles = [("sweeps", str(len(evidence.courses))), ("systems", str(len(evidence.systems)))]
    tiles.append(("configurations", f"{sum(n for c in evidence.courses for n in c.statuses.values()):,}"))
    for made in [h for h in headlines if not h.condition.shared][:1]:  # a shared choice heads nothing
        first, weak = made.standings[0], " (weak protocol)" if made.condition.protocol_caveat else ""
        name = f"UAR of {first.contender.name}, {made.condition.test_set}{weak}"
        tiles.append((name, shown(first.uar.value, "figure")))
        tiles.append(("its interval (95 %)", shown(first.uar, "figure").partition(" ")[2] or "none"))
        tiles.append(("test speakers", str(made.speakers)))
    return tiles
