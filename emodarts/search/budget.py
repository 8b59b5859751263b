"""What a search costs, in multiply-accumulates (MACs): the same count for a supernet and for candidates.

A pass is one forward and backward pass of one utterance; it is counted by the MACs of its forward part, on both sides
alike. Passes forward only (dev figures, the losses that perturbation-based selection compares) are not counted, but
where they are most of the work: a candidate of `search.method=spos` is not trained, and counts a third of a pass.

    supernet  = MACs of the supernet * utterances that the weights learn from * sum over epochs of passes
                + MACs of the supernet * batch size * passes of the stopping rule and of perturbation-based selection
    candidate = MACs of its network * utterances of the train part * search.candidate_epochs
    spos      = mean MACs of a path * utterances of the train part * epochs
                + for each candidate MACs of its network * utterances it is measured on / 3

What a supernet proposes (`search.proposals`) is paid of the same total: the supernet then has fewer epochs.

With `search.optimisation=single` an epoch passes each utterance of the train part once, for weights and alphas. With
two levels it passes each of the weight half once for the weights, and as many of the alpha half for the alphas: first
order 1 pass; second order 4 (for w', at w', and two for the finite difference); none in a warm-up. Utterances are
counted as long as `search.crop_seconds`. Candidates have the supernet's sizes; the one that is found is trained anew at
those of the training.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from emodarts.errors import EmodartsError
from emodarts.networks.cell import edges_of
from emodarts.networks.costs import count_macs, supernet_macs
from emodarts.networks.genotype import Genotype
from emodarts.networks.network import DiscreteNetwork
from emodarts.search.candidates import CandidateSpace
from emodarts.search.scope import fixed_kinds
from emodarts.search.settings import SearchSettings
from emodarts.search.stopping import LANCZOS_STEPS
from emodarts.search.task import SearchTask
from emodarts.seeds import derive_seed

FORWARD = 1 / 3  # of a pass forward and backward, where nothing is learned from it
_SAMPLE_SIZE = 16  # architectures whose costs say what a proposal may cost


@dataclass(frozen=True)
class Budget:
    """The cost of a supernet's search: `macs` of one forward pass of an utterance, `utterances` of an epoch.

    `choices`: decisions beside those of cells, about P and L (`NetworkShape.choices`).
    """

    macs: int
    utterances: int
    settings: SearchSettings
    choices: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, task: SearchTask) -> "Budget":
        """The budget of a task."""
        s = task.settings
        macs = supernet_macs(task.shape, s.all_cnn_operations, s.seqnn_operations, task.crop)
        choices = {kind: rows for kind, (rows, _) in task.shape.choices.items()}
        return cls(macs, len(task.weight_part.utterances), s, choices)

    def of_epoch(self, alphas_move: bool) -> int:
        """MACs of an epoch in which the alphas move, or do not."""
        s = self.settings
        if not alphas_move:
            return self.macs * self.utterances
        eigenvalue = 2 * LANCZOS_STEPS * s.batch_size if s.stop == "eigenvalue" else 0
        return self.macs * (self.utterances * s.passes_per_utterance + eigenvalue)

    @property
    def of_selection(self) -> int:
        """MACs of the weights' tuning between the decisions of perturbation-based selection."""
        s = self.settings
        if s.selection != "perturbation":
            return 0
        nodes = {"N": s.nodes, "R": s.nodes, "S": s.sequence_nodes}
        searched = [nodes[kind] for kind in nodes if kind not in fixed_kinds(s, s.epochs - 1)]
        decisions = sum(len(list(edges_of(count))) + count - 1 for count in searched)  # node 0 has but two inputs
        decisions += sum(rows for kind, rows in self.choices.items() if kind not in fixed_kinds(s, s.epochs - 1))
        return self.macs * s.batch_size * s.perturbation_steps * decisions

    @property
    def total(self) -> int:
        """MACs of a whole search with `search.method=darts` and these settings."""
        s = self.settings
        return sum(self.of_epoch(epoch >= s.warmup) for epoch in range(s.epochs)) + self.of_selection


def candidate_epochs(settings: SearchSettings) -> int:
    """The epochs that a candidate is trained."""
    return settings.candidate_epochs or settings.epochs


def candidate_macs(task: SearchTask, genotype: Genotype, epochs: int) -> int:
    """MACs of a candidate's training."""
    network = DiscreteNetwork(task.shape, genotype)
    return count_macs(network, task.crop) * len(task.train_part.utterances) * epochs


def training_reserve(task: SearchTask) -> int:
    """MACs that the trainings of a supernet's proposals may take: of the dearest of some architectures, for each.

    The architectures are drawn uniformly from the space; 0 where no proposal is trained.
    """
    s = task.settings
    if s.proposals == 1:
        return 0
    space, rng = CandidateSpace.of(s, task.shape), np.random.default_rng(derive_seed(task.seed, "reserve"))
    sample = [space.draw(rng) for _ in range(_SAMPLE_SIZE)]
    return s.proposals * max(candidate_macs(task, genotype, s.proposal_epochs) for genotype in sample)


def with_epochs_within(task: SearchTask, macs: float, cost: Callable[[SearchSettings], float]) -> SearchTask:
    """The task with as many epochs of the supernet as cost no more than `macs`, at most those of the settings.

    Raises EmodartsError where not even the shortest search does.
    """
    s = task.settings
    shortest = 1 if s.warmup_epochs is None or s.method != "darts" else s.warmup_epochs + 1
    for epochs in range(s.epochs, shortest - 1, -1):
        settings = replace(s, epochs=epochs)
        if cost(settings) <= macs:
            return replace(task, settings=settings)
    raise EmodartsError(
        f"search.proposals={s.proposals} trainings of search.proposal_epochs={s.proposal_epochs} leave nothing of what "
        f"search.epochs={s.epochs} of a supernet cost: set fewer of them, or more search.epochs"
    )
