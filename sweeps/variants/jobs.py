"""The sweeps that a command asks for: a search, the published protocol beside it, a transfer, or a matrix."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial
from rich.console import Console

from emodarts.console import print_line
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import PLAIN, SEARCHED
from emodarts.records import PUBLISHED_STUDY, SHARED_STUDY, fold_study, full_name
from emodarts.results.reader import Results
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from sweeps.data.inner_data import with_inner_folds
from sweeps.data.preparation import prepare
from sweeps.data.sweep_data import SweepData
from sweeps.settings import Settings
from sweeps.study.pruners import asha_rungs, check_pruner, check_race
from sweeps.study.samplers import check_sampler
from sweeps.study.search_space import SearchSpace
from sweeps.study.warm_start import WarmStart, read_prior_studies
from sweeps.units.fixed_queue import FixedConfigQueue
from sweeps.units.spec_factory import TransferredUnit, UnitSpecFactory
from sweeps.units.study_queue import StudyQueue
from sweeps.units.system_queues import SystemQueues
from sweeps.units.unit_queue import UnitQueue
from sweeps.variants.genotype_transfer import SourceSweep, refuse_changed
from sweeps.variants.matrix import matrix_sweeps
from sweeps.variants.published_protocol import published_settings, runnable_without_dev

_BY_DEFAULT = (
    f"system={PLAIN}, the space's plain architecture: no search is shown to be better (docs/evidence.md); "
    f"system={SEARCHED} searches"
)


@dataclass(frozen=True)
class SweepJob:
    """One sweep, ready to run. `hashed` is what its name stands for; `transferred`: by fold, what it takes from another
    sweep; `clean_sweep`: the sweep beside which this one runs the published protocol.
    """

    settings: Settings
    hashed: dict[str, Any]
    data: SweepData
    systems: dict[str, SearchSpace]
    transferred: dict[int, TransferredUnit] = field(default_factory=dict)
    clean_sweep: str | None = None
    warm_start: WarmStart | None = None

    def make_queues(
        self, writer: SweepWriter, results: Results, on_trial_end: Callable[[str, str, FrozenTrial], None]
    ) -> SystemQueues:
        """The queues of all systems, rebuilt from the result tables. `on_trial_end`: see StudyQueue."""
        return SystemQueues([self._make_queue(name, writer, results, on_trial_end) for name in self.systems])

    def _make_queue(
        self, name: str, writer: SweepWriter, results: Results, on_trial_end: Callable[[str, str, FrozenTrial], None]
    ) -> UnitQueue:
        sweep, space, folds = self.settings.sweep, self.systems[name], tuple(self.data.folds)
        specs = UnitSpecFactory(
            self.settings.sweep_name,
            name,
            space,
            self.data.folds,
            self.data.names,
            sweep.seed,
            self.settings.resources.device,
            asha_rungs(sweep, space.settings) if self._searches else (),
            self.transferred,
            self.data.inner_folds,
        )
        if self._searches:
            return StudyQueue(sweep, specs, writer, results, on_trial_end=on_trial_end, warm_start=self.warm_start)
        if self.transferred:
            return FixedConfigQueue(sweep, {}, {fold_study(fold): (fold,) for fold in folds}, specs, writer, results)
        return FixedConfigQueue(sweep, space.default_parameters(), {PUBLISHED_STUDY: folds}, specs, writer, results)

    @property
    def _searches(self) -> bool:
        return not self.transferred and self.clean_sweep is None


def make_jobs(settings: Settings, storage: Storage, console: Console, overrides: Sequence[str]) -> list[SweepJob]:
    """The sweeps of a command, in the order in which they run; what is refused is refused before the first one runs.

    `overrides` are the command line's, none of which is ignored in silence. Raises EmodartsError.
    """
    if settings.matrix:
        return [_search_job(sweep, storage, console, overrides) for sweep in matrix_sweeps(settings)]
    if settings.genotypes_from is not None:
        return [_transfer_job(settings, storage, console, overrides)]
    jobs = [_search_job(settings, storage, console, overrides)]
    if settings.published_protocol:
        jobs.append(_published_job(settings, console))
    return jobs


def _search_job(settings: Settings, storage: Storage, console: Console, overrides: Sequence[str]) -> SweepJob:
    """A sweep whose studies propose configurations."""
    systems = _systems(settings)
    unused = _unused(systems, overrides)
    if settings.system is None and settings.search.system == SEARCHED:
        if unused := unused + [o for o in overrides if o.startswith(("search.method=", "search.scope="))]:
            raise EmodartsError(
                f"{unused[0]} is of a search, and system={PLAIN}, the default, has none: add system={SEARCHED}"
            )
        print_line(console, _BY_DEFAULT)
    elif unused:
        print_line(console, f"without effect on {', '.join(systems)}: {' '.join(unused)}")
    check_race(settings.sweep)
    for space in systems.values():
        check_sampler(settings.sweep, space)
    if not settings.sweep.forecast:
        storage.check_writable()
    data = with_inner_folds(settings, prepare(settings, console))
    check_pruner(settings.sweep, settings.systems.values(), len(data.folds))
    hashed = settings.hashed_settings()
    if not settings.sweep.warm_start:
        return SweepJob(settings, hashed, data, systems)
    prior = read_prior_studies(settings.sweep.warm_start, settings.sweep.choose_by)
    warm_start = WarmStart(prior, _tested(settings, data))
    for line in warm_start.describe(systems):
        print_line(console, f"warm start: {line}")
    hashed["sweep.warm_start.trials"] = warm_start.digest()
    return SweepJob(settings, hashed, data, systems, warm_start=warm_start)


def _unused(systems: dict[str, SearchSpace], overrides: Sequence[str]) -> list[str]:
    """The overrides of a search's settings that no system uses."""
    names = {override: override.lstrip("+~").partition("=")[0] for override in overrides}
    of_search = [override for override, name in names.items() if name.startswith("search.")]
    return [o for o in of_search if not any(space.settings.uses(names[o]) for space in systems.values())]


