"""Some trials' rows of a compacted table are those that a plain filter over all of its rows finds."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from emodarts.errors import EmodartsError
from emodarts.results.compacted_table import CompactedTable
from emodarts.results.schemas import TABLES, versioned_schema
from emodarts.storage import Storage

SYSTEMS, STUDIES, TRIALS, ROWS = ("cnn", "emodarts", "größer"), ("fold0", "fold1"), 6, 5


@pytest.fixture(scope="module")
def table():
    """Predictions of all units, study by study; `label` is null in some, and `inner` is a number in some."""
    units = [(y, s, t, r) for y in SYSTEMS for s in STUDIES for t in range(TRIALS) for r in range(ROWS)]
    given = {
        "system": [u[0] for u in units],
        "study": [u[1] for u in units],
        "trial": [u[2] for u in units],
        "seed": [0 for _ in units],
        "stage": ["final" if u[3] else "supernet" for u in units],
        "inner": [1 if u[3] == 4 else None for u in units],
        "utterance": [f"u{u[3]}" for u in units],
        "label": [None if u[3] == 2 else "angry" for u in units],
        "train_corpora": [["demo", "other"] for _ in units],
        "probabilities": [[0.25, 0.75] for _ in units],
    }
    schema = TABLES["predictions"]
    columns = [pa.array(given.get(field.name, [None] * len(units)), field.type) for field in schema]
    return pa.table(columns, schema=versioned_schema("predictions"))


@pytest.mark.parametrize("row_group", [9, 64, 1000])
@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("columns", [None, ["label", "probabilities"], ["trial", "utterance"]])
def test_rows_of_some_trials_are_those_of_a_plain_filter(tmp_path, table, row_group, statistics, columns):
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=row_group, write_statistics=statistics)
    file = CompactedTable(Storage.open(tmp_path), str(tmp_path / "rows.parquet"), "predictions")
    where = (pc.field("stage") == "final") & pc.field("label").is_valid() & pc.field("inner").is_null()
    rng = np.random.default_rng(row_group)
    for system in (*SYSTEMS, "a", "zz"):
        for study in (*STUDIES, "fold"):
            trials = rng.choice(TRIALS + 3, rng.integers(1, 4), replace=False).tolist()
            of_trials = pc.field("trial").isin(trials) & (pc.field("system") == system) & (pc.field("study") == study)
            plain = table.filter(of_trials & where)
            found = [plain.schema.empty_table(), *file.read_trials(system, study, trials, None, where)]
            if columns is not None:
                plain = plain.select(columns)
                found = [plain.schema.empty_table(), *file.read_trials(system, study, trials, columns, where)]
            assert pa.concat_tables(found).to_pylist() == plain.to_pylist()


def test_only_row_groups_that_may_hold_them_are_read(tmp_path, table):
    rows = TRIALS * ROWS
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=rows // 2)
    file = CompactedTable(Storage.open(tmp_path), str(tmp_path / "rows.parquet"), "predictions")
    assert list(file._row_groups_with("cnn", "fold1", [1, 2])) == [2]
    assert list(file._row_groups_with("cnn", "fold1", [2, 3])) == [2, 3]
    assert list(file._row_groups_with("größer", "fold0", [7])) == []


def test_a_damaged_row_group_is_named(tmp_path, table):
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path)
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    file = CompactedTable(Storage.open(tmp_path), str(path), "predictions")
    with pytest.raises(EmodartsError, match=r"rows\.parquet cannot be read as Parquet"):
        list(file.read_trials("cnn", "fold0", [0], None, pc.field("stage") == "final"))
