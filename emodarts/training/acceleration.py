"""What makes training steps faster: memory that is kept; bfloat16 and torch.compile, each behind a setting."""

import ctypes
import platform
from collections.abc import Callable

import torch
from torch import Tensor, nn

Forward = Callable[[Tensor, Tensor], Tensor]  # (inputs, lengths) -> logits


# Numbers of glibc's malloc.h, and what they are set to: blocks up to 32 MiB (the most that it allows) come from the
# heap, which grows by 64 MiB and gives nothing back until a GiB of it is free.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2
_ALLOCATION = {_MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 2**30, _TOP_PAD: 64 * 2**20}


def keep_freed_memory() -> bool:
    """Let this process keep the memory that a step frees for the next step; False where the C library is not glibc.

    Otherwise glibc gives it back, and at each step the system maps and clears some thousand pages anew
    (docs/performance.md). It changes no number, and no peak of memory.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(parameter, value) for parameter, value in _ALLOCATION.items())


def training_forward(network: nn.Module, device: str, precision: str, compile: str) -> Forward:
    """The network's forward pass as its training steps use it; evaluation calls the network itself.

    On a CPU the process keeps its freed memory from now on (`keep_freed_memory`).

    `precision=bfloat16` runs it under autocast: the weights, the loss and the optimiser stay float32. `compile` is the
    mode of torch.compile, or `none`. With both at their defaults this is the network.
    """
    if torch.device(device).type == "cpu":
        keep_freed_memory()
    forward: Forward = network if compile == "none" else torch.compile(network, mode=compile)
    if precision == "float32":
        return forward

    def in_bfloat16(inputs: Tensor, lengths: Tensor) -> Tensor:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            logits = forward(inputs, lengths)
        return logits.float()

    return in_bfloat16
