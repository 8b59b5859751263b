"""Settings of a search. The defaults are the `small` preset, sized for a laptop's core.

`SearchSettings` is one flat class (each name is a switch `search.<name>`), in four parts that check themselves.
"""

from dataclasses import dataclass, field, replace

from emodarts.errors import EmodartsError
from emodarts.networks.operations import CNN_OPERATIONS
from emodarts.networks.sequence import SEQUENCE_OPERATIONS, family_of, operations_of
from emodarts.networks.spaces import SMALL_SEQUENCE_OPERATIONS, SPACES, OperationSpace

OPTIMISATIONS = ("single", "bilevel")
METHODS = ("darts", "frozen", "random_architecture", "random_search", "evolution")
SCOPES = ("joint", "cnn_only", "seqnn_only", "one_after_the_other")
RELAXATIONS = ("softmax", "sigmoid")
REGULARISERS = ("none", "beta_decay", "skip_dropout")
SELECTIONS = ("magnitude", "perturbation")
EARLY_STOPPINGS = ("none", "skips", "eigenvalue")
COSTS = ("parameters", "macs")
PRECISIONS = ("float32", "bfloat16")
COMPILES = ("none", "default", "reduce-overhead")
FREQUENCY_POOLINGS = ("mean", "flatten")
_Checks = dict[str, tuple[bool, str]]  # setting -> whether it is in range, and the range


@dataclass(frozen=True)
class SupernetSettings:
    """The supernet: its sizes, and the operations it chooses among.

    None as operations: those of the space; of `emodarts`, whose stacks of up to four layers are slow, the sequence
    operations in SMALL_SEQUENCE_OPERATIONS.
    """

    cells: int = 3
    nodes: int = 2
    channels: int = 8
    sequence_cells: int = 1
    sequence_nodes: int = 1
    sequence_width: int = 32
    space: str = "compact"  # compact | emodarts | modern
    cnn_operations: list[str] | None = None
    sequence_operations: list[str] | None = None
    seqnn: str = "all"  # all, or one family of the sequence operations: lstm | rnn | lstm_attention | ...
    stem_channels: int = 16
    stem_strides: list[int] = field(default_factory=lambda: [8, 4])  # frequency, time
    frequency_pooling: str = "mean"  # of the bins left before the sequence cells: mean | flatten (they become channels)
    sequence_shortcut: bool = True  # pooling over time reads the sequence cells' input beside their output
    dropout: float = 0.2

    @property
    def chosen_space(self) -> OperationSpace:
        """The space by its name."""
        return SPACES[self.space]

    @property
    def all_cnn_operations(self) -> tuple[str, ...]:
        """What the CNN cells choose among."""
        return tuple(self.chosen_space.cnn_operations if self.cnn_operations is None else self.cnn_operations)

    @property
    def all_sequence_operations(self) -> tuple[str, ...]:
        """What the sequence cells choose among, of all families."""
        if self.sequence_operations is not None:
            return tuple(self.sequence_operations)
        return SMALL_SEQUENCE_OPERATIONS if self.space == "emodarts" else self.chosen_space.sequence_operations

    @property
    def seqnn_operations(self) -> tuple[str, ...]:
        """What the sequence cells choose among: those of the family `seqnn`."""
        return operations_of(self.seqnn, self.all_sequence_operations)

    @property
    def families(self) -> tuple[str, ...]:
        """What `seqnn` may be: all, or a family of the sequence operations."""
        return "all", *dict.fromkeys(family_of(name) for name in self.all_sequence_operations if name[-1].isdigit())

    def _supernet_checks(self) -> _Checks:
        strides = self.stem_strides
        return {
            "cells": (1 <= self.cells <= 20, "1 to 20"),
            "nodes": (1 <= self.nodes <= 8, "1 to 8"),
            "channels": (2 <= self.channels <= 256, "2 to 256"),
            "sequence_cells": (0 <= self.sequence_cells <= 12, "0 to 12"),
            "sequence_nodes": (1 <= self.sequence_nodes <= 8, "1 to 8"),
            "sequence_width": (
                2 <= self.sequence_width <= 1024 and self.sequence_width % 2 == 0,
                "an even number from 2 to 1024",
            ),
            "space": (self.space in SPACES, " | ".join(SPACES)),
            "cnn_operations": _operations_check(self.cnn_operations, tuple(CNN_OPERATIONS)),
            "sequence_operations": _operations_check(self.sequence_operations, tuple(SEQUENCE_OPERATIONS)),
            "stem_channels": (1 <= self.stem_channels <= 256, "1 to 256"),
            "stem_strides": (len(strides) == 2 and all(1 <= s <= 8 for s in strides), "[1..8, 1..8]"),
            "frequency_pooling": (self.frequency_pooling in FREQUENCY_POOLINGS, " | ".join(FREQUENCY_POOLINGS)),
            "dropout": (0 <= self.dropout < 1, "0 to below 1"),
        }


