"""Parameters and multiply-accumulates of a network, with the closed form for recurrent layers (counters give 0)."""

import torch
from torch import Tensor, nn

from emodarts.networks.network import Network


def count_parameters(network: nn.Module) -> int:
    """Trained numbers, alphas not counted."""
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("alphas."))


@torch.no_grad()
def count_macs(network: Network, frames: int) -> int:
    """Multiply-accumulates of convolutions, linear and recurrent layers for one utterance of `frames` frames."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d) and isinstance(output, Tensor):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear) and isinstance(output, Tensor):
            total += output.numel() * module.in_features
        elif isinstance(module, nn.RNNBase):
            matrices = sum(w.numel() for name, w in module.named_parameters() if name.startswith("weight"))
            total += inputs[0].shape[1] * matrices

    leaves = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.RNNBase)]
    hooks = [m.register_forward_hook(count) for m in leaves]
    training = network.training
    device = next(network.parameters()).device
    try:
        network.eval()
        x = torch.zeros(1, network.shape.input_channels, network.shape.bins, frames, device=device)
        network(x, torch.tensor([frames], device=device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return total
