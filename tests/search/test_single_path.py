"""Single-path one-shot search: what a step trains, how paths are drawn, what candidates are measured by and cost."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from emodarts.errors import EmodartsError
from emodarts.features.batches import evaluation_batches
from emodarts.networks.costs import count_macs
from emodarts.networks.network import DiscreteNetwork
from emodarts.networks.supernet import Supernet
from emodarts.search.budget import Budget
from emodarts.search.candidates import CandidateSpace, FairChoice, choose_uniformly
from emodarts.search.loop import SupernetSearch, run_search
from emodarts.search.single_path import SinglePathSearch, single_path_search
from emodarts.search.supernet_evaluation import InheritedWeights
from emodarts.search.task import CandidateResult
from tests.support.checkpoints import checkpoints_at
from tests.support.toys import noise, task

SETTINGS = {"method": "spos", "epochs": 4, "nodes": 2, "sequence_nodes": 2, "sequence_shortcut": False}


def given(**settings):
    return task(*noise(), **{**SETTINGS, **settings})


def draw(made, seed=0):
    return CandidateSpace.of(made.settings, made.shape).draw(np.random.default_rng(seed))


@pytest.mark.parametrize("scope", ["joint", "seqnn_only"])
def test_a_path_is_the_genotypes_network_and_trains_its_own_weights_alone(scope):
    made = given(scope=scope)
    search = SinglePathSearch(made)
    supernet, path = search.supernet, draw(made)
    plain = Supernet(made.shape, supernet.cnn_operations, supernet.sequence_operations, fused=False)
    plain.load_state_dict(supernet.state_dict())
    batch = next(iter(evaluation_batches(made.train_part, 8, "cpu")))
    weights = supernet.discrete_weights(path)
    with supernet.override_weights(weights), plain.override_weights(weights):
        supernet.train(), plain.train()
        out = supernet(batch.inputs, batch.lengths)
        torch.testing.assert_close(out, plain(batch.inputs, batch.lengths))
        before = {name: p.detach().clone() for name, p in supernet.named_parameters()}
        search.trainer.weight_step(batch)
    changed = {name for name, p in supernet.named_parameters() if not torch.equal(p, before[name])}
    on_path = {
        f"edges.{number}.operations.{edge.operation}."
        for node, edges in enumerate(path.normal)
        for edge in edges
        for number in [sum(range(2, node + 2)) + edge.source]
    }
    of_cnn_edges = {name for name in changed if name.startswith("cells.") and ".edges." in name}
    assert all(any(place in name for place in on_path) for name in of_cnn_edges)
    assert of_cnn_edges or not any("conv" in place for place in on_path)
    assert not any(name.startswith("alphas.") for name in changed)
    assert any(name.startswith("stem.") for name in changed)


def test_paths_are_uniform_or_fair(monkeypatch):
    """Fair: whenever an edge has been on n paths, n operations, each of these was on one of them."""
    space = CandidateSpace.of(given().settings, given().shape)
    fair, uniform = FairChoice(np.random.default_rng(1), {}), choose_uniformly(np.random.default_rng(1))
    spread = {}
    for name, choose in (("fair", fair), ("uniform", uniform)):
        counts = {}
        for _ in range(60):
            for kind, cell in space.build(choose).cells.items():
                for node, edges in enumerate(cell):
                    for edge in edges:
                        counts.setdefault((kind, node, edge.source), Counter())[edge.operation] += 1
        spread[name] = max(
            max(c[name] for name in space.operations[kind]) - min(c[name] for name in space.operations[kind])
            for (kind, *_), c in counts.items()
        )
    assert spread["fair"] == 1
    assert spread["uniform"] > 3


def test_costs_of_a_path_are_those_of_its_network():
    made = given()
    search = SinglePathSearch(made)
    for seed in range(3):
        path = draw(made, seed)
        assert search.costs.of(path) == count_macs(DiscreteNetwork(made.shape, path), made.crop)


@pytest.mark.parametrize("method", ["spos", "darts"])
@pytest.mark.parametrize("operations", [["sep_conv_3x3", "max_pool_3x3", "skip_connect"], ["conv_3x3", "avg_pool_3x3"]])
def test_statistics_are_taken_again_for_each_candidate(method, operations):
    """Of convolutions that are stacked in one product (`darts`) as well as of single ones."""
    made = given(method=method, cnn_operations=operations, cells=3)
    search = SinglePathSearch(made) if method == "spos" else SupernetSearch(made)
    search.train_epoch() if method == "spos" else search.run_epoch(0)
    inherited = InheritedWeights.of(search.supernet, made)
    assert set(inherited.calibration.utterances) <= set(made.train_part.utterances)
    first, second = draw(made, 0), draw(made, 1)
    alone = inherited.probabilities(first)
    inherited.probabilities(second)
    assert np.array_equal(inherited.probabilities(first), alone)
    norms = [m for m in search.supernet.modules() if hasattr(m, "running_mean")]
    for norm in norms:
        norm.running_mean.fill_(7.0)
    assert np.array_equal(inherited.probabilities(first), alone)


@pytest.mark.parametrize("choice", ["evolution", "random"])
def test_the_best_by_inherited_weights_is_taken_within_the_budget(choice):
    made, records = given(path_choice=choice), []
    result = run_search(made, None, records.append)
    ranked = [record for record in records if record.phase == "ranking"]
    assert len(ranked) > 5
    assert [record.phase for record in records[:4]] == ["search"] * 4
    assert tuple(records) == result.epochs
    assert sum(record.macs for record in records) <= Budget.of(made).total
    best = max(ranked, key=lambda record: record.dev_rank)
    assert result.dev_probabilities.shape == (len(made.dev.utterances), made.classes)
    search = SinglePathSearch(made)
    for _ in range(4):
        search.records.append(search.train_epoch())
    assert InheritedWeights.of(search.supernet, made).figures(result.genotype).uar == best.dev_uar


def test_so_many_candidates_as_are_asked_for_and_the_best_are_trained():
    made, calls = given(candidates=9, proposals=3, proposal_epochs=1, population=4, epochs=9), []

    def evaluate(genotype, epochs, seed):
        calls.append((genotype, epochs))
        return CandidateResult(float(len(calls) == 2), 1.0)

    result = run_search(made, evaluate)
    phases = Counter(record.phase for record in result.epochs)
    assert (phases["ranking"], phases["proposal"]) == (9, 3)
    assert len({genotype for genotype, _ in calls}) == 3
    assert {epochs for _, epochs in calls} == {1}
    assert result.genotype == calls[1][0]


def test_a_search_by_paths_goes_on_after_a_stop(tmp_path):
    made = given(path_sampling="fair", candidates=3)
    whole = single_path_search(made)
    kept = checkpoints_at(tmp_path / "search.safetensors", {})

    def stop(record):
        if record.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        single_path_search(made, stop, kept)
    result = single_path_search(made, checkpoints=kept)
    assert result.genotype == whole.genotype
    assert [replace(e, seconds=0) for e in result.epochs] == [replace(e, seconds=0) for e in whole.epochs]
    assert np.array_equal(result.dev_probabilities, whole.dev_probabilities)


def test_a_ranking_needs_a_dev_part():
    with pytest.raises(EmodartsError, match=r"search.method=spos ranks candidates on dev"):
        run_search(replace(given(), dev=None), None)
