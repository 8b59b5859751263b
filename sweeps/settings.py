"""The settings of a sweep: composes the settings of each room, checks them, and makes the sweep's hash."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import PurePath
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from emodarts.corpora.labels import source_of
from emodarts.corpora.protocols import full_name
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.experiment import SEARCHED, FoldSettings
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.search.settings import SearchSettings
from emodarts.training.settings import TrainingSettings

SAMPLERS = ("tpe", "random", "cmaes", "gp", "nsga2")
OBJECTIVES = ("dev_uar", "parameters")
PRUNERS = ("none", "asha", "wilcoxon")


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
    sampler: str = "tpe"  # tpe | random | cmaes | gp | nsga2
    objectives: list[str] = field(default_factory=lambda: ["dev_uar"])  # or [dev_uar, parameters]
    pruner: str = "none"  # none | asha (within a unit) | wilcoxon (between the folds of a configuration)
    reduction_factor: int = 2  # asha: one of so many goes on at each rung
    search_rungs: list[float] = field(default_factory=lambda: [0.5, 1.0])  # shares of a search's own epochs
    training_rungs: list[float] = field(default_factory=lambda: [0.25, 0.5])  # shares of a training's own epochs
    first_folds: int = 3  # wilcoxon: folds of a configuration that run before it may be pruned
    p_threshold: float = 0.1  # wilcoxon
    max_failures: int = 10  # so many failed configurations and no complete one end the sweep
    plan: bool = False  # predict hours and memory, and run nothing
    space: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks = {
            "trials": (1 <= self.trials <= 100_000, "1 to 100000"),
            "seeds": (1 <= self.seeds <= 100, "1 to 100"),
            "seed": (self.seed >= 0, "0 or more"),
            "hours": (self.hours is None or self.hours > 0, "above 0"),
            "nesting": (self.nesting in ("fold", "shared"), "fold or shared"),
            "sampler": (self.sampler in SAMPLERS, " | ".join(SAMPLERS)),
            "objectives": (
                self.objectives in (list(OBJECTIVES[:1]), list(OBJECTIVES)),
                "[dev_uar] or [dev_uar,parameters]",
            ),
            "pruner": (self.pruner in PRUNERS, " | ".join(PRUNERS)),
            "reduction_factor": (2 <= self.reduction_factor <= 10, "2 to 10"),
            "search_rungs": (_rising(self.search_rungs), "rising shares above 0, at most 1"),
            "training_rungs": (_rising(self.training_rungs), "rising shares above 0, at most 1"),
            "first_folds": (self.first_folds >= 2, "2 or more"),
            "p_threshold": (0 < self.p_threshold < 1, "above 0 and below 1"),
            "max_failures": (self.max_failures >= 1, "1 or more"),
            "name": (
                self.name is None or self.name.replace("-", "").replace("_", "").isalnum(),
                "letters, digits, - and _",
            ),
        }
        for name, (good, allowed) in checks.items():
            if not good:
                raise EmodartsError(f"sweep.{name}={getattr(self, name)} is out of range: {allowed}")


def _rising(shares: list[float]) -> bool:
    return all(0 < share <= 1 for share in shares) and all(a < b for a, b in pairwise(shares))


@dataclass(frozen=True)
class ResourceSettings:
    """What a unit of work asks Ray for. `gpus_per_fold` None: a quarter where `device` finds a GPU, else none."""

    device: str = "auto"
    cpus_per_fold: int = 1
    gpus_per_fold: float | None = None
    workers: int | None = None  # so many units at once; None: as many as the nodes that are there can run

    def __post_init__(self) -> None:
        if self.cpus_per_fold < 1:
            raise EmodartsError(f"resources.cpus_per_fold={self.cpus_per_fold} is out of range: 1 or more")
        if self.gpus_per_fold is not None and not 0 <= self.gpus_per_fold <= 16:
            raise EmodartsError(f"resources.gpus_per_fold={self.gpus_per_fold} is out of range: 0 to 16")
        if self.workers is not None and self.workers < 1:
            raise EmodartsError(f"resources.workers={self.workers} is out of range: 1 or more")


@dataclass(frozen=True)
class RaySettings:
    """Which Ray to use: `address` None (or `local`) starts one on this machine, `auto` and host:port join one."""

    address: str | None = None
    dashboard: bool = True
    dashboard_port: int | None = None  # None: 8265, or the next one that is free


@dataclass(frozen=True)
class Settings:
    """Everything the command line can say. `protocol` is short for `corpus.protocol`, which it replaces.

    `system`: what is compared, one or several: `emodarts` is the search, `emodarts:<method>:<joint>` a control of it,
    the others need none (`experiment.SYSTEMS`).
    `extra_tests` are labelled as the corpus itself is: class set and policies.
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
    system: Any = SEARCHED  # a name, or a list of names
    extra_tests: list[str] = field(default_factory=list)  # further corpora that every network is tested on, whole
    roots: dict[str, str] = field(default_factory=dict)  # of further corpora, by name; else $EMODARTS_CORPORA/<name>
    genotypes_from: str | None = None  # a finished sweep: its winners are trained here, and nothing is searched
    genotypes_from_system: str = SEARCHED  # which of its systems
    published: bool = False  # beside the sweep, the corpus's published protocol without dev part, for comparison alone

    @property
    def systems(self) -> dict[str, FoldSettings]:
        """By its name in the result tables, the settings of each system's units before a trial's parameters are put in.

        `emodarts` is the search as `search` has it, `emodarts:<method>:<joint>` the same with another method or part.
        Raises EmodartsError for an unknown system, and one that is named twice.
        """
        given = self.system if isinstance(self.system, list) else [self.system]
        names = [name for name in given if isinstance(name, str)]
        made = [self._fold_settings(name) for name in names]
        found = {settings.search.system if settings.searches else settings.system: settings for settings in made}
        if not given or names != given or len(found) < len(names):
            raise EmodartsError(f"system={self.system}: one system, or a list of several, none twice")
        return found

    def _fold_settings(self, system: str) -> FoldSettings:
        search = self.search
        if system.startswith(f"{SEARCHED}:"):
            search, system = search.named(system), SEARCHED
        return FoldSettings(self.features, search, self.training, self.batches, system)

    def hashed(self) -> dict[str, Any]:
        """What changes a unit's result or the proposals: dotted name -> value. The systems of a sweep share it."""
        content = asdict(self)
        content["corpus"].pop("root")
        content["batches"].pop("device_memory_share")
        content["corpus"]["protocol"] = full_name(self.corpus)
        content["corpus"]["source"] = source_of(self.corpus)
        # A file counts by its name: fold hashes and the store's key stand for what is in it.
        if self.features.checkpoint is not None:
            content["features"]["checkpoint"] = PurePath(self.features.checkpoint).name
        for name in ("name", "trials", "folds", "seeds", "hours", "max_failures", "plan"):
            content["sweep"].pop(name)
        kept = {room: content[room] for room in ("corpus", "features", "batches", "search", "training", "sweep")}
        extra = {"extra_tests": sorted(self.extra_tests)} if self.extra_tests else {}
        return {**dict(_flatten(kept)), **extra}

    @property
    def sweep_name(self) -> str:
        """`sweep.name`, else the corpus and 8 digits of the hash."""
        return self.name_of(self.hashed())

    def name_of(self, hashed: dict[str, Any]) -> str:
        """The same with other content in the hash."""
        digest = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:8]
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
    # Their keys are the user's: corpus.columns.label=mood, roots.emodb=/data/emodb
    schema.corpus.columns._set_flag("struct", False)
    schema.roots._set_flag("struct", False)
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
