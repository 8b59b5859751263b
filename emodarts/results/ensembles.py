"""Ensembles: the mean of the probabilities of a study's best trials on dev, from the tables alone, without a training.

The members are those of the first seed's dev figures (`winners.rank_on_dev`): no test figure, and no other fold's, has
a part in them. Seed s of an ensemble is its members at seed s, where all of them were run with it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from emodarts import metrics
from emodarts.errors import EmodartsError
from emodarts.records import Evaluation, full_name
from emodarts.results.reader import SweepTables
from emodarts.results.schemas import TABLES
from emodarts.results.winners import rank_configurations
from emodarts.results.writer import compute_figures

DEFAULT_TOP = 5
JOINED_BY = "&"  # between the systems of an ensemble over several
TrialKey = tuple[str, str, int]  # system, study, trial
# What the members' predictions have in common, beside the utterances.
_SHARED = ["seed", "fold", "fold_hash", "epoch_rule", "role", "test_set", "normalisation", "condition"]
_MEMBER = ["system", "study", "trial"]
_PREDICTED = ["utterance", "speaker", "label", "probabilities"]
_SUMS = ("parameters", "macs", "search_seconds", "train_seconds")


@dataclass(frozen=True)
class Ensemble:
    """The members of an ensemble in one study; of each of its systems the best on dev first."""

    system: str
    study: str
    members: tuple[TrialKey, ...]


@dataclass(frozen=True)
class EnsembleEvaluation:
    """An ensemble on one part with one seed. `member_rows`: what `folds` has of each member there;
    `member_probabilities (members, utterances, classes)`; `evaluation` has their mean.
    """

    ensemble: Ensemble
    member_rows: tuple[dict[str, Any], ...]
    member_probabilities: NDArray[np.float32]
    evaluation: Evaluation

    @cached_property
    def row(self) -> dict[str, Any]:
        """Its row of the table `ensembles`."""
        first, e, rows = self.member_rows[0], self.evaluation, self.member_rows
        labelled = [row for row, label in enumerate(e.labels) if label is not None]
        labels = np.array([first["classes"].index(e.labels[row]) for row in labelled], np.int64)
        members_ece = [metrics.expected_calibration_error(labels, p) for p in self.member_probabilities[:, labelled]]
        figures = compute_figures(e, tuple(first["classes"]))
        costs = {name: sum(row[name] or 0 for row in rows) for name in _SUMS}
        return {
            **{name: first[name] for name in TABLES["folds"].names},
            **figures,
            **costs,
            "system": self.ensemble.system,
            "trial": None,
            "place": None,
            "peak_memory_mb": max(row["peak_memory_mb"] or 0 for row in rows),
            "members": [f"{system}/{trial}" for system, _, trial in self.ensemble.members],
            "n_members": len(self.ensemble.members),
            "agreement": _known(metrics.mean_pairwise_agreement(self.member_probabilities.argmax(2))),
            "ece": _known(metrics.expected_calibration_error(labels, e.probabilities[labelled])),
            "members_uar": float(np.mean([row["uar"] for row in rows])) if labelled else None,
            "members_ece": _known(float(np.mean(members_ece))),
        }


def ensemble_name(systems: Sequence[str], top: int) -> str:
    """`emodarts+top5`; over several systems `emodarts&cnn_lstm_attention+top5`."""
    return f"{JOINED_BY.join(systems)}+top{top}"


def choose_ensembles(ranking: pa.Table, top: int, systems: Sequence[str] = ()) -> list[Ensemble]:
    """The ensembles of each system that has a study with two measured configurations or more, and one of `systems`.

    `ranking`: see `rank_configurations`. The `top` best of each study, or all where there are fewer; an ensemble of
    several systems has the members of each of theirs, in the studies that all of them have. None for a `top` of 0.
    """
    measured: dict[tuple[str, str], list[TrialKey]] = {}
    systems = [full_name(system) for system in systems]
    for row in ranking.filter(pc.is_finite(ranking["value"])).to_pylist() if top else []:
        measured.setdefault((row["system"], row["study"]), []).append((row["system"], row["study"], row["trial"]))
    several = {system for (system, _), trials in measured.items() if len(trials) > 1}
    best = {key: tuple(trials[:top]) for key, trials in measured.items()}
    own = [Ensemble(ensemble_name([s], top), study, m) for (s, study), m in sorted(best.items()) if s in several]
    studies = [study for study in sorted({study for _, study in best}) if all((s, study) in best for s in systems)]
    name = ensemble_name(systems, top)
    joint = [Ensemble(name, study, tuple(m for s in systems for m in best[s, study])) for study in studies]
    return own + joint if systems else own


def evaluate_ensembles(
    sweep: SweepTables, top: int, systems: Sequence[str] = (), ranking: pa.Table | None = None
) -> Iterator[EnsembleEvaluation]:
    """Each ensemble of `choose_ensembles` on each part with each seed that all its members have.

    Raises EmodartsError where the members' predictions on a part are of different utterances.
    """
    for ensemble in choose_ensembles(rank_configurations(sweep) if ranking is None else ranking, top, systems):
        yield from evaluate_ensemble(sweep, ensemble)


def evaluate_ensemble(sweep: SweepTables, ensemble: Ensemble) -> Iterator[EnsembleEvaluation]:
    """An ensemble on each part with each seed that all its members have. Raises EmodartsError as the above."""
    rows = _read_members(sweep, "folds", ensemble, None)
    predictions = _read_members(sweep, "predictions", ensemble, [*_SHARED, *_MEMBER, *_PREDICTED])
    for part in sorted(predictions, key=str):
        if all(m in predictions[part] and m in rows.get(part, {}) for m in ensemble.members):
            of_members = tuple(rows[part][m].to_pylist()[0] for m in ensemble.members)
            yield _evaluate(sweep.name, ensemble, of_members, [predictions[part][m] for m in ensemble.members])


def stored_ensembles(sweep: SweepTables) -> tuple[int, tuple[str, ...]] | None:
    """`top`, and the systems of an ensemble over several, of the table `ensembles`; None where it has no rows."""
    names = sorted(set(sweep.table("ensembles", ["system"])["system"].to_pylist()))
    parts = [match.groups() for name in names if (match := re.fullmatch(r"(.+)\+top(\d+)", name))]
    joint = next((tuple(systems.split(JOINED_BY)) for systems, _ in parts if JOINED_BY in systems), ())
    return (int(parts[0][1]), joint) if parts else None


def _read_members(
    sweep: SweepTables, name: str, ensemble: Ensemble, columns: list[str] | None
) -> dict[tuple[Any, ...], dict[TrialKey, pa.Table]]:
    """The rows of the final networks that predict classes: part -> member -> rows."""
    where = (pc.field("stage") == "final") & pc.field("target").is_null() & pc.field("condition").is_null()
    divided: dict[tuple[Any, ...], dict[TrialKey, pa.Table]] = {}
    for piece in sweep.read_trials(name, set(ensemble.members), columns, where):
        keys = [*_SHARED, *_MEMBER]
        numbered = piece.select(keys).append_column("row", pa.array(np.arange(len(piece))))
        groups = numbered.group_by(keys, use_threads=False).aggregate([("row", "list")])
        for *key, rows in zip(*(groups[column].to_pylist() for column in [*keys, "row_list"]), strict=True):
            divided.setdefault(tuple(key[:-3]), {})[tuple(key[-3:])] = piece.take(sorted(rows))
    return divided


def _evaluate(
    sweep: str, ensemble: Ensemble, rows: tuple[dict[str, Any], ...], members: Sequence[pa.Table]
) -> EnsembleEvaluation:
    ordered = [table.sort_by("utterance") for table in members]
    first = ordered[0]
    for table, key in zip(ordered, ensemble.members, strict=True):
        if not table["utterance"].equals(first["utterance"]) or not table["label"].equals(first["label"]):
            raise EmodartsError(
                f"sweep '{sweep}': trial {key[2]} of {key[0]}, {key[1]}, has predictions of other utterances than the "
                f"other members of {ensemble.system}: files of the sweep are missing or were changed; restore them"
            )
    shape = (len(ordered), len(first), len(rows[0]["classes"]))
    flat = [np.asarray(pc.list_flatten(table["probabilities"])) for table in ordered]
    probabilities = np.stack(flat).reshape(shape)
    mean = probabilities.mean(0, dtype=np.float64).astype(np.float32)
    about = {name: rows[0][name] for name in ("stage", "epoch_rule", "role", "test_set", "normalisation")}
    utterances, speakers, labels = (tuple(first[name].to_pylist()) for name in ("utterance", "speaker", "label"))
    evaluation = Evaluation(**about, utterances=utterances, speakers=speakers, labels=labels, probabilities=mean)
    return EnsembleEvaluation(ensemble, rows, probabilities, evaluation)


def _known(value: float) -> float | None:
    """None for NaN, as tables have it."""
    return None if np.isnan(value) else float(value)
