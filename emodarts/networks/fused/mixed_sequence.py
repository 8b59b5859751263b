"""The mixed sequence operations of all edges that leave one state, computed together.

Equal to a `MixedOperation` for each edge: the recurrent layers of one kind of all edges and operations run as one
recurrence, the attentions as one (`sequence_layers`), and layer norms and weighted sums are taken together.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.cell import MixedOperation
from emodarts.networks.fused.cell import FusedOperations
from emodarts.networks.fused.sequence_layers import (
    FusedAttention,
    FusedRecurrentLayers,
    Reversal,
    attention_of,
    grouped,
)
from emodarts.networks.masking import time_mask, without_autocast
from emodarts.networks.operations import Identity, Zero
from emodarts.networks.sequence import Recurrent, RecurrentAttention, SelfAttention


class FusedSequenceOperations(FusedOperations):
    """Sequence operations whose layer norms have no affine parameters."""

    def __init__(self, edges: Sequence[MixedOperation], stride: int):
        def of_types(*types: type[nn.Module]) -> dict[str, list[nn.Module]]:
            first = edges[0].operations.items()
            return {name: [e.operations[name] for e in edges] for name, plain in first if type(plain) in types}

        recurrent = of_types(Recurrent, RecurrentAttention)
        attention = of_types(RecurrentAttention, SelfAttention)
        super().__init__(edges, {*recurrent, *attention, *of_types(Identity, Zero)}, stride)
        by_mode = grouped(recurrent, lambda operation: operation.layers.mode)
        by_heads = grouped(attention, lambda operation: attention_of(operation).heads)
        self.recurrent_layers = nn.ModuleList(FusedRecurrentLayers(group) for group in by_mode)
        self.attentions: Any = nn.ModuleList(FusedAttention(group) for group in by_heads)
        self.attention_names = frozenset(attention)

    def forward(self, x: Tensor, extent: Tensor, weights: Tensor) -> Tensor:
        """See `FusedOperations`; x `(batch, time, channels)`, `extent` the lengths `(batch,)`."""
        mask = time_mask(extent, x.shape[1])
        mixed = x.new_zeros(self.edges, *x.shape)
        for names, outputs in self._outputs(x, extent, mask):
            mixed = mixed + self._mix(outputs, self.weights_of(weights, names))
        mixed = mixed * mask[:, :, None]
        if "skip_connect" in self.columns:
            mixed = mixed + self.weights_of(weights, ("skip_connect",))[:, :, None, None] * self._skip(x)
        return self.add_unfused(mixed.movedim(0, 2).flatten(2), x, extent, weights)

    def _outputs(self, x: Tensor, lengths: Tensor, mask: Tensor) -> list[tuple[tuple[str, ...], Tensor]]:
        """Names and outputs `(operations * edges, time, batch, channels)`, neither normalised nor masked."""
        frames, reverse = x.transpose(0, 1).contiguous(), Reversal(lengths, x.shape[1])
        outputs: list[tuple[tuple[str, ...], Tensor]] = []
        by_name: dict[str, Tensor] = {}
        for layers in self.recurrent_layers:
            for names, states in layers(frames, reverse):
                if self.attention_names.isdisjoint(names):
                    outputs.append((names, states))
                else:
                    by_name |= dict(zip(names, states.split(self.edges), strict=True))
        outputs += [((name,), states) for name, states in by_name.items() if name not in self.attention_names]
        for attention in self.attentions:
            inputs = [by_name.get(name, frames.expand(self.edges, *frames.shape)) for name in attention.names]
            outputs.append((attention.names, attention(torch.cat(inputs), mask)))
        return outputs

    def _mix(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """Layer norm and weighted sum over operations: `(edges, batch, time, channels)`."""
        with without_autocast(outputs.device.type):  # mixing weights are not to be rounded
            normalised = F.layer_norm(outputs.to(weights.dtype), outputs.shape[-1:]).unflatten(0, (-1, self.edges))
            return torch.einsum("eo,oetbw->ebtw", weights, normalised)

    def _skip(self, x: Tensor) -> Tensor:
        """The identity of each edge, with dropout of its own in training."""
        if self.training and self.skip_dropout:
            return F.dropout(x.expand(self.edges, *x.shape), self.skip_dropout)
        return x
