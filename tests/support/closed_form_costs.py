"""Costs of the operations in closed form: the oracle of what `emodarts.networks.costs` counts."""

import re

from emodarts.networks.costs import Costs

# name -> (extent of the kernel, depthwise-separable convolutions one after the other)
_CONVOLUTIONS = {
    "sep_conv_3x3": (3, 2),
    "sep_conv_5x5": (5, 2),
    "dil_conv_3x3": (3, 1),
    "dil_conv_5x5": (5, 1),
    "time_conv_7": (7, 1),
    "time_conv_15": (15, 1),
    "time_conv_7_d2": (7, 1),
    "se_conv_3x3": (3, 1),
}
_FREE = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect")  # the last only with stride 1
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
_SEQUENCE_NAME = re.compile(r"(?P<bi>bi)?(?P<kind>lstm|gru|rnn)(?P<attention>_attention)?_(?P<layers>[1-9])")


def closed_form_costs(name, kind, width, resolution, stride=1, over_time=False, affine=True):
    """As `operation_costs`."""
    if kind == "cnn":
        return _cnn_costs(name, width, resolution, stride, over_time, affine)
    return _sequence_costs(name, width, resolution[1], affine)


def recurrent_costs(kind, inputs, width, frames):
    """One direction of one layer: with m inputs and n states, `g (n m + n^2 + 2 n)` parameters for g gates.

    The textbook has one bias a gate and state, PyTorch two. LSTM 4 gates, GRU 3, RNN 1.
    """
    matrices = _GATES[kind] * (width * inputs + width * width)
    return Costs(matrices + _GATES[kind] * 2 * width, frames * matrices)


def _cnn_costs(name, channels, resolution, stride, over_time, affine):
    positions = _ceil(resolution[0], stride) * _ceil(resolution[1], stride)
    norm = 2 * channels if affine else 0
    if name in _FREE and (name != "skip_connect" or stride == 1):
        return Costs(0, 0)
    if name == "skip_connect":
        return Costs(channels * channels + norm, positions * channels * channels)
    if name.startswith("conv"):
        extent = int(name.removeprefix("conv1d_")[0]) if name.startswith("conv1d_") else 3 if over_time else 9
        weights = extent * channels * channels
        return Costs(weights + norm, positions * weights)
    extent, layers = _CONVOLUTIONS[name]
    kernel = extent if over_time or name.startswith("time_conv") else extent * extent
    weights = layers * (kernel * channels + channels * channels)
    gate = _gate_costs(channels) if name == "se_conv_3x3" else Costs(0, 0)
    return Costs(weights + layers * norm + gate.parameters, positions * weights + gate.macs)


def _gate_costs(channels):
    between = max(2, channels // 4)
    return Costs(2 * channels * between + channels + between, 2 * channels * between)


def _sequence_costs(name, width, frames, affine):
    norm = Costs(2 * width if affine else 0, 0)
    if name in ("none", "skip_connect"):
        return Costs(0, 0)
    if name.startswith("self_attention_"):
        return _sum([_attention_costs(width, frames), norm])
    match = _SEQUENCE_NAME.fullmatch(name)
    both = bool(match["bi"] or match["attention"])
    layer = recurrent_costs(match["kind"], width, width // 2 if both else width, frames)
    attention = [_attention_costs(width, frames)] if match["attention"] else []
    return _sum([layer] * int(match["layers"]) * (2 if both else 1) + attention + [norm])


def _attention_costs(width, frames):
    """Queries, keys, values and the projection; scores and the weighted sum, by all heads together."""
    return Costs(4 * width * width + 4 * width, frames * 4 * width * width + 2 * frames * frames * width)


def _sum(costs):
    return Costs(sum(c.parameters for c in costs), sum(c.macs for c in costs))


def _ceil(size, stride):
    return -(-size // stride)
