"""What a search costs, in multiply-accumulates (MACs): the same count for a supernet and for candidates.

A pass is one forward and backward pass of one utterance; it is counted by the MACs of its forward part, on both sides
alike. Passes forward only (dev figures, the losses that perturbation-based selection compares) are not counted.

    supernet  = MACs of the supernet * utterances that the weights learn from * sum over epochs of passes
                + MACs of the supernet * batch size * passes of the stopping rule and of perturbation-based selection
    candidate = MACs of its network * utterances of the train part * search.candidate_epochs

With `search.optimisation=single` an epoch passes each utterance of the train part once, for weights and alphas. With
two levels it passes each of the weight half once for the weights, and as many of the alpha half for the alphas: first
order 1 pass; second order 4 (for w', at w', and two for the finite difference); none in a warm-up. Utterances are
counted as long as `search.crop_seconds`. Candidates have the supernet's sizes; the one that is found is trained anew at
those of the training.
"""

from dataclasses import dataclass

from emodarts.networks.cell import edges_of
from emodarts.networks.costs import count_macs, supernet_macs
from emodarts.networks.genotype import Genotype
from emodarts.networks.network import DiscreteNetwork
from emodarts.search.scope import fixed_kinds
from emodarts.search.settings import SearchSettings
from emodarts.search.stopping import LANCZOS_STEPS
from emodarts.search.task import SearchTask


@dataclass(frozen=True)
class Budget:
    """The cost of a supernet's search: `macs` of one forward pass of an utterance, `utterances` of an epoch."""

    macs: int
    utterances: int
    settings: SearchSettings

    @classmethod
    def of(cls, task: SearchTask) -> "Budget":
        """The budget of a task."""
        s = task.settings
        macs = supernet_macs(task.shape, s.all_cnn_operations, s.seqnn_operations, task.crop)
        return cls(macs, len(task.weight_part.utterances), s)

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
        return self.macs * s.batch_size * s.perturbation_steps * decisions

    @property
    def total(self) -> int:
        """MACs of a whole search with `search.method=darts` and these settings."""
        s = self.settings
        return sum(self.of_epoch(epoch >= s.warmup) for epoch in range(s.epochs)) + self.of_selection


def candidate_epochs(settings: SearchSettings) -> int:
    """The epochs that a candidate is trained."""
    return settings.candidate_epochs or settings.epochs


def candidate_macs(task: SearchTask, genotype: Genotype) -> int:
    """MACs of a candidate's training."""
    network = DiscreteNetwork(task.shape, genotype)
    return count_macs(network, task.crop) * len(task.train_part.utterances) * candidate_epochs(task.settings)
