"""`sweep.track`: each unit as a run of MLflow, TensorBoard or W&B, written by its worker and never read back.

A tracker that cannot be written is given up, which is said once; no unit fails by it, nor waits for it for long.
"""

import importlib.util
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from emodarts.errors import EmodartsError
from emodarts.experiment.unit_spec import UnitSpec
from emodarts.records import EpochRecord
from emodarts.results.commits import Commit
from emodarts.storage import Storage
from sweeps.execution.tracked_run import TrackedEnd, TrackedRun, Tracker

_PACKAGES = {"mlflow": "mlflow", "tensorboard": "tensorboardX", "wandb": "wandb"}
_FILE = "tracking.json"  # below the sweep
_VARIABLES = ("MLFLOW_", "WANDB_")  # begin the names of what a worker needs of the driver's environment
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "WANDB_SILENT": "true",
}
_PAUSE = 600.0  # s in which this process does not try a tracker again that it gave up
_given_up_at: dict[str, float] = {}  # by tracker, of this process


@dataclass(frozen=True)
class Tracking:
    """A sweep's trackers, as workers get them: `token` begins its runs' names, `environment` has addresses and keys."""

    names: tuple[str, ...] = ()
    token: str = ""
    environment: dict[str, str] = field(default_factory=dict, repr=False)


def check_trackers(names: Sequence[str]) -> None:
    """Raise EmodartsError where the package of a tracker is missing."""
    for name in names:
        if importlib.util.find_spec(_PACKAGES[name]) is None:
            raise EmodartsError(
                f"sweep.track=[{','.join(names)}]: the package {_PACKAGES[name]} is missing: pip install "
                f"'emodarts[{name}]' (on every node), or leave {name} out"
            )


def begin_tracking(names: Sequence[str], storage: Storage, sweep: str, on_failure: Callable[[str], None]) -> Tracking:
    """The trackers of a start of a sweep. One that does not answer is said; its workers try again. Raises StorageError.

    The runs of a sweep begin with a token of its own: results that are deleted and made anew are other runs.
    """
    if not names:
        return Tracking()
    storage.write_new(f"{sweep}/{_FILE}", uuid.uuid4().hex[:12].encode())
    environment = {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
    if "wandb" in names and storage.is_local:
        environment.setdefault("WANDB_DIR", storage.path(sweep))
    if "mlflow" in names:
        from sweeps.execution.tracker_backends import prepare_mlflow  # the package takes seconds to import

        try:
            environment = {**prepare_mlflow(sweep), **environment}
        except Exception as error:
            on_failure(f"{describe_failure('mlflow', _reason(error))}; each unit tries again")
    return Tracking(tuple(names), storage.read(f"{sweep}/{_FILE}").decode(), environment)


def describe_failure(name: str, reason: str) -> str:
    """What is said of a tracker that was given up."""
    return f"sweep.track: {name} cannot be written ({reason}); the sweep goes on, and its tables have all"


class UnitTrackers:
    """A unit's run in each of the sweep's trackers; `errors` has those that were given up, and why."""

    def __init__(self, tracking: Tracking, unit: UnitSpec, storage: Storage):
        self.errors: dict[str, str] = {}
        self.trackers: dict[str, Tracker] = {}
        self.storage, self.count = storage, 0
        if not tracking.names:
            return
        for name, value in {**_DEFAULTS, **tracking.environment}.items():
            os.environ.setdefault(name, value)
        run = TrackedRun.of(unit, tracking.token, storage)
        for name in tracking.names:
            if time.monotonic() - _given_up_at.get(name, -_PAUSE) >= _PAUSE:
                with self._or_give_up(name):
                    from sweeps.execution.tracker_backends import BACKENDS  # they import their packages

                    self.trackers[name] = BACKENDS[name](run)

    def log_epoch(self, record: EpochRecord) -> None:
        """Take an epoch."""
        numbers = {name: value for name, value in asdict(record).items() if name not in ("phase", "epoch")}
        values = {f"{record.phase}/{name}": float(value) for name, value in numbers.items() if value is not None}
        self._all(lambda tracker: tracker.log_epoch(self.count, values, record))
        self.count += 1

    def reset(self) -> None:
        """The unit begins anew."""
        self.count = 0
        self._all(lambda tracker: tracker.reset())

    def end(self, commit: Commit) -> None:
        """Take what was committed of the unit, and leave the runs."""
        if self.trackers:
            about: list[TrackedEnd] = []

            def end(tracker: Tracker) -> None:
                about[:] = about or [TrackedEnd.of(commit, self.storage)]
                tracker.end(about[0])

            self._all(end)
            self.trackers = {}

    def close(self) -> None:
        """Leave the runs of a unit that is not at its end."""
        self._all(lambda tracker: tracker.close())
        self.trackers = {}

    def _all(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.trackers.items()):
            with self._or_give_up(name):
                act(tracker)

    @contextmanager
    def _or_give_up(self, name: str) -> Iterator[None]:
        """Whatever a tracker's library raises is the tracker's, not the unit's."""
        try:
            yield
        except Exception as error:
            self.errors[name] = _reason(error)
            self.trackers.pop(name, None)
            _given_up_at[name] = time.monotonic()


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:300]
