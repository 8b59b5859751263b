"""A run that is stopped anywhere and goes on gives, bit for bit, what one that was never stopped gives (on a CPU)."""

import itertools
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from emodarts import files
from emodarts.checkpoints import StopRequested
from emodarts.errors import EmodartsError
from emodarts.experiment.stages import search
from emodarts.experiment.unit import run_fold
from emodarts.experiment.unit_checkpoints import StoppableFolder, discard_checkpoints
from emodarts.features import batches
from emodarts.features.settings import BatchSettings
from emodarts.storage import Storage
from tests.support.interruptions import Stopped, counting, without_times

SEED = 3
STOPS = np.random.default_rng(20240607).random(18)  # how far into a run, as a part of its steps

WAYS = {
    "first order": {"optimisation": "bilevel"},
    "second order": {"optimisation": "bilevel", "unrolled": True, "optimiser": "sgd"},
    "single level": {},
    "perturbation": {
        "optimisation": "bilevel",
        "selection": "perturbation",
        "perturbation_steps": 1,
        "perturbation_batches": 1,
        "epochs": 2,
    },
    "eigenvalue": {"optimisation": "bilevel", "stop": "eigenvalue", "stop_window": 1, "epochs": 2},
    "skip dropout in turn": {"scope": "one_after_the_other", "regulariser": "skip_dropout", "epochs": 4},
    "sigmoid and cost": {"relaxation": "sigmoid", "cost_weight": 0.5, "warmup_epochs": 1},
    "frozen": {"method": "frozen"},
    "random search": {"method": "random_search", "candidates": 3, "candidate_epochs": 1},
    "evolution": {"method": "evolution", "candidates": 4, "candidate_epochs": 1, "population": 2, "tournament": 1},
    "random architecture": {"method": "random_architecture"},
}
_STEPS = list(WAYS)[:3]
_WITHOUT_BATCHES = ("random search", "evolution")  # a candidate's training has no checkpoints


@pytest.fixture(scope="module")
def settings(tiny):
    """Units of a second; masks over time and bands draw from numpy's generator between the batches."""
    return replace(
        tiny,
        search=replace(
            tiny.search,
            epochs=2,
            crop_seconds=0.4,
            cnn_operations=["none", "skip_connect", "avg_pool_3x3", "sep_conv_3x3"],
            sequence_operations=["none", "skip_connect", "lstm_1"],
        ),
        training=replace(tiny.training, epochs=2, crop_seconds=0.4),
        batches=BatchSettings(time_masks=1, frequency_masks=1),
    )


@pytest.fixture(scope="module")
def undisturbed(demo_store, fold, settings):
    """Runs that were never stopped, and their numbers of steps, by the name of their settings."""
    runs = {}

    def of(name):
        if name not in runs:
            steps = Counter()
            with counting(steps):
                records = run_fold(demo_store, fold, chosen(settings, name), SEED)
            runs[name] = without_times(records), steps["steps"]
        return runs[name]

    return of


def chosen(settings, name):
    if name == "spos":
        return replace(settings, search=replace(settings.search, method="spos", path_sampling="fair", candidates=2))
    if name == "hand-designed":
        return replace(settings, system="cnn_lstm_attention")
    return replace(settings, search=replace(settings.search, **WAYS[name]))


def stop_and_go_on(store, fold, settings, folder, stop):
    """Stop at a step, then run again to the end."""
    with counting(Counter(), stop), pytest.raises(Stopped):
        run_fold(store, fold, settings, SEED, checkpoints=folder)
    torch.manual_seed(12345)  # nothing may depend on what the process did in between
    return without_times(run_fold(store, fold, settings, SEED, checkpoints=folder))


@pytest.mark.slow
@pytest.mark.parametrize("name", _STEPS)
@pytest.mark.parametrize("part", range(6))
def test_stopped_at_a_random_step(demo_store, fold, settings, undisturbed, tmp_path, name, part):
    """Six random points for each kind of step, one in each sixth of the run: in the search and in the training."""
    expected, steps = undisturbed(name)
    stop = 1 + int((part + STOPS[part + 6 * _STEPS.index(name)]) / 6 * steps)
    assert stop_and_go_on(demo_store, fold, chosen(settings, name), tmp_path, stop) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", [*list(WAYS)[3:], "hand-designed"])
