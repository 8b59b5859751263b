"""Settings of a search. The defaults are the `small` preset, sized for a laptop's core."""

from dataclasses import dataclass, field

from emodarts.errors import EmodartsError

SMALL_SEQUENCE_OPERATIONS = (
    "none",
    "skip_connect",
    "lstm_1",
    "lstm_2",
    "rnn_1",
    "rnn_2",
    "lstm_attention_1",
    "rnn_attention_1",
)
FAMILIES = ("all", "lstm", "rnn", "lstm_attention", "rnn_attention")


@dataclass(frozen=True)
class SearchSettings:
    """Supernet sizes and the bilevel optimisation. `crop_seconds` bounds the utterances of training batches."""

    epochs: int = 15
    cells: int = 3
    nodes: int = 2
    channels: int = 8
    sequence_cells: int = 1
    sequence_nodes: int = 1
    sequence_width: int = 32
    seqnn: str = "all"  # all | lstm | rnn | lstm_attention | rnn_attention
    sequence_operations: list[str] = field(default_factory=lambda: list(SMALL_SEQUENCE_OPERATIONS))
    stem_channels: int = 16
    stem_strides: list[int] = field(default_factory=lambda: [8, 2])  # frequency, time
    unrolled: bool = False  # second order
    optimiser: str = "adamw"  # of the weights: adamw | sgd
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 1e-3
    gradient_clip: float = 5.0
    alpha_learning_rate: float = 2e-2
    alpha_weight_decay: float = 1e-3
    dropout: float = 0.2
    batch_size: int = 16
    crop_seconds: float = 2.5
    subsample: int | None = None  # so many utterances of train for the search, stratified; None: all of them
    subsample_seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            "epochs": (1 <= self.epochs <= 1000, "1 to 1000"),
            "cells": (1 <= self.cells <= 20, "1 to 20"),
            "nodes": (1 <= self.nodes <= 8, "1 to 8"),
            "channels": (2 <= self.channels <= 256, "2 to 256"),
            "sequence_cells": (0 <= self.sequence_cells <= 12, "0 to 12"),
            "sequence_nodes": (1 <= self.sequence_nodes <= 8, "1 to 8"),
            "sequence_width": (
                2 <= self.sequence_width <= 1024 and self.sequence_width % 2 == 0,
                "an even number from 2 to 1024",
            ),
            "seqnn": (self.seqnn in FAMILIES, " | ".join(FAMILIES)),
            "stem_channels": (1 <= self.stem_channels <= 256, "1 to 256"),
            "stem_strides": (
                len(self.stem_strides) == 2 and all(1 <= s <= 8 for s in self.stem_strides),
                "[1..8, 1..8]",
            ),
            "optimiser": (self.optimiser in ("adamw", "sgd"), "adamw or sgd"),
            "learning_rate": (0 < self.learning_rate < 10, "above 0 and below 10"),
            "final_learning_rate": (0 <= self.final_learning_rate <= self.learning_rate, "0 to search.learning_rate"),
            "momentum": (0 <= self.momentum < 1, "0 to below 1"),
            "weight_decay": (0 <= self.weight_decay < 1, "0 to below 1"),
            "gradient_clip": (self.gradient_clip > 0, "above 0"),
            "alpha_learning_rate": (0 <= self.alpha_learning_rate < 10, "0 to below 10"),
            "alpha_weight_decay": (0 <= self.alpha_weight_decay < 1, "0 to below 1"),
            "dropout": (0 <= self.dropout < 1, "0 to below 1"),
            "batch_size": (2 <= self.batch_size <= 4096, "2 to 4096"),
            "crop_seconds": (self.crop_seconds > 0, "above 0 s"),
            "subsample": (self.subsample is None or self.subsample >= 4, "4 or more utterances, or null"),
            "subsample_seed": (self.subsample_seed >= 0, "0 or more"),
        }
        for name, (good, allowed) in checks.items():
            if not good:
                raise EmodartsError(f"search.{name}={getattr(self, name)} is out of range: {allowed}")
