"""Settings of the final training."""

from dataclasses import dataclass, field

from emodarts.errors import EmodartsError

PRECISIONS = ("float32", "bfloat16")
COMPILES = ("none", "default", "reduce-overhead")


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained from scratch. None for a size: as in the search.

    `precision` and `compile` are about speed on a GPU (see `acceleration`); the defaults change no figure.
    """

    epochs: int = 30
    channels: int | None = 16
    sequence_width: int | None = 64
    stem_strides: list[int] | None = field(default_factory=lambda: [8, 2])  # frequency, time
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    gradient_clip: float = 5.0
    label_smoothing: float = 0.1
    drop_path: float = 0.1  # reached at the last epoch, from 0 at the first
    dropout: float = 0.3
    batch_size: int = 16
    crop_seconds: float = 2.5
    precision: str = "float32"  # float32 | bfloat16: of the training steps' forward passes; weights stay float32
    compile: str = "none"  # none | default | reduce-overhead (CUDA graphs): torch.compile's mode
    svm_penalty: float = 0.01  # C of system=svm; nothing else of a training applies to it

    def __post_init__(self) -> None:
        checks = {
            "epochs": (1 <= self.epochs <= 10000, "1 to 10000"),
            "channels": (self.channels is None or 2 <= self.channels <= 512, "2 to 512, or null"),
            "sequence_width": (
                self.sequence_width is None or (2 <= self.sequence_width <= 2048 and self.sequence_width % 2 == 0),
                "an even number from 2 to 2048, or null",
            ),
            "stem_strides": (
                self.stem_strides is None
                or (len(self.stem_strides) == 2 and all(1 <= s <= 8 for s in self.stem_strides)),
                "[1..8, 1..8], or null",
            ),
            "learning_rate": (0 < self.learning_rate < 10, "above 0 and below 10"),
            "weight_decay": (0 <= self.weight_decay < 1, "0 to below 1"),
            "gradient_clip": (self.gradient_clip > 0, "above 0"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "0 to below 1"),
            "drop_path": (0 <= self.drop_path < 1, "0 to below 1"),
            "dropout": (0 <= self.dropout < 1, "0 to below 1"),
            "batch_size": (2 <= self.batch_size <= 4096, "2 to 4096"),
            "crop_seconds": (self.crop_seconds > 0, "above 0 s"),
            "precision": (self.precision in PRECISIONS, " or ".join(PRECISIONS)),
            "compile": (self.compile in COMPILES, ", ".join(COMPILES)),
            "svm_penalty": (self.svm_penalty > 0, "above 0"),
        }
        for name, (good, allowed) in checks.items():
            if not good:
                raise EmodartsError(f"training.{name}={getattr(self, name)} is out of range: {allowed}")
