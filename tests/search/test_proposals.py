"""Search proposes, training disposes: what is drawn from the alphas, what it may cost, and who decides."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from emodarts.errors import EmodartsError
from emodarts.networks.supernet import Supernet
from emodarts.search.budget import Budget, candidate_macs, training_reserve
from emodarts.search.loop import SupernetSearch, run_search, search
from emodarts.search.proposals import draw_proposals
from emodarts.search.task import CandidateResult
from tests.support.checkpoints import checkpoints_at
from tests.support.toys import PLAIN, noise, task

BRIEF = {"epochs": 6, "proposals": 3, "proposal_epochs": 1}


def given(**settings):
    return task(*noise(), **{**PLAIN, **BRIEF, **settings})


class Trainer:
    """In the place of a training: the candidate at a position is the best."""

    def __init__(self, best, stop_after=None):
        self.best, self.stop_after, self.calls = best, stop_after, []

    def __call__(self, genotype, epochs, seed):
        if len(self.calls) == self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((genotype, epochs, seed))
        return CandidateResult(0.5 + 0.1 * (len(self.calls) == self.best), 1.0)


def supernet_with(alphas, nodes=1):
    made = SupernetSearch(given(nodes=nodes)).supernet
    with torch.no_grad():
        for kind, values in alphas.items():
            made.alphas[kind][:] = torch.tensor(values)
    return made


def test_operations_are_drawn_in_proportion_to_the_mixing_weights():
    supernet = supernet_with({"N": np.log([0.4, 0.3, 0.2, 0.1])})  # none, skip, average, convolution
    counts = Counter()
    for seed in range(300):
        first = supernet.derive()
        drawn = draw_proposals(supernet, first, 2, np.random.default_rng(seed))
        counts[drawn[-1].normal[0][0].operation] += len(drawn) == 2
    # A draw that repeats the first one is drawn again, so compare what the first one does not have on its first edge.
    other = {name: counts[name] for name in counts if name != first.normal[0][0].operation}
    assert set(other) == {"avg_pool_3x3", "sep_conv_3x3"}
    fraction = other["avg_pool_3x3"] / sum(other.values())
    assert abs(fraction - 2 / 3) < 4 * np.sqrt(2 / 9 / sum(other.values()))


def test_proposals_are_distinct_networks_and_begin_with_what_is_derived():
    supernet = SupernetSearch(given(cells=1, nodes=2)).supernet  # no reduction cell: it makes no difference
    first = supernet.derive()
    drawn = draw_proposals(supernet, first, 8, np.random.default_rng(0))
    assert drawn[0] == first
    assert len({(g.normal, g.sequence) for g in drawn}) == 8
    assert {g.reduction for g in drawn} == {first.reduction}
    assert all(len({e.source for e in node}) == 2 for g in drawn for node in g.normal)


def test_alphas_that_have_decided_propose_what_there_is():
    certain = [[-200.0, 0.0, 200.0, -200.0]] * 2
    supernet = supernet_with({"N": certain, "R": certain, "S": [[-200.0, 200.0, -200.0]] * 2})
    assert draw_proposals(supernet, supernet.derive(), 3, np.random.default_rng(0)) == (supernet.derive(),)


def test_a_part_that_is_not_searched_is_the_same_in_all_proposals():
    proposals = search(given(scope="seqnn_only", nodes=2, sequence_nodes=2)).proposals
    assert len({g.normal for g in proposals}) == 1
    assert len({g.sequence for g in proposals}) == 3


@pytest.mark.parametrize("settings", [{}, {"method": "frozen"}, {"optimisation": "single", "warmup_epochs": None}])
def test_the_best_of_the_trained_is_taken_within_the_budget_of_a_search(settings):
    made, trainer, records = given(**settings), Trainer(best=2), []
    result = run_search(made, trainer, records.append)
    assert [epochs for _, epochs, _ in trainer.calls] == [1, 1, 1]
    assert len({seed for *_, seed in trainer.calls}) == 3
    assert result.genotype == trainer.calls[1][0]
    assert result.proposals == ()
    assert tuple(records) == result.epochs
    phases = Counter(record.phase for record in records)
    assert phases["proposal"] == 3
    assert 1 <= phases["search"] < made.settings.epochs
    assert sum(record.macs for record in records) <= Budget.of(made).total
    assert records[-1].macs == candidate_macs(made, trainer.calls[-1][0], 1)
    # The supernet has as many epochs as the dearest trainings leave: one more would not have been paid.
    as_long_as = replace(made.settings, epochs=phases["search"] + 1)
    assert replace(Budget.of(made), settings=as_long_as).total > Budget.of(made).total - training_reserve(made)


def test_one_proposal_is_the_search_as_it_was():
    plain = replace(given(), settings=replace(given().settings, proposals=1))
    result = run_search(plain, None)
    assert (len(result.epochs), result.proposals) == (6, ())
    assert result.genotype == search(plain).genotype


def test_trainings_go_on_after_a_stop(tmp_path):
    made = given()
    whole = run_search(made, Trainer(best=3))
    kept = checkpoints_at(tmp_path / "search.safetensors", {})
    trainer = Trainer(best=9, stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        run_search(made, trainer, checkpoints=kept)
    again, records = Trainer(best=1), []
    result = run_search(made, again, records.append, kept)
    assert len(again.calls) == 1
    assert (result.genotype, result.epoch) == (whole.genotype, whole.epoch)
    assert [replace(e, seconds=0) for e in result.epochs] == [replace(e, seconds=0) for e in whole.epochs]
    assert tuple(records) == result.epochs
    assert np.array_equal(result.dev_probabilities, whole.dev_probabilities)


def test_trainings_that_leave_the_supernet_nothing_are_refused():
    with pytest.raises(EmodartsError, match=r"search.proposals=3 trainings of search.proposal_epochs=200 leave"):
        search(given(proposal_epochs=200))


def test_without_dev_the_supernets_own_genotype_is_taken():
    made = replace(given(), dev=None)
    assert run_search(made, None).genotype == search(made).genotype


def test_a_supernet_of_one_operation_an_edge_proposes_one_network():
    shape = given(cnn_operations=["skip_connect"], sequence_operations=["lstm_1"]).shape
    supernet = Supernet(shape, ("skip_connect",), ("lstm_1",))
    assert len(draw_proposals(supernet, supernet.derive(), 4, np.random.default_rng(0))) == 1
