"""A copy of the studies for `optuna-dashboard`, written beside the tables and never read back."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, create_trial

from emodarts.storage import Storage
from sweeps.units.system_queues import SystemQueues

NAME = "journal.log"


class DashboardJournal:
    """`<results>/<sweep>/journal.log`, written anew at each start; then each configuration is added as it ends.

    Local results only: an object store cannot append. `trial` among its attributes is the configuration's number.
    """

    def __init__(self, storage: Storage, sweep: str):
        self.path = Path(storage.path(f"{sweep}/{NAME}")) if storage.is_local else None
        self.copies: dict[tuple[str, str], optuna.Study] = {}

    def begin(self, queues: SystemQueues) -> None:
        """Write what the tables hold."""
        if self.path is None:
            return
        with self._or_give_up():
            self.path.unlink(missing_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                storage = optuna.storages.JournalStorage(JournalFileBackend(str(self.path)))
            for queue in queues:
                for name, study in queue.studies.items():
                    self.copies[queue.system, name] = optuna.create_study(
                        storage=storage, study_name=f"{queue.system} · {name}", directions=study.study.directions
                    )
                    for trial in study.trials:
                        self.add(queue.system, name, trial)

    def add(self, system: str, study: str, trial: FrozenTrial) -> None:
        """A configuration has ended."""
        if (system, study) not in self.copies or not trial.state.is_finished():
            return
        with self._or_give_up():
            self.copies[system, study].add_trial(
                create_trial(
                    state=trial.state,
                    values=trial.values,
                    params=trial.params,
                    distributions=trial.distributions,
                    intermediate_values=trial.intermediate_values,
                    user_attrs={"trial": trial.number},
                )
            )

    @contextmanager
    def _or_give_up(self) -> Iterator[None]:
        """A copy that cannot be written (a full disk) is given up; the sweep goes on."""
        try:
            yield
        except OSError:
            self.copies = {}
