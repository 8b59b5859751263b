"""Genotype transfer: the winners that a sweep found on one corpus are trained and tested on another, without a search.

Fold i takes the winner of fold i mod k of the source, chosen there on dev alone, with the settings that it was found
with. On the source's own corpus it takes that of the same fold alone: any other was chosen on its test speakers.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath
from typing import Any

from emodarts.corpora.protocols.folds import Fold
from emodarts.corpora.remote import is_remote, without_secrets
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import SEARCHED, FoldSettings
from emodarts.experiment.unit_spec import TransferredGenotype, settings_from_json
from emodarts.features.settings import FeatureSettings
from emodarts.networks.genotype import Genotype
from emodarts.results import reader
from emodarts.results.commits import Commit
from emodarts.results.reader import Results, SweepTables
from emodarts.results.sweep_file import settings_of
from emodarts.results.winners import winners
from emodarts.storage import Storage
from sweeps.execution.worker import TransferredUnit
from sweeps.settings import Settings, SweepSettings

_FROM = "genotypes_from"
_TAKEN = ("features", "batches", "search", "training")  # rooms whose settings are the source's
_OPEN = ("corpus", "protocol", "extra_tests", "roots", "results", "resources", "ray", "hydra", _FROM, f"{_FROM}_system")
_OPEN_OF_SWEEP = ("name", "folds", "seeds", "seed", "time_budget_hours", "max_failures")


@dataclass(frozen=True)
class SourceSweep:
    """A sweep that searched: its winner on each fold that has one, the hashes of these folds, and `folds`, how many
    its protocol has. `settings` are those it was begun with, by dotted name.
    """

    sweep: str
    system: str
    corpora: tuple[str, ...]
    protocol: str
    folds: int
    settings: Mapping[str, Any]
    winners: Mapping[int, TransferredUnit]
    hashes: Mapping[int, str]

    @classmethod
    def open(cls, location: str, system: str) -> "SourceSweep":
        """The sweep at a path or URI: its own folder, or results that hold it alone.

        Raises EmodartsError for several sweeps, one that has not ended, and one whose winners cannot be taken.
        """
        results = reader.open(location)
        if len(results.sweeps) > 1:
            shown = without_secrets(location) if is_remote(location) else location
            raise EmodartsError(
                f"{_FROM}={shown} holds several sweeps: name the folder of one of them: {', '.join(results.sweeps)}"
            )
        (sweep,) = results.parts
        settings = settings_of(sweep.storage, sweep.name)
        _refuse_source(sweep.name, settings)
        chosen = _chosen(results, system)
        commits = [c for c in results.commits if c.status == "complete" and _is_of(c, system, chosen)]
        key = commits[0].key
        return cls(
            sweep.name,
            system,
            key.train_corpora,
            key.protocol,
            _count_folds(results, key.protocol),
            settings,
            {commit.key.fold: _winner(sweep, commit) for commit in commits},
            {commit.key.fold: commit.key.fold_hash for commit in commits},
        )

    def resolve(self, settings: Settings, given: Sequence[str]) -> Settings:
        """The settings with what the source rules, and the sweep's name; `given` is what the command line said.

        Raises EmodartsError for what was said and would be ignored.
        """
        self._refuse_given(settings, given)
        theirs = next(iter(self.winners.values())).settings
        own = replace(
            settings,
            features=_with_own_file(theirs.features, settings.features),
            batches=replace(theirs.batches, device_memory_fraction=settings.batches.device_memory_fraction),
        )
        return replace(own, sweep=replace(own.sweep, name=own.sweep_name_of(self.hashed(own))))

    def hashed(self, settings: Settings) -> dict[str, Any]:
        """What changes a unit's result, by dotted name: data, source and winners."""
        kept = {
            name: value
            for name, value in settings.hashed_settings().items()
            if name.partition(".")[0] in ("corpus", "features", "batches", "extra_tests") or name == "sweep.seed"
        }
        taken = {f"{_FROM}.fold{fold}": _told(self.winners.get(fold)) for fold in range(self.folds)}
        return {**kept, f"{_FROM}.sweep": self.sweep, f"{_FROM}.system": self.system, **taken}

    def assign(self, folds: Mapping[int, Fold], settings: Settings) -> dict[int, TransferredUnit]:
        """What each fold takes, with what `resolve` made of the settings.

        Raises EmodartsError where a fold would be tested on speakers that chose its genotype, or has nothing to take.
        """
        seen = sorted(set(settings.extra_tests) & set(self.corpora))
        if seen:
            raise EmodartsError(
                f"extra_tests={seen[0]}: the genotypes of sweep '{self.sweep}' were chosen on its speakers, so that "
                "they are no test"
            )
        corpora = tuple(about.name for about in settings.training_corpora)
        taken = {index: self._taken(fold, corpora) for index, fold in folds.items()}
        own: Any = {
            "features": settings.features,
            "batches": settings.batches,
        }  # the same, but for what is this machine's
        return {index: replace(w, settings=replace(w.settings, **own)) for index, w in taken.items()}

    def _taken(self, fold: Fold, corpora: tuple[str, ...]) -> TransferredUnit:
        own = sorted({*corpora} & {*self.corpora})
        is_own = bool(own)
        wanted = fold.index if is_own else fold.index % self.folds
        if wanted not in self.winners:
            have = ", ".join(map(str, sorted(self.winners)))
            raise EmodartsError(
                f"fold {fold.index} of {fold.protocol} takes the winner of fold {wanted} of {self.protocol}, and sweep "
                f"'{self.sweep}' has winners of fold {have} alone: let it run that fold, or set sweep.folds"
            )
        there = (self.protocol, self.hashes[wanted])
        if is_own and there != (fold.protocol, fold.hash):
            raise EmodartsError(
                f"fold {fold.index}: sweep '{self.sweep}' searched on {', '.join(own)}, by {there[0]} ({there[1]}), "
                f"and this is {fold.protocol} ({fold.hash}): its genotypes may have been chosen on speakers that test "
                "here; on its own corpus a winner is taken by the same fold alone, so set the protocol and the "
                "settings of the corpus as they were"
            )
        return self.winners[wanted]

    def _refuse_given(self, settings: Settings, given: Sequence[str]) -> None:
        """Refuse what was said on the command line and would not be heard."""
        mine = json.loads(json.dumps(settings.hashed_settings()))
        plain = asdict(SweepSettings())
        for said in given:
            name = said.lstrip("+~").partition("=")[0].partition("@")[0]
            room, _, rest = name.partition(".")
            if room in _TAKEN:
                self._refuse_other(name, mine)
            elif room == "sweep":
                if not rest:
                    raise EmodartsError(f"{said}: {_FROM} runs one configuration a fold, by the source's settings")
                setting = rest.partition(".")[0]
                if setting not in _OPEN_OF_SWEEP and getattr(settings.sweep, setting, None) != plain[setting]:
                    raise EmodartsError(f"{said}: {_FROM} runs one configuration a fold, and asks nobody for others")
            elif room == "system" and settings.system not in (SEARCHED, self.system):
                raise EmodartsError(f"{said}: with {_FROM} the system is the source's: set {_FROM}_system")
            elif room not in (*_OPEN, "system"):
                raise EmodartsError(f"{said} has no meaning with {_FROM}: leave it out")

    def _refuse_other(self, name: str, mine: Mapping[str, Any]) -> None:
        said = [key for key in mine if key == name or key.startswith(f"{name}.")]
        differing = [key for key in said if mine.get(key) != self.settings.get(key)]
        if differing:
            told = "; ".join(f"{key} was {self.settings.get(key)}, now {mine.get(key)}" for key in differing[:8])
            raise EmodartsError(
                f"{_FROM}: the settings of sweep '{self.sweep}' rule, and others were given: {told}; leave them out, "
                "or search with them"
            )


