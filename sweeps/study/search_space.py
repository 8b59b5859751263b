"""The outer search space: what Optuna may vary, what is fixed, and dimensions that exist under a condition only."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import product
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.networks.genotype import Genotype
from sweeps.settings import Settings
from sweeps.study.genotype_space import GROUP, genotype_dimensions, genotype_of

Distribution = optuna.distributions.BaseDistribution
_SYSTEM_SETTINGS = ("search.method", "search.scope")  # they name the system, and a study is of one system
_GROUPS = ("search", "training", "batches")
_RANGE_KEYS = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class SearchSpace:
    """The settings of a system's units before a trial's parameters are put in, and which of them a trial sets.

    `free` dimensions, and those `fixed` to a value, by names as `search.nodes`. `conditions`: free dimension -> setting
    -> the values of that setting under which the dimension exists. `measured`: what the driver measured once for all
    trials, which have it in their parameters.
    """

    settings: FoldSettings
    free: dict[str, Distribution] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, dict[str, tuple[Any, ...]]] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    genotype_defaults: dict[str, str] = field(default_factory=dict)  # of the dimensions that are choices of a genotype

    @classmethod
    def of(cls, settings: Settings, system: FoldSettings | None = None) -> "SearchSpace":
        """Read those dimensions of `sweep.space` that a system has (None: the first of the settings).

        Raises EmodartsError for unknown dimensions, bounds that the settings refuse, and conditions that never hold.
        """
        system = system or next(iter(settings.systems.values()))
        free: dict[str, Distribution] = {}
        fixed: dict[str, Any] = {}
        conditions: dict[str, dict[str, tuple[Any, ...]]] = {}
        for path, dimension in _dimensions(settings):
            if not system.uses(path):
                continue
            if isinstance(dimension, dict):
                free[path] = _distribution(path, dimension, settings)
                if dimension.get("when"):
                    conditions[path] = _conditions(path, dimension["when"], settings)
            elif dimension is not None:
                fixed[path] = dimension
        space = cls(system, _sorted_by_dependency(free, conditions), fixed, conditions)
        if system.searches and system.search.method == "sampler":
            space = space._with_genotypes(genotype_dimensions(system))
        space._check()
        return space

    def _with_genotypes(self, dimensions: dict[str, tuple[dict[str, Any], str]]) -> "SearchSpace":
        """The space with the choices of a genotype; without those of cells that no network of it has."""
        free = self.free | {path: _categorical(d["choices"]) for path, (d, _) in dimensions.items()}
        conditions = self.conditions | {path: d["when"] for path, (d, _) in dimensions.items() if d["when"]}
        space = replace(self, free=free, conditions=conditions)
        dead = {path for path in dimensions if not space._can_exist(path)}
        return replace(
            self,
            free=_sorted_by_dependency({path: d for path, d in free.items() if path not in dead}, conditions),
            conditions={path: when for path, when in conditions.items() if path not in dead},
            genotype_defaults={path: default for path, (_, default) in dimensions.items() if path not in dead},
        )

    def genotype(self, parameters: dict[str, Any]) -> Genotype | None:
        """The genotype of a configuration whose choices are dimensions; None: it is searched, or there is none."""
        return genotype_of(self.settings, parameters) if self.genotype_defaults else None

    @cached_property
    def preset(self) -> dict[str, Any]:
        """The values of settings that conditions mention and no free dimension sets."""
        names = sorted({name for condition in self.conditions.values() for name in condition} - set(self.free))
        return {name: self.fixed.get(name, self.settings.value_of(name)) for name in names}

    def default_parameters(self) -> dict[str, Any]:
        """The preset's own configuration, brought inside the bounds: the first proposal of each study."""
        parameters: dict[str, Any] = {}
        for path, distribution in self.free.items():
            if self._exists(path, parameters):
                default = self.genotype_defaults.get(path)
                value = self.settings.value_of(path) if default is None else default
                parameters[path] = _nearest(value, distribution)
        return parameters

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Ask an Optuna trial for every dimension that exists, those that others depend on first."""
        parameters: dict[str, Any] = {}
        for path, distribution in self.free.items():
            if self._exists(path, parameters):
                parameters[path] = _suggest(trial, path, distribution)
        return parameters

    def distributions_of(self, parameters: dict[str, Any]) -> dict[str, Distribution]:
        """The distributions that a configuration's parameters were drawn from."""
        return {path: distribution for path, distribution in self.free.items() if path in parameters}

    def accepts(self, parameters: dict[str, Any]) -> bool:
        """Whether a configuration of another study has exactly the dimensions that exist here, within their bounds."""
        own: dict[str, Any] = {}
        for path, distribution in self.free.items():
            if self._exists(path, own):
                if path not in parameters or not _contains(distribution, parameters[path]):
                    return False
                own[path] = parameters[path]
        return parameters.keys() - self.measured.keys() == own.keys()

    def apply(self, parameters: dict[str, Any]) -> FoldSettings:
        """The settings of a trial's units. Raises EmodartsError for parameters that they refuse."""
        changes: dict[str, dict[str, Any]] = {group: {} for group in _GROUPS}
        for path, value in {**self.fixed, **parameters}.items():
            group, name = path.split(".")
            if group != GROUP:
                changes[group][name] = value
        groups = {group: replace(getattr(self.settings, group), **values) for group, values in changes.items()}
        return replace(self.settings, **groups)

    def _exists(self, path: str, parameters: dict[str, Any]) -> bool:
        values = {**self.preset, **parameters}
        # A dimension that does not exist has no value, and neither do those whose conditions mention it.
        required = self.conditions.get(path, {})
        return all(name in values and values[name] in allowed for name, allowed in required.items())

    def _check(self) -> None:
        """Refuse bounds that the settings refuse, conditions that never hold, and what does nothing."""
        for path, condition in self.conditions.items():
            for name, allowed in condition.items():
                if not any(self._can_be(name, value) for value in allowed):
                    raise EmodartsError(
                        f"sweep.space.{path}: {name} is never {' or '.join(map(str, allowed))}, so that it never counts"
                    )
        for path, distribution in self.free.items():
            self._refuse_unused(path)
            for value in _extremes(distribution):
                self.apply({**self._required_parameters(path), path: value})
        # Families of sequence operations that one of several spaces of operations does not have.
        names = ("search.space", "search.seqnn")
        for pair in product(*(_extremes(self.free[name]) if name in self.free else () for name in names)):
            self.apply(dict(zip(names, pair, strict=True)))

    def _refuse_unused(self, path: str) -> None:
        """Refuse a dimension whose setting does nothing, since another one (`only_with`) is never as it needs it."""
        group, _, own = path.partition(".")
        if group == GROUP:
            return
        declared = next(declared for declared in fields(getattr(self.settings, group)) if declared.name == own)
        other, *values = declared.metadata.get("only_with", ("",))
        needed = f"{group}.{other}"
        if not other or needed in self.free:
            return
        value = self.fixed.get(needed, self.settings.value_of(needed))
        if value not in values:
            raise EmodartsError(
                f"sweep.space.{path} does nothing with {needed}={value}: leave it out, or set {needed} to "
                f"{' or '.join(map(str, values))}"
            )

    def _can_exist(self, path: str) -> bool:
        conditions = self.conditions.get(path, {}).items()
        return all(any(self._can_be(name, value) for value in allowed) for name, allowed in conditions)

    def _can_be(self, name: str, value: Any) -> bool:
        if name in self.free:
            return _contains(self.free[name], value)
        return bool(self.preset[name] == value)

    def _required_parameters(self, path: str) -> dict[str, Any]:
        """Values of other free dimensions under which a dimension exists."""
        parameters: dict[str, Any] = {}
        for name, allowed in self.conditions.get(path, {}).items():
            if name in self.free:
                value = next(v for v in allowed if self._can_be(name, v))
                parameters |= {**self._required_parameters(name), name: value}
        return parameters


