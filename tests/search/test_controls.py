"""The controls: searches without a supernet, frozen alphas, and one part of the network searched alone."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from emodarts.networks.costs import count_macs, supernet_macs
from emodarts.networks.genotype import Edge
from emodarts.networks.network import DiscreteNetwork
from emodarts.search import controls, loop
from emodarts.search.budget import Budget, candidate_epochs, candidate_macs
from emodarts.search.candidates import CandidateSpace
from emodarts.search.controls import tournament_winner
from emodarts.search.loop import run_search, search
from emodarts.search.scope import fixed_cells
from emodarts.search.settings import SearchSettings
from emodarts.search.task import CandidateResult
from tests.support.checkpoints import checkpoints_at
from tests.support.toys import PLAIN, noise, task


def given(**settings):
    return task(*noise(), **{**PLAIN, "epochs": 4, **settings})


def space(**settings):
    made = given(**settings)
    return CandidateSpace.of(made.settings, made.shape)


class Trainer:
    """Instead of a training: how good a candidate is depends on the number of its convolutions and its seed."""

    def __init__(self, stop_after=None):
        self.calls, self.stop_after = [], stop_after

    def __call__(self, genotype, epochs, seed):
        if len(self.calls) == self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((genotype, epochs, seed))
        good = sum(e.operation in ("sep_conv_3x3", "lstm_1") for c in genotype.cells.values() for n in c for e in n)
        return CandidateResult(good / 10, 1 + seed % 7)


# Random architectures


def test_random_architectures_are_uniform():
    """Chi-square over all cells of two nodes and three operations, 3^4 * 1 * 3 of them."""
    drawn = space(nodes=2)
    rng = np.random.default_rng(0)
    count = 6000
    found = Counter(drawn.draw(rng).normal for _ in range(count))
    cells = 3**4 * len(list(combinations(range(3), 2)))
    expected = count / cells
    chi = sum((n - expected) ** 2 / expected for n in found.values()) + (cells - len(found)) * expected
    degrees = cells - 1
    assert abs(chi - degrees) < 4 * np.sqrt(2 * degrees)
    assert all(e.operation != "none" for cell in found for node in cell for e in node)
    assert all(len({e.source for e in node}) == 2 for cell in found for node in cell)


def test_the_fixed_architecture_is_the_spaces_own_and_costs_nothing():
    made = given(method="fixed", nodes=2)
    found = run_search(made, None)
    assert found.genotype.cells == fixed_cells(made.settings)
    assert (found.epochs, found.seconds, found.dev_probabilities) == ((), 0.0, None)
    assert run_search(replace(made, seed=9), None).genotype == found.genotype


def test_a_random_architecture_costs_no_search():
    first = run_search(given(method="random_architecture"), None)
    assert (first.epochs, first.dev_probabilities) == ((), None)
    assert run_search(given(method="random_architecture"), None).genotype == first.genotype
    others = {run_search(replace(given(method="random_architecture"), seed=s), None).genotype for s in range(20)}
    assert len(others) > 10


# Mutation, evolution


@pytest.mark.parametrize("settings", [{}, {"nodes": 3, "sequence_nodes": 2}, {"scope": "cnn_only", "nodes": 2}])
def test_a_mutation_changes_exactly_one_thing(settings):
    drawn = space(**settings)
    rng = np.random.default_rng(0)
    what = Counter()
    for _ in range(300):
        before = drawn.draw(rng)
        after = drawn.mutate(before, rng)
        differing = [
            (kind, b, a) for kind in "NRS" for b, a in zip(before.cells[kind], after.cells[kind], strict=True) if b != a
        ]
        ((kind, b, a),) = differing
        assert kind in drawn.searched
        lost, gained = set(b) - set(a), set(a) - set(b)
        ((old,), (new,)) = (lost, gained)
        assert (old.operation == new.operation) != (old.source == new.source)
        assert len({e.source for e in a}) == 2
        assert [e.source for e in a] == sorted(e.source for e in a)
        assert new.operation in drawn.operations[kind]
        what[old.operation == new.operation] += 1
    if settings.get("nodes", 1) > 1:
        assert 60 < what[True] < what[False]  # the inputs of the first nodes cannot change
    else:
        assert set(what) == {False}


def test_what_cannot_change_stays():
    drawn = space(cnn_operations=["none", "skip_connect"], sequence_operations=["lstm_1"])
    genotype = drawn.draw(np.random.default_rng(0))
    assert drawn.mutate(genotype, np.random.default_rng(0)) == genotype


def test_the_oldest_dies_however_good_it_is(monkeypatch):
    seen = []
    original = tournament_winner

    def watched(past, population, tournament, rng):
        chosen = original(past, population, tournament, rng)
        seen.append((len(past), past.index(chosen)))
        return chosen

    monkeypatch.setattr(controls, "tournament_winner", watched)
    found = run_search(given(method="evolution", candidates=40, population=5, tournament=5), Trainer())
    assert [number for number, _ in seen] == list(range(5, 40))
    assert all(born - 5 <= index < born for born, index in seen)
    # With a tournament of all, the best of the living is the parent, and an older better one is passed over.
    uar = [e.dev_uar for e in found.epochs]
    assert all(uar[index] == max(uar[born - 5 : born]) for born, index in seen)
    assert found.epoch == max(range(40), key=lambda i: (uar[i], -found.epochs[i].dev_loss))


@pytest.mark.slow
def test_evolution_gets_further_than_chance():
    best = {
        method: [
            max(
                e.dev_uar
                for e in run_search(replace(given(method=method, nodes=3, candidates=24), seed=s), Trainer()).epochs
            )
            for s in range(3)
        ]
        for method in ("evolution", "random_search")
    }
    assert np.mean(best["evolution"]) > np.mean(best["random_search"])


# Budgets


def test_candidates_are_as_many_as_the_supernet_pays_for():
    for method in ("random_search", "evolution"):
        made = given(method=method, candidate_epochs=2)
        trainer = Trainer()
        found = run_search(made, trainer)
        budget = Budget.of(made).total
        spent = sum(e.macs for e in found.epochs)
        assert len(trainer.calls) == len(found.epochs) > 1
        assert {epochs for _, epochs, _ in trainer.calls} == {2}
        assert len({seed for *_, seed in trainer.calls}) == len(trainer.calls)
        dearest = max(e.macs for e in found.epochs)
        assert budget - dearest < spent <= budget


def test_the_formula_of_the_budget():
    made = given(epochs=5, warmup_epochs=2)
    s = made.settings
    one = supernet_macs(made.shape, tuple(s.cnn_operations), tuple(s.sequence_operations), made.crop)
    half = len(made.weight_part.utterances)
    assert Budget.of(made).total == one * half * (2 * 1 + 3 * 2)
    unrolled = replace(made, settings=replace(s, unrolled=True))
    assert Budget.of(unrolled).total == one * half * (2 * 1 + 3 * 5)
    single = given(epochs=5, warmup_epochs=2, optimisation="single")
    assert len(single.weight_part.utterances) == 2 * half
    assert Budget.of(single).total == one * 2 * half * (2 + 3)
    eigenvalue = replace(made, settings=replace(s, stop="eigenvalue"))
    assert Budget.of(eigenvalue).total - Budget.of(made).total == one * 3 * 20 * s.batch_size
    tuned = replace(made, settings=replace(s, selection="perturbation", nodes=2, perturbation_steps=3))
    two_nodes = replace(made, settings=replace(s, nodes=2))
    per_step = Budget.of(two_nodes).macs * s.batch_size
    decisions = 2 * (5 + 1) + 2  # N and R: five edges and one node of three inputs; S: two edges
    assert Budget.of(tuned).total - Budget.of(two_nodes).total == per_step * 3 * decisions
    genotype = CandidateSpace.of(s, made.shape).draw(np.random.default_rng(0))
    frames = count_macs(DiscreteNetwork(made.shape, genotype), made.crop)
    assert candidate_macs(made, genotype, candidate_epochs(s)) == frames * len(made.train_part.utterances) * 5


@pytest.mark.slow
def test_the_budget_counts_the_passes_that_are_made(monkeypatch):
    """Utterances that went forward and backward, counted in the search itself, are those of the formula."""
    for settings in ({}, {"unrolled": True}, {"warmup_epochs": 2}, {"method": "frozen"}, {"optimisation": "single"}):
        made = given(**settings)
        passed = []
        original = loop.SupernetTrainer._loss

        def counted(trainer, batch, class_weights, passed=passed, original=original):
            passed.append(len(batch.labels))
            return original(trainer, batch, class_weights)

        with monkeypatch.context() as patch:
            patch.setattr(loop.SupernetTrainer, "_loss", counted)
            found = search(made)
        assert sum(e.macs for e in found.epochs) == Budget.of(made).macs * sum(passed)


def test_at_least_one_candidate_and_as_many_as_asked_for():
    assert len(run_search(given(method="random_search", epochs=1, candidate_epochs=1000), Trainer()).epochs) == 1
    assert len(run_search(given(method="random_search", candidates=3, candidate_epochs=1000), Trainer()).epochs) == 3


@pytest.mark.parametrize("method", ["random_search", "evolution"])
def test_candidates_go_on_after_a_stop(method, tmp_path):
    made = given(method=method, candidates=12, population=4)
    whole = run_search(made, Trainer())
    kept = checkpoints_at(tmp_path / "search.safetensors", {})
    for stop_after in (5, 4):
        with pytest.raises(KeyboardInterrupt):
            run_search(made, Trainer(stop_after), checkpoints=kept)
    trainer, told = Trainer(), []
    found = run_search(made, trainer, told.append, kept)
    assert len(trainer.calls) == 3
    assert found.genotype == whole.genotype
    assert [replace(e, seconds=0) for e in found.epochs] == [replace(e, seconds=0) for e in whole.epochs]
    assert tuple(told) == found.epochs


# Frozen alphas, one part alone


def alphas_of(monkeypatch, made):
    """The alphas before and after a search, and the mixing weights used in each epoch."""
    runs, used = [], []
    original, train = loop.SupernetSearch.choose, loop.SupernetTrainer.train_epoch
    with monkeypatch.context() as patch:
        patch.setattr(loop.SupernetSearch, "choose", lambda run, state: runs.append(run) or original(run, state))
        patch.setattr(
            loop.SupernetTrainer, "train_epoch", lambda t, *a: used.append(t.supernet.fixed_weights) or train(t, *a)
        )
        found = search(made)
    net = runs[0].supernet
    moved = {k: float((net.alphas[k].detach() - getattr(net, f"start_{k}")).abs().max()) for k in "NRS"}
    return moved, used, found, net


@pytest.mark.slow
def test_frozen_alphas_do_not_move_and_a_coin_derives(monkeypatch):
    moved, _, found, net = alphas_of(monkeypatch, given(method="frozen"))
    assert moved == {"N": 0.0, "R": 0.0, "S": 0.0}
    assert found.genotype == net.derive()
    assert {e.alpha_loss for e in found.epochs} == {None}
    assert found.epochs[0].train_loss > found.epochs[-1].train_loss
    derived = {search(replace(given(method="frozen", epochs=1), seed=seed)).genotype.normal for seed in range(8)}
    assert len(derived) > 3


@pytest.mark.parametrize(
    ("joint", "moving"),
    [
        ("joint", {"N", "R", "S"}),
        ("cnn_only", {"N", "R"}),
        ("seqnn_only", {"S"}),
        ("one_after_the_other", {"N", "R", "S"}),
    ],
)
def test_only_the_searched_part_moves_at_equal_steps(monkeypatch, joint, moving):
    steps = Counter()
    for name in ("alpha_step", "weight_step"):
        original = getattr(loop.SupernetTrainer, name)

        def counted(trainer, *batches, name=name, original=original):
            steps[name] += 1
            return original(trainer, *batches)

        monkeypatch.setattr(loop.SupernetTrainer, name, counted)
    made = given(scope=joint, cells=2, nodes=2)
    moved, used, found, _ = alphas_of(monkeypatch, made)
    assert {kind for kind, distance in moved.items() if distance > 0} == set(moving)
    assert steps == {"alpha_step": 4 * 1, "weight_step": 4 * 1}
    assert [sorted(held) for held in used] == {
        "joint": [[]] * 4,
        "cnn_only": [["S"]] * 4,
        "seqnn_only": [["N", "R"]] * 4,
        "one_after_the_other": [["S"]] * 2 + [["N", "R"]] * 2,
    }[joint]
    fixed, cells = fixed_cells(made.settings), found.genotype.cells
    for kind in set("NRS") - set(moving):
        assert cells[kind] == fixed[kind]


def test_the_second_part_is_searched_at_the_derived_first_one(monkeypatch):
    made = given(scope="one_after_the_other", nodes=2, cells=2, alpha_learning_rate=0.2)
    _, used, found, net = alphas_of(monkeypatch, made)
    free = {kind: net._relax(net.alphas[kind]) for kind in "NR"}
    derived = net.derive({**free, "S": used[0]["S"]})
    assert (found.genotype.normal, found.genotype.reduction) == (derived.normal, derived.reduction)
    for kind in "NR":
        assert torch.equal(used[2][kind], net.discrete_weights(derived)[kind])
        assert torch.equal(used[2][kind], used[3][kind])


@pytest.mark.parametrize("relaxation", ["softmax", "sigmoid"])
def test_no_operation_of_the_part_that_waits_begins_untrained(monkeypatch, relaxation):
    made = given(scope="one_after_the_other", nodes=2, cells=2, relaxation=relaxation)
    _, used, _, net = alphas_of(monkeypatch, made)
    for weights in used[:2]:
        assert weights["S"].shape == net.alphas["S"].shape
        assert torch.equal(weights["S"], weights["S"][:1, :1].expand_as(weights["S"]))
        assert weights["S"][0, 0] == (0.5 if relaxation == "sigmoid" else 1 / weights["S"].shape[1])
    task = replace(made, settings=replace(made.settings, epochs=2, warmup_epochs=0))
    searching = loop.SupernetSearch(task)
    assert task.settings.sequence_start_epoch == 1
    before = {name: value.clone() for name, value in searching.supernet.sequence_cells.named_parameters()}
    searching.run_epoch(0)
    after = dict(searching.supernet.sequence_cells.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_fixed_parts_are_those_of_the_space():
    for name, convolution in (("compact", "conv_3x3"), ("emodarts", "sep_conv_3x3")):
        cells = fixed_cells(SearchSettings(space=name, nodes=2, warmup_epochs=0))
        assert cells["N"] == (
            (Edge(convolution, 0), Edge(convolution, 1)),
            (Edge(convolution, 1), Edge(convolution, 2)),
        )
        assert cells["S"] == ((Edge("lstm_attention_1", 0), Edge("lstm_attention_1", 1)),)
    modern = fixed_cells(SearchSettings(space="modern", warmup_epochs=0))
    assert modern["S"] == ((Edge("bilstm_1", 0), Edge("bilstm_1", 1)),)
    lstm = fixed_cells(SearchSettings(seqnn="lstm", warmup_epochs=0))  # without the space's: the first with weights
    assert lstm["S"][0][0].operation == "lstm_1"


@pytest.mark.parametrize("joint", ["cnn_only", "seqnn_only"])
def test_random_architectures_keep_the_fixed_part(joint):
    made = given(method="random_architecture", scope=joint, nodes=2)
    fixed = fixed_cells(made.settings)
    drawn = [run_search(replace(made, seed=s), None).genotype.cells for s in range(10)]
    held = {"cnn_only": "S", "seqnn_only": "N"}[joint]
    free = {"cnn_only": "N", "seqnn_only": "S"}[joint]
    assert {cells[held] for cells in drawn} == {fixed[held]}
    assert len({cells[free] for cells in drawn}) > 1


def test_names_of_the_systems():
    assert SearchSettings().system == "emodarts"
    assert SearchSettings(method="frozen").system == "emodarts:frozen:joint"
    assert SearchSettings(scope="cnn_only").system == "emodarts:darts:cnn_only"
