"""The sequence cells' part of a search step, plain and fused: forward and backward passes of one cell, on one thread.

    python tests/benchmarks/sequence_step.py [--repeats 7] [--cases NAME ...]

A first-order step has two passes: one for the gradient of the alphas alone, one for that of the weights (and of the
cell's input, for the layers before it). Plain (`cell.MixedCell`, a module for each operation of each edge) and fused
(`fused.cell.FusedCell`) cells take turns in one run; medians, and the peak of what autograd saves. Utterances
of half to all of the frames. Last line: one JSON object, `seqnn_ratio` for a cell of 4 nodes with the 14 operations of
emoDARTS, width 32, batch 8, 16 frames, and the other cases by name.
"""

import argparse
import json
import statistics
import time
from typing import NamedTuple

import torch
from torch import Tensor, nn

from emodarts.networks.cell import MixedCell, edges_of
from emodarts.networks.fused.cell import FusedCell
from emodarts.networks.fused.mixed_sequence import FusedSequenceOperations
from emodarts.networks.network import LinearNorm
from emodarts.networks.sequence import SEQUENCE_OPERATIONS
from emodarts.networks.spaces import SMALL_SEQUENCE_OPERATIONS, SPACES


class Case(NamedTuple):
    """One cell and its batch."""

    name: str
    operations: tuple[str, ...]
    nodes: int
    width: int
    batch: int
    frames: int


EMODARTS, MODERN = (SPACES[name].sequence_operations for name in ("emodarts", "modern"))
CASES = (
    Case("seqnn_ratio", EMODARTS, 4, 32, 8, 16),
    Case("seqnn_31_frames_ratio", EMODARTS, 4, 32, 16, 31),
    Case("seqnn_62_frames_ratio", EMODARTS, 4, 32, 16, 62),
    Case("seqnn_width_64_ratio", EMODARTS, 4, 64, 16, 31),
    Case("small_ratio", SMALL_SEQUENCE_OPERATIONS, 1, 32, 16, 31),
    Case("small_62_frames_ratio", SMALL_SEQUENCE_OPERATIONS, 1, 32, 16, 62),
    Case("small_2_nodes_ratio", SMALL_SEQUENCE_OPERATIONS, 2, 32, 16, 31),
    Case("modern_ratio", MODERN, 1, 32, 16, 31),
    Case("modern_4_nodes_ratio", MODERN, 4, 32, 16, 31),
)


def measure(repeats: int = 7, cases: tuple[Case, ...] = CASES[:1]) -> dict[str, float]:
    """The ratio plain / fused of each case, as printed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {case.name: _measure(case, repeats) for case in cases}
    finally:
        torch.set_num_threads(threads)


def _measure(case: Case, repeats: int) -> float:
    problems = [_Problem(case, fused) for fused in (False, True)]
    seconds: list[list[float]] = [[], []]
    for repeat in range(repeats + 1):
        for problem, found in zip(problems, seconds, strict=True):
            start = time.process_time()  # of this process, so that others on the machine count less
            problem.step()
            if repeat:
                found.append(time.process_time() - start)
    plain, fused = (1e3 * statistics.median(found) for found in seconds)
    saved = [problem.saved() / 2**20 for problem in problems]
    print(
        f"{case.name:24} {len(case.operations):2} operations, {case.nodes} nodes, width {case.width}, "
        f"batch {case.batch:2}, {case.frames} frames: plain {plain:7.1f} ms, fused {fused:7.1f} ms, "
        f"ratio {plain / fused:.2f}; saved {saved[0]:.1f} and {saved[1]:.1f} MiB",
        flush=True,
    )
    return round(plain / fused, 3)


class _Problem:
    """A cell, its input and its alphas."""

    def __init__(self, case: Case, fused: bool):
        torch.manual_seed(0)
        edges = len(list(edges_of(case.nodes)))
        plain = MixedCell(
            case.nodes,
            case.operations,
            lambda name, _: SEQUENCE_OPERATIONS[name](case.width, False),
            (LinearNorm(case.width, case.width, False), LinearNorm(case.width, case.width, False)),
            reduction=False,
        )
        self.cell: nn.Module = FusedCell(plain, FusedSequenceOperations) if fused else plain
        self.alphas = torch.zeros(edges, len(case.operations), requires_grad=True)
        self.lengths = torch.randint(case.frames // 2, case.frames + 1, (case.batch,))
        self.lengths[0] = case.frames
        real = torch.arange(case.frames) < self.lengths[:, None]
        self.x = (torch.randn(case.batch, case.frames, case.width) * real[:, :, None]).requires_grad_()

    def step(self) -> None:
        """Both passes of a first-order step."""
        torch.autograd.grad(self._loss(), self.alphas)
        torch.autograd.grad(self._loss(), [*self.cell.parameters(), self.x])

    def _loss(self) -> Tensor:
        output: Tensor = self.cell((self.x, self.x), (self.lengths,) * 3, self.alphas.softmax(1))
        return output.square().mean()

    def saved(self) -> int:
        """Bytes of different tensors that autograd keeps between the passes, weights not counted."""
        weights = {p.untyped_storage().data_ptr() for p in self.cell.parameters()}
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self._loss()
        return sum(sizes.values())


def main() -> None:
    """Print all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], default=[c.name for c in CASES])
    options = parser.parse_args()
    print(json.dumps(measure(options.repeats, tuple(case for case in CASES if case.name in options.cases))))


if __name__ == "__main__":
    main()
