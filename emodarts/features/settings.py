"""Settings of the features room. Defaults are those that mattered on EmoDB and RAVDESS."""

from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from emodarts.errors import EmodartsError


@dataclass(frozen=True)
class Bundle:
    """Sizes of a pre-trained encoder: transformer layers, and values a frame of each layer."""

    layers: int
    width: int


# The encoders of torchaudio.pipelines (2.11), by their names there; all hear 16 kHz and give 50 frames a second.
BUNDLES = {
    **dict.fromkeys(("WAV2VEC2_BASE", "HUBERT_BASE", "WAVLM_BASE", "WAVLM_BASE_PLUS"), Bundle(12, 768)),
    **dict.fromkeys(("WAV2VEC2_LARGE", "WAV2VEC2_LARGE_LV60K", "WAV2VEC2_XLSR53"), Bundle(24, 1024)),
    **dict.fromkeys(("WAV2VEC2_XLSR_300M", "HUBERT_LARGE", "WAVLM_LARGE", "HUBERT_ASR_LARGE"), Bundle(24, 1024)),
    **dict.fromkeys(("HUBERT_XLARGE", "HUBERT_ASR_XLARGE", "WAV2VEC2_XLSR_1B"), Bundle(48, 1280)),
    "WAV2VEC2_XLSR_2B": Bundle(48, 1920),
    **{f"WAV2VEC2_ASR_BASE_{amount}": Bundle(12, 768) for amount in ("10M", "100H", "960H")},
    **{f"WAV2VEC2_ASR_LARGE_{amount}": Bundle(24, 1024) for amount in ("10M", "100H", "960H")},
    **{f"WAV2VEC2_ASR_LARGE_LV60K_{amount}": Bundle(24, 1024) for amount in ("10M", "100H", "960H")},
    **{f"VOXPOPULI_ASR_BASE_10K_{language}": Bundle(12, 768) for language in ("DE", "EN", "ES", "FR", "IT")},
}
EGEMAPS_VALUES = 88  # functionals an utterance
KINDS = ("log_mel", "mfcc", "pretrained", "egemaps")
_COMMON = ("kind", "sample_rate", "trim_db", "minimum_ms")
_SPECTRAL = ("n_mels", "deltas", "window_ms", "hop_ms", "log_floor", "gain_normalisation")
_OF_KIND = {
    "log_mel": _SPECTRAL,
    "mfcc": (*_SPECTRAL, "n_mfcc"),
    "pretrained": ("bundle", "layers", "layer_weighting"),  # a checkpoint counts by its content
    "egemaps": (),
}
LAYER_WEIGHTINGS = ("stack", "mean", "learned")


@dataclass(frozen=True)
class Variant:
    """One copy of an utterance in the store: played `speed` times as fast, with noise at `snr_db` (None: without)."""

    speed: float = 1.0
    snr_db: float | None = None


