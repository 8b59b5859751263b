"""The settings of a unit of work. No import of torch (2 s): a sweep's command checks them before it needs a network."""

from dataclasses import dataclass, field, fields
from typing import Any

from emodarts.corpora.protocols.folds import Fold
from emodarts.errors import EmodartsError
from emodarts.experiment.train_parts import subsample
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.networks.names import DEPTH, DESIGNS, Design
from emodarts.search.settings import OptimisationSettings, RobustnessSettings, SearchSettings, SupernetSettings
from emodarts.settings import setting
from emodarts.training.settings import TrainingSettings

SEARCHED = "emodarts"
PLAIN = f"{SEARCHED}:fixed"
SVM = "svm"
_PENALTY, _LAYER = "training.svm_penalty", "training.layer"
_OVER_TIME = ("training.sequence_rate", "batches.time_masks")
_CONTROL = ("method", "scope", "match_parameters")
_DRAWN = {f"search.{name}" for name in (*_CONTROL, *(declared.name for declared in fields(SupernetSettings)))}
# What candidates that are trained one by one have not, what moves alphas, and what belongs to their search alone.
_OF_A_SUPERNET = {
    declared.name for group in (OptimisationSettings, RobustnessSettings) for declared in fields(group)
} - {"epochs", "subsample", "subsample_seed", "crop_seconds"} | {"proposals", "proposal_epochs"}
_OF_ALPHA_SEARCH = {"unrolled", "compile", *(declared.name for declared in fields(RobustnessSettings))}
_OF_SPACE = {"space", "cnn_operations", "sequence_operations", "seqnn", "nodes", "sequence_nodes"}
_OF_ALPHAS = {
    "alpha_learning_rate",
    "alpha_weight_decay",
    "cost",
    "cost_weight",
    "beta_decay_weight",
    "zero_one_weight",
}
SYSTEMS = (SEARCHED, *DESIGNS, SVM)


def _unused_by_design(design: Design) -> set[str]:
    """The settings of a training that do nothing for a network designed by hand."""
    unused = ["stem_strides", "drop_path"]
    unused += [] if design.convolutions else ["channels", "sequence_rate"]
    unused += [] if design.lstm else ["sequence_width"]
    unused += [] if design.convolutions or design.lstm else ["width", "depth"]
    return {f"training.{name}" for name in unused}


@dataclass(frozen=True)
class FoldSettings:
    """Everything that shapes a unit's result beside its fold and seed."""

    features: FeatureSettings = field(default_factory=FeatureSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    batches: BatchSettings = field(default_factory=BatchSettings)
    system: str = setting(SEARCHED, "the search, or what is trained without one: a network designed by hand, an SVM")

    def __post_init__(self) -> None:
        if self.system not in SYSTEMS:
            known = f"{', '.join(SYSTEMS)}, or {SEARCHED}:<method>, as {PLAIN} (no search)"
            raise EmodartsError(f"system={self.system} is unknown: {known}")
        if self.training.layer is not None and not self.uses(_LAYER):
            raise EmodartsError(
                f"{_LAYER}={self.training.layer} is one of the layers that would be weighed: it needs features.layers="
                "learned or features.layer_weighting=learned, and no search that chooses layers (search.space=frames)"
            )
        if self.training.sequence_rate is not None and not self.features.frame_rate:
            kind = self.features.kind
            raise EmodartsError(f"training.sequence_rate is of frames, and features.kind={kind} has none: set null")
        if self.searches and self.search.chosen_space.reads_frames and not self.features.frame_rate:
            raise EmodartsError(
                f"search.space={self.search.space} is over time alone, and features.kind={self.features.kind} has one "
                "frame a recording: take features of frames, or search.space=compact"
            )

    @property
    def searches(self) -> bool:
        """Whether the network is searched."""
        return self.system == SEARCHED

    def uses(self, name: str) -> bool:
        """Whether a setting (`search.nodes`) changes what the system does.

        Only a search has those of `search`, an architecture that is drawn or fixed those of the network alone; a
        network designed by hand has those of its parts; an SVM has its penalty.
        """
        if name == _LAYER:
            chosen_by_search = self.searches and self.search.chosen_space.reads_frames
            return self.features.learned_layers and not chosen_by_search
        if name in _OVER_TIME and not self.features.frame_rate:
            return False
        if self.system == SVM or name == _PENALTY:
            return self.system == SVM and name == _PENALTY
        if not name.startswith("search."):
            return self.searches or name not in _unused_by_design(DESIGNS[self.system])
        if not self.searches:
            return False
        own, method = name.partition(".")[2], self.search.method
        if method in ("random_architecture", "fixed", "sampler"):
            of_space = method == "sampler" and own in _OF_SPACE  # the study's dimensions follow from these
            drawn = name in _DRAWN and own != "dropout" and not of_space
            return drawn and getattr(self.training, own, None) is None
        if method in ("random_search", "evolution"):
            return own not in _OF_A_SUPERNET
        return own not in {"frozen": _OF_ALPHAS, "spos": _OF_ALPHAS | _OF_ALPHA_SEARCH}.get(method, set())

    def value_of(self, name: str) -> Any:
        """The value of a setting (`training.depth`), what it comes to where that is null and follows from another."""
        group, _, own = name.partition(".")
        value = getattr(getattr(self, group), own)
        if value is None and name == "training.depth":
            return self.search.cells if self.searches else DEPTH
        if value is None and name in ("training.channels", "training.sequence_width", "training.stem_strides"):
            return getattr(self.search, own)
        return self.search.warmup if name == "search.warmup_epochs" else value


def subsample_name(fold: Fold, settings: FoldSettings) -> str | None:
    """The name of the part of train that a search sees, `size@seed:hash of the ids`; None: all of it, or no search."""
    s = settings.search
    return subsample(fold, s.subsample, s.subsample_seed).name if settings.searches and s.subsample else None