def refuse_changed(storage: Storage, sweep: str, hashed: Mapping[str, Any]) -> None:
    """Raise EmodartsError where these results hold the same transfer with other winners: those of the source changed.

    A sweep's default name has its winners in it, so that it would silently begin anew.
    """
    mine = json.loads(json.dumps(hashed))
    for other in storage.list(""):
        if other == sweep or not storage.exists(f"{other}/sweep.json"):
            continue
        theirs = settings_of(storage, other)
        differing = [key for key in mine if mine[key] != theirs.get(key)]
        if differing and all(key.startswith(f"{_FROM}.fold") for key in differing):
            told = "; ".join(f"{key.rpartition('.')[2]}: {theirs.get(key)}, now {mine[key]}" for key in differing[:8])
            raise EmodartsError(
                f"sweep '{mine[f'{_FROM}.sweep']}' has changed its winners since sweep '{other}' took them ({told}): "
                "set sweep.name to begin another sweep with the present ones, or take the old state of the source back"
            )


def _refuse_source(sweep: str, settings: Mapping[str, Any]) -> None:
    if settings.get("sweep.study_per") == "sweep":
        raise EmodartsError(
            f"{_FROM}: sweep '{sweep}' has sweep.study_per=sweep: its one winner was chosen on the speakers of all its "
            "folds; search with sweep.study_per=fold"
        )
    if settings.get(f"{_FROM}.sweep"):
        raise EmodartsError(
            f"{_FROM}: sweep '{sweep}' has its genotypes from sweep '{settings[f'{_FROM}.sweep']}': give that one"
        )