@dataclass(frozen=True)
class OptimisationSettings:
    """The optimisation of weights and alphas. `crop_seconds` bounds the utterances of training batches.

    `optimisation`: weights and alphas learn from all of the train part, by one pass for both (single, Hou et al. 2021),
    or the weights from one half of it and the alphas from the other (bilevel, Liu et al. 2019).
    """

    epochs: int = 15
    optimisation: str = "single"  # single | bilevel
    unrolled: bool = False  # bilevel: second order
    optimiser: str = "adamw"  # of the weights: adamw | sgd
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 1e-3
    gradient_clip: float = 5.0
    alpha_learning_rate: float = 2e-2
    alpha_weight_decay: float = 1e-3
    batch_size: int = 16
    crop_seconds: float = 2.5
    subsample: int | None = None  # so many utterances of train for the search, stratified; None: all of them
    subsample_seed: int = 0
    precision: str = "float32"  # float32 | bfloat16: of the forward pass (autocast); weights stay float32
    compile: str = "none"  # none | default | reduce-overhead: torch.compile's mode

    def _optimisation_checks(self) -> _Checks:
        return {
            "epochs": (1 <= self.epochs <= 1000, "1 to 1000"),
            "optimisation": (self.optimisation in OPTIMISATIONS, " | ".join(OPTIMISATIONS)),
            "optimiser": (self.optimiser in ("adamw", "sgd"), "adamw or sgd"),
            "learning_rate": (0 < self.learning_rate < 10, "above 0 and below 10"),
            "final_learning_rate": (0 <= self.final_learning_rate <= self.learning_rate, "0 to search.learning_rate"),
            "momentum": (0 <= self.momentum < 1, "0 to below 1"),
            "weight_decay": (0 <= self.weight_decay < 1, "0 to below 1"),
            "gradient_clip": (self.gradient_clip > 0, "above 0"),
            "alpha_learning_rate": (0 <= self.alpha_learning_rate < 10, "0 to below 10"),
            "alpha_weight_decay": (0 <= self.alpha_weight_decay < 1, "0 to below 1"),
            "batch_size": (2 <= self.batch_size <= 4096, "2 to 4096"),
            "crop_seconds": (self.crop_seconds > 0, "above 0 s"),
            "subsample": (self.subsample is None or self.subsample >= 4, "4 or more utterances, or null"),
            "subsample_seed": (self.subsample_seed >= 0, "0 or more"),
            "precision": (self.precision in PRECISIONS, " | ".join(PRECISIONS)),
            "compile": (self.compile in COMPILES, " | ".join(COMPILES)),
        }


