"""What needs a CUDA device: `pytest -m gpu`."""

import numpy as np
import pytest
import torch

from emodarts.experiment import choose_device, run_fold
from emodarts.networks.network import DiscreteNetwork
from emodarts.networks.operations import CNN_OPERATIONS
from emodarts.networks.supernet import Supernet

pytestmark = pytest.mark.gpu


def test_a_whole_unit_on_the_gpu(demo, demo_store, tiny):
    assert choose_device("auto") == "cuda"
    records = run_fold(demo_store, demo[2][0], tiny, device="cuda")
    assert [e.role for e in records.evaluations] == ["dev", "dev", "test"]
    assert all(np.isfinite(e.probabilities).all() for e in records.evaluations)


def test_the_same_network_predicts_the_same_on_both_devices():
    from test_networks import LENGTHS, SHAPE, inputs

    torch.manual_seed(0)
    supernet = Supernet(SHAPE, tuple(CNN_OPERATIONS), ("none", "skip_connect", "lstm_1"))
    network = DiscreteNetwork(SHAPE, supernet.derive())
    network(inputs(seed=1), LENGTHS)
    network.eval()
    with torch.no_grad():
        on_cpu = network(inputs(), LENGTHS)
        on_gpu = network.cuda()(inputs().cuda(), LENGTHS.cuda()).cpu()
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-3, rtol=1e-3)
