"""Writing results: one file a table and unit; the unit's `folds` file is written last and is its commit."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from emodarts import metrics
from emodarts.errors import EmodartsError
from emodarts.records import EpochRecord, Evaluation, RungRecord, TrialRecord, UnitKey, UnitRecords, late_epochs
from emodarts.results.commit_log import CommitLog
from emodarts.results.commits import Commit, commit_path, read_commit
from emodarts.results.encoding import encode_rows, encode_table, trial_file, trial_row
from emodarts.results.schemas import SCHEMA_VERSION, TABLES
from emodarts.storage import Storage


class SweepWriter:
    """Writes the tables of one sweep below `<results>/<sweep>/`; `log` is that of the driver who has it."""

    def __init__(self, storage: Storage, sweep: str):
        self.storage, self.sweep = storage, sweep
        self.log: CommitLog | None = None

    def write_trial(self, trial: TrialRecord) -> None:
        """Write, or rewrite, the row of a trial."""
        path = trial_file(trial.system, trial.study, trial.trial, trial.seed)
        self._write("trials", path, [trial_row(self.sweep, trial)])
        if self.log is not None and trial.status != "running":
            self.log.add(trials=[trial])

    def on_unit_end(self, commit: Commit) -> None:
        """A unit's commit stands: the log may have it."""
        if self.log is not None:
            self.log.add([commit])

    def discard_log(self) -> None:
        """Before what is ended is to run again."""
        if self.log is not None:
            self.log.discard()

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

    def write_utterances(self, corpus: str, rows: list[dict[str, Any]]) -> None:
        """Write what is known of a corpus's utterances (columns of `utterances` but `sweep` and `corpus`)."""
        head = {"sweep": self.sweep, "corpus": corpus}
        self._write("utterances", f"utterances/{corpus}.parquet", [{**head, **row} for row in rows])

    def write_importances(self, system: str, study: str, values: dict[str, float]) -> None:
        """Write the importance of each hyperparameter of a study."""
        head = {"sweep": self.sweep, "system": system, "study": study}
        rows = [{**head, "parameter": name, "value": value} for name, value in values.items()]
        self._write("importances", f"importances/{system}.{study}.parquet".replace(":", "-"), rows)

    def write_ensembles(self, rows: list[dict[str, Any]]) -> None:
        """Write all rows of the table `ensembles` (`results.ensembles`), in the place of those that there were."""
        self._write("ensembles", "ensembles/all.parquet", rows)

    def commit(self, key: UnitKey, records: UnitRecords, attempt: str, place: str | None = None) -> Commit:
        """Write everything of a unit, and the place where it ran; until the last file is there, nothing of it counts.

        Returns the commit that stands: the first one, whoever made it (the driver ends units whose workers seem dead).
        """
        if (standing := read_commit(self.storage, self.sweep, key.name)) is not None:
            return standing
        genotypes = [
            {"genotype": g.genotype_json, "network": g.network_json, "derived_at": g.derived_at}
            | _unit_columns(key, g.stage, None)
            for g in records.genotypes
        ]
        predictions = [TABLES["predictions"].empty_table(), *(_predictions(key, e) for e in records.evaluations)]
        content = encode_table(pa.concat_tables(predictions))
        self.storage.write(f"{self.sweep}/predictions/{key.name}.{attempt}.parquet", content)
        self._write("epochs", f"epochs/{key.name}.{attempt}.parquet", _epoch_rows(key, records.epochs))
        self._write("genotypes", f"genotypes/{key.name}.{attempt}.parquet", genotypes)
        rows = [{**_fold_row(key, e, records), "place": place} for e in records.evaluations]
        dev = next((row["uar"] for row in rows if row["role"] == "dev" and row["stage"] == "final"), None)
        about = (dev, records.parameters, records.macs, choice_figures(key, records))
        return self._commit(Commit(key, attempt, "complete", None, *about), rows)

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

    def withdraw(self, commit: Commit) -> None:
        """Take back the commit of a failed unit, so that another attempt may end it. Raises EmodartsError where it
        stands in compacted files.
        """
        self.discard_log()
        try:
            self.storage.delete(commit_path(self.sweep, commit.key.name))
        except FileNotFoundError as error:
            raise EmodartsError(
                f"{commit.key.name} of sweep '{self.sweep}' has failed and is compacted, so it cannot run again: take "
                "another sweep.name"
            ) from error

    def _commit(self, commit: Commit, rows: list[dict[str, Any]]) -> Commit:
        """Attempts may meet here: the file is made by one of them, and its commit is what all return."""
        content = encode_rows("folds", rows, **commit.header())
        if self.storage.write_new(commit_path(self.sweep, commit.key.name), content):
            return commit
        standing = read_commit(self.storage, self.sweep, commit.key.name)
        return commit if standing is None else standing  # None: somebody deletes files by hand

    def _write(self, table: str, path: str, rows: list[dict[str, Any]]) -> None:
        self.storage.write(f"{self.sweep}/{path}", encode_rows(table, rows))


