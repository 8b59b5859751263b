"""A matrix of corpora: one sweep a corpus, trained on it and tested on all the others. They are ordinary sweeps."""

from dataclasses import replace

from emodarts.corpora.settings import short_name
from sweeps.settings import Settings


def matrix_sweeps(settings: Settings) -> list[Settings]:
    """The settings of the sweep of each corpus of `matrix`, in the order of their names."""
    sweeps = []
    for corpus in sorted(settings.matrix, key=short_name):
        own = settings.corpus.for_corpus(corpus, settings.roots.get(short_name(corpus)))
        name = settings.sweep.name and f"{settings.sweep.name}-{short_name(corpus)}"
        others = [other for other in settings.matrix if other != corpus]
        sweep = replace(settings.sweep, name=name)
        sweeps.append(replace(settings, corpus=own, sweep=sweep, extra_tests=others, matrix=[]))
    return sweeps
