"""A search that is stopped between two epochs and goes on from its checkpoint ends as one that was never stopped.

Whole units (search, training, prediction), stopped at any step: test_resume.py.
"""

from dataclasses import replace

import pytest

from emodarts.search.loop import search
from tests.support.checkpoints import checkpoints_at
from tests.support.toys import PLAIN, noise, task

VARIANTS = [
    {},
    {"unrolled": True, "optimiser": "sgd"},
    {"optimisation": "single", "regulariser": "skip_dropout", "cost_weight": 0.5},
    {"stop": "eigenvalue", "stop_window": 3, "relaxation": "sigmoid"},
    {"scope": "one_after_the_other", "regulariser": "skip_dropout", "dropout": 0.3},
    {"selection": "perturbation", "regulariser": "skip_dropout"},
    {"selection": "perturbation", "perturbation_steps": 1, "regulariser": "beta_decay"},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", VARIANTS, ids=lambda s: "-".join(map(str, s.values())) or "plain")
def test_a_search_that_was_stopped_goes_on_bit_for_bit(settings, tmp_path):
    given = task(*noise(), **{**PLAIN, "epochs": 4, **settings})
    whole = search(given)
    kept = checkpoints_at(tmp_path / "search.safetensors", {"seed": 0})
    for stop_at in (1, 2, 4):
        with pytest.raises(KeyboardInterrupt):
            search(given, _stops_at(stop_at), kept)
    told = []
    found = search(given, told.append, kept)
    assert found.genotype == whole.genotype
    assert found.epoch == whole.epoch
    assert [replace(e, seconds=0) for e in found.epochs] == [replace(e, seconds=0) for e in whole.epochs]
    assert found.dev_probabilities.tobytes() == whole.dev_probabilities.tobytes()
    assert [e.epoch for e in told] == list(range(len(found.epochs)))


def _stops_at(epoch):
    def progress(record):
        if record.epoch == epoch - 1:
            raise KeyboardInterrupt

    return progress
