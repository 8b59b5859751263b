"""The driver of a sweep: data, lease, studies, Ray, and what is said at the end."""

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import optuna
from rich.console import Console

from emodarts.corpora.remote import is_remote, without_secrets
from emodarts.errors import EmodartsError
from emodarts.features.extractors.extractor import extractor_identity
from emodarts.records import PUBLISHED_STUDY, UnitKey, fold_study
from emodarts.report.report_data import load_report_data
from emodarts.report.terminal import print_published, print_report, print_sweeps
from emodarts.results import reader
from emodarts.results.lease import Lease
from emodarts.results.reader import Results
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from sweeps.data.placement import publish
from sweeps.data.preparation import check_data, prepare, print_data_summary
from sweeps.data.sweep_data import SweepData, write_foreign, write_trained
from sweeps.execution.dashboard_journal import DashboardJournal
from sweeps.execution.local import run_units_locally
from sweeps.execution.worker import CHECKPOINTS, CrossCorpusLocation, SweepSpec, SystemSpec, TransferredUnit, run_unit
from sweeps.settings import NO_RAY, Settings
from sweeps.study import pruners, samplers
from sweeps.study.search_space import SearchSpace
from sweeps.units.fixed_queue import FixedConfigQueue
from sweeps.units.study_queue import StudyQueue
from sweeps.units.system_queues import SystemQueues
from sweeps.units.unit import Unit
from sweeps.units.unit_queue import UnitQueue
from sweeps.variants.genotype_transfer import SourceSweep, refuse_changed
from sweeps.variants.published_protocol import published_settings, runnable_without_dev


@dataclass(frozen=True)
class SweepJob:
    """One sweep, ready to run. `hashed` is what its name stands for, `winners` what folds take from another sweep.

    `clean_sweep`: the clean sweep, beside which this one runs the published protocol.
    """

    settings: Settings
    hashed: dict[str, Any]
    data: SweepData
    systems: dict[str, SystemSpec]
    winners: dict[int, TransferredUnit] = field(default_factory=dict)
    clean_sweep: str | None = None


