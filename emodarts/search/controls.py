"""Searches without a supernet, which any claim has to stand beside: chance, chance at equal budget, evolution.

Every candidate is trained on the whole train part and judged by dev UAR, as the searched network is in the end. All
chance comes from generators seeded by the number of the candidate, so the candidates so far are all there is to keep.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoint, Checkpoints
from emodarts.networks.genotype import Genotype
from emodarts.records import EpochRecord
from emodarts.search.budget import Budget, candidate_epochs, candidate_macs
from emodarts.search.candidates import CandidateSpace
from emodarts.search.task import Evaluate, Progress, SearchResult, SearchTask
from emodarts.seeds import derive_seed


def random_architecture(task: SearchTask) -> SearchResult:
    """One architecture, drawn uniformly from the space (Li & Talwalkar 2019): only its training costs anything."""
    begin = time.perf_counter()
    genotype = CandidateSpace.of(task.settings, task.shape).draw(_rng(task, 0))
    return SearchResult(genotype, 0, (), None, task.shape, time.perf_counter() - begin)


def random_search(
    task: SearchTask,
    evaluate: Evaluate,
    progress: Progress = lambda record: None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> SearchResult:
    """The best by dev of architectures drawn uniformly, as many as the settings say or the supernet's budget pays for.

    Random search of Li & Talwalkar (2019). Each candidate is an epoch of what is told and returned.
    """
    space = CandidateSpace.of(task.settings, task.shape)
    return _search(task, evaluate, lambda number, past: space.draw(_rng(task, number)), progress, checkpoints)


def evolution(
    task: SearchTask,
    evaluate: Evaluate,
    progress: Progress = lambda record: None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> SearchResult:
    """Regularised evolution (Real et al. 2019, algorithm 1) with the same number of candidates as `random_search`.

    The first `search.population` are drawn uniformly. Then each is the best of `search.tournament` living ones, drawn
    without replacement, with one mutation; for each that is born the oldest dies, however good. The best that ever
    lived wins.
    """
    space = CandidateSpace.of(task.settings, task.shape)
    s = task.settings

    def propose(number: int, past: "list[_Tried]") -> Genotype:
        rng = _rng(task, number)
        if number < s.population:
            return space.draw(rng)
        return space.mutate(parent(past, s.population, s.tournament, rng).genotype, rng)

    return _search(task, evaluate, propose, progress, checkpoints)


@dataclass(frozen=True)
class _Tried:
    """A candidate that was trained."""

    genotype: Genotype
    record: EpochRecord

    @property
    def rank(self) -> tuple[float, float]:
        """More is better: dev UAR, then dev loss."""
        return self.record.dev_rank


def parent(past: list[_Tried], population: int, tournament: int, rng: np.random.Generator) -> _Tried:
    """The best of some of the living; these are the youngest `population`."""
    living = past[-population:]
    drawn = sorted(rng.choice(len(living), min(tournament, len(living)), replace=False).tolist())
    return max((living[i] for i in drawn), key=lambda tried: tried.rank)


_Propose = Callable[[int, list[_Tried]], Genotype]  # (number of the candidate, those before it) -> its architecture


def _search(
    task: SearchTask, evaluate: Evaluate, propose: _Propose, progress: Progress, checkpoints: Checkpoints
) -> SearchResult:
    past = _resume(checkpoints.load())
    for tried in past:
        progress(tried.record)
    budget, spent = Budget.of(task).total, sum(tried.record.macs or 0 for tried in past)
    asked = task.settings.candidates
    while asked is None or len(past) < asked:
        number, begin = len(past), time.perf_counter()
        genotype = propose(number, past)
        macs = candidate_macs(task, genotype)
        if asked is None and past and spent + macs > budget:  # the first one is always trained
            break
        done = evaluate(genotype, candidate_epochs(task.settings), derive_seed(task.seed, "candidate", number))
        record = EpochRecord(
            phase="search",
            epoch=number,
            train_loss=None,
            dev_loss=done.dev_loss,
            dev_uar=done.dev_uar,
            dev_war=None,
            seconds=time.perf_counter() - begin,
            macs=macs,
        )
        past.append(_Tried(genotype, record))
        spent += macs
        if checkpoints.due(len(past)):
            checkpoints.save(_checkpoint(past))
        progress(record)
    best = max(past, key=lambda tried: tried.rank)
    records = tuple(tried.record for tried in past)
    return SearchResult(best.genotype, best.record.epoch, records, None, task.shape, sum(r.seconds for r in records))


def _rng(task: SearchTask, number: int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(task.seed, "architecture", number))


def _checkpoint(past: list[_Tried]) -> Checkpoint:
    return Checkpoint({}, {"tried": [[tried.genotype.to_json(), asdict(tried.record)] for tried in past]})


def _resume(checkpoint: Checkpoint | None) -> list[_Tried]:
    if checkpoint is None:
        return []
    return [_Tried(Genotype.from_json(text), EpochRecord(**record)) for text, record in checkpoint.state["tried"]]
