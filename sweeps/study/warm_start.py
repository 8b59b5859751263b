"""`sweep.warm_start`: what finished studies of other sweeps measured, as prior trials of this sweep's studies.

Corpora, folds and dev parts differ in level, so a value enters as its distance from the mean of its study. A study
whose train or dev speakers test in a fold teaches nothing there: its proposals would know the test speakers.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from emodarts.errors import EmodartsError
from emodarts.records import SHARED_STUDY, TrialRecord
from emodarts.results import reader
from emodarts.results.reader import Results, SweepTables
from emodarts.results.winners import network_costs
from sweeps.study.search_space import SearchSpace


@dataclass(frozen=True)
class PriorTrial:
    """A configuration of another study: its dev UAR less the mean of that study, and what its network costs."""

    source: str  # sweep/system/study/trial
    parameters: dict[str, Any]
    value: float
    costs: dict[str, float]


@dataclass(frozen=True)
class PriorStudy:
    """A study of another sweep. `speakers`: those of its train and dev parts; None: not known.

    `refusal` says why it cannot be taken anywhere, if so.
    """

    sweep: str
    system: str
    study: str
    corpora: frozenset[str]
    speakers: frozenset[str] | None
    trials: tuple[PriorTrial, ...]
    refusal: str | None = None

    @property
    def name(self) -> str:
        """`sweep/system/study`."""
        return f"{self.sweep}/{self.system}/{self.study}"

    def leak(self, test_corpora: Collection[str], test_speakers: Collection[str]) -> str | None:
        """Why it knows too much for a study whose networks are tested on these speakers; None: it does not."""
        shared = sorted(self.corpora & {*test_corpora})
        if not shared:
            return None
        if self.speakers is None:
            return f"which speakers of {', '.join(shared)} it saw is not known"
        seen = sorted(self.speakers & {*test_speakers})
        return (
            f"its train or dev speakers test here: {', '.join(seen[:4])}{', ...' * (len(seen) > 4)}" if seen else None
        )


@dataclass(frozen=True)
class WarmStart:
    """The studies that `sweep.warm_start` names, and what each of this sweep's studies is tested on."""

    studies: tuple[PriorStudy, ...]
    tested: Mapping[str, tuple[frozenset[str], frozenset[str]]]  # by study: corpora, speakers

    def prior_trials(self, space: SearchSpace, system: str, study: str) -> tuple[PriorTrial, ...]:
        """The prior trials of a study: those of the space's dimensions, the best first."""
        usable = [s for s in self.studies if s.system == system and self._refusal(s, study) is None]
        trials = [trial for s in usable for trial in s.trials if space.accepts(trial.parameters)]
        return tuple(sorted(trials, key=lambda trial: (-trial.value, trial.source)))

    def describe(self, spaces: Mapping[str, SearchSpace]) -> list[str]:
        """What each study takes, and what is left out and why, a line each. Raises EmodartsError for nothing at all."""
        taken, left_out = [], []
        for system, space in spaces.items():
            for study in self.tested:
                trials = self.prior_trials(space, system, study)
                sources = sorted({trial.source.rpartition("/")[0] for trial in trials})
                if sources:
                    taken.append(f"{system}, {study}: {len(trials)} prior trials of {', '.join(sources)}")
                for prior in (s for s in self.studies if s.system == system and s.name not in sources):
                    reason = self._refusal(prior, study) or "its trials have other dimensions, or lie out of bounds"
                    left_out.append(f"{system}, {study}: {prior.name} is left out: {reason}")
        if not taken:
            systems = ", ".join(spaces)
            reasons = "; ".join(dict.fromkeys(left_out)) or f"they have no study of {systems}"
            raise EmodartsError(f"sweep.warm_start: nothing of the sweeps can be taken: {reasons}")
        return [*taken, *left_out]

    def digest(self) -> str:
        """A hash of all that was measured: proposals follow from it."""
        content = [(trial.source, trial.parameters, trial.value) for s in self.studies for trial in s.trials]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def _refusal(self, prior: PriorStudy, study: str) -> str | None:
        return prior.refusal or prior.leak(*self.tested[study])


