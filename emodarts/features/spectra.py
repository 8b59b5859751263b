"""Log-mel and MFCC frames of a batch of utterances; the same alone and in any batch."""

import torch
import torchaudio
from torch import Tensor, nn

from emodarts.features.audio import Samples
from emodarts.features.settings import FeatureSettings


class Spectra(nn.Module):
    """Maps sample arrays to frames `(time, channels * bins)` each; channels are 1, or 3 with deltas."""

    def __init__(self, settings: FeatureSettings):
        super().__init__()
        self.settings = settings
        rate = settings.sample_rate
        self.window = round(settings.window_ms * rate / 1000)
        self.hop = round(settings.hop_ms * rate / 1000)
        # An FFT long enough that no mel band falls between two of its bins.
        size = (
            max(1024, 2 ** (self.window - 1).bit_length())
            if settings.bands > 40
            else 2 ** (self.window - 1).bit_length()
        )
        self.size = size
        self.mel = torchaudio.transforms.MelSpectrogram(
            rate, n_fft=size, win_length=self.window, hop_length=self.hop, n_mels=settings.bands, center=False
        )
        cosines = torchaudio.functional.create_dct(settings.coefficients, settings.bands, "ortho")
        self.register_buffer("cosines", cosines, persistent=False)

    @property
    def bins(self) -> int:
        """Values a frame and channel."""
        return self.settings.bands if self.settings.kind == "log_mel" else self.settings.coefficients

    @property
    def channels(self) -> int:
        """1, or 3 with deltas."""
        return 3 if self.settings.deltas else 1

    def frames(self, samples: int) -> int:
        """Number of frames of so many samples: frame t is centred on sample t * hop."""
        return samples // self.hop + 1

    @torch.no_grad()
    def forward(self, utterances: list[Samples], device: str = "cpu") -> list[Tensor]:
        """Sample arrays at `sample_rate` -> float32 frames `(time, channels * bins)` on the CPU, one an utterance."""
        counts = [self.frames(len(x)) for x in utterances]
        # Zeros on both sides instead of reflection: an utterance's last frames do not depend on the batch's padding.
        batch = torch.zeros(len(utterances), (max(counts) - 1) * self.hop + self.size)
        for row, x in zip(batch, utterances, strict=True):
            row[self.size // 2 : self.size // 2 + len(x)] = torch.from_numpy(x)[: len(row) - self.size // 2]
        log_mel = torch.log(self.mel(batch.to(device)) + self.settings.log_floor).cpu()
        return [self._finish(x[:, :count]) for x, count in zip(log_mel, counts, strict=True)]

    def _finish(self, x: Tensor) -> Tensor:
        """Gain, cosine transform and deltas of one utterance `(bands, time)` -> `(time, channels * bins)`."""
        if self.settings.gain_normalisation:
            x = x - x.mean()
        if self.settings.kind == "mfcc":
            x = self.get_buffer("cosines").cpu().T @ x
        if self.settings.deltas:
            first = torchaudio.functional.compute_deltas(x)
            x = torch.cat([x, first, torchaudio.functional.compute_deltas(first)])
        return x.T.contiguous()
