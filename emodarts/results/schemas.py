"""Arrow schemas of the result tables. Every file names its schema version and is checked on reading."""

from collections.abc import Mapping

import pyarrow as pa

from emodarts.errors import EmodartsError

SCHEMA_VERSION = 5  # of emodarts 0.2.0; that of 0.1.0 read versions 1 to 4
LAST_OLD_READER = "0.1.0"  # the last version of emodarts that reads older ones
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
    ("inner", pa.int32()),  # inner split of the fold's train and dev parts; null: the fold as its protocol divides it
    ("fold_hash", pa.string()),
    ("classes", pa.list_(pa.string())),
    ("subsample", pa.string()),
    ("stage", pa.string()),
    ("epoch_rule", pa.string()),
]
_PART = [
    ("role", pa.string()),
    ("test_set", pa.string()),
    ("normalisation", pa.string()),
    ("condition", pa.string()),  # what was done to the recordings before predicting; null: nothing
    ("target", pa.string()),  # what was predicted: arousal, valence, dominance; null: the class
]
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
            ("inner", pa.int32()),
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
            ("ccc", pa.float64()),  # concordance correlation coefficient of a dimension; null for classes
            ("rmse", pa.float64()),  # root mean square error of a dimension, in its scale; null for classes
            ("absent_classes", pa.list_(pa.string())),
            ("parameters", pa.int64()),
            ("macs", pa.int64()),
            ("search_seconds", pa.float64()),
            ("train_seconds", pa.float64()),
            ("peak_memory_mb", pa.float64()),
            ("place", pa.string()),  # node and GPU where the unit ran
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
            ("place", pa.string()),  # node and GPU of this epoch: a unit may go on elsewhere
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


def versioned_schema(table: str, **metadata: str) -> pa.Schema:
    """The schema of a table with its version, and further metadata, in the file's header."""
    return TABLES[table].with_metadata({_VERSION_KEY.decode(): str(SCHEMA_VERSION), **metadata})


def check_schema(schema: pa.Schema, table: str, where: str) -> None:
    """Refuse (EmodartsError) a file that is not this program's, or of another schema version."""
    check_header(schema.metadata, where)
    if _VERSION_KEY not in (schema.metadata or {}) or not schema.equals(TABLES[table]):
        raise EmodartsError(f"{where} is no {table} table of emodarts; move it out of the results folder")


def check_header(header: Mapping[bytes, bytes] | None, where: str) -> None:
    """Refuse (EmodartsError) a Parquet file whose header names another schema version."""
    if header and _VERSION_KEY in header:
        check_version(header[_VERSION_KEY].decode(errors="replace"), where)


def check_version(version: str | int, where: str) -> None:
    """Refuse (EmodartsError) a file of another schema version, and say which version of emodarts reads it."""
    if str(version) == str(SCHEMA_VERSION):
        return
    is_older = str(version).isdigit() and int(version) < SCHEMA_VERSION
    program = f"emodarts {LAST_OLD_READER}" if is_older else "the version of emodarts that wrote it"
    raise EmodartsError(
        f"{where} has schema version {version}, this program reads {SCHEMA_VERSION}: read it with {program}, or take "
        "another results folder"
    )
