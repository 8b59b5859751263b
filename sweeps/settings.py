"""The settings of a sweep: those of all rooms together, their check, and the hash in the sweep's name."""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from emodarts.corpora.labels import label_source
from emodarts.corpora.protocols.folds import protocol_name
from emodarts.corpora.readers import describe
from emodarts.corpora.settings import SINGLE_CORPUS_SETTINGS, CorpusSettings, short_name
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import PLAIN, SEARCHED, SYSTEMS, FoldSettings
from emodarts.features.condition_names import conditions_of
from emodarts.features.settings import BY_TRAIN, BatchSettings, FeatureSettings
from emodarts.records import full_name
from emodarts.results.constraints import CONSTRAINT_TEXT, Constraint, is_constraint
from emodarts.results.ensembles import DEFAULT_TOP
from emodarts.search.settings import SearchSettings
from emodarts.settings import check_settings, is_used, setting
from emodarts.training.settings import TrainingSettings

NO_RAY = "none"  # as ray.address
TRACKERS = ("mlflow", "tensorboard", "wandb")
JOINED = "joined"  # the `corpus` of a sweep that trains on several
# What may differ from one start of a sweep to the next: no part of its hash.
_OF_A_START = (
    *("name", "trials", "folds", "seeds", "seeds_of", "top", "time_budget_hours", "max_failures", "forecast", "wait"),
    *("retry_failed", "notify", "track"),
)
_ASHA, _WILCOXON = ("pruner", "asha"), ("pruner", "wilcoxon")
_SEEDS_OF = ("winner", "members")
_RUNGS = "rising fractions above 0, at most 1"


