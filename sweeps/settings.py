"""The settings of a sweep: composes the settings of each room, checks them, and makes the sweep's hash."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import PurePath
from typing import Any

from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from emodarts.corpora.labels import source_of
from emodarts.corpora.protocols.folds import full_name
from emodarts.corpora.registry import describe
from emodarts.corpora.settings import SINGLE_CORPUS_SETTINGS, CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import SEARCHED, FoldSettings
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.search.settings import SearchSettings
from emodarts.training.settings import TrainingSettings
from sweeps.hydra_errors import format_omegaconf_error

SAMPLERS = ("tpe", "random", "cmaes", "gp", "nsga2")
OBJECTIVES = ("dev_uar", "parameters")
PRUNERS = ("none", "asha", "wilcoxon")
_OF_PRUNERS = {  # settings that do nothing without theirs
    "asha": ("reduction_factor", "search_rungs", "training_rungs"),
    "wilcoxon": ("startup_folds", "p_threshold"),
}
NO_RAY = "none"  # as ray.address
JOINED = "joined"  # the `corpus` of a sweep that trains on several


@dataclass(frozen=True)
class SweepSettings:
    """The outer loop. `trials` is the number of configurations a study, over all starts of the command."""

    name: str | None = None
    trials: int = 10
    folds: list[int] | None = None  # None: all
    seeds: int = 1  # seeds of each study's winner
    seed: int = 0
    time_budget_hours: float | None = None  # no unit is begun after so many
    study_per: str = "fold"  # fold | sweep
    sampler: str = "tpe"  # tpe | random | cmaes | gp | nsga2
    objectives: list[str] = field(default_factory=lambda: ["dev_uar"])  # or [dev_uar, parameters]
    pruner: str = "none"  # none | asha (within a unit) | wilcoxon (between the folds of a configuration)
    reduction_factor: int = 3  # asha: one of so many goes on at each rung
    search_rungs: list[float] = field(default_factory=list)  # shares of a search's own epochs; none: see docs/sweeps.md
    training_rungs: list[float] = field(default_factory=lambda: [0.125])  # shares of a training's own epochs
    startup_folds: int = 3  # wilcoxon: folds of a configuration that run before it may be pruned
    p_threshold: float = 0.1  # wilcoxon
    max_failures: int = 10  # so many failed configurations and no complete one end the sweep
    forecast: bool = False  # predict hours and memory, and run nothing
    space: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks = {
            "trials": (1 <= self.trials <= 100_000, "1 to 100000"),
            "seeds": (1 <= self.seeds <= 100, "1 to 100"),
            "seed": (self.seed >= 0, "0 or more"),
            "time_budget_hours": (self.time_budget_hours is None or self.time_budget_hours > 0, "above 0"),
            "study_per": (self.study_per in ("fold", "sweep"), "fold or sweep"),
            "sampler": (self.sampler in SAMPLERS, " | ".join(SAMPLERS)),
            "objectives": (
                self.objectives in (list(OBJECTIVES[:1]), list(OBJECTIVES)),
                "[dev_uar] or [dev_uar,parameters]",
            ),
            "pruner": (self.pruner in PRUNERS, " | ".join(PRUNERS)),
            "reduction_factor": (2 <= self.reduction_factor <= 10, "2 to 10"),
            "search_rungs": (_rising(self.search_rungs), "rising shares above 0, at most 1"),
            "training_rungs": (_rising(self.training_rungs), "rising shares above 0, at most 1"),
            "startup_folds": (self.startup_folds >= 2, "2 or more"),
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
    """What a unit of work asks Ray for. `gpus_per_trial` None: a quarter where `device` finds a GPU, else none."""

    device: str = "auto"
    cpus_per_trial: int = 1
    gpus_per_trial: float | None = None
    max_concurrent_trials: int | None = None  # so many units at once; None: as many as the nodes that are there can run

    def __post_init__(self) -> None:
        if self.cpus_per_trial < 1:
            raise EmodartsError(f"resources.cpus_per_trial={self.cpus_per_trial} is out of range: 1 or more")
        if self.gpus_per_trial is not None and not 0 <= self.gpus_per_trial <= 16:
            raise EmodartsError(f"resources.gpus_per_trial={self.gpus_per_trial} is out of range: 0 to 16")
        if self.max_concurrent_trials is not None and self.max_concurrent_trials < 1:
            raise EmodartsError(
                f"resources.max_concurrent_trials={self.max_concurrent_trials} is out of range: 1 or more"
            )


@dataclass(frozen=True)
class RaySettings:
    """Which Ray to use: `address` None (or `local`) starts one on this machine, `auto` and host:port join one; `none`
    runs the units one after the other in the driver's process.
    """

    address: str | None = None
    dashboard: bool = True
    dashboard_port: int | None = None  # None: 8265, or the next one that is free


@dataclass(frozen=True)
class Settings:
    """Everything the command line can say. `protocol` is short for `corpus.protocol`, which it replaces.

    `system`: what is compared, one or several: `emodarts` is the search, `emodarts:<method>:<scope>` a control of it,
    the others need none (`fold_data.SYSTEMS`).
    `train_corpora`: several corpora that are trained on together, their order of no meaning; empty: `corpus` alone.
    They and `extra_tests` are labelled as `corpus` says: class set and policies. Raises EmodartsError for corpora that
    are unknown, named twice, or named beside settings that speak of one.
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
    roots: dict[str, str] = field(default_factory=dict)  # by corpus, but for `corpus`; else $EMODARTS_CORPORA/<name>
    train_corpora: list[str] = field(default_factory=list)
    genotypes_from: str | None = None  # a finished sweep: its winners are trained here, and nothing is searched
    genotypes_from_system: str = SEARCHED  # which of its systems
    published_protocol: bool = (
        False  # beside the sweep, the corpus's published protocol without dev part, for comparison alone
    )

    def __post_init__(self) -> None:
        for setting, names in (("train_corpora", self.train_corpora), ("extra_tests", self.extra_tests)):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise EmodartsError(f"{setting}=[{','.join(names)}]: {twice} is named twice, name it once")
        self._check_training()
        if self.ray.address == NO_RAY and self.resources.max_concurrent_trials not in (None, 1):
            raise EmodartsError(
                f"resources.max_concurrent_trials={self.resources.max_concurrent_trials}: ray.address={NO_RAY} has one "
                "process, the command's own"
            )

    def _check_training(self) -> None:
        """Raise EmodartsError where `corpus` and `train_corpora` do not go together."""
        given, name = f"train_corpora=[{','.join(self.train_corpora)}]", self.corpus.name
        if name == JOINED and not self.joins_corpora:
            raise EmodartsError(f"corpus={JOINED} joins two corpora or more: name them with train_corpora=[a,b]")
        for trained in self.train_corpora:
            describe(trained)
        if len(self.train_corpora) == 1 and self.train_corpora != [name]:
            raise EmodartsError(f"{given} and corpus={name}: these are two corpora; leave one of the settings out")
        if not self.joins_corpora:
            return
        if name != JOINED:
            raise EmodartsError(
                f"{given} and corpus={name}: each corpus of the list has its own settings; leave corpus={name} out"
            )
        of_one = [f"corpus.{key}" for key in SINGLE_CORPUS_SETTINGS if getattr(self.corpus, key)]
        if of_one or self.protocol:
            raise EmodartsError(
                f"{given} names several corpora, and {', '.join(of_one) or 'protocol'} would speak of one: leave it "
                "out. Each has its own default protocol and labels; folders are named with roots.<corpus>"
            )

    @property
    def joins_corpora(self) -> bool:
        """Whether several corpora are trained on together."""
        return len(self.train_corpora) > 1

    @property
    def training_corpora(self) -> tuple[CorpusSettings, ...]:
        """The settings of each corpus that is trained on.

        In the order of their names, whatever order was given: then the sweep, its folds and every bit of its results
        are the same, since positions, sums and random numbers follow that order.
        """
        if not self.joins_corpora:
            return (self.corpus,)
        return tuple(self.corpus.for_corpus(name, self.roots.get(name)) for name in sorted(self.train_corpora))

    @property
    def systems(self) -> dict[str, FoldSettings]:
        """By its name in the result tables, the settings of each system's units before a trial's parameters are put in.

        `emodarts` is the search as `search` has it, `emodarts:<method>:<scope>` the same with another method or part.
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
            search, system = search.for_system(system), SEARCHED
        return FoldSettings(self.features, search, self.training, self.batches, system)

    def hashed_settings(self) -> dict[str, Any]:
        """What changes a unit's result or the proposals: dotted name -> value. The systems of a sweep share it."""
        content = asdict(self)
        content["corpus"] |= self._corpus_hashed()
        content["corpus"].pop("root")
        content["batches"].pop("device_memory_fraction")
        # A file counts by its name: fold hashes and the store's key stand for what is in it.
        if self.features.checkpoint is not None:
            content["features"]["checkpoint"] = PurePath(self.features.checkpoint).name
        of_others = (name for pruner, names in _OF_PRUNERS.items() if pruner != self.sweep.pruner for name in names)
        for name in (
            "name",
            "trials",
            "folds",
            "seeds",
            "time_budget_hours",
            "max_failures",
            "forecast",
            *of_others,
        ):
            content["sweep"].pop(name)
        kept = {room: content[room] for room in ("corpus", "features", "batches", "search", "training", "sweep")}
        # A sweep of one corpus has the hash that it had before there were lists of them.
        lists = {"extra_tests": self.extra_tests, "train_corpora": self.train_corpora if self.joins_corpora else []}
        return {**dict(_flatten(kept)), **{name: sorted(names) for name, names in lists.items() if names}}

    def _corpus_hashed(self) -> dict[str, Any]:
        """What the corpora mean by the settings that may be left to their defaults."""
        if not self.joins_corpora:
            return {"protocol": full_name(self.corpus), "source": source_of(self.corpus)}
        name = "+".join(about.name for about in self.training_corpora)
        return {"name": name, "protocol": f"{name}/joined"}

    @property
    def sweep_name(self) -> str:
        """`sweep.name`, else the corpora (`emodb-ravdess`) and 8 digits of the hash."""
        return self.sweep_name_of(self.hashed_settings())

    def sweep_name_of(self, hashed: dict[str, Any]) -> str:
        """The same with other content in the hash."""
        digest = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:8]
        return self.sweep.name or "-".join([*(about.name for about in self.training_corpora), digest])


