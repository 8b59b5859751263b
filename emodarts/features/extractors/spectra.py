"""Log-mel and MFCC frames of a batch of utterances, as an Extractor; the same alone and in any batch."""

import torch
import torchaudio
from torch import Tensor, nn

from emodarts.features.audio import Samples
from emodarts.features.settings import FeatureSettings

_ROWS = 256  # frames that are transformed at once: their windows and spectra (2 MB) stay near a core


class Spectra(nn.Module):
    """Maps sample arrays to frames `(time, channels * bins)` each; channels are 1, or 3 with deltas.

    The values are those of torchaudio's MelSpectrogram and DCT up to rounding. It is faster by four things: frames of
    many utterances form one matrix, unpadded; few are transformed at a time, in the same memory; real and imaginary
    parts are squared and summed by the product with the mel filters (no absolute values of complex numbers); and that
    product is taken in two parts, as the lower bands need few bins and the upper ones not the lowest.
    """

    def __init__(self, settings: FeatureSettings):
        super().__init__()
        self.settings = settings
        rate = settings.sample_rate
        self.window = round(settings.window_ms * rate / 1000)
        self.hop = round(settings.hop_ms * rate / 1000)
        # An FFT long enough that no mel band falls between two of its bins.
        size = 2 ** (self.window - 1).bit_length()
        self.size = max(1024, size) if settings.n_mels > 40 else size
        filters = torchaudio.functional.melscale_fbanks(self.size // 2 + 1, 0.0, rate / 2, settings.n_mels, rate)
        self.register_buffer("shape", torch.hann_window(self.window), persistent=False)
        parts = filters.repeat_interleave(2, 0)  # for the squares of each bin's real and imaginary part
        half = settings.n_mels // 2
        self._lower = slice(0, 2 * int(filters[:, :half].sum(1).nonzero().max()) + 2)
        self._upper = slice(2 * int(filters[:, half:].sum(1).nonzero().min()), len(parts))
        self.register_buffer("lower", parts[self._lower, :half].contiguous(), persistent=False)
        self.register_buffer("upper", parts[self._upper, half:].contiguous(), persistent=False)
        cosines = torchaudio.functional.create_dct(settings.n_mfcc, settings.n_mels, "ortho")
        self.register_buffer("cosines", cosines, persistent=False)

    @property
    def bins(self) -> int:
        """Values a frame and channel."""
        return self.settings.n_mels if self.settings.kind == "log_mel" else self.settings.n_mfcc

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
        self.to(device)
        counts = [self.frames(len(x)) for x in utterances]
        # Each utterance begins at a multiple of the hop, with zeros before and after it as wide as a window: frames
        # that cross from one to the next are computed and left out, which is less than padding to the longest.
        rows = [count + -(-self.window // self.hop) for count in counts]
        firsts = torch.tensor([0, *rows]).cumsum(0).tolist()
        line = torch.zeros(firsts[-1] * self.hop + self.window)
        before = self.size // 2 - (self.size - self.window) // 2
        for first, count, x in zip(firsts, counts, utterances, strict=False):
            sound = torch.from_numpy(x)[: (count - 1) * self.hop + self.window - before]
            line[first * self.hop + before :][: len(sound)] = sound
        log_mel = self._log_mel(line.to(device).unfold(0, self.window, self.hop)).cpu()
        return [self._finish(log_mel[first : first + n]) for first, n in zip(firsts, counts, strict=False)]

    def _log_mel(self, windows: Tensor) -> Tensor:
        """Windows `(frames, window)` -> `(frames, bands)`."""
        shape, lower, upper = (self.get_buffer(name) for name in ("shape", "lower", "upper"))
        mel = windows.new_empty(len(windows), self.settings.n_mels)
        filled = windows.new_zeros(_ROWS, self.size)  # windows, and the zeros behind them
        spectra = windows.new_empty(_ROWS, self.size // 2 + 1, dtype=torch.complex64)
        for part, result in zip(windows.split(_ROWS), mel.split(_ROWS), strict=True):
            rows = len(part)
            torch.mul(part, shape, out=filled[:rows, : self.window])
            torch.fft.rfft(filled[:rows], out=spectra[:rows])
            power = torch.view_as_real(spectra[:rows]).flatten(1).square_()
            torch.mm(power[:, self._lower], lower, out=result[:, : lower.shape[1]])
            torch.mm(power[:, self._upper], upper, out=result[:, lower.shape[1] :])
        return mel.add_(self.settings.log_floor).log_()

    def _finish(self, x: Tensor) -> Tensor:
        """Gain, cosine transform and deltas of one utterance `(time, bands)` -> `(time, channels * bins)`."""
        if self.settings.gain_normalisation:
            x = x - x.mean()
        if self.settings.kind == "mfcc":
            x = x @ self.get_buffer("cosines").cpu()
        if self.settings.deltas:
            first = torchaudio.functional.compute_deltas(x.T)
            second = torchaudio.functional.compute_deltas(first)
            x = torch.cat([x, first.T, second.T], 1)
        return x.contiguous()
