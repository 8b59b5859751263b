"""The studies of a system: what to run next, and what became of it. Rebuilt from the result tables at each start.

Under `study_per=fold` each outer fold has a study of its own whose objective is that fold's dev UAR; under
`study_per=sweep` one study runs each configuration on all folds. The optimiser is told dev figures only.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial

from emodarts.experiment.unit_spec import Rung
from emodarts.records import SHARED_STUDY, EpochRecord, RungRecord, TrialRecord, UnitKey, fold_study
from emodarts.results.reader import Results
from emodarts.results.writer import SweepWriter
from emodarts.seeds import derive_seed
from sweeps.settings import SweepSettings
from sweeps.study import importances
from sweeps.study.optuna_study import OptunaStudy
from sweeps.study.pruners import AshaRungs, best_dev_uar, wilcoxon_should_prune
from sweeps.study.search_space import SearchSpace
from sweeps.units.trial_history import known
from sweeps.units.unit import Unit, UnitOutcome, outcome_of
from sweeps.units.unit_queue import DRIVER, UnitQueue, now


class StudyQueue(UnitQueue):
    """Hands out the units of the configurations that Optuna proposes.

    `rungs`: where ASHA looks at units; `on_told` hears of each configuration that a study learns of.
    """

    def __init__(
        self,
        settings: SweepSettings,
        space: SearchSpace,
        default: dict[str, Any],
        folds: tuple[int, ...],
        writer: SweepWriter,
        results: Results | None,
        key_of: Callable[[Unit], UnitKey],
        rungs: tuple[Rung, ...] = (),
        system: str = "emodarts",
        clock: Callable[[], float] = time.time,
        on_told: Callable[[str, str, FrozenTrial], None] = lambda system, study, trial: None,
    ):
        by_study: dict[str, tuple[int, ...]] = (
            {fold_study(f): (f,) for f in folds} if settings.study_per == "fold" else {SHARED_STUDY: folds}
        )
        super().__init__(settings, by_study, writer, key_of, system, clock)
        self.space, self.rungs, self.on_told = space, rungs, on_told
        self.proposals = {study: OptunaStudy(study, settings, space, default) for study in self.folds}
        self.brackets = AshaRungs(settings)
        self.waves: dict[tuple[str, int], RungRecord] = {}  # the last decision between folds of a configuration
        if results is not None:
            self._adopt(results)

    def rung(self, unit: Unit, rung: int, epochs: tuple[EpochRecord, ...]) -> bool:
        """Whether a unit that has come to one of its rungs is to be pruned; `epochs`: all that it has behind it.

        The decision, and a pruned unit's commit, are written first. A rung that was decided stays so.
        """
        if unit.key in self.outcomes:
            return True
        pruned = self.brackets.decisions.get((unit.study, unit.trial, unit.fold, rung))
        if pruned is None:
            phase, share = unit.rungs[rung]
            value = best_dev_uar(phase, epochs)
            pruned = self.brackets.decide(unit.study, unit.trial, unit.fold, rung, value)
            where = (unit.study, unit.trial, unit.seed, unit.fold)
            self.writer.write_rung(RungRecord(self.system, *where, rung, phase, share, value, pruned, now()))
            if len(self.folds[unit.study]) == 1:
                self.proposals[unit.study].report(unit.trial, rung, value)
        if self.trials[unit.study][unit.trial, unit.seed].status == "pruned":
            pruned = True  # by another fold
        if pruned:
            phase, share = unit.rungs[rung]
            reason = f"pruned by asha at {share:g} of the epochs of {phase}"
            stands = self.writer.commit_ended(self.key_of(unit), "pruned", reason, epochs, DRIVER)
            self.end(unit, outcome_of(stands))
        return pruned

    @property
    def complete(self) -> bool:
        """Whether every trial and seed that the settings ask for has ended."""
        if self.statuses["running"]:
            return False
        return all(
            p.trial_count >= self.settings.trials and not self._missing_seeds(s) for s, p in self.proposals.items()
        )

    @property
    def _asked(self) -> int:
        """Pruned configurations may need fewer."""
        return sum(len(f) * (self.settings.trials + self.settings.seeds - 1) for f in self.folds.values())

    def _refill(self) -> None:
        self._propose()
        if not self.waiting:
            self._add_seeds()

    def _ended(self, unit: Unit, outcome: UnitOutcome) -> None:
        runs = self.trials[unit.study][unit.trial, unit.seed].status == "running"
        if runs and unit.seed == 0 and outcome.status == "complete" and len(self.folds[unit.study]) > 1:
            position = self.folds[unit.study].index(unit.fold)
            self.proposals[unit.study].report(unit.trial, position, known(outcome.dev_uar))
        self._go_on(unit.study, unit.trial, unit.seed)

    def _propose(self) -> None:
        """Ask the study with the fewest configurations for its next one."""
        wanting = [s for s, p in self.proposals.items() if p.trial_count < self.settings.trials]
        if not wanting:
            return
        study = min(wanting, key=lambda s: self.proposals[s].trial_count)
        number = self.proposals[study].trial_count
        self._begin(TrialRecord(self.system, study, number, 0, self.proposals[study].ask(), proposed_at=now()))

    def _missing_seeds(self, study: str) -> list[tuple[int, int]]:
        if self.settings.seeds == 1 or (winner := self.ledger.winner(study)) is None:
            return []
        return [(winner, seed) for seed in range(1, self.settings.seeds) if (winner, seed) not in self.trials[study]]

    def _add_seeds(self) -> None:
        """A study that has ended runs its winner again with further seeds."""
        for study, trials in self.trials.items():
            if self.proposals[study].trial_count < self.settings.trials or not self.ledger.ended(study):
                continue
            for winner, seed in self._missing_seeds(study):
                parameters = trials[winner, 0].parameters
                self._begin(TrialRecord(self.system, study, winner, seed, parameters, proposed_at=now()))

    def _begin(self, trial: TrialRecord) -> None:
        self.ledger.write(trial)
        self._enqueue(trial, self._wave(trial))

    def _wave(self, trial: TrialRecord) -> tuple[int, ...]:
        """The folds that a configuration may run by now: all, or those up to the next decision between folds."""
        folds = self.folds[trial.study]
        if self.settings.pruner != "wilcoxon" or trial.seed != 0:
            return folds
        size = self.settings.startup_folds
        decided = self.waves.get((trial.study, trial.trial))
        return folds[: size if decided is None else (decided.rung + 2) * size]

    def _go_on(self, study: str, number: int, seed: int) -> None:
        """After a unit's end: the next wave of folds, or the end of the configuration."""
        trial = self.trials[study][number, seed]
        if trial.status != "running":
            return
        folds = self._wave(trial)
        outcomes = [self.outcomes.get((study, number, seed, fold)) for fold in folds]
        pruned = next((o for o in outcomes if o is not None and o.status == "pruned"), None)
        if pruned is not None:
            self._close(trial, "pruned", pruned.reason)
            return
        ended = [o for o in outcomes if o is not None]
        if len(ended) < len(folds):
            return
        failed = next((o for o in ended if o.status == "failed"), None)
        if failed is not None:
            self._close(trial, "failed", failed.reason)
        elif len(folds) < len(self.folds[study]):
            self._decide_between_folds(trial, folds, [known(o.dev_uar) for o in ended])
        else:
            self._close(trial, "complete", None)

    def _decide_between_folds(self, trial: TrialRecord, folds: tuple[int, ...], values: list[float]) -> None:
        before = self.waves.get((trial.study, trial.trial))
        rung = 0 if before is None else before.rung + 1
        pruned = wilcoxon_should_prune(self.settings, self.proposals[trial.study].study, dict(enumerate(values)))
        share = len(folds) / len(self.folds[trial.study])
        where = (trial.study, trial.trial, trial.seed, None)
        record = RungRecord(self.system, *where, rung, "folds", share, sum(values) / len(values), pruned, now())
        self.writer.write_rung(record)
        self.waves[trial.study, trial.trial] = record
        if pruned:
            self._close(trial, "pruned", _worse(record))
        else:
            self._enqueue(trial, self._wave(trial))

    def _close(self, trial: TrialRecord, status: str, reason: str | None) -> None:
        """The end of a configuration: its row, what the study learns, and its importances when the study has ended."""
        self.waiting = deque(u for u in self.waiting if (u.study, u.trial, u.seed) != _named(trial))
        values: tuple[float, ...] = ()
        if status == "complete":
            values = self.ledger.values(trial, self.settings.objectives)
        trial = replace(trial, status=status, reason=reason, values=values, ended_at=now())
        self.ledger.write(trial)
        if trial.seed != 0:
            return
        proposals = self.proposals[trial.study]
        proposals.tell(trial)
        self.on_told(self.system, trial.study, proposals.trials[trial.trial])
        if proposals.trial_count >= self.settings.trials and self.ledger.ended(trial.study):
            seed = derive_seed(self.settings.seed, "importances", trial.study) % 2**31
            found = importances.fanova_importances(proposals.study, self.space, seed)
            self.writer.write_importances(self.system, trial.study, found)

    def _adopt(self, results: Results) -> None:
        """Take over what the tables hold of this sweep: outcomes, decisions, trials; running ones go on."""
        trials = self.ledger.adopt(results)
        steps: dict[tuple[str, int], dict[int, float]] = {}
        for rung in results.rungs():
            if rung.system != self.system or rung.study not in self.folds:
                continue
            if rung.fold is None:
                self.waves[rung.study, rung.trial] = rung
            else:
                self.brackets.restore(rung)
                if len(self.folds[rung.study]) == 1:
                    steps.setdefault((rung.study, rung.trial), {})[rung.rung] = rung.value
        for trial in trials:
            if trial.seed == 0:
                reached = steps.get((trial.study, trial.trial), {}) | self._by_fold(trial)
                self.proposals[trial.study].add_trial(trial, reached)
        for trial in trials:
            if trial.status == "running":
                self._take_up(trial)

    def _by_fold(self, trial: TrialRecord) -> dict[int, float]:
        folds = self.folds[trial.study]
        found = {i: self.outcomes.get((trial.study, trial.trial, 0, fold)) for i, fold in enumerate(folds)}
        return {i: o.dev_uar for i, o in found.items() if len(folds) > 1 and o is not None and o.dev_uar is not None}

    def _take_up(self, trial: TrialRecord) -> None:
        """Go on with a configuration that was running when the last driver ended."""
        decided = self.waves.get((trial.study, trial.trial))
        if decided is not None and decided.pruned and trial.seed == 0:
            self._close(trial, "pruned", _worse(decided))
            return
        self._go_on(*_named(trial))
        trial = self.trials[trial.study][trial.trial, trial.seed]
        if trial.status == "running" and self._enqueue(trial, self._wave(trial)):
            self.ledger.write(replace(trial, retries=trial.retries + 1))


def _named(trial: TrialRecord) -> tuple[str, int, int]:
    return trial.study, trial.trial, trial.seed


def _worse(record: RungRecord) -> str:
    return f"pruned by wilcoxon at {record.fraction:.2g} of the folds"
