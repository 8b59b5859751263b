"""Random seeds from names and numbers, never from data: equal names give equal draws on every machine."""

import hashlib
import json


def derive_seed(*names: str | int) -> int:
    """A 63-bit seed, for example `derive_seed(0, "fold3", "search")`."""
    return int.from_bytes(hashlib.sha256(json.dumps(names).encode()).digest()[:8], "big") >> 1


def unit_seed(sweep_seed: int, fold: int, trial: int, seed: int) -> int:
    """The seed of a unit of work: that of configuration `trial`, in its repetition `seed`, on a fold.

    The same configuration number starts from the same seed in every study and system: names and numbers only.
    """
    return derive_seed(sweep_seed, "unit", fold, trial, seed)


def inner_unit_seed(sweep_seed: int, fold: int, inner: int, trial: int, seed: int) -> int:
    """That of a unit on an inner split of the fold; no split shares its luck with another, nor with the fold's own."""
    return derive_seed(sweep_seed, "inner unit", fold, inner, trial, seed)
