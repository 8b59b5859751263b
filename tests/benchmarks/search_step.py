"""One search step, plain and fast: times of first and second order and what is kept for the backward pass.

    python tests/benchmarks/search_step.py [--size 64] [--batch 8] [--repeats 5] [--preset paper|small]

One CPU thread. `paper`: 4 CNN cells of 4 nodes and 8 channels with the eight operations of DARTS on masked input of
size x size, then one sequence cell of the small preset. `small`: the small preset's supernet on crops of 125 frames.
Plain is `tests/plain.py`. A step is a gradient of the alphas and one of the weights; both sides start from the same
weights and take turns. Ratios are those of the medians of CPU seconds, the first turn left out. The network without
its sequence cell is measured too (`cnn_`). Last line: one JSON object; `activation_ratio` is fast / plain, the others
plain / fast. Ends with status 1 where `paper` misses one of LEAST. At 128 x 128 and batch 32 the plain side keeps about
17 GB.
"""

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import sequence_step
import torch
import torch.nn.functional as F

from emodarts.networks.network import NetworkShape
from emodarts.networks.operations import frozen_statistics
from emodarts.networks.spaces import SMALL_SEQUENCE_OPERATIONS, SPACES
from emodarts.networks.supernet import Supernet
from emodarts.search.bilevel import first_order_step, second_order_step
from tests.support.plain import backward, first_order, plain_twin, saved_bytes, second_order

XI = 0.025
LEAST = {"first_order_ratio": 3.0, "second_order_ratio": 3.0, "seqnn_ratio": 2.0}  # and activation_ratio at most .5


class Losses:
    """The losses of a network on a batch for the weights and on one for the alphas."""

    def __init__(self, bins, frames, batch):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(2, batch, 1, bins, frames, generator=generator)
        self.lengths = torch.randint(frames // 2, frames + 1, (2, batch), generator=generator)
        self.x *= (torch.arange(frames) < self.lengths[..., None])[:, :, None, None]
        self.labels = torch.randint(4, (2, batch), generator=generator)

    def _loss(self, network, half):
        return F.cross_entropy(network(self.x[half], self.lengths[half]), self.labels[half])

    def weights(self, network):
        return self._loss(network, 0)

    def alphas(self, network):
        return self._loss(network, 1)


def plain_step(network, losses, unrolled):
    """The alphas' gradient and then the weights', as DARTS's reference implementation takes them."""
    if unrolled:
        second_order(network, losses.weights, losses.alphas, XI)
    else:
        first_order(network, losses.alphas)
    backward(network, losses.weights)


def fast_step(network, losses, unrolled):
    """The same as the search takes them."""
    weights, alphas = network.weight_parameters(), network.architecture_parameters()
    with frozen_statistics(network):
        if unrolled:
            directions = torch.autograd.grad(losses.weights(network), weights)
            of_weights, of_alphas = (lambda: losses.weights(network)), (lambda: losses.alphas(network))
            second_order_step(weights, alphas, of_weights, of_alphas, directions, XI)
        else:
            first_order_step(alphas, lambda: losses.alphas(network), weights)
    torch.autograd.grad(losses.weights(network), weights)


def measure(shape, batch, frames, repeats):
    """Median CPU seconds and ratios of one supernet, and its saved activations."""
    torch.manual_seed(0)
    fast = Supernet(shape, SPACES["emodarts"].cnn_operations, SMALL_SEQUENCE_OPERATIONS)
    plain = plain_twin(fast)
    losses = Losses(shape.bins, frames, batch)
    kept = [saved_bytes(network, losses.weights) for network in (plain, fast)]
    results = {"activation_ratio": kept[1] / kept[0], "plain_mib": kept[0] / 2**20, "fast_mib": kept[1] / 2**20}
    for name, unrolled in (("first_order", False), ("second_order", True)):
        seconds = ([], [])
        for _ in range(repeats + 1):
            for times, step, network in zip(seconds, (plain_step, fast_step), (plain, fast), strict=True):
                start = time.process_time()
                step(network, losses, unrolled)
                times.append(time.process_time() - start)
        of_plain, of_fast = (statistics.median(times[1:]) for times in seconds)
        results |= {
            f"{name}_ratio": of_plain / of_fast,
            f"{name}_plain_seconds": of_plain,
            f"{name}_fast_seconds": of_fast,
        }
    return {name: round(value, 3) for name, value in results.items()}


def shapes(preset, size):
    """The supernet's shape with and without its sequence cell, and the frames of its input."""
    if preset == "small":
        whole = NetworkShape(4, 1, 64, 3, 2, 8, 1, 1, 32, 16, (8, 4), frequency_pooling="mean")
    else:
        whole = NetworkShape(4, 1, size, 4, 4, 8, 1, 1, 32, 24, (1, 1))
    return whole, replace(whole, sequence_cells=0), 125 if preset == "small" else size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=("paper", "small"), default="paper")
    parser.add_argument("--size", type=int, default=64, help="bins and frames of the input (paper)")
    parser.add_argument("--batch", type=int, help="utterances of a batch (8; small: 16)")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    batch = arguments.batch or (16 if arguments.preset == "small" else 8)
    whole, cnn, frames = shapes(arguments.preset, arguments.size)
    results = {"preset": arguments.preset, "bins": whole.bins, "frames": frames, "batch": batch}
    results |= measure(whole, batch, frames, arguments.repeats)
    results |= {f"cnn_{name}": value for name, value in measure(cnn, batch, frames, arguments.repeats).items()}
    results["seqnn_ratio"] = sequence_step.measure(arguments.repeats)["seqnn_ratio"]
    print(f"{'':24}{'plain':>10}{'fast':>10}{'ratio':>8}")
    for prefix, part in (("", "whole"), ("cnn_", "CNN cells")):
        for order in ("first_order", "second_order"):
            times = [results[f"{prefix}{order}_{side}_seconds"] for side in ("plain", "fast")]
            print(
                f"{part + ', ' + order:24}{times[0]:8.2f} s{times[1]:8.2f} s{results[prefix + order + '_ratio']:8.2f}"
            )
        kept = [results[f"{prefix}{side}_mib"] for side in ("plain", "fast")]
        print(f"{part + ', kept':24}{kept[0]:6.0f} MiB{kept[1]:6.0f} MiB{results[prefix + 'activation_ratio']:8.2f}")
    print(json.dumps(results))
    missed = [name for name, least in LEAST.items() if results[name] < least]
    missed += ["activation_ratio"] if results["activation_ratio"] > 0.5 else []
    return int(bool(missed) and arguments.preset == "paper")


if __name__ == "__main__":
    sys.exit(main())
