"""The mixed sequence operations of all edges that leave one state, computed together.

Equal to `cell.Edges` of the modules of `sequence`: the recurrent layers of all edges and operations run as one
recurrence a kind, the attentions as one (`sequence_parts`), and layer norms and weighted sums are taken together.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.cell import MixedOperations
from emodarts.networks.fused.sequence_parts import (
    JointAttention,
    JointLayers,
    Reversal,
    attention_of,
    groups_of,
    kind_of,
)
from emodarts.networks.masking import time_mask
from emodarts.networks.sequence import (
    SEQUENCE_OPERATIONS,
    Bidirectional,
    Recurrent,
    RecurrentAttention,
    SelfAttention,
    SequenceSkip,
    SequenceZero,
)


class SequenceEdges(MixedOperations):
    """`operations` of a width for each of `edges` edges; layer norms without affine parameters.

    It starts with the very weights that `Edges` would draw. An operation of a type that is not known here stays a
    module for each edge.
    """

    def __init__(self, operations: tuple[str, ...], width: int, edges: int, stride: int = 1):
        drawn = [{name: SEQUENCE_OPERATIONS[name](width, False) for name in operations} for _ in range(edges)]
        plain = {name: [modules[name] for modules in drawn] for name in operations}

        def of_type(types: Any) -> dict[str, list[nn.Module]]:
            return {name: modules for name, modules in plain.items() if isinstance(modules[0], types)}

        recurrent = of_type(Recurrent | Bidirectional | RecurrentAttention)
        attention = of_type(RecurrentAttention | SelfAttention)
        known = {*recurrent, *attention, *of_type(SequenceSkip | SequenceZero)}
        alone = tuple(name for name in operations if name not in known)
        super().__init__(alone, lambda name, _: plain[name].pop(0), edges, stride)
        self.columns = {name: column for column, name in enumerate(operations)}
        self.edges, self.width = edges, width
        self.layers: Any = nn.ModuleList(JointLayers(found) for found in groups_of(recurrent, kind_of))
        self.attentions: Any = nn.ModuleList(
            JointAttention(found) for found in groups_of(attention, lambda operation: attention_of(operation).heads)
        )
        self.attending = frozenset(attention)

    def forward(self, x: Tensor, extent: Tensor, weights: Tensor) -> Tensor:
        """See `Edges`; x `(batch, time, width)`, `extent` the lengths `(batch,)`."""
        mask = time_mask(extent, x.shape[1])
        mixed = x.new_zeros(self.edges, *x.shape)
        for names, outputs in self._outputs(x, extent, mask):
            mixed = mixed + self._mix(outputs, self._columns(weights, names))
        mixed = mixed * mask[:, :, None]
        if "skip_connect" in self.columns:
            mixed = mixed + self._columns(weights, ("skip_connect",))[:, :, None, None] * self._skip(x)
        sums = mixed.movedim(0, 2).flatten(2)
        if self.names:
            sums = sums + super().forward(x, extent, self._columns(weights, self.names))
        return sums

    def _outputs(self, x: Tensor, lengths: Tensor, mask: Tensor) -> list[tuple[tuple[str, ...], Tensor]]:
        """Names and outputs `(operations * edges, time, batch, width)`, neither normalised nor masked."""
        frames, reverse = x.transpose(0, 1).contiguous(), Reversal(lengths, x.shape[1])
        found = [group for part in self.layers for group in part(frames, reverse)]
        read = {name: y for names, outputs in found for name, y in zip(names, outputs.split(self.edges), strict=True)}
        outputs = [group for group in found if not self.attending.intersection(group[0])]
        mixed = [names for names, _ in found if self.attending.intersection(names)]
        outputs += [((name,), read[name]) for names in mixed for name in names if name not in self.attending]
        for part in self.attentions:
            inputs = [read.get(name, frames.expand(self.edges, *frames.shape)) for name in part.names]
            outputs.append((part.names, part(torch.cat(inputs), mask)))
        return outputs

    def _mix(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """Layer norm and weighted sum over operations: `(edges, batch, time, width)`."""
        with torch.autocast(outputs.device.type, enabled=False):  # mixing weights are not to be rounded
            normalised = F.layer_norm(outputs.to(weights.dtype), outputs.shape[-1:]).unflatten(0, (-1, self.edges))
            return torch.einsum("eo,oetbw->ebtw", weights, normalised)

    def _skip(self, x: Tensor) -> Tensor:
        """The identity of each edge, with dropout of its own in training."""
        if self.training and self.skip_dropout:
            return F.dropout(x.expand(self.edges, *x.shape), self.skip_dropout)
        return x

    def extract(self, edge: int, operation: str) -> nn.Module:
        """See `Edges`."""
        if operation in self.names:
            return super().extract(edge, operation)
        plain = SEQUENCE_OPERATIONS[operation](self.width, False).train(self.training)
        for part in [stack for layers in self.layers for stack in layers.parts] + list(self.attentions):
            if operation in part.names:
                plain.to(next(part.parameters()))
                part.write(operation, edge, plain)
        return plain
