"""Without a supernet, what any claim has to stand beside: no search, chance, chance at equal budget, evolution.

Every candidate is trained on the whole train part and ranked by dev UAR, as the searched network is in the end. All
random numbers come from generators seeded by the number of the candidate, so the candidates so far are the whole state.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass

import numpy as np

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoint, Checkpoints
from emodarts.networks.genotype import Genotype
from emodarts.records import EpochRecord, OnEpochEnd, ignore_epoch
from emodarts.search.budget import Budget, candidate_epochs, candidate_macs
from emodarts.search.candidates import CandidateSpace
from emodarts.search.scope import fixed_genotype
from emodarts.search.task import CandidateResult, Evaluate, SearchResult, SearchTask
from emodarts.seeds import derive_seed


def fixed_architecture(task: SearchTask) -> SearchResult:
    """The space's plain architecture: its fixed operations on every edge, whatever the data. Nothing is searched."""
    return SearchResult(fixed_genotype(task.settings, task.shape), 0, (), None, task.shape, 0.0)


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
    return _search(task, evaluate, drawn(task), on_epoch_end, checkpoints)


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
    return _search(task, evaluate, evolved(task), on_epoch_end, checkpoints)


@dataclass(frozen=True)
class Candidate:
    """A genotype that was evaluated, and its record; its `dev_rank` says which is better."""

    genotype: Genotype
    record: EpochRecord


Propose = Callable[[int, Sequence[Candidate]], Genotype]  # (number, candidates before it) -> its architecture


def drawn(task: SearchTask) -> Propose:
    """Each candidate is drawn uniformly from the space."""
    space = CandidateSpace.of(task.settings, task.shape)
    return lambda number, past: space.draw(_rng(task, number))


def evolved(task: SearchTask) -> Propose:
    """Regularised evolution: see `evolution`."""
    space, s = CandidateSpace.of(task.settings, task.shape), task.settings

    def propose(number: int, past: Sequence[Candidate]) -> Genotype:
        rng = _rng(task, number)
        if number < s.population:
            return space.draw(rng)
        return space.mutate(tournament_winner(past, s.population, s.tournament, rng).genotype, rng)

    return propose


def tournament_winner(
    past: Sequence[Candidate], population: int, tournament: int, rng: np.random.Generator
) -> Candidate:
    """The best of `tournament` of the living, drawn without replacement; these are the youngest `population`."""
    living = past[-population:]
    numbers = sorted(rng.choice(len(living), min(tournament, len(living)), replace=False).tolist())
    return best_candidate([living[i] for i in numbers])


@dataclass(frozen=True)
class CandidateCourse:
    """How candidates are evaluated one after the other: up to `limit` of them, and while `budget` (MACs) lasts.

    `evaluate(genotype, number)` gives a candidate's figures, `cost` its MACs; `phase` is that of its record. The first
    candidate is always evaluated.
    """

    phase: str
    evaluate: Callable[[Genotype, int], CandidateResult]
    cost: Callable[[Genotype], int]
    limit: int | None
    budget: float

    def run(
        self,
        propose: Propose,
        candidates: list[Candidate],
        on_epoch_end: OnEpochEnd,
        saving: Callable[[list[Candidate]], AbstractContextManager[None]] = lambda candidates: nullcontext(),
    ) -> None:
        """Append what is proposed to the candidates that there are; `saving` gets them all after each."""
        for candidate in candidates:
            on_epoch_end(candidate.record)
        spent = sum(candidate.record.macs or 0 for candidate in candidates)
        while self.limit is None or len(candidates) < self.limit:
            number, start = len(candidates), time.perf_counter()
            genotype = propose(number, candidates)
            macs = self.cost(genotype)
            if candidates and spent + macs > self.budget:
                break
            figures = self.evaluate(genotype, number)
            record = EpochRecord(
                phase=self.phase,
                epoch=number,
                train_loss=None,
                dev_loss=figures.dev_loss,
                dev_uar=figures.dev_uar,
                dev_war=None,
                seconds=time.perf_counter() - start,
                macs=macs,
            )
            candidates.append(Candidate(genotype, record))
            spent += macs
            with saving(candidates):
                on_epoch_end(record)


def _search(
    task: SearchTask, evaluate: Evaluate, propose: Propose, on_epoch_end: OnEpochEnd, checkpoints: Checkpoints
) -> SearchResult:
    s, candidates = task.settings, candidates_of(checkpoints.load())
    epochs = candidate_epochs(s)
    course = CandidateCourse(
        "search",
        lambda genotype, number: evaluate(genotype, epochs, derive_seed(task.seed, "candidate", number)),
        lambda genotype: candidate_macs(task, genotype, epochs),
        s.candidates,
        Budget.of(task).total if s.candidates is None else float("inf"),
    )

    def saving(candidates: list[Candidate]) -> AbstractContextManager[None]:
        return checkpoints.saving(lambda: candidates_checkpoint(candidates))

    course.run(propose, candidates, on_epoch_end, saving)
    best = best_candidate(candidates)
    records = tuple(candidate.record for candidate in candidates)
    return SearchResult(best.genotype, best.record.epoch, records, None, task.shape, sum(r.seconds for r in records))


def best_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """The best on dev: by UAR, then by the lower loss, then the earlier one."""
    return max(candidates, key=lambda candidate: candidate.record.dev_rank)


def _rng(task: SearchTask, number: int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(task.seed, "architecture", number))


def candidates_checkpoint(candidates: Sequence[Candidate]) -> Checkpoint:
    """The candidates so far."""
    return Checkpoint({}, {"candidates": [[c.genotype.to_json(), asdict(c.record)] for c in candidates]})


def candidates_of(checkpoint: Checkpoint | None) -> list[Candidate]:
    """The candidates that a checkpoint holds; none where there is no checkpoint, or it is of a time before them."""
    content = checkpoint.state.get("candidates", []) if checkpoint else []
    return [Candidate(Genotype.from_json(genotype), EpochRecord(**record)) for genotype, record in content]