def run_sweep(settings: Settings, console: Console, given: Sequence[str] = ()) -> int:
    """Run, or go on with, the sweep that the settings name; 0 when it is complete. Raises EmodartsError.

    `given` is what the command line said, so that nothing of it is ignored in silence.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = Storage.open(settings.results)
    if settings.genotypes_from is not None:
        return _run_jobs([_transfer(settings, storage, console, given)], storage, console)
    jobs = [_searching(settings, storage, console)]
    if settings.published_protocol:
        jobs.append(_published(settings, console))  # before the first one runs: what is refused is told at once
    if settings.sweep.forecast:
        return _show_plan(jobs, console)
    return _run_jobs(jobs, storage, console)


def _run_jobs(jobs: Sequence[SweepJob], storage: Storage, console: Console) -> int:
    """Run one sweep after the other, the next one only when that before it is complete."""
    for job in jobs:
        studies, interrupted = _run_job(job, storage, console)
        code = _conclude(job, storage, studies, interrupted, console)
        if code or not studies.complete:
            return code
    return 0


def _show_plan(jobs: Sequence[SweepJob], console: Console) -> int:
    """Foretell the first job; the published protocol beside it costs so little that its units are counted alone."""
    from sweeps.variants import forecast

    for name, system in jobs[0].systems.items():
        try:
            forecast.print_forecast(name, forecast.forecast_units(jobs[0].settings, system, jobs[0].data), console)
        except EmodartsError as error:
            if len(jobs[0].systems) == 1:
                raise
            console.print(f"{name}: not foretold: {error}", highlight=False, soft_wrap=True)
    for job in jobs[1:]:
        units = len(job.systems) * len(job.data.folds) * job.settings.sweep.seeds
        console.print(f"beside it {units} units of the preset's own configuration by {job.data.protocol}")
    return 0


def _searching(settings: Settings, storage: Storage, console: Console) -> SweepJob:
    """A sweep whose studies propose configurations."""
    systems = {name: SystemSpec(made, SearchSpace.of(settings, made)) for name, made in settings.systems.items()}
    for system in systems.values():
        samplers.check_sampler(settings.sweep, system.space)
    if not settings.sweep.forecast:
        storage.check_writable()
    data = prepare(settings, console)
    pruners.check_pruner(settings.sweep, settings.systems.values(), len(data.folds))
    return SweepJob(settings, settings.hashed_settings(), data, systems)


def _published(settings: Settings, console: Console) -> SweepJob:
    """The published protocol beside a clean sweep: a sweep of its own, since its labels and folds are others."""
    clean, settings = settings.sweep_name, published_settings(settings)
    made, refused = runnable_without_dev(settings.systems)
    for why in refused.values():
        console.print(f"beside the clean protocol alone: {why}", highlight=False, soft_wrap=True)
    systems = {name: SystemSpec(each, SearchSpace.of(settings, each)) for name, each in made.items()}
    return SweepJob(
        settings, settings.hashed_settings(), prepare(settings, console, needs_dev=False), systems, clean_sweep=clean
    )


def _transfer(settings: Settings, storage: Storage, console: Console, given: Sequence[str]) -> SweepJob:
    """A sweep that trains what another one found."""
    if settings.sweep.forecast:
        raise EmodartsError(
            "sweep.forecast foretells searches, and with genotypes_from there is none: leave one of them out"
        )
    if settings.published_protocol:
        raise EmodartsError(
            "published_protocol=true searches, and with genotypes_from nothing is searched: leave one of them out"
        )
    source = SourceSweep.open(str(settings.genotypes_from), settings.genotypes_from_system)
    resolved = source.resolve(settings, given)
    hashed = source.hashed(resolved)
    storage.check_writable()
    if settings.sweep.name is None:
        refuse_changed(storage, resolved.sweep_name, hashed)
    data = prepare(resolved, console)
    winners = source.assign(data.folds, resolved)
    for fold, winner in winners.items():
        console.print(f"fold {fold} takes {winner.source}", highlight=False, soft_wrap=True)
    theirs = next(iter(winners.values())).settings
    return SweepJob(resolved, hashed, data, {source.system: SystemSpec(theirs, SearchSpace({}, {}))}, winners)


def _run_job(job: SweepJob, storage: Storage, console: Console) -> tuple[SystemQueues, bool]:
    """Run what is missing of a sweep; how far it has come, and whether somebody stopped it. Raises EmodartsError."""
    settings, data = job.settings, job.data
    name = settings.sweep_name
    with Lease(storage, name, on_lost=lambda: os.kill(os.getpid(), signal.SIGINT)):
        if storage.exists(f"{name}/sweep.json"):
            check_data(reader.open(settings.results, sweep=name), data)
        about = {"protocol": data.protocol, "recordings": data.recordings}
        about["features.weights"] = extractor_identity(settings.features)
        register(storage, name, {**job.hashed, **about})
        writer = SweepWriter(storage, name)
        known = reader.open(settings.results, sweep=name)
        audit = write_trained(writer, known, data)
        write_foreign(writer, data)
        print_data_summary(console, name, storage, data, audit)
        _tidy(storage, known)
        plan = plan_of(settings, job.systems, storage, data)
        plan = replace(plan, winners=job.winners, published=job.clean_sweep is not None)
        journal = DashboardJournal(storage, name)
        studies = studies_of(settings, plan, writer, known, journal)
        journal.begin(studies)
        interrupted = False
        if not studies.finished:
            interrupted = _run(settings, plan, studies, console)
    return studies, interrupted


def plan_of(settings: Settings, systems: dict[str, SystemSpec], storage: Storage, data: SweepData) -> SweepSpec:
    """What all units of the sweep share; features are put where their workers find them. Raises StorageError."""
    from sweeps.execution.ray_session import joins

    return SweepSpec(
        settings.sweep_name,
        str(settings.results) if "://" in settings.results else storage.root,
        data.names,
        tuple(publish(one.store, storage, joins(settings.ray)) for one in data.trained),
        data.folds,
        systems,
        settings.sweep.seed,
        settings.resources.device,
        settings.resources.cpus_per_trial,
        tuple(
            CrossCorpusLocation(t.name, publish(t.store, storage, joins(settings.ray)), t.labels, t.speakers)
            for t in (other.test for other in data.foreign)
        ),
    )


def studies_of(
    settings: Settings, plan: SweepSpec, writer: SweepWriter, known: Results, journal: DashboardJournal
) -> SystemQueues:
    """The studies of all systems, as the tables know them."""
    return SystemQueues([_handout(settings, plan, name, writer, known, journal) for name in plan.systems])


def _handout(
    settings: Settings, plan: SweepSpec, name: str, writer: SweepWriter, known: Results, journal: DashboardJournal
) -> UnitQueue:
    """What hands out the units of a system: studies, or one configuration that is settled."""
    system = plan.systems[name]

    def key_of(unit: Unit) -> UnitKey:
        return plan.key(asdict(unit))

    if plan.winners:
        folds: dict[str, tuple[int, ...]] = {fold_study(fold): (fold,) for fold in plan.folds}
        return FixedConfigQueue(settings.sweep, {}, folds, writer, known, key_of, name)
    if plan.published:
        folds = {PUBLISHED_STUDY: tuple(plan.folds)}
        return FixedConfigQueue(
            settings.sweep, system.space.default_parameters(system.settings), folds, writer, known, key_of, name
        )
    return StudyQueue(
        settings.sweep,
        system.space,
        system.space.default_parameters(system.settings),
        tuple(plan.folds),
        writer,
        known,
        key_of,
        rungs=pruners.asha_rungs(settings.sweep, system.settings),
        system=name,
        on_told=journal.add,
    )


def _tidy(storage: Storage, known: Results) -> None:
    """Delete the checkpoints of units that have ended: their worker was killed between the commit and this."""
    ended = {commit.key.name for commit in known.commits}
    for sweep in known.sweeps:
        for unit in storage.list(f"{sweep}/{CHECKPOINTS}"):
            if unit in ended:
                storage.delete_folder(f"{sweep}/{CHECKPOINTS}/{unit}")


def _run(settings: Settings, plan: SweepSpec, studies: SystemQueues, console: Console) -> bool:
    """Run the units on Ray, or without it; whether somebody stopped it. Raises EmodartsError."""
    from ray import tune

    from sweeps.execution.progress import ProgressTable
    from sweeps.execution.ray_session import StopRequest, fit, session, trial_resources

    asked = StopRequest()
    try:
        if settings.ray.address == NO_RAY:
            run_units_locally(plan, studies, ProgressTable(studies, console, plan.sweep).ended)
            return not studies.finished
        with session(settings.ray, settings.resources, console):
            live = ProgressTable(studies, console, plan.sweep)
            signal.signal(signal.SIGTERM, asked)
            try:
                trainable = tune.with_parameters(run_unit, plan=plan)
                fit(
                    trainable,
                    studies,
                    trial_resources(settings.resources),
                    [live],
                    settings.resources.max_concurrent_trials,
                )
            finally:
                live.close()
    except KeyboardInterrupt:
        asked.seen = True
    return asked.seen or not studies.finished


def _conclude(job: SweepJob, storage: Storage, studies: SystemQueues, interrupted: bool, console: Console) -> int:
    name = job.settings.sweep_name
    if job.clean_sweep is None:
        print_report(Results.of(storage, [name]), console)
    else:
        print_sweeps(load_report_data(Results.of(storage, [name])), console)
        print_published(load_report_data(Results.of(storage, [job.clean_sweep, name])), console)
    command = shlex.join(["python", *sys.argv])
    if studies.stopped:
        console.print(
            f"{studies.stopped}. Nothing is lost: once that is mended, go on with {command}",
            highlight=False,
            soft_wrap=True,
        )
        return 1
    if studies.finished and studies.failing:
        which = "" if len(studies.failing) == len(studies.studies) else f" of {', '.join(studies.failing)}"
        console.print(f"every configuration{which} fails (see also sweep.max_failures); the reasons stand above")
        return 1
    if studies.complete:
        results = without_secrets(job.settings.results) if is_remote(job.settings.results) else job.settings.results
        console.print(f"next: emodarts report {shlex.quote(results)}", highlight=False, soft_wrap=True)
        return 0
    why = "stopped" if interrupted else "sweep.time_budget_hours are over"
    console.print(f"{why}; what is finished is kept. To go on: {command}", highlight=False, soft_wrap=True)
    return 130 if interrupted else 0