def read_prior_studies(locations: Iterable[str], choose_by: str) -> tuple[PriorStudy, ...]:
    """The studies of the sweeps at paths or URIs, by name, for studies of this `sweep.choose_by`.

    Raises EmodartsError where there is no sweep.
    """
    sweeps = {sweep.path: sweep for location in locations for sweep in reader.open(location).parts}
    studies = [study for sweep in sweeps.values() for study in _read_studies(sweep, choose_by)]
    return tuple(sorted(studies, key=lambda study: study.name))


def _read_studies(sweep: SweepTables, choose_by: str) -> Iterable[PriorStudy]:
    results = Results([sweep])
    by_study: dict[tuple[str, str], list[TrialRecord]] = {}
    for trial in results.trials():
        if trial.seed == 0:
            by_study.setdefault((trial.system, trial.study), []).append(trial)
    keys = {(commit.key.system, commit.key.study): commit.key for commit in results.commits}
    folds: dict[tuple[str, str], set[int]] = {}
    for commit in results.commits:
        folds.setdefault((commit.key.system, commit.key.study), set()).add(commit.key.fold)
    costs = _read_costs(sweep)
    for (system, study), trials in sorted(by_study.items()):
        if (system, study) not in keys:
            continue
        corpora = frozenset(keys[system, study].train_corpora)
        speakers = _read_speakers(results, corpora, folds[system, study] if study != SHARED_STUDY else None)
        name = f"{sweep.name}/{system}/{study}"
        measured = [trial for trial in trials if trial.status == "complete" and trial.values]
        mean = float(np.mean([trial.values[0] for trial in measured])) if measured else 0.0
        prior = tuple(
            PriorTrial(f"{name}/{t.trial}", t.parameters, t.values[0] - mean, costs[system, study, t.trial])
            for t in measured
        )
        refusal = _refuse(sweep, trials, measured, choose_by)
        yield PriorStudy(sweep.name, system, study, corpora, speakers, prior, refusal)


def _refuse(sweep: SweepTables, trials: list[TrialRecord], measured: list[TrialRecord], choose_by: str) -> str | None:
    if (judged_by := sweep.settings.get("sweep.choose_by", choose_by)) != choose_by:
        return f"its trials are judged by sweep.choose_by={judged_by}, these by {choose_by}"
    if any(trial.status == "running" for trial in trials):
        return "it has not ended"
    if sweep.settings.get("sweep.warm_start"):
        return "it had a warm start itself, and whose speakers stand behind that is not known"
    return None if measured else "nothing was measured on a dev part"


def _read_costs(sweep: SweepTables) -> dict[tuple[str, str, int], dict[str, float]]:
    return {
        (row["system"], row["study"], row["trial"]): {"parameters": row["size"] or 0.0, "macs": row["macs"] or 0.0}
        for row in network_costs(sweep).to_pylist()
    }


def _read_speakers(results: Results, corpora: Collection[str], folds: set[int] | None) -> frozenset[str] | None:
    """The speakers of train and dev of some folds (None: of all), by the audits in the tables; None: not known."""
    audits = {row["corpus"]: row["audit"] for row in results.table("corpora", ["corpus", "audit"]).to_pylist()}
    speakers: set[str] = set()
    for corpus in corpora:
        audited = json.loads(audits.get(corpus) or "{}").get("protocol", {}).get("folds")
        if not audited:
            return None
        # Where corpora are joined, fold i has fold i mod k of each.
        numbers = range(len(audited)) if folds is None else {fold % len(audited) for fold in folds}
        for part in (part for number in numbers for part in audited[number]["parts"]):
            if part["role"] in ("train", "dev"):
                speakers.update(part["speakers"])
    return frozenset(speakers)
