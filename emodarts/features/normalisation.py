"""Normalisation: whose statistics the frames of an utterance are standardised by (`features.normalisation`).

Those of the fold's train part, of the speaker's own recordings in the same role of the fold, or of the recording
itself. Labels and recordings of other roles never enter, but for the train part, which every network knows.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emodarts.features.settings import BY_TRAIN, BY_UTTERANCE, enrolment_size
from emodarts.features.store.joined import AnyStore
from emodarts.seeds import derive_seed

_CHUNK = 1 << 21  # values that `_frame_sums` holds in float64 at once: 16 MB
# A deviation of few frames is no estimate, and a value that stands still in one recording moves in the next.
_FEW_FRAMES = 10
_SMALLEST_FRACTION = 0.1  # of the train part's deviation


@dataclass(frozen=True)
class Standardiser:
    """Mean and standard deviation `(channels * bins,)` that all frames are standardised by."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def fit(cls, store: AnyStore, utterances: Sequence[str]) -> "Standardiser":
        """Statistics over all frames of the given utterances as recorded (variant 0); their order does not count."""
        frames, sums, squares = _frame_sums(store, np.sort(store.positions(utterances)))
        mean, deviation = _mean_and_deviation(frames, sums, squares)
        return cls(mean.float(), deviation.float())

    def statistics(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Mean and deviation, which broadcast to `(rows, time, channels * bins)`, for the store's positions `rows`."""
        return self.mean, self.deviation


@dataclass(frozen=True)
class GroupStandardiser:
    """As Standardiser, by group: `means` and `deviations (groups, channels * bins)`, such as a row a speaker.

    `groups` is the row of each of the store's positions `rows`, which are sorted.
    """

    means: Tensor
    deviations: Tensor
    rows: NDArray[np.int64]
    groups: NDArray[np.int64]

    def statistics(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Mean and deviation `(rows, 1, channels * bins)` of utterances at the store's positions `rows`."""
        groups = torch.from_numpy(self.groups[np.searchsorted(self.rows, rows)])
        return self.means[groups][:, None], self.deviations[groups][:, None]


AnyStandardiser = Standardiser | GroupStandardiser


def standardise_(frames: Tensor, standardiser: AnyStandardiser, rows: NDArray[np.int64]) -> Tensor:
    """Frames `(rows, time, channels * bins)` less their mean, over their deviation: in place, and returned."""
    mean, deviation = standardiser.statistics(rows)
    return frames.sub_(mean.to(frames.device)).div_(deviation.to(frames.device))


@dataclass(frozen=True)
class Normaliser:
    """The standardisers of utterances by a rule of `features.normalisation`.

    `roles`: the utterances of each role. `train` holds the train part's statistics: the rule `train`, and for unknown
    speakers and few frames the other rules too. Statistics are taken when a part is first needed.
    """

    store: AnyStore
    rule: str
    roles: Mapping[str, Sequence[str]]
    speakers: Mapping[str, str | None]
    train: Standardiser
    _fitted: dict[tuple[str, str], Standardiser] = field(default_factory=dict, repr=False, compare=False)

    def standardiser(self, utterances: Sequence[str]) -> AnyStandardiser:
        """That of some utterances of these roles. Raises EmodartsError for one without features."""
        if self.rule == BY_TRAIN:
            return self.train
        keys = [self._group(utterance) for utterance in utterances]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        fitted = [self._fit(key) for key in numbers]
        rows, groups = self.store.positions(utterances), np.array([numbers[key] for key in keys], np.int64)
        order = np.argsort(rows)
        means, deviations = ([getattr(s, name) for s in fitted] for name in ("mean", "deviation"))
        return GroupStandardiser(torch.stack(means), torch.stack(deviations), rows[order], groups[order])

    @cached_property
    def _role_of(self) -> dict[str, str]:
        return {utterance: role for role, ids in self.roles.items() for utterance in ids}

    @cached_property
    def _recordings(self) -> dict[tuple[str, str], list[str]]:
        """Role and speaker -> the speaker's recordings in this role, sorted."""
        recordings = defaultdict(list)
        for utterance, role in sorted(self._role_of.items()):
            if (speaker := self.speakers.get(utterance)) is not None:
                recordings[role, speaker].append(utterance)
        return dict(recordings)

    def _group(self, utterance: str) -> tuple[str, str]:
        """Role and speaker, or nothing and the utterance; two times nothing for an unknown speaker."""
        if self.rule == BY_UTTERANCE:
            return "", utterance
        speaker = self.speakers.get(utterance)
        return ("", "") if speaker is None else (self._role_of[utterance], speaker)

    def _fit(self, group: tuple[str, str]) -> Standardiser:
        if group == ("", ""):
            return self.train
        if group not in self._fitted:
            utterances = [group[1]] if self.rule == BY_UTTERANCE else self._enrolled(*group)
            sums = _frame_sums(self.store, np.sort(self.store.positions(utterances)))
            self._fitted[group] = Standardiser(*own_statistics(*sums, self.train))
        return self._fitted[group]

    def _enrolled(self, role: str, speaker: str) -> list[str]:
        """The recordings that a speaker's statistics are taken from; speakers of the train part have all of theirs."""
        recordings = self._recordings[role, speaker]
        return recordings if role == "train" else enrolled_recordings(recordings, speaker, enrolment_size(self.rule))


def enrolled_recordings(recordings: Sequence[str], speaker: str, size: int | None) -> list[str]:
    """`size` of a speaker's recordings (None: all), drawn by the speaker's name and the size alone, whatever labels."""
    ordered = sorted(recordings)
    if size is None or size >= len(ordered):
        return ordered
    chosen = np.random.default_rng(derive_seed("enrolment", speaker, size)).permutation(len(ordered))[:size]
    return [ordered[number] for number in chosen.tolist()]


def own_statistics(frames: Tensor, sums: Tensor, squares: Tensor, train: Standardiser) -> tuple[Tensor, Tensor]:
    """Mean and deviation `(..., values)` of a speaker or a recording.

    From the number of `frames (..., 1)`, and the float64 `sums` and `squares (..., values)` of their values. A
    deviation is a tenth of the train part's at least, and the train part's own where there are fewer than 10 frames;
    one frame alone, which less its own mean would be nothing, has the train part's mean, too.
    """
    mean, deviation = (x.float() for x in _mean_and_deviation(frames.clamp_min(1), sums, squares))
    deviation = torch.maximum(deviation, _SMALLEST_FRACTION * train.deviation)
    return torch.where(frames < 2, train.mean, mean), torch.where(frames < _FEW_FRAMES, train.deviation, deviation)


def _mean_and_deviation(frames: Tensor, sums: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    mean = sums / frames
    return mean, (squares / frames - mean.square()).clamp_min(1e-8).sqrt()


def _frame_sums(store: AnyStore, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
    """How many frames these utterances have `(1,)`, and the sums of their values and squares `(channels * bins,)`."""
    width = store.channels * store.bins
    total, squares = (torch.zeros(width, dtype=torch.float64) for _ in range(2))
    count = 0
    for frames in _read_chunks(store, rows, max(1, _CHUNK // width)):
        values = torch.from_numpy(frames).double()
        count += len(values)
        total += values.sum(0)
        squares += values.square_().sum(0)
    return torch.tensor([count]), total, squares


def _read_chunks(store: AnyStore, rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.float16]]:
    """The frames of these utterances, one after the other, at most `size` at once."""
    buffer = np.empty((size, store.channels * store.bins), np.float16)
    filled = 0
    for row in rows.tolist():
        frames = store.read(row)
        while len(frames):
            taken = min(len(frames), size - filled)
            buffer[filled : filled + taken] = frames[:taken]
            frames, filled = frames[taken:], filled + taken
            if filled == size:
                yield buffer
                filled = 0
    yield buffer[:filled]
