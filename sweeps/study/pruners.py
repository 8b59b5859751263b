"""Pruning: ASHA on the dev curve of a unit, Wilcoxon's test between folds, the race of `sweep.inner` between splits.

Optuna's pruners decide on the first two; this module says where, on which values, and restores decisions from tables.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from statistics import fmean

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import SVM, FoldSettings
from emodarts.experiment.unit_spec import Rung
from emodarts.records import EpochRecord, RungRecord
from sweeps.settings import SweepSettings

MIN_FOLDS = 6  # with fewer no signed-rank test is significant at a usual threshold
RACE_LEVEL = 0.05  # of each look at a configuration on inner splits
_WITHOUT_CURVE = ("spos", "random_search", "evolution", "random_architecture", "fixed", "sampler")  # of search.method


def check_pruner(settings: SweepSettings, systems: Iterable[FoldSettings], folds: int) -> None:
    """Refuse, with the reason, a pruner that applies to none of the systems. Raises EmodartsError."""
    pruner = settings.pruner
    if pruner != "none" and len(settings.objectives) > 1:
        raise EmodartsError(f"sweep.pruner={pruner} compares one objective, and sweep.objectives names two: take none")
    if pruner == "asha" and not any(asha_rungs(settings, system) for system in systems):
        raise EmodartsError("sweep.pruner=asha has no rungs: set sweep.search_rungs or sweep.training_rungs")
    if pruner == "wilcoxon" and settings.study_per != "sweep":
        raise EmodartsError(
            "sweep.pruner=wilcoxon compares the folds of a configuration, and under sweep.study_per=fold each has one: "
            "take asha, or sweep.study_per=sweep"
        )
    if pruner == "wilcoxon" and folds < MIN_FOLDS:
        raise EmodartsError(
            f"sweep.pruner=wilcoxon needs at least {MIN_FOLDS} folds and the sweep has {folds}: take asha, or a "
            "protocol with more folds"
        )


def check_race(settings: SweepSettings) -> None:
    """Refuse, with the reason, what does not go together with `sweep.inner`. Raises EmodartsError."""
    refusals = [
        (settings.inner == 1, "one split is no division: take 2 or more, or 0"),
        (settings.study_per == "sweep", "it divides the speakers of one fold: take sweep.study_per=fold"),
        (settings.pruner != "none", f"it races by itself: leave sweep.pruner={settings.pruner} out"),
        (len(settings.objectives) > 1, "it races by one objective: take sweep.objectives=[dev_uar]"),
    ]
    for is_refused, reason in refusals if settings.inner else ():
        if is_refused:
            raise EmodartsError(f"sweep.inner={settings.inner}: {reason}")


def asha_rungs(settings: SweepSettings, fold_settings: FoldSettings) -> tuple[Rung, ...]:
    """Where ASHA looks at a unit: fractions of its search, where that has a curve of epochs, and of its training."""
    if settings.pruner != "asha" or fold_settings.system == SVM:
        return ()
    has_curve = fold_settings.searches and fold_settings.search.method not in _WITHOUT_CURVE
    search = settings.search_rungs if has_curve else []
    return (*(("search", fraction) for fraction in search), *(("train", f) for f in settings.training_rungs))


def best_dev_uar(phase: str, epochs: tuple[EpochRecord, ...]) -> float:
    """The value of a unit at a rung: the best dev UAR of its phase so far."""
    return max(epoch.dev_rank[0] for epoch in epochs if epoch.phase == phase)


class AshaRungs:
    """ASHA (Li et al. 2020): at each rung of a study and fold the best `1 / reduction_factor` so far go on.

    A rung is compared with itself alone: never with another fold's, nor a supernet with a trained network.
    """

    def __init__(self, settings: SweepSettings):
        self.pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=settings.reduction_factor)
        self.studies: dict[tuple[str, int, int], optuna.Study] = {}  # by study, fold and rung
        self.decisions: dict[tuple[str, int, int, int], bool] = {}  # by study, trial, fold and rung

    def decide(self, study: str, trial: int, fold: int, rung: int, value: float) -> bool:
        """Whether a unit that has reached a rung with this value is to be pruned."""
        optuna_study = self._study_at(study, fold, rung)
        optuna_study.add_trial(create_trial(state=TrialState.RUNNING, intermediate_values={1: value}))
        pruned = self.pruner.prune(optuna_study, optuna_study.get_trials(deepcopy=False)[-1])
        self.decisions[study, trial, fold, rung] = pruned
        return pruned

    def restore(self, record: RungRecord) -> None:
        """Restore a decision from the tables."""
        assert record.fold is not None
        trial = create_trial(state=TrialState.RUNNING, system_attrs={"completed_rung_0": record.value})
        self._study_at(record.study, record.fold, record.rung).add_trial(trial)
        self.decisions[record.study, record.trial, record.fold, record.rung] = record.pruned

    def _study_at(self, study: str, fold: int, rung: int) -> optuna.Study:
        key = (study, fold, rung)
        if key not in self.studies:
            self.studies[key] = optuna.create_study(direction="maximize")
        return self.studies[key]


def wilcoxon_should_prune(settings: SweepSettings, study: optuna.Study, by_fold: dict[int, float]) -> bool:
    """Whether a configuration is worse than the best so far by a signed-rank test over the folds it has (Wilcoxon)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the pruner is called experimental
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=settings.p_threshold, n_startup_steps=settings.startup_folds)
        return pruner.prune(study, create_trial(state=TrialState.RUNNING, intermediate_values=by_fold))


def race_should_stop(values: Sequence[float], best: Sequence[Sequence[float]], survivors: int) -> bool:
    """Whether a configuration is clearly behind the last survivor of a race, on the splits that both have.

    `values`: its own on the first splits; `best (configurations, splits)`: of those that have all splits, the best
    first; `survivors`: how many of these are wanted at the end. Splits are the blocks of a two-way analysis of variance
    (blocking in races: Moore & Lee 1994; F-Race, Birattari et al. 2002, takes ranks in blocks, which of two or three
    splits can never be significant; to stop at a number of survivors: irace, Lopez-Ibanez et al. 2016). A difference
    of two configurations' means over n splits has the standard error s sqrt(2 / n), s² being the mean square that
    configurations and splits leave among the finished ones, with (configurations - 1) (splits - 1) degrees of freedom.
    It is behind where Student's one-sided test says so at `RACE_LEVEL`.
    """
    if len(best) < max(2, survivors):
        return False
    from scipy import stats  # it takes a second to import

    table, n = np.array(best, np.float64), len(values)
    residuals = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    error = math.sqrt(float((residuals**2).sum()) / freedom * 2 / n)
    lead = float(table[survivors - 1, :n].mean()) - fmean(values)
    return lead > float(stats.t.ppf(1 - RACE_LEVEL, freedom)) * error
