"""Genotype transfer: the winners of a sweep on one corpus are trained and tested on another, without a search.

Fold i takes the winner of fold i mod k of the source, chosen there on dev alone, with the settings of its search. On
the source's own corpus it takes that of the same fold alone: any other was chosen on its test speakers.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath
from typing import Any

from emodarts.corpora.protocols.folds import Fold
from emodarts.corpora.remote import is_remote, without_secrets
from emodarts.corpora.settings import short_name
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import SEARCHED, FoldSettings
from emodarts.experiment.unit_spec import TransferredGenotype, settings_from_json
from emodarts.features.settings import BY_TRAIN, FeatureSettings
from emodarts.networks.genotype import Genotype
from emodarts.results import reader
from emodarts.results.commits import Commit
from emodarts.results.reader import Results, SweepTables
from emodarts.results.sweep_file import settings_of
from emodarts.results.winners import winners
from emodarts.storage import Storage
from sweeps.settings import Settings, SweepSettings
from sweeps.units.spec_factory import TransferredUnit

_FROM = "genotypes_from"
_OF_SOURCE = ("features", "batches", "search", "training")  # groups whose settings are the source's
_OWN_LISTS = ("extra_tests", "robustness")
_OWN = ("corpus", "protocol", *_OWN_LISTS, "roots", "results", "resources", "ray", "hydra", _FROM, f"{_FROM}_system")
_OWN_OF_SWEEP = ("name", "folds", "seeds", "seed", "time_budget_hours", "max_failures", "wait", "retry_failed")


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
        winning = _winning_trials(results, system)
        commits = [
            commit
            for commit in results.commits
            if (commit.status, commit.key.system, commit.key.seed, commit.key.inner) == ("complete", system, 0, None)
            and winning.get(commit.key.study) == commit.key.trial
        ]
        if {commit.key.study for commit in commits} < winning.keys():  # judged on inner splits, and not yet trained
            raise EmodartsError(f"{_FROM}: sweep '{sweep.name}' has not ended, so its winners may change: let it go on")
        key = commits[0].key
        return cls(
            sweep.name,
            system,
            key.train_corpora,
            key.protocol,
            _count_folds(results, key.protocol),
            settings,
            {commit.key.fold: _read_winner(sweep, commit) for commit in commits},
            {commit.key.fold: commit.key.fold_hash for commit in commits},
        )

    def resolve(self, settings: Settings, overrides: Sequence[str]) -> Settings:
        """The settings with those of the source, and the sweep's name.

        Raises EmodartsError for `overrides` of the command line that would be ignored.
        """
        self._check_overrides(settings, overrides)
        source = next(iter(self.winners.values())).settings
        resolved = replace(
            settings,
            features=_with_own_file(source.features, settings.features),
            batches=replace(source.batches, device_memory_fraction=settings.batches.device_memory_fraction),
        )
        name = resolved.sweep_name_of(self.hashed_settings(resolved))
        return replace(resolved, sweep=replace(resolved.sweep, name=name))

    def hashed_settings(self, settings: Settings) -> dict[str, Any]:
        """What changes a unit's result, by dotted name: data, source and winners."""
        of_data = {
            name: value
            for name, value in settings.hashed_settings().items()
            if name.partition(".")[0] in ("corpus", "features", "batches", "extra_tests") or name == "sweep.seed"
        }
        winners = {f"{_FROM}.fold{fold}": _describe(self.winners.get(fold)) for fold in range(self.folds)}
        return {**of_data, f"{_FROM}.sweep": self.sweep, f"{_FROM}.system": self.system, **winners}

    def assign(self, folds: Mapping[int, Fold], settings: Settings) -> dict[int, TransferredUnit]:
        """What each fold takes, with what `resolve` made of the settings.

        Raises EmodartsError where a fold would be tested on speakers that chose its genotype, or has nothing to take.
        """
        seen = sorted(set(map(short_name, settings.extra_tests)) & set(self.corpora))
        if seen:
            raise EmodartsError(
                f"extra_tests={seen[0]}: the genotypes of sweep '{self.sweep}' were chosen on its speakers, so that "
                "they are no test"
            )
        corpora = {corpus.short_name for corpus in settings.training_corpora}
        units = {}
        for index, fold in folds.items():
            winner = self._winner_for(fold, corpora)  # its settings, but for what belongs to this machine:
            own = replace(winner.settings, features=settings.features, batches=settings.batches)
            units[index] = replace(winner, settings=own)
        return units

    def _winner_for(self, fold: Fold, corpora: set[str]) -> TransferredUnit:
        """What a fold of a sweep that trains on these corpora takes. Raises EmodartsError."""
        shared = sorted(corpora & {*self.corpora})
        number = fold.index if shared else fold.index % self.folds
        if number not in self.winners:
            present = ", ".join(map(str, sorted(self.winners)))
            raise EmodartsError(
                f"fold {fold.index} of {fold.protocol} takes the winner of fold {number} of {self.protocol}, and sweep "
                f"'{self.sweep}' has winners of fold {present} alone: let it run that fold, or set sweep.folds"
            )
        if shared and (self.protocol, self.hashes[number]) != (fold.protocol, fold.hash):
            raise EmodartsError(
                f"fold {fold.index}: sweep '{self.sweep}' searched on {', '.join(shared)}, by {self.protocol} "
                f"({self.hashes[number]}), and this is {fold.protocol} ({fold.hash}): its genotypes may have been "
                "chosen on speakers that test here; on its own corpus a winner is taken by the same fold alone, so set "
                "the protocol and the settings of the corpus as they were"
            )
        return self.winners[number]

    def _check_overrides(self, settings: Settings, overrides: Sequence[str]) -> None:
        """Raise EmodartsError for an override that would be ignored."""
        defaults = asdict(SweepSettings())
        for override in overrides:
            name = override.lstrip("+~").partition("=")[0].partition("@")[0]
            group, _, rest = name.partition(".")
            if group in _OF_SOURCE:
                self._check_equal(name, settings)
            elif group == "sweep":
                if not rest:
                    raise EmodartsError(f"{override}: {_FROM} runs one configuration a fold, by the source's settings")
                setting = rest.partition(".")[0]
                if setting not in _OWN_OF_SWEEP and getattr(settings.sweep, setting, None) != defaults[setting]:
                    raise EmodartsError(f"{override}: {_FROM} runs one configuration a fold, and asks for no others")
            elif group == "system" and settings.system not in (SEARCHED, self.system):
                raise EmodartsError(f"{override}: with {_FROM} the system is the source's: set {_FROM}_system")
            elif group not in (*_OWN, "system"):
                raise EmodartsError(f"{override} has no meaning with {_FROM}: leave it out")

    def _check_equal(self, name: str, settings: Settings) -> None:
        """Raise EmodartsError where a setting, or a group of them, is not as in the source."""
        own = json.loads(json.dumps(settings.hashed_settings()))
        keys = [key for key in own if key == name or key.startswith(f"{name}.")]
        differing = [key for key in keys if own[key] != self.settings.get(key)]
        if differing:
            changes = "; ".join(f"{key} was {self.settings.get(key)}, now {own[key]}" for key in differing[:8])
            raise EmodartsError(
                f"{_FROM}: the settings of sweep '{self.sweep}' rule, and others were given: {changes}; leave them "
                "out, or search with them"
            )


