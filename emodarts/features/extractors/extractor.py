"""Extractors: from clean samples to frames. Spectra, pre-trained encoders and functionals behind one interface."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from emodarts.features.settings import BUNDLES, EGEMAPS_VALUES, Bundle, FeatureSettings

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
    if settings.kind == "encoder":
        from emodarts.features.extractors.transformer_encoders import load_transformers_encoder

        return load_transformers_encoder(settings)
    if settings.kind != "pretrained":
        from emodarts.features.extractors.spectra import Spectra

        return Spectra(settings)
    from emodarts.features.extractors.encoders import load_encoder

    return load_encoder(settings)


def frame_shape(settings: FeatureSettings) -> tuple[int, int]:
    """(bins, channels) of the frames, known without torchaudio and without reading weights.

    Raises EmodartsError where a model of transformers is not at hand.
    """
    if settings.kind == "egemaps":
        return EGEMAPS_VALUES, 1
    if settings.is_encoder:
        sizes = _encoder_sizes(settings)
        return sizes.width, 1 if settings.weighting == "mean" else len(settings.layers_of(sizes.layers))
    return settings.n_mfcc if settings.kind == "mfcc" else settings.n_mels, 3 if settings.deltas else 1


def with_layers(settings: FeatureSettings) -> FeatureSettings:
    """The settings with an encoder's layers by number, where they say `learned` or leave them to the model."""
    if settings.kind != "encoder":
        return settings
    layers = settings.layers_of(_encoder_sizes(settings).layers)
    return replace(settings, layers=layers, layer_weighting=settings.weighting)


def _encoder_sizes(settings: FeatureSettings) -> Bundle:
    if settings.kind == "pretrained":
        return BUNDLES[settings.bundle]
    from emodarts.features.extractors.model_files import read_sizes

    return read_sizes(settings)


def extractor_identity(settings: FeatureSettings) -> str:
    """What the frames depend on beside the settings: openSMILE's version, a hash of the weights, "" for spectra.

    It stands for the checkpoint's content: a key made of it needs the checkpoint's path no more.
    Raises EmodartsError where the weights are not at hand.
    """
    if settings.kind == "egemaps":
        from emodarts.features.extractors.functionals import opensmile_version

        return opensmile_version()
    if not settings.is_encoder:
        return ""
    from emodarts.features.extractors.model_files import file_hash, find_model, model_hash

    if settings.kind == "encoder":
        return model_hash(find_model(settings))
    from emodarts.features.extractors.encoders import find_checkpoint

    return file_hash(find_checkpoint(settings))
