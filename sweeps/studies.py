"""The studies of a system: what to run next, and what became of it. Rebuilt from the result tables at each start.

Under `nesting=fold` each outer fold has a study of its own whose objective is that fold's dev UAR; under
`nesting=shared` one study runs each configuration on all folds. The optimiser is told dev figures only.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from optuna.trial import FrozenTrial

from emodarts.results.reader import Results
from emodarts.results.records import EpochRecord, RungRecord, TrialRecord, UnitKey
from emodarts.results.writer import SweepWriter
from emodarts.seeds import derive_seed
from sweeps import importances
from sweeps.ledger import Ledger, known
from sweeps.proposals import Proposals
from sweeps.pruning import Brackets, Rung, is_worse, value_at
from sweeps.settings import SweepSettings
from sweeps.space import Space
from sweeps.units import Outcome, Unit, outcome_of

DRIVER = "driver"  # the attempt of what the driver commits in a unit's place


class Studies:
    """Hands out units and takes their outcomes; every change is in the tables before it counts.

    `key_of` gives the row key of a unit, `rungs` where ASHA looks at units; `on_told` hears of each configuration that
    a study learns of.
    """

    def __init__(
        self,
        settings: SweepSettings,
        space: Space,
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
        self.settings, self.space, self.writer, self.clock = settings, space, writer, clock
        self.key_of, self.rungs, self.system, self.on_told = key_of, rungs, system, on_told
        self.folds: dict[str, tuple[int, ...]] = (
            {f"fold{f}": (f,) for f in folds} if settings.nesting == "fold" else {"shared": folds}
        )
        self.ledger = Ledger(writer, system, self.folds)
        self.trials, self.outcomes, self.statuses = self.ledger.trials, self.ledger.outcomes, self.ledger.statuses
        self.waiting: deque[Unit] = deque()
        self.running: dict[tuple[str, int, int, int], Unit] = {}
        self.proposals = {study: Proposals(study, settings, space, default) for study in self.folds}
        self.brackets = Brackets(settings)
        self.waves: dict[tuple[str, int], RungRecord] = {}  # the last decision between folds of a configuration
        self.deadline = None if settings.hours is None else clock() + 3600 * settings.hours
        self.stopped: str | None = None
        if results is not None:
            self._adopt(results)

    def next_unit(self) -> Unit | None:
        """The next unit to run; None: nothing for now (see `finished`)."""
        if self.stopped or self.is_over_time or self.has_failed:
            return None
        if not self.waiting:
            self._propose()
        if not self.waiting:
            self._add_seeds()
        if not self.waiting:
            return None
        unit = self.waiting.popleft()
        self.running[unit.key] = unit
        return unit

    def end(self, unit: Unit, outcome: Outcome) -> None:
        """Take a unit's outcome; with a configuration's last unit, write its row and tell the study."""
        self.running.pop(unit.key, None)
        if unit.key in self.outcomes:
            return
        self.outcomes[unit.key] = outcome
        runs = self.trials[unit.study][unit.trial, unit.seed].status == "running"
        if runs and unit.seed == 0 and outcome.status == "complete" and len(self.folds[unit.study]) > 1:
            position = self.folds[unit.study].index(unit.fold)
            self.proposals[unit.study].report(unit.trial, position, known(outcome.dev_uar))
        self._go_on(unit.study, unit.trial, unit.seed)

    def give_back(self, unit: Unit) -> None:
        """A unit that was stopped before its end: it waits for the next start."""
        self.running.pop(unit.key, None)

    def restarted(self, unit: Unit) -> None:
        """A unit's worker died, and it is begun again from its last checkpoint."""
        trial = self.trials[unit.study][unit.trial, unit.seed]
        self.ledger.write(replace(trial, retries=trial.retries + 1))

    def died(self, unit: Unit, reason: str) -> None:
        """A unit's workers died for good: it is committed as failed, unless one of them had finished it."""
        stands = self.writer.commit_ended(self.key_of(unit), "failed", reason, (), DRIVER)
        self.end(unit, outcome_of(stands))

    def stop(self, reason: str) -> None:
        """End the sweep without an outcome for what runs: the next start takes it up. The first reason is kept."""
        self.stopped = self.stopped or reason

    def rung(self, unit: Unit, rung: int, epochs: tuple[EpochRecord, ...]) -> bool:
        """Whether a unit that has come to one of its rungs is to be pruned; `epochs`: all that it has behind it.

        The decision, and a pruned unit's commit, are written first. A rung that was decided stays so.
        """
        if unit.key in self.outcomes:
            return True
        pruned = self.brackets.decision(unit.study, unit.trial, unit.fold, rung)
        if pruned is None:
            phase, share = unit.rungs[rung]
            value = value_at(phase, epochs)
            pruned = self.brackets.decide(unit.study, unit.trial, unit.fold, rung, value)
            where = (unit.study, unit.trial, unit.seed, unit.fold)
            self.writer.write_rung(RungRecord(self.system, *where, rung, phase, share, value, pruned, _now()))
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
    def finished(self) -> bool:
        """Whether nothing runs and nothing will be handed out any more."""
        if self.running:
            return False
        return bool(self.stopped) or self.is_over_time or self.has_failed or self.complete

    @property
    def complete(self) -> bool:
        """Whether every trial and seed that the settings ask for has ended."""
        if self.statuses["running"]:
            return False
        return all(p.count >= self.settings.trials and not self._missing_seeds(s) for s, p in self.proposals.items())

    @property
    def is_over_time(self) -> bool:
        """Whether `sweep.hours` are over."""
        return self.deadline is not None and self.clock() > self.deadline

    @property
    def has_failed(self) -> bool:
        """Whether the sweep only fails (`sweep.max_failures`)."""
        return self.statuses["failed"] >= self.settings.max_failures and self.none_complete

    @property
    def none_complete(self) -> bool:
        """Whether no configuration came to a result."""
        return not self.statuses["complete"]

    @property
    def units_ended(self) -> int:
        """How many units have ended, over all starts."""
        return len(self.outcomes)

    @property
    def units_total(self) -> int:
        """How many units the settings ask for, or that there are already; pruned configurations may need fewer."""
        asked = sum(len(f) * (self.settings.trials + self.settings.seeds - 1) for f in self.folds.values())
        return max(asked, len(self.outcomes) + len(self.running) + len(self.waiting))

    def _propose(self) -> None:
        """Ask the study with the fewest configurations for its next one."""
        wanting = [s for s, p in self.proposals.items() if p.count < self.settings.trials]
        if not wanting:
            return
        study = min(wanting, key=lambda s: self.proposals[s].count)
        number = self.proposals[study].count
        self._begin(TrialRecord(self.system, study, number, 0, self.proposals[study].ask(), proposed_at=_now()))

    def _missing_seeds(self, study: str) -> list[tuple[int, int]]:
        if self.settings.seeds == 1 or (winner := self.ledger.winner(study)) is None:
            return []
        return [(winner, seed) for seed in range(1, self.settings.seeds) if (winner, seed) not in self.trials[study]]

    def _add_seeds(self) -> None:
        """A study that has ended runs its winner again with further seeds."""
        for study, trials in self.trials.items():
            if self.proposals[study].count < self.settings.trials or not self.ledger.ended(study):
                continue
            for winner, seed in self._missing_seeds(study):
                parameters = trials[winner, 0].parameters
                self._begin(TrialRecord(self.system, study, winner, seed, parameters, proposed_at=_now()))

    def _begin(self, trial: TrialRecord) -> None:
        self.ledger.write(trial)
        self._enqueue(trial, self._wave(trial))

    def _wave(self, trial: TrialRecord) -> tuple[int, ...]:
        """The folds that a configuration may run by now: all, or those up to the next decision between folds."""
        folds = self.folds[trial.study]
        if self.settings.pruner != "wilcoxon" or trial.seed != 0:
            return folds
        size = self.settings.first_folds
        decided = self.waves.get((trial.study, trial.trial))
        return folds[: size if decided is None else (decided.rung + 2) * size]

    def _enqueue(self, trial: TrialRecord, folds: tuple[int, ...]) -> int:
        there = {unit.key for unit in self.waiting} | self.running.keys() | self.outcomes.keys()
        rungs = self.rungs if trial.seed == 0 else ()
        units = [Unit(self.system, trial.study, trial.trial, trial.seed, f, trial.parameters, rungs) for f in folds]
        missing = [unit for unit in units if unit.key not in there]
        self.waiting.extend(missing)
        return len(missing)

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
        pruned = is_worse(self.settings, self.proposals[trial.study].study, dict(enumerate(values)))
        share = len(folds) / len(self.folds[trial.study])
        where = (trial.study, trial.trial, trial.seed, None)
        record = RungRecord(self.system, *where, rung, "folds", share, sum(values) / len(values), pruned, _now())
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
        trial = replace(trial, status=status, reason=reason, values=values, ended_at=_now())
        self.ledger.write(trial)
        if trial.seed != 0:
            return
        proposals = self.proposals[trial.study]
        proposals.tell(trial)
        self.on_told(self.system, trial.study, proposals.study.get_trials(deepcopy=False)[trial.trial])
        if proposals.count >= self.settings.trials and self.ledger.ended(trial.study):
            seed = derive_seed(self.settings.seed, "importances", trial.study) % 2**31
            found = importances.of(proposals.study, self.space, seed)
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
                self.proposals[trial.study].add(trial, reached)
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
    return f"pruned by wilcoxon at {record.share:.2g} of the folds"


def _now() -> datetime:
    return datetime.now(UTC)
