"""The published habit beside the clean rules: what it is worth to pick the epoch on the test fold."""

from statistics import mean

from emodarts.report.conditions import Contender
from emodarts.report.evidence import LATE_DEV, Entry, Evidence
from emodarts.report.headline import over_speakers
from emodarts.report.sections import Section
from emodarts.report.sheets import Cell, Column, Sheet
from emodarts.results.statistics import difference


def published_section(evidence: Evidence) -> Section | None:
    """What it is worth to pick the epoch on the test fold; None where nobody did."""
    rows: list[tuple[Cell, ...]] = []
    for entry in evidence.entries:
        if entry.epoch_rule == "best_test":
            rows += _habit(entry, evidence)
    if not rows:
        return None
    columns = (
        Column("protocol"),
        Column("system"),
        Column("epoch"),
        Column("UAR [95 %]", "figure"),
        Column("WAR", "figure"),
        Column("above the last epoch [95 %]", "difference"),
        Column("may be quoted"),
    )
    notes = (
        "Rows of the published protocol have no dev part and one fixed configuration. Picking the epoch on the test "
        "fold is shown for comparison with published figures alone. Other protocols have other utterances: differences "
        "between them are no effect of the rules alone.",
    )
    return Section(
        "The published habit",
        (Sheet("published-habit", "The published protocol beside the clean one", columns, tuple(rows), notes),),
    )


def _habit(entry: Entry, evidence: Evidence) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    last = next((e for e in evidence.entries if _same_but_epoch(e, entry)), None)
    for part in entry.parts("test"):
        best = Contender(entry.system, 0, entry, part)
        if last is not None and part in last.tallies:
            honest = Contender(last.system, 0, last, part)
            rows.append(
                (
                    last.protocol,
                    last.system,
                    "last",
                    over_speakers(honest.tallies),
                    _war(honest),
                    None,
                    "with its protocol",
                )
            )
            rows.append(
                (
                    entry.protocol,
                    entry.system,
                    "best on test",
                    over_speakers(best.tallies),
                    _war(best),
                    difference(best.tallies, honest.tallies),
                    "no",
                )
            )
        else:
            rows.append(
                (entry.protocol, entry.system, "best on test", over_speakers(best.tallies), _war(best), None, "no")
            )
    for clean in evidence.entries:
        same = clean.train_corpora == entry.train_corpora and clean.epoch_rule == LATE_DEV and not clean.shared
        for part in clean.parts("test") if same else ():
            c = Contender(clean.system, 0, clean, part)
            rows.append(
                (
                    f"{clean.protocol}, {part.test_set}",
                    clean.system,
                    "late, on dev",
                    over_speakers(c.tallies),
                    _war(c),
                    None,
                    "yes",
                )
            )
    return rows


def _same_but_epoch(one: Entry, other: Entry) -> bool:
    alike = (one.sweep, one.system, one.protocol, one.classes) == (
        other.sweep,
        other.system,
        other.protocol,
        other.classes,
    )
    return alike and one.epoch_rule == "last"


def _war(contender: Contender) -> float:
    return mean(t.value("war") for t in contender.tallies)