def register_schema() -> None:
    """Make `Settings` the schema that Hydra checks the configuration against."""
    ConfigStore.instance().store(name="schema", node=_schema())


def with_corpus_group(config: DictConfig) -> DictConfig:
    """The configuration of the running command with the `corpus` group that `train_corpora` calls for.

    The group that is there by default is the demo corpus's, whose budget is one of minutes: it must not stay beside
    other corpora. One corpus takes its own group, several take `joined`; a group on the command line stays. Raises
    EmodartsError for an unknown corpus.
    """
    names, hydra = list(config.train_corpora), HydraConfig.get()
    given = list(hydra.overrides.task)
    if not names or any(text.partition("=")[0].lstrip("+~") == "corpus" for text in given):
        return config
    for name in names:
        describe(name)
    return compose(hydra.job.config_name, [*given, f"corpus={names[0] if len(names) == 1 else JOINED}"])


def known_settings() -> list[str]:
    """The names of all settings, `search.nodes`."""
    return [name for name, _ in _flatten(asdict(Settings()))]


def from_hydra(config: DictConfig) -> Settings:
    """The checked settings of a composed configuration. Raises EmodartsError for what does not belong there."""
    try:
        plain = OmegaConf.to_container(config, resolve=True)
        settings = OmegaConf.to_object(OmegaConf.merge(_schema(), plain))
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, EmodartsError):
            raise error.__cause__ from None
        raise EmodartsError(format_omegaconf_error(error, known_settings())) from error
    assert isinstance(settings, Settings)
    if len(settings.train_corpora) == 1:  # the sweep of that corpus, under the same name
        root = settings.corpus.root or settings.roots.get(settings.corpus.name)
        settings = replace(settings, train_corpora=[], corpus=replace(settings.corpus, root=root))
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
