"""The report over large compacted results: seconds and memory of `emodarts report --html`.

    python tests/benchmarks/report.py [--units 500000] [--results FOLDER]

A unit has two rows of `folds` (dev and test), 100 predictions and 10 epochs; so the default is 1,000,000 fold rows and
50,000,000 predictions, in two sweeps of five systems, ten folds and 5,000 configurations each. They are made once, with
random figures. The plain way that the ratio speaks of reads every prediction (five columns) of one of the two sweeps,
and doubles the time. The last line is JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from emodarts.records import UnitKey
from emodarts.results.commits import Commit
from emodarts.results.compacted_files import COMMITS, COMPACT_FILE, FOLDER, CompactedFiles, commits_table
from emodarts.results.schemas import SCHEMA_VERSION, TABLES, versioned_schema
from emodarts.results.sweep_file import register
from emodarts.storage import Storage
from tests.support.made_results import CLASSES, genotype

SYSTEMS = ("emodarts", "emodarts:random_search:joint", "cnn", "cnn_lstm_attention", "svm")
FOLDS, SPEAKERS, TAKES, EPOCHS = 10, 5, 10, 10  # 5 speakers of 10 utterances in dev, and in test
SWEEPS = ("large-a", "large-b")
CHILD = """
import resource, sys, time
from emodarts import cli
begin = time.perf_counter()
assert cli.main(["report", sys.argv[1], "--html", sys.argv[2]]) == 0
print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def write_sweep(storage: Storage, sweep: str, trials: int) -> None:
    """A compacted sweep."""
    register(storage, sweep, {"corpus.name": sweep, "sweep.sampler": "random"})
    compacted = CompactedFiles.named(sweep, "made")
    writers = {}
    for name, path in compacted.files.items():
        target = Path(storage.path(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        writers[name] = pq.ParquetWriter(target, versioned_schema(name), compression="zstd")
    commits = pq.ParquetWriter(storage.path(compacted.commits), COMMITS, compression="zstd")
    for number, system in enumerate(SYSTEMS):
        for fold in range(FOLDS):
            rng = np.random.default_rng([number, fold])
            made = tables(sweep, system, fold, trials, rng)
            for name, table in made.items():
                writers[name].write_table(table, row_group_size=1 << 17)
            keys = [unit(sweep, system, fold, trial) for trial in range(trials)]
            commits.write_table(commits_table([Commit(k, "made", "complete", None, 0.5, 10_000) for k in keys]))
    for writer in (*writers.values(), commits):
        writer.close()
    compacted.save(storage, sweep)


def unit(sweep: str, system: str, fold: int, trial: int) -> UnitKey:
    """The key of a unit."""
    study = f"fold{fold}"
    return UnitKey(sweep, system, study, trial, 0, (sweep,), f"{sweep}/speaker10", fold, f"hash{fold}", CLASSES)


def tables(sweep: str, system: str, fold: int, trials: int, rng: np.random.Generator) -> dict[str, pa.Table]:
    """All tables of one study."""
    dev, sizes = rng.normal(0.6, 0.05, trials), rng.integers(10_000, 300_000, trials)
    numbers = np.arange(trials)
    n = SPEAKERS * TAKES
    made = {"trials": _trials(sweep, system, fold, dev, rng)}
    key = unit(sweep, system, fold, 0)

    def rows(table: str, each: int, **columns: object) -> pa.Table:
        count = trials * each
        given: dict[str, object] = {
            **{
                name: getattr(key, name)
                for name in ("sweep", "system", "study", "seed", "protocol", "fold", "fold_hash")
            },
            "train_corpora": list(key.train_corpora),
            "classes": list(key.classes),
            "stage": "final",
            "epoch_rule": "late_dev",
            "normalisation": "train",
            "trial": np.repeat(numbers, each),
            **columns,
        }
        schema = TABLES[table]
        return pa.table([_column(given.get(field.name), field.type, count) for field in schema], schema=schema)

    parts = np.tile([0, 1], trials)
    settings = json.dumps({"features": {"kind": "log_mel"}, "filler": "x" * 1500})
    made["folds"] = rows(
        "folds",
        2,
        role=_words(["dev", "test"], parts),
        test_set=_words([f"{sweep}/dev", f"{sweep}/test"], parts),
        n=n,
        uar=np.column_stack([dev, dev - 0.02]).ravel(),
        war=0.6,
        macro_f1=0.6,
        absent_classes=[],
        parameters=np.repeat(sizes, 2),
        macs=1,
        search_seconds=1.0,
        train_seconds=1.0,
        peak_memory_mb=1.0,
        git_revision="0" * 40,
        packages='{"torch": "2.14.1"}',
        settings=settings,
        schema_version=SCHEMA_VERSION,
    )
    labels = np.tile(np.tile(np.arange(n) % len(CLASSES), 2), trials)
    right = rng.uniform(size=labels.size) < np.repeat(dev, 2 * n)
    answers = np.where(right, labels, (labels + rng.integers(1, len(CLASSES), labels.size)) % len(CLASSES))
    half = np.tile(np.repeat([0, 1], n), trials)
    group = (fold + 1 - half) % FOLDS
    speaker = group * SPEAKERS + np.tile(np.tile(np.arange(n) // TAKES, 2), trials)
    utterance = group * n + np.tile(np.tile(np.arange(n), 2), trials)
    probabilities = rng.dirichlet(np.ones(len(CLASSES)), 4096).astype(np.float32)[np.arange(labels.size) % 4096]
    made["predictions"] = rows(
        "predictions",
        2 * n,
        role=_words(["dev", "test"], half),
        test_set=_words([f"{sweep}/dev", f"{sweep}/test"], half),
        utterance=_words([f"{sweep}/u{i:05d}" for i in range(FOLDS * n)], utterance),
        speaker=_words([f"{sweep}/s{i:03d}" for i in range(FOLDS * SPEAKERS)], speaker),
        label=_words(list(CLASSES), labels),
        predicted=_words(list(CLASSES), answers),
        probabilities=pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), len(CLASSES)),
    )
    epochs = np.tile(np.arange(EPOCHS), trials)
    made["epochs"] = rows(
        "epochs",
        EPOCHS,
        phase=_words(["search", "train"], epochs % 2),
        epoch=epochs // 2,
        train_loss=1 / (1 + epochs),
        dev_loss=1.0,
        dev_uar=rng.uniform(0.3, 0.7, epochs.size),
        entropy=1.0,
        skip_connections=1,
        seconds=1.0,
    )
    if system.startswith("emodarts"):
        made["genotypes"] = rows("genotypes", 1, genotype=genotype(fold).to_json(), network="{}", derived_at=3)
    return made


def _trials(sweep: str, system: str, fold: int, dev: np.ndarray, rng: np.random.Generator) -> pa.Table:
    trials = len(dev)
    rates = 10 ** rng.uniform(-4, -1, trials)
    given = {
        "sweep": sweep,
        "system": system,
        "study": f"fold{fold}",
        "trial": np.arange(trials),
        "seed": 0,
        "parameters": [
            json.dumps({"search.nodes": 1 + i % 3, "training.learning_rate": r}) for i, r in enumerate(rates)
        ],
        "status": "complete",
        "retries": 0,
        "values": [[v] for v in dev],
    }
    schema = TABLES["trials"]
    return pa.table([_column(given.get(field.name), field.type, trials) for field in schema], schema=schema)


def _words(names: list[str], places: np.ndarray) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32)), pa.array(names))