def refuse_changed(storage: Storage, sweep: str, hashed: Mapping[str, Any]) -> None:
    """Raise EmodartsError where these results hold the same transfer with other winners: those of the source changed.

    A sweep's default name has its winners in it, so that it would silently begin anew.
    """
    own = json.loads(json.dumps(hashed))
    for other in storage.list(""):
        if other == sweep or not storage.exists(f"{other}/sweep.json"):
            continue
        before = settings_of(storage, other)
        differing = [key for key in own if own[key] != before.get(key)]
        if differing and all(key.startswith(f"{_FROM}.fold") for key in differing):
            changes = "; ".join(f"{key.rpartition('.')[2]}: {before.get(key)}, now {own[key]}" for key in differing[:8])
            raise EmodartsError(
                f"sweep '{own[f'{_FROM}.sweep']}' has changed its winners since sweep '{other}' took them ({changes}): "
                "set sweep.name to begin another sweep with the present ones, or take the old state of the source back"
            )


def _refuse_source(sweep: str, settings: Mapping[str, Any]) -> None:
    if settings.get(f"{_FROM}.sweep"):
        raise EmodartsError(
            f"{_FROM}: sweep '{sweep}' has its genotypes from sweep '{settings[f'{_FROM}.sweep']}': give that one"
        )
    if settings["sweep.study_per"] == "sweep":
        raise EmodartsError(
            f"{_FROM}: sweep '{sweep}' has sweep.study_per=sweep: its one winner was chosen on the speakers of all its "
            "folds; search with sweep.study_per=fold"
        )


