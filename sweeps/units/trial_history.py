"""What the tables hold of a system so far: configurations and the outcomes of their units."""

from collections import Counter
from collections.abc import Sequence

from emodarts.records import TrialRecord
from emodarts.results.reader import Results
from emodarts.results.winners import rank_on_dev
from emodarts.results.writer import SweepWriter
from sweeps.units.outcomes import UnitOutcome, unit_id, unit_ids


class TrialHistory:
    """`trials` by study, then by number and seed; `outcomes` by unit; `statuses` counts configurations."""

    def __init__(self, writer: SweepWriter, results: Results, system: str, folds: dict[str, tuple[int, ...]]):
        self.writer, self.folds = writer, folds
        own = (commit for commit in results.commits if commit.key.system == system)
        self.outcomes = {unit_id(commit.key): UnitOutcome.of_commit(commit) for commit in own}
        self.trials: dict[str, dict[tuple[int, int], TrialRecord]] = {study: {} for study in folds}
        self.statuses: Counter[str] = Counter()
        for trial in results.trials():
            if trial.system == system and trial.study in folds:
                self._count(trial)

    def write(self, trial: TrialRecord) -> None:
        """Write a configuration's row; only then it counts."""
        self.writer.write_trial(trial)
        self._count(trial)

    def study_has_ended(self, study: str) -> bool:
        """Whether no configuration of a study runs, further seeds of its winner aside."""
        return all(t.status != "running" for (_, seed), t in self.trials[study].items() if seed == 0)

    def winner(self, study: str) -> int | None:
        """The best complete configuration of a study by `rank_on_dev`."""
        return next(iter(self.ranked(study)), None)

    def ranked(self, study: str) -> list[int]:
        """The complete configurations of a study, the best first (`rank_on_dev`)."""
        complete = [t for (_, seed), t in self.trials[study].items() if seed == 0 and t.status == "complete"]
        keys = ([t.values[0] for t in complete], [self._parameters(t) for t in complete], [t.trial for t in complete])
        return [complete[position].trial for position in rank_on_dev(*keys)]

    def objective_values(self, trial: TrialRecord, objectives: Sequence[str]) -> tuple[float, ...]:
        """The objectives of a configuration whose units are complete: means over its folds; none without dev parts."""
        outcomes = [self.outcomes[identity] for identity in unit_ids(trial, self.folds[trial.study])]
        dev_uars = [outcome.dev_uar for outcome in outcomes if outcome.dev_uar is not None]
        if len(dev_uars) < len(outcomes):
            return ()
        means = {"dev_uar": sum(dev_uars) / len(dev_uars), "parameters": self._parameters(trial)}
        return tuple(means[objective] for objective in objectives)

    def _parameters(self, trial: TrialRecord) -> float:
        """Parameters of a configuration's networks, the mean over its folds."""
        ended = [i for i in unit_ids(trial, self.folds[trial.study]) if i in self.outcomes]
        return sum(self.outcomes[i].parameters or 0 for i in ended) / len(ended) if ended else 0.0

    def _count(self, trial: TrialRecord) -> None:
        trials = self.trials[trial.study]
        before = trials.get((trial.trial, trial.seed))
        if before is not None:
            self.statuses[before.status] -= 1
        self.statuses[trial.status] += 1
        trials[trial.trial, trial.seed] = trial