def choice_figures(key: UnitKey, records: UnitRecords) -> dict[str, float]:
    """By what a configuration may be chosen beside its network's dev UAR (`sweep.choose_by`), 0 to 1, more is better.

    `late_mean`: the dev UAR after each epoch of the last quarter of the training, their mean, which no single epoch's
    luck decides. `dev_loss`: the geometric mean of the probabilities that the network gives the right classes on dev,
    exp(-cross-entropy). Empty without a dev part.
    """
    final = next((e for e in records.evaluations if (e.role, e.stage) == ("dev", "final")), None)
    if final is None or None in final.labels:
        return {}
    columns = [key.classes.index(str(label)) for label in final.labels]
    right = np.asarray(final.probabilities)[np.arange(len(columns)), columns]
    trained = [epoch.dev_uar for epoch in records.epochs if epoch.phase == "train" and epoch.dev_uar is not None]
    late = [trained[epoch] for epoch in late_epochs(len(trained))] if trained else []
    means = {"late_mean": float(np.mean(late))} if late else {}
    return {**means, "dev_loss": float(np.exp(np.log(np.maximum(right, 1e-12)).mean()))}


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
    stages = dict.fromkeys(("search", "ranking", "proposal"), "supernet") | {"train": "final"}
    return [{**_unit_columns(key, stages[epoch.phase], None), **asdict(epoch)} for epoch in epochs]


def _evaluation_columns(key: UnitKey, e: Evaluation) -> dict[str, Any]:
    part = {"role": e.role, "test_set": e.test_set, "normalisation": e.normalisation, "condition": e.condition}
    return {**_unit_columns(key, e.stage, e.epoch_rule), **part}


def _predictions(key: UnitKey, e: Evaluation) -> pa.Table:
    """The rows of an evaluation, made by columns: a large test set has a hundred thousand."""
    probabilities = np.ascontiguousarray(e.probabilities, np.float32).reshape(-1, len(key.classes))
    of_rows = {
        "utterance": e.utterances,
        "speaker": e.speakers,
        "label": e.labels,
        "predicted": [key.classes[number] for number in probabilities.argmax(1)],
    }
    bounds = np.arange(0, probabilities.size + 1, len(key.classes), dtype=np.int32)
    arrays: dict[str, pa.Array] = {"probabilities": pa.ListArray.from_arrays(bounds, probabilities.ravel())}
    about, schema = _evaluation_columns(key, e), TABLES["predictions"]
    for column in schema:
        if column.name in of_rows:
            arrays[column.name] = pa.array(of_rows[column.name], column.type)
        elif column.name not in arrays:
            arrays[column.name] = pa.repeat(pa.scalar(about.get(column.name), column.type), len(e.utterances))
    return pa.Table.from_arrays([arrays[name] for name in schema.names], schema=schema)


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
