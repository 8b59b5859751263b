"""The records that rooms hand to each other and to the result tables, and the rule that chooses an epoch on dev."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class UnitKey:
    """What names a unit of work: one configuration, one seed, one fold, and there perhaps one inner split."""

    sweep: str
    system: str
    study: str
    trial: int
    seed: int
    train_corpora: tuple[str, ...]
    protocol: str
    fold: int
    fold_hash: str
    classes: tuple[str, ...]
    genotype_from: str | None = None
    subsample: str | None = None
    protocol_caveat: str | None = None
    inner: int | None = None  # of the fold's train and dev parts; None: these as they are

    @property
    def name(self) -> str:
        """A unique name, safe in file systems."""
        split = "" if self.inner is None else f".i{self.inner}"
        return f"{self.system}.{self.study}.t{self.trial:05d}.s{self.seed}.f{self.fold}{split}".replace(":", "-")


def is_inner_name(unit: str) -> bool:
    """Whether a name (`UnitKey.name`) is that of a unit on an inner split, which is never a result."""
    return re.search(r"\.i\d+$", unit) is not None


def full_name(system: str) -> str:
    """A system's name in the tables: `emodarts:fixed` is short for `emodarts:fixed:joint`."""
    return f"{system}:joint" if system.count(":") == 1 else system


SHARED_STUDY = "shared"  # of a sweep with study_per=sweep: its selection sees the test speakers in other folds
PUBLISHED_STUDY = "published"  # of the published protocol, in a sweep `<name>-published` beside the clean `<name>`


def fold_study(fold: int) -> str:
    """The study of one outer fold, whose objective is that fold's dev figure alone."""
    return f"fold{fold}"


LATE_DEV = "late_dev"  # epoch rules: the best epoch on dev in the last quarter of the training,
LAST, BEST_TEST = "last", "best_test"  # and those of the published protocol, which has no dev part


@dataclass(frozen=True)
class Evaluation:
    """Predictions on one part: `probabilities (utterances, classes)`; labels None where they are not public."""

    stage: str
    epoch_rule: str
    role: str
    test_set: str
    normalisation: str
    utterances: tuple[str, ...]
    speakers: tuple[str | None, ...]
    labels: tuple[str | None, ...]
    probabilities: NDArray[np.float32]
    condition: str | None = None  # what was done to the recordings before predicting


@dataclass(frozen=True)
class EpochRecord:
    """One epoch (from 0) of a phase (search, ranking, proposal, train); entropy in nats, seconds of wall clock. The dev
    figures are None where the fold has no dev part.

    A search without a supernet, a ranking by inherited weights, and the trainings of what a supernet proposes
    (`proposal`) have candidates in the place of epochs, with dev figures alone.
    `alphas_moved` is the root mean square distance of the alphas from their start; `discretised_dev_uar` the supernet's
    dev UAR with each edge set to what would be derived now; `macs` the multiply-accumulates of the search's passes (see
    `search.budget`).
    """

    phase: str
    epoch: int
    train_loss: float | None
    dev_loss: float | None
    dev_uar: float | None
    dev_war: float | None
    seconds: float
    alpha_loss: float | None = None
    entropy: float | None = None
    top2_margin: float | None = None
    skip_connections: int | None = None
    alphas_moved: float | None = None
    discretised_dev_uar: float | None = None
    macs: int | None = None

    @property
    def dev_rank(self) -> tuple[float, float]:
        """More is better: UAR on dev, then minus the loss there. Raises ValueError where there is no dev part."""
        if self.dev_uar is None or self.dev_loss is None:
            raise ValueError(f"epoch {self.epoch} of a {self.phase} has no dev figures to be chosen by")
        return self.dev_uar, -self.dev_loss


OnEpochEnd = Callable[[EpochRecord], None]


def ignore_epoch(record: EpochRecord) -> None:
    """The callback that does nothing."""


def late_epochs(epochs: int) -> range:
    """The last quarter of all `epochs` (from 0), at least one: where `late_dev` looks, and what is averaged."""
    return range(epochs - max(1, -(-epochs // 4)), epochs)


def is_late(epoch: int, epochs: int) -> bool:
    """Whether an epoch (from 0) lies in the last quarter of all `epochs`."""
    return epoch >= late_epochs(epochs).start


def late_dev_epoch(records: Sequence[EpochRecord], epochs: int) -> int | None:
    """The rule `late_dev`: of the last quarter the epoch with the best dev UAR, then the lower dev loss, then the
    earlier one. None where none of `records`, those so far of a phase of `epochs` epochs, is so late.
    """
    late = [record for record in records if is_late(record.epoch, epochs)]
    return max(late, key=lambda record: record.dev_rank).epoch if late else None


@dataclass(frozen=True)
class GenotypeRecord:
    """A genotype and the network it was built into, as JSON, and the epoch (from 0) it was derived at."""

    stage: str
    genotype_json: str
    network_json: str
    derived_at: int


@dataclass(frozen=True)
class UnitRecords:
    """All records of one unit of work."""

    evaluations: tuple[Evaluation, ...]
    epochs: tuple[EpochRecord, ...]
    genotypes: tuple[GenotypeRecord, ...]
    parameters: int
    macs: int
    search_seconds: float
    train_seconds: float
    peak_memory_mb: float
    settings_json: str
    git_revision: str | None
    packages_json: str


@dataclass(frozen=True)
class TrialRecord:
    """A configuration that was proposed, and how it ended. `values` are the objectives."""

    system: str
    study: str
    trial: int
    seed: int
    parameters: dict[str, Any]
    status: str = "running"  # running | complete | pruned | failed
    reason: str | None = None
    retries: int = 0
    values: tuple[float, ...] = ()
    proposed_at: datetime | None = None
    ended_at: datetime | None = field(default=None)


@dataclass(frozen=True)
class RungRecord:
    """A decision on pruning: of a unit at a fraction of a phase's epochs, or (`fold` None) of a configuration at a
    fraction of its folds. `value` is what was compared.
    """

    system: str
    study: str
    trial: int
    seed: int
    fold: int | None
    rung: int
    phase: str  # search | train | folds | inner (the fraction is that of the inner splits)
    fraction: float
    value: float
    pruned: bool
    decided_at: datetime | None = None
    inner: int | None = None

    @property
    def name(self) -> str:
        """A unique name, safe in file systems."""
        fold = "all" if self.fold is None else self.fold
        return f"{self.system}.{self.study}.t{self.trial:05d}.s{self.seed}.f{fold}.r{self.rung}".replace(":", "-")
