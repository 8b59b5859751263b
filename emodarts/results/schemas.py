"""Arrow schemas of the result tables. Every file names its schema version and is checked on reading."""

from collections.abc import Mapping

import pyarrow as pa

from emodarts.errors import EmodartsError

SCHEMA_VERSION = 4  # 2: protocol_caveat; 3: alphas_moved, discretised_dev_uar, macs of epochs; 4: figures in commits
_VERSION_KEY = b"emodarts.schema_version"

_KEY = [
    ("sweep", pa.string()),
    ("system", pa.string()),
    ("study", pa.string()),
    ("trial", pa.int32()),
    ("seed", pa.int32()),
    ("train_corpora", pa.list_(pa.string())),
    ("genotype_from", pa.string()),
    ("protocol", pa.string()),
    ("protocol_caveat", pa.string()),  # of the protocol, null where there is none: "dev shares speakers with train"
    ("fold", pa.int32()),
    ("fold_hash", pa.string()),
    ("classes", pa.list_(pa.string())),
    ("subsample", pa.string()),
    ("stage", pa.string()),
    ("epoch_rule", pa.string()),
]
_PART = [("role", pa.string()), ("test_set", pa.string()), ("normalisation", pa.string())]
_TIME = pa.timestamp("us", tz="UTC")

TABLES: dict[str, pa.Schema] = {
    "trials": pa.schema(
        [
            ("sweep", pa.string()),
            ("system", pa.string()),
            ("study", pa.string()),
            ("trial", pa.int32()),
            ("seed", pa.int32()),
            ("parameters", pa.string()),  # JSON
            ("status", pa.string()),  # running | complete | pruned | failed
            ("reason", pa.string()),
            ("retries", pa.int32()),
            ("values", pa.list_(pa.float64())),
            ("proposed_at", _TIME),
            ("ended_at", _TIME),
        ]
    ),
    "rungs": pa.schema(
        [
            ("sweep", pa.string()),
            ("system", pa.string()),
            ("study", pa.string()),
            ("trial", pa.int32()),
            ("seed", pa.int32()),
            ("fold", pa.int32()),  # null: of all folds of a configuration
            ("rung", pa.int32()),
            ("phase", pa.string()),  # search | train | folds
            ("fraction", pa.float64()),
            ("value", pa.float64()),
            ("pruned", pa.bool_()),
            ("decided_at", _TIME),
        ]
    ),
    "folds": pa.schema(
        [
            *_KEY,
            *_PART,
            ("n", pa.int64()),
            ("uar", pa.float64()),
            ("war", pa.float64()),
            ("macro_f1", pa.float64()),
            ("absent_classes", pa.list_(pa.string())),
            ("parameters", pa.int64()),
            ("macs", pa.int64()),
            ("search_seconds", pa.float64()),
            ("train_seconds", pa.float64()),
            ("peak_memory_mb", pa.float64()),
            ("git_revision", pa.string()),
            ("packages", pa.string()),  # JSON
            ("settings", pa.string()),  # JSON
            ("schema_version", pa.int32()),
        ]
    ),
    "predictions": pa.schema(
        [
            *_KEY,
            *_PART,
            ("utterance", pa.string()),
            ("speaker", pa.string()),
            ("label", pa.string()),  # null where not public
            ("predicted", pa.string()),
            ("probabilities", pa.list_(pa.float32())),  # in the order of classes
        ]
    ),
    "epochs": pa.schema(
        [
            *_KEY,
            ("phase", pa.string()),  # search | train
            ("epoch", pa.int32()),
            ("train_loss", pa.float64()),
            ("alpha_loss", pa.float64()),
            ("dev_loss", pa.float64()),
            ("dev_uar", pa.float64()),
            ("dev_war", pa.float64()),
            ("entropy", pa.float64()),
            ("top2_margin", pa.float64()),
            ("skip_connections", pa.int32()),
            ("alphas_moved", pa.float64()),
            ("discretised_dev_uar", pa.float64()),
            ("macs", pa.int64()),  # of the search's passes; null in a training
            ("seconds", pa.float64()),
        ]
    ),
    "genotypes": pa.schema([*_KEY, ("genotype", pa.string()), ("network", pa.string()), ("derived_at", pa.int32())]),
    "importances": pa.schema(
        [
            ("sweep", pa.string()),
            ("system", pa.string()),
            ("study", pa.string()),
            ("parameter", pa.string()),
            ("value", pa.float64()),
        ]
    ),
    "corpora": pa.schema(
        [
            ("sweep", pa.string()),
            ("corpus", pa.string()),
            ("utterances", pa.int64()),
            ("dropped", pa.list_(pa.struct([("path", pa.string()), ("reason", pa.string())]))),
            ("left_out", pa.string()),  # JSON: label word -> count
            ("audit", pa.string()),  # JSON
        ]
    ),
}


def stamped(table: str, **metadata: str) -> pa.Schema:
    """The schema of a table with its version, and further metadata, in the file's header."""
    return TABLES[table].with_metadata({_VERSION_KEY.decode(): str(SCHEMA_VERSION), **metadata})


def verify(schema: pa.Schema, table: str, where: str) -> None:
    """Refuse (EmodartsError) a file that is not this program's, or of another schema version."""
    check_version(schema.metadata, where)
    if _VERSION_KEY not in (schema.metadata or {}) or not schema.equals(TABLES[table]):
        raise EmodartsError(f"{where} is no {table} table of emodarts; move it out of the results folder")


def check_version(header: Mapping[bytes, bytes] | None, where: str) -> None:
    """Refuse (EmodartsError) a file of another schema version by its header."""
    version = (header or {}).get(_VERSION_KEY)
    if version is not None and version != str(SCHEMA_VERSION).encode():
        raise EmodartsError(
            f"{where} has schema version {version.decode(errors='replace')}, this program reads {SCHEMA_VERSION}: read "
            f"it with the version of emodarts that wrote it, or take another results folder"
        )