def _column(given: object, kind: pa.DataType, count: int) -> pa.Array:
    """A column of so many rows: an array as it is, a list of values, or one value again and again."""
    if isinstance(given, np.ndarray | pa.Array):
        return pa.array(given).cast(kind) if isinstance(given, np.ndarray) else given.cast(kind)
    if isinstance(given, list) and len(given) == count and count > len(CLASSES):
        return pa.array(given, kind)
    one = pa.array([given], kind)
    return one.take(pa.array(np.zeros(count, np.int32)))


def every_prediction(root: Path) -> float:
    """Seconds to read five columns of all predictions of one sweep."""
    (file,) = (root / SWEEPS[0] / FOLDER).glob("*.predictions.parquet")
    begin = time.perf_counter()
    rows = 0
    for batch in ds.dataset(file).to_batches(columns=["system", "trial", "speaker", "label", "predicted"]):
        rows += batch.num_rows
    return time.perf_counter() - begin


def main() -> None:
    """Make what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=500_000)
    parser.add_argument("--results", type=Path, default=Path("large_results"))
    given = parser.parse_args()
    storage = Storage.open(given.results)
    for sweep in SWEEPS:
        if not storage.exists(f"{sweep}/{COMPACT_FILE}"):
            write_sweep(storage, sweep, given.units // (len(SWEEPS) * len(SYSTEMS) * FOLDS))
    page = given.results / "report.html"
    ran = subprocess.run([sys.executable, "-c", CHILD, given.results, page], check=True, capture_output=True, text=True)
    seconds, memory = map(float, ran.stdout.split()[-2:])
    plain = len(SWEEPS) * every_prediction(given.results)
    rows = {
        table: sum(pq.read_metadata(f).num_rows for f in given.results.glob(f"*/{FOLDER}/*.{table}.parquet"))
        for table in ("folds", "predictions", "epochs", "trials")
    }
    found = {
        "seconds": round(seconds, 1),
        "memory_gb": round(memory, 2),
        "read_all_ratio": round(plain / seconds, 2),
        "read_all_seconds": round(plain, 1),
        "page_mb": round(page.stat().st_size / 2**20, 1),
        **rows,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
