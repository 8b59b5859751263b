"""Single-path one-shot search (SPOS, Guo et al. 2020): one path a step trains the weights, which then rank candidates.

A step's path is drawn uniformly from the space, or so that each operation of an edge is trained equally often (FairNAS,
Chu et al. 2021). Then candidates, drawn or evolved, are measured on dev with the weights that they inherit, batch
statistics taken again for each on a part of train; all of it costs no more than a search by alphas (`search.budget`).
Other than in FairNAS every path makes a step of its own: a step for all operations would leave few steps an epoch here.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoint, Checkpoints, random_checkpoint, restore_random
from emodarts.errors import EmodartsError
from emodarts.networks.costs import CostTable, supernet_macs
from emodarts.networks.genotype import Genotype
from emodarts.networks.supernet import Supernet
from emodarts.records import EpochRecord, OnEpochEnd, ignore_epoch
from emodarts.search.budget import FORWARD, Budget, training_reserve, with_epochs_within
from emodarts.search.candidates import CandidateSpace, FairChoice, choose_uniformly
from emodarts.search.controls import Candidate, CandidateCourse, drawn, evolved
from emodarts.search.proposals import without_absent_cells
from emodarts.search.supernet_evaluation import InheritedWeights
from emodarts.search.supernet_trainer import SupernetTrainer
from emodarts.search.task import CandidateResult, SearchResult, SearchTask
from emodarts.seeds import derive_seed
from emodarts.training.epoch_progress import StepLosses

_SAMPLE_SIZE = 64  # paths whose mean cost is an epoch's


def single_path_search(
    task: SearchTask, on_epoch_end: OnEpochEnd = ignore_epoch, checkpoints: Checkpoints = NO_CHECKPOINTS
) -> SearchResult:
    """Search an architecture by single paths; candidates stand behind the epochs in the records, as phase `ranking`.

    `on_epoch_end` and `checkpoints` as in `loop.search`. The result has the best of the candidates, the supernet's dev
    probabilities as this one's network, and with several `search.proposals` the best distinct ones. Raises
    EmodartsError for a fold without dev part, and FloatingPointError for a loss that is NaN.
    """
    if task.dev is None:
        raise EmodartsError("search.method=spos ranks candidates on dev, and the fold has no dev part")
    search = SinglePathSearch(task)
    search.resume(checkpoints.load())
    for record in search.records:
        on_epoch_end(record)
    while len(search.records) < search.task.settings.epochs:
        search.records.append(search.train_epoch(partial(checkpoints.stop_within, search.checkpoint)))
        with checkpoints.saving(search.checkpoint):
            on_epoch_end(search.records[-1])
    candidates, inherited = search.rank(on_epoch_end)
    best, start = candidates[0].genotype, time.perf_counter()
    probabilities = inherited.probabilities(best)
    distinct = dict.fromkeys(without_absent_cells(c.genotype, best, task.shape) for c in candidates)
    by_number = sorted(candidates, key=lambda candidate: candidate.record.epoch)
    records = (*search.records, *(candidate.record for candidate in by_number))
    seconds = sum(record.seconds for record in records) + time.perf_counter() - start
    count = task.settings.proposals
    proposals = tuple(distinct)[:count] if count > 1 else ()
    return SearchResult(best, len(search.records) - 1, records, probabilities, task.shape, seconds, proposals)


class PathTrainer(SupernetTrainer):
    """Trains the weights of a supernet of single paths, one path of the space a step; its alphas stay as they are."""

    def __init__(self, supernet: Supernet, task: SearchTask):
        # What is computed changes with each path: nothing to compile. The weights learn from all of train.
        task = replace(task, weight_part=task.train_part, settings=replace(task.settings, compile="none"))
        super().__init__(supernet, task)
        self.space = CandidateSpace.of(task.settings, task.shape)
        self.decks: dict[str, list[int]] = {}

    def _steps(self, alphas_move: bool, rng: np.random.Generator) -> Iterator[StepLosses]:
        is_fair = self.settings.path_sampling == "fair"
        choose = FairChoice(rng, self.decks) if is_fair else choose_uniformly(rng)
        for batch in self._batches(self.task.weight_part, rng, self.progress.position("weights")):
            with self.supernet.override_weights(path_weights(self.supernet, self.space.build(choose))):
                yield self.weight_step(batch), None

    def checkpoint(self) -> Checkpoint:
        """All that changes."""
        return super().checkpoint() | Checkpoint({}, {"decks": self.decks})

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go back to what `checkpoint` holds."""
        super().resume(checkpoint)
        self.decks = checkpoint.state["decks"]


