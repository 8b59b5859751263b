"""A genotype's choices as dimensions: which there are, when they exist, and what the units get of them."""

import json

import optuna
import pytest

from emodarts.errors import EmodartsError
from emodarts.networks.genotype import Genotype
from emodarts.networks.names import POOLING_NAMES
from emodarts.results import reader
from emodarts.search.scope import fixed_cells
from sweeps.study.genotype_space import genotype_of
from sweeps.study.search_space import SearchSpace
from tests.support.commands import manifest, run_here, settings


def space_of(*given):
    return SearchSpace.of(settings("search.method=sampler", *given))


def draws(space, count=40):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(count)]


def test_each_choice_of_the_space_is_a_dimension_beside_the_recipe():
    space = space_of()
    genotype = [path for path in space.free if path.startswith("genotype.")]
    cnn = {f"genotype.{cell}_{rest}" for cell in ("normal", "reduction")
           for rest in ("0_from_0", "0_from_1", "1_inputs", "1_from_0", "1_from_1", "1_from_2")}  # fmt: skip
    assert set(genotype) == cnn | {"genotype.sequence_0_from_0", "genotype.sequence_0_from_1"}
    assert {"training.width", "training.learning_rate"} <= set(space.free)
    assert space.free["genotype.normal_0_from_1"].choices == ("max_pool_3x3", "skip_connect", "conv_3x3")
    assert space.free["genotype.reduction_1_inputs"].choices == ("0+1", "0+2", "1+2")
    assert not [path for path in SearchSpace.of(settings()).free if path.startswith("genotype.")]


def test_the_first_proposal_is_the_plain_architecture():
    space = space_of("search.nodes=3", "search.sequence_nodes=2")
    assert space.genotype(space.default_parameters()).cells == fixed_cells(space.settings.search)


def test_operations_exist_where_a_node_reads_the_state_and_cells_where_a_network_has_them():
    space, without = space_of(), 0
    genotypes = set()
    for parameters in draws(space):
        genotype = space.genotype(parameters)
        genotypes.add(genotype.normal)
        for kind in ("normal", "reduction", "sequence"):
            for node, edges in enumerate(getattr(genotype, kind)):
                named = {p for p in parameters if p.startswith(f"genotype.{kind}_{node}_from")}
                if kind == "reduction" and parameters["training.sequence_rate"] is not None:
                    without += 1
                    assert not named
                    continue
                assert named == {f"genotype.{kind}_{node}_from_{edge.source}" for edge in edges}
                for edge in edges:
                    assert parameters[f"genotype.{kind}_{node}_from_{edge.source}"] == edge.operation
        assert space.accepts(parameters)
        space.apply(parameters)
    assert without
    assert len(genotypes) > 20


def test_what_a_network_never_has_is_no_dimension():
    def kinds(*given):
        return {p.partition(".")[2].partition("_")[0] for p in space_of(*given).free if p.startswith("genotype.")}

    assert kinds() == {"normal", "reduction", "sequence"}
    fixed = "~sweep.space.training.sequence_rate", "training.sequence_rate=25"
    assert kinds(*fixed) == {"normal", "sequence"}
    assert kinds("search.sequence_cells=0") == {"normal", "reduction"}
    assert kinds("system=emodarts:sampler:seqnn_only") == {"sequence"}


def test_dimensions_that_would_change_the_space_are_left_out():
    named = "sweep.dimensions=[training.width,search.nodes,search.seqnn]"
    assert "search.nodes" not in space_of(named).free


def test_without_words_a_genotype_is_the_plain_one():
    s = space_of().settings
    assert genotype_of(s, {}).cells == fixed_cells(s.search)
    changed = genotype_of(s, {"genotype.normal_1_inputs": "0+2", "genotype.normal_1_from_2": "skip_connect"})
    assert [(e.operation, e.source) for e in changed.normal[1]] == [("conv_3x3", 0), ("skip_connect", 2)]


