"""What the tables hold of a system so far: configurations and the outcomes of their units."""

from collections import Counter
from collections.abc import Sequence

from emodarts.errors import EmodartsError
from emodarts.records import TrialRecord
from emodarts.results.constraints import Constraint, keeps_to
from emodarts.results.encoding import trial_file
from emodarts.results.reader import Results
from emodarts.results.winners import rank_on_dev
from emodarts.results.writer import SweepWriter
from sweeps.units.outcomes import UnitId, UnitOutcome, unit_id, unit_ids


class TrialHistory:
    """`trials` by study, then by number and seed; `outcomes` by unit; `statuses` counts configurations."""

    def __init__(
        self,
        writer: SweepWriter,
        results: Results,
        system: str,
        folds: dict[str, tuple[int, ...]],
        constraints: Sequence[Constraint] = (),
        choose_by: str = "best_epoch",
        inner: int = 0,
    ):
        self.writer, self.folds, self.constraints, self.choose_by = writer, folds, constraints, choose_by
        self.inner = inner  # splits of each fold's train and dev parts on which the first seed is judged
        own = (commit for commit in results.commits if commit.key.system == system)
        self.outcomes = {unit_id(commit.key): UnitOutcome.of_commit(commit) for commit in own}
        configurations = {identity[:3] for identity in self.outcomes}
        self.trials: dict[str, dict[tuple[int, int], TrialRecord]] = {study: {} for study in folds}
        self.statuses: Counter[str] = Counter()
        for trial in results.trials():
            if trial.system == system and trial.study in folds:
                self._check_units(trial, configurations)
                self._count(trial)

    def _check_units(self, trial: TrialRecord, with_units: set[tuple[str, int, int]]) -> None:
        """Raise EmodartsError where a configuration is complete, and none of its units is there."""
        if trial.status == "complete" and (trial.study, trial.trial, trial.seed) not in with_units:
            name = trial_file(trial.system, trial.study, trial.trial, trial.seed)
            raise EmodartsError(
                f"sweep '{self.writer.sweep}': {name} says that trial {trial.trial} of {trial.system}, {trial.study}, "
                f"is complete, and its files in folds/ are gone: restore them, or delete {name} as well, and another "
                "trial takes its place"
            )

    def write(self, trial: TrialRecord) -> None:
        """Write a configuration's row; only then it counts."""
        before = self.trials[trial.study].get((trial.trial, trial.seed))
        if before is not None and before.status != "running":
            self.writer.discard_log()
        self.writer.write_trial(trial)
        self._count(trial)

    def study_has_ended(self, study: str) -> bool:
        """Whether no configuration of a study runs, further seeds of its winner aside."""
        return all(t.status != "running" for (_, seed), t in self.trials[study].items() if seed == 0)

    def winner(self, study: str) -> int | None:
        """The best complete configuration of a study by `rank_on_dev`."""
        return next(iter(self.ranked(study)), None)

    def ranked(self, study: str) -> list[int]:
        """The complete configurations of a study that keep to the constraints, the best first (`rank_on_dev`)."""
        complete = [t for (_, seed), t in self.trials[study].items() if seed == 0 and t.status == "complete"]
        complete = [t for t in complete if keeps_to(self.constraints, self.costs(t))]
        sizes = [self.costs(t)["parameters"] for t in complete]
        keys = ([t.values[0] for t in complete], sizes, [t.trial for t in complete])
        return [complete[position].trial for position in rank_on_dev(*keys)]

    def unit_ids(self, trial: TrialRecord) -> list[UnitId]:
        """The units that a configuration is judged by."""
        return unit_ids(trial, self.folds[trial.study], self.inner if trial.seed == 0 else 0)

    def final_ids(self, trial: TrialRecord) -> list[UnitId]:
        """The unit on the fold's own parts of what was judged on inner splits; none of others, which have run there."""
        return unit_ids(trial, self.folds[trial.study]) if self.inner and trial.seed == 0 else []

    def judged_by(self, outcome: UnitOutcome) -> float | None:
        """What `sweep.choose_by` names of a complete unit, and the dev UAR itself where it has no such figure (an SVM).

        None without a dev part.
        """
        return None if outcome.dev_uar is None else outcome.choices.get(self.choose_by, outcome.dev_uar)

    def objective_values(self, trial: TrialRecord, objectives: Sequence[str]) -> tuple[float, ...]:
        """The objectives of a configuration whose units are complete: means over these; none without dev parts."""
        outcomes = [self.outcomes[identity] for identity in self.unit_ids(trial)]
        dev_uars = [value for outcome in outcomes if (value := self.judged_by(outcome)) is not None]
        if len(dev_uars) < len(outcomes):
            return ()
        means = {"dev_uar": sum(dev_uars) / len(dev_uars), **self.costs(trial)}
        return tuple(means[objective] for objective in objectives)

    def costs(self, trial: TrialRecord) -> dict[str, float]:
        """Parameters and macs of a configuration's networks, means over the units that it is judged by."""
        ended = [self.outcomes[i] for i in self.unit_ids(trial) if i in self.outcomes]
        sums = {"parameters": sum(o.parameters or 0 for o in ended), "macs": sum(o.macs or 0 for o in ended)}
        return {name: total / max(1, len(ended)) for name, total in sums.items()}

    def _count(self, trial: TrialRecord) -> None:
        trials = self.trials[trial.study]
        before = trials.get((trial.trial, trial.seed))
        if before is not None:
            self.statuses[before.status] -= 1
        self.statuses[trial.status] += 1
        trials[trial.trial, trial.seed] = trial