def test_every_other_way_to_an_architecture(demo_store, fold, settings, undisturbed, tmp_path, name):
    expected, steps = undisturbed(name)
    stop = int(0.45 * steps)
    assert stop_and_go_on(demo_store, fold, chosen(settings, name), tmp_path, stop) == expected


def folder_stopping_after(count, folder):
    """The folder, with the request to stop after so many batches (the end of an epoch counts as one)."""
    questions = itertools.count(1)
    return StoppableFolder(Storage.open(folder), lambda: next(questions) >= count)


def run_in_pieces(run, folder, pieces):
    """Ask to stop after so many batches, go on, ask again ...; the records at the end."""
    for count in pieces:
        try:
            return run(checkpoints=folder_stopping_after(count, folder))
        except StopRequested:
            torch.manual_seed(12345)  # nothing may depend on what the process did in between
    pytest.fail("the pieces are not enough")


@pytest.mark.slow(seconds=20)
@pytest.mark.parametrize("name", [*[name for name in WAYS if name not in _WITHOUT_BATCHES], "spos", "hand-designed"])
def test_asked_to_stop_within_epochs_nothing_is_done_twice(demo_store, fold, settings, undisturbed, tmp_path, name):
    """At random batches, again and again, in the search and in the training; the steps are those of one run."""
    expected, total = undisturbed(name)
    pieces, steps = np.random.default_rng(len(name)).integers(1, 5, size=200).tolist(), Counter()
    run = partial(run_fold, demo_store, fold, chosen(settings, name), SEED)
    with counting(steps):
        assert without_times(run_in_pieces(run, tmp_path, pieces)) == expected
    assert steps["steps"] == total
    assert not list(tmp_path.glob("*.within.*"))


