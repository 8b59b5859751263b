"""Arrow schemas of the result tables. Every file names its schema version and is checked on reading."""

from collections.abc import Mapping

import pyarrow as pa

from emodarts.errors import EmodartsError

SCHEMA_VERSION = 5  # of emodarts 0.2.0; that of 0.1.0 read versions 1 to 4
LAST_OLD_READER = "0.1.0"  # the last version of emodarts that reads older ones
_VERSION_KEY = b"emodarts.schema_version"

Columns = list[tuple[str, pa.DataType]]


def _columns(names: str, kind: pa.DataType) -> Columns:
    """Columns of one type, by their names between spaces."""
    return [(name, kind) for name in names.split()]


_STRING, _INT, _LONG, _FLOAT = pa.string(), pa.int32(), pa.int64(), pa.float64()
_TIME = pa.timestamp("us", tz="UTC")
_STUDY = _columns("sweep system study", _STRING)
_TRIAL = [*_STUDY, *_columns("trial seed", _INT)]
_UNIT: Columns = [
    *_TRIAL,
    ("train_corpora", pa.list_(_STRING)),
    # protocol_caveat: null where there is none, or as "dev shares speakers with train"
    *_columns("genotype_from protocol protocol_caveat", _STRING),
    *_columns("fold inner", _INT),  # inner split of the fold's train and dev parts; null: the fold as it is divided
    ("fold_hash", _STRING),
    ("classes", pa.list_(_STRING)),
    *_columns("subsample stage epoch_rule", _STRING),
]
# condition: what was done to the recordings before predicting, null: nothing; target: what was predicted (arousal,
# valence, dominance), null: the class
_PART = _columns("role test_set normalisation condition target", _STRING)

# What is known of evaluated networks: the figures of their predictions, what they cost, and how they were made.
_FIGURES: Columns = [
    ("n", _LONG),
    # ccc and rmse (in the dimension's scale) are of dimensions, the figures before them of classes
    *_columns("uar war macro_f1 ccc rmse", _FLOAT),
    ("absent_classes", pa.list_(_STRING)),
    *_columns("parameters macs", _LONG),
    *_columns("search_seconds train_seconds peak_memory_mb", _FLOAT),
    *_columns("place git_revision packages settings", _STRING),  # place: node and GPU; the last two are JSON
    ("schema_version", _INT),
]

TABLES: dict[str, pa.Schema] = {
    "trials": pa.schema(
        [
            *_TRIAL,
            *_columns("parameters status reason", _STRING),  # JSON; running | complete | pruned | failed
            ("retries", _INT),
            ("values", pa.list_(_FLOAT)),
            *_columns("proposed_at ended_at", _TIME),
        ]
    ),
    "rungs": pa.schema(
        [
            *_TRIAL,
            *_columns("fold inner rung", _INT),  # fold null: of all folds of a configuration
            ("phase", _STRING),  # search | train | folds
            *_columns("fraction value", _FLOAT),
            ("pruned", pa.bool_()),
            ("decided_at", _TIME),
        ]
    ),
    "folds": pa.schema([*_UNIT, *_PART, *_FIGURES]),
    "predictions": pa.schema(
        [
            *_UNIT,
            *_PART,
            *_columns("utterance speaker label predicted", _STRING),  # label null where not public
            ("probabilities", pa.list_(pa.float32())),  # in the order of classes
        ]
    ),
    "epochs": pa.schema(
        [
            *_UNIT,
            ("phase", _STRING),  # search | ranking | proposal | train
            ("epoch", _INT),
            *_columns("train_loss alpha_loss dev_loss dev_uar dev_war entropy top2_margin", _FLOAT),
            ("skip_connections", _INT),
            *_columns("alphas_moved discretised_dev_uar", _FLOAT),
            ("macs", _LONG),  # of the search's passes; null in a training
            ("seconds", _FLOAT),
            ("place", _STRING),  # node and GPU of this epoch: a unit may go on elsewhere
        ]
    ),
    "genotypes": pa.schema([*_UNIT, *_columns("genotype network", _STRING), ("derived_at", _INT)]),
    "ensembles": pa.schema(
        [
            *_UNIT,  # trial is null
            *_PART,
            *_FIGURES,  # costs are sums over the members, peak memory is their largest; the rest is the first member's
            ("members", pa.list_(_STRING)),  # system/trial, of each system the best on dev first
            ("n_members", _INT),
            *_columns("agreement ece members_uar members_ece", _FLOAT),  # the last two: means of the members' own
        ]
    ),
    # what is known of each utterance beside its label, without anything that could be heard
    "utterances": pa.schema(
        [
            *_columns("sweep corpus utterance path", _STRING),
            *_columns("start end", _FLOAT),
            *_columns("speaker gender session scenario text", _STRING),
            ("seconds", _FLOAT),
            ("audio_hash", _STRING),  # of the decoded samples, as the feature store has it
        ]
    ),
    "importances": pa.schema([*_STUDY, ("parameter", _STRING), ("value", _FLOAT)]),
    "corpora": pa.schema(
        [
            *_columns("sweep corpus", _STRING),
            ("utterances", _LONG),
            ("dropped", pa.list_(pa.struct(_columns("path reason", _STRING)))),
            *_columns("left_out audit", _STRING),  # JSON: label word -> count; the audit
        ]
    ),
}


def versioned_schema(table: str, **metadata: str) -> pa.Schema:
    """The schema of a table with its version, and further metadata, in the file's header."""
    return TABLES[table].with_metadata(version_header(**metadata))


def version_header(**metadata: str) -> dict[str, str]:
    """The version, and further metadata, as a file's header has them."""
    return {_VERSION_KEY.decode(): str(SCHEMA_VERSION), **metadata}


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
