"""What Ray Tune asks for its next trial: a thin layer over the studies. It keeps no state of its own on disk.

Tune's own OptunaSearch tells partial results as complete, cannot prune, and keeps its state in a pickle.
"""

from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from sweeps.studies import Outcome, Studies, Unit


class UnitSearcher(Searcher):
    """Each Tune trial is one unit of work."""

    def __init__(self, studies: Studies):
        super().__init__(metric="dev_uar", mode="max")
        self.studies = studies
        self.units: dict[str, Unit] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The configuration of the next Tune trial, None to wait, FINISHED at the end."""
        unit = self.studies.next_unit()
        if unit is None:
            return Searcher.FINISHED if self.studies.finished else None  # type: ignore[return-value]
        self.units[trial_id] = unit
        return {"unit": asdict(unit)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass the outcome on. A trial that was stopped has no outcome: it goes on at the next start."""
        unit = self.units.pop(trial_id, None)
        if unit is None:
            return
        if error:
            self.studies.end(
                unit,
                Outcome("failed", reason="its worker died three times, or could not write (out of memory? disk full?)"),
            )
        elif result and result.get("status"):
            outcome = Outcome(result["status"], result.get("dev_uar"), result.get("size"), result.get("reason"))
            self.studies.end(unit, outcome)
        else:
            self.studies.give_back(unit)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing to do: a unit reports once, at its end."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the result tables are the only state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the studies are rebuilt from the result tables."""