@dataclass(frozen=True)
class RobustnessSettings:
    """The axes against collapse, each value with its source in `search/`; the numbers belong to the value they name.

    In the first `warmup_epochs` the weights train alone. None: three tenths of the epochs, rounded down (15 of 50 in
    PC-DARTS, Xu et al. 2020).
    """

    relaxation: str = "softmax"  # softmax | sigmoid
    zero_one_weight: float = 1.0  # sigmoid: of the loss that pushes the weights to 0 or 1
    regulariser: str = "skip_dropout"  # none | beta_decay | skip_dropout
    beta_decay_weight: float = 1.0  # reached at the last epoch, from 0
    skip_dropout: float = 0.8  # at the first epoch, 0 after the last
    selection: str = "magnitude"  # magnitude | perturbation
    perturbation_steps: int = 10  # of the weights between two decisions
    perturbation_batches: int = 8  # of what the alphas learn from, by which a decision is made
    stop: str = "none"  # none | skips | eigenvalue
    stop_skips: int = 2  # so many in one cell end the search
    stop_ratio: float = 0.75  # the search ends where the eigenvalue `stop_window` epochs ago is below this part of it
    stop_window: int = 5  # epochs that are averaged, and that the search goes back
    warmup_epochs: int | None = None
    cost: str = "parameters"  # parameters | macs
    cost_weight: float = 0.0  # of the expected cost, as a part of the most that the alphas can choose

    def _robustness_checks(self) -> _Checks:
        return {
            "relaxation": (self.relaxation in RELAXATIONS, " | ".join(RELAXATIONS)),
            "zero_one_weight": (0 <= self.zero_one_weight <= 1000, "0 to 1000"),
            "regulariser": (self.regulariser in REGULARISERS, " | ".join(REGULARISERS)),
            "beta_decay_weight": (0 <= self.beta_decay_weight <= 1000, "0 to 1000"),
            "skip_dropout": (0 <= self.skip_dropout < 1, "0 to below 1"),
            "selection": (self.selection in SELECTIONS, " | ".join(SELECTIONS)),
            "perturbation_steps": (0 <= self.perturbation_steps <= 100_000, "0 to 100000"),
            "perturbation_batches": (1 <= self.perturbation_batches <= 100_000, "1 to 100000"),
            "stop": (self.stop in EARLY_STOPPINGS, " | ".join(EARLY_STOPPINGS)),
            "stop_skips": (1 <= self.stop_skips <= 16, "1 to 16"),
            "stop_ratio": (0 < self.stop_ratio <= 1, "above 0, to 1"),
            "stop_window": (1 <= self.stop_window <= 100, "1 to 100"),
            "warmup_epochs": (self.warmup_epochs is None or self.warmup_epochs >= 0, "0 or more, or null"),
            "cost": (self.cost in COSTS, " | ".join(COSTS)),
            "cost_weight": (0 <= self.cost_weight <= 1000, "0 to 1000"),
        }


@dataclass(frozen=True)
class ControlSettings:
    """Which method searches, which part of the network is searched, and how much the controls may spend.

    candidates None: as many as the supernet's search would have cost (see `budget`). candidate_epochs None: each
    candidate is trained for as many epochs as the supernet would be.
    """

    method: str = "darts"  # darts | frozen | random_architecture | random_search | evolution
    scope: str = "joint"  # joint | cnn_only | seqnn_only | one_after_the_other
    candidates: int | None = None
    candidate_epochs: int | None = None
    population: int = 6
    tournament: int = 3

    def _control_checks(self) -> _Checks:
        return {
            "method": (self.method in METHODS, " | ".join(METHODS)),
            "scope": (self.scope in SCOPES, " | ".join(SCOPES)),
            "candidates": (self.candidates is None or 1 <= self.candidates <= 100_000, "1 to 100000, or null"),
            "candidate_epochs": (
                self.candidate_epochs is None or 1 <= self.candidate_epochs <= 10_000,
                "1 to 10000, or null",
            ),
            "population": (1 <= self.population <= 10_000, "1 to 10000"),
            "tournament": (1 <= self.tournament <= self.population, "1 to search.population"),
        }