@dataclass(frozen=True)
class FeatureSettings:
    """What frames are made of: spectra, a pre-trained encoder, or functionals. All of it is part of a store's key.

    Times in ms, levels in dB; `log_floor` is added to the mel power before the logarithm.
    """

    kind: str = "log_mel"  # log_mel | mfcc | pretrained | egemaps
    sample_rate: int = 16000
    n_mels: int = 64
    n_mfcc: int = 40  # mfcc
    deltas: bool = False  # first and second differences as two further channels
    window_ms: float = 32.0
    hop_ms: float = 20.0
    log_floor: float = 1e-6
    trim_db: float | None = 35.0  # silence below the active level, cut at both ends; None: keep it
    gain_normalisation: bool = True  # subtract the utterance's mean log-mel, one number
    speeds: list[float] = field(default_factory=lambda: [0.9, 1.0, 1.1])  # copies to train on; tests are at 1.0
    noise_snr_db: list[float] = field(default_factory=list)  # further copies to train on, with noise at these levels
    minimum_ms: float = 100.0  # shorter utterances (after trimming) are dropped
    bundle: str = "WAV2VEC2_BASE"  # pretrained: the name of a torchaudio bundle
    layers: list[int] = field(default_factory=lambda: [12])  # pretrained: transformer layers, from 1
    layer_weighting: str = "stack"  # pretrained, several layers: stack (as channels) | mean | learned
    checkpoint: str | None = None  # pretrained: a local file of weights; None: torchaudio's own cache

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The copies of each utterance in the store; the first is the recording as it is, the others only train."""
        copies = [Variant(speed) for speed in self.speeds] + [Variant(1.0, level) for level in self.noise_snr_db]
        return tuple(dict.fromkeys([Variant(), *copies]))

    @property
    def content(self) -> dict[str, object]:
        """The settings that the stored frames depend on, beside `variants`: those of the kind."""
        names = _COMMON + _OF_KIND[self.kind]
        weighting = {"layer_weighting": "mean" if self.layer_weighting == "mean" else "each layer"}
        chosen = {name: getattr(self, name) for name in names}
        return chosen | (weighting if self.kind == "pretrained" else {})

    @property
    def frames_per_second(self) -> float:
        """Frames a second of sound, by a hop of whole samples; 0 for functionals: one frame, however long."""
        if self.kind == "egemaps":
            return 0.0
        if self.kind == "pretrained":
            return 50.0
        return self.sample_rate / round(self.hop_ms * self.sample_rate / 1000)

    @property
    def learned_layers(self) -> bool:
        """Whether the network learns one weight for each layer of the encoder."""
        return self.kind == "pretrained" and self.layer_weighting == "learned"

    def __post_init__(self) -> None:
        _check("features", self, {**self._spectral_checks(), **self._encoder_checks()})
        for other in fields(self):
            kinds = [kind for kind, names in _OF_KIND.items() if other.name in names]
            if kinds and self.kind not in kinds and getattr(self, other.name) != _default(other):
                raise EmodartsError(
                    f"features.{other.name}={getattr(self, other.name)} does nothing with features.kind={self.kind}: "
                    f"it is for {', '.join(kinds)}"
                )

    def _spectral_checks(self) -> dict[str, tuple[bool, str]]:
        return {
            "kind": (self.kind in KINDS, ", ".join(KINDS)),
            "sample_rate": (4000 <= self.sample_rate <= 96000, "4000 to 96000 Hz"),
            "n_mels": (8 <= self.n_mels <= 256, "8 to 256"),
            "n_mfcc": (self.kind != "mfcc" or 8 <= self.n_mfcc <= self.n_mels, "8 to features.n_mels"),
            "hop_ms": (1 <= self.hop_ms <= self.window_ms, "1 to features.window_ms"),
            "window_ms": (self.window_ms <= 200, "at most 200"),
            "log_floor": (0 < self.log_floor < 1, "above 0 and below 1"),
            "trim_db": (self.trim_db is None or 10 <= self.trim_db <= 120, "10 to 120, or null"),
            "speeds": (1.0 in self.speeds and all(0.5 <= s <= 2 for s in self.speeds), "from 0.5 to 2, 1.0 among them"),
            "noise_snr_db": (all(-20 <= level <= 100 for level in self.noise_snr_db), "from -20 to 100 dB"),
            "minimum_ms": (self.minimum_ms >= 0, "0 or more"),
        }

    def _encoder_checks(self) -> dict[str, tuple[bool, str]]:
        if self.kind != "pretrained":
            return {}
        layers = BUNDLES[self.bundle].layers if self.bundle in BUNDLES else 0
        distinct = 1 <= len(set(self.layers)) == len(self.layers)
        return {
            "bundle": (self.bundle in BUNDLES, "one of " + ", ".join(sorted(BUNDLES))),
            "sample_rate": (self.sample_rate == 16000, "16000 Hz, which the pre-trained encoders hear"),
            "layers": (
                distinct and all(1 <= layer <= layers for layer in self.layers),
                f"one or more of 1 to {layers} ({self.bundle}), none twice",
            ),
            "layer_weighting": (self.layer_weighting in LAYER_WEIGHTINGS, "stack, mean or learned"),
        }


@dataclass(frozen=True)
class BatchSettings:
    """How batches are drawn from a fold's parts. All but `device_memory_fraction` is for training alone.

    Evaluation takes every utterance whole, as recorded, and masks what pads it.
    """

    # So many batches' utterances, drawn at random, are sorted by length; 0 or 1: not sorted. At most a 32nd of an
    # epoch's batches: those of a small corpus stay mixed.
    bucket_size: int = 8
    crop: str = "random"  # which part of an utterance longer than crop_seconds: random | centre | start
    pad: str = "zero"  # zero (masked) | repeat: shorter utterances are repeated until they fill crop_seconds
    time_masks: int = 0  # SpecAugment (Park et al. 2019): masks of up to so many frames
    time_mask_frames: int = 25
    time_mask_fraction: float = 0.2  # no time mask covers more of an utterance
    frequency_masks: int = 0  # masks of up to so many neighbouring bands
    frequency_mask_bins: int = 8
    device_memory_fraction: float = (
        0.25  # of the GPU memory free at the start, for a fold's features; 0: not kept there
    )

    def __post_init__(self) -> None:
        checks = {
            "bucket_size": (0 <= self.bucket_size <= 10_000, "0 to 10000 batches"),
            "crop": (self.crop in ("random", "centre", "start"), "random, centre or start"),
            "pad": (self.pad in ("zero", "repeat"), "zero or repeat"),
            "time_masks": (0 <= self.time_masks <= 20, "0 to 20"),
            "time_mask_frames": (1 <= self.time_mask_frames <= 10_000, "1 to 10000 frames"),
            "time_mask_fraction": (0 < self.time_mask_fraction <= 1, "above 0, to 1"),
            "frequency_masks": (0 <= self.frequency_masks <= 20, "0 to 20"),
            "frequency_mask_bins": (1 <= self.frequency_mask_bins <= 2048, "1 to 2048 bins"),
            "device_memory_fraction": (0 <= self.device_memory_fraction <= 0.95, "0 to 0.95"),
        }
        _check("batches", self, checks)


def _default(setting: "Field[Any]") -> object:
    return setting.default if setting.default_factory is MISSING else setting.default_factory()


def _check(group: str, settings: FeatureSettings | BatchSettings, checks: dict[str, tuple[bool, str]]) -> None:
    for name, (good, allowed) in checks.items():
        if not good:
            raise EmodartsError(f"{group}.{name}={getattr(settings, name)} is out of range: {allowed}")
