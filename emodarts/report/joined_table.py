"""`emodarts report --parquet`: one row an utterance and system, for DuckDB, pandas and viewers of data."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emodarts.report.predictions import PredictedComparison, SystemPredictions, UtteranceFacts

_FACTS = ("corpus", "path", "gender", "session", "scenario", "text", "audio_hash")
_SCHEMA = [
    *((name, pa.string()) for name in ("utterance", "sweep", "system", "protocol", "test_set", "normalisation")),
    ("fold", pa.int32()),
    *((name, pa.string()) for name in ("speaker", "label", "predicted")),
    ("right", pa.bool_()),
    ("confidence", pa.float32()),  # the largest of the probabilities
    ("seeds_right", pa.float32()),  # share of the seeds that answer the label
    ("probabilities", pa.map_(pa.string(), pa.float32())),  # class -> mean over seeds
    *((name, pa.string()) for name in _FACTS),
    ("start", pa.float64()),
    ("end", pa.float64()),
    ("seconds", pa.float64()),
]


def join_predictions(
    predicted: Sequence[PredictedComparison], facts: Mapping[str, Mapping[str, UtteranceFacts]]
) -> pa.Table:
    """Predictions (means over seeds) of systems' winners on labelled test utterances, with what is known of these."""
    tables = [
        _of_system(p, system, facts.get(system.system.results.sweep, {})) for p in predicted for system in p.systems
    ]
    return pa.concat_tables([pa.schema(_SCHEMA).empty_table(), *tables])


def to_parquet(table: pa.Table) -> bytes:
    """The content of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _of_system(p: PredictedComparison, system: SystemPredictions, facts: Mapping[str, UtteranceFacts]) -> pa.Table:
    test, classes, n = system.test, p.comparison.classes, len(system.test.utterances)
    answers = test.mean.argmax(1)
    known = [facts.get(utterance, {}) for utterance in test.utterances]
    offsets = np.arange(n + 1, dtype=np.int32) * len(classes)
    keys = pa.array(np.tile(classes, n).tolist(), pa.string())
    values = pa.array(test.mean.astype(np.float32).ravel())
    columns = {
        "utterance": test.utterances,
        "sweep": [system.system.results.sweep] * n,
        "system": [system.name] * n,
        "protocol": [p.comparison.protocol] * n,
        "test_set": [p.comparison.test_set] * n,
        "normalisation": [system.system.part.normalisation] * n,
        "fold": test.folds,
        "speaker": test.speakers,
        "label": [classes[label] for label in test.labels],
        "predicted": [classes[answer] for answer in answers],
        "right": answers == test.labels,
        "confidence": test.mean.max(1).astype(np.float32),
        "seeds_right": (test.probabilities.argmax(2) == test.labels).mean(0).astype(np.float32),
        "probabilities": pa.MapArray.from_arrays(pa.array(offsets), keys, values),
        **{name: [row.get(name) for row in known] for name in (*_FACTS, "start", "end", "seconds")},
    }
    arrays = [c if isinstance(c := columns[name], pa.Array) else pa.array(c, kind) for name, kind in _SCHEMA]
    return pa.table(arrays, pa.schema(_SCHEMA))