def _chosen(results: Results, system: str) -> dict[str, int]:
    """Study -> its winner, of a system. Raises EmodartsError where there is none, or configurations still run."""
    where, trials = f"{_FROM}: sweep '{results.sweeps[0]}'", results.trials()
    searched = sorted({t.system for t in trials if t.system.partition(":")[0] == SEARCHED})
    if system not in searched:
        raise EmodartsError(
            f"{where} has no search of system {system}; set {_FROM}_system to one of {', '.join(searched) or 'none'}"
        )
    mine = [trial for trial in trials if trial.system == system]
    running = sorted({trial.study for trial in mine if trial.status == "running" and trial.seed == 0})
    if running:
        raise EmodartsError(
            f"{where} has not ended ({', '.join(running)}), so its winners may change: let it go on first"
        )
    found = {w.study: w.trial for w in winners(results) if w.system == system}
    if not found:
        raise EmodartsError(f"{where} chose no configuration of {system} on a dev part: there is no winner to take")
    return found


def _is_of(commit: Commit, system: str, chosen: Mapping[str, int]) -> bool:
    """Whether a unit is that of its study's winner with the first seed."""
    key = commit.key
    return (key.system, key.seed) == (system, 0) and chosen.get(key.study) == key.trial


def _winner(sweep: SweepTables, commit: Commit) -> TransferredUnit:
    key = commit.key
    genotype = sweep.read_unit("genotypes", commit).to_pylist()[0]
    settings = settings_from_json(sweep.read_unit("folds", commit)["settings"][0].as_py())
    source = f"{key.sweep}/{key.system}/{key.study}/{key.trial}/{key.seed}/{key.fold}"
    return TransferredUnit(
        source, TransferredGenotype(Genotype.from_json(genotype["genotype"]), genotype["derived_at"]), settings
    )


def _count_folds(results: Results, protocol: str) -> int:
    """How many folds a protocol has, by the audit in the corpora table: a sweep need not have run all."""
    rows = results.table("corpora", ["audit"]).to_pylist()
    audited = [json.loads(row["audit"])["protocol"] for row in rows if row["audit"]]
    if (
        "/joined" in protocol and audited
    ):  # each corpus has an audit by its own protocol; joined, there are the most of them
        return max(len(one["folds"]) for one in audited)
    found = next((one for one in audited if one["name"] == protocol), None)
    if found is None:
        raise EmodartsError(
            f"{_FROM}: sweep '{results.sweeps[0]}' has no audit of {protocol}, so how many folds that has is "
            "not known: start its command again, which writes the audit"
        )
    return len(found["folds"])


def _told(winner: TransferredUnit | None) -> str | None:
    """A winner in a few words: study, trial, and a hash of its genotype and settings."""
    if winner is None:
        return None
    content = json.dumps([winner.transferred.genotype.to_json(), _portable(winner.settings)], sort_keys=True)
    _, _, study, trial, _, _ = winner.source.rsplit("/", 5)
    return f"{study} trial {trial} ({hashlib.sha256(content.encode()).hexdigest()[:8]})"


def _portable(settings: FoldSettings) -> dict[str, Any]:
    """The settings without what belongs to one machine."""
    content = asdict(settings)
    content["batches"].pop("device_memory_fraction")
    content["features"]["checkpoint"] = PurePath(settings.features.checkpoint or "").name
    return content


def _with_own_file(theirs: FeatureSettings, own: FeatureSettings) -> FeatureSettings:
    """The source's features; a file of weights may lie elsewhere on this machine."""
    names = [PurePath(f.checkpoint).name if f.checkpoint else None for f in (theirs, own)]
    return replace(theirs, checkpoint=own.checkpoint) if names[0] == names[1] else theirs
