"""Frames of pre-trained encoders (wav2vec 2.0, HuBERT, WavLM of torchaudio): chosen transformer layers, as published.

Weights come from a local file or from torchaudio's own cache; nothing is downloaded.
"""

import hashlib
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
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
from emodarts.features.audio import Samples
from emodarts.features.settings import FeatureSettings

_BUILDERS = {"Wav2Vec2": wav2vec2_model, "WavLM": wavlm_model}
_DOWNLOADS = "https://download.pytorch.org/torchaudio/models"
# What goes through the transformer at once: padded frames (the layers' outputs), and frames squared (the attention).
_FRAMES, _SQUARES = 6_000, 4_000_000


class Encoder:
    """Layers (from 1) of an encoder as an Extractor: 16 kHz samples -> `(time, channels * width)`.

    An utterance gives the same frames in any batch: its waveform is normalised (where the model wants that) and goes
    through the convolutions alone, since group norm takes its statistics over time; the transformer runs on batches,
    padding zeroed before the positional convolution, as that pads with zeros itself, and masked in the attention.
    """

    def __init__(
        self,
        model: Wav2Vec2Model,
        layers: Sequence[int],
        weighting: str = "stack",
        normalise: bool = False,
    ):
        self._model = model.eval().requires_grad_(False)
        self._layers, self._mean = tuple(layers), weighting == "mean"
        self._normalise = normalise
        self._convolutions = [(layer.kernel_size, layer.stride) for layer in model.feature_extractor.conv_layers]
        self.bins: int = model.encoder.feature_projection.projection.out_features
        self.channels = 1 if self._mean else len(self._layers)

    def frames(self, samples: int) -> int:
        """Number of frames of so many samples: 50 a second less the convolutions' rim, at least 1."""
        for kernel, stride in self._convolutions:
            samples = (samples - kernel) // stride + 1
        return max(1, samples)

    @torch.no_grad()
    def __call__(self, utterances: list[Samples], device: str = "cpu") -> list[Tensor]:
        """Float32 frames `(time, channels * bins)` on the CPU, one tensor an utterance."""
        self._model.to(device)
        results: dict[int, Tensor] = {}
        with _full_precision():
            for batch in self._batches([len(x) for x in utterances]):
                front = [self._front(torch.as_tensor(utterances[i], device=device)) for i in batch]
                results.update(zip(batch, self._transform(front), strict=True))
        return [results[i] for i in range(len(utterances))]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Positions in batches of similar lengths that fit into memory."""
        batch: list[int] = []
        for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
            longest, count = self.frames(lengths[i]), len(batch) + 1
            if batch and (count * longest > _FRAMES or count * longest**2 > _SQUARES):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _front(self, samples: Tensor) -> Tensor:
        """One waveform `(samples,)` through the convolutions: `(time, features)`."""
        if self._normalise:
            samples = F.layer_norm(samples, samples.shape)
        needed = 1
        for kernel, stride in reversed(self._convolutions):
            needed = (needed - 1) * stride + kernel
        samples = F.pad(samples, (0, max(0, needed - len(samples))))
        features, _ = self._model.feature_extractor(samples[None], None)
        result: Tensor = features[0]
        return result

    def _transform(self, front: list[Tensor]) -> list[Tensor]:
        """The chosen layers of a batch of `(time, features)`, without padding, on the CPU."""
        lengths = [len(x) for x in front]
        outputs = self._hidden(nn.utils.rnn.pad_sequence(front, batch_first=True), torch.tensor(lengths))
        chosen = torch.stack([outputs[layer - 1] for layer in self._layers], 2)
        frames = chosen.mean(2) if self._mean else chosen.flatten(2)
        return [x[:n].cpu() for x, n in zip(frames, lengths, strict=True)]

    def _hidden(self, features: Tensor, lengths: Tensor) -> list[Tensor]:
        """Outputs `(batch, time, width)` of the transformer's layers up to the last wanted one.

        The same steps as `Wav2Vec2Model.extract_features`, whose mask WavLM's attention does not take.
        """
        encoder, transformer = self._model.encoder, self._model.encoder.transformer
        batch, frames = features.shape[:2]
        padding = (torch.arange(frames) >= lengths[:, None]).to(features.device)
        x = encoder.feature_projection(features).masked_fill(padding[:, :, None], 0.0)
        x = x + transformer.pos_conv_embed(x)
        if transformer.layer_norm_first:
            x = transformer.layer_norm(x)
        masks: dict[str, Tensor] = {}
        if padding.any():
            additive = torch.zeros_like(padding, dtype=x.dtype).masked_fill(padding, float("-inf"))
            if isinstance(transformer.layers[0].attention, WavLMSelfAttention):
                masks["key_padding_mask"] = additive
            else:
                masks["attention_mask"] = additive[:, None, None, :].expand(batch, 1, frames, frames)
        outputs: list[Tensor] = []
        position_bias = None
        for layer in transformer.layers[: max(self._layers)]:
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
    return Encoder(model, settings.layers, settings.layer_weighting, bundle._normalize_waveform)


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


def checkpoint_hash(path: Path) -> str:
    """16 hex digits of a file's content."""
    stat = path.stat()
    return _hash(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _hash(path: Path, size: int, changed: int) -> str:
    # Size and time stand in the cache's key: files of gigabytes are read once, and again when they change.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@contextmanager
def _full_precision() -> Iterator[None]:
    """Convolutions in float32 on GPUs too: their default there, TF32, rounds differently from batch to batch."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
