"""What a unit's tables come to, in names of the digests' own, and the text of their file."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.reference import product
from tests.reference.difference import EPOCH_COLUMNS

Row = Mapping[str, Any]
Digest = dict[str, Any]


def digest(sweeps: Sequence[Mapping[str, list[dict[str, Any]]]]) -> list[Digest]:
    """The digest of each sweep of a command. Raises ValueError for a failed trial: there is nothing to compare."""
    return [_sweep(tables) for tables in sweeps]


def _sweep(tables: Mapping[str, list[dict[str, Any]]]) -> Digest:
    trials = sorted(tables["trials"], key=lambda row: row[product.TRIAL_TIME])
    proposals = [{**_named(row, product.TRIAL), "parameters": _parameters(row)} for row in trials]
    for row in proposals:
        if row["status"] not in ("complete", "pruned"):
            raise ValueError(f"trial {row['trial']} of {row['system']}, {row['study']}, is {row['status']}")
    by_run: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for name in ("epochs", "genotypes", "folds", "predictions"):
        for row in tables[name]:
            key = tuple(_named(row, product.RUN).values())
            by_run.setdefault(key, {}).setdefault(name, []).append(row)
    parameters = {(row["system"], row["study"], row["trial"]): row["parameters"] for row in proposals}
    runs = {_run_name(key): {"proposed": parameters[key[:3]], **_run(by_run[key])} for key in sorted(by_run)}
    return {
        "corpora": [
            {**_named(row, product.CORPUS), "dropped": len(row[product.CORPUS_DROPPED] or [])}
            for row in sorted(tables["corpora"], key=lambda row: row[product.CORPUS["corpus"]])
        ],
        "runs": runs,
        "trials": proposals,
        "rungs": _sorted([_named(row, product.RUNG) for row in tables["rungs"]]),
        "importances": _sorted(
            [
                {"dimension": product.DIMENSIONS[row[product.IMPORTANCE_DIMENSION]], **_named(row, product.IMPORTANCE)}
                for row in tables["importances"]
            ]
        ),
    }


def _run_name(key: tuple[Any, ...]) -> str:
    system, study, trial, seed, fold = key
    return f"{system} {study} trial {trial} seed {seed} fold {fold}"


def _run(rows: Mapping[str, list[Row]]) -> Digest:
    """In the order in which it came about: conditions, epochs of the search, genotype, epochs of the training, ..."""
    epochs = [_named(row, product.EPOCH) for row in rows.get("epochs", [])]
    epochs.sort(key=lambda row: (row["phase"] != "search", row["epoch"]))
    first = next(iter(rows.get("folds") or rows.get("epochs", [])))
    parts: dict[str, list[Row]] = {}
    for row in rows.get("predictions", []):
        parts.setdefault(_part_name(row), []).append(row)
    figures = {_part_name(row): _named(row, product.FIGURES) for row in rows.get("folds", [])}
    return {
        "conditions": _conditions(first),
        "epochs": [[row[column] for column in EPOCH_COLUMNS] for row in epochs],
        "genotype": [_genotype(row) for row in rows.get("genotypes", [])],
        "training_epoch": _training_epoch(epochs, parts),
        **({name: rows["folds"][0][column] for name, column in product.SIZES.items()} if rows.get("folds") else {}),
        "parts": {name: {**_predictions(part), **figures.get(name, {})} for name, part in sorted(parts.items())},
    }


def _conditions(row: Row) -> Digest:
    conditions = _named(row, product.CONDITIONS)
    origin = conditions["genotype_from"]
    conditions["genotype_from"] = origin and origin.partition("/")[2]  # without the name of the sweep
    return conditions


def _part_name(row: Row) -> str:
    return " ".join(str(value) for value in _named(row, product.PART).values())


def _predictions(rows: Sequence[Row]) -> Digest:
    """A hash of all rows in their order, and a short one of each row, so that the first that differs is known."""
    hashes = [_hash_of_row(row) for row in rows]
    return {
        "rows": " ".join(text[:6] for text in hashes),
        "sha256": hashlib.sha256("".join(hashes).encode()).hexdigest(),
    }


def _hash_of_row(row: Row) -> str:
    named = _named(row, product.PREDICTION)
    probabilities = np.asarray(named.pop("probabilities"), np.float32)
    content = json.dumps([_part_name(row), *named.values()]).encode() + probabilities.tobytes()
    return hashlib.sha256(content).hexdigest()


def _genotype(row: Row) -> Digest:
    """Readable: node by node, its operations and the states that they read."""
    content = json.loads(row[product.GENOTYPE["genotype"]])
    operation, source = (product.GENOTYPE_EDGE[name] for name in ("operation", "source"))
    cells = {
        name: [" + ".join(f"{_word(e[operation])}({e[source]})" for e in edges) for edges in content[cell]]
        for name, cell in product.GENOTYPE_CELLS.items()
    }
    return {
        **cells,
        "pooling": _word(content[product.GENOTYPE_POOLING]),
        "derived_at": row[product.GENOTYPE["derived_at"]],
    }


def _training_epoch(epochs: Sequence[Row], parts: Mapping[str, list[Row]]) -> int | None:
    """The epoch of the training whose weights predicted, known by its dev loss; None where dev chose none."""
    rows = [row for part in parts.values() for row in part if _is_chosen_on_dev(row)]
    training = [row for row in epochs if row["phase"] == "train" and row["dev_loss"] is not None]
    if not rows or not training:
        return None
    columns = product.PREDICTION
    classes = rows[0][product.CONDITIONS["classes"]]
    chances = [row[columns["probabilities"]][classes.index(row[columns["label"]])] for row in rows]
    loss = -float(np.log(np.maximum(np.asarray(chances, np.float64), 1e-12)).mean())
    return min(training, key=lambda row: abs(row["dev_loss"] - loss))["epoch"]


def _is_chosen_on_dev(row: Row) -> bool:
    part = _named(row, product.PART)
    return (part["stage"], part["role"]) == ("final", "dev")


def _parameters(row: Row) -> Digest:
    content = json.loads(row[product.TRIAL_PARAMETERS])
    return dict(sorted((product.DIMENSIONS[name], _word(value)) for name, value in content.items()))


def _named(row: Row, columns: Mapping[str, str]) -> Digest:
    return {name: _word(row[column]) for name, column in columns.items()}


def _word(value: Any) -> Any:
    """A value with the digests' own words."""
    if isinstance(value, list):
        return [_word(entry) for entry in value]
    return product.WORDS.get(value, value) if isinstance(value, str) else value


def _sorted(rows: list[Digest]) -> list[Digest]:
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def dump(content: Any, indent: int = 0) -> str:
    """JSON with a line for each list of plain values: numbers to the digit, and differences that can be read."""
    margin = " " * (indent + 1)
    if isinstance(content, dict) and content:
        rows = [f"{margin}{json.dumps(name)}: {dump(value, indent + 1)}" for name, value in content.items()]
        return "{\n" + ",\n".join(rows) + "\n" + " " * indent + "}"
    if isinstance(content, list) and any(isinstance(value, dict | list) for value in content):
        rows = [margin + dump(value, indent + 1) for value in content]
        return "[\n" + ",\n".join(rows) + "\n" + " " * indent + "]"
    return json.dumps(content)
