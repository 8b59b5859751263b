"""Imports, reports and the restoring of many trials do not look for cycles; afterwards Python does again."""

import gc

import pytest

from emodarts.garbage_collection import with_garbage_collection, without_garbage_collection
from sweeps.study.optuna_study import OptunaStudy
from tests.support.studies import begin, run_all


def test_the_search_for_cycles_comes_back_also_after_an_error():
    @without_garbage_collection()
    def fail():
        assert not gc.isenabled()
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert gc.isenabled()


def test_what_was_off_stays_off():
    gc.disable()
    try:
        with without_garbage_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_sweep_has_it_though_what_comes_before_has_not():
    with without_garbage_collection():
        with with_garbage_collection():
            assert gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_driver_restores_without_it(tmp_path, monkeypatch):
    run_all(begin(tmp_path, trials=3, sampler="random"))
    enabled = []
    real = OptunaStudy.add_trial
    monkeypatch.setattr(OptunaStudy, "add_trial", lambda *of: (enabled.append(gc.isenabled()), real(*of)))
    begin(tmp_path, trials=3, sampler="random")
    assert enabled == [False] * 9
    assert gc.isenabled()
