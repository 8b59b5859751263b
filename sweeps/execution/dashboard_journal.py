"""A copy of the studies for `optuna-dashboard`. It is written beside the tables and never read back."""

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
    """`<results>/<sweep>/journal.log`, made anew at each start; then each configuration is added as it ends.

    Local results only: an object store cannot append. `trial` among its attributes is the configuration's number.
    """

    def __init__(self, storage: Storage, sweep: str):
        self.path = Path(storage.path(f"{sweep}/{NAME}")) if storage.is_local else None
        self.copies: dict[tuple[str, str], optuna.Study] = {}

    def begin(self, systems: SystemQueues) -> None:
        """Write what the tables hold."""
        if self.path is None:
            return
        with self._or_none():
            self.path.unlink(missing_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kept = optuna.storages.JournalStorage(JournalFileBackend(str(self.path)))
            for studies in systems:
                for name, proposals in studies.proposals.items():
                    directions, told = proposals.study.directions, f"{studies.system} · {name}"
                    copy = optuna.create_study(storage=kept, study_name=told, directions=directions)
                    self.copies[studies.system, name] = copy
                    for trial in proposals.study.get_trials(deepcopy=False):
                        self.add(studies.system, name, trial)

    def add(self, system: str, study: str, trial: FrozenTrial) -> None:
        """A configuration has ended."""
        if (system, study) not in self.copies or not trial.state.is_finished():
            return
        with self._or_none():
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
    def _or_none(self) -> Iterator[None]:
        """A copy that cannot be written (a full disk) is given up; the sweep goes on."""
        try:
            yield
        except OSError:
            self.copies = {}
