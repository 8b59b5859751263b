"""The driver of a sweep: lease, tables, queues, units on Ray or without it, and what is printed at the end."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import optuna
from rich.console import Console

from emodarts.console import on_end_signals, print_line
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
from sweeps.data.sweep_data import is_audited, write_foreign, write_trained
from sweeps.execution.dashboard_journal import DashboardJournal
from sweeps.execution.faults import SET_ASIDE_SECONDS
from sweeps.execution.notifier import Notifier
from sweeps.execution.sweep_spec import SweepSpec
from sweeps.execution.tracking import begin_tracking, check_trackers
from sweeps.settings import NO_RAY, Settings
from sweeps.units.checkpoint_folders import checkpoint_mark, delete_checkpoints_of_ended_units
from sweeps.units.system_queues import SystemQueues
from sweeps.units.unit_log import logging_ended_units
from sweeps.variants.equal_cost import with_candidates
from sweeps.variants.jobs import SweepJob, make_jobs


def run_sweep(settings: Settings, console: Console, overrides: Sequence[str] = ()) -> int:
    """Run, or go on with, the sweep that the settings name; 0 when it is complete. Raises EmodartsError.

    `overrides` are those of the command line, so that nothing of it is ignored in silence.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    check_trackers(settings.sweep.track)
    storage = Storage.open(settings.results)
    with notifying(settings, console) as notifier:
        jobs = make_jobs(settings, storage, console, overrides)
        if settings.sweep.forecast:
            from sweeps.variants.forecast import print_forecasts  # torch, as below

            print_forecasts(jobs, storage, console)
            return 0
        for job in jobs:
            queues, interrupted = run_job(job, storage, console, notifier)
            print_results(job, storage, console)
            code, event, text = conclude(job, queues, interrupted)
            print_line(console, text)
            notifier.send(event, job.settings.sweep_name, text, queues.units_ended, queues.units_total)
            if code or not queues.complete:
                return code
    if settings.matrix:
        print_line(console, f"`emodarts report {storage.path('')}` draws the matrix of {', '.join(settings.matrix)}")
    return 0


@contextmanager
def notifying(settings: Settings, console: Console) -> Iterator[Notifier]:
    """The messages of `sweep.notify`; what the block raises is one."""
    notifier = Notifier(settings.sweep.notify, _shown_results(settings), partial(print_line, console))
    try:
        yield notifier
    except KeyboardInterrupt:
        notifier.send("stopped", settings.sweep_name, "by a signal, while no unit ran")
        raise
    except Exception as error:
        notifier.send("failed", settings.sweep_name, str(error) or type(error).__name__)
        raise


def run_job(job: SweepJob, storage: Storage, console: Console, notifier: Notifier) -> tuple[SystemQueues, bool]:
    """Run what is missing of a sweep; how far it has come, and whether somebody stopped it. Raises EmodartsError."""
    settings, name = job.settings, job.settings.sweep_name
    on_wait = partial(print_line, console) if settings.sweep.wait else None
    with Lease(storage, name, lambda: os.kill(os.getpid(), signal.SIGINT), on_wait):
        register_job(job, storage)
        writer, results = SweepWriter(storage, name), reader.open(settings.results, sweep=name)
        job = with_candidates(job, results, storage, console)  # it measures seconds: nothing else is to run then
        with logging_ended_units(writer, results), auditing(job, writer, results, console) as (warnings, audit_result):
            write_foreign(writer, results, job.data)
            print_data_summary(console, name, storage, job.data, warnings)
            delete_checkpoints_of_ended_units(storage, results)
            sweep = SweepSpec.publish(settings, storage, job.data, published_protocol=job.clean_sweep is not None)
            tracking = begin_tracking(settings.sweep.track, storage, name, partial(print_line, console))
            sweep = replace(sweep, tracking=tracking)
            journal = DashboardJournal(storage, name)
            queues = job.make_queues(writer, results, journal.add)
            journal.begin(queues)
            with notifier.watching(name, storage, queues):
                interrupted = not queues.finished and run_units(settings, sweep, queues, console)
            if not (interrupted or queues.stopped):  # else the next start audits
                audit_result()
        if not (interrupted or queues.stopped):
            write_ensembles(settings, writer, storage)
    return queues, interrupted


