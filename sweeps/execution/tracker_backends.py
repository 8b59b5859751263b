"""The trackers that `sweep.track` names, each by its own library, which is imported when a unit first needs it."""

import io
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emodarts.records import EpochRecord
from sweeps.execution.tracked_run import TrackedEnd, TrackedRun, Tracker

_IDENTITY = "emodarts.run"  # tag of an MLflow run
_STATUSES = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
_STOPPED = "SCHEDULED"  # before its end: it goes on
_UPLOAD_SECONDS = 60.0  # at least, between two copies of event files to an object store
_FINISH_SECONDS = 60.0  # at most, for what W&B has still to send


def prepare_mlflow(sweep: str) -> dict[str, str]:
    """Make the experiment before workers do it at once; the address for them. Raises what MLflow does."""
    import mlflow

    _experiment_id(mlflow.MlflowClient(), sweep)
    return {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}


def _experiment_id(client: Any, sweep: str) -> str:
    """That of `MLFLOW_EXPERIMENT_NAME`, else of the sweep's name; made where it is missing."""
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", sweep)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # another worker made it meanwhile
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return str(experiment.experiment_id)


class MlflowTracker:
    """A run of MLflow, known by a tag; a worker that goes on with a unit asks it which epochs it has."""

    def __init__(self, run: TrackedRun):
        import mlflow

        self.client, self.run = mlflow.MlflowClient(), run
        self.experiment = _experiment_id(self.client, run.sweep)
        mine = f"tags.`{_IDENTITY}` = '{run.identity}'"
        present = self.client.search_runs([self.experiment], mine, max_results=1)
        self.id = present[0].info.run_id if present else self._create()
        self.logged: dict[str, set[int]] = {} if present else {"": set()}  # epochs by phase; "": it has none of others
        if present:
            self.client.update_run(self.id, status="RUNNING")

    def _create(self) -> str:
        from mlflow.entities import Param

        tags = {**self.run.tags, _IDENTITY: self.run.identity}
        run_id: str = self.client.create_run(self.experiment, run_name=self.run.title, tags=tags).info.run_id
        settings = [Param(name, str(value)[:6000]) for name, value in self.run.settings.items()]
        for first in range(0, len(settings), 100):  # the most that a request may have
            self.client.log_batch(run_id, params=settings[first : first + 100])
        return run_id

    def log_epoch(self, number: int, values: dict[str, float], record: EpochRecord) -> None:
        """One request; none for an epoch that the run has."""
        from mlflow.entities import Metric

        first = f"{record.phase}/seconds"
        if record.phase not in self.logged:
            history = [] if "" in self.logged else self.client.get_metric_history(self.id, first)
            self.logged[record.phase] = {metric.step for metric in history}
        if record.epoch in self.logged[record.phase]:
            return
        self.logged[record.phase].add(record.epoch)
        now = int(1000 * time.time())
        # The seconds, by which an epoch is known, first: what is killed amid a request that is no transaction leaves a
        # gap, not a double.
        names = sorted(values, key=lambda name: name != first)
        self.client.log_batch(self.id, metrics=[Metric(name, values[name], now, record.epoch) for name in names])

    def reset(self) -> None:
        """A new run in the place of this one."""
        self.client.delete_run(self.id)
        self.id, self.logged = self._create(), {"": set()}

    def end(self, about: TrackedEnd) -> None:
        """Figures as metrics, genotypes as artefacts, and the run's status."""
        from mlflow.entities import Metric

        present, now = self.client.get_run(self.id).data.metrics, int(1000 * time.time())
        figures = [Metric(name, value, now, 0) for name, value in about.figures.items() if name not in present]
        self.client.log_batch(self.id, metrics=figures)
        with tempfile.TemporaryDirectory() as folder:
            for name, (text, picture) in about.genotypes.items():
                self.client.log_text(self.id, text, f"{name}.json")
                path = Path(folder, f"{name}.png")
                path.write_bytes(picture)
                self.client.log_artifact(self.id, str(path))
        self.client.set_tag(self.id, "status", about.status)
        self.client.set_terminated(self.id, _STATUSES[about.status])

    def close(self) -> None:
        """The run waits for its unit."""
        self.client.update_run(self.id, status=_STOPPED)


