"""The outer search space: what Optuna may vary, what is fixed, and dimensions that are there under a condition only."""

from dataclasses import dataclass, field, fields, replace
from graphlib import CycleError, TopologicalSorter
from itertools import product
from typing import TYPE_CHECKING, Any

import optuna

from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import FoldSettings

if TYPE_CHECKING:
    from sweeps.settings import Settings

Distribution = optuna.distributions.BaseDistribution
_NAMING = ("search.method", "search.scope")
_BOUNDS = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class SearchSpace:
    """Free dimensions, and those fixed to a value. Names as `search.nodes`.

    `conditions`: free dimension -> setting -> the values of it under which the dimension is there.
    `preset`: the values of settings that conditions speak of where no dimension sets them.
    """

    free: dict[str, Distribution]
    fixed: dict[str, Any]
    conditions: dict[str, dict[str, tuple[Any, ...]]] = field(default_factory=dict)
    preset: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: "Settings", system: FoldSettings | None = None) -> "SearchSpace":
        """Read those dimensions of `sweep.space` that a system has (None: the first of the settings).

        Raises EmodartsError for unknown dimensions, bounds that the settings refuse, and conditions that never hold.
        """
        system = system or next(iter(settings.systems.values()))
        free: dict[str, Distribution] = {}
        fixed: dict[str, Any] = {}
        conditions: dict[str, dict[str, tuple[Any, ...]]] = {}
        for path, given in _dimensions(settings):
            if not system.uses(path):
                continue
            if isinstance(given, dict):
                free[path] = _distribution(path, _with_families(path, given, settings), settings)
                if given.get("when"):
                    conditions[path] = _conditions(path, given["when"], settings)
            elif given is not None:
                fixed[path] = given
        names = {name for condition in conditions.values() for name in condition}
        preset = {name: _value(system, name) for name in sorted(names - set(free) - set(fixed))}
        space = cls(_in_order(dict(sorted(free.items())), conditions), fixed, conditions, preset)
        space._check(system)
        return space

    def default(self, settings: FoldSettings) -> dict[str, Any]:
        """The preset's own configuration, brought inside the bounds: the first proposal of each study."""
        parameters: dict[str, Any] = {}
        for path, distribution in self.free.items():
            if self._holds(path, parameters):
                parameters[path] = _nearest(_value(settings, path), distribution)
        return parameters

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Ask an Optuna trial for every dimension that is there, those that others depend on first."""
        parameters: dict[str, Any] = {}
        for path, distribution in self.free.items():
            if self._holds(path, parameters):
                parameters[path] = _suggest(trial, path, distribution)
        return parameters

    def active(self, parameters: dict[str, Any]) -> dict[str, Distribution]:
        """The distributions that a configuration's parameters were drawn from."""
        return {path: distribution for path, distribution in self.free.items() if path in parameters}

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

    def _holds(self, path: str, parameters: dict[str, Any]) -> bool:
        known = {**self.preset, **self.fixed, **parameters}
        # A dimension that is not there itself has no value, and what hangs on it is not there either.
        return all(name in known and known[name] in allowed for name, allowed in self.conditions.get(path, {}).items())

    def _check(self, settings: FoldSettings) -> None:
        """Refuse bounds that the settings refuse, and conditions that never hold."""
        for path, condition in self.conditions.items():
            for name, allowed in condition.items():
                if not any(self._may_be(name, value) for value in allowed):
                    raise EmodartsError(
                        f"sweep.space.{path}: {name} is never {' or '.join(map(str, allowed))}, so that it never counts"
                    )
        for path, distribution in self.free.items():
            for value in extremes(distribution):
                self.apply(settings, {**self._meeting(path), path: value})
        # Families of sequence operations that one of several spaces of operations does not have.
        names = ("search.space", "search.seqnn")
        for pair in product(*(extremes(self.free[name]) if name in self.free else () for name in names)):
            self.apply(settings, dict(zip(names, pair, strict=True)))

    def _may_be(self, name: str, value: Any) -> bool:
        if name in self.free:
            return _contains(self.free[name], value)
        return bool({**self.preset, **self.fixed}[name] == value)

    def _meeting(self, path: str) -> dict[str, Any]:
        """Values of other free dimensions under which a dimension is there."""
        found: dict[str, Any] = {}
        for name, allowed in self.conditions.get(path, {}).items():
            if name in self.free:
                found |= {**self._meeting(name), name: next(v for v in allowed if self._may_be(name, v))}
        return found


def _dimensions(settings: "Settings") -> list[tuple[str, Any]]:
    """The dimensions of `sweep.space`, by name. Raises EmodartsError for what is no setting of search or training."""
    found = []
    for room, dimensions in settings.sweep.space.items():
        if room not in ("search", "training") or not isinstance(dimensions, dict):
            raise EmodartsError(f"sweep.space.{room}: a dimension is search.<setting> or training.<setting>")
        for name, given in dimensions.items():
            path = f"{room}.{name}"
            _known(f"sweep.space.{path}", path, settings)
            if path in _NAMING:
                raise EmodartsError(
                    f"sweep.space.{path}: it names the system, and a study is of one: set {path} itself"
                )
            found.append((path, given))
    return found