def _dimensions(settings: Settings) -> list[tuple[str, Any]]:
    """The dimensions of `sweep.space`, by name; with `sweep.dimensions`, of those of `space` and `bounds` that have
    bounds the ones that it names.

    Raises EmodartsError for what is no setting of search, training or batches, and for names that there are not.
    """
    names = settings.sweep.dimensions
    free = dict(_read_dimensions("space", settings.sweep.space, settings))
    if names is None:
        return sorted(free.items())
    all_dimensions = dict(_read_dimensions("bounds", settings.sweep.bounds, settings)) | free
    bounded = {path: dimension for path, dimension in all_dimensions.items() if isinstance(dimension, dict)}
    unknown = [name for name in names if name not in bounded]
    if unknown:
        raise EmodartsError(
            f"sweep.dimensions: {unknown[0]} has no bounds: name one of {', '.join(sorted(bounded))}, or say "
            f"+sweep.space.{unknown[0]}={{low:...,high:...}}"
        )
    fixed = {path: value for path, value in free.items() if not isinstance(value, dict)}
    return sorted((fixed | {name: bounded[name] for name in names}).items())


def _read_dimensions(where: str, space: dict[str, Any], settings: Settings) -> Iterator[tuple[str, Any]]:
    for group, by_name in space.items():
        if group not in _GROUPS or not isinstance(by_name, dict):
            raise EmodartsError(f"sweep.{where}.{group}: a dimension is a setting of {', '.join(_GROUPS)}")
        for name, dimension in by_name.items():
            path = f"{group}.{name}"
            _check_setting(f"sweep.{where}.{path}", path, settings)
            if path in _SYSTEM_SETTINGS:
                raise EmodartsError(
                    f"sweep.{where}.{path}: it names the system, and a study is of one: set {path} itself"
                )
            yield path, dimension


