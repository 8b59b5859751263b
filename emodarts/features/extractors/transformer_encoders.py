"""Frames of any speech encoder that `transformers` loads.

Whisper's encoder runs on the utterance alone, not padded to 30 s; wav2vec 2.0 and its relatives run in batches; other
models run as the library has them, one utterance at a time.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.errors import EmodartsError
from emodarts.features.extractors.layer_encoder import LayerEncoder, additive_mask, padding_mask
from emodarts.features.extractors.model_files import find_model, from_pretrained, has_safetensors, read_sizes
from emodarts.features.settings import FRAME_SAMPLES, FeatureSettings

_WINDOW = 1500 * FRAME_SAMPLES  # 30 s: Whisper's positions, and a bound on the memory of others
_SHORTEST = 400  # samples that one frame takes, of spectra and of convolutions
_WAVE_MODELS = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")  # the same front, the same encoder


class TransformersEncoder(LayerEncoder):
    """A model of transformers with its feature extractor. Longer sound than 30 s goes through in windows."""

    longest = _WINDOW
    alone_on: tuple[str, ...] = ("cpu",)  # batches would save a sixth there

    def __init__(self, model: nn.Module, feature_extractor: Any, settings: FeatureSettings):
        sizes = read_sizes(settings)
        self.blocks, self.feature_extractor = sizes.layers, feature_extractor
        layers, pooling = settings.layers_of(sizes.layers), settings.averaged_frames
        super().__init__(model, sizes.width, layers, settings.weighting, pooling, settings.precision)

    def _extracted(self, samples: Tensor, **options: Any) -> Any:
        with torch.autocast("cpu", enabled=False):  # spectra in float32, whatever the precision of the model
            return self.feature_extractor(samples.cpu().numpy(), sampling_rate=16000, return_tensors="pt", **options)


class WholeModelEncoder(TransformersEncoder):
    """Any model, as the library has it: one utterance at a time, and its `hidden_states`."""

    alone_on = ("cpu", "cuda")

    def frames(self, samples: int) -> int:
        """50 a second."""
        return max(1, samples // FRAME_SAMPLES)

    def _front(self, samples: Tensor) -> Tensor:
        return F.pad(samples, (0, max(0, _SHORTEST - len(samples))))

    def _hidden(self, features: Tensor, lengths: Tensor) -> Sequence[Tensor]:
        inputs = self._extracted(features[0]).to(features.device)
        hidden_states: Sequence[Tensor] = self.model(**inputs, output_hidden_states=True).hidden_states
        return hidden_states


class WhisperEncoder(TransformersEncoder):
    """Whisper's encoder without padding to 30 s: the mel frames of the utterance, and as many positions."""

    def frames(self, samples: int) -> int:
        """One for two mel frames."""
        return (max(samples, self.feature_extractor.n_fft) // self.feature_extractor.hop_length + 1) // 2

    def _front(self, samples: Tensor) -> Tensor:
        samples = F.pad(samples, (0, max(0, self.feature_extractor.n_fft - len(samples))))
        mel = self._extracted(samples, padding="longest").input_features.to(samples.device)
        features: Tensor = F.gelu(self.model.conv2(F.gelu(self.model.conv1(mel))))[0].T
        return features

    def _hidden(self, features: Tensor, lengths: Tensor) -> Sequence[Tensor]:
        padding = padding_mask(lengths, features.shape[1], features.device)
        return whisper_layers(self.model, features, padding, max(self.layers), self.blocks)


def whisper_layers(encoder: Any, features: Tensor, padding: Tensor | None, last: int, blocks: int) -> list[Tensor]:
    """Layers 0 to `last` of Whisper's encoder from `(batch, time, width)` behind its convolutions, as the library's
    `hidden_states`: the one of the last block of all is behind the final layer norm.
    """
    x = features + encoder.embed_positions.weight[: features.shape[1]]
    mask = None if padding is None else additive_mask(padding, x.dtype)
    outputs = [x]
    for layer in encoder.layers[:last]:
        outputs.append(layer(outputs[-1], mask))
    if last == blocks:
        outputs[-1] = encoder.layer_norm(outputs[-1])
    return outputs


class WaveEncoder(TransformersEncoder):
    """wav2vec 2.0, HuBERT, WavLM and their like: convolutions on each waveform alone, the transformer on batches.

    The library zeroes padding before its positional convolution, and masks it in the attention.
    """

    def __init__(self, model: nn.Module, feature_extractor: Any, settings: FeatureSettings):
        super().__init__(model, feature_extractor, settings)
        config = self.model.config
        self._convolutions = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self._outputs: list[Tensor] = []
        blocks = self.model.encoder.layers[: max(1, *self.layers)]
        self.model.encoder.layers = blocks
        blocks[0].register_forward_pre_hook(lambda _, inputs: self._outputs.append(inputs[0]))
        for block in blocks:
            block.register_forward_hook(
                lambda _, inputs, output: self._outputs.append(output[0] if isinstance(output, tuple) else output)
            )

    def frames(self, samples: int) -> int:
        """50 a second less the convolutions' rim, at least 1."""
        for kernel, stride in self._convolutions:
            samples = (samples - kernel) // stride + 1
        return max(1, samples)

    def _front(self, samples: Tensor) -> Tensor:
        needed = 1
        for kernel, stride in reversed(self._convolutions):
            needed = (needed - 1) * stride + kernel
        values = self._extracted(samples).input_values.to(samples.device)
        features: Tensor = self.model.feature_extractor(F.pad(values, (0, max(0, needed - len(samples)))))[0].T
        return features

    def _hidden(self, features: Tensor, lengths: Tensor) -> Sequence[Tensor]:
        padding = padding_mask(lengths, features.shape[1], features.device)
        projected = self.model.feature_projection(features)
        projected = projected[0] if isinstance(projected, tuple) else projected
        self._outputs.clear()
        self.model.encoder(projected, attention_mask=None if padding is None else ~padding)
        return list(self._outputs)


def load_transformers_encoder(settings: FeatureSettings) -> TransformersEncoder:
    """The encoder of `features.model` with its weights.

    Raises EmodartsError where it is not at hand, is no speech encoder of 16 kHz, or has not all of its weights.
    """
    feature_extractor = from_pretrained(settings, "AutoFeatureExtractor")
    if getattr(feature_extractor, "sampling_rate", None) != settings.sample_rate:
        raise EmodartsError(f"features.model={settings.model} hears no speech at {settings.sample_rate} Hz")
    model = load_model(settings)
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    kind = model.config.model_type
    chosen = WhisperEncoder if kind == "whisper" else WaveEncoder if kind in _WAVE_MODELS else WholeModelEncoder
    return chosen(encoder, feature_extractor, settings)


def load_model(settings: FeatureSettings, **options: Any) -> Any:
    """The model in float32, its decoder without layers. Raises EmodartsError where the encoder lacks weights."""
    config = from_pretrained(settings, "AutoConfig")
    if config.is_encoder_decoder and hasattr(config, "decoder_layers"):
        config.decoder_layers = 0
    with torch.random.fork_rng(devices=[]):  # what is drawn for a decoder is not used
        model, report = from_pretrained(
            settings,
            "AutoModel",
            config=config,
            dtype=torch.float32,
            use_safetensors=has_safetensors(find_model(settings)),
            weights_only=True,
            output_loading_info=True,
            **options,
        )
    unread = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
    missing = sorted(key for key in unread if not key.startswith("decoder.") and "masked_spec_embed" not in key)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise EmodartsError(f"features.model={settings.model} lacks weights: {', '.join(missing[:3])}{more}")
    return model
