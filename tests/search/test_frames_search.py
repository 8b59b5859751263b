"""Searches of the space for frames: layers, pooling and operations at once, by every way of searching."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emodarts.features.batches import evaluation_batches
from emodarts.features.settings import FeatureSettings
from emodarts.networks.costs import count_macs
from emodarts.networks.genotype import Edge, Genotype
from emodarts.networks.names import POOLING_NAMES
from emodarts.networks.network import DiscreteNetwork
from emodarts.search import loop
from emodarts.search.budget import Budget
from emodarts.search.candidates import CandidateSpace
from emodarts.search.loop import SupernetSearch, run_search, search
from emodarts.search.proposals import draw_proposals
from emodarts.search.scope import fixed_genotype
from emodarts.search.single_path import SinglePathSearch, path_weights
from emodarts.search.task import CandidateResult
from tests.support.checkpoints import checkpoints_at
from tests.support.toys import PLAIN, noise, task

ENCODER = FeatureSettings(kind="encoder", model="an/encoder", layers=[0, 1, 2], frames_per_second=25.0, speeds=[1.0])
SMALL = {
    "space": "frames",
    "cnn_operations": ["none", "skip_connect", "conv1d_3"],
    "sequence_operations": ["none", "skip_connect", "gru_1"],
    "epochs": 2,
}


def layered(count=96, layers=3, informed=1, frames=12, bins=6, seed=0):
    """Frames `(utterances, time, layers, bins)` of noise; one bin of one layer tells the class for a few frames."""
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(count, frames, layers, bins)), rng.permutation(np.arange(count) % 3)
    for row, label in zip(x, labels, strict=True):
        start = rng.integers(frames - 4)
        row[start : start + 4, informed, label] += 3.0
    return x, labels


def frames_task(seed=0, **settings):
    return task(*layered(48), features=ENCODER, seed=seed, **{**SMALL, **settings})


def search_alphas(given):
    """The supernet of a task, searched to its end, and how far each kind of alphas has moved."""
    searching = SupernetSearch(given)
    start = {kind: alpha.detach().clone() for kind, alpha in searching.supernet.alphas.items()}
    for epoch in range(given.settings.epochs):
        searching.run_epoch(epoch)
    moved = {kind: float((a.detach() - start[kind]).abs().max()) for kind, a in searching.supernet.alphas.items()}
    return searching.supernet, moved


@pytest.mark.slow
@pytest.mark.parametrize("informed", [0, 2])
def test_the_alphas_find_the_layer_that_tells_the_classes_and_the_pooling_moves(informed):
    settings = {"epochs": 6, "alpha_learning_rate": 0.2, "learning_rate": 1e-2, "sequence_width": 8}
    trained, moved = search_alphas(task(*layered(informed=informed), features=ENCODER, **{**SMALL, **settings}))
    weights = trained.mixing_weights()["L"].detach()
    assert trained.derive().layers == (informed, informed), weights
    assert moved["P"] > 0.5


@pytest.mark.parametrize(
    "settings",
    [
        {"optimisation": "single"},
        {"optimisation": "bilevel", "unrolled": True},
        {"relaxation": "sigmoid", "regulariser": "beta_decay", "cost_weight": 1.0},
        {**PLAIN, "selection": "perturbation", "perturbation_steps": 1, "perturbation_batches": 1},
        {**PLAIN, "stop": "eigenvalue", "stop_window": 1},
        {"stop": "skips", "scope": "cnn_only"},
        {"scope": "seqnn_only"},
        {"scope": "one_after_the_other", "epochs": 3},
        {"method": "frozen"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values()))[:60],
)
def test_every_way_of_searching_finds_layers_and_a_pooling(settings):
    given = frames_task(**{"warmup_epochs": 0, **settings})
    result = search(given)
    assert len(result.genotype.layers) == 2
    assert result.genotype.pooling in POOLING_NAMES
    assert Genotype.from_json(result.genotype.to_json()) == result.genotype
    if given.settings.scope == "seqnn_only":
        assert result.genotype.layers == (None, None)
    if given.settings.scope == "cnn_only":
        assert result.genotype.pooling == "attentive_statistics"


def test_the_parts_of_the_network_hold_what_is_theirs():
    """What cells read belongs to the CNN part, the pooling to the sequence part."""
    for scope, moving in (("joint", "NSPL"), ("cnn_only", "NL"), ("seqnn_only", "SP")):
        _, moved = search_alphas(frames_task(scope=scope, warmup_epochs=0, epochs=1))
        assert {kind for kind, distance in moved.items() if distance} == set(moving)


@pytest.mark.parametrize("features", [None, replace(ENCODER, layers=1)], ids=["log-mel", "one-layer"])
def test_frames_without_layers_are_searched_too(features):
    given = task(*noise(), features=features, **SMALL)
    assert given.shape.stem_strides[1] == (2 if features is None else 1)  # of 62.5 and 25 frames a second
    result = search(given)
    assert result.genotype.layers == (0, 0)
    DiscreteNetwork(given.shape, result.genotype)


def test_the_same_seed_finds_the_same_and_goes_on_bit_for_bit(tmp_path):
    given = frames_task(optimisation="bilevel", dropout=0.2)
    whole, again, other = search(given), search(given), search(replace(given, seed=1))
    probabilities = [result.dev_probabilities.tobytes() for result in (whole, again, other)]
    assert probabilities[0] == probabilities[1] != probabilities[2]
    assert whole.genotype == again.genotype
    stored = checkpoints_at(tmp_path / "search.safetensors", {"seed": 0})
    with pytest.raises(KeyboardInterrupt):
        search(given, _stop, stored)
    resumed = search(given, checkpoints=stored)
    assert resumed.genotype == whole.genotype
    assert resumed.dev_probabilities.tobytes() == probabilities[0]


def _stop(record):
    raise KeyboardInterrupt


def test_candidates_are_of_all_layers_and_poolings():
    given = frames_task(cells=2)
    space, rng = CandidateSpace.of(given.settings, given.shape), np.random.default_rng(0)
    drawn = [space.draw(rng) for _ in range(60)]
    assert {genotype.pooling for genotype in drawn} == set(POOLING_NAMES)
    for cell in range(3):
        assert {genotype.layers[cell] for genotype in drawn} == {0, 1, 2, None}
    parent, changes = drawn[0], {"pooling": 0, "layers": 0, "cells": 0}
    for _ in range(100):
        child = space.mutate(parent, rng)
        changed = [name for name in changes if getattr(child, name) != getattr(parent, name)]
        assert len(changed) == 1
        changes[changed[0]] += 1
        if changed == ["layers"]:
            assert sum(a != b for a, b in zip(child.layers, parent.layers, strict=True)) == 1
    assert min(changes.values()) >= 4
    held = CandidateSpace.of(replace(given.settings, scope="seqnn_only"), given.shape).draw(rng)
    assert held.layers == (None, None, None)


@pytest.mark.parametrize("method", ["random_search", "evolution", "random_architecture", "fixed"])
def test_controls_search_the_space_too(method):
    given = frames_task(method=method, **({"candidates": 3} if method in ("random_search", "evolution") else {}))
    tried = []

    def evaluate(genotype, epochs, seed):
        tried.append(genotype)
        return CandidateResult(len(tried) / 10, 1.0)

    result = run_search(given, evaluate)
    assert len(result.genotype.layers) == 2
    DiscreteNetwork(result.shape, result.genotype)
    if tried:
        assert result.genotype == tried[-1]


@pytest.mark.parametrize("path_sampling", ["uniform", "fair"])
def test_single_paths_read_a_layer_and_pool_by_one_pooling(path_sampling):
    given = frames_task(method="spos", path_sampling=path_sampling, candidates=3, epochs=1)
    result = run_search(given, None)
    assert len(result.genotype.layers) == 2
    searching = SinglePathSearch(given)
    supernet, path = searching.supernet, CandidateSpace.of(given.settings, given.shape).draw(np.random.default_rng(0))
    batch = next(iter(evaluation_batches(given.train_part, 8, "cpu")))
    with supernet.override_weights(path_weights(supernet, path)):
        searching.trainer.weight_step(batch)
    trained = {name for name, p in supernet.named_parameters() if name.startswith("poolings.") and p.grad is not None}
    assert {name.split(".")[1] for name in trained} == {path.pooling}


def test_proposals_have_layers_by_their_weights():
    supernet = SupernetSearch(frames_task()).supernet
    with torch.no_grad():
        supernet.alphas["L"][:] = torch.tensor([[9.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    proposals = draw_proposals(supernet, supernet.derive(), 40, np.random.default_rng(0))
    assert {genotype.layers[0] for genotype in proposals} == {0}  # its weight decides
    assert {genotype.layers[1] for genotype in proposals} == {0, 1, 2, None}
    assert {genotype.pooling for genotype in proposals} == set(POOLING_NAMES)


def test_the_plain_architecture_is_what_did_best_on_encoder_frames():
    """Residual convolutions and a bidirectional LSTM, attentive statistics, learned weightings (docs/search.md)."""
    given = frames_task(nodes=2, cnn_operations=None, sequence_operations=None)
    genotype = fixed_genotype(given.settings, given.shape)
    residual = [(Edge("skip_connect", node), Edge("conv1d_3", node + 1)) for node in range(2)]
    assert genotype.normal == tuple(residual)
    assert genotype.sequence == ((Edge("skip_connect", 0), Edge("bilstm_1", 1)),)
    assert (genotype.pooling, genotype.layers) == ("attentive_statistics", (None, None))
    supernet = loop.SupernetSearch(given).supernet
    assert supernet.derive(supernet.discrete_weights(genotype)) == genotype  # a search can find it


def test_perturbations_of_layers_and_pooling_count_as_decisions():
    given = frames_task(optimisation="bilevel", selection="perturbation", perturbation_steps=2)
    budget = Budget.of(given)
    plain = replace(budget, choices={})
    assert budget.of_selection - plain.of_selection == budget.macs * 16 * 2 * 3  # a pooling, the layers of two cells


def test_proposals_differ_in_layers_and_pooling_too():
    given = frames_task(epochs=6, proposals=6, proposal_epochs=1)
    proposals = search(given).proposals
    assert len(set(proposals)) == 6
    assert len({genotype.pooling for genotype in proposals}) > 1
    held = search(replace(given, settings=replace(given.settings, scope="cnn_only"))).proposals
    assert {genotype.pooling for genotype in held} == {"attentive_statistics"}


def test_single_paths_train_one_pooling_and_rank_layers():
    given = frames_task(method="spos", epochs=3, candidates=6, cells=1, nodes=1)
    searching = SinglePathSearch(given)
    path = CandidateSpace.of(given.settings, given.shape).draw(np.random.default_rng(1))
    before = {name: p.detach().clone() for name, p in searching.supernet.named_parameters()}
    batch = next(iter(evaluation_batches(given.train_part, 8, "cpu")))
    with searching.supernet.override_weights(path_weights(searching.supernet, path)):
        searching.trainer.weight_step(batch)
    changed = {n for n, p in searching.supernet.named_parameters() if not torch.equal(p, before[n])}
    assert {n.split(".")[1] for n in changed if n.startswith("poolings.")} == {path.pooling}
    assert searching.costs.of(path) == count_macs(DiscreteNetwork(given.shape, path), given.crop)
    result = run_search(given, None)
    assert len(result.genotype.layers) == 2
    assert result.genotype.pooling in POOLING_NAMES
