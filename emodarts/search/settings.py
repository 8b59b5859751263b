"""Settings of a search. The defaults are the `small` preset, sized for a laptop's core.

`SearchSettings` is one flat class (its settings are `search.<name>`) in four parts.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from emodarts.errors import EmodartsError
from emodarts.networks.names import CNN_OPERATION_NAMES, DESIGNS, SEQUENCE_OPERATION_NAMES, family_of, operations_of
from emodarts.networks.spaces import SMALL_SEQUENCE_OPERATIONS, SPACES, OperationSpace
from emodarts.records import full_name
from emodarts.settings import check_settings, setting
from emodarts.training.settings import COMPILE_MODES, PRECISIONS, STRIDES_TEXT, are_strides

METHODS = ("darts", "spos", "frozen", "random_architecture", "random_search", "evolution", "fixed", "sampler")
SCOPES = ("joint", "cnn_only", "seqnn_only", "one_after_the_other")
# The setting, and its values, without which others do nothing.
_SIGMOID = ("relaxation", "sigmoid")
_BETA_DECAY, _SKIP_DROPOUT = ("regulariser", "beta_decay"), ("regulariser", "skip_dropout")
_PERTURBATION = ("selection", "perturbation")
_SKIPS, _EIGENVALUE = ("stop", "skips"), ("stop", "eigenvalue")
_CANDIDATES = ("method", "random_search", "evolution", "spos")
_SPOS, _EVOLUTION = ("method", "spos"), ("method", "evolution", "spos")


def _are_operations(chosen: list[str], known: Collection[str]) -> bool:
    return set(chosen) <= set(known) and len(set(chosen)) == len(chosen) and any(name != "none" for name in chosen)


@dataclass(frozen=True)
class SupernetSettings:
    """The supernet: its sizes, and the operations it chooses among."""

    cells: int = setting(3, "CNN cells; those at one and two thirds are reduction cells", at_least=1, at_most=20)
    nodes: int = setting(2, "intermediate nodes of a CNN cell", at_least=1, at_most=8)
    channels: int = setting(8, "channels of a node in the first cell; doubled by a reduction", at_least=2, at_most=256)
    sequence_cells: int = setting(1, "sequence cells after the CNN cells; 0: none", at_least=0, at_most=12)
    sequence_nodes: int = setting(1, "intermediate nodes of a sequence cell", at_least=1, at_most=8)
    sequence_width: int = setting(
        32,
        "values of a frame in the sequence cells",
        check=lambda width: 2 <= width <= 1024 and width % 2 == 0,
        allowed="an even number from 2 to 1024",
    )
    space: str = setting(
        "compact",
        "the published operations, newer ones such as GRU and squeeze-excite, few with ordinary convolutions, or those "
        "for an encoder's frames, with its layers and the pooling over time",
        choices=SPACES,
    )
    cnn_operations: list[str] | None = setting(
        None,
        "what the CNN cells choose among; null: those of the space",
        check=lambda chosen: _are_operations(chosen, CNN_OPERATION_NAMES),
        allowed=f"some of {', '.join(CNN_OPERATION_NAMES)}, each once and not none alone",
    )
    sequence_operations: list[str] | None = setting(
        None,
        "what the sequence cells choose among; null: those of the space, but of emodarts no deep stacks",
        check=lambda chosen: _are_operations(chosen, SEQUENCE_OPERATION_NAMES),
        allowed=f"some of {', '.join(SEQUENCE_OPERATION_NAMES)}, each once and not none alone",
    )
    seqnn: str = setting("all", "all, or one family of the sequence operations: lstm, rnn, lstm_attention, gru, ...")
    stem_channels: int = setting(16, "channels of the stem's convolutions", at_least=1, at_most=256)
    stem_strides: list[int] = setting(
        [8, 4], "strides of the stem: frequency, time", check=are_strides, allowed=STRIDES_TEXT
    )
    frequency_pooling: str = setting(
        "mean", "of the bins left before the sequence cells; flatten: they become channels", choices=("mean", "flatten")
    )
    sequence_shortcut: bool = setting(True, "pooling over time reads the sequence cells' input beside their output")
    dropout: float = setting(0.2, "dropout before the last layer", at_least=0, below=1)

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


@dataclass(frozen=True)
class OptimisationSettings:
    """The optimisation of weights and alphas."""

    epochs: int = setting(15, "epochs of the supernet", at_least=1, at_most=1000)
    optimisation: str = setting(
        "single",
        "weights and alphas by one pass on all of train (Hou et al. 2021), or from a half each (Liu et al. 2019)",
        choices=("single", "bilevel"),
    )
    unrolled: bool = setting(
        False, "second order: the alphas' gradient after a step of the weights", only_with=("optimisation", "bilevel")
    )
    optimiser: str = setting("adamw", "of the weights", choices=("adamw", "sgd"))
    learning_rate: float = setting(3e-3, "of the weights, at the first epoch", above=0, below=10)
    final_learning_rate: float = setting(
        1e-4, "of the weights, where the cosine ends (Loshchilov & Hutter 2017)", at_least=0, at_most="learning_rate"
    )
    momentum: float = setting(0.9, "of the weights", at_least=0, below=1, only_with=("optimiser", "sgd"))
    weight_decay: float = setting(1e-3, "of the weights", at_least=0, below=1)
    gradient_clip: float = setting(5.0, "largest norm of the gradient, of weights and of alphas", above=0)
    alpha_learning_rate: float = setting(2e-2, "of Adam, for the alphas", at_least=0, below=10)
    alpha_weight_decay: float = setting(1e-3, "of Adam, for the alphas", at_least=0, below=1)
    batch_size: int = setting(16, "utterances a batch", at_least=2, at_most=4096)
    crop_seconds: float = setting(2.5, "longest part of an utterance in a training batch", above=0, unit="s")
    subsample: int | None = setting(
        None, "search on so many utterances of train, drawn by class; null: on all", at_least=4, unit="utterances"
    )
    subsample_seed: int = setting(0, "seed of the draw of `subsample`", at_least=0)
    precision: str = setting("float32", "of the forward passes (autocast); weights stay float32", choices=PRECISIONS)
    compile: str = setting("none", "mode of torch.compile; reduce-overhead: CUDA graphs", choices=COMPILE_MODES)


@dataclass(frozen=True)
class RobustnessSettings:
    """Remedies against collapse, one switch each, and the cost term."""

    relaxation: str = setting(
        "softmax", "mixing weights of an edge; sigmoid: each for itself (FairDARTS)", choices=("softmax", "sigmoid")
    )
    zero_one_weight: float = setting(
        1.0, "of the loss that pushes mixing weights to 0 or 1", at_least=0, at_most=1000, only_with=_SIGMOID
    )
    regulariser: str = setting(
        "skip_dropout",
        "of the alphas (beta-DARTS, Ye et al. 2022), or dropout on skip connections (P-DARTS, Chen et al. 2019)",
        choices=("none", "beta_decay", "skip_dropout"),
    )
    beta_decay_weight: float = setting(
        1.0, "reached at the last epoch, from 0", at_least=0, at_most=1000, only_with=_BETA_DECAY
    )
    skip_dropout: float = setting(
        0.8, "probability until the alphas move, then falling to 0", at_least=0, below=1, only_with=_SKIP_DROPOUT
    )
    selection: str = setting(
        "magnitude",
        "how the genotype is derived: by the mixing weights, or by perturbation (DARTS-PT, Wang et al. 2021), measured "
        "on the alphas' half of train, so with optimisation=bilevel",
        choices=("magnitude", "perturbation"),
    )
    perturbation_steps: int = setting(
        10, "steps of the weights between two decisions", at_least=0, at_most=100_000, only_with=_PERTURBATION
    )
    perturbation_batches: int = setting(
        8, "batches of the alphas' half, for a decision", at_least=1, at_most=100_000, only_with=_PERTURBATION
    )
    stop: str = setting(
        "none",
        "end at skip connections in a cell (DARTS+, Liang et al. 2019), or as the dominant eigenvalue rises on the "
        "alphas' half of train, so with optimisation=bilevel (R-DARTS, Zela et al. 2020)",
        choices=("none", "skips", "eigenvalue"),
    )
    stop_skips: int = setting(
        2, "skip connections in one cell that end the search", at_least=1, at_most=16, only_with=_SKIPS
    )
    stop_ratio: float = setting(
        0.75, "least eigenvalue a window ago, as a part of the present one", above=0, at_most=1, only_with=_EIGENVALUE
    )
    stop_window: int = setting(
        5, "epochs averaged over, and gone back at the end", at_least=1, at_most=100, only_with=_EIGENVALUE
    )
    derive_at: str = setting(
        "last",
        "epoch whose genotype is taken where no rule stops the search: the last, or the supernet's best on dev of the "
        "last quarter",
        choices=("last", "best_dev"),
    )
    warmup_epochs: int | None = setting(
        None,
        "epochs of the weights alone; null: 3/10 of the epochs, rounded down (PC-DARTS, Xu et al. 2020)",
        at_least=0,
    )
    cost: str = setting("parameters", "what is counted; macs: multiply-accumulates", choices=("parameters", "macs"))
    cost_weight: float = setting(
        0.0, "of the expected cost, relative to the largest, in the alphas' loss", at_least=0, at_most=1000
    )


@dataclass(frozen=True)
class ControlSettings:
    """Which method searches, which part of the network is searched, and how much the controls may spend."""

    method: str = setting(
        "darts",
        "the search by alphas, by single paths (SPOS, Guo et al. 2020), or by the sweep's sampler, a training a trial; "
        "or a control: alphas left at their start, chance, chance at equal cost, no search, ...",
        choices=METHODS,
    )
    scope: str = setting("joint", "parts of the network that are searched", choices=SCOPES)
    match_parameters: str | None = setting(
        None,
        "a hand-designed network with whose number of parameters the fixed architecture is built, within 5 %",
        choices=tuple(DESIGNS),
        only_with=("method", "fixed"),
    )
    candidates: int | None = setting(
        None,
        "tried, of spos by inherited weights; null: as many as a supernet's search is worth",
        at_least=1,
        at_most=100_000,
        only_with=_CANDIDATES,
    )
    candidate_epochs: int | None = setting(
        None,
        "epochs of a candidate; null: those of the supernet",
        at_least=1,
        at_most=10_000,
        only_with=("method", "random_search", "evolution"),
    )
    path_sampling: str = setting(
        "uniform",
        "of each step's path; fair: each operation of an edge equally often (FairNAS, Chu et al. 2021)",
        choices=("uniform", "fair"),
        only_with=_SPOS,
    )
    path_choice: str = setting(
        "evolution",
        "which candidates the supernet's weights rank: those of evolution, or random ones",
        choices=("evolution", "random"),
        only_with=_SPOS,
    )
    proposals: int = setting(
        1,
        "distinct genotypes that a supernet proposes, each trained briefly, the best on dev taken; the supernet has as "
        "many epochs less as that costs; 1: no training decides",
        at_least=1,
        at_most=100,
    )
    proposal_epochs: int = setting(3, "epochs of a proposal's training", at_least=1, at_most=1000)
    population: int = setting(
        6, "candidates alive in evolution (Real et al. 2019)", at_least=1, at_most=10_000, only_with=_EVOLUTION
    )
    tournament: int = setting(
        3, "candidates of which the best is mutated", at_least=1, at_most="population", only_with=_EVOLUTION
    )


@dataclass(frozen=True)
class SearchSettings(ControlSettings, RobustnessSettings, OptimisationSettings, SupernetSettings):
    """All settings of a search. Raises EmodartsError for values out of range and for those that exclude each other."""

    def __post_init__(self) -> None:
        check_settings(self, "search")
        if self.seqnn not in self.families:
            raise EmodartsError(
                f"search.seqnn={self.seqnn} is out of range: {' | '.join(self.families)} (the families of the sequence "
                f"operations of search.space={self.space})"
            )
        for contradiction in self._contradictions():
            raise EmodartsError(contradiction)

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
        """These settings with method and scope of `emodarts:<method>:<scope>`, short or full: the reverse of `system`.

        Raises EmodartsError for a name that there is not.
        """
        _, *parts = full_name(system).split(":")
        if len(parts) != 2 or parts[0] not in METHODS or parts[1] not in SCOPES:
            raise EmodartsError(
                f"system={system} is unknown: a search is emodarts:<method>:<scope> with the method "
                f"{', '.join(METHODS)} and the part that is searched {', '.join(SCOPES)} (joint may be left out)"
            )
        return replace(self, method=parts[0], scope=parts[1])

    def _contradictions(self) -> Iterator[str]:
        last = self.sequence_start_epoch if self.searches_parts_in_turn else self.epochs
        in_turn = "search.scope=one_after_the_other"
        attention = [name for name in self.seqnn_operations if name.startswith("self_attention_")]
        divided = [name for name in attention if self.sequence_width % int(name.rsplit("_", 1)[1])]
        if divided:
            heads = ", ".join(divided)
            yield f"search.sequence_width={self.sequence_width} cannot be divided among the heads of {heads}"
        if self.method == "darts" and self.warmup >= last:
            yield (
                f"search.warmup_epochs={self.warmup}: the alphas would never move in {last} epochs; fewer of these, or "
                f"more search.epochs"
            )
        if self.sequence_cells == 0 and self.scope != "joint":
            yield f"search.scope={self.scope} needs a sequence part, and search.sequence_cells=0"
        if self.method == "fixed" and self.scope != "joint":
            yield f"search.method=fixed searches no part, so search.scope={self.scope} means nothing: set it to joint"
        if self.searches_parts_in_turn and self.method not in ("darts", "fixed"):
            yield f"{in_turn} has no meaning for search.method={self.method}: only alphas can move in turn"
        if self.searches_parts_in_turn and self.stop != "none":
            yield (
                f"{in_turn} gives each part half of the epochs, and search.stop={self.stop} would end the search in "
                f"one of them: set search.stop=none"
            )
        if self.searches_parts_in_turn and self.epochs < 2:
            yield f"{in_turn} needs search.epochs of 2 or more"
        if self.unrolled and self.optimisation != "bilevel":
            yield (
                "search.unrolled=true looks ahead from one half of the train part to the other, and "
                "search.optimisation=single has no halves: set search.unrolled=false, or search.optimisation=bilevel"
            )
        held_out = {"selection": "perturbation", "stop": "eigenvalue"}
        for name in (name for name, value in held_out.items() if getattr(self, name) == value):
            if self.optimisation == "single":
                yield (
                    f"search.{name}={held_out[name]} measures on utterances that the weights did not learn from, and "
                    f"search.optimisation=single leaves none of train: set search.optimisation=bilevel"
                )
        if self.unrolled and self.precision == "bfloat16":
            yield (
                "search.unrolled=true differs two losses at weights that are the same in bfloat16: set "
                "search.precision=float32, or search.unrolled=false"
            )
