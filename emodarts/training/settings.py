"""Settings of the final training."""

from collections.abc import Sequence
from dataclasses import dataclass

from emodarts.networks.names import STEM_STRIDES, STEM_STRIDES_TEXT
from emodarts.settings import check_settings, setting

PRECISIONS = ("float32", "bfloat16")
COMPILE_MODES = ("none", "default", "reduce-overhead")
STRIDES_TEXT = f"[frequency, time], each one of {STEM_STRIDES_TEXT}"


def are_strides(strides: Sequence[int]) -> bool:
    """Whether these can be the strides of a stem, in frequency and in time."""
    return len(strides) == 2 and set(strides) <= set(STEM_STRIDES)


@dataclass(frozen=True)
class TrainingSettings:
    """How the network is trained from scratch, whatever its system; an SVM has `svm_penalty` alone."""

    epochs: int = setting(30, "epochs; of the last quarter the best on dev counts", at_least=1, at_most=10_000)
    channels: int | None = setting(
        16, "channels of a node in the first CNN cell; null: as in the search", at_least=2, at_most=512
    )
    sequence_width: int | None = setting(
        64,
        "values of a frame in the sequence cells; null: as in the search",
        check=lambda width: 2 <= width <= 2048 and width % 2 == 0,
        allowed="an even number from 2 to 2048",
    )
    stem_strides: list[int] | None = setting(
        [8, 2], "strides of the stem: frequency, time; null: as in the search", check=are_strides, allowed=STRIDES_TEXT
    )
    width: float = setting(
        1.0,
        "factor of the final network's channels and sequence width, these in steps of 8; of hand-designed ones too",
        at_least=0.125,
        at_most=8,
    )
    depth: int | None = setting(
        None,
        "CNN cells of the final network (null: as in the search), residual blocks of one designed by hand (null: 3); "
        "of lstm: its layers and 2 (null: 1 layer)",
        at_least=1,
        at_most=20,
    )
    sequence_rate: float | None = setting(
        None,
        "about so many frames a second reach the sequence part, in the search too: the stem's stride in time is 1, 2, "
        "4 or 8, and no cell reduces; null: by strides and reduction cells",
        above=0,
        at_most=100,
    )
    layer: float | None = setting(
        None,
        "which of an encoder's layers is read where they would be weighed, in the search too: 0 the first that is "
        "taken, 1 the last; null: all, weighed",
        at_least=0,
        at_most=1,
    )
    optimiser: str = setting("adamw", "of the weights", choices=("adamw", "sgd"))
    schedule: str = setting(
        "one_cycle",
        "of the learning rate, step by step: one cycle (Smith & Topin 2019), or a cosine (Loshchilov & Hutter 2017)",
        choices=("one_cycle", "cosine"),
    )
    learning_rate: float = setting(3e-3, "at the peak of one cycle, or where the cosine begins", above=0, below=10)
    final_learning_rate: float = setting(
        0.0, "where the cosine ends", at_least=0, at_most="learning_rate", only_with=("schedule", "cosine")
    )
    momentum: float = setting(0.9, "of SGD", at_least=0, below=1, only_with=("optimiser", "sgd"))
    weight_decay: float = setting(1e-2, "of the weights", at_least=0, below=1)
    averaging: str = setting(
        "none",
        "late: the mean of the weights after each epoch of the last quarter, which leaves dev nothing to choose "
        "(Izmailov et al. 2018)",
        choices=("none", "late"),
    )
    gradient_clip: float = setting(5.0, "largest norm of the gradient", above=0)
    loss: str = setting(
        "cross_entropy",
        "weighted by class, as is focal (Lin et al. 2017); logit_adjusted: by the classes' frequencies (Menon et al. "
        "2021)",
        choices=("cross_entropy", "focal", "logit_adjusted"),
    )
    focal_gamma: float = setting(
        2.0, "how much less what is right already counts", at_least=0, at_most=10, only_with=("loss", "focal")
    )
    label_smoothing: float = setting(0.1, "label smoothing of the loss", at_least=0, below=1)
    mixup: float = setting(
        0.0,
        "alpha of the Beta distribution by which pairs are mixed (Zhang et al. 2018); 0: none",
        at_least=0,
        at_most=8,
    )
    drop_path: float = setting(0.1, "drop path in CNN cells, reached at the last epoch from 0", at_least=0, below=1)
    dropout: float = setting(0.3, "dropout before the last layer", at_least=0, below=1)
    batch_size: int = setting(16, "utterances a batch", at_least=2, at_most=4096)
    crop_seconds: float = setting(2.5, "longest part of an utterance in a training batch", above=0, unit="s")
    precision: str = setting(
        "float32", "of the training steps' forward passes (autocast); weights stay float32", choices=PRECISIONS
    )
    compile: str = setting("none", "mode of torch.compile; reduce-overhead: CUDA graphs", choices=COMPILE_MODES)
    svm_penalty: float = setting(0.01, "C of the linear SVM of system=svm", above=0)

    def __post_init__(self) -> None:
        check_settings(self, "training")
