"""Pruning: ASHA on the dev curve of a unit, Wilcoxon's test between the folds of a configuration.

Optuna's pruners decide; where they look, and that every decision is in the tables before it counts, is decided here.
"""

import warnings
from collections.abc import Iterable

import optuna
from optuna.trial import TrialState, create_trial

from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import SVM, FoldSettings
from emodarts.experiment.unit_spec import Rung
from emodarts.records import EpochRecord, RungRecord
from sweeps.settings import SweepSettings

LEAST_FOLDS = 6  # fewer cannot be told apart by a signed-rank test at a usual threshold
_WITHOUT_CURVE = ("random_search", "evolution", "random_architecture")  # of search.method


def check_pruner(settings: SweepSettings, systems: Iterable[FoldSettings], folds: int) -> None:
    """Refuse, with the reason, a pruner that applies to none of the systems. Raises EmodartsError."""
    pruner = settings.pruner
    if pruner != "none" and len(settings.objectives) > 1:
        raise EmodartsError(f"sweep.pruner={pruner} compares one objective, and sweep.objectives names two: take none")
    if pruner == "asha" and not any(rungs_of(settings, system) for system in systems):
        raise EmodartsError("sweep.pruner=asha has no rungs: set sweep.search_rungs or sweep.training_rungs")
    if pruner == "wilcoxon" and settings.study_per != "sweep":
        raise EmodartsError(
            "sweep.pruner=wilcoxon compares the folds of a configuration, and under sweep.study_per=fold each has one: "
            "take asha, or sweep.study_per=sweep"
        )
    if pruner == "wilcoxon" and folds < LEAST_FOLDS:
        raise EmodartsError(
            f"sweep.pruner=wilcoxon needs at least {LEAST_FOLDS} folds and the sweep has {folds}: take asha, or a "
            "protocol with more folds"
        )


def rungs_of(settings: SweepSettings, fold_settings: FoldSettings) -> tuple[Rung, ...]:
    """Where ASHA looks at a unit: shares of its search, where that has a curve of epochs, and of its training."""
    if settings.pruner != "asha" or fold_settings.system == SVM:
        return ()
    has_curve = fold_settings.searches and fold_settings.search.method not in _WITHOUT_CURVE
    search = settings.search_rungs if has_curve else []
    return (*(("search", share) for share in search), *(("train", share) for share in settings.training_rungs))


def value_at(phase: str, epochs: tuple[EpochRecord, ...]) -> float:
    """What a unit is worth at a rung: the best dev UAR of its phase so far."""
    return max(epoch.dev_rank[0] for epoch in epochs if epoch.phase == phase)


class AshaRungs:
    """ASHA (Li et al. 2020): at each rung of a study and fold the best `1 / reduction_factor` so far go on.

    A rung is compared with itself alone: never with another fold's, nor a supernet with a trained network.
    """

    def __init__(self, settings: SweepSettings):
        self.pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=settings.reduction_factor)
        self.rungs: dict[tuple[str, int, int], optuna.Study] = {}
        self.decided: dict[tuple[str, int, int, int], bool] = {}

    def decision(self, study: str, trial: int, fold: int, rung: int) -> bool | None:
        """Whether a unit was pruned at a rung; None: it has not been there."""
        return self.decided.get((study, trial, fold, rung))

    def decide(self, study: str, trial: int, fold: int, rung: int, value: float) -> bool:
        """Whether a unit that has reached a rung with this value is to be pruned."""
        compared = self._compared(study, fold, rung)
        compared.add_trial(create_trial(state=TrialState.RUNNING, intermediate_values={1: value}))
        pruned = self.pruner.prune(compared, compared.get_trials(deepcopy=False)[-1])
        self.decided[study, trial, fold, rung] = pruned
        return pruned

    def restore(self, record: RungRecord) -> None:
        """Take over a decision from the tables."""
        assert record.fold is not None
        reached = create_trial(state=TrialState.RUNNING, system_attrs={"completed_rung_0": record.value})
        self._compared(record.study, record.fold, record.rung).add_trial(reached)
        self.decided[record.study, record.trial, record.fold, record.rung] = record.pruned

    def _compared(self, study: str, fold: int, rung: int) -> optuna.Study:
        key = (study, fold, rung)
        if key not in self.rungs:
            self.rungs[key] = optuna.create_study(direction="maximize")
        return self.rungs[key]


def wilcoxon_should_prune(settings: SweepSettings, study: optuna.Study, by_fold: dict[int, float]) -> bool:
    """Whether a configuration is worse than the best so far by a signed-rank test over the folds it has (Wilcoxon)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the pruner is called experimental
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=settings.p_threshold, n_startup_steps=settings.startup_folds)
        return pruner.prune(study, create_trial(state=TrialState.RUNNING, intermediate_values=by_fold))
