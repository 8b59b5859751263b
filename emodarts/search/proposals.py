"""Search proposes, training disposes: genotypes that a supernet favours are trained briefly, and dev chooses.

Shared weights hardly rank architectures (docs/ranking.md); whether short trainings rank them better is not measured.
One rule for all searches with a supernet, within the budget of one without trainings (`search.budget`).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoints
from emodarts.networks.genotype import KINDS, Genotype
from emodarts.networks.network import NetworkShape
from emodarts.networks.supernet import Supernet
from emodarts.records import OnEpochEnd, ignore_epoch
from emodarts.search.budget import Budget, candidate_macs, training_reserve, with_epochs_within
from emodarts.search.controls import Candidate, CandidateCourse, best_candidate, candidates_checkpoint, candidates_of
from emodarts.search.task import Evaluate, SearchResult, SearchTask
from emodarts.seeds import derive_seed

_DRAWS = 50  # for each proposal: alphas that have decided give the same genotype again and again

SupernetMethod = Callable[[SearchTask, OnEpochEnd, Checkpoints], SearchResult]


def draw_proposals(supernet: Supernet, first: Genotype, count: int, rng: np.random.Generator) -> tuple[Genotype, ...]:
    """`first`, and distinct genotypes drawn from the mixing weights: `count` in all, or fewer where these are decided.

    They are what the supernet derives with its searched weights divided by draws of an exponential distribution, so
    that an edge's operation is drawn in proportion to its weight, and a node's two inputs, without replacement, to what
    each edge gives to operations other than `none` (weighted sampling by exponential races, Efraimidis & Spirakis 2006;
    the Gumbel-max trick in another form).
    """
    proposals = {first: None}
    weights = {kind: rows.detach().cpu() for kind, rows in supernet.mixing_weights().items()}
    for _ in range(_DRAWS * count):
        if len(proposals) >= count:
            break
        noise = {k: weights[k].new_tensor(rng.exponential(size=weights[k].shape)) for k in supernet.searched_kinds}
        drawn = supernet.derive(weights | {kind: weights[kind] / rows for kind, rows in noise.items()})
        proposals[without_absent_cells(drawn, first, supernet.shape)] = None
    return tuple(proposals)


def without_absent_cells(genotype: Genotype, first: Genotype, shape: NetworkShape) -> Genotype:
    """The genotype with the cells of `first` where a network of this shape has none: these make no difference."""
    absent = [name for kind, name in KINDS.items() if kind not in shape.kinds]
    return replace(genotype, **{name: getattr(first, name) for name in absent})


def propose_and_train(
    task: SearchTask,
    search: SupernetMethod,
    evaluate: Evaluate,
    on_epoch_end: OnEpochEnd = ignore_epoch,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> SearchResult:
    """Search with a supernet; where `search.proposals` are several, train each of them and take the best on dev.

    The trainings stand behind the supernet's epochs in the records, as phase `proposal`. Without a dev part nothing
    could choose, and the supernet's own genotype is taken.
    """
    if task.settings.proposals == 1 or task.dev is None:
        return search(task, on_epoch_end, checkpoints)
    checkpoint = checkpoints.load()
    candidates = candidates_of(checkpoint)
    if checkpoint is None or "candidates" not in checkpoint.state:
        result = search(task, on_epoch_end, checkpoints)
        if checkpoints.storage is not None:
            checkpoints.save(result.to_checkpoint() | candidates_checkpoint(candidates))
    else:
        result = SearchResult.from_checkpoint(checkpoint)
        for record in result.epochs:
            on_epoch_end(record)
    s, spent, epochs = task.settings, sum(record.macs or 0 for record in result.epochs), task.settings.proposal_epochs
    counts_candidates = s.method == "spos" and s.candidates is not None  # whatever they cost
    course = CandidateCourse(
        "proposal",
        lambda genotype, number: evaluate(genotype, epochs, derive_seed(task.seed, "proposal", number)),
        lambda genotype: candidate_macs(task, genotype, epochs),
        len(result.proposals),
        float("inf") if counts_candidates else Budget.of(task).total - spent,
    )

    def saving(candidates: list[Candidate]) -> AbstractContextManager[None]:
        return checkpoints.saving(lambda: result.to_checkpoint() | candidates_checkpoint(candidates))

    course.run(lambda number, past: result.proposals[number], candidates, on_epoch_end, saving)
    records = tuple(candidate.record for candidate in candidates)
    seconds = result.seconds + sum(record.seconds for record in records)
    best = best_candidate(candidates).genotype
    return replace(result, genotype=best, epochs=result.epochs + records, seconds=seconds, proposals=())


def with_trainings_paid(task: SearchTask) -> SearchTask:
    """The task of a supernet of alphas, with the epochs that the trainings of its proposals leave it."""
    if task.settings.proposals == 1:
        return task
    budget = Budget.of(task)
    left = budget.total - training_reserve(task)
    return with_epochs_within(task, left, lambda settings: replace(budget, settings=settings).total)