@contextmanager
def auditing(
    job: SweepJob, writer: SweepWriter, results: Results, console: Console
) -> Iterator[tuple[list[str], Callable[[], object]]]:
    """Audit what is trained on, beside the block: the warnings, or none where they are printed later, and what waits
    for the audit and raises its error.

    The audit's forests take seconds, in which Ray and its workers start; without Ray, units begin after it. Raises
    EmodartsError.
    """
    if job.settings.ray.address == NO_RAY or is_audited(results, job.data):
        yield write_trained(writer, results, job.data), list
        return

    def print_warnings(audit: Future[list[str]]) -> None:
        if audit.exception() is None:
            for line in audit.result():
                print_line(console, line)

    with ThreadPoolExecutor(1, "audit") as thread:
        audit = thread.submit(write_trained, writer, results, job.data, in_background=True)
        audit.add_done_callback(print_warnings)
        yield [], audit.result


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
    # Ray takes a second to import, torch two: a start with nothing to do needs neither, a driver of workers no torch.
    from ray import tune

    from sweeps.execution.places import write_set_aside
    from sweeps.execution.progress import ProgressTable
    from sweeps.execution.trainable import run_unit
    from sweeps.execution.tune_fit import ConcurrencyLimiter, fit
    from sweeps.nodes.session import check_gpu_here, session, trial_resources

    try:
        if settings.ray.address == NO_RAY:
            from sweeps.execution.local import run_units_locally

            check_gpu_here(settings.resources.device)
            print_proposals(queues, 1, console)
            run_units_locally(sweep, queues, ProgressTable(queues, console, sweep.sweep).on_unit_end)
            return not queues.finished
        with session(settings.ray, settings.resources, console):
            resources, limit = trial_resources(settings.resources), settings.resources.max_concurrent_trials
            print_proposals(queues, ConcurrencyLimiter(resources, limit)(), console)
            progress = ProgressTable(queues, console, sweep.sweep)
            # Tune stops its trials at Ctrl-C: finished units stay, the others save where they are.
            on_end_signals(lambda number, frame: os.kill(os.getpid(), signal.SIGINT))
            try:
                trainable = tune.with_parameters(run_unit, sweep=sweep)
                storage = Storage.open(settings.results)

                def set_aside(place: str, reason: str) -> None:
                    write_set_aside(storage, sweep.sweep, place, reason, time.time() + SET_ASIDE_SECONDS)
                    progress.on_set_aside(place, reason)

                fit(trainable, queues, resources, [progress], limit, partial(checkpoint_mark, storage), set_aside)
            finally:
                progress.close()
    except KeyboardInterrupt:
        return True
    return not queues.finished


def print_proposals(queues: SystemQueues, slots: int, console: Console) -> None:
    """Print how many proposals are made with a model and how many blindly, with so many units at once."""
    for line in queues.describe_proposals(slots):
        print_line(console, line)


def print_results(job: SweepJob, storage: Storage, console: Console) -> None:
    """Print the tables of a sweep; the published protocol beside its clean sweep."""
    name = job.settings.sweep_name
    if job.clean_sweep is None:
        print_report(Results.of(storage, [name]), console, job.settings.sweep.top, job.settings.ensemble)
    else:
        print_sweeps(load_report_data(Results.of(storage, [name]), top=0), console)
        print_published(load_report_data(Results.of(storage, [job.clean_sweep, name]), top=0), console)


def conclude(job: SweepJob, queues: SystemQueues, interrupted: bool) -> tuple[int, str, str]:
    """The command's exit code, the event for `sweep.notify`, and why the sweep ended and what to do next."""
    if queues.stopped:
        return 1, "failed", f"{queues.stopped}. Nothing is lost: once that is mended, go on with {_command()}"
    if queues.finished and queues.failing:
        which = "" if len(queues.failing) == len(queues.by_system) else f" of {', '.join(queues.failing)}"
        text = f"every configuration{which} fails (see also sweep.max_failures); the reasons stand above"
        return 1, "failed", text
    if queues.finished and queues.failing_in_a_row:
        systems, count = ", ".join(queues.failing_in_a_row), job.settings.sweep.max_failures
        text = (
            f"the last {count} units of {systems} all failed (sweep.max_failures); the reasons stand above. Once they "
            f"are mended, go on with {_command()} sweep.retry_failed=true"
        )
        return 1, "failed", text
    if queues.complete:
        lines = [
            f"{system}: none keeps to sweep.constraints, so none is chosen: loosen them"
            for system in queues.without_choice
        ]
        return 0, "complete", "\n".join([*lines, f"next: emodarts report {shlex.quote(_shown_results(job.settings))}"])
    reason = "stopped" if interrupted else "sweep.time_budget_hours are over"
    return 130 if interrupted else 0, "stopped", f"{reason}; what is finished is kept. To go on: {_command()}"


def _shown_results(settings: Settings) -> str:
    """Where the results are, as others may see it."""
    return without_secrets(settings.results) if is_remote(settings.results) else settings.results


def _command() -> str:
    """The command that goes on with the sweep: this one."""
    program = Path(sys.argv[0])
    is_script = program.name == "emodarts-sweep"
    return shlex.join([program.name, *sys.argv[1:]] if is_script else ["python", *sys.argv])
