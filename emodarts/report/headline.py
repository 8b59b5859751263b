"""The headline: every system under a condition with its interval, and its difference from the first, corrected."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from emodarts.errors import EmodartsError
from emodarts.report.conditions import Condition, Contender
from emodarts.report.sheets import Cell, Column, Sheet, Tone, slug
from emodarts.results.statistics import (
    Difference,
    Interval,
    Spread,
    Tally,
    chance,
    dev_test_drop,
    difference,
    difference_over_seeds,
    figures,
    holm,
    interval,
    majority,
    spread,
)

SIGNIFICANT = 0.05
FEW_SPEAKERS = 8
ENOUGH_SEEDS = 3  # for a claim about methods, rather than about the networks as they were trained
_HEAD = (
    Column("system"),
    Column("UAR [95 %]", "figure"),
    Column("WAR", "figure"),
    Column("macro-F1", "figure"),
    Column("UAR, mean over folds", "figure"),
    Column("sd over folds", "figure"),
    Column("difference [95 %]", "difference"),
    Column("p (Holm)", "p"),
    Column("verdict"),
    Column("seeds", "count"),
    Column("parameters", "count"),
)


@dataclass(frozen=True)
class Standing:
    """A contender's figures. `from_first` and `p` (Holm's over the table) are None for the first itself."""

    contender: Contender
    uar: Interval
    war: float
    macro_f1: float
    over_folds: Spread
    from_first: Difference | None
    p: float | None

    @property
    def verdict(self) -> str:
        """better, worse or no difference shown, of this one against the first."""
        if self.from_first is None or self.p is None:
            return "reference"
        if self.p != self.p:
            return "cannot be told"
        if self.p > SIGNIFICANT:
            return "no difference shown"
        return "better" if self.from_first.value > 0 else "worse"


@dataclass(frozen=True)
class Headline:
    """All that is said of a condition."""

    condition: Condition
    standings: tuple[Standing, ...]

    @property
    def seeds(self) -> int:
        """The fewest seeds of a system."""
        return min(len(s.contender.tallies) for s in self.standings)

    @property
    def speakers(self) -> int:
        """Test speakers."""
        return len(self.standings[0].contender.tallies[0].speakers)

    @property
    def utterances(self) -> int:
        """Test utterances with a label."""
        return round(float(self.standings[0].contender.tallies[0].counts.sum()))


def headline(condition: Condition) -> Headline:
    """Intervals, and differences from the first contender, paired by speaker."""
    first, *others = condition.contenders
    differences = [_difference(other, first) for other in others]
    corrected = holm([d.p for d in differences])
    compared = [(None, None), *zip(differences, corrected, strict=True)]
    return Headline(
        condition, tuple(_standing(c, *pair) for c, pair in zip(condition.contenders, compared, strict=True))
    )


def headline_sheet(made: Headline) -> Sheet:
    """The table of systems, with the rows of chance and majority."""
    rows: list[tuple[Cell, ...]] = [_row(standing) for standing in made.standings]
    tally = made.standings[0].contender.tallies[0]
    for name, guessed in (("chance", chance(tally)), ("majority class of the test", majority(tally))):
        found = figures(guessed.confusion())
        rows.append((name, found.uar, found.war, found.macro_f1, None, None, None, None, "", None, None))
    plain: list[Tone] = [""] * (len(made.standings) - 1)
    tones: tuple[Tone, ...] = ("strong", *plain, "soft", "soft")
    condition = made.condition
    name = slug(f"systems {condition.protocol} {condition.test_set} {_mark(condition)}")
    return Sheet(name, condition.title, _HEAD, tuple(rows), tuple(_notes(made)), tones)


def worth_sheet(made: Headline) -> Sheet:
    """What selection and seeds are worth: dev beside test, the spread over seeds, differences with the seeds' luck."""
    first = made.standings[0].contender
    rows = []
    for standing in made.standings:
        mine = standing.contender
        dev, test = mine.entry.dev_tallies, mine.tallies
        drop = dev_test_drop(dev, test) if dev else None
        over = spread([t.uar() for t in test])
        wide = (
            difference_over_seeds(test, first.tallies)
            if mine is not first and min(len(test), len(first.tallies)) > 1
            else None
        )
        rows.append(
            (
                mine.name,
                mean(t.uar() for t in dev) if dev else None,
                standing.uar.value,
                drop,
                over.deviation,
                wide,
                None if wide is None else wide.p,
                len(test),
            )
        )
    columns = (
        Column("system"),
        Column("dev UAR, pooled", "figure"),
        Column("test UAR, pooled", "figure"),
        Column("dev − test [95 %]", "difference"),
        Column("sd over seeds", "figure"),
        Column("difference with the luck of seeds [95 %]", "difference"),
        Column("p", "p"),
        Column("seeds", "count"),
    )
    condition = made.condition
    name = slug(f"dev and seeds {condition.protocol} {condition.test_set} {_mark(condition)}")
    notes = ("Dev chose the configuration and the epoch, so its figure is too good; test speakers may be harder, too.",)
    return Sheet(name, f"Dev beside test, and seeds: {condition.title}", columns, tuple(rows), notes)


