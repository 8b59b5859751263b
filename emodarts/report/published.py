"""The published protocol beside the clean one: what it is worth to pick the epoch on the test fold."""

from dataclasses import dataclass

from emodarts.records import BEST_TEST, LAST, LATE_DEV
from emodarts.report.headline import over_speakers
from emodarts.report.report_data import Entry, EvaluationPart, ReportData
from emodarts.report.sections import Section
from emodarts.report.sheets import Cell, Column, Sheet
from emodarts.results.statistics import Difference, Tally, difference

RULES = {LATE_DEV: "by dev", LAST: "last", BEST_TEST: "BEST ON TEST"}
_QUOTED = {LATE_DEV: "yes", LAST: "with its protocol", BEST_TEST: "no"}
_COLUMNS = (
    Column("sweep"),
    Column("system"),
    Column("protocol"),
    Column("tested on"),
    Column("epoch"),
    Column("UAR [95 %]", "figure"),
    Column("WAR", "figure"),
    Column("above the last epoch [95 %]", "difference"),
    Column("folds", "count"),
    Column("may be quoted"),
)


@dataclass(frozen=True)
class RuleLine:
    """Test figures of a system by one protocol and one rule for the epoch, all folds pooled, a tally a seed.

    `above_last`: what choosing the epoch on test adds to the last epoch; None for other rules.
    """

    entry: Entry
    part: EvaluationPart
    tallies: tuple[Tally, ...]
    above_last: Difference | None = None

    @classmethod
    def of(cls, entry: Entry, part: EvaluationPart, last: Entry | None = None) -> "RuleLine":
        """The line of an entry; `last` is the same by the last epoch."""
        tallies = entry.pooled(part)
        above = difference(tallies, last.pooled(part)) if last is not None and part in last.tallies else None
        return cls(entry, part, tuple(tallies), above)

    def cells(self) -> tuple[Cell, ...]:
        """As a row of a table."""
        e, war = self.entry, sum(t.value("war") for t in self.tallies) / len(self.tallies)
        uar = over_speakers(self.tallies)
        about = (e.sweep, e.system, e.protocol, self.part.test_set, RULES[e.epoch_rule])
        weak = "with its protocol_caveat" if e.protocol_caveat and e.epoch_rule == LATE_DEV else _QUOTED[e.epoch_rule]
        return (*about, uar, war, self.above_last, len(e.folds), weak)


def rule_lines(evidence: ReportData) -> list[RuleLine]:
    """For each system with epochs chosen on test: the clean figures on the same corpora, the last epoch, the best one.

    None of the latter two chose anything.
    """
    lines: list[RuleLine] = []
    for best in (e for e in evidence.entries if e.epoch_rule == BEST_TEST):
        alike = [e for e in evidence.entries if (e.system, e.train_corpora) == (best.system, best.train_corpora)]
        clean = [e for e in alike if e.epoch_rule == LATE_DEV and not e.shared and e.source is None]
        clean = [e for e in clean if all(line.entry is not e for line in lines)]  # once, however often it was published
        last = next((e for e in alike if _same_run(e, best) and e.epoch_rule == LAST), None)
        lines += [RuleLine.of(e, part) for e in (*clean, *([last] if last else [])) for part in e.parts("test")]
        lines += [RuleLine.of(best, part, last) for part in best.parts("test")]
    return lines


def published_section(evidence: ReportData) -> Section | None:
    """What it is worth to pick the epoch on the test fold; None where nobody did."""
    lines = rule_lines(evidence)
    if not lines:
        return None
    notes = (
        "Rows of the published protocol have no dev part and one fixed configuration. Picking the epoch on the test "
        "fold is shown for comparison with published figures alone. Protocols differ in labels, utterances and folds: "
        "differences between them are no effect of the rules alone.",
    )
    rows = tuple(line.cells() for line in lines)
    return Section(
        "The published habit",
        (Sheet("published-habit", "The published protocol beside the clean one", _COLUMNS, rows, notes),),
    )


def _same_run(one: Entry, other: Entry) -> bool:
    return (one.sweep, one.protocol, one.classes, one.hashes) == (
        other.sweep,
        other.protocol,
        other.classes,
        other.hashes,
    )
