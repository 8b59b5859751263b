"""Settings of the features room. Defaults are those that mattered on EmoDB and RAVDESS."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from emodarts.errors import EmodartsError
from emodarts.settings import check_settings, default_of, is_used, setting


@dataclass(frozen=True)
class Bundle:
    """Sizes of a pre-trained encoder: transformer blocks, and values a frame of each layer."""

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
_SPECTRA = ("kind", "log_mel", "mfcc")
ENCODER_RATE, FRAME_SAMPLES = 50.0, 320  # frames a second of every encoder, at 16 kHz
_BUNDLE_LAYER = 12
_BUNDLE, _MODEL, _ENCODERS = ("kind", "pretrained"), ("kind", "encoder"), ("kind", "pretrained", "encoder")
# What a store's key has in other forms: the copies of each recording, and the content of a model's files;
# normalisation is applied by what reads a store.
_NOT_CONTENT = ("speeds", "noise_snr_db", "checkpoint", "model", "download", "normalisation")
_NOT_AT_DEFAULT = ("frames_per_second", "precision")  # so that the key of older stores stays
BY_TRAIN, BY_SPEAKER, BY_UTTERANCE = "train", "speaker", "utterance"  # normalisations, beside `speaker@k`
_ENROLLED = re.compile(rf"{BY_SPEAKER}@([1-9]\d{{0,3}})")


def enrolment_size(normalisation: str) -> int | None:
    """The k of `speaker@k`; None for the others, which take all of a speaker's recordings, or none."""
    match = _ENROLLED.fullmatch(normalisation)
    return int(match[1]) if match else None


def is_by_speaker(normalisation: str) -> bool:
    """Whether recordings of a speaker are needed when predicting."""
    return normalisation == BY_SPEAKER or enrolment_size(normalisation) is not None


@dataclass(frozen=True)
class Variant:
    """One copy of an utterance in the store: played `speed` times as fast, with noise at `snr_db` (None: without)."""

    speed: float = 1.0
    snr_db: float | None = None