@pytest.mark.slow
def test_masks_buckets_and_samples_go_on_within_an_epoch(demo_store, fold, settings, tmp_path, monkeypatch):
    """All that an epoch draws, stopped after each of its batches."""
    monkeypatch.setattr(batches, "_WINDOWS", 1)
    mixed = replace(settings.batches, bucket_size=2, crop="random")
    unit = replace(settings, batches=mixed, training=replace(settings.training, mixup=0.4))
    run = partial(run_fold, demo_store, fold, unit, SEED)
    whole = without_times(run())
    assert without_times(run_in_pieces(run, tmp_path, [1] * 200)) == whole


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [lambda content: content[: len(content) // 2], lambda content: b""], ids=["cut", "0"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_a_damaged_checkpoint_within_an_epoch_falls_back_to_the_epoch(
    demo_store, fold, settings, undisturbed, tmp_path, epochs, spoil
):
    expected, total = undisturbed("single level")
    per_epoch = -(-len(fold.train) // settings.search.batch_size)
    stopping = folder_stopping_after(epochs * (per_epoch + 1) + 2, tmp_path)
    with pytest.raises(StopRequested):
        run_fold(demo_store, fold, settings, SEED, checkpoints=stopping)
    assert (tmp_path / "search.safetensors").exists() == (epochs > 0)
    within = tmp_path / "search.within.safetensors"
    within.write_bytes(spoil(within.read_bytes()))
    steps = Counter()
    with counting(steps):
        assert without_times(run_fold(demo_store, fold, settings, SEED, checkpoints=tmp_path)) == expected
    assert total - steps["steps"] == 2 * epochs * per_epoch  # each batch moves alphas and weights
    assert not within.exists()


@pytest.mark.slow
def test_killed_after_a_stop_within_an_epoch(demo_store, fold, settings, undisturbed, tmp_path):
    """What goes on from within an epoch and is killed before the epoch's end goes on from there again."""
    expected, total = undisturbed("single level")
    with pytest.raises(StopRequested):
        run_fold(demo_store, fold, settings, SEED, checkpoints=folder_stopping_after(2, tmp_path))
    with counting(Counter(), 2), pytest.raises(Stopped):
        run_fold(demo_store, fold, settings, SEED, checkpoints=tmp_path)
    steps = Counter()
    with counting(steps):
        assert without_times(run_fold(demo_store, fold, settings, SEED, checkpoints=tmp_path)) == expected
    assert total - steps["steps"] == 2 * 2


@pytest.mark.slow
def test_stopped_after_every_epoch_and_told_of_all_epochs(demo_store, fold, settings, undisturbed, tmp_path):
    """Four times the callback raises: each run gets one epoch further; the last one tells of every epoch, in order."""
    expected, _ = undisturbed("single level")
    heard = []

    def until(count):
        def progress(record):
            heard.append((record.phase, record.epoch))
            if len(heard) == count:
                raise Stopped

        return progress

    for count in range(1, 5):
        heard.clear()
        with pytest.raises(Stopped):
            run_fold(demo_store, fold, settings, SEED, on_epoch_end=until(count), checkpoints=tmp_path)
    heard.clear()
    records = run_fold(demo_store, fold, settings, SEED, on_epoch_end=until(None), checkpoints=tmp_path)
    assert without_times(records) == expected
    assert heard == [(phase, epoch) for phase in ("search", "train") for epoch in range(2)]


@pytest.mark.slow
def test_a_finished_search_is_not_searched_again(demo_store, fold, settings, undisturbed, tmp_path):
    expected, _ = undisturbed("single level")

    def stop_in_training(record):
        if record.phase == "train":
            raise Stopped

    with pytest.raises(Stopped):
        run_fold(demo_store, fold, settings, SEED, on_epoch_end=stop_in_training, checkpoints=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["searched.safetensors", "training.safetensors"]
    steps = Counter()
    with counting(steps):
        assert without_times(run_fold(demo_store, fold, settings, SEED, checkpoints=tmp_path)) == expected
    per_epoch = -(-len(fold.train) // settings.training.batch_size)
    assert steps["steps"] == per_epoch  # of the training, which was stopped after the first of two epochs


@pytest.mark.slow
def test_the_best_epoch_may_lie_before_the_stop(demo_store, fold, settings, tmp_path, monkeypatch):
    """Dev UAR falls from epoch to epoch, so the first of the last quarter is the best: here the fourth of five."""
    from emodarts.search import loop
    from emodarts.training import train

    search_of_five = replace(settings.search, epochs=5, derive_at="best_dev")
    five = replace(settings, search=search_of_five, training=replace(settings.training, epochs=5))

    def worse_and_worse(name, seen):
        original = {"figures_of": loop.figures_of, "dev_figures": train.dev_figures}[name]
        return lambda *arguments: replace(original(*arguments), uar=1 / next(seen))

    def run(**options):
        return run_fold(demo_store, fold, five, SEED, **options)

    def stop_after(phase):
        def progress(record):
            if (record.phase, record.epoch) == (phase, 3):
                raise Stopped

        return progress

    def fall():
        seen = iter(range(1, 100))
        monkeypatch.setattr(loop, "figures_of", worse_and_worse("figures_of", seen))
        monkeypatch.setattr(train, "dev_figures", worse_and_worse("dev_figures", seen))

    fall()
    expected = run()
    monkeypatch.undo()
    fall()
    for phase in ("search", "train"):
        with pytest.raises(Stopped):
            run(on_epoch_end=stop_after(phase), checkpoints=tmp_path)
    assert expected.genotypes[0].derived_at == 3
    assert without_times(run(checkpoints=tmp_path)) == without_times(expected)


@pytest.mark.slow
def test_stopped_while_a_checkpoint_is_written(demo_store, fold, settings, undisturbed, tmp_path, monkeypatch):
    expected, _ = undisturbed("single level")
    written = Counter()

    def stop(path):
        written["files"] += 1
        if written["files"] == 3:
            raise Stopped

    monkeypatch.setattr(files, "sync", stop)
    with pytest.raises(Stopped):
        run_fold(demo_store, fold, settings, SEED, checkpoints=tmp_path)
    monkeypatch.undo()
    assert without_times(run_fold(demo_store, fold, settings, SEED, checkpoints=tmp_path)) == expected


@pytest.mark.slow
def test_checkpoints_change_nothing_and_are_kept_until_discarded(demo_store, fold, settings, undisturbed, tmp_path):
    expected, _ = undisturbed("single level")
    folder = tmp_path / "unit"
    steps = Counter()
    with counting(steps):
        for _ in range(2):  # the second time, everything is there
            assert without_times(run_fold(demo_store, fold, settings, SEED, checkpoints=folder)) == expected
    assert steps["steps"] == undisturbed("single level")[1]
    (folder / "training.safetensors.123-abc.partial").write_bytes(b"of a killed process")
    discard_checkpoints(folder)
    assert not folder.exists()
    discard_checkpoints(folder)


def test_discarding_leaves_other_files_alone(tmp_path):
    for name in ("search.safetensors", "notes.txt"):
        (tmp_path / name).write_text("x")
    discard_checkpoints(tmp_path)
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_checkpoints_of_another_unit_are_refused(demo, demo_store, fold, settings, tmp_path):
    with pytest.raises(Stopped):
        run_fold(demo_store, fold, settings, SEED, on_epoch_end=stopping, checkpoints=tmp_path)
    other = replace(settings, search=replace(settings.search, learning_rate=0.01))
    with pytest.raises(
        EmodartsError, match=r"search\.safetensors belongs to another run: settings\.search\.learning_r"
    ):
        run_fold(demo_store, fold, other, SEED, checkpoints=tmp_path)
    with pytest.raises(EmodartsError, match=r"another run: seed differ"):
        run_fold(demo_store, fold, settings, SEED + 1, checkpoints=tmp_path)
    with pytest.raises(EmodartsError, match=r"another run: fold, fold_hash, recordings differ"):
        run_fold(demo_store, demo[2][1], settings, SEED, checkpoints=tmp_path)


def stopping(record):
    raise Stopped


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused_and_a_deleted_one_starts_anew(
    demo_store, fold, settings, undisturbed, tmp_path
):
    with pytest.raises(Stopped):
        run_fold(demo_store, fold, settings, SEED, on_epoch_end=stopping, checkpoints=tmp_path)
    file = tmp_path / "search.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(EmodartsError, match=r"search\.safetensors is damaged.*delete it to start anew"):
        run_fold(demo_store, fold, settings, SEED, checkpoints=tmp_path)
    file.unlink()
    assert (
        without_times(run_fold(demo_store, fold, settings, SEED, checkpoints=tmp_path))
        == undisturbed("single level")[0]
    )


SCRIPT = """
import pickle, sys
from pathlib import Path
import torch
from emodarts.experiment.unit import run_fold
torch.set_num_threads(1)
store, fold, settings, seed, folder = pickle.loads(sys.stdin.buffer.read())
def tell(record):
    print(record.phase, record.epoch, flush=True)
run_fold(store, fold, settings, seed, on_epoch_end=tell, checkpoints=Path(folder))
"""


@pytest.mark.slow
def test_killed_at_a_random_moment(demo_store, fold, settings, undisturbed, tmp_path):
    import pickle

    rng = np.random.default_rng()  # a new moment each time: no moment may matter
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(pickle.dumps((demo_store, fold, settings, SEED, str(tmp_path))))
    process.stdin.close()
    for _ in range(int(rng.integers(1, 4))):
        assert process.stdout.readline()
    try:
        process.wait(timeout=rng.random() * 0.3)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert Path(tmp_path, "searched.safetensors").exists() or Path(tmp_path, "search.safetensors").exists()
    assert (
        without_times(run_fold(demo_store, fold, settings, SEED, checkpoints=tmp_path))
        == undisturbed("single level")[0]
    )


@pytest.mark.slow
def test_a_search_alone_goes_on_too(demo_store, fold, settings, tmp_path):
    from emodarts.experiment.fold_data import FoldData

    data = FoldData.of(demo_store, fold, settings)
    whole = search(data, SEED)
    with counting(Counter(), 5), pytest.raises(Stopped):
        search(data, SEED, checkpoints=tmp_path)
    again = search(data, SEED, checkpoints=tmp_path)
    assert again.genotype == whole.genotype
    assert again.shape == whole.shape
    assert again.dev_probabilities.tobytes() == whole.dev_probabilities.tobytes()
