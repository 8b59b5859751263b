"""Without a supernet, what any claim has to stand beside: no search, chance, chance at equal budget, evolution.

Every candidate is trained on the whole train part and ranked by dev UAR, as the searched network is in the end. All
random numbers come from generators seeded by the number of the candidate, so the candidates so far are the whole state.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoint, Checkpoints
from emodarts.networks.genotype import Genotype
from emodarts.records import EpochRecord, OnEpochEnd, ignore_epoch
from emodarts.search.budget import Budget, candidate_epochs, candidate_macs
from emodarts.search.candidates import CandidateSpace
from emodarts.search.scope import fixed_cells
from emodarts.search.task import Evaluate, SearchResult, SearchTask
from emodarts.seeds import derive_seed


def fixed_architecture(task: SearchTask) -> SearchResult:
    """The space's plain architecture: its fixed operations on every edge, whatever the data. Nothing is searched."""
    return SearchResult(Genotype.from_cells(fixed_cells(task.settings)), 0, (), None, task.shape, 0.0)


def random_architecture(task: SearchTask) -> SearchResult:
    """One architecture, drawn uniformly from the space (Li & Talwalkar 2019): only its training costs anything."""
    start = time.perf_counter()
    genotype = CandidateSpace.of(task.settings, task.shape).draw(_rng(task, 0))
    return SearchResult(genotype, 0, (), None, task.shape, time.perf_counter() - start)


def random_search(
    task: SearchTask,
    evaluate: Evaluate,
    on_epoch_end: OnEpochEnd = ignore_epoch,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> SearchResult:
    """The best by dev of architectures drawn uniformly, as many as the settings say or the supernet's budget pays for.

    Random search of Li & Talwalkar (2019). The records have a candidate in the place of each epoch.
    """
    space = CandidateSpace.of(task.settings, task.shape)
    return _search(task, evaluate, lambda number, past: space.draw(_rng(task, number)), on_epoch_end, checkpoints)


def evolution(
    task: SearchTask,
    evaluate: Evaluate,
    on_epoch_end: OnEpochEnd = ignore_epoch,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> SearchResult:
    """Regularised evolution (Real et al. 2019, algorithm 1) with the same number of candidates as `random_search`.

    The first `search.population` are drawn uniformly. Then each is the winner of a tournament with one mutation; for
    each that is born the oldest dies, however good. The best that ever lived wins.
    """
    space = CandidateSpace.of(task.settings, task.shape)
    s = task.settings

    def propose(number: int, past: "Sequence[_Candidate]") -> Genotype:
        rng = _rng(task, number)
        if number < s.population:
            return space.draw(rng)
        return space.mutate(tournament_winner(past, s.population, s.tournament, rng).genotype, rng)

    return _search(task, evaluate, propose, on_epoch_end, checkpoints)


@dataclass(frozen=True)
class _Candidate:
    """A genotype that was trained, and its record; its `dev_rank` says which is better."""

    genotype: Genotype
    record: EpochRecord


def tournament_winner(
    past: Sequence[_Candidate], population: int, tournament: int, rng: np.random.Generator
) -> _Candidate:
    """The best of `tournament` of the living, drawn without replacement; these are the youngest `population`."""
    living = past[-population:]
    drawn = sorted(rng.choice(len(living), min(tournament, len(living)), replace=False).tolist())
    return _best([living[i] for i in drawn])


_Propose = Callable[[int, Sequence[_Candidate]], Genotype]  # (number, candidates before it) -> its architecture


def _search(
    task: SearchTask, evaluate: Evaluate, propose: _Propose, on_epoch_end: OnEpochEnd, checkpoints: Checkpoints
) -> SearchResult:
    candidates = _from_checkpoint(checkpoints.load())
    for candidate in candidates:
        on_epoch_end(candidate.record)
    budget, spent = Budget.of(task).total, sum(candidate.record.macs or 0 for candidate in candidates)
    limit = task.settings.candidates
    while limit is None or len(candidates) < limit:
        number, start = len(candidates), time.perf_counter()
        genotype = propose(number, candidates)
        macs = candidate_macs(task, genotype)
        if limit is None and candidates and spent + macs > budget:  # the first one is always trained
            break
        figures = evaluate(genotype, candidate_epochs(task.settings), derive_seed(task.seed, "candidate", number))
        record = EpochRecord(
            phase="search",
            epoch=number,
            train_loss=None,
            dev_loss=figures.dev_loss,
            dev_uar=figures.dev_uar,
            dev_war=None,
            seconds=time.perf_counter() - start,
            macs=macs,
        )
        candidates.append(_Candidate(genotype, record))
        spent += macs
        if checkpoints.due(len(candidates)):
            checkpoints.save(_to_checkpoint(candidates))
        on_epoch_end(record)
    best = _best(candidates)
    records = tuple(candidate.record for candidate in candidates)
    return SearchResult(best.genotype, best.record.epoch, records, None, task.shape, sum(r.seconds for r in records))


def _best(candidates: Sequence[_Candidate]) -> _Candidate:
    return max(candidates, key=lambda candidate: candidate.record.dev_rank)


def _rng(task: SearchTask, number: int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(task.seed, "architecture", number))


def _to_checkpoint(candidates: Sequence[_Candidate]) -> Checkpoint:
    return Checkpoint({}, {"candidates": [[c.genotype.to_json(), asdict(c.record)] for c in candidates]})


def _from_checkpoint(checkpoint: Checkpoint | None) -> list[_Candidate]:
    content = checkpoint.state["candidates"] if checkpoint else []
    return [_Candidate(Genotype.from_json(genotype), EpochRecord(**record)) for genotype, record in content]
