"""What the decoded recordings say: equal ones, silent, clipped and shifted ones, and the mix of formats."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emodarts.audit.data import AuditData, examples
from emodarts.audit.model import Oddity, Reason, Recordings, SameAudio
from emodarts.corpora.protocols.folds import Fold

CLIPPED = 1e-3  # share of samples at full scale
SHIFTED = 1e-3  # DC offset, of full scale: 33 steps of 16-bit audio
PADDED = 0.1  # s of exact zeros at one end
QUIET = 1e-3  # peak, of full scale: 60 dB below
SHORT, LONG = 0.25, 60.0  # s


def summarise_recordings(data: AuditData, utterances: pa.Table, folds: Sequence[Fold]) -> Recordings:
    """All that the measures and the headers say; `folds` show in which roles equal recordings stand."""
    missing = [data.ids[row] for row in np.flatnonzero(~data.measured)]
    not_measured = Reason("not decoded, or no part of what was measured", len(missing), examples(missing))
    return Recordings(
        int(data.measured.sum()),
        not_measured if missing else None,
        _mix(utterances["sample_rate"]),
        _mix(utterances["channels"]),
        tuple(oddity for oddity in _oddities(data) if oddity.count),
        _duplicates(data, folds),
    )


def _mix(column: pa.ChunkedArray) -> dict[int, int]:
    return {
        row["values"]: row["counts"] for row in sorted(column.value_counts().to_pylist(), key=lambda r: -r["counts"])
    }


def _oddities(data: AuditData) -> list[Oddity]:
    measures = data.measures
    silent = data.silent()
    zeros = np.maximum(measures["leading_zeros"], measures["trailing_zeros"])
    return [
        _oddity("silent", silent, data),
        _oddity("very quiet", ~silent & (measures["peak"] < QUIET), data),
        _oddity("clipped", measures["clipped"] >= CLIPPED, data),
        _oddity("DC offset", ~silent & (np.abs(measures["dc"]) >= SHIFTED), data),
        _oddity("zeros at an end", ~silent & (zeros >= PADDED), data),
        _oddity("short", data.seconds < SHORT, data),
        _oddity("long", data.seconds > LONG, data),
    ]


def _oddity(name: str, chosen: NDArray[np.bool_], data: AuditData) -> Oddity:
    rows = np.flatnonzero(chosen).tolist()
    classes = Counter(data.classes[row] or "no class" for row in rows)
    return Oddity(name, len(rows), dict(sorted(classes.items())), examples([data.ids[row] for row in rows]))


def _duplicates(data: AuditData, folds: Sequence[Fold]) -> tuple[SameAudio, ...]:
    """Groups of utterances with equal audio, those with a leak first. Silent ones say nothing and are left out."""
    silent = data.silent()
    groups: dict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(data.hashes):
        if value is not None and not silent[row]:
            groups[value].append(row)
    groups = {value: rows for value, rows in groups.items() if len(rows) > 1}
    roles = [fold.roles if groups else {} for fold in folds]
    same_audio = [_same_audio([data.ids[row] for row in rows], data, folds, roles) for rows in groups.values()]
    return tuple(sorted(same_audio, key=lambda same: (not same.leaks, not same.folds, same.utterances)))


def _same_audio(ids: list[str], data: AuditData, folds: Sequence[Fold], roles: list[dict[str, str]]) -> SameAudio:
    crossing = []
    for fold, role_of in zip(folds, roles, strict=True):
        present = {role_of[utterance] for utterance in ids if utterance in role_of}
        if len(present) > 1:
            crossing.append((fold.index, tuple(role for role in ("train", "dev", "test") if role in present)))
    classes = {data.classes[data.place[utterance]] or "no class" for utterance in ids}
    return SameAudio(tuple(sorted(ids)), tuple(sorted(classes)), tuple(crossing))
