"""The driver of a sweep: data, lease, studies, Ray, and what is said at the end."""

import os
import shlex
import signal
import sys
from dataclasses import asdict

import optuna
from rich.console import Console

from emodarts.corpora.remote import is_remote, without_secrets
from emodarts.features import extractors
from emodarts.report.terminal import print_report
from emodarts.results import reader
from emodarts.results.lease import Lease
from emodarts.results.reader import Results
from emodarts.results.storage import Storage
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from sweeps import pruning, samplers
from sweeps.data import SweepData, write_foreign, write_trained
from sweeps.journal import Journal
from sweeps.placement import publish
from sweeps.preparation import check_data, prepare, say_data
from sweeps.settings import Settings
from sweeps.space import Space
from sweeps.studies import Studies
from sweeps.systems import Systems
from sweeps.trial import CHECKPOINTS, ForeignPlace, Plan, System, run_unit


def run_sweep(settings: Settings, console: Console) -> int:
    """Run, or go on with, the sweep that the settings name; 0 when it is complete. Raises EmodartsError."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    systems = {name: System(made, Space.of(settings, made)) for name, made in settings.systems.items()}
    for system in systems.values():
        samplers.check(settings.sweep, system.space)
    storage = Storage.open(settings.results)
    if not settings.sweep.plan:
        storage.check_writable()
    data = prepare(settings, console)
    pruning.check(settings.sweep, settings.systems.values(), len(data.folds))
    if settings.sweep.plan:
        from sweeps import planning

        for name, system in systems.items():
            planning.show(name, planning.forecast(settings, system, data), console)
        return 0
    name = settings.sweep_name
    with Lease(storage, name, on_lost=lambda: os.kill(os.getpid(), signal.SIGINT)):
        if storage.exists(f"{name}/sweep.json"):
            check_data(reader.open(settings.results, sweep=name), data)
        about = {"protocol": data.protocol, "recordings": data.recordings}
        about["features.weights"] = extractors.identity(settings.features)
        register(storage, name, {**settings.hashed(), **about})
        writer = SweepWriter(storage, name)
        known = reader.open(settings.results, sweep=name)
        audit = write_trained(writer, known, data)
        write_foreign(writer, data)
        say_data(console, name, storage, data, audit)
        _tidy(storage, known)
        plan = plan_of(settings, systems, storage, data)
        journal = Journal(storage, name)
        studies = studies_of(settings, plan, writer, known, journal)
        journal.begin(studies)
        interrupted = False
        if not studies.finished:
            interrupted = _run(settings, plan, studies, console)
    return _conclude(settings, name, studies, interrupted, console)


def plan_of(settings: Settings, systems: dict[str, System], storage: Storage, data: SweepData) -> Plan:
    """What all units of the sweep share; features are put where their workers find them. Raises StorageError."""
    from sweeps.ray_session import joins

    return Plan(
        settings.sweep_name,
        str(settings.results) if "://" in settings.results else storage.root,
        data.names,
        tuple(publish(one.store, storage, joins(settings.ray)) for one in data.trained),
        data.folds,
        systems,
        settings.sweep.seed,
        settings.resources.device,
        settings.resources.cpus_per_fold,
        tuple(
            ForeignPlace(t.name, publish(t.store, storage, joins(settings.ray)), t.labels, t.speakers)
            for t in (other.test for other in data.foreign)
        ),
    )


def studies_of(settings: Settings, plan: Plan, writer: SweepWriter, known: Results, journal: Journal) -> Systems:
    """The studies of all systems, as the tables know them."""
    return Systems(
        [
            Studies(
                settings.sweep,
                system.space,
                system.space.default(system.settings),
                tuple(plan.folds),
                writer,
                known,
                key_of=lambda unit: plan.key(asdict(unit)),
                rungs=pruning.rungs_of(settings.sweep, system.settings),
                system=name,
                on_told=journal.add,
            )
            for name, system in plan.systems.items()
        ]
    )


def _tidy(storage: Storage, known: Results) -> None:
    """Delete the checkpoints of units that have ended: their worker was killed between the commit and this."""
    ended = {commit.key.name for commit in known.commits}
    for sweep in known.sweeps:
        for unit in storage.list(f"{sweep}/{CHECKPOINTS}"):
            if unit in ended:
                storage.delete_folder(f"{sweep}/{CHECKPOINTS}/{unit}")


def _run(settings: Settings, plan: Plan, studies: Systems, console: Console) -> bool:
    """Run the units on Ray; whether somebody stopped it. Raises EmodartsError."""
    from ray import tune

    from sweeps.live import LiveTable
    from sweeps.ray_session import Interrupt, fit, of_a_unit, session

    asked = Interrupt()
    try:
        with session(settings.ray, settings.resources, console):
            live = LiveTable(studies, console, plan.sweep)
            signal.signal(signal.SIGTERM, asked)
            try:
                trainable = tune.with_parameters(run_unit, plan=plan)
                fit(trainable, studies, of_a_unit(settings.resources), [live], settings.resources.workers)
            finally:
                live.close()
    except KeyboardInterrupt:
        asked.seen = True
    return asked.seen or not studies.finished


def _conclude(settings: Settings, name: str, studies: Systems, interrupted: bool, console: Console) -> int:
    print_report(reader.open(settings.results, sweep=name), console)
    command = shlex.join(["python", *sys.argv])
    if studies.stopped:
        console.print(
            f"{studies.stopped}. Nothing is lost: once that is mended, go on with {command}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
        return 1
    if studies.finished and studies.failing:
        which = "" if len(studies.failing) == len(studies.studies) else f" of {', '.join(studies.failing)}"
        console.print(f"every configuration{which} fails (see also sweep.max_failures); the reasons stand above")
        return 1
    if studies.complete:
        results = without_secrets(settings.results) if is_remote(settings.results) else settings.results
        console.print(f"next: emodarts report {shlex.quote(results)}", highlight=False, soft_wrap=True)
        return 0
    why = "stopped" if interrupted else "sweep.hours are over"
    console.print(f"{why}; what is finished is kept. To go on: {command}", highlight=False, soft_wrap=True)
    return 130 if interrupted else 0