def over_speakers(tallies: Sequence[Tally]) -> Interval:
    """The UAR with its interval, which ends where the UAR does; without limits where there is one speaker."""
    found = interval(tallies)
    return Interval(found.value, float(np.clip(found.low, 0, 1)), float(np.clip(found.high, 0, 1)))


def _standing(contender: Contender, from_first: Difference | None, p: float | None) -> Standing:
    each = [figures(t.confusion()) for t in contender.tallies]
    by_fold = _folds(contender)
    return Standing(
        contender,
        over_speakers(contender.tallies),
        mean(f.war for f in each),
        mean(f.macro_f1 for f in each),
        spread(by_fold),
        from_first,
        p,
    )


def _folds(contender: Contender) -> list[float]:
    found: dict[int, list[float]] = {}
    for row in contender.entry.rows_of(contender.part):
        found.setdefault(row["fold"], []).append(row["uar"])
    return [mean(values) for _, values in sorted(found.items())]


def _difference(ours: Contender, first: Contender) -> Difference:
    try:
        return difference(ours.tallies, first.tallies)
    except EmodartsError as error:
        raise EmodartsError(
            f"{ours.name} and {first.name} share the fold hashes of {ours.entry.protocol} and not their predictions "
            f"({error}): files of a sweep are missing or were changed"
        ) from error


def _row(s: Standing) -> tuple[Cell, ...]:
    return (
        s.contender.name,
        s.uar,
        s.war,
        s.macro_f1,
        s.over_folds.mean,
        s.over_folds.deviation,
        s.from_first,
        s.p,
        s.verdict,
        len(s.contender.tallies),
        s.contender.parameters,
    )


def _mark(condition: Condition) -> str:
    """What tells conditions of one protocol and test set apart in a file's name."""
    corpora = "" if len(condition.train_corpora) < 2 else "+".join(condition.train_corpora)
    digest = hashlib.sha256(repr((condition.hashes, condition.classes)).encode()).hexdigest()[:6]
    return f"{corpora} {digest} {condition.epoch_rule} {'shared' if condition.shared else ''}"


def _notes(made: Headline) -> list[str]:
    first = made.condition.contenders[0].name
    notes = [
        f"{made.utterances:,} test utterances of {made.speakers} speakers, all folds pooled; the figure of each seed, "
        "then the mean. Intervals are over speakers."
    ]
    if len(made.standings) > 1:
        notes.append(
            f"Differences are from {first}, paired by speaker; p is corrected for the comparisons of this table "
            "(Holm), the differences' intervals are not."
        )
        if made.seeds < ENOUGH_SEEDS:
            notes.append(
                f"With fewer than {ENOUGH_SEEDS} seeds a verdict is about these networks as they were trained, not "
                "about methods."
            )
    if 1 < made.speakers < FEW_SPEAKERS:
        notes.append(f"{made.speakers} speakers are few: the interval is wide, and rests on the t distribution.")
    if made.speakers == 1:
        notes.append("One speaker: there is no interval, and no difference can be told.")
    if made.condition.shared:
        notes.append("The selection saw these speakers in other folds (study_per=sweep): no figure for a comparison.")
    if made.condition.protocol_caveat:
        notes.append(f"The protocol is weaker than it should be: {made.condition.protocol_caveat}.")
    return notes
