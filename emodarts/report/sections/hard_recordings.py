"""Section "Hard recordings and doubtful labels": what no model has right, and what confident learning doubts."""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from emodarts.report.elements import Collapsible, Element, Paragraph, Section
from emodarts.report.predictions import PredictedComparison
from emodarts.report.report_data import ReportData
from emodarts.report.tables import Cell, ReportTable, head
from emodarts.results.ensembles import DEFAULT_TOP
from emodarts.results.statistics import find_label_errors

FEW_MODELS = 3  # of fewer an utterance is not called hard
SHOWN = 30
_TORN = (0.25, 0.75)  # right answers
_CLASS_COLUMNS = head("class | n: count | always right: count | torn: count | never right: count | doubtful: count")
_LABEL_COLUMNS = head(
    "utterance | speaker | label | rather | by: figure | right answers: figure | models: count | p of the label: figure"
)
CSV_COLUMNS = ("utterance", "speaker", "label", "rather", "margin", "right", "models", "reason")


@dataclass(frozen=True)
class HardRecording:
    """An utterance that no model has right, or whose label confident learning doubts.

    `right`: the share of `models` (configurations, seeds and systems) that answer its label; `rather` and `margin`:
    what it more likely is, and by how much, where the label is doubtful.
    """

    utterance: str
    speaker: str
    label: str
    rather: str
    margin: float | None
    right: float
    models: int
    label_probability: float

    @property
    def reason(self) -> str:
        """Why it is in the list."""
        never_right = "never right" if self.right == 0 and self.models >= FEW_MODELS else ""
        return ", ".join(filter(None, (never_right, "doubtful" if self.rather else "")))


@dataclass(frozen=True)
class JudgedRecordings:
    """All labelled test utterances of a comparison with what the models say of them, the most doubtful first."""

    comparison: PredictedComparison
    recordings: tuple[HardRecording, ...]

    @property
    def hard(self) -> list[HardRecording]:
        """Those with a reason to be listed."""
        return [recording for recording in self.recordings if recording.reason]


def judge_recordings(data: ReportData, predicted: Sequence[PredictedComparison]) -> list[JudgedRecordings]:
    """Agreement of all models on each utterance, and the doubtful labels by the mean of the systems' probabilities."""
    judged = []
    for p in predicted:
        answers = _count_right(data, p)
        test, classes = p.systems[0].test, p.comparison.classes
        utterances, labels, probabilities = _mean_probabilities(p)
        speakers = dict(zip(test.utterances, test.speakers, strict=True))
        doubtful = {d.row: d for d in find_label_errors(labels, probabilities)}
        rows = []
        for row, utterance in enumerate(utterances):
            right, models = answers.get(utterance, (0, 0))
            d = doubtful.get(row)
            rather, margin = ("", None) if d is None else (classes[d.suggested], d.margin)
            about = (utterance, speakers[utterance], classes[labels[row]], rather, margin)
            own = float(probabilities[row, labels[row]])
            rows.append(HardRecording(*about, right / models if models else float("nan"), models, own))
        rows.sort(key=lambda r: (-(r.margin or 0), r.right, r.utterance))
        judged.append(JudgedRecordings(p, tuple(rows)))
    return judged


def hard_section(judged: Sequence[JudgedRecordings]) -> Section | None:
    """How many are always, never and sometimes right, and the most doubtful labels; None without predictions."""
    elements: list[Element] = []
    for number, j in enumerate(judged):
        title = j.comparison.comparison.title
        elements += [Paragraph(_in_words(j), "lead"), _classes_table(j, f"hard-{number}", title)]
        doubtful = [r for r in j.recordings if r.rather]
        if doubtful:
            rows = tuple(_label_row(r) for r in doubtful[:SHOWN])
            notes = (
                "By: how much likelier the other class is, mean over systems and seeds. Listen before you believe it: "
                "a system's blind spot looks the same as a wrong label. docs/statistics.md says how many planted "
                "errors are found. `--hard hard.csv` writes all of them.",
            )
            table = ReportTable(f"doubtful-{number}", f"Doubtful labels: {title}", _LABEL_COLUMNS, rows, notes)
            elements.append(Collapsible(f"The {len(rows)} most doubtful labels of {len(doubtful)}", (table,)))
    return Section("Hard recordings and doubtful labels", tuple(elements)) if elements else None


