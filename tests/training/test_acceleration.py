"""What makes training steps faster: memory that a process keeps."""

import platform
import resource

import pytest
import torch

from emodarts.training.acceleration import keep_freed_memory, training_forward


def page_faults_of_steps():
    """Pages that the system maps for tensors of 30 MB that come and go, once they have come before."""

    def run_steps():
        for _ in range(4):
            tensors = [torch.zeros(2**20, dtype=torch.float64) for _ in range(4)]
            del tensors
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    return -run_steps() + run_steps()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_kept_for_the_next_step():
    assert keep_freed_memory()
    assert page_faults_of_steps() < 4096  # of 32768 pages


def test_a_training_on_a_cpu_keeps_its_freed_memory(monkeypatch):
    calls = []
    monkeypatch.setattr("emodarts.training.acceleration.keep_freed_memory", lambda: calls.append("kept"))
    network = torch.nn.Linear(1, 1)
    assert training_forward(network, "cpu", "float32", "none") is network
    assert calls == ["kept"]
    training_forward(network, "cuda", "float32", "none")
    assert calls == ["kept"]


def test_without_glibc_nothing_is_set(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
