"""Section "Ensembles": what averaging the best trials of each study is worth, and how sure of itself it is."""

from statistics import mean

from emodarts.records import LATE_DEV
from emodarts.report.elements import Paragraph, Section
from emodarts.report.report_data import EvaluationPart, ReportData, SystemResults
from emodarts.report.tables import Cell, ReportTable, head
from emodarts.results.statistics import mean_metrics

_COLUMNS = head(
    "sweep | system | tested on | members: count | UAR: figure | UAR, mean over folds: figure | "
    "UAR, mean of members: figure | agreement: figure | ECE: figure | ECE, mean of members: figure | parameters: count"
)


def ensembles_section(data: ReportData) -> Section | None:
    """A row an ensemble and test set; None where no study has two complete configurations."""
    rows: list[tuple[Cell, ...]] = []
    for system in data.systems:
        for part in system.parts("test") if system.is_ensemble and system.epoch_rule == LATE_DEV else ():
            columns = ("uar", "members_uar", "agreement", "ece", "members_ece", "parameters")
            means = [column_mean(system, part, column) for column in columns]
            name = f"{system.system}, study_per=sweep" if system.shared else system.system
            pooled = mean_metrics(system.pooled(part)).uar
            rows.append((system.sweep, name, part.test_set, column_mean(system, part, "n_members"), pooled, *means))
    text = (
        "The mean of the probabilities of each study's best trials on dev, nothing weighted and nothing trained. "
        "Agreement: the part of the utterances for which two members predict the same class, mean over all pairs. ECE: "
        "how far the largest probability is from how often it is right (15 bins; a fold of few utterances makes it "
        "larger). Both, and the figures of the members by themselves, are means over folds and seeds; parameters are "
        "summed over the members. An ensemble has those seeds that all its members have (sweep.seeds_of=members)."
    )
    table = ReportTable("ensembles", "Ensembles of the best trials on dev", _COLUMNS, tuple(rows))
    return Section("Ensembles", (Paragraph(text), table)) if rows else None


def column_mean(system: SystemResults, part: EvaluationPart, column: str) -> float | None:
    """The mean over folds and seeds of a column that may be null: a single member agrees with nobody."""
    known = [row[column] for row in system.rows_of(part) if row[column] is not None]
    return mean(known) if known else None