def _check_setting(where: str, path: str, settings: Settings) -> None:
    group, _, name = path.partition(".")
    if group not in _GROUPS or name not in {f.name for f in fields(getattr(settings, group))}:
        raise EmodartsError(f"{where}: there is no setting {path}")


def _conditions(path: str, when: Any, settings: Settings) -> dict[str, tuple[Any, ...]]:
    """`when: {search.regulariser: beta_decay}`; Hydra's command line makes nested dictionaries of dotted names."""
    where = f"sweep.space.{path}.when"
    if not isinstance(when, dict):
        raise EmodartsError(f"{where}={when}: it maps a setting to a value or a list of values")
    conditions: dict[str, tuple[Any, ...]] = {}
    for name, value in when.items():
        by_name = {f"{name}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {name: value}
        conditions |= {full: tuple(v) if isinstance(v, list) else (v,) for full, v in by_name.items()}
    for name in conditions:
        _check_setting(where, name, settings)
    return conditions


def _sorted_by_dependency(
    free: dict[str, Distribution], conditions: dict[str, dict[str, tuple[Any, ...]]]
) -> dict[str, Distribution]:
    """The dimensions, each after those that its conditions mention. Raises EmodartsError for a circle."""
    dependencies = {path: [name for name in conditions.get(path, {}) if name in free] for path in free}
    try:
        return {path: free[path] for path in TopologicalSorter(dependencies).static_order()}
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise EmodartsError(f"sweep.space: these dimensions are conditions of each other: {circle}") from error


def _distribution(path: str, dimension: dict[str, Any], settings: Settings) -> Distribution:
    """The distribution of a free dimension. Raises EmodartsError for one that cannot be read."""
    keys = {key: value for key, value in dimension.items() if key != "when"}
    if path == "search.seqnn" and keys.get("choices") == "families":
        keys["choices"] = list(settings.search.families)  # those of the operations that the settings choose among
    group, _, name = path.partition(".")
    try:
        if set(keys) - {"choices", *_RANGE_KEYS}:
            raise ValueError("has choices, or low and high with log or step, and may have when")
        # A dimension of the command line is merged into that of the files: the last of the two kinds counts.
        kinds = [key for key in keys if key in ("choices", "low")]
        if kinds[-1:] == ["choices"]:
            return _categorical(keys["choices"])
        if not {"low", "high"} <= set(keys):
            raise ValueError("needs low and high, or choices")
        return _range(keys, isinstance(getattr(getattr(settings, group), name), int))
    except (ValueError, TypeError) as error:
        raise EmodartsError(f"sweep.space.{path}={dimension}: {error}") from error


def _categorical(choices: Any) -> Distribution:
    if not isinstance(choices, list) or not choices:
        raise ValueError("needs at least one choice, as a list")
    if any(choice in choices[:number] for number, choice in enumerate(choices)):
        raise ValueError("names a choice twice")
    return CategoricalDistribution(tuple(choices))


def _range(keys: dict[str, Any], is_integer: bool) -> Distribution:
    low, high, log, step = keys["low"], keys["high"], keys.get("log", False), keys.get("step")
    if not isinstance(log, bool):
        raise ValueError("log is true or false")
    if step is not None and step <= 0:
        raise ValueError("step is above 0")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log, step=1 if step is None else step)
    if is_integer:
        raise ValueError("is a whole number, and so are its bounds")
    return FloatDistribution(float(low), float(high), log=log, step=step)


def _extremes(distribution: Distribution) -> tuple[Any, ...]:
    """The bounds of a dimension, or all of its choices."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    return (distribution.low, distribution.high)  # type: ignore[attr-defined]


def _contains(distribution: Distribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    low, high = _extremes(distribution)
    return isinstance(value, int | float) and low <= value <= high


def _nearest(value: Any, d: Any) -> Any:
    if isinstance(d, CategoricalDistribution):
        return value if value in d.choices else d.choices[0]
    if value is None:
        return d.low
    if d.step:
        value = d.low + round((value - d.low) / d.step) * d.step
    return min(max(value, d.low), d.high)


def _suggest(trial: optuna.Trial, path: str, d: Distribution) -> Any:
    if isinstance(d, CategoricalDistribution):
        return trial.suggest_categorical(path, d.choices)
    if isinstance(d, IntDistribution):
        return trial.suggest_int(path, d.low, d.high, step=d.step, log=d.log)
    assert isinstance(d, FloatDistribution)
    return trial.suggest_float(path, d.low, d.high, step=d.step, log=d.log)