def _known(where: str, path: str, settings: "Settings") -> None:
    room, _, name = path.partition(".")
    if room not in ("search", "training") or name not in {f.name for f in fields(getattr(settings, room))}:
        raise EmodartsError(f"{where}: there is no setting {path}")


def _conditions(path: str, when: Any, settings: "Settings") -> dict[str, tuple[Any, ...]]:
    """`when: {search.regulariser: beta_decay}`; Hydra's command line makes nested dictionaries of dotted names."""
    where = f"sweep.space.{path}.when"
    if not isinstance(when, dict):
        raise EmodartsError(f"{where}={when}: it maps a setting to a value or a list of values")
    found: dict[str, tuple[Any, ...]] = {}
    for name, value in when.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": tuple(v) if isinstance(v, list) else (v,) for inner, v in value.items()}
        else:
            found[name] = tuple(value) if isinstance(value, list) else (value,)
    for name in found:
        _known(where, name, settings)
    return found


def _in_order(
    free: dict[str, Distribution], conditions: dict[str, dict[str, tuple[Any, ...]]]
) -> dict[str, Distribution]:
    """The dimensions by name, each after those that its conditions speak of. Raises EmodartsError for a circle."""
    needs = {path: [name for name in conditions.get(path, {}) if name in free] for path in free}
    try:
        return {path: free[path] for path in TopologicalSorter(needs).static_order()}
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise EmodartsError(f"sweep.space: these dimensions are conditions of each other: {circle}") from error


def _with_families(path: str, given: dict[str, Any], settings: "Settings") -> dict[str, Any]:
    """`choices: families` of `search.seqnn` are those of the sequence operations that the settings choose among."""
    if path == "search.seqnn" and given.get("choices") == "families":
        return {**given, "choices": list(settings.search.families)}
    return given


def _distribution(path: str, given: dict[str, Any], settings: "Settings") -> Distribution:
    asked = {key: value for key, value in given.items() if key != "when"}
    room, _, name = path.partition(".")
    try:
        if set(asked) - {"choices", *_BOUNDS}:
            raise ValueError("has choices, or low and high with log or step, and may have when")
        # A dimension given on the command line is merged into that of the files: what was said last counts.
        kinds = [key for key in asked if key in ("choices", "low")]
        if kinds[-1:] == ["choices"]:
            return _categorical(asked["choices"])
        if not {"low", "high"} <= set(asked):
            raise ValueError("needs low and high, or choices")
        return _range(asked, isinstance(getattr(getattr(settings, room), name), int))
    except (ValueError, TypeError) as error:
        raise EmodartsError(f"sweep.space.{path}={given}: {error}") from error


def _categorical(choices: Any) -> Distribution:
    if not isinstance(choices, list) or not choices:
        raise ValueError("needs at least one choice, as a list")
    if any(choice in choices[:number] for number, choice in enumerate(choices)):
        raise ValueError("names a choice twice")
    return optuna.distributions.CategoricalDistribution(tuple(choices))


def _range(asked: dict[str, Any], whole: bool) -> Distribution:
    low, high, log, step = asked["low"], asked["high"], asked.get("log", False), asked.get("step")
    if not isinstance(log, bool):
        raise ValueError("log is true or false")
    if step is not None and step <= 0:
        raise ValueError("step is above 0")
    if isinstance(low, int) and isinstance(high, int):
        return optuna.distributions.IntDistribution(low, high, log=log, step=1 if step is None else step)
    if whole:
        raise ValueError("is a whole number, and so are its bounds")
    return optuna.distributions.FloatDistribution(float(low), float(high), log=log, step=step)


def extremes(distribution: Distribution) -> tuple[Any, ...]:
    """The bounds of a dimension, or all of its choices."""
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return distribution.choices
    return (distribution.low, distribution.high)  # type: ignore[attr-defined]


def _contains(distribution: Distribution, value: Any) -> bool:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return value in distribution.choices
    low, high = extremes(distribution)
    return isinstance(value, int | float) and low <= value <= high


def _nearest(value: Any, d: Any) -> Any:
    if isinstance(d, optuna.distributions.CategoricalDistribution):
        return value if value in d.choices else d.choices[0]
    if value is None:
        return d.low
    if d.step:
        value = d.low + round((value - d.low) / d.step) * d.step
    return min(max(value, d.low), d.high)


def _suggest(trial: optuna.Trial, path: str, d: Distribution) -> Any:
    if isinstance(d, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(path, d.choices)
    if isinstance(d, optuna.distributions.IntDistribution):
        return trial.suggest_int(path, d.low, d.high, step=d.step, log=d.log)
    assert isinstance(d, optuna.distributions.FloatDistribution)
    return trial.suggest_float(path, d.low, d.high, step=d.step, log=d.log)


def _value(settings: FoldSettings, path: str) -> Any:
    room, name = path.split(".")
    return getattr(getattr(settings, room), name)