@dataclass(frozen=True)
class FeatureSettings:
    """What frames are made of: spectra, a pre-trained encoder, or functionals; and how they are normalised.

    All of it is part of a store's key, but `normalisation`.
    """

    kind: str = setting(
        "log_mel",
        "log-mel or MFCC, a pre-trained encoder of torchaudio (pretrained) or transformers (encoder), eGeMAPS",
        choices=("log_mel", "mfcc", "pretrained", "encoder", "egemaps"),
    )
    sample_rate: int = setting(16000, "rate that recordings are resampled to", at_least=4000, at_most=96000, unit="Hz")
    n_mels: int = setting(64, "mel bands", at_least=8, at_most=256, only_with=_SPECTRA)
    n_mfcc: int = setting(40, "coefficients, at most n_mels", at_least=8, at_most=256, only_with=("kind", "mfcc"))
    deltas: bool = setting(False, "first and second differences as two further channels", only_with=_SPECTRA)
    window_ms: float = setting(32.0, "length of a window", at_least=1, at_most=200, unit="ms", only_with=_SPECTRA)
    hop_ms: float = setting(20.0, "from one frame to the next", at_least=1, at_most="window_ms", only_with=_SPECTRA)
    log_floor: float = setting(
        1e-6, "added to the mel power before the logarithm", above=0, below=1, only_with=_SPECTRA
    )
    trim_db: float | None = setting(
        35.0,
        "silence so far below the active level is cut at both ends; null: kept",
        at_least=10,
        at_most=120,
        unit="dB",
    )
    gain_normalisation: bool = setting(True, "subtract the utterance's mean log-mel, one number", only_with=_SPECTRA)
    speeds: list[float] = setting(
        [0.9, 1.0, 1.1],
        "copies to train on, played so many times as fast (Ko et al. 2015); tests are at 1.0",
        check=lambda speeds: 1.0 in speeds and all(0.5 <= speed <= 2 for speed in speeds),
        allowed="from 0.5 to 2, 1.0 among them",
    )
    noise_snr_db: list[float] = setting(
        [],
        "further copies to train on, with noise at these signal-to-noise ratios",
        check=lambda ratios: all(-20 <= ratio <= 100 for ratio in ratios),
        allowed="from -20 to 100 dB",
    )
    normalisation: str = setting(
        BY_TRAIN,
        "whose mean and deviation standardise a recording: the train part's, its speaker's in the same role (k "
        "recordings drawn by name; training speakers have all of theirs), or its own",
        check=lambda name: name in (BY_TRAIN, BY_SPEAKER, BY_UTTERANCE) or enrolment_size(name) is not None,
        allowed="train | speaker | utterance | speaker@k, k from 1 to 9999",
    )
    minimum_ms: float = setting(100.0, "shorter utterances (after trimming) are dropped", at_least=0, unit="ms")
    bundle: str = setting(
        "WAV2VEC2_BASE",
        "name of a bundle of torchaudio.pipelines",
        choices=BUNDLES,
        allowed=f"one of {', '.join(sorted(BUNDLES))}",
        only_with=_BUNDLE,
    )
    model: str | None = setting(
        None,
        "a speech encoder of transformers: a folder in its layout, or a name (owner/name, or owner/name@revision) in "
        "that library's cache",
        only_with=_MODEL,
    )
    download: bool = setting(False, "fetch features.model into the cache where it is not there yet", only_with=_MODEL)
    layers: Any = setting(
        None,
        "layers that are taken; 0: the input of the first block; learned: all, weighted by the network; "
        f"null: the middle one (of a bundle the {_BUNDLE_LAYER}th)",
        check=lambda layers: layers in (None, "learned") or _are_layers(layers),
        allowed="an integer from 0, a list of them (none twice), learned",
        only_with=_ENCODERS,
    )
    layer_weighting: str = setting(
        "stack",
        "several layers: as input channels, their mean, or a mean whose weights the network learns (SUPERB, 2021)",
        choices=("stack", "mean", "learned"),
        only_with=_ENCODERS,
    )
    frames_per_second: float = setting(
        ENCODER_RATE,
        "an encoder's frames, averaged where fewer than its own are wanted",
        check=lambda rate: rate in (50, 25, 12.5),
        allowed="50, 25 or 12.5",
        only_with=_ENCODERS,
    )
    precision: str = setting(
        "float32",
        "of an encoder's computation; bfloat16 is for GPUs that have it",
        choices=("float32", "bfloat16"),
        only_with=_ENCODERS,
    )
    checkpoint: str | None = setting(None, "a local file of an encoder's weights; null: torchaudio's own cache")

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The copies of each utterance in the store; the first is the recording as it is, the others only train."""
        copies = [Variant(speed) for speed in self.speeds] + [Variant(1.0, level) for level in self.noise_snr_db]
        return tuple(dict.fromkeys([Variant(), *copies]))

    @property
    def content(self) -> dict[str, object]:
        """The settings that the stored frames depend on, beside `variants`: those of the kind."""
        content = {
            s.name: getattr(self, s.name)
            for s in fields(self)
            if is_used(s, self)
            and s.name not in _NOT_CONTENT
            and not (s.name in _NOT_AT_DEFAULT and getattr(self, s.name) == default_of(s))
        }
        if self.is_encoder and self.weighting != "mean":
            content["layer_weighting"] = "each layer"
        if self.kind == "pretrained":
            content["layers"] = self.layers_of(BUNDLES[self.bundle].layers)
        return content

    @property
    def frame_rate(self) -> float:
        """Frames a second of sound, by a hop of whole samples; 0 for functionals: one frame, however long."""
        if self.kind == "egemaps":
            return 0.0
        if self.is_encoder:
            return self.frames_per_second
        return self.sample_rate / round(self.hop_ms * self.sample_rate / 1000)

    @property
    def is_encoder(self) -> bool:
        """Whether the frames are those of a pre-trained encoder, whose values have no order."""
        return self.kind in _ENCODERS[1:]

    @property
    def averaged_frames(self) -> int:
        """How many frames of the encoder are averaged into one."""
        return round(ENCODER_RATE / self.frames_per_second)

    @property
    def weighting(self) -> str:
        """`layer_weighting`, which `layers=learned` says too."""
        return "learned" if self.layers == "learned" else self.layer_weighting

    @property
    def learned_layers(self) -> bool:
        """Whether the network learns one weight for each layer of the encoder."""
        return self.is_encoder and self.weighting == "learned"

    def layers_of(self, blocks: int) -> list[int]:
        """The layers that are taken of an encoder of so many blocks. Raises EmodartsError where it has them not."""
        if self.layers is None:
            chosen = [_BUNDLE_LAYER if self.kind == "pretrained" else blocks // 2]
        elif self.layers == "learned":
            chosen = list(range(blocks + 1))
        else:
            chosen = [self.layers] if isinstance(self.layers, int) else list(self.layers)
        if max(chosen) > blocks:
            name = self.bundle if self.kind == "pretrained" else self.model
            raise EmodartsError(f"features.layers={self.layers} is out of range: {name} has layers 0 to {blocks}")
        return chosen

    def __post_init__(self) -> None:
        for other in fields(self):
            if not is_used(other, self) and getattr(self, other.name) != default_of(other):
                raise EmodartsError(
                    f"features.{other.name}={getattr(self, other.name)} does nothing with features.kind={self.kind}: "
                    f"it is for {', '.join(other.metadata['only_with'][1:])}"
                )
        check_settings(self, "features")
        if self.kind == "mfcc" and self.n_mfcc > self.n_mels:
            raise EmodartsError(f"features.n_mfcc={self.n_mfcc} is out of range: 8 to features.n_mels")
        if self.is_encoder and self.sample_rate != 16000:
            raise EmodartsError(
                f"features.sample_rate={self.sample_rate} is out of range: 16000 Hz, which pre-trained encoders hear"
            )
        if self.kind == "egemaps" and self.normalisation in (BY_UTTERANCE, f"{BY_SPEAKER}@1"):
            raise EmodartsError(
                f"features.normalisation={self.normalisation} leaves nothing of features.kind=egemaps, which has one "
                f"frame a recording: take {BY_TRAIN}, {BY_SPEAKER} or {BY_SPEAKER}@k with more of them"
            )
        if self.kind == "encoder" and not self.model:
            raise EmodartsError(
                "features.model is missing: the folder of a speech encoder in the layout of transformers, or its name "
                "(such as openai/whisper-base) in that library's cache"
            )
        if self.kind == "pretrained":
            self.layers_of(BUNDLES[self.bundle].layers)


def _are_layers(layers: Any) -> bool:
    numbers = list(layers) if isinstance(layers, Sequence) else [layers]
    whole = all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers)
    return whole and 1 <= len(set(numbers)) == len(numbers)


@dataclass(frozen=True)
class BatchSettings:
    """How batches are drawn from a fold's parts: for training alone, but for `device_memory_fraction`.

    Evaluation takes every utterance whole, as recorded, and masks what pads it.
    """

    bucket_size: int = setting(
        8,
        "batches whose utterances, drawn at random, are sorted by length; at most a 32nd of an epoch's; 0 or 1: none",
        at_least=0,
        at_most=10_000,
    )
    crop: str = setting(
        "random", "the part taken of an utterance longer than crop_seconds", choices=("random", "centre", "start")
    )
    pad: str = setting(
        "zero",
        "shorter utterances: zeros (masked), or repeat them until they fill crop_seconds",
        choices=("zero", "repeat"),
    )
    sampling: str = setting(
        "utterance",
        "what an epoch of several corpora draws: each utterance once, each corpus equally much, or by the square root "
        "of its size",
        choices=("utterance", "corpus", "square_root"),
    )
    loss_weights: str = setting(
        "class",
        "what weighs the same in the loss: each class, or each class of each corpus",
        choices=("class", "class_and_corpus"),
    )
    time_masks: int = setting(0, "masks over time an utterance (SpecAugment, Park et al. 2019)", at_least=0, at_most=20)
    time_mask_frames: int = setting(25, "longest time mask", at_least=1, at_most=10_000, unit="frames")
    time_mask_fraction: float = setting(0.2, "largest part of an utterance under one time mask", above=0, at_most=1)
    frequency_masks: int = setting(0, "masks over neighbouring bins an utterance (SpecAugment)", at_least=0, at_most=20)
    frequency_mask_bins: int = setting(8, "widest frequency mask", at_least=1, at_most=2048, unit="bins")
    device_memory_fraction: float = setting(
        0.25,
        "largest part of a GPU's free memory that a fold's features may take, to stay there; 0: they never do",
        at_least=0,
        at_most=0.95,
    )

    def __post_init__(self) -> None:
        check_settings(self, "batches")

    def portable(self) -> dict[str, Any]:
        """The settings without what belongs to one machine, and without later ones where they are at their defaults."""
        content, defaults = asdict(self), BatchSettings()
        later = [name for name in ("sampling", "loss_weights") if content[name] == getattr(defaults, name)]
        return {name: value for name, value in content.items() if name not in ("device_memory_fraction", *later)}
