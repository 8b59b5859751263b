"""Encoders in the exported graph, on padded batches: from samples to frames as the store has them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.errors import EmodartsError
from emodarts.export.fourier import fourier_kernels
from emodarts.features.extractors.transformer_encoders import WhisperEncoder, load_transformers_encoder, whisper_layers
from emodarts.features.settings import FeatureSettings
from emodarts.networks.masking import time_mask

_LARGEST = 1.9e9  # bytes of weights: a file of protocol buffers holds 2 GB


class WhisperGraph(nn.Module):
    """`WhisperEncoder` in operations that ONNX has; reflections, maxima and convolutions end with each utterance.

    Raises EmodartsError for another model, and one that is too large for a file.
    """

    def __init__(self, settings: FeatureSettings):
        super().__init__()
        extractor = load_transformers_encoder(settings)
        if not isinstance(extractor, WhisperEncoder):
            raise EmodartsError(
                f"features.model={settings.model} cannot be exported: of the encoders of transformers, the graph can "
                "compute Whisper's; another model's normalisation and convolutions are not in it yet"
            )
        mel = extractor.feature_extractor
        self.hop, self.window, self.pooling = mel.hop_length, mel.n_fft, settings.averaged_frames
        self.layers, self.is_mean = extractor.layers, settings.weighting == "mean"
        self.blocks, self.bins, self.channels = extractor.blocks, extractor.bins, extractor.channels
        self.register_buffer("transform", fourier_kernels(self.window, torch.hann_window(self.window)))
        self.register_buffer("filters", torch.from_numpy(mel.mel_filters).float())
        self.encoder = extractor.model
        self.encoder.layers = self.encoder.layers[: max(self.layers)]
        self.encoder.config._attn_implementation = "eager"
        # Two positions more for the frames that padding may add; they are masked.
        positions = F.pad(self.encoder.embed_positions.weight, (0, 0, 0, 2))
        self.encoder.embed_positions = nn.Embedding.from_pretrained(positions)
        size = 4 * sum(weights.numel() for weights in self.encoder.parameters())
        if size > _LARGEST:
            raise EmodartsError(
                f"features.model={settings.model} cannot be exported: {size / 1e9:.1f} GB, a file holds 2"
            )

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`(batch, samples)` and lengths in samples -> `(batch, channels, bins, time)` and lengths in frames."""
        mel, lengths = self._log_mel(samples, lengths)
        x = F.gelu(self.encoder.conv1(mel)) * time_mask(lengths, mel.shape[2])[:, None]
        x = F.gelu(self.encoder.conv2(x)).transpose(1, 2)
        lengths = torch.div(lengths + 1, 2, rounding_mode="floor")
        mask = time_mask(lengths, x.shape[1])
        outputs = whisper_layers(self.encoder, x, ~mask, max(self.layers), self.blocks)
        frames = torch.stack([outputs[layer] for layer in self.layers], 1) * mask[:, None, :, None]
        if self.is_mean:
            frames = frames.mean(1, keepdim=True)
        if self.pooling > 1:
            frames, lengths = self._average(frames, lengths)
        return frames.half().float().transpose(2, 3), lengths  # a store holds float16

    def _log_mel(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`(batch, bands, time)`, zero at padding, and lengths in mel frames."""
        samples = F.pad(samples * time_mask(lengths, samples.shape[1]), (0, self.window))
        lengths = lengths.clamp(min=self.window)  # shorter ones are filled up with zeros
        places = (torch.arange(samples.shape[1]) - self.window // 2).abs()[None, :]
        last = lengths[:, None] - 1
        places = torch.where(places > last, 2 * last - places, places).clamp(
            min=0
        )  # what is behind a frame's end is masked
        real, imaginary = (
            F.conv1d(samples.gather(1, places)[:, None], self.get_buffer("transform"), stride=self.hop)
            .square()
            .chunk(2, 1)
        )
        power = self.get_buffer("filters").T @ (real + imaginary)
        lengths = torch.div(lengths, self.hop, rounding_mode="floor")
        mask = time_mask(lengths, power.shape[2])[:, None]
        levels = power.clamp(min=1e-10).log10()
        largest = levels.masked_fill(~mask, -10.0).amax((1, 2), keepdim=True)
        return (torch.maximum(levels, largest - 8.0) + 4.0) / 4.0 * mask, lengths

    def _average(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Means of `pooling` neighbours of `(batch, channels, time, bins)`; the last one of those that are left."""
        count = torch.div(lengths + self.pooling - 1, self.pooling, rounding_mode="floor")
        groups = (frames.shape[2] + self.pooling - 1) // self.pooling
        padded = F.pad(frames, (0, 0, 0, self.pooling - 1))[:, :, : groups * self.pooling]
        sums = padded.unflatten(2, (groups, self.pooling)).sum(3)
        sizes = (lengths[:, None] - self.pooling * torch.arange(groups)[None, :]).clamp(1, self.pooling)
        return sums / sizes[:, None, :, None], count
