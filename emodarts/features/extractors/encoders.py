"""Frames of torchaudio's pre-trained encoders (wav2vec 2.0, HuBERT, WavLM): chosen transformer layers, as published.

Weights come from a local file or from torchaudio's own cache; nothing is downloaded.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
import torchaudio
from safetensors import SafetensorError
from torch import Tensor, nn
from torchaudio.models import Wav2Vec2Model, wav2vec2_model, wavlm_model
from torchaudio.models.wav2vec2.wavlm_attention import WavLMSelfAttention

from emodarts.errors import EmodartsError
from emodarts.features.extractors.layer_encoder import LayerEncoder, additive_mask, padding_mask
from emodarts.features.settings import BUNDLES, FeatureSettings

_BUILDERS = {"Wav2Vec2": wav2vec2_model, "WavLM": wavlm_model}
_DOWNLOADS = "https://download.pytorch.org/torchaudio/models"


class Encoder(LayerEncoder):
    """A bundle of torchaudio. The waveform is normalised (where the model wants that) and goes through the convolutions
    alone, since group norm takes its statistics over time; padding is zeroed before the positional convolution, as that
    pads with zeros itself.
    """

    def __init__(
        self,
        model: Wav2Vec2Model,
        layers: Sequence[int],
        weighting: str = "stack",
        normalise: bool = False,
        pooling: int = 1,
        precision: str = "float32",
    ):
        width = model.encoder.feature_projection.projection.out_features
        super().__init__(model, width, layers, weighting, pooling, precision)
        self._normalise = normalise
        self._convolutions = [(layer.kernel_size, layer.stride) for layer in model.feature_extractor.conv_layers]

    def frames(self, samples: int) -> int:
        """50 a second less the convolutions' rim, at least 1."""
        for kernel, stride in self._convolutions:
            samples = (samples - kernel) // stride + 1
        return max(1, samples)

    def _front(self, samples: Tensor) -> Tensor:
        """One waveform `(samples,)` through the convolutions: `(time, features)`."""
        if self._normalise:
            samples = F.layer_norm(samples, samples.shape)
        needed = 1
        for kernel, stride in reversed(self._convolutions):
            needed = (needed - 1) * stride + kernel
        samples = F.pad(samples, (0, max(0, needed - len(samples))))
        features, _ = self.model.feature_extractor(samples[None], None)
        result: Tensor = features[0]
        return result

    def _hidden(self, features: Tensor, lengths: Tensor) -> list[Tensor]:
        """The same steps as `Wav2Vec2Model.extract_features`, whose mask WavLM's attention does not take."""
        encoder, transformer = self.model.encoder, self.model.encoder.transformer
        padding = padding_mask(lengths, features.shape[1], features.device)
        x = encoder.feature_projection(features)
        if padding is not None:
            x = x.masked_fill(padding[:, :, None], 0.0)
        x = x + transformer.pos_conv_embed(x)
        if transformer.layer_norm_first:
            x = transformer.layer_norm(x)
        masks: dict[str, Tensor] = {}
        if padding is not None:
            additive = additive_mask(padding, x.dtype)
            if isinstance(transformer.layers[0].attention, WavLMSelfAttention):
                masks["key_padding_mask"] = additive[:, 0, 0]
            else:
                masks["attention_mask"] = additive
        outputs = [x]
        position_bias = None
        for layer in transformer.layers[: max(self.layers)]:
            x, position_bias = layer(x, position_bias=position_bias, **masks)
            outputs.append(x)
        return outputs


def load_encoder(settings: FeatureSettings) -> Encoder:
    """The encoder of `features.bundle` with its weights.

    Raises EmodartsError where the weights are not at hand, cannot be read, or belong to another model.
    """
    bundle = getattr(torchaudio.pipelines, settings.bundle)
    path = find_checkpoint(settings)
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced at once
        model = _BUILDERS[bundle._model_type](**{**bundle._params, "aux_num_out": None})
    _fill(model, read_checkpoint(path), path, settings.bundle)
    layers = settings.layers_of(BUNDLES[settings.bundle].layers)
    return Encoder(
        model, layers, settings.weighting, bundle._normalize_waveform, settings.averaged_frames, settings.precision
    )


def find_checkpoint(settings: FeatureSettings) -> Path:
    """The file of weights: `features.checkpoint`, else that in torchaudio's cache. Raises EmodartsError for none."""
    name = Path(getattr(torchaudio.pipelines, settings.bundle)._path).name
    if settings.checkpoint is not None:
        path = Path(settings.checkpoint).expanduser()
        if not path.is_file():
            raise EmodartsError(f"features.checkpoint={settings.checkpoint}: there is no such file")
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        raise EmodartsError(
            f"features.bundle={settings.bundle} needs its weights, and nothing is downloaded here: put "
            f"{_DOWNLOADS}/{name} into {path.parent}, or set features.checkpoint=<its file>"
        )
    return path


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Name -> weights of a .pt, .pth or .safetensors file. Raises EmodartsError for anything else in it."""
    try:
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise EmodartsError(f"{path} cannot be read as a file of weights: {reason}") from error
    if not isinstance(content, dict) or not content or not all(isinstance(x, Tensor) for x in content.values()):
        raise EmodartsError(f"{path} holds no state dictionary (name -> tensor) of a torchaudio model")
    return content


def _fill(model: nn.Module, weights: dict[str, Tensor], path: Path, bundle: str) -> None:
    """Load weights strictly; the head of models tuned to recognise speech (`aux`) is left out."""
    body = {name: tensor for name, tensor in weights.items() if not name.startswith("aux.")}
    try:
        different = model.load_state_dict(body, strict=False)
    except RuntimeError as error:  # wrong sizes
        wrong = [line.strip() for line in str(error).split("\n")[1:]]
        raise EmodartsError(f"{path} does not fit features.bundle={bundle}: {_first_of(wrong)}") from error
    problems = [f"missing {name}" for name in different.missing_keys]
    problems += [f"unexpected {name}" for name in different.unexpected_keys]
    if problems:
        raise EmodartsError(f"{path} does not fit features.bundle={bundle}: {_first_of(problems)}")


def _first_of(problems: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(problems) - shown} more" if len(problems) > shown else ""
    return "; ".join(problems[:shown]) + more
