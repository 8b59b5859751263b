"""How far an epoch of training has come: what a checkpoint within it holds beside weights, optimisers and chance."""

import time
from dataclasses import asdict, dataclass, field

from emodarts.checkpoints import Checkpoint
from emodarts.features.batches import EpochPosition

StepLosses = tuple[float, float | None]  # of the weights and of the alphas, None where these do not move


@dataclass
class EpochProgress:
    """The losses of the steps so far, and where the epoch's batches are, by the name of the part that they are of.

    `seconds`: what the epoch had taken before it was stopped.
    """

    losses: list[StepLosses] = field(default_factory=list)
    positions: dict[str, EpochPosition] = field(default_factory=dict)
    seconds: float = 0.0
    start: float = field(default_factory=time.perf_counter)

    def begin(self) -> float:
        """When the epoch began (s of `time.perf_counter`), had it not been stopped in between."""
        self.start = time.perf_counter() - self.seconds
        return self.start

    def position(self, part: str) -> EpochPosition:
        """Where the batches of a part are, which moves on with them."""
        return self.positions.setdefault(part, EpochPosition())

    def to_checkpoint(self) -> Checkpoint:
        """All of it; without steps, that of an epoch which is to begin."""
        positions = {part: asdict(position) for part, position in self.positions.items()}
        seconds = time.perf_counter() - self.start if self.losses else 0.0
        return Checkpoint({}, {"progress": {"losses": self.losses, "positions": positions, "seconds": seconds}})

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "EpochProgress":
        """The reverse of `to_checkpoint`."""
        content = checkpoint.state["progress"]
        losses = [(weight_loss, alpha_loss) for weight_loss, alpha_loss in content["losses"]]
        positions = {part: EpochPosition(**position) for part, position in content["positions"].items()}
        return cls(losses, positions, content["seconds"])