def test_layers_and_pooling_are_dimensions_of_the_space_for_frames():
    encoder = "features=whisper", "features.model=an/encoder", "search.space=frames", "search.cells=2"
    space = space_of(*encoder, "features.layers=[1,2,3]")
    for cell in range(3):
        assert space.free[f"genotype.layer_{cell}"].choices == ("0", "1", "2", "weighted")
    assert space.free["genotype.pooling"].choices == POOLING_NAMES
    assert not [path for path in space.free if path.startswith("genotype.reduction")]
    plain = space.genotype(space.default_parameters())
    assert plain == Genotype.from_cells(fixed_cells(space.settings.search), layers=(None, None, None))
    drawn = {genotype.layers for genotype in map(space.genotype, draws(space))}
    assert {layer for layers in drawn for layer in layers} == {0, 1, 2, None}
    for layers, known in (("2", 0), ("learned", None)):  # one; as many as the encoder has, which nobody knows here
        space = space_of(*encoder, f"features.layers={layers}")
        assert not [path for path in space.free if path.startswith("genotype.layer")]
        assert space.genotype(space.default_parameters()).layers == (known,) * 3


@pytest.mark.slow
def test_a_sweep_trains_what_its_sampler_proposes(environment, small_corpus, tmp_path):
    asked = manifest(small_corpus, tmp_path / "results", "system=emodarts:sampler:joint", "sweep.trials=3")
    asked += ["~sweep.space.training", "~sweep.space.batches", "sweep.folds=[0]", "sweep.pruner=asha", "sweep.seeds=2"]
    asked += ["sweep.training_rungs=[0.5]", "sweep.sampler=random", "training.epochs=2"]
    run_here(environment, *asked)
    results = reader.open(tmp_path / "results")
    by_run = {(t.trial, t.seed): t for t in results.trials()}
    assert {t.status for t in by_run.values()} <= {"complete", "pruned"}
    rows = results.table("genotypes").to_pylist()
    assert len(rows) == sum(t.status == "complete" for t in by_run.values())
    s = SearchSpace.of(settings(*asked)).settings
    for row in rows:
        parameters = by_run[row["trial"], row["seed"]].parameters
        assert Genotype.from_json(row["genotype"]) == genotype_of(s, parameters)
        assert row["genotype_from"] is None
    assert {row["phase"] for row in results.table("epochs").to_pylist()} == {"train"}
    assert {seed for _, seed in by_run} == {0, 1}
    assert "genotype" in json.dumps([t.parameters for t in by_run.values()])


def test_a_search_by_a_sampler_needs_one():
    from emodarts.search.loop import run_search
    from tests.support.toys import noise, task

    with pytest.raises(EmodartsError, match=r"search.method=sampler trains a genotype that a sweep's sampler proposes"):
        run_search(task(*noise(), method="sampler"), None)


def test_each_method_uses_what_it_has():
    """A dimension that a system does not use is no dimension of its studies: none is dead."""
    unused = {
        "darts": set(),
        "frozen": {"alpha_learning_rate"},
        "spos": {"alpha_learning_rate", "warmup_epochs", "regulariser", "selection", "stop", "derive_at"},
        "random_search": {"alpha_learning_rate", "learning_rate", "warmup_epochs", "proposals", "proposal_epochs"},
        "sampler": {"alpha_learning_rate", "learning_rate", "epochs", "proposals", "nodes", "space", "seqnn"},
    }
    used = {
        "darts": {"epochs", "proposals", "alpha_learning_rate"},
        "frozen": {"epochs", "proposals", "learning_rate"},
        "spos": {"epochs", "learning_rate", "proposals", "path_sampling", "nodes"},
        "random_search": {"epochs", "nodes", "candidates"},
        "sampler": {"cells"},
    }
    for method, names in unused.items():
        (system,) = settings("system=emodarts", f"search.method={method}").systems.values()
        assert not [name for name in names if system.uses(f"search.{name}")], method
        assert all(system.uses(f"search.{name}") for name in used[method]), method
        assert system.uses("training.learning_rate")