def to_hard_csv(judged: Sequence[JudgedRecordings]) -> str:
    """All hard recordings as CSV, each once, the most doubtful first; `corpus.exclude` reads its column utterance."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    seen: set[str] = set()
    for r in (r for j in judged for r in j.hard):
        if r.utterance not in seen:
            seen.add(r.utterance)
            margin = "" if r.margin is None else f"{r.margin:.4f}"
            writer.writerow((r.utterance, r.speaker, r.label, r.rather, margin, f"{r.right:.4f}", r.models, r.reason))
    return sink.getvalue()


def _count_right(data: ReportData, p: PredictedComparison) -> Mapping[str, tuple[int, int]]:
    """Utterance -> how many models answer its label, and how many there are.

    Models are the best five configurations of each study (those of ensembles; without ensembles the winners), each
    with all its seeds.
    """
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    with_members = any(system.is_ensemble for system in data.systems)
    if not with_members:  # the winners' predictions are at hand
        for test in (system.test for system in p.systems):
            right_seeds = (test.probabilities.argmax(2) == test.labels).sum(0)
            for utterance, right in zip(test.utterances, right_seeds.tolist(), strict=True):
                totals[utterance][0] += right
                totals[utterance][1] += len(test.probabilities)
        return {utterance: (right, models) for utterance, (right, models) in totals.items()}
    for system in p.systems:
        results, part = system.system.results, system.system.part
        (sweep,) = (tables for tables in data.results.parts if tables.name == results.sweep)
        trials = {winner.key for winner in results.winners.values()}
        ranks: dict[str, int] = defaultdict(int)
        studies = {winner.study for winner in results.winners.values()}
        for row in data.rankings[results.sweep].select(["system", "study", "trial"]).to_pylist():
            if row["system"] == results.system and row["study"] in studies and ranks[row["study"]] < DEFAULT_TOP:
                ranks[row["study"]] += 1
                trials.add((row["system"], row["study"], row["trial"]))
        where = (pc.field("role") == part.role) & (pc.field("test_set") == part.test_set)
        where &= (pc.field("normalisation") == part.normalisation) & (pc.field("epoch_rule") == results.epoch_rule)
        where &= (pc.field("stage") == "final") & pc.field("label").is_valid() & pc.field("condition").is_null()
        for piece in sweep.read_trials("predictions", trials, ["utterance", "label", "predicted"], where):
            right = pc.cast(pc.equal(piece["label"], piece["predicted"]), pa.int64())
            table = pa.table({"utterance": piece["utterance"], "right": right})
            for row in table.group_by("utterance").aggregate([("right", "sum"), ("right", "count")]).to_pylist():
                totals[row["utterance"]][0] += row["right_sum"]
                totals[row["utterance"]][1] += row["right_count"]
    return {utterance: (right, models) for utterance, (right, models) in totals.items()}


def _mean_probabilities(p: PredictedComparison) -> tuple[list[str], NDArray[np.int64], NDArray[np.float64]]:
    """Utterances, labels `(utterances,)`, probabilities `(utterances, classes)`: means over folds, seeds, systems."""
    labels: dict[str, int] = {}
    values: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for system in p.systems:
        for row, utterance in enumerate(system.test.utterances):
            labels[utterance] = int(system.test.labels[row])
            values[utterance].append(system.test.mean[row])
    utterances = sorted(labels)
    return utterances, np.array([labels[u] for u in utterances]), np.stack([np.mean(values[u], 0) for u in utterances])


def _in_words(j: JudgedRecordings) -> str:
    n, doubtful = len(j.recordings), sum(bool(r.rather) for r in j.recordings)
    models = mean(r.models for r in j.recordings)
    words = f"{doubtful} of {n:,} labels are doubtful by confident learning ({100 * doubtful / n:.1f} %)."
    if models < FEW_MODELS:
        return f"{words} Only {models:.0f} models predicted an utterance: too few to call one hard."
    never, always = (sum(r.right == value for r in j.recordings) for value in (0, 1))
    return (
        f"{never} of {n:,} test recordings are right with none of {models:.0f} models (configurations, seeds and "
        f"systems), {always} with all of them. {words}"
    )


def _classes_table(j: JudgedRecordings, name: str, title: str) -> ReportTable:
    rows: list[tuple[Cell, ...]] = []
    for label in (*j.comparison.comparison.classes, "all"):
        own = [r for r in j.recordings if label in (r.label, "all")]
        torn = sum(_TORN[0] <= r.right <= _TORN[1] for r in own)
        never, always = (sum(r.right == value for r in own) for value in (0, 1))
        rows.append((label, len(own), always, torn, never, sum(bool(r.rather) for r in own)))
    notes = (f"Torn: {100 * _TORN[0]:.0f} to {100 * _TORN[1]:.0f} % of the models are right.",)
    return ReportTable(name, f"How hard the recordings are: {title}", _CLASS_COLUMNS, tuple(rows), notes)


def _label_row(r: HardRecording) -> tuple[Cell, ...]:
    return (r.utterance, r.speaker, r.label, r.rather, r.margin, r.right, r.models, r.label_probability)
