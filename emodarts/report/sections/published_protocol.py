"""Section "The published habit": what it is worth to pick the epoch on the test fold, beside the clean protocol."""

from dataclasses import dataclass

from emodarts.records import BEST_TEST, LAST, LATE_DEV
from emodarts.report.elements import Section
from emodarts.report.report_data import EvaluationPart, ReportData, SystemResults
from emodarts.report.sections.systems import over_speakers
from emodarts.report.tables import Cell, ReportTable, head
from emodarts.results.statistics import Difference, Tally, difference

EPOCH_RULES = {LATE_DEV: "by dev", LAST: "last", BEST_TEST: "BEST ON TEST"}
_QUOTED = {LATE_DEV: "yes", LAST: "with its protocol", BEST_TEST: "no"}
_COLUMNS = head(
    "sweep | system | protocol | tested on | epoch | UAR [95 %]: figure | WAR: figure | "
    "above the last epoch [95 %]: difference | folds: count | may be quoted"
)


@dataclass(frozen=True)
class EpochRuleResults:
    """Test figures of a system by one protocol and one rule for the epoch, all folds pooled, a tally a seed.

    `above_last`: what choosing the epoch on test adds to the last epoch; None for other rules.
    """

    results: SystemResults
    part: EvaluationPart
    tallies: tuple[Tally, ...]
    above_last: Difference | None = None

    @classmethod
    def of(cls, system: SystemResults, part: EvaluationPart, last: SystemResults | None = None) -> "EpochRuleResults":
        """Those of a system; `last` is the same by the last epoch."""
        tallies = system.pooled(part)
        above = difference(tallies, last.pooled(part)) if last is not None and part in last.tallies else None
        return cls(system, part, tuple(tallies), above)

    def cells(self) -> tuple[Cell, ...]:
        """As a row of a table."""
        system, war = self.results, sum(t.value("war") for t in self.tallies) / len(self.tallies)
        about = (system.sweep, system.system, system.protocol, self.part.test_set, EPOCH_RULES[system.epoch_rule])
        has_caveat = system.protocol_caveat and system.epoch_rule == LATE_DEV
        quoted = "with its protocol_caveat" if has_caveat else _QUOTED[system.epoch_rule]
        return (*about, over_speakers(self.tallies), war, self.above_last, len(system.folds), quoted)


def compare_epoch_rules(data: ReportData) -> list[EpochRuleResults]:
    """For each system with epochs chosen on test: the clean figures on the same corpora, the last epoch, the best one.

    None of the latter two chose anything.
    """
    rules: list[EpochRuleResults] = []
    for best in (s for s in data.systems if s.epoch_rule == BEST_TEST):
        alike = [s for s in data.systems if (s.system, s.train_corpora) == (best.system, best.train_corpora)]
        clean = [s for s in alike if s.epoch_rule == LATE_DEV and not s.shared and s.source is None]
        clean = [s for s in clean if all(rule.results is not s for rule in rules)]  # listed once
        last = [s for s in alike if s.epoch_rule == LAST and _run_key(s) == _run_key(best)][:1]
        rules += [EpochRuleResults.of(s, part) for s in (*clean, *last) for part in s.parts("test")]
        rules += [EpochRuleResults.of(best, part, *last) for part in best.parts("test")]
    return rules


def published_section(data: ReportData) -> Section | None:
    """What it is worth to pick the epoch on the test fold; None where nobody did."""
    rules = compare_epoch_rules(data)
    if not rules:
        return None
    notes = (
        "Rows of the published protocol have no dev part and one fixed configuration. Picking the epoch on the test "
        "fold is shown for comparison with published figures alone. Protocols differ in labels, utterances and folds: "
        "differences between them are no effect of the rules alone.",
    )
    title, rows = "The published protocol beside the clean one", tuple(rule.cells() for rule in rules)
    return Section("The published habit", (ReportTable("published-habit", title, _COLUMNS, rows, notes),))


def _run_key(system: SystemResults) -> tuple[object, ...]:
    """What names the run that two epoch rules were read from."""
    return system.sweep, system.protocol, system.classes, system.hashes
