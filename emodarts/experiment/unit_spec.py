"""`UnitSpec`: what a worker has to know of a unit of work, beside its fold and features.

The driver makes it once; a worker never computes a key, a setting or a seed again.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from emodarts.corpora.protocols.folds import Fold
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import FoldSettings, subsample_name
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.networks.genotype import Genotype
from emodarts.records import TrialRecord, UnitKey
from emodarts.search.settings import SearchSettings
from emodarts.seeds import inner_unit_seed, unit_seed
from emodarts.training.settings import TrainingSettings

Rung = tuple[str, float]  # a phase (search | train), and the fraction of its epochs at which a unit may be pruned
_Settings = TypeVar("_Settings", FeatureSettings, SearchSettings, TrainingSettings, BatchSettings)


@dataclass(frozen=True)
class TransferredGenotype:
    """A genotype that is not searched here: a search on other data found it, or a study proposed it (method sampler).

    `derived_at`: the epoch (from 0) at which it was derived there.
    """

    genotype: Genotype
    derived_at: int


@dataclass(frozen=True)
class UnitSpec:
    """One unit of work: a configuration with a seed on a fold.

    `settings` have the trial's parameters put in. `random_seed` is what `run_fold` draws from, while `key.seed` counts
    the repetitions of a configuration. `device` is `auto` until the worker chooses. `rungs`: where the unit reports
    its dev figures, so that it may be pruned.
    """

    key: UnitKey
    settings: FoldSettings
    random_seed: int
    device: str = "auto"
    transferred: TransferredGenotype | None = None
    rungs: tuple[Rung, ...] = ()

    @classmethod
    def of(
        cls,
        fold: Fold,
        settings: FoldSettings,
        trial: TrialRecord,
        sweep: str,
        train_corpora: tuple[str, ...],
        sweep_seed: int = 0,
        device: str = "auto",
        rungs: tuple[Rung, ...] = (),
        genotype_from: str | None = None,
        transferred: TransferredGenotype | None = None,
        inner: int | None = None,
    ) -> "UnitSpec":
        """The unit of a configuration on a fold, or on inner split number `inner` of one; its key and seed follow.

        `genotype_from` names the unit (`sweep/system/study/trial/seed/fold`) that the genotype is `transferred` from;
        None where the configuration itself has it.
        """
        key = UnitKey(
            sweep, trial.system, trial.study, trial.trial, trial.seed, train_corpora, fold.protocol, fold.index,
            fold.hash, fold.classes, genotype_from, None if transferred else subsample_name(fold, settings),
            fold.protocol_caveat, inner,
        )  # fmt: skip
        if inner is None:
            random_seed = unit_seed(sweep_seed, fold.index, trial.trial, trial.seed)
        else:
            random_seed = inner_unit_seed(sweep_seed, fold.index, inner, trial.trial, trial.seed)
        return cls(key, settings, random_seed, device, transferred, rungs)

    def to_json(self) -> str:
        """A JSON text; `from_json` gives an equal unit."""
        content = asdict(self)
        if self.transferred is not None:
            content["transferred"]["genotype"] = self.transferred.genotype.to_json()
        return json.dumps(content, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "UnitSpec":
        """The unit of a text that `to_json` wrote. Raises EmodartsError for that of another version of emodarts."""
        try:
            content = json.loads(text)
            key, transferred = content["key"], content["transferred"]
            if transferred is not None:
                genotype = Genotype.from_json(transferred["genotype"])
                transferred = TransferredGenotype(genotype, transferred["derived_at"])
            return cls(
                UnitKey(**{**key, "train_corpora": tuple(key["train_corpora"]), "classes": tuple(key["classes"])}),
                _settings(content["settings"]),
                content["random_seed"],
                content["device"],
                transferred,
                tuple((phase, fraction) for phase, fraction in content["rungs"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise EmodartsError(f"not a unit of work of this version of emodarts: {error}") from error


def settings_from_json(text: str) -> FoldSettings:
    """The settings that a row of `folds` holds as JSON. Raises EmodartsError for those of another version."""
    try:
        return _settings(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise EmodartsError(
            f"the settings of the results are those of another version of emodarts ({error}): read them with the "
            "version that wrote them"
        ) from error


def _settings(content: Mapping[str, Any]) -> FoldSettings:
    return FoldSettings(
        features=_group(FeatureSettings, content["features"]),
        search=_group(SearchSettings, content["search"]),
        training=_group(TrainingSettings, content["training"]),
        batches=_group(BatchSettings, content["batches"]),
        system=content["system"],
    )


def _group(settings: type[_Settings], content: Mapping[str, Any]) -> _Settings:
    """One group of settings; none may be missing, since a default of today need not be that of then."""
    missing = {setting.name for setting in fields(settings)} - content.keys()
    if missing:
        raise KeyError(f"{settings.__name__} has no value for {', '.join(sorted(missing))}")
    return settings(**content)
