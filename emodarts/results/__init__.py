"""Results: the Arrow tables of a sweep, the only state that matters."""

from emodarts.results.reader import open

__all__ = ["open"]
