"""Extractors: from clean samples to frames. Spectra, pre-trained encoders and functionals behind one interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from emodarts.features.settings import BUNDLES, EGEMAPS_VALUES, FeatureSettings

if TYPE_CHECKING:  # the sizes of frames and the key of a store are wanted where torch is not
    from torch import Tensor

    from emodarts.features.audio import Samples


class Extractor(Protocol):
    """Maps sample arrays at `features.sample_rate` to frames; an utterance gives the same frames in any batch."""

    def __call__(self, utterances: list[Samples], device: str = "cpu") -> list[Tensor]:
        """Float32 frames `(time, channels * bins)` on the CPU, one tensor an utterance; see `frame_shape`."""


def make_extractor(settings: FeatureSettings) -> Extractor:
    """The extractor of these settings, weights loaded.

    Raises EmodartsError where the weights of a pre-trained encoder are not at hand or do not fit.
    """
    if settings.kind == "egemaps":
        from emodarts.features.extractors.functionals import Functionals

        return Functionals(settings)
    if settings.kind != "pretrained":
        from emodarts.features.extractors.spectra import Spectra

        return Spectra(settings)
    from emodarts.features.extractors.encoders import load_encoder

    return load_encoder(settings)


def frame_shape(settings: FeatureSettings) -> tuple[int, int]:
    """(bins, channels) of the frames, known without torchaudio and without weights."""
    if settings.kind == "egemaps":
        return EGEMAPS_VALUES, 1
    if settings.kind == "pretrained":
        return BUNDLES[settings.bundle].width, 1 if settings.layer_weighting == "mean" else len(settings.layers)
    return settings.n_mfcc if settings.kind == "mfcc" else settings.n_mels, 3 if settings.deltas else 1


def extractor_identity(settings: FeatureSettings) -> str:
    """What the frames depend on beside the settings: openSMILE's version, a hash of the weights, "" for spectra.

    It stands for the checkpoint's content: a key made of it needs the checkpoint's path no more.
    Raises EmodartsError where the weights are not at hand.
    """
    if settings.kind == "egemaps":
        from emodarts.features.extractors.functionals import opensmile_version

        return opensmile_version()
    if settings.kind != "pretrained":
        return ""
    from emodarts.features.extractors.encoders import checkpoint_hash, find_checkpoint

    return checkpoint_hash(find_checkpoint(settings))
