"""What a table of comparisons may say: better, worse, as good, or no difference shown; of methods or of networks."""

from collections.abc import Sequence
from dataclasses import dataclass

from emodarts.results.statistics.comparisons import MARGIN, Difference, difference, difference_over_seeds, holm
from emodarts.results.statistics.tallies import Metric, Tally

SIGNIFICANT = 0.05
ENOUGH_SEEDS = 3  # of both systems, for a verdict about methods rather than about the networks as they were trained


@dataclass(frozen=True)
class Verdict:
    """A difference, with Holm's p-values over all comparisons of its table."""

    difference: Difference
    p: float
    p_equivalence: float

    def __str__(self) -> str:
        """In words; "as good" is a test of its own, never the absence of a difference."""
        if self.p != self.p:
            return "cannot be told"
        within = f"within {MARGIN:g}".replace("0.", ".") if self.p_equivalence <= SIGNIFICANT else ""
        if self.p <= SIGNIFICANT:
            words = "better" if self.difference.value > 0 else "worse"
            words += f", but {within}" if within else ""
        else:
            words = f"as good, {within}" if within else ""
        subject = "method" if self.difference.over_seeds else "these networks"
        return f"{subject} {words}" if words else "no difference shown"


def compare_systems(system: Sequence[Tally], reference: Sequence[Tally], metric: Metric = "uar") -> Difference:
    """With enough seeds the difference of methods (`difference_over_seeds`), else that of the networks (`difference`).

    Raises EmodartsError as these do.
    """
    has_seeds = min(len(system), len(reference)) >= ENOUGH_SEEDS
    return (difference_over_seeds if has_seeds else difference)(system, reference, metric)


def judge(differences: Sequence[Difference]) -> list[Verdict]:
    """The verdicts of a table, from all differences in it.

    Each of the two questions, different and as good, is corrected by `holm` over the table.
    """
    p, p_equivalence = holm([d.p for d in differences]), holm([d.p_equivalence for d in differences])
    return [Verdict(*verdict) for verdict in zip(differences, p, p_equivalence, strict=True)]