class TensorBoardTracker:
    """`<results>/<sweep>/tensorboard/<title>`: event files, written anew by each worker, who gets all epochs again.

    On an object store they are copies of local ones, made at most once a minute and at the end. Events are written as
    they come: the library's `SummaryWriter` has a queue that its `flush` does not wait for.
    """

    def __init__(self, run: TrackedRun):
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event

        self.run, self.summary, self.event, self.open = run, summary, Event, EventsWriter
        self.folder = run.storage.below(f"tensorboard/{run.title}")
        self.writer: Any = None  # until there is something to write: an end alone is added to the epochs
        self.local = Path(self.folder.root)
        self.uploaded_at = time.monotonic()

    def log_epoch(self, number: int, values: dict[str, float], record: EpochRecord) -> None:
        """Scalars by phase and epoch."""
        if self.writer is None:
            self.folder.delete_folder("")
            self._begin()
        for name, value in values.items():
            self._add(self.summary.scalar(name, value), record.epoch)
        self._flush(time.monotonic() - self.uploaded_at >= _UPLOAD_SECONDS)

    def _begin(self) -> None:
        if self.folder.is_local:
            self.local.mkdir(parents=True, exist_ok=True)
        else:
            self.local = Path(tempfile.mkdtemp(prefix="emodarts-tensorboard-"))
        self.writer = self.open(str(self.local / "events"), f".{os.getpid()}.{uuid.uuid4().hex[:8]}")
        rows = "\n".join(f"| {name} | {value} |" for name, value in {**self.run.tags, **self.run.settings}.items())
        self._add(self.summary.text("settings", f"| setting | value |\n|---|---|\n{rows}"))

    def _add(self, summary: Any, step: int = 0) -> None:
        self.writer.write_event(self.event(summary=summary, step=step, wall_time=time.time()))

    def _flush(self, uploads: bool) -> None:
        self.writer.flush()
        if uploads and not self.folder.is_local:
            for path in self.local.iterdir():
                self.folder.write(path.name, path.read_bytes())
            self.uploaded_at = time.monotonic()

    def reset(self) -> None:
        """The next epoch writes the files anew."""
        self.close()

    def end(self, about: TrackedEnd) -> None:
        """Figures as scalars and in the table of settings (HPARAMS), genotypes as picture and text."""
        if self.writer is None:
            self._begin()
        from matplotlib.image import imread

        for name, value in about.figures.items():
            self._add(self.summary.scalar(name, value))
        for name, (text, picture) in about.genotypes.items():
            pixels = imread(io.BytesIO(picture))[:, :, :3]
            self._add(self.summary.image(name, pixels, dataformats="HWC"))
            self._add(self.summary.text(name, f"```\n{text}\n```"))
        settings = {n: v if isinstance(v, bool | int | float | str) else str(v) for n, v in self.run.settings.items()}
        for summary in self.summary.hparams(settings, about.figures):
            self._add(summary)
        self._flush(uploads=True)
        self.close()

    def close(self) -> None:
        """Leave the files as they are."""
        if self.writer is not None:
            self._flush(uploads=True)
            self.writer.close()
            self.writer = None
            if not self.folder.is_local:
                shutil.rmtree(self.local, ignore_errors=True)


class WandbTracker:
    """A run of W&B, online or (`WANDB_MODE=offline`) in a folder that `wandb sync` sends later."""

    def __init__(self, run: TrackedRun):
        import wandb

        if os.environ.get("WANDB_MODE") == "offline":  # each worker gets all epochs again
            for folder in Path(os.environ.get("WANDB_DIR", "."), "wandb").glob(f"offline-run-*-{run.identity}"):
                shutil.rmtree(folder, ignore_errors=True)
        settings = wandb.Settings(console="off", silent=True, init_timeout=30, x_disable_stats=True, disable_git=True)
        project = None if "WANDB_PROJECT" in os.environ else "emodarts"
        self.wandb = wandb
        # A step that the run has is ignored: of a unit that goes on, none counts twice.
        self.run = wandb.init(
            project=project,
            id=run.identity,
            name=run.title,
            group=run.sweep,
            config={**run.tags, **run.settings},
            resume="allow",
            reinit="create_new",
            settings=settings,
        )

    def log_epoch(self, number: int, values: dict[str, float], record: EpochRecord) -> None:
        """A step of the run, with the epoch of its phase beside its figures."""
        self.run.log({**values, f"{record.phase}/epoch": record.epoch}, step=number)

    def reset(self) -> None:
        """Nothing: W&B takes no step back, and those that come again are ignored."""

    def end(self, about: TrackedEnd) -> None:
        """Figures into the summary, genotypes as picture and file."""
        self.run.summary.update({**about.figures, "status": about.status})
        for name, (text, picture) in about.genotypes.items():
            from matplotlib.image import imread

            self.run.log({name: self.wandb.Image(imread(io.BytesIO(picture))[:, :, :3])})
            path = Path(self.run.dir, f"{name}.json")
            path.write_text(text)
            self.run.save(str(path), base_path=self.run.dir, policy="now")
        _within(_FINISH_SECONDS, lambda: self.run.finish(1 if about.status == "failed" else 0))

    def close(self) -> None:
        """Leave the run as it is."""
        _within(_FINISH_SECONDS, lambda: self.run.finish(1))


def _within(seconds: float, act: Callable[[], None]) -> None:
    """Do something that may take for ever. Raises TimeoutError where it is not done in time."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"it did not take the run within {seconds:.0f} s")


BACKENDS: dict[str, Callable[[TrackedRun], Tracker]] = {
    "mlflow": MlflowTracker,
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
}