@dataclass(frozen=True)
class SearchSettings(ControlSettings, RobustnessSettings, OptimisationSettings, SupernetSettings):
    """All settings of a search. Raises EmodartsError for values out of range and for those that exclude each other."""

    def __post_init__(self) -> None:
        parts = (
            self._supernet_checks(),
            self._optimisation_checks(),
            self._robustness_checks(),
            self._control_checks(),
        )
        for name, (good, allowed) in ((n, c) for checks in parts for n, c in checks.items()):
            if not good:
                raise EmodartsError(f"search.{name}={getattr(self, name)} is out of range: {allowed}")
        if self.seqnn not in self.families:
            raise EmodartsError(
                f"search.seqnn={self.seqnn} is out of range: {' | '.join(self.families)} (the families of the sequence "
                f"operations of search.space={self.space})"
            )
        for impossible, why in self._contradictions():
            if impossible:
                raise EmodartsError(why)

    @property
    def warmup(self) -> int:
        """The number of epochs before the alphas move."""
        return 3 * self.epochs // 10 if self.warmup_epochs is None else self.warmup_epochs

    @property
    def passes_per_utterance(self) -> int:
        """Forward and backward passes of an epoch whose alphas move, for each utterance that the weights learn from.

        Weights 1, and alphas 1 by first order, 4 by second (at w', and two for the finite difference, and for w'); with
        a single level one pass serves both.
        """
        if self.optimisation == "single":
            return 1
        return 5 if self.unrolled else 2

    @property
    def searches_parts_in_turn(self) -> bool:
        """Whether the CNN and the sequence part are searched one after the other."""
        return self.scope == "one_after_the_other"

    @property
    def sequence_start_epoch(self) -> int:
        """The epoch from which `one_after_the_other` searches the sequence part: both parts move for as long."""
        return self.warmup + (self.epochs - self.warmup) // 2

    @property
    def system(self) -> str:
        """The system's name in the result tables: `emodarts`, for a control `emodarts:<method>:<scope>`."""
        plain = self.method == "darts" and self.scope == "joint"
        return "emodarts" if plain else f"emodarts:{self.method}:{self.scope}"

    def for_system(self, system: str) -> "SearchSettings":
        """These settings with the method and the part of a system's name: the reverse of `system`.

        `emodarts` alone names no method and changes nothing. Raises EmodartsError for a name that there is not.
        """
        if system == "emodarts":
            return self
        head, *parts = system.split(":")
        if head != "emodarts" or len(parts) != 2 or parts[0] not in METHODS or parts[1] not in SCOPES:
            raise EmodartsError(
                f"system={system} is unknown: a search is emodarts:<method>:<scope> with the method "
                f"{', '.join(METHODS)} and the part that is searched {', '.join(SCOPES)}"
            )
        return replace(self, method=parts[0], scope=parts[1])

    def _contradictions(self) -> list[tuple[bool, str]]:
        last = self.sequence_start_epoch if self.searches_parts_in_turn else self.epochs
        in_turn = "search.scope=one_after_the_other"
        attention = [name for name in self.seqnn_operations if name.startswith("self_attention_")]
        divided = [name for name in attention if self.sequence_width % int(name.rsplit("_", 1)[1])]
        return [
            (
                bool(divided),
                f"search.sequence_width={self.sequence_width} cannot be divided among the heads of "
                f"{', '.join(divided)}",
            ),
            (
                self.method == "darts" and self.warmup >= last,
                f"search.warmup_epochs={self.warmup}: the alphas would never move in {last} epochs; fewer of these, or "
                f"more search.epochs",
            ),
            (
                self.sequence_cells == 0 and self.scope != "joint",
                f"search.scope={self.scope} needs a sequence part, and search.sequence_cells=0",
            ),
            (
                self.searches_parts_in_turn and self.method != "darts",
                f"{in_turn} has no meaning for search.method={self.method}: only alphas can move in turn",
            ),
            (
                self.searches_parts_in_turn and self.stop != "none",
                f"{in_turn} gives each part half of the epochs, and search.stop={self.stop} "
                f"would end the search in one of them: set search.stop=none",
            ),
            (
                self.searches_parts_in_turn and self.epochs < 2,
                f"{in_turn} needs search.epochs of 2 or more",
            ),
            (
                self.unrolled and self.optimisation != "bilevel",
                "search.unrolled=true looks ahead from one half of the train part to the other, and "
                "search.optimisation=single has no halves: set search.unrolled=false, or search.optimisation=bilevel",
            ),
            (
                self.unrolled and self.precision == "bfloat16",
                "search.unrolled=true differs two losses at weights that are the same in bfloat16: set "
                "search.precision=float32, or search.unrolled=false",
            ),
        ]


def _operations_check(chosen: list[str] | None, known: tuple[str, ...]) -> tuple[bool, str]:
    good = chosen is None or (
        set(chosen) <= set(known) and len(set(chosen)) == len(chosen) and any(name != "none" for name in chosen)
    )
    return good, f"null, or some of {', '.join(known)}, each once and not none alone"
