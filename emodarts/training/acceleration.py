"""What makes the training steps of a network faster on a GPU: bfloat16 and torch.compile, each behind a setting."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Forward = Callable[[Tensor, Tensor], Tensor]  # (inputs, lengths) -> logits


def training_forward(network: nn.Module, device: str, precision: str, compile: str) -> Forward:
    """The network's forward pass as its training steps use it; evaluation calls the network itself.

    `precision=bfloat16` runs it under autocast: the weights, the loss and the optimiser stay float32. `compile` is the
    mode of torch.compile, or `none`. With both at their defaults this is the network.
    """
    forward: Forward = network if compile == "none" else torch.compile(network, mode=compile)
    if precision == "float32":
        return forward

    def in_bfloat16(inputs: Tensor, lengths: Tensor) -> Tensor:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            logits = forward(inputs, lengths)
        return logits.float()

    return in_bfloat16
