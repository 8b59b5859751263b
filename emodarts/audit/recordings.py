"""What the decoded recordings say: equal ones, silent, clipped and shifted ones, and the mix of formats."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emodarts.audit.model import Oddity, Reason, Recordings, SameAudio
from emodarts.audit.view import View, examples
from emodarts.corpora.protocols.folds import Fold

CLIPPED = 1e-3  # share of samples at full scale
SHIFTED = 1e-3  # DC offset, of full scale: 33 steps of 16-bit audio
PADDED = 0.1  # s of exact zeros at one end
QUIET = 1e-3  # peak, of full scale: 60 dB below
SHORT, LONG = 0.25, 60.0  # s


def recordings(view: View, utterances: pa.Table, folds: Sequence[Fold]) -> Recordings:
    """All that the measures and the headers say; `folds` show in which roles equal recordings stand."""
    missing = [view.ids[row] for row in np.flatnonzero(~view.measured)]
    not_measured = Reason("not decoded, or no part of what was measured", len(missing), examples(missing))
    return Recordings(
        int(view.measured.sum()),
        not_measured if missing else None,
        _mix(utterances["sample_rate"]),
        _mix(utterances["channels"]),
        tuple(oddity for oddity in _oddities(view) if oddity.count),
        _duplicates(view, folds),
    )


def _mix(column: pa.ChunkedArray) -> dict[int, int]:
    return {
        row["values"]: row["counts"] for row in sorted(column.value_counts().to_pylist(), key=lambda r: -r["counts"])
    }


def _oddities(view: View) -> list[Oddity]:
    measures = view.measures
    silent = view.silent()
    zeros = np.maximum(measures["leading_zeros"], measures["trailing_zeros"])
    return [
        _oddity("silent", silent, view),
        _oddity("very quiet", ~silent & (measures["peak"] < QUIET), view),
        _oddity("clipped", measures["clipped"] >= CLIPPED, view),
        _oddity("DC offset", ~silent & (np.abs(measures["dc"]) >= SHIFTED), view),
        _oddity("zeros at an end", ~silent & (zeros >= PADDED), view),
        _oddity("short", view.seconds < SHORT, view),
        _oddity("long", view.seconds > LONG, view),
    ]


def _oddity(name: str, chosen: NDArray[np.bool_], view: View) -> Oddity:
    rows = np.flatnonzero(chosen).tolist()
    classes = Counter(view.classes[row] or "no class" for row in rows)
    return Oddity(name, len(rows), dict(sorted(classes.items())), examples([view.ids[row] for row in rows]))


def _duplicates(view: View, folds: Sequence[Fold]) -> tuple[SameAudio, ...]:
    """Groups of utterances with equal audio, those with a leak first. Silent ones say nothing and are left out."""
    silent = view.silent()
    groups: dict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(view.hashes):
        if value is not None and not silent[row]:
            groups[value].append(row)
    groups = {value: rows for value, rows in groups.items() if len(rows) > 1}
    interesting = {view.ids[row] for rows in groups.values() for row in rows}
    roles = [_roles(fold, interesting) for fold in folds]
    found = [_same_audio([view.ids[row] for row in rows], view, folds, roles) for rows in groups.values()]
    return tuple(sorted(found, key=lambda same: (not same.leaks, not same.folds, same.utterances)))


def _roles(fold: Fold, wanted: set[str]) -> dict[str, str]:
    parts = [("train", fold.train), ("dev", fold.dev), *(("test", ids) for ids in fold.tests.values())]
    return {utterance: role for role, ids in parts for utterance in ids if utterance in wanted}


def _same_audio(ids: list[str], view: View, folds: Sequence[Fold], roles: list[dict[str, str]]) -> SameAudio:
    crossing = []
    for fold, role_of in zip(folds, roles, strict=True):
        present = {role_of[utterance] for utterance in ids if utterance in role_of}
        if len(present) > 1:
            crossing.append((fold.index, tuple(role for role in ("train", "dev", "test") if role in present)))
    classes = {view.classes[view.place[utterance]] or "no class" for utterance in ids}
    return SameAudio(tuple(sorted(ids)), tuple(sorted(classes)), tuple(crossing))