def _is_web_url(text: str) -> bool:
    with suppress(ValueError):
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    return False


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
    study_per: str = setting("fold", "a study a fold, or one for the sweep (exploration)", choices=("fold", "sweep"))
    sampler: str = setting(
        "auto",
        "who proposes configurations: samplers of Optuna; auto: one of them by the space and the trials",
        choices=("auto", "tpe", "random", "cmaes", "gp", "nsga2"),
    )
    startup_trials: int | None = setting(
        None, "ended trials before tpe or gp has a model; null: a quarter of sweep.trials, 4 to 10", at_least=1
    )
    objectives: list[str] = setting(
        ["dev_uar"],
        "what a study optimises: dev UAR, and the number of parameters",
        check=lambda names: names in (["dev_uar"], ["dev_uar", "parameters"]),
        allowed="[dev_uar] or [dev_uar,parameters]",
    )
    choose_by: str = setting(
        "best_epoch",
        "what a study maximises and a winner is chosen by on dev: UAR at the epoch that is taken, the mean UAR of the "
        "last quarter's epochs, or exp(-loss)",
        choices=("best_epoch", "late_mean", "dev_loss"),
    )
    pruner: str = setting("none", "in a unit (asha), between folds (wilcoxon)", choices=("none", "asha", "wilcoxon"))
    inner: int = setting(
        0,
        "splits of a fold's train and dev speakers that judge its trials, raced; 0: its dev part",
        at_least=0,
        at_most=20,
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
    warm_start: list[str] = setting(
        [], "folders of finished sweeps (results/emodb-1a2b3c4d) whose trials teach the sampler; the best come first"
    )
    constraints: list[str] = setting(
        [],
        "what a network may cost ('parameters<=100000', in quotes): others teach the sampler, and never win",
        check=lambda texts: all(is_constraint(text) for text in texts),
        allowed=CONSTRAINT_TEXT,
    )
    max_failures: int = setting(
        10, "so many failed configurations and no complete one, or failed units in a row, end a sweep", at_least=1
    )
    retry_failed: bool = setting(False, "run failed units again, as further attempts, at this start")
    wait: bool = setting(False, "wait where another driver holds the sweep, as a batch system's requeue wants")
    notify: str | None = setting(
        None,
        "a URL that gets a JSON object by POST at the end, at failure, and when nothing has moved for an hour",
        check=_is_web_url,
        allowed="a URL with http:// or https://",
    )
    track: list[str] = setting(
        [],
        "where each unit is also a run, to look at: settings, epochs as they end, figures, genotype; never read back",
        check=lambda names: set(names) <= set(TRACKERS) and len(set(names)) == len(names),
        allowed=f"{', '.join(TRACKERS)}, none twice",
    )
    forecast: bool = setting(False, "predict hours, memory and what difference can be shown, and run nothing")
    dimensions: list[str] | None = setting(
        None, "the dimensions that are free, by name ([training.depth]), of `space` and `bounds`; null: all of `space`"
    )
    bounds: dict[str, Any] = setting({}, "of further dimensions, which wait for their names in `dimensions`")
    space: dict[str, Any] = setting({}, "dimensions of the studies, such as space.training.depth.high=4")

    def __post_init__(self) -> None:
        check_settings(self, "sweep")
        if self.seeds_of == "members" and not self.top:
            raise EmodartsError("sweep.seeds_of=members and sweep.top=0: there are no members: set one of them")

    @property
    def startup(self) -> int:
        """How many trials of a study have to end before a model proposes."""
        return self.startup_trials or min(max(4, self.trials // 4), 10)

    @property
    def parsed_constraints(self) -> list[Constraint]:
        """What the network of a configuration may cost."""
        return [Constraint.parse(text) for text in self.constraints]

    @property
    def finals(self) -> int:
        """How many of a study's best trials are trained on the fold's own parts, where trials ran on inner splits."""
        return max(1, self.top) if self.inner else 0

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

    @property
    def joins_cluster(self) -> bool:
        """Whether a running cluster is joined."""
        return self.address not in (None, "local", NO_RAY)


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
        None,
        f"one or a list: {SEARCHED}, `{SEARCHED}:<method>:<scope>`, {', '.join(SYSTEMS[1:])}; null: {PLAIN}, unless "
        "search.method names another",
    )
    ensemble: list[str] = setting([], "systems whose ensembles also make one together: their members of each study")
    extra_tests: list[str] = setting([], "further corpora that every network is tested on, labelled as `corpus` says")
    robustness: list[str] = setting(
        [], "test recordings are predicted again with noise (20, 10, 0 dB), or by telephone", allowed="noise, telephone"
    )
    roots: dict[str, str] = setting({}, "folders of other corpora than `corpus`; else `$EMODARTS_CORPORA/<name>`")
    train_corpora: list[str] = setting([], "trained on together, labelled as `corpus` says; none: `corpus` alone")
    matrix: list[str] = setting([], "corpora of a matrix: a sweep trained on each of them and tested on the others")
    genotypes_from: str | None = setting(None, "a finished sweep whose winners are trained here, without a search")
    genotypes_from_system: str = setting(SEARCHED, "which of its systems")
    published_protocol: bool = setting(False, "beside the sweep, the corpus's published protocol without dev part")

    def __post_init__(self) -> None:
        for name in ("train_corpora", "extra_tests", "matrix"):
            corpora = getattr(self, name)
            twice = next((corpus for corpus in corpora if corpora.count(corpus) > 1), None)
            if twice is not None:
                raise EmodartsError(f"{name}=[{','.join(corpora)}]: {twice} is named twice, name it once")
        conditions_of(self.robustness)
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
        if self.matrix:
            self._check_matrix()
            return
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

    def _check_matrix(self) -> None:
        """Raise EmodartsError where `matrix` stands beside what it would choose itself."""
        names = [name for name in ("train_corpora", "extra_tests", "genotypes_from", "protocol") if getattr(self, name)]
        names += [f"corpus.{key}" for key in SINGLE_CORPUS_SETTINGS if getattr(self.corpus, key)]
        names += ["published_protocol"] * self.published_protocol + ["corpus"] * (self.corpus.name != JOINED)
        if names or len(self.matrix) < 2:
            why = f"makes a sweep of each corpus: leave {', '.join(names)} out" if names else "name two corpora or more"
            raise EmodartsError(f"matrix=[{','.join(self.matrix)}]: {why}")
        for corpus in self.matrix:
            describe(corpus)

    def _check_ensemble(self) -> None:
        """Raise EmodartsError where `ensemble` names what is no system here, or fewer than two."""
        names = [full_name(name) for name in self.ensemble]
        unknown = [name for name in names if name not in self.systems]
        if unknown:
            raise EmodartsError(f"ensemble: {unknown[0]} is none of the systems: {', '.join(self.systems)}")
        if names and not (1 < len(set(names)) == len(names) and self.sweep.top):
            raise EmodartsError("ensemble: name two systems or more, none twice, and set sweep.top to 1 or more")

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
        names = sorted(self.train_corpora, key=short_name)
        return tuple(self.corpus.for_corpus(name, self.roots.get(short_name(name))) for name in names)

    @property
    def systems(self) -> dict[str, FoldSettings]:
        """By its name in the result tables, the settings of each system's units before a trial's parameters are put in.

        `emodarts` is the search as `search` has it, `emodarts:<method>:<scope>` the same with another method or part.
        Raises EmodartsError for an unknown system, and one that is named twice.
        """
        default = PLAIN if self.search.system == SEARCHED else SEARCHED
        names = self.system if isinstance(self.system, list) else [default if self.system is None else self.system]
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
        if (exclude := content["corpus"].pop("exclude")) is not None:  # without, as before there was such a file
            content["corpus"]["exclude"] = PurePath(exclude).name
        content["batches"] = self.batches.portable()
        # A file counts by its name: fold hashes and the store's key stand for what is in it.
        content["features"].pop("download")
        for name in ("checkpoint", "model"):
            if content["features"][name] is not None:
                content["features"][name] = PurePath(content["features"][name]).name
        if self.features.normalisation == BY_TRAIN:  # as before there was a choice
            content["features"].pop("normalisation")
        if self.training.layer is None:
            content["training"].pop("layer")
        unused = [declared.name for declared in fields(self.sweep) if not is_used(declared, self.sweep)]
        if self.sweep.dimensions is None:
            content["sweep"].pop("bounds")
        # Wherever the sweeps lie; what they hold is registered beside the settings.
        content["sweep"]["warm_start"] = sorted(PurePath(name).name for name in self.sweep.warm_start)
        unused += [] if self.sweep.inner else ["inner"]  # as before there was a choice
        for name in (*_OF_A_START, *unused):
            content["sweep"].pop(name)
        groups = {group: content[group] for group in ("corpus", "features", "batches", "search", "training", "sweep")}
        # Empty lists do not count, so that a sweep of one corpus has the hash that it had before there were lists.
        lists = {"extra_tests": self.extra_tests, "robustness": self.robustness}
        lists |= {"train_corpora": self.train_corpora if self.joins_corpora else []}
        listed = {name: sorted(map(short_name, names)) for name, names in lists.items() if names}
        return {**dict(flatten(groups)), **listed}

    def _corpus_hashed(self) -> dict[str, Any]:
        """The corpus's settings as they are meant where they are left to their defaults."""
        if not self.joins_corpora:
            name = self.corpus.short_name
            return {"name": name, "protocol": protocol_name(self.corpus), "source": label_source(self.corpus)}
        name = "+".join(corpus.short_name for corpus in self.training_corpora)
        return {"name": name, "protocol": f"{name}/joined"}

    @property
    def sweep_name(self) -> str:
        """`sweep.name`, else the corpora (`emodb-ravdess`) and 8 digits of the hash."""
        return self.sweep_name_of(self.hashed_settings())

    def sweep_name_of(self, hashed: dict[str, Any]) -> str:
        """`sweep_name` with other settings in the hash."""
        digest = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:8]
        return self.sweep.name or "-".join([*(corpus.short_name for corpus in self.training_corpora), digest])


def flatten(content: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as pairs of a dotted name and a value."""
    rows: list[tuple[str, Any]] = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            rows += flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows
