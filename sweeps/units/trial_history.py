"""What the tables say of a system so far: configurations, the outcomes of their units, and what follows from them."""

from collections import Counter
from collections.abc import Sequence

from emodarts.records import TrialRecord
from emodarts.results.reader import Results
from emodarts.results.winners import rank_on_dev
from emodarts.results.writer import SweepWriter
from sweeps.units.unit import UnitOutcome, outcomes_in


class TrialHistory:
    """`trials` by study, then by number and seed; `outcomes` by unit; `statuses` counts configurations."""

    def __init__(self, writer: SweepWriter, system: str, folds: dict[str, tuple[int, ...]]):
        self.writer, self.system, self.folds = writer, system, folds
        self.trials: dict[str, dict[tuple[int, int], TrialRecord]] = {study: {} for study in folds}
        self.outcomes: dict[tuple[str, int, int, int], UnitOutcome] = {}
        self.statuses: Counter[str] = Counter()

    def adopt(self, known: Results) -> list[TrialRecord]:
        """Take over what the tables hold of the system; the configurations of its studies."""
        self.outcomes.update(outcomes_in(known, self.system))
        found = [trial for trial in known.trials() if trial.system == self.system and trial.study in self.folds]
        for trial in found:
            self._count(trial)
        return found

    def write(self, trial: TrialRecord) -> None:
        """Write a configuration's row; only then it counts."""
        self.writer.write_trial(trial)
        self._count(trial)

    def ended(self, study: str) -> bool:
        """Whether no configuration of a study runs, further seeds of its winner aside."""
        return all(t.status != "running" for (_, seed), t in self.trials[study].items() if seed == 0)

    def winner(self, study: str) -> int | None:
        """The best complete configuration of a study by `rank_on_dev`."""
        complete = [t for (_, seed), t in self.trials[study].items() if seed == 0 and t.status == "complete"]
        columns = ([t.values[0] for t in complete], [self._size(t) for t in complete], [t.trial for t in complete])
        return complete[rank_on_dev(*columns)[0]].trial if complete else None

    def values(self, trial: TrialRecord, objectives: Sequence[str]) -> tuple[float, ...]:
        """The objectives of a configuration whose units are complete: means over its folds."""
        outcomes = [self.outcomes[trial.study, trial.trial, trial.seed, f] for f in self.folds[trial.study]]
        dev = [known(o.dev_uar) for o in outcomes]
        measured = {"dev_uar": sum(dev) / len(dev), "parameters": self._size(trial)}
        return tuple(measured[objective] for objective in objectives)

    def faults(self) -> dict[str, int]:
        """How often units were begun again, and how many failed or were pruned."""
        found = Counter(outcome.status for outcome in self.outcomes.values())
        retries = sum(t.retries for trials in self.trials.values() for t in list(trials.values()))
        return {"retries": retries, "failed": found["failed"], "pruned": found["pruned"]}

    def _size(self, trial: TrialRecord) -> float:
        keys = [(trial.study, trial.trial, trial.seed, f) for f in self.folds[trial.study]]
        sizes = [self.outcomes[key].size or 0 for key in keys if key in self.outcomes]
        return sum(sizes) / len(sizes) if sizes else 0.0

    def _count(self, trial: TrialRecord) -> None:
        known_so_far = self.trials[trial.study]
        before = known_so_far.get((trial.trial, trial.seed))
        if before is not None:
            self.statuses[before.status] -= 1
        self.statuses[trial.status] += 1
        known_so_far[trial.trial, trial.seed] = trial


def known(value: float | None) -> float:
    """The dev UAR of a unit that is complete."""
    if value is None:
        raise ValueError("a unit that ended well has no dev UAR")
    return value