def _winning_trials(results: Results, system: str) -> dict[str, int]:
    """Study -> its winner, of a system. Raises EmodartsError where there is none, or configurations still run."""
    where, trials = f"{_FROM}: sweep '{results.sweeps[0]}'", results.trials()
    searched = sorted({t.system for t in trials if t.system.partition(":")[0] == SEARCHED})
    if system not in searched:
        raise EmodartsError(
            f"{where} has no search of system {system}; set {_FROM}_system to one of {', '.join(searched) or 'none'}"
        )
    running = sorted({t.study for t in trials if t.system == system and t.status == "running" and t.seed == 0})
    if running:
        raise EmodartsError(
            f"{where} has not ended ({', '.join(running)}), so its winners may change: let it go on first"
        )
    winning = {winner.study: winner.trial for winner in winners(results) if winner.system == system}
    if not winning:
        raise EmodartsError(f"{where} chose no configuration of {system} on a dev part: there is no winner to take")
    return winning


def _read_winner(sweep: SweepTables, commit: Commit) -> TransferredUnit:
    key = commit.key
    row = sweep.read_unit("genotypes", commit).to_pylist()[0]
    genotype = TransferredGenotype(Genotype.from_json(row["genotype"]), row["derived_at"])
    settings = settings_from_json(sweep.read_unit("folds", commit)["settings"][0].as_py())
    return TransferredUnit(
        f"{key.sweep}/{key.system}/{key.study}/{key.trial}/{key.seed}/{key.fold}", genotype, settings
    )


def _count_folds(results: Results, protocol: str) -> int:
    """How many folds a protocol has, by the audits in the corpora table: a sweep need not have run all."""
    rows = results.table("corpora", ["audit"]).to_pylist()
    folds_of = {}
    for audited in (json.loads(row["audit"])["protocol"] for row in rows if row["audit"]):
        folds_of[audited["name"]] = len(audited["folds"])
    if "/joined" in protocol and folds_of:  # each corpus is audited by its own protocol; joined there are as many
        return max(folds_of.values())  # as the corpus with the most folds has
    if protocol not in folds_of:
        raise EmodartsError(
            f"{_FROM}: sweep '{results.sweeps[0]}' has no audit of {protocol}, so how many folds that has is "
            "not known: start its command again, which writes the audit"
        )
    return folds_of[protocol]


def _describe(winner: TransferredUnit | None) -> str | None:
    """A winner in a few words: study, trial, and a hash of its genotype and settings."""
    if winner is None:
        return None
    content = json.dumps([winner.genotype.genotype.to_json(), _portable(winner.settings)], sort_keys=True)
    _, _, study, trial, _, _ = winner.source.rsplit("/", 5)
    return f"{study} trial {trial} ({hashlib.sha256(content.encode()).hexdigest()[:8]})"


def _portable(settings: FoldSettings) -> dict[str, Any]:
    """The settings without what belongs to one machine."""
    content = asdict(settings)
    content["batches"] = settings.batches.portable()
    content["features"]["checkpoint"] = PurePath(settings.features.checkpoint or "").name
    if settings.features.normalisation == BY_TRAIN:  # as before there was a choice
        content["features"].pop("normalisation")
    return content


def _with_own_file(source: FeatureSettings, own: FeatureSettings) -> FeatureSettings:
    """The source's features; a file of weights may lie elsewhere on this machine."""
    names = [PurePath(f.checkpoint).name if f.checkpoint else None for f in (source, own)]
    return replace(source, checkpoint=own.checkpoint) if names[0] == names[1] else source
