"""Settings of the features room. Defaults are those that mattered on EmoDB and RAVDESS."""

from dataclasses import dataclass, field

from emodarts.errors import EmodartsError


@dataclass(frozen=True)
class FeatureSettings:
    """Log-mel or MFCC frames. Times in ms, levels in dB; `log_floor` is added to the mel power before the logarithm."""

    kind: str = "log_mel"  # log_mel | mfcc
    sample_rate: int = 16000
    bands: int = 64
    coefficients: int = 40  # mfcc
    deltas: bool = False  # first and second differences as two further channels
    window_ms: float = 32.0
    hop_ms: float = 20.0
    log_floor: float = 1e-6
    trim_db: float | None = 35.0  # silence below the active level, cut at both ends; None: keep it
    gain_normalisation: bool = True  # subtract the utterance's mean log-mel, one number
    speeds: list[float] = field(default_factory=lambda: [0.9, 1.0, 1.1])  # copies to train on; tests are at 1.0
    minimum_ms: float = 100.0  # shorter utterances (after trimming) are dropped

    def __post_init__(self) -> None:
        checks = {
            "kind": (self.kind in ("log_mel", "mfcc"), "log_mel or mfcc"),
            "sample_rate": (4000 <= self.sample_rate <= 96000, "4000 to 96000 Hz"),
            "bands": (8 <= self.bands <= 256, "8 to 256"),
            "coefficients": (self.kind != "mfcc" or 8 <= self.coefficients <= self.bands, "8 to features.bands"),
            "hop_ms": (1 <= self.hop_ms <= self.window_ms, "1 to features.window_ms"),
            "window_ms": (self.window_ms <= 200, "at most 200"),
            "log_floor": (0 < self.log_floor < 1, "above 0 and below 1"),
            "trim_db": (self.trim_db is None or 10 <= self.trim_db <= 120, "10 to 120, or null"),
            "speeds": (1.0 in self.speeds and all(0.5 <= s <= 2 for s in self.speeds), "from 0.5 to 2, 1.0 among them"),
            "minimum_ms": (self.minimum_ms >= 0, "0 or more"),
        }
        for name, (good, allowed) in checks.items():
            if not good:
                raise EmodartsError(f"features.{name}={getattr(self, name)} is out of range: {allowed}")
