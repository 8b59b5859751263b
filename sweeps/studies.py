"""The studies of a sweep: what to run next, and what became of it. Rebuilt from the result tables at each start.

Under `nesting=fold` each outer fold has a study of its own whose objective is that fold's dev UAR; under
`nesting=shared` one study runs each configuration on all folds. The optimiser is told dev figures only.
"""

import time
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import optuna

from emodarts.results.reader import Results
from emodarts.results.records import TrialRecord
from emodarts.results.writer import SweepWriter
from emodarts.seeds import derive_seed
from sweeps.settings import Distribution, SweepSettings


@dataclass(frozen=True)
class Unit:
    """One unit of work: a configuration with a seed on a fold."""

    study: str
    trial: int
    seed: int
    fold: int
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a unit ended: status {complete, failed}; dev UAR and parameters (numbers in the network) if complete."""

    status: str
    dev_uar: float | None = None
    size: int | None = None
    reason: str | None = None


class Studies:
    """Hands out units and takes their outcomes; every change is in the tables before it counts."""

    def __init__(
        self,
        settings: SweepSettings,
        space: dict[str, Distribution],
        default: dict[str, Any],
        folds: tuple[int, ...],
        writer: SweepWriter,
        known: Results | None,
        clock: Callable[[], float] = time.time,
        system: str = "emodarts",
    ):
        self.system = system
        self.settings, self.space, self.default, self.writer, self.clock = settings, space, default, writer, clock
        self.folds = {f"fold{f}": (f,) for f in folds} if settings.nesting == "fold" else {"shared": folds}
        self.trials: dict[str, dict[tuple[int, int], TrialRecord]] = {study: {} for study in self.folds}
        self.outcomes: dict[tuple[str, int, int, int], Outcome] = {}
        self.waiting: deque[Unit] = deque()
        self.running: set[tuple[str, int, int, int]] = set()
        self.optuna: dict[str, optuna.Study] = {}
        self.deadline = None if settings.hours is None else clock() + 3600 * settings.hours
        if known is not None:
            self._adopt(known)
        for study in self.folds:
            self.optuna[study] = self._rebuild(study)

    def next_unit(self) -> Unit | None:
        """The next unit to run; None: nothing for now (see `finished`)."""
        if self.is_over_time or self.has_failed:
            return None
        if not self.waiting:
            self._propose()
        if not self.waiting:
            self._add_seeds()
        if not self.waiting:
            return None
        unit = self.waiting.popleft()
        self.running.add(_unit_key(unit))
        return unit

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will be handed out any more."""
        if self.running:
            return False
        return self.is_over_time or self.has_failed or self.complete

    @property
    def complete(self) -> bool:
        """Whether every trial and seed that the settings ask for has ended."""
        done = all(t.status != "running" for trials in self.trials.values() for t in trials.values())
        return done and all(
            self._proposed(s) >= self.settings.trials and not self._missing_seeds(s) for s in self.folds
        )

    @property
    def is_over_time(self) -> bool:
        """Whether `sweep.hours` are over."""
        return self.deadline is not None and self.clock() > self.deadline

    @property
    def has_failed(self) -> bool:
        """Whether the sweep only fails (`sweep.max_failures`)."""
        failed = sum(t.status == "failed" for trials in self.trials.values() for t in trials.values())
        return failed >= self.settings.max_failures and self.none_complete

    @property
    def none_complete(self) -> bool:
        """Whether no configuration came to a result."""
        return not any(t.status == "complete" for trials in self.trials.values() for t in trials.values())

    def end(self, unit: Unit, outcome: Outcome) -> None:
        """Take a unit's outcome; with a configuration's last unit, write its row and tell the study."""
        key = _unit_key(unit)
        self.running.discard(key)
        if key in self.outcomes:
            return
        self.outcomes[key] = outcome
        self._close(unit.study, unit.trial, unit.seed)

    def give_back(self, unit: Unit) -> None:
        """A unit that was stopped before its end: it waits for the next start."""
        self.running.discard(_unit_key(unit))

    def winner(self, study: str) -> int | None:
        """The best complete configuration of a study: dev value, then fewer parameters, then lower number."""
        ended = [t for (_, seed), t in self.trials[study].items() if seed == 0 and t.status == "complete"]
        if not ended:
            return None
        return min(ended, key=lambda t: (-t.values[0], self._size(study, t.trial), t.trial)).trial

    def _size(self, study: str, trial: int) -> float:
        sizes = [
            self.outcomes[study, trial, 0, f].size or 0
            for f in self.folds[study]
            if (study, trial, 0, f) in self.outcomes
        ]
        return sum(sizes) / len(sizes) if sizes else 0.0

    def _proposed(self, study: str) -> int:
        return sum(seed == 0 for _, seed in self.trials[study])

    def _propose(self) -> None:
        """Ask the study with the fewest configurations for its next one."""
        open_studies = [s for s in self.folds if self._proposed(s) < self.settings.trials]
        if not open_studies:
            return
        study = min(open_studies, key=self._proposed)
        number = self._proposed(study)
        asked = self.optuna[study]
        asked.sampler = self._sampler(study, number)
        if number == 0:
            asked.enqueue_trial(self.default)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parameters = dict(asked.ask(self.space).params)
        self._begin(TrialRecord(self.system, study, number, 0, parameters, proposed_at=datetime.now(UTC)))

    def _missing_seeds(self, study: str) -> list[tuple[int, int]]:
        winner = self.winner(study)
        if winner is None:
            return []
        return [(winner, seed) for seed in range(1, self.settings.seeds) if (winner, seed) not in self.trials[study]]

    def _add_seeds(self) -> None:
        """A study that has ended runs its winner again with further seeds."""
        for study, trials in self.trials.items():
            ended = all(t.status != "running" for (_, seed), t in trials.items() if seed == 0)
            if not ended or self._proposed(study) < self.settings.trials:
                continue
            for winner, seed in self._missing_seeds(study):
                parameters = trials[winner, 0].parameters
                self._begin(TrialRecord(self.system, study, winner, seed, parameters, proposed_at=datetime.now(UTC)))

    def _begin(self, trial: TrialRecord) -> None:
        self.writer.write_trial(trial)
        self.trials[trial.study][trial.trial, trial.seed] = trial
        self._enqueue(trial)

    def _enqueue(self, trial: TrialRecord) -> int:
        missing = [f for f in self.folds[trial.study] if (trial.study, trial.trial, trial.seed, f) not in self.outcomes]
        self.waiting.extend(Unit(trial.study, trial.trial, trial.seed, f, trial.parameters) for f in missing)
        return len(missing)

    def _close(self, study: str, number: int, seed: int) -> None:
        """Once all units of a configuration have ended: its row, and the study's knowledge of it."""
        trial = self.trials[study][number, seed]
        keys = [(study, number, seed, fold) for fold in self.folds[study]]
        if trial.status != "running" or any(key not in self.outcomes for key in keys):
            return
        outcomes = [self.outcomes[key] for key in keys]
        failed = next((o for o in outcomes if o.status != "complete"), None)
        values = [o.dev_uar for o in outcomes if o.dev_uar is not None]
        trial = replace(
            trial,
            status="failed" if failed else "complete",
            reason=failed.reason if failed else None,
            values=() if failed else (sum(values) / len(values),),
            ended_at=datetime.now(UTC),
        )
        self.writer.write_trial(trial)
        self.trials[study][number, seed] = trial
        if seed == 0 and study in self.optuna:
            state = optuna.trial.TrialState.FAIL if failed else optuna.trial.TrialState.COMPLETE
            self.optuna[study].tell(number, None if failed else trial.values[0], state=state)

    def _sampler(self, study: str, number: int) -> optuna.samplers.BaseSampler:
        # A sampler a proposal, seeded by names: a restart draws what an undisturbed run would have drawn.
        seed = derive_seed(self.settings.seed, "sampler", study, number) % 2**31
        if self.settings.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # multivariate, group and constant_liar are called experimental
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)

    def _adopt(self, known: Results) -> None:
        """Take over what the tables hold of this sweep: outcomes of units, then trials, running ones to go on."""
        dev = {
            (r["study"], r["trial"], r["seed"], r["fold"]): r
            for r in known.table("folds").to_pylist()
            if r["role"] == "dev" and r["stage"] == "final"
        }
        for commit in known.commits:
            key = (commit.key.study, commit.key.trial, commit.key.seed, commit.key.fold)
            row = dev.get(key)
            self.outcomes[key] = (
                Outcome("complete", row["uar"], row["parameters"])
                if row
                else Outcome(commit.status, reason=commit.reason)
            )
        for trial in known.trials():
            if trial.study in self.folds:
                self.trials[trial.study][trial.trial, trial.seed] = trial
        for study, trials in self.trials.items():
            for (number, seed), trial in sorted(trials.items()):
                if trial.status == "running":
                    if self._enqueue(trial):
                        trials[number, seed] = replace(trial, retries=trial.retries + 1)
                        self.writer.write_trial(trials[number, seed])
                    else:
                        self._close(study, number, seed)

    def _rebuild(self, name: str) -> optuna.Study:
        study = optuna.create_study(study_name=name, direction="maximize")
        states = {
            "running": optuna.trial.TrialState.RUNNING,
            "complete": optuna.trial.TrialState.COMPLETE,
            "pruned": optuna.trial.TrialState.PRUNED,
            "failed": optuna.trial.TrialState.FAIL,
        }
        for (_, seed), trial in sorted(self.trials[name].items()):
            if seed == 0:
                study.add_trial(
                    optuna.trial.create_trial(
                        state=states[trial.status],
                        params=trial.parameters,
                        distributions=self.space,
                        value=trial.values[0] if trial.status == "complete" else None,
                    )
                )
        return study


def _unit_key(unit: Unit) -> tuple[str, int, int, int]:
    return unit.study, unit.trial, unit.seed, unit.fold
