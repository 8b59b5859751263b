"""The settings of a sweep: those of all rooms together, their check, and the hash in the sweep's name."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import PurePath
from typing import Any

from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from emodarts.corpora.labels import label_source
from emodarts.corpora.protocols.folds import protocol_name
from emodarts.corpora.readers import describe
from emodarts.corpora.settings import SINGLE_CORPUS_SETTINGS, CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import SEARCHED, SYSTEMS, FoldSettings
from emodarts.features.settings import BY_TRAIN, BatchSettings, FeatureSettings
from emodarts.results.ensembles import DEFAULT_TOP
from emodarts.search.settings import SearchSettings
from emodarts.settings import check_settings, is_used, setting
from emodarts.training.settings import TrainingSettings
from sweeps.hydra_errors import format_omegaconf_error

NO_RAY = "none"  # as ray.address
JOINED = "joined"  # the `corpus` of a sweep that trains on several
# What may differ from one start of a sweep to the next: no part of its hash.
_OF_A_START = ("name", "trials", "folds", "seeds", "seeds_of", "top", "time_budget_hours", "max_failures", "forecast")
_ASHA, _WILCOXON = ("pruner", "asha"), ("pruner", "wilcoxon")
_SEEDS_OF = ("winner", "members")
_BUNDLE_GROUPS = ("wavlm", "wav2vec2", "hubert")  # of sweeps/conf/features
_RUNGS = "rising fractions above 0, at most 1"


def _are_rungs(fractions: list[float]) -> bool:
    return all(0 < fraction <= 1 for fraction in fractions) and all(a < b for a, b in pairwise(fractions))


@dataclass(frozen=True)
class SweepSettings:
    """The outer loop: studies, who proposes, who is pruned."""

    name: str | None = setting(
        None,
        "null: the corpus and 8 digits of a hash of the settings that count",
        check=lambda name: name.replace("-", "").replace("_", "").isalnum(),
        allowed="letters, digits, - and _",
    )
    trials: int = setting(10, "configurations a study, over all starts of the command", at_least=1, at_most=100_000)
    folds: list[int] | None = setting(None, "numbers of the folds to run, from 0; null: all")
    seeds: int = setting(1, "seeds of each study's winner; trials have the first alone", at_least=1, at_most=100)
    seeds_of: str = setting(
        "winner", "who gets further seeds: each study's winner, or all members of its ensemble", choices=_SEEDS_OF
    )
    top: int = setting(
        DEFAULT_TOP, "members of a study's ensemble, its best trials on dev; 0: no ensembles", at_least=0, at_most=100
    )
    seed: int = setting(0, "the first seed", at_least=0)
    time_budget_hours: float | None = setting(None, "no unit is begun after so many; null: no limit", above=0)
    study_per: str = setting(
        "fold", "one study a fold, or one for the whole sweep (exploration)", choices=("fold", "sweep")
    )
    sampler: str = setting(
        "tpe", "who proposes configurations: samplers of Optuna", choices=("tpe", "random", "cmaes", "gp", "nsga2")
    )
    objectives: list[str] = setting(
        ["dev_uar"],
        "what a study optimises: dev UAR, and the number of parameters",
        check=lambda names: names in (["dev_uar"], ["dev_uar", "parameters"]),
        allowed="[dev_uar] or [dev_uar,parameters]",
    )
    pruner: str = setting(
        "none", "within a unit (asha), or between folds (wilcoxon)", choices=("none", "asha", "wilcoxon")
    )
    reduction_factor: int = setting(3, "one of so many goes on at each rung", at_least=2, at_most=10, only_with=_ASHA)
    search_rungs: list[float] = setting(
        [], "fractions of a search's epochs", check=_are_rungs, allowed=_RUNGS, only_with=_ASHA
    )
    training_rungs: list[float] = setting(
        [0.125], "fractions of a training's epochs", check=_are_rungs, allowed=_RUNGS, only_with=_ASHA
    )
    startup_folds: int = setting(
        3, "folds of a configuration that run before it may be pruned", at_least=2, only_with=_WILCOXON
    )
    p_threshold: float = setting(0.1, "of the signed-rank test", above=0, below=1, only_with=_WILCOXON)
    max_failures: int = setting(10, "so many failed configurations, and no complete one, end a sweep", at_least=1)
    forecast: bool = setting(False, "predict hours and memory, and run nothing")
    space: dict[str, Any] = setting({}, "dimensions of the studies, such as space.search.nodes.high=4")

    def __post_init__(self) -> None:
        check_settings(self, "sweep")
        if self.seeds_of == "members" and not self.top:
            raise EmodartsError(
                "sweep.seeds_of=members and sweep.top=0: there are no members; set sweep.top, or leave it"
            )

    @property
    def seeded(self) -> int:
        """How many of a study's best trials are run with all seeds."""
        return self.top if self.seeds_of == "members" else 1


