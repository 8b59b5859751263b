"""The settings of a sweep: composes the settings of each room, checks them, and makes the sweep's hash."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from pathlib import PurePath
from typing import Any

import optuna
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from emodarts.corpora.labels import source_of
from emodarts.corpora.protocols import full_name
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.experiment import FoldSettings
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.search.settings import SearchSettings
from emodarts.training.settings import TrainingSettings

Distribution = optuna.distributions.BaseDistribution
_NAMING = ("search.method", "search.joint")


@dataclass(frozen=True)
class SweepSettings:
    """The outer loop. `trials` is the number of configurations a study, over all starts of the command."""

    name: str | None = None
    trials: int = 10
    folds: list[int] | None = None  # None: all
    seeds: int = 1  # seeds of each study's winner
    seed: int = 0
    hours: float | None = None  # no unit is begun after so many
    nesting: str = "fold"  # fold | shared
    sampler: str = "tpe"  # tpe | random
    max_failures: int = 10  # so many failed configurations and no complete one end the sweep
    space: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks = {
            "trials": (1 <= self.trials <= 100_000, "1 to 100000"),
            "seeds": (1 <= self.seeds <= 100, "1 to 100"),
            "seed": (self.seed >= 0, "0 or more"),
            "hours": (self.hours is None or self.hours > 0, "above 0"),
            "nesting": (self.nesting in ("fold", "shared"), "fold or shared"),
            "sampler": (self.sampler in ("tpe", "random"), "tpe or random"),
            "max_failures": (self.max_failures >= 1, "1 or more"),
            "name": (
                self.name is None or self.name.replace("-", "").replace("_", "").isalnum(),
                "letters, digits, - and _",
            ),
        }
        for name, (good, allowed) in checks.items():
            if not good:
                raise EmodartsError(f"sweep.{name}={getattr(self, name)} is out of range: {allowed}")


@dataclass(frozen=True)
class ResourceSettings:
    """What a unit of work asks Ray for. `gpus_per_fold` None: a quarter where `device` finds a GPU, else none."""

    device: str = "auto"
    cpus_per_fold: int = 1
    gpus_per_fold: float | None = None
    workers: int | None = None  # at most so many units at once; None: what the resources allow

    def __post_init__(self) -> None:
        if self.cpus_per_fold < 1:
            raise EmodartsError(f"resources.cpus_per_fold={self.cpus_per_fold} is out of range: 1 or more")
        if self.gpus_per_fold is not None and not 0 <= self.gpus_per_fold <= 16:
            raise EmodartsError(f"resources.gpus_per_fold={self.gpus_per_fold} is out of range: 0 to 16")
        if self.workers is not None and self.workers < 1:
            raise EmodartsError(f"resources.workers={self.workers} is out of range: 1 or more")


@dataclass(frozen=True)
class RaySettings:
    """Which Ray to use: `address` None starts one on this machine."""

    address: str | None = None
    dashboard: bool = True


@dataclass(frozen=True)
class Settings:
    """Everything the command line can say. `protocol` is short for `corpus.protocol`, which it replaces.

    `system`: `emodarts`, or a hand-designed network, which is trained without a search.
    """

    corpus: CorpusSettings = field(default_factory=CorpusSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    batches: BatchSettings = field(default_factory=BatchSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)
    resources: ResourceSettings = field(default_factory=ResourceSettings)
    ray: RaySettings = field(default_factory=RaySettings)
    results: str = "results"
    protocol: str | None = None
    system: str = "emodarts"

    @property
    def fold_settings(self) -> FoldSettings:
        """The settings of a unit before a trial's parameters are put in. Raises EmodartsError for an unknown system."""
        return FoldSettings(self.features, self.search, self.training, self.batches, self.system)

    @property
    def system_name(self) -> str:
        """The system's name in the result tables."""
        return self.search.system if self.system == "emodarts" else self.system

    def hashed(self) -> dict[str, Any]:
        """What changes a unit's result or the proposals: dotted name -> value."""
        content = asdict(self)
        content["corpus"].pop("root")
        content["batches"].pop("device_memory_share")
        content["corpus"]["protocol"] = full_name(self.corpus)
        content["corpus"]["source"] = source_of(self.corpus)
        # A file counts by its name: fold hashes and the store's key stand for what is in it.
        if self.features.checkpoint is not None:
            content["features"]["checkpoint"] = PurePath(self.features.checkpoint).name
        for name in ("name", "trials", "folds", "seeds", "hours", "max_failures"):
            content["sweep"].pop(name)
        kept = {room: content[room] for room in ("corpus", "features", "batches", "search", "training", "sweep")}
        return {"system": self.system, **dict(_flatten(kept))}

    @property
    def sweep_name(self) -> str:
        """`sweep.name`, else the corpus and 8 digits of the hash."""
        digest = hashlib.sha256(json.dumps(self.hashed(), sort_keys=True).encode()).hexdigest()[:8]
        return self.sweep.name or f"{self.corpus.name}-{digest}"


def register_schema() -> None:
    """Make `Settings` the schema that Hydra checks the configuration against."""
    ConfigStore.instance().store(name="schema", node=_schema())