def _tested(settings: Settings, data: SweepData) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """The corpora and the speakers that the networks of each study are tested on."""
    corpora = frozenset((*data.names, *(other.corpus.name for other in data.foreign)))
    foreign = {speaker for other in data.foreign for speaker in other.test.speakers.values() if speaker}
    by_fold = {
        number: frozenset(foreign | {s for u in fold.test_ids if (s := fold.speakers[u]) is not None})
        for number, fold in data.folds.items()
    }
    if settings.sweep.study_per == "fold":
        return {fold_study(number): (corpora, speakers) for number, speakers in by_fold.items()}
    return {SHARED_STUDY: (corpora, frozenset().union(*by_fold.values()))}


def _published_job(clean: Settings, console: Console) -> SweepJob:
    """The published protocol beside a clean sweep: a sweep of its own, since its labels and folds are others."""
    settings = published_settings(clean)
    runnable, reasons = runnable_without_dev(settings.systems)
    for reason in reasons.values():
        print_line(console, f"beside the clean protocol alone: {reason}")
    systems = {name: space for name, space in _systems(settings).items() if name in runnable}
    data = prepare(settings, console, needs_dev=False)
    return SweepJob(settings, settings.hashed_settings(), data, systems, clean_sweep=clean.sweep_name)


def _transfer_job(settings: Settings, storage: Storage, console: Console, overrides: Sequence[str]) -> SweepJob:
    """A sweep that trains the genotypes of another one."""
    if settings.sweep.forecast:
        raise EmodartsError("sweep.forecast is of searches, and with genotypes_from there is none: leave one out")
    if settings.published_protocol:
        raise EmodartsError("published_protocol=true searches, and genotypes_from does not: leave one out")
    source = SourceSweep.open(str(settings.genotypes_from), full_name(settings.genotypes_from_system))
    resolved = source.resolve(settings, overrides)
    hashed = source.hashed_settings(resolved)
    storage.check_writable()
    if settings.sweep.name is None:
        refuse_changed(storage, resolved.sweep_name, hashed)
    data = prepare(resolved, console)
    transferred = source.assign(data.folds, resolved)
    for fold, unit in transferred.items():
        print_line(console, f"fold {fold} takes {unit.source}")
    space = SearchSpace(next(iter(transferred.values())).settings)
    return SweepJob(resolved, hashed, data, {source.system: space}, transferred)


def _systems(settings: Settings) -> dict[str, SearchSpace]:
    return {name: SearchSpace.of(settings, system) for name, system in settings.systems.items()}
