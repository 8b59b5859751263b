"""Writing results: one file a table and unit; the unit's `folds` file is written last and is its commit."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emodarts import metrics
from emodarts.records import EpochRecord, Evaluation, RungRecord, TrialRecord, UnitKey, UnitRecords
from emodarts.results.commits import Commit, read_commit
from emodarts.results.schemas import SCHEMA_VERSION, TABLES, versioned_schema
from emodarts.storage import Storage


class SweepWriter:
    """Writes the tables of one sweep below `<results>/<sweep>/`."""

    def __init__(self, storage: Storage, sweep: str):
        self.storage, self.sweep = storage, sweep

    def write_trial(self, trial: TrialRecord) -> None:
        """Write, or rewrite, the row of a trial."""
        row = {
            **asdict(trial),
            "sweep": self.sweep,
            "parameters": json.dumps(trial.parameters, sort_keys=True),
            "values": list(trial.values),
        }
        name = f"{trial.system}.{trial.study}.t{trial.trial:05d}.s{trial.seed}".replace(":", "-")
        self._write("trials", f"trials/{name}.parquet", [row])

    def write_rung(self, rung: RungRecord) -> None:
        """Write a decision on pruning."""
        self._write("rungs", f"rungs/{rung.name}.parquet", [{**asdict(rung), "sweep": self.sweep}])

    def write_corpus(
        self,
        corpus: str,
        utterances: int,
        dropped: list[dict[str, str]],
        left_out: dict[str, int],
        audit: str | None = None,
    ) -> None:
        """Write what became of a corpus: utterances, what was dropped, which words were left out, its audit (JSON)."""
        row = {
            "sweep": self.sweep,
            "corpus": corpus,
            "utterances": utterances,
            "dropped": dropped,
            "left_out": json.dumps(left_out, sort_keys=True),
            "audit": audit,
        }
        self._write("corpora", f"corpora/{corpus}.parquet", [row])

    def write_importances(self, system: str, study: str, values: dict[str, float]) -> None:
        """Write the importance of each hyperparameter of a study."""
        head = {"sweep": self.sweep, "system": system, "study": study}
        rows = [{**head, "parameter": name, "value": value} for name, value in values.items()]
        self._write("importances", f"importances/{system}.{study}.parquet".replace(":", "-"), rows)

    def write_ensembles(self, rows: list[dict[str, Any]]) -> None:
        """Write all rows of the table `ensembles` (`results.ensembles`), in the place of those that there were."""
        self._write("ensembles", "ensembles/all.parquet", rows)

    def commit(self, key: UnitKey, records: UnitRecords, attempt: str) -> Commit:
        """Write everything of a unit; until the last file is there, nothing of it counts.

        Returns the commit that stands: the first one, whoever made it (the driver ends units whose workers seem dead).
        """
        if (standing := read_commit(self.storage, self.sweep, key.name)) is not None:
            return standing
        predictions = [row for e in records.evaluations for row in _prediction_rows(key, e)]
        genotypes = [
            {"genotype": g.genotype_json, "network": g.network_json, "derived_at": g.derived_at}
            | _unit_columns(key, g.stage, None)
            for g in records.genotypes
        ]
        self._write("predictions", f"predictions/{key.name}.{attempt}.parquet", predictions)
        self._write("epochs", f"epochs/{key.name}.{attempt}.parquet", _epoch_rows(key, records.epochs))
        self._write("genotypes", f"genotypes/{key.name}.{attempt}.parquet", genotypes)
        rows = [_fold_row(key, e, records) for e in records.evaluations]
        dev = next((row["uar"] for row in rows if row["role"] == "dev" and row["stage"] == "final"), None)
        return self._commit(Commit(key, attempt, "complete", None, dev, records.parameters), rows)

    def commit_ended(
        self, key: UnitKey, status: str, reason: str, epochs: tuple[EpochRecord, ...], attempt: str
    ) -> Commit:
        """Commit a pruned or failed unit: no rows in `folds`, its epochs count.

        Returns the commit that stands: the first one.
        """
        if status not in ("pruned", "failed"):
            raise ValueError(f"a unit without rows is pruned or failed, not {status}")
        if (standing := read_commit(self.storage, self.sweep, key.name)) is not None:
            return standing
        self._write("epochs", f"epochs/{key.name}.{attempt}.parquet", _epoch_rows(key, epochs))
        return self._commit(Commit(key, attempt, status, reason), [])

    def _commit(self, commit: Commit, rows: list[dict[str, Any]]) -> Commit:
        self._write("folds", f"folds/{commit.key.name}.parquet", rows, **commit.header())
        return commit

    def _write(self, table: str, path: str, rows: list[dict[str, Any]], **metadata: str) -> None:
        content = pa.Table.from_pylist(rows, TABLES[table]).cast(TABLES[table])
        header = versioned_schema(table, **metadata).metadata
        sink = pa.BufferOutputStream()
        pq.write_table(content.replace_schema_metadata(header), sink, compression="zstd")
        self.storage.write(f"{self.sweep}/{path}", sink.getvalue().to_pybytes())


def compute_figures(e: Evaluation, classes: tuple[str, ...]) -> dict[str, Any]:
    """n, UAR, WAR, macro-F1 and the absent classes of what has a label; figures are None where nothing has."""
    labelled = [row for row, label in enumerate(e.labels) if label is not None]
    if not labelled:
        return {"n": 0, "uar": None, "war": None, "macro_f1": None, "absent_classes": list(classes)}
    index = {name: number for number, name in enumerate(classes)}
    y = np.array([index[str(e.labels[row])] for row in labelled])
    p = np.asarray(e.probabilities)[labelled].argmax(1)
    return {
        "n": len(y),
        "uar": metrics.uar(y, p, len(classes)),
        "war": metrics.war(y, p),
        "macro_f1": metrics.macro_f1(y, p, len(classes)),
        "absent_classes": [classes[c] for c in metrics.absent_classes(y, len(classes))],
    }


def _unit_columns(key: UnitKey, stage: str | None, epoch_rule: str | None) -> dict[str, Any]:
    return {**asdict(key), "stage": stage, "epoch_rule": epoch_rule}


def _epoch_rows(key: UnitKey, epochs: tuple[EpochRecord, ...]) -> list[dict[str, Any]]:
    stages = {"search": "supernet", "train": "final"}
    return [{**_unit_columns(key, stages[epoch.phase], None), **asdict(epoch)} for epoch in epochs]


def _evaluation_columns(key: UnitKey, e: Evaluation) -> dict[str, Any]:
    part = {"role": e.role, "test_set": e.test_set, "normalisation": e.normalisation}
    return {**_unit_columns(key, e.stage, e.epoch_rule), **part}


def _prediction_rows(key: UnitKey, e: Evaluation) -> list[dict[str, Any]]:
    columns = _evaluation_columns(key, e)
    predicted = [key.classes[int(np.argmax(p))] for p in e.probabilities]
    names = ("utterance", "speaker", "label", "predicted", "probabilities")
    values = zip(e.utterances, e.speakers, e.labels, predicted, e.probabilities, strict=True)
    return [{**columns, **dict(zip(names, row, strict=True))} for row in values]


def _fold_row(key: UnitKey, e: Evaluation, records: UnitRecords) -> dict[str, Any]:
    costs = ("parameters", "macs", "search_seconds", "train_seconds", "peak_memory_mb", "git_revision")
    return {
        **_evaluation_columns(key, e),
        **compute_figures(e, key.classes),
        **{name: getattr(records, name) for name in costs},
        "packages": records.packages_json,
        "settings": records.settings_json,
        "schema_version": SCHEMA_VERSION,
    }
