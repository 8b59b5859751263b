"""What the network of a configuration may cost: `parameters<=100000`. One that costs more is never chosen."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emodarts.errors import EmodartsError

_QUANTITIES = ("parameters", "macs")  # of the network, columns of `folds`
_SIGNS = {"<=": 1, ">=": -1}
_FORM = re.compile(rf"({'|'.join(_QUANTITIES)})\s*(<=|>=)\s*(\d+(?:\.\d+)?(?:e\d+)?)", re.IGNORECASE)
CONSTRAINT_TEXT = f"each {' or '.join(_QUANTITIES)}, then <= or >=, then a number above 0 (100000, 2.5e6)"


@dataclass(frozen=True)
class Constraint:
    """`quantity` (of a network) at most, or at least, `bound`."""

    quantity: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> "Constraint":
        """Read `parameters<=100000`. Raises EmodartsError for anything else."""
        match = _FORM.fullmatch(text.strip())
        if match is None or not float(match[3]) > 0:
            raise EmodartsError(f"sweep.constraints: {text} cannot be read: {CONSTRAINT_TEXT}")
        return cls(match[1].lower(), match[2], float(match[3]))

    def __str__(self) -> str:
        return f"{self.quantity}{self.sign}{self.bound:g}"

    def violation(self, costs: Mapping[str, float]) -> float:
        """How far a network lies beyond the bound, as a part of it; 0 or less: it keeps to it."""
        return _SIGNS[self.sign] * (costs[self.quantity] - self.bound) / self.bound


def is_constraint(text: str) -> bool:
    """Whether a text can be read as a constraint."""
    try:
        Constraint.parse(text)
    except EmodartsError:
        return False
    return True


def keeps_to(constraints: Sequence[Constraint], costs: Mapping[str, float]) -> bool:
    """Whether a network of these costs keeps to all constraints."""
    return all(constraint.violation(costs) <= 0 for constraint in constraints)
