"""Checkpoints: what is saved comes back bit for bit, and nothing that is damaged or foreign is used."""

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from emodarts import checkpoints as module
from emodarts import files
from emodarts.checkpoints import (
    NO_CHECKPOINTS,
    Checkpoint,
    CheckpointError,
    StopRequested,
    load_module,
    load_optimiser,
    module_checkpoint,
    optimiser_checkpoint,
    random_checkpoint,
    restore_random,
)
from emodarts.errors import EmodartsError
from emodarts.storage import Storage
from tests.support.checkpoints import checkpoints_at, file_of

IDENTITY = {"fold": "ab12", "seed": 3, "settings": {"epochs": 30, "rate": 0.1, "strides": [8, 2]}}
CONTENT = Checkpoint({"weights": torch.arange(12, dtype=torch.float32).reshape(3, 4)}, {"epoch": 4, "uar": 0.1 + 0.2})


def bits(value):
    return value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.fixture
def kept(tmp_path):
    """Checkpoints with one that is saved."""
    checkpoints = checkpoints_at(tmp_path / "unit" / "training.safetensors", IDENTITY)
    checkpoints.save(CONTENT)
    return checkpoints


def test_tensors_of_every_kind_come_back_bit_for_bit(tmp_path):
    noise = torch.Generator().manual_seed(0)
    tensors = {
        "float32": torch.randn(5, 7, generator=noise),
        "float64": torch.randn(3, generator=noise, dtype=torch.float64) * 1e-300,
        "bfloat16": torch.randn(3, generator=noise).bfloat16(),
        "int64": torch.tensor([2**62 + 1, -5]),
        "uint8": torch.arange(256, dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(1 / 3),
        "empty": torch.zeros(0, 4),
        "special": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "transposed": torch.randn(4, 6, generator=noise).T,
        "channels last": torch.randn(2, 3, 4, 5, generator=noise).contiguous(memory_format=torch.channels_last),
    }
    tensors["the same memory"] = tensors["float32"]
    tensors["a part of it"] = tensors["float32"][1:3]
    checkpoints = checkpoints_at(tmp_path / "a.safetensors")
    checkpoints.save(Checkpoint(tensors, {}))
    loaded = checkpoints.load()
    assert loaded.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert loaded.tensors[name].dtype == value.dtype
        assert loaded.tensors[name].shape == value.shape
        assert bits(loaded.tensors[name]) == bits(value)


def test_state_keeps_every_bit_of_its_floats_infinity_and_nan_too(tmp_path):
    random = np.random.default_rng(0).random(50).tolist()
    values = [0.1 + 0.2, 1e-323, -0.0, 1.7976931348623157e308, float("inf"), float("-inf"), *random]
    state = {"values": values, "none": None, "deep": {"flag": True, "large": 2**127 + 1}, "nan": float("nan")}
    checkpoints = checkpoints_at(tmp_path / "a.safetensors")
    checkpoints.save(Checkpoint({}, state))
    loaded = checkpoints.load().state
    assert [x.hex() for x in loaded["values"]] == [x.hex() for x in values]
    assert loaded["deep"] == state["deep"]
    assert loaded["nan"] != loaded["nan"]


def test_none_where_there_is_no_file_or_none_are_kept(tmp_path):
    assert checkpoints_at(tmp_path / "nothing" / "a.safetensors").load() is None
    assert NO_CHECKPOINTS.load() is None
    NO_CHECKPOINTS.save(CONTENT)
    NO_CHECKPOINTS.delete()
    with NO_CHECKPOINTS.saving(lambda: pytest.fail("nobody keeps it")):
        pass


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """Ends steps of a stage at a time (s), and tells the number of the step that is saved when the block is left."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def end(checkpoints, number, at, ends=False, stop=None):
        now[0] = at
        with checkpoints.saving(lambda: Checkpoint({}, {"step": number}), ends):
            if stop is not None:
                raise stop
        return saved(checkpoints)

    def saved(checkpoints):
        checkpoint = checkpoints.load()
        return None if checkpoint is None else checkpoint.state["step"]

    end.saved = saved
    return end


def test_saved_after_each_step_or_at_most_once_in_so_many_seconds_and_at_the_end(tmp_path, steps):
    always, seldom = checkpoints_at(tmp_path / "a"), checkpoints_at(tmp_path / "b", seconds=60)
    assert [steps(always, number, number) for number in (1, 2, 3)] == [1, 2, 3]
    at = {1: 10, 2: 59, 3: 61, 4: 100, 5: 122}
    assert [steps(seldom, number, second) for number, second in at.items()] == [None, None, 3, 3, 5]
    assert steps(seldom, 6, 123, ends=True) == 6


@pytest.mark.parametrize("stop", [SystemExit(0), KeyboardInterrupt()])
def test_a_stop_saves_the_step_that_was_not_due(tmp_path, steps, stop):
    seldom = checkpoints_at(tmp_path / "a", seconds=60)
    with pytest.raises(type(stop)):
        steps(seldom, 1, 5, stop=stop)
    assert steps.saved(seldom) == 1
    with pytest.raises(ZeroDivisionError):
        steps(seldom, 2, 6, stop=ZeroDivisionError())
    assert steps.saved(seldom) == 1, "after an error nobody knows what the state is"


def test_a_request_to_stop_ends_a_step_or_what_is_within_it_but_not_the_last(tmp_path, steps):
    asked = replace(checkpoints_at(tmp_path / "a.safetensors", seconds=60), should_stop=lambda: True)
    with pytest.raises(StopRequested):
        steps(asked, 1, 5)
    assert steps.saved(asked) == 1
    with pytest.raises(StopRequested):
        asked.stop_within(lambda: Checkpoint({}, {"step": 1.5}))
    assert steps.saved(asked) == 1.5
    assert steps(asked, 2, 6, ends=True) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"], "the step's own supersedes it"
    asked.delete()
    NO_CHECKPOINTS.stop_within(lambda: pytest.fail("nobody keeps it"))


def test_deleting_takes_the_leavings_of_killed_writers_along(kept):
    leaving = file_of(kept).with_name(f"{file_of(kept).name}.123-abcd.partial")
    other = file_of(kept).with_name("search.safetensors")
    leaving.write_bytes(b"half")
    other.write_bytes(b"other")
    kept.delete()
    kept.delete()
    assert os.listdir(file_of(kept).parent) == [other.name]
    assert kept.load() is None


@pytest.mark.parametrize("failing", ["write_bytes", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_else(kept, monkeypatch, failing):
    before = file_of(kept).read_bytes()

    def full(path, *rest):
        if failing == "write_bytes":
            with open(path, "wb") as file:
                file.write(rest[0][:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path if failing == "write_bytes" else os, failing, full)
    with pytest.raises(EmodartsError, match=r"cannot write .*training\.safetensors: No space left .*; make room"):
        kept.save(Checkpoint({}, {"epoch": 5}))
    monkeypatch.undo()
    assert file_of(kept).read_bytes() == before
    assert os.listdir(file_of(kept).parent) == [file_of(kept).name]


def test_an_interrupt_while_writing_leaves_the_old_checkpoint(kept, monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.save(Checkpoint({}, {"epoch": 5}))
    assert kept.load().state == CONTENT.state
    assert os.listdir(file_of(kept).parent) == [file_of(kept).name]


def test_a_file_cut_off_anywhere_is_refused(kept):
    whole = file_of(kept).read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 48, len(whole) - 1]:
        file_of(kept).write_bytes(whole[:length])
        with pytest.raises(EmodartsError, match=r"training\.safetensors is cut off or damaged .*delete it"):
            kept.load()


def test_an_altered_byte_never_gives_another_checkpoint(kept):
    """Each byte in turn: refused, or (in what pads the header) without any effect."""
    whole = file_of(kept).read_bytes()
    refused = 0
    for place in range(len(whole)):
        file_of(kept).write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            loaded = kept.load()
        except EmodartsError:
            refused += 1
            continue
        assert loaded.state == CONTENT.state
        assert bits(loaded.tensors["weights"]) == bits(CONTENT.tensors["weights"])
    assert refused >= len(whole) - 8


def test_foreign_files_are_refused(kept):
    file_of(kept).write_bytes(safetensors.torch.save({"a": torch.ones(2)}, {"format": "pt"}))
    with pytest.raises(EmodartsError, match="no checkpoint of emodarts"):
        kept.load()
    file_of(kept).write_bytes(safetensors.torch.save({"a": torch.ones(2)}))
    with pytest.raises(EmodartsError, match="no checkpoint of emodarts"):
        kept.load()
    torch.save({"a": torch.ones(2)}, file_of(kept))
    with pytest.raises(EmodartsError, match="damaged"):
        kept.load()


def test_another_version_is_refused(kept, monkeypatch):
    monkeypatch.setattr(module, "VERSION", 7)
    with pytest.raises(EmodartsError, match="checkpoint of version 2, and this program reads version 7"):
        kept.load()


def test_another_identity_is_refused_and_what_differs_is_named(kept):
    other = {**IDENTITY, "seed": 4, "settings": {**IDENTITY["settings"], "strides": [4, 2]}}
    with pytest.raises(EmodartsError, match=r"belongs to another run: seed, settings\.strides differ\."):
        checkpoints_at(file_of(kept), other).load()
    assert checkpoints_at(file_of(kept), json.loads(json.dumps(IDENTITY))).load().state == CONTENT.state


def test_a_file_that_cannot_be_read_is_an_error_not_a_new_start(kept):
    file_of(kept).unlink()
    file_of(kept).mkdir()  # as good as a file without permission, whoever runs the tests
    with pytest.raises(EmodartsError, match=r"cannot read .*training\.safetensors"):
        kept.load()


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "unit").write_text("not a folder")
    checkpoints = checkpoints_at(tmp_path / "unit" / "a.safetensors")
    with pytest.raises(EmodartsError, match="cannot write"):
        checkpoints.save(CONTENT)
    with pytest.raises(EmodartsError, match="is a file, not a folder"):
        checkpoints.load()


def test_what_is_there_is_one_request(kept, monkeypatch):
    """On an object store each question costs money: one list of the folder answers for both files of a stage."""
    asked = []
    for name in ("exists", "read", "list"):
        real = getattr(Storage, name)
        monkeypatch.setattr(Storage, name, lambda *a, real=real, name=name: asked.append(name) or real(*a))
    kept.load()
    assert asked == ["list", "read"]
    kept.delete()
    kept.delete()
    assert kept.load() is None
    assert asked[2:] == ["list", "list", "list"]


def test_two_savers_never_leave_a_mixture(kept):
    """Whoever is last wins; at every moment the file is one of theirs, whole."""

    def save(number):
        for _ in range(20):
            kept.save(Checkpoint({"weights": torch.full((5000,), float(number))}, {"epoch": number}))

    savers = [threading.Thread(target=save, args=(number,)) for number in (1, 2)]
    for saver in savers:
        saver.start()
    while any(saver.is_alive() for saver in savers):
        loaded = kept.load()
        if loaded.state["epoch"] in (1, 2):
            assert set(loaded.tensors["weights"].tolist()) == {float(loaded.state["epoch"])}
    assert os.listdir(file_of(kept).parent) == [file_of(kept).name]


@pytest.mark.parametrize("build", [lambda p: torch.optim.AdamW(p, 1e-2), lambda p: torch.optim.SGD(p, 1e-2, 0.9)])
def test_a_module_its_optimiser_and_all_chance_go_on_as_if_never_stopped(tmp_path, build):
    def start():
        torch.manual_seed(5)
        network = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
        optimiser = build(network.parameters())
        return network, optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, 12), np.random.default_rng(1)

    def steps(network, optimiser, schedule, rng, count):
        losses = []
        for _ in range(count):
            x = torch.from_numpy(rng.normal(size=(6, 4))).float()
            loss = network(x).square().mean() + network(x)[:, 0].mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()).hex())
        return losses

    undisturbed = steps(*start(), 10)
    network, optimiser, schedule, rng = start()
    first = steps(network, optimiser, schedule, rng, 4)
    checkpoints = checkpoints_at(tmp_path / "a.safetensors")
    checkpoints.save(
        module_checkpoint(network, "network")
        | optimiser_checkpoint(optimiser, "optimiser")
        | random_checkpoint(rng, "cpu")
        | Checkpoint({}, {"schedule": schedule.state_dict()})
    )
    steps(network, optimiser, schedule, rng, 3)

    network, optimiser, schedule, rng = start()
    loaded = checkpoints.load()
    load_module(network, loaded, "network")
    load_optimiser(optimiser, loaded, "optimiser")
    schedule.load_state_dict(loaded.state["schedule"])
    restore_random(loaded, rng, "cpu")
    assert first + steps(network, optimiser, schedule, rng, 6) == undisturbed


@pytest.mark.parametrize("fault", ["other shape", "no weights", "no optimiser", "other group", "no generator"])
def test_what_does_not_fit_is_a_checkpoint_error(fault):
    network = nn.Linear(4, 3)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(2, 4)).sum().backward()
    optimiser.step()
    rng = np.random.default_rng(0)
    whole = module_checkpoint(network, "network") | optimiser_checkpoint(optimiser, "optimiser")
    whole |= random_checkpoint(rng, "cpu")
    tensors, state = whole.tensors, whole.state
    if fault == "other shape":
        tensors["network.weight"] = torch.ones(5, 4)
    elif fault == "no weights":
        del tensors["network.weight"]
    elif fault == "no optimiser":
        del state["optimiser"]
    elif fault == "other group":
        state["optimiser"]["groups"].append(state["optimiser"]["groups"][0])
    else:
        del state["random"]
    damaged = Checkpoint(tensors, state)

    def load():
        load_module(network, damaged, "network")
        load_optimiser(optimiser, damaged, "optimiser")
        restore_random(damaged, rng, "cpu")

    with pytest.raises(CheckpointError, match=r"does not fit .*: it has to start anew"):
        load()