@dataclass(frozen=True)
class ResourceSettings:
    """What a unit of work, which is a trial of Ray Tune, asks Ray for."""

    device: str = setting("auto", "cpu, cuda, or auto: a GPU where there is one")
    cpus_per_trial: int = setting(1, "cores a unit", at_least=1)
    gpus_per_trial: float | None = setting(
        None, "GPUs a unit; null: a quarter where `device` finds a GPU, else none", at_least=0, at_most=16
    )
    max_concurrent_trials: int | None = setting(
        None, "units at once; null: as many as the nodes that are there can run", at_least=1
    )

    def __post_init__(self) -> None:
        check_settings(self, "resources")


@dataclass(frozen=True)
class RaySettings:
    """Which Ray to use."""

    address: str | None = setting(
        None, "null or local: one started here; auto or host:port: one that runs; none: no Ray, all in one process"
    )
    dashboard: bool = setting(True, "start Ray's dashboard")
    dashboard_port: int | None = setting(None, "port of the dashboard; null: 8265, or the next one that is free")


@dataclass(frozen=True)
class Settings:
    """What is compared, trained on and tested on, and where the results go; the groups have the rest.

    Raises EmodartsError for corpora that are unknown, named twice, or named beside settings that speak of one.
    """

    corpus: CorpusSettings = field(default_factory=CorpusSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    batches: BatchSettings = field(default_factory=BatchSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)
    resources: ResourceSettings = field(default_factory=ResourceSettings)
    ray: RaySettings = field(default_factory=RaySettings)
    results: str = setting("results", "folder or URI of the result tables")
    protocol: str | None = setting(None, "short for corpus.protocol, which it replaces")
    system: Any = setting(
        SEARCHED, f"compared, one or a list: {SEARCHED}, `{SEARCHED}:<method>:<scope>`, {', '.join(SYSTEMS[1:])}"
    )
    ensemble: list[str] = setting([], "systems whose ensembles also make one together: their members of each study")
    extra_tests: list[str] = setting([], "further corpora that every network is tested on, labelled as `corpus` says")
    roots: dict[str, str] = setting({}, "folders of other corpora than `corpus`; else `$EMODARTS_CORPORA/<name>`")
    train_corpora: list[str] = setting([], "trained on together, labelled as `corpus` says; none: `corpus` alone")
    genotypes_from: str | None = setting(None, "a finished sweep whose winners are trained here, without a search")
    genotypes_from_system: str = setting(SEARCHED, "which of its systems")
    published_protocol: bool = setting(False, "beside the sweep, the corpus's published protocol without dev part")

    def __post_init__(self) -> None:
        for name, corpora in (("train_corpora", self.train_corpora), ("extra_tests", self.extra_tests)):
            twice = next((corpus for corpus in corpora if corpora.count(corpus) > 1), None)
            if twice is not None:
                raise EmodartsError(f"{name}=[{','.join(corpora)}]: {twice} is named twice, name it once")
        self._check_training()
        self._check_ensemble()
        if self.ray.address == NO_RAY and self.resources.max_concurrent_trials not in (None, 1):
            raise EmodartsError(
                f"resources.max_concurrent_trials={self.resources.max_concurrent_trials}: ray.address={NO_RAY} has one "
                "process, the command's own"
            )

    def _check_training(self) -> None:
        """Raise EmodartsError where `corpus` and `train_corpora` do not go together."""
        command, name = f"train_corpora=[{','.join(self.train_corpora)}]", self.corpus.name
        if name == JOINED and not self.joins_corpora:
            raise EmodartsError(f"corpus={JOINED} joins two corpora or more: name them with train_corpora=[a,b]")
        for corpus in self.train_corpora:
            describe(corpus)
        if len(self.train_corpora) == 1 and self.train_corpora != [name]:
            raise EmodartsError(f"{command} and corpus={name}: these are two corpora; leave one of the settings out")
        if not self.joins_corpora:
            return
        if name != JOINED:
            raise EmodartsError(
                f"{command} and corpus={name}: each corpus of the list has its own settings; leave corpus={name} out"
            )
        single = [f"corpus.{key}" for key in SINGLE_CORPUS_SETTINGS if getattr(self.corpus, key)]
        if single or self.protocol:
            raise EmodartsError(
                f"{command} names several corpora, and {', '.join(single) or 'protocol'} would speak of one: leave it "
                "out. Each has its own default protocol and labels; folders are named with roots.<corpus>"
            )

    def _check_ensemble(self) -> None:
        """Raise EmodartsError where `ensemble` names what is no system here, or fewer than two."""
        names = self.ensemble
        unknown = [name for name in names if name not in self.systems]
        if unknown:
            have = ", ".join(self.systems)
            raise EmodartsError(f"ensemble=[{','.join(names)}]: {unknown[0]} is none of the systems: {have}")
        if names and not (1 < len(set(names)) == len(names) and self.sweep.top):
            raise EmodartsError(
                f"ensemble=[{','.join(names)}]: name two systems or more, none twice, and set sweep.top to 1 or more"
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
        names = self.system if isinstance(self.system, list) else [self.system]
        settings = [self._fold_settings(name) for name in names if isinstance(name, str)]
        by_name = {s.search.system if s.searches else s.system: s for s in settings}
        if not len(names) == len(by_name) > 0:
            raise EmodartsError(f"system={self.system}: one system, or a list of several, none twice")
        return by_name

    def _fold_settings(self, system: str) -> FoldSettings:
        search = self.search
        if system.startswith(f"{SEARCHED}:"):
            search, system = search.for_system(system), SEARCHED
        return FoldSettings(self.features, search, self.training, self.batches, system)

    def hashed_settings(self) -> dict[str, Any]:
        """The settings that change a result or the proposals, by dotted name: the same for all systems of a sweep."""
        content = asdict(self)
        content["corpus"] |= self._corpus_hashed()
        content["corpus"].pop("root")
        content["batches"].pop("device_memory_fraction")
        # A file counts by its name: fold hashes and the store's key stand for what is in it.
        content["features"].pop("download")
        for name in ("checkpoint", "model"):
            if content["features"][name] is not None:
                content["features"][name] = PurePath(content["features"][name]).name
        if self.features.normalisation == BY_TRAIN:  # as before there was a choice
            content["features"].pop("normalisation")
        unused = [declared.name for declared in fields(self.sweep) if not is_used(declared, self.sweep)]
        for name in (*_OF_A_START, *unused):
            content["sweep"].pop(name)
        groups = {group: content[group] for group in ("corpus", "features", "batches", "search", "training", "sweep")}
        # Empty lists do not count, so that a sweep of one corpus has the hash that it had before there were lists.
        lists = {"extra_tests": self.extra_tests, "train_corpora": self.train_corpora if self.joins_corpora else []}
        return {**dict(flatten(groups)), **{name: sorted(names) for name, names in lists.items() if names}}

    def _corpus_hashed(self) -> dict[str, Any]:
        """The corpus's settings as they are meant where they are left to their defaults."""
        if not self.joins_corpora:
            return {"protocol": protocol_name(self.corpus), "source": label_source(self.corpus)}
        name = "+".join(corpus.name for corpus in self.training_corpora)
        return {"name": name, "protocol": f"{name}/joined"}

    @property
    def sweep_name(self) -> str:
        """`sweep.name`, else the corpora (`emodb-ravdess`) and 8 digits of the hash."""
        return self.sweep_name_of(self.hashed_settings())

    def sweep_name_of(self, hashed: dict[str, Any]) -> str:
        """`sweep_name` with other settings in the hash."""
        digest = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:8]
        return self.sweep.name or "-".join([*(corpus.name for corpus in self.training_corpora), digest])


def register_schema() -> None:
    """Make `Settings` the schema that Hydra checks the configuration against."""
    ConfigStore.instance().store(name="schema", node=_schema())


def with_chosen_groups(config: DictConfig) -> DictConfig:
    """The configuration of the running command with the groups that `train_corpora` and `features.model` call for.

    The `corpus` group that is there by default is the demo corpus's, whose budget is one of minutes: it must not stay
    beside other corpora. One corpus takes its own group, several take `joined`; a group on the command line stays. With
    a model of transformers, the layers that `features=wavlm` has of its bundle of torchaudio do not count. Raises
    EmodartsError for an unknown corpus.
    """
    names, hydra = list(config.train_corpora), HydraConfig.get()
    overrides = list(hydra.overrides.task)
    chosen = overrides
    if config.features.model is not None:
        bundles = [f"features={name}" for name in _BUNDLE_GROUPS]
        chosen = ["features=encoder" if text.lstrip("+~") in bundles else text for text in overrides]
    if names and not any(text.partition("=")[0].lstrip("+~") == "corpus" for text in overrides):
        for name in names:
            describe(name)
        chosen = [*chosen, f"corpus={names[0] if len(names) == 1 else JOINED}"]
    return config if chosen == overrides else compose(hydra.job.config_name, chosen)


def known_settings() -> list[str]:
    """The names of all settings, `search.nodes`."""
    return [name for name, _ in flatten(asdict(Settings()))]


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
    # OmegaConf makes read-only nodes of frozen dataclasses, and those refuse every override.
    node._set_flag("readonly", None)
    if isinstance(node, DictConfig) and not node._is_none():
        for key in node:
            child = node._get_node(key)
            if isinstance(child, DictConfig | ListConfig):
                _writable(child)


def flatten(content: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as pairs of a dotted name and a value."""
    rows: list[tuple[str, Any]] = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            rows += flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows
