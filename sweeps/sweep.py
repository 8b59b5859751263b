"""The driver of a sweep: lease, tables, queues, units on Ray or without it, and what is printed at the end."""

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import optuna
from ray import tune
from rich.console import Console

from emodarts.console import print_line
from emodarts.corpora.remote import is_remote, without_secrets
from emodarts.features.extractors.extractor import extractor_identity
from emodarts.report.report_data import load_report_data
from emodarts.report.terminal import print_published, print_report, print_sweeps
from emodarts.results import reader
from emodarts.results.ensembles import evaluate_ensembles
from emodarts.results.lease import Lease
from emodarts.results.reader import Results
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from sweeps.data.preparation import check_data, print_data_summary
from sweeps.data.sweep_data import write_foreign, write_trained
from sweeps.execution.dashboard_journal import DashboardJournal
from sweeps.execution.local import run_units_locally
from sweeps.execution.progress import ProgressTable
from sweeps.execution.ray_session import fit, session, trial_resources
from sweeps.execution.sweep_spec import SweepSpec
from sweeps.execution.worker import delete_checkpoints_of_ended_units, run_unit
from sweeps.settings import NO_RAY, Settings
from sweeps.units.system_queues import SystemQueues
from sweeps.variants.equal_cost import with_candidates
from sweeps.variants.forecast import print_forecasts
from sweeps.variants.jobs import SweepJob, make_jobs


def run_sweep(settings: Settings, console: Console, overrides: Sequence[str] = ()) -> int:
    """Run, or go on with, the sweep that the settings name; 0 when it is complete. Raises EmodartsError.

    `overrides` are those of the command line, so that nothing of it is ignored in silence.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = Storage.open(settings.results)
    jobs = make_jobs(settings, storage, console, overrides)
    if settings.sweep.forecast:
        print_forecasts(jobs, console)
        return 0
    for job in jobs:
        queues, interrupted = run_job(job, storage, console)
        print_results(job, storage, console)
        code = conclude(job, queues, interrupted, console)
        if code or not queues.complete:
            return code
    return 0


def run_job(job: SweepJob, storage: Storage, console: Console) -> tuple[SystemQueues, bool]:
    """Run what is missing of a sweep; how far it has come, and whether somebody stopped it. Raises EmodartsError."""
    settings, name = job.settings, job.settings.sweep_name
    with Lease(storage, name, on_lost=lambda: os.kill(os.getpid(), signal.SIGINT)):
        register_job(job, storage)
        writer, results = SweepWriter(storage, name), reader.open(settings.results, sweep=name)
        audit = write_trained(writer, results, job.data)
        write_foreign(writer, job.data)
        print_data_summary(console, name, storage, job.data, audit)
        delete_checkpoints_of_ended_units(storage, results)
        sweep = SweepSpec.publish(settings, storage, job.data, published_protocol=job.clean_sweep is not None)
        journal = DashboardJournal(storage, name)
        job = with_candidates(job, results, console)
        queues = job.make_queues(writer, results, journal.add)
        journal.begin(queues)
        interrupted = not queues.finished and run_units(settings, sweep, queues, console)
        if not (interrupted or queues.stopped):
            write_ensembles(settings, writer, storage)
    return queues, interrupted


def write_ensembles(settings: Settings, writer: SweepWriter, storage: Storage) -> None:
    """Write the table `ensembles` anew where the trials that have ended make another one; no study ever reads it."""
    (sweep,) = Results.of(storage, [settings.sweep_name]).parts
    rows = [e.row for e in evaluate_ensembles(sweep, settings.sweep.top, settings.ensemble)]
    if rows and rows != sweep.table("ensembles").to_pylist():
        writer.write_ensembles(rows)


def register_job(job: SweepJob, storage: Storage) -> None:
    """Write the sweep's settings at its first start; later raise EmodartsError where they, or the data, are others."""
    settings, data = job.settings, job.data
    if storage.exists(f"{settings.sweep_name}/sweep.json"):
        check_data(reader.open(settings.results, sweep=settings.sweep_name), data)
    weights = extractor_identity(settings.features)
    about_data = {"protocol": data.protocol, "recordings": data.recordings, "features.weights": weights}
    register(storage, settings.sweep_name, {**job.hashed, **about_data})


def run_units(settings: Settings, sweep: SweepSpec, queues: SystemQueues, console: Console) -> bool:
    """Run the units on Ray, or without it; whether somebody stopped it. Raises EmodartsError."""
    try:
        if settings.ray.address == NO_RAY:
            run_units_locally(sweep, queues, ProgressTable(queues, console, sweep.sweep).on_unit_end)
            return not queues.finished
        with session(settings.ray, settings.resources, console):
            progress = ProgressTable(queues, console, sweep.sweep)
            # Tune stops its trials at Ctrl-C: finished units stay, the others keep their last epoch.
            signal.signal(signal.SIGTERM, lambda number, frame: os.kill(os.getpid(), signal.SIGINT))
            try:
                trainable = tune.with_parameters(run_unit, sweep=sweep)
                limit = settings.resources.max_concurrent_trials
                fit(trainable, queues, trial_resources(settings.resources), [progress], limit)
            finally:
                progress.close()
    except KeyboardInterrupt:
        return True
    return not queues.finished


def print_results(job: SweepJob, storage: Storage, console: Console) -> None:
    """Print the tables of a sweep; the published protocol beside its clean sweep."""
    name = job.settings.sweep_name
    if job.clean_sweep is None:
        print_report(Results.of(storage, [name]), console, job.settings.sweep.top, job.settings.ensemble)
    else:
        print_sweeps(load_report_data(Results.of(storage, [name]), top=0), console)
        print_published(load_report_data(Results.of(storage, [job.clean_sweep, name]), top=0), console)


def conclude(job: SweepJob, queues: SystemQueues, interrupted: bool, console: Console) -> int:
    """Print why the sweep ended and what to do next; the command's exit code."""
    if queues.stopped:
        print_line(console, f"{queues.stopped}. Nothing is lost: once that is mended, go on with {_command()}")
        return 1
    if queues.finished and queues.failing:
        which = "" if len(queues.failing) == len(queues.by_system) else f" of {', '.join(queues.failing)}"
        console.print(f"every configuration{which} fails (see also sweep.max_failures); the reasons stand above")
        return 1
    if queues.complete:
        location = job.settings.results
        location = without_secrets(location) if is_remote(location) else location
        print_line(console, f"next: emodarts report {shlex.quote(location)}")
        return 0
    reason = "stopped" if interrupted else "sweep.time_budget_hours are over"
    print_line(console, f"{reason}; what is finished is kept. To go on: {_command()}")
    return 130 if interrupted else 0


def _command() -> str:
    """The command that goes on with the sweep: this one."""
    program = Path(sys.argv[0])
    is_script = program.name == "emodarts-sweep"
    return shlex.join([program.name, *sys.argv[1:]] if is_script else ["python", *sys.argv])
