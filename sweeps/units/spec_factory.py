"""The spec of each unit of a system, made once, by the driver."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from emodarts.corpora.protocols.folds import Fold
from emodarts.experiment.fold_data import FoldSettings
from emodarts.experiment.unit_spec import Rung, TransferredGenotype, UnitSpec
from emodarts.records import TrialRecord, UnitKey
from sweeps.study.search_space import SearchSpace


@dataclass(frozen=True)
class TransferredUnit:
    """What a fold takes from another sweep: a genotype, the settings that it was searched and trained with, and the
    unit that it is from, `sweep/system/study/trial/seed/fold`.
    """

    source: str
    genotype: TransferredGenotype
    settings: FoldSettings


@dataclass(frozen=True)
class UnitSpecFactory:
    """Makes the units of a system of a sweep; `folds` and `transferred` by the fold's number."""

    sweep: str
    system: str
    space: SearchSpace
    folds: Mapping[int, Fold]
    train_corpora: tuple[str, ...]
    sweep_seed: int = 0
    device: str = "auto"
    rungs: tuple[Rung, ...] = ()
    transferred: Mapping[int, TransferredUnit] = field(default_factory=dict)

    def make(self, trial: TrialRecord, fold: int) -> UnitSpec:
        """The unit of a configuration on a fold. Raises EmodartsError for parameters that the settings refuse."""
        if fold in self.transferred:
            return self._make(trial, fold, self.transferred[fold].settings)
        return self._make(trial, fold, self.space.apply(trial.parameters))

    def key_of_refused(self, trial: TrialRecord, fold: int) -> UnitKey:
        """The key of a unit that cannot be made: without the subsample, which depends on what was refused."""
        return replace(self._make(trial, fold, self.space.settings).key, subsample=None)

    def _make(self, trial: TrialRecord, fold: int, settings: FoldSettings) -> UnitSpec:
        transferred = self.transferred.get(fold)
        rungs = self.rungs if trial.seed == 0 else ()  # further seeds of a winner are never pruned
        about_sweep = (self.sweep, self.train_corpora, self.sweep_seed, self.device, rungs)
        spec = partial(UnitSpec.of, self.folds[fold], settings, trial, *about_sweep)
        return spec(transferred.source, transferred.genotype) if transferred else spec()