def from_hydra(config: DictConfig) -> Settings:
    """The checked settings of a composed configuration. Raises EmodartsError for what does not belong there."""
    try:
        plain = OmegaConf.to_container(config, resolve=True)
        settings = OmegaConf.to_object(OmegaConf.merge(_schema(), plain))
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, EmodartsError):
            raise error.__cause__ from None
        raise EmodartsError(f"settings: {str(error).splitlines()[0]} (at {error.full_key})") from error
    assert isinstance(settings, Settings)
    if settings.protocol is None:
        return settings
    return replace(settings, corpus=replace(settings.corpus, protocol=settings.protocol), protocol=None)


def _schema() -> DictConfig:
    schema = OmegaConf.structured(Settings)
    _writable(schema)
    schema.corpus.columns._set_flag("struct", False)  # its keys are the user's: corpus.columns.label=mood
    return schema


def _writable(node: Any) -> None:
    # Frozen data classes make read-only nodes, and those refuse every override.
    node._set_flag("readonly", None)
    if isinstance(node, DictConfig) and not node._is_none():
        for key in node:
            child = node._get_node(key)
            if isinstance(child, DictConfig | ListConfig):
                _writable(child)


def _flatten(content: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            rows += _flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


@dataclass(frozen=True)
class Space:
    """The search space of the outer loop: free dimensions, and those fixed to a value. Names as `search.nodes`."""

    free: dict[str, Distribution]
    fixed: dict[str, Any]

    @classmethod
    def of(cls, settings: Settings) -> "Space":
        """Read `sweep.space`. Raises EmodartsError for unknown dimensions and bounds that the settings refuse."""
        free: dict[str, Distribution] = {}
        fixed: dict[str, Any] = {}
        for room, dimensions in settings.sweep.space.items():
            if room not in ("search", "training") or not isinstance(dimensions, dict):
                raise EmodartsError(f"sweep.space.{room}: a dimension is search.<setting> or training.<setting>")
            for name, given in dimensions.items():
                path = f"{room}.{name}"
                if name not in {f.name for f in fields(getattr(settings, room))}:
                    raise EmodartsError(f"sweep.space.{path}: there is no setting {path}")
                if path in _NAMING:
                    raise EmodartsError(
                        f"sweep.space.{path}: it names the system, and a study is of one: set {path} itself"
                    )
                if room == "search" and settings.system != "emodarts":
                    continue  # a hand-designed network has no search to vary
                if isinstance(given, dict):
                    free[path] = _distribution(path, _with_families(path, given, settings))
                elif given is not None:
                    fixed[path] = given
        space = cls(dict(sorted(free.items())), fixed)
        for path, distribution in free.items():
            for value in _extremes(distribution):
                space.apply(settings.fold_settings, {path: value})
        space._check_pairs(settings.fold_settings)
        return space

    def _check_pairs(self, settings: FoldSettings) -> None:
        """Refuse families of sequence operations that one of several spaces of operations does not have."""
        names = ("search.space", "search.seqnn")
        choices = [_extremes(self.free[name]) if name in self.free else () for name in names]
        for pair in product(*choices):
            self.apply(settings, dict(zip(names, pair, strict=True)))

    def default(self, settings: FoldSettings) -> dict[str, Any]:
        """The preset's own configuration, brought inside the bounds: the first proposal of each study."""
        return {
            path: _nearest(getattr(getattr(settings, path.split(".")[0]), path.split(".")[1]), d)
            for path, d in self.free.items()
        }

    def apply(self, settings: FoldSettings, parameters: dict[str, Any]) -> FoldSettings:
        """The settings with the fixed dimensions and a trial's parameters put in; checked."""
        changes: dict[str, dict[str, Any]] = {"search": {}, "training": {}}
        for path, value in {**self.fixed, **parameters}.items():
            room, name = path.split(".")
            changes[room][name] = value
        return replace(
            settings,
            search=replace(settings.search, **changes["search"]),
            training=replace(settings.training, **changes["training"]),
        )


def _with_families(path: str, given: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """`choices: families` of `search.seqnn` are those of the sequence operations that the settings choose among."""
    if path == "search.seqnn" and given.get("choices") == "families":
        return {**given, "choices": list(settings.search.families)}
    return given


def _distribution(path: str, given: dict[str, Any]) -> Distribution:
    try:
        if "choices" in given:
            if set(given) - {"choices", "low", "high", "log", "step"} or not given["choices"]:
                raise ValueError("needs at least one choice")
            return optuna.distributions.CategoricalDistribution(tuple(given["choices"]))
        if set(given) - {"low", "high", "log", "step"} or not {"low", "high"} <= set(given):
            raise ValueError("needs low and high, and may have log and step")
        low, high, log, step = given["low"], given["high"], bool(given.get("log")), given.get("step")
        if isinstance(low, int) and isinstance(high, int):
            return optuna.distributions.IntDistribution(low, high, log=log, step=step or 1)
        return optuna.distributions.FloatDistribution(float(low), float(high), log=log, step=step)
    except (ValueError, TypeError) as error:
        raise EmodartsError(f"sweep.space.{path}={given}: {error}") from error


def _extremes(d: Distribution) -> tuple[Any, ...]:
    if isinstance(d, optuna.distributions.CategoricalDistribution):
        return d.choices
    return (d.low, d.high)  # type: ignore[attr-defined]


def _nearest(value: Any, d: Distribution) -> Any:
    if isinstance(d, optuna.distributions.CategoricalDistribution):
        return value if value in d.choices else d.choices[0]
    return d.low if value is None else min(max(value, d.low), d.high)  # type: ignore[attr-defined]