def path_weights(supernet: Supernet, path: Genotype) -> dict[str, Tensor]:
    """The mixing weights of a path, those whose values are looked at on the CPU: all but those of layers, which mix.

    A cell that reads a weighting of all layers reads the even one: no alphas learn another.
    """
    weights = supernet.discrete_weights(path)
    return {kind: rows if kind == "L" else rows.cpu() for kind, rows in weights.items()}


class PathCosts:
    """Multiply-accumulates of one forward pass of an utterance through a path."""

    def __init__(self, supernet: Supernet, task: SearchTask):
        operations = (supernet.cnn_operations, supernet.sequence_operations)
        self.supernet, self.table = supernet, CostTable.of(task.shape, *operations, task.crop)
        self.around = supernet_macs(task.shape, *operations, task.crop) - self.table.total

    def of(self, path: Genotype) -> int:
        """Of a path."""
        weights = path_weights(self.supernet, path)
        rows = {kind: costs for kind, costs in self.table.costs.items() if kind != "L"}  # any layer costs the same
        return self.around + round(sum(float((weights[kind] * costs).sum()) for kind, costs in rows.items()))


class SinglePathSearch:
    """A supernet of single paths, its trainer, and the ranking of candidates by its weights.

    Raises EmodartsError where trainings of proposals leave it nothing of the budget.
    """

    def __init__(self, task: SearchTask):
        s, shape = task.settings, task.shape
        self.budget, reserve = Budget.of(task).total, training_reserve(task)
        torch.manual_seed(derive_seed(task.seed, "search"))
        self.rng = np.random.default_rng(derive_seed(task.seed, "search batches"))
        self.supernet = Supernet(shape, s.all_cnn_operations, s.seqnn_operations, single_path=True).to(task.device)
        self.costs = PathCosts(self.supernet, task)
        space, rng = CandidateSpace.of(s, shape), np.random.default_rng(derive_seed(task.seed, "path costs"))
        mean = float(np.mean([self.costs.of(space.draw(rng)) for _ in range(_SAMPLE_SIZE)]))
        self.macs_of_epoch = round(mean * len(task.train_part.utterances))
        self.for_ranking = self.budget - reserve
        self.task = with_epochs_within(task, self.for_ranking, lambda settings: settings.epochs * self.macs_of_epoch)
        self.trainer = PathTrainer(self.supernet, self.task)
        self.records: list[EpochRecord] = []

    def train_epoch(self, on_step: Callable[[], None] = lambda: None) -> EpochRecord:
        """One epoch of single paths, `on_step` after each. Nothing is measured on dev: no network is derived yet."""
        start = self.trainer.progress.begin()
        train_loss, _ = self.trainer.train_epoch(len(self.records), False, self.rng, on_step)
        seconds = time.perf_counter() - start
        return EpochRecord(
            "search", len(self.records), train_loss, None, None, None, seconds=seconds, macs=self.macs_of_epoch
        )

    def rank(self, on_epoch_end: OnEpochEnd) -> tuple[list[Candidate], InheritedWeights]:
        """Candidates with their figures by inherited weights, the best first; and what measured them."""
        assert self.task.dev is not None
        s, task, inherited = self.task.settings, self.task, InheritedWeights.of(self.supernet, self.task)
        passes = FORWARD * (len(inherited.calibration.utterances) + len(self.task.dev.utterances))
        course = CandidateCourse(
            "ranking",
            lambda genotype, number: self._evaluate(inherited, genotype),
            lambda genotype: round(passes * self.costs.of(genotype)),
            s.candidates,
            self.for_ranking - len(self.records) * self.macs_of_epoch if s.candidates is None else float("inf"),
        )
        candidates: list[Candidate] = []
        course.run(evolved(task) if s.path_choice == "evolution" else drawn(task), candidates, on_epoch_end)
        return sorted(candidates, key=lambda candidate: candidate.record.dev_rank, reverse=True), inherited

    def _evaluate(self, inherited: InheritedWeights, genotype: Genotype) -> CandidateResult:
        figures = inherited.figures(genotype)
        return CandidateResult(figures.uar, figures.loss)

    def checkpoint(self) -> Checkpoint:
        """All that `resume` needs."""
        records = [asdict(record) for record in self.records]
        drawn_from = random_checkpoint(self.rng, self.task.device)
        return self.trainer.checkpoint() | drawn_from | Checkpoint({}, {"records": records})

    def resume(self, checkpoint: Checkpoint | None) -> None:
        """Go back to a checkpoint; None: this is the start."""
        if checkpoint is not None:
            self.trainer.resume(checkpoint)
            restore_random(checkpoint, self.rng, self.task.device)
            self.records = [EpochRecord(**record) for record in checkpoint.state["records"]]
