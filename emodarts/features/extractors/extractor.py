"""Extractors: from clean samples to frames. Spectra, pre-trained encoders and functionals behind one interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from emodarts.features.settings import BUNDLES, EGEMAPS_VALUES, FeatureSettings

if TYPE_CHECKING:  # the sizes of frames and the key of a store are wanted where torch is not
    from torch import Tensor

    from emodarts.features.audio import Samples


class Extractor(Protocol):
    """Maps sample arrays at `features.sample_rate` to frames; an utterance gives the same frames in any batch."""

    bins: int  # values a frame and channel
    channels: int

    def frames(self, samples: int) -> int:
        """Number of frames of so many samples."""

    def identity(self) -> str:
        """What the frames depend on beside the settings: a hash of the weights, "" where there are none."""

    def __call__(self, utterances: list[Samples], device: str = "cpu") -> list[Tensor]:
        """Float32 frames `(time, channels * bins)` on the CPU, one tensor an utterance."""


class SpectraExtractor:
    """Log-mel and MFCC frames as an Extractor."""

    def __init__(self, settings: FeatureSettings):
        from emodarts.features.extractors.spectra import Spectra

        self._spectra = Spectra(settings)
        self.bins, self.channels = shape(settings)

    def frames(self, samples: int) -> int:
        """Frame t is centred on sample t * hop."""
        return self._spectra.frames(samples)

    def identity(self) -> str:
        """Nothing: the settings say all."""
        return ""

    def __call__(self, utterances: list[Samples], device: str = "cpu") -> list[Tensor]:
        """Float32 frames `(time, channels * bins)` on the CPU, one tensor an utterance."""
        result: list[Tensor] = self._spectra.to(device)(utterances, device)
        return result


def extractor(settings: FeatureSettings) -> Extractor:
    """The extractor of these settings, weights loaded.

    Raises EmodartsError where the weights of a pre-trained encoder are not at hand or do not fit.
    """
    if settings.kind == "egemaps":
        from emodarts.features.extractors.functionals import Functionals

        return Functionals(settings)
    if settings.kind != "pretrained":
        return SpectraExtractor(settings)
    from emodarts.features.extractors.encoders import load

    return load(settings)


def shape(settings: FeatureSettings) -> tuple[int, int]:
    """(bins, channels) of the frames, known without torchaudio and without weights."""
    if settings.kind == "egemaps":
        return EGEMAPS_VALUES, 1
    if settings.kind == "pretrained":
        return BUNDLES[settings.bundle].width, 1 if settings.layer_weighting == "mean" else len(settings.layers)
    return settings.n_mfcc if settings.kind == "mfcc" else settings.n_mels, 3 if settings.deltas else 1


def identity(settings: FeatureSettings) -> str:
    """The same as `extractor(settings).identity()`, without building the network.

    It stands for the checkpoint's content: a key made of it needs the checkpoint's path no more.
    Raises EmodartsError where the weights are not at hand.
    """
    if settings.kind == "egemaps":
        from emodarts.features.extractors.functionals import version

        return version()
    if settings.kind != "pretrained":
        return ""
    from emodarts.features.extractors.encoders import checkpoint_hash, find_checkpoint

    return checkpoint_hash(find_checkpoint(settings))
