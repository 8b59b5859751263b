"""What is exported, as one module: features, standardiser, networks and softmax, from samples to probabilities.

It computes what `features.spectra`, `features.batches` and `training.prediction` do, on padded batches and in
operations that ONNX has.
"""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from emodarts.errors import EmodartsError
from emodarts.export.fourier import fourier_kernels
from emodarts.features.extractors.spectra import Spectra
from emodarts.features.normalisation import Standardiser
from emodarts.features.settings import FeatureSettings
from emodarts.networks.masking import image_mask, time_mask
from emodarts.networks.network import DiscreteNetwork
from emodarts.networks.operations import AveragePool, same_padding

IN_GRAPH = ("log_mel", "mfcc")  # and of encoders, Whisper
_LARGEST_TRANSFORM = 256e6  # bytes of the Fourier transform's weights: a window of 200 ms at 32 kHz has 210 MB
_DELTA = 2  # frames to each side of torchaudio's `compute_deltas`


@dataclass(frozen=True)
class Member:
    """A trained network and the statistics that its inputs are standardised by."""

    network: DiscreteNetwork
    standardiser: Standardiser


class SpectraGraph(nn.Module):
    """`features.spectra.Spectra` on a padded batch, the Fourier transform as a convolution.

    Raises EmodartsError for other features, and for a window too long for a file.
    """

    def __init__(self, settings: FeatureSettings):
        super().__init__()
        if settings.kind not in IN_GRAPH:
            raise EmodartsError(
                f"features.kind={settings.kind} cannot be exported: the graph can compute "
                f"{', '.join(IN_GRAPH)} and Whisper by features.model"
            )
        spectra = Spectra(settings)
        self.settings, self.hop, self.window = settings, spectra.hop, spectra.window
        self.bins, self.channels = spectra.bins, spectra.channels
        self.before = spectra.size // 2 - (spectra.size - spectra.window) // 2
        bins = spectra.size // 2 + 1
        if 8 * bins * self.window > _LARGEST_TRANSFORM:
            raise EmodartsError(
                f"features.window_ms={settings.window_ms:g} at {settings.sample_rate} Hz cannot be exported: the "
                f"transform alone would take {8 * bins * self.window / 1e6:.0f} MB; shorter windows can"
            )
        self.register_buffer("transform", fourier_kernels(spectra.size, spectra.get_buffer("shape")))
        filters = torchaudio.functional.melscale_fbanks(
            bins, 0.0, settings.sample_rate / 2, settings.n_mels, settings.sample_rate
        )
        self.register_buffer("filters", filters)
        self.register_buffer("cosines", spectra.get_buffer("cosines").clone())

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`(batch, samples)` and lengths in samples -> `(batch, channels, bins, time)` and lengths in frames."""
        frames = samples.shape[1] // self.hop + 1
        samples = samples * time_mask(lengths, samples.shape[1])
        lengths = torch.div(lengths, self.hop, rounding_mode="floor") + 1
        x = self._log_mel(samples)[:, :frames]
        mask = time_mask(lengths, frames)[:, :, None]
        if self.settings.gain_normalisation:
            x = x - (x * mask).sum((1, 2), keepdim=True) / (lengths * self.settings.n_mels)[:, None, None]
        if self.settings.kind == "mfcc":
            x = x @ self.get_buffer("cosines")
        channels = [x]
        if self.settings.deltas:
            channels += [(first := _deltas(x, lengths)), _deltas(first, lengths)]
        stacked = torch.stack(channels, 1) * mask[:, None]
        return stacked.half().float().transpose(2, 3), lengths  # a store holds float16

    def _log_mel(self, samples: Tensor) -> Tensor:
        """`(batch, samples)` -> `(batch, time, bands)`, with some frames too many."""
        padded = F.pad(samples, (self.before, self.window))
        parts = F.conv1d(padded[:, None], self.get_buffer("transform"), stride=self.hop).square()
        real, imaginary = parts.chunk(2, 1)
        power = (real + imaginary).transpose(1, 2)
        return (power @ self.get_buffer("filters") + self.settings.log_floor).log()


def _deltas(x: Tensor, lengths: Tensor) -> Tensor:
    """torchaudio's `compute_deltas` of `(batch, time, bins)`: beyond both ends the first and the last frame go on."""
    steps, last = torch.arange(x.shape[1])[None, :], lengths[:, None] - 1
    total = torch.zeros_like(x)
    for shift in range(1, _DELTA + 1):
        ahead = torch.minimum(steps + shift, last).clamp(min=0)[:, :, None].expand_as(x)
        back = torch.minimum((steps - shift).clamp(min=0), last)[:, :, None].expand_as(x)
        total = total + shift * (x.gather(1, ahead) - x.gather(1, back))
    return total / (2 * sum(shift**2 for shift in range(1, _DELTA + 1)))


def features_graph(settings: FeatureSettings) -> nn.Module:
    """The module `(samples, lengths) -> (frames, lengths)` of these settings. Raises EmodartsError for others."""
    if settings.kind == "encoder":
        from emodarts.export.encoder_graph import WhisperGraph

        return WhisperGraph(settings)
    return SpectraGraph(settings)


class Classifier(nn.Module):
    """Probabilities of an utterance: the mean over the members, each with its own standardiser.

    Input: samples, or frames where `spectra` is None. Networks are copied, in evaluation mode.
    """

    def __init__(self, members: list[Member], spectra: nn.Module | None):
        super().__init__()
        self.spectra = spectra
        self.networks = nn.ModuleList(_exportable(member.network) for member in members)
        for number, member in enumerate(members):
            self.register_buffer(f"mean{number}", member.standardiser.mean.clone())
            self.register_buffer(f"deviation{number}", member.standardiser.deviation.clone())
        self.eval()

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Samples `(batch, samples)` or frames `(batch, channels, bins, time)`, and lengths -> `(batch, classes)`."""
        if self.spectra is not None:
            x, lengths = self.spectra(x, lengths)
        mask = image_mask(lengths, x.shape[3], x.dtype)
        total: Tensor | None = None
        for number, network in enumerate(self.networks):
            mean, deviation = (
                self.get_buffer(f"{name}{number}").view(1, *x.shape[1:3], 1) for name in ("mean", "deviation")
            )
            probabilities = F.softmax(network((x - mean) / deviation * mask, lengths), 1)
            total = probabilities if total is None else total + probabilities
        assert total is not None
        return total / len(self.networks)


class _SummingPool(AveragePool):
    """AveragePool whose sums ONNX can say: its average pooling has no divisor of one's own."""

    def _sums(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel, self.stride, same_padding(self.kernel)) * (self.kernel[0] * self.kernel[1])


def _exportable(network: DiscreteNetwork) -> DiscreteNetwork:
    """A copy on the CPU, for evaluation, all of whose operations ONNX has."""
    copied = copy.deepcopy(network).cpu().eval()
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if type(child) is AveragePool:
                pool = _SummingPool(child.norm.running_mean.numel(), child.stride, child.kernel[0] == 1)
                pool.load_state_dict(child.state_dict())
                setattr(parent, name, pool.eval())
    return copied
