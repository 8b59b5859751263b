"""Writing results: one file a table and unit; the unit's `folds` file is written last and is its commit."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emodarts import metrics
from emodarts.errors import EmodartsError
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

    def commit(self, key: UnitKey, records: UnitRecords, attempt: str) -> Commit:
        """Write everything of a unit; until the last file is there, nothing of it counts.

        Returns the commit that stands: the first one, whoever made it (the driver ends units whose workers seem dead).
        """
        if (standing := read_commit(self.storage, self.sweep, key.name)) is not None:
            return standing
        rows = _prediction_rows(key, records.evaluations)
        self._write("predictions", f"predictions/{key.name}.{attempt}.parquet", rows)
        self._write("epochs", f"epochs/{key.name}.{attempt}.parquet", _epoch_rows(key, records.epochs))
        genotypes = [
            {
                **_key_columns(key, g.stage, None),
                "genotype": g.genotype_json,
                "network": g.network_json,
                "derived_at": g.derived_at,
            }
            for g in records.genotypes
        ]
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
        sink = pa.BufferOutputStream()
        pq.write_table(
            content.replace_schema_metadata(versioned_schema(table, **metadata).metadata), sink, compression="zstd"
        )
        self.storage.write(f"{self.sweep}/{path}", sink.getvalue().to_pybytes())


def _key_columns(key: UnitKey, stage: str | None, epoch_rule: str | None) -> dict[str, Any]:
    return {**asdict(key), "stage": stage, "epoch_rule": epoch_rule}


def _epoch_rows(key: UnitKey, epochs: tuple[EpochRecord, ...]) -> list[dict[str, Any]]:
    stages = {"search": "supernet", "train": "final"}
    return [{**_key_columns(key, stages[epoch.phase], None), **asdict(epoch)} for epoch in epochs]


def _part_columns(e: Evaluation) -> dict[str, Any]:
    return {"role": e.role, "test_set": e.test_set, "normalisation": e.normalisation}


def _prediction_rows(key: UnitKey, evaluations: tuple[Evaluation, ...]) -> list[dict[str, Any]]:
    return [
        {
            **_key_columns(key, e.stage, e.epoch_rule),
            **_part_columns(e),
            "utterance": utterance,
            "speaker": speaker,
            "label": label,
            "predicted": key.classes[int(np.argmax(probabilities))],
            "probabilities": probabilities,
        }
        for e in evaluations
        for utterance, speaker, label, probabilities in zip(
            e.utterances, e.speakers, e.labels, e.probabilities, strict=True
        )
    ]


def _compute_figures(labels: list[str], predicted: list[str], classes: tuple[str, ...]) -> dict[str, Any]:
    """n, UAR, WAR, macro-F1 and the absent classes of some predictions; figures are None for none."""
    if not labels:
        return {"n": 0, "uar": None, "war": None, "macro_f1": None, "absent_classes": list(classes)}
    index = {name: number for number, name in enumerate(classes)}
    y, p = np.array([index[x] for x in labels]), np.array([index[x] for x in predicted])
    return {
        "n": len(y),
        "uar": metrics.uar(y, p, len(classes)),
        "war": metrics.war(y, p),
        "macro_f1": metrics.macro_f1(y, p, len(classes)),
        "absent_classes": [classes[c] for c in metrics.absent_classes(y, len(classes))],
    }


def _fold_row(key: UnitKey, e: Evaluation, records: UnitRecords) -> dict[str, Any]:
    if len(e.utterances) != len(e.probabilities):
        raise EmodartsError(f"{key.name}: {len(e.utterances)} utterances but {len(e.probabilities)} predictions")
    predicted = [key.classes[int(p)] for p in np.asarray(e.probabilities).argmax(1)]
    labelled = [(label, p) for label, p in zip(e.labels, predicted, strict=True) if label is not None]
    return {
        **_key_columns(key, e.stage, e.epoch_rule),
        **_part_columns(e),
        **_compute_figures([label for label, _ in labelled], [p for _, p in labelled], key.classes),
        "parameters": records.parameters,
        "macs": records.macs,
        "search_seconds": records.search_seconds,
        "train_seconds": records.train_seconds,
        "peak_memory_mb": records.peak_memory_mb,
        "git_revision": records.git_revision,
        "packages": records.packages_json,
        "settings": records.settings_json,
        "schema_version": SCHEMA_VERSION,
    }
