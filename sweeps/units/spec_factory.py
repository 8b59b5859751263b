"""The spec of each unit of a system, made once, by the driver."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from emodarts.corpora.protocols.folds import Fold
from emodarts.experiment.fold_settings import FoldSettings
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
    """Makes the units of a system of a sweep; `folds`, `transferred` and `inner_folds` by the fold's number."""

    sweep: str
    system: str
    space: SearchSpace
    folds: Mapping[int, Fold]
    train_corpora: tuple[str, ...]
    sweep_seed: int = 0
    device: str = "auto"
    rungs: tuple[Rung, ...] = ()
    transferred: Mapping[int, TransferredUnit] = field(default_factory=dict)
    inner_folds: Mapping[int, tuple[Fold, ...]] = field(default_factory=dict)

    def make(self, trial: TrialRecord, fold: int, inner: int | None = None) -> UnitSpec:
        """The unit of a configuration on a fold, or on an inner split of it.

        Raises EmodartsError for parameters that the settings refuse.
        """
        if fold in self.transferred:
            return self._make(trial, fold, inner, self.transferred[fold].settings)
        genotype = self.space.genotype(trial.parameters)
        proposed = None if genotype is None else TransferredGenotype(genotype, 0)
        return self._make(trial, fold, inner, self.space.apply(trial.parameters), proposed)

    def key_of_unmade(self, trial: TrialRecord, fold: int, inner: int | None = None) -> UnitKey:
        """The key of a unit that need not, or cannot, be made: without the subsample, which depends on its settings."""
        return replace(self._make(trial, fold, inner, self.space.settings).key, subsample=None)

    def _make(
        self,
        trial: TrialRecord,
        fold: int,
        inner: int | None,
        settings: FoldSettings,
        proposed: TransferredGenotype | None = None,
    ) -> UnitSpec:
        transferred = self.transferred.get(fold)
        rungs = self.rungs if trial.seed == 0 else ()  # further seeds of a winner are never pruned
        about_sweep = (self.sweep, self.train_corpora, self.sweep_seed, self.device, rungs)
        divided = self.folds[fold] if inner is None else self.inner_folds[fold][inner]
        spec = partial(UnitSpec.of, divided, settings, trial, *about_sweep, inner=inner)
        if transferred:
            return spec(genotype_from=transferred.source, transferred=transferred.genotype)
        return spec(transferred=proposed)
