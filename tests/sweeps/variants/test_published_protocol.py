"""The published protocol: what it tells, what of it can choose nothing, and the experiments that run it by name."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from emodarts.corpora.protocols import rules
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.published_protocol import run_published_protocol
from emodarts.experiment.stages import derive, predict, search, training_task
from emodarts.experiment.unit import run_fold
from emodarts.export.units import chosen_units
from emodarts.metrics import uar
from emodarts.report.report_data import load_report_data
from emodarts.report.sections.published_protocol import compare_epoch_rules
from emodarts.results import reader
from emodarts.training.train import refit
from sweeps.data.preparation import prepare
from sweeps.variants.genotype_transfer import SourceSweep
from sweeps.variants.published_protocol import published_settings, runnable_without_dev
from tests.support.commands import ONE_TRIAL, TINY, run_here, settings, variables
from tests.support.layouts import iemocap, msp_improv, msp_podcast


@pytest.fixture(scope="module")
def fold(demo):
    """A quarter of a fold of the demo corpus, without its dev part."""
    whole = demo[2][0]
    tests = {name: ids[::4] for name, ids in whole.tests.items()}
    return replace(
        whole, train=whole.train[::4], dev=(), tests=tests, protocol="demo/some-no-dev", protocol_caveat=rules.NO_DEV
    )


@pytest.fixture(scope="module")
def short(tiny):
    search = replace(
        tiny.search, crop_seconds=0.4, cnn_operations=["none", "skip_connect", "avg_pool_3x3"],
        sequence_operations=["none", "skip_connect", "lstm_1"],
    )  # fmt: skip
    return replace(tiny, search=search, training=replace(tiny.training, epochs=4, crop_seconds=0.4))


@pytest.fixture(scope="module")
def undisturbed(demo_store, fold, short):
    return run_published_protocol(demo_store, fold, short, seed=3)


def told(records):
    return [(e.epoch_rule, e.probabilities.tobytes()) for e in records.evaluations], [
        replace(e, seconds=0.0) for e in records.epochs
    ]


def test_last_epoch_and_best_on_test_side_by_side(fold, undisturbed):
    places = [(e.stage, e.role, e.test_set, e.epoch_rule) for e in undisturbed.evaluations]
    assert places == [("final", "test", "demo/test", rule) for rule in ("last", "best_test")]
    figures = []
    for e in undisturbed.evaluations:
        labels = np.array([fold.classes.index(label) for label in e.labels])
        figures.append(uar(labels, e.probabilities.argmax(1), len(fold.classes)))
    assert figures[1] >= figures[0]
    assert [e.phase for e in undisturbed.epochs] == ["search"] * 2 + ["train"] * 4
    for epoch in undisturbed.epochs:
        assert (epoch.dev_loss, epoch.dev_uar, epoch.dev_war, epoch.discretised_dev_uar) == (None,) * 4
        with pytest.raises(ValueError, match="has no dev figures to be chosen by"):
            _ = epoch.dev_rank
    assert [g.derived_at for g in undisturbed.genotypes] == [1]


def test_looking_at_test_changes_nothing_of_search_and_training(demo_store, fold, short, undisturbed):
    """The last epoch's network is that of a search and a training which never saw the test part."""
    data = FoldData.of(demo_store, fold, short, needs_dev=False)
    found = search(data, 3)
    assert found.genotype.to_json() == undisturbed.genotypes[0].genotype_json
    build = derive(data, found).build
    network = refit(build, training_task(data, 3), short.training.epochs)
    expected = predict(data, network, fold.tests["demo/test"])
    assert expected.tobytes() == undisturbed.evaluations[0].probabilities.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [("search", 0), ("train", 1), ("train", 3)])
def test_killed_it_goes_on_bit_for_bit(demo_store, fold, short, undisturbed, tmp_path, epoch):
    class Killed(Exception):
        pass

    def stop(record):
        if (record.phase, record.epoch) == epoch:
            raise Killed

    with pytest.raises(Killed):
        run_published_protocol(demo_store, fold, short, 3, on_epoch_end=stop, checkpoints=tmp_path)
    assert told(run_published_protocol(demo_store, fold, short, 3, checkpoints=tmp_path)) == told(undisturbed)


def test_what_needs_a_dev_part_is_refused(demo, demo_store, fold, tiny):
    with pytest.raises(EmodartsError, match="has a dev part: run_fold chooses the epoch by it"):
        run_published_protocol(demo_store, demo[2][0], tiny)
    with pytest.raises(EmodartsError, match="has no dev part, and the search and the choice of an epoch need one"):
        run_fold(demo_store, fold, tiny)
    for changed, why in (
        ({"system": "svm"}, "system=svm has no epochs"),
        ({"search": replace(tiny.search, method="evolution")}, "search.method=evolution chooses by dev"),
    ):
        with pytest.raises(EmodartsError, match=why):
            run_published_protocol(demo_store, fold, replace(tiny, **changed))
    systems = {"svm": replace(tiny, system="svm"), "cnn": replace(tiny, system="cnn")}
    assert [list(part) for part in runnable_without_dev(systems)] == [["cnn"], ["svm"]]
    with pytest.raises(EmodartsError, match="has no epochs"):
        runnable_without_dev({"svm": systems["svm"]})


@pytest.mark.slow
def test_a_network_designed_by_hand_and_other_searches(demo_store, fold, short):
    for changed in ({"system": "cnn"}, {"search": replace(short.search, method="random_architecture")}):
        records = run_published_protocol(demo_store, fold, replace(short, **changed))
        assert [e.epoch_rule for e in records.evaluations] == ["last", "best_test"]
    stopping = replace(short.search, stop="skips", stop_skips=1, epochs=3)
    assert run_published_protocol(demo_store, fold, replace(short, search=stopping)).genotypes[0].derived_at <= 2


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """`experiment=emodarts_iemocap`, run twice: the results, and what was said."""
    root = tmp_path_factory.mktemp("experiment")
    iemocap.write_corpus(root / "corpora" / "iemocap", junk=False)
    environment = variables(root / "cache", EMODARTS_CORPORA=str(root / "corpora"))
    small = [*TINY, *ONE_TRIAL, "training.epochs=3", "sweep.folds=[0,1]", f"results={root / 'results'}"]
    said, before = [], {}
    for _ in range(2):
        said.append(run_here(environment, "experiment=emodarts_iemocap", "search=small", *small))
        files = {p: p.stat().st_mtime_ns for p in (root / "results").glob("*/*/*.parquet")}
        assert before in ({}, files), "a second start does nothing"
        before = files
    return root / "results", said[0]


@pytest.mark.slow
def test_the_experiment_runs_the_published_protocol_beside_the_clean_one(experiment):
    opened = reader.open(experiment[0])
    clean, name = opened.sweeps
    assert name == f"{clean}-published"
    rows = {sweep.name: sweep.table("folds").to_pylist() for sweep in opened.parts}
    assert {(r["role"], r["epoch_rule"]) for r in rows[clean] if r["stage"] == "supernet"} == {("dev", "last")}
    final = [r for r in rows[clean] if r["stage"] == "final"]
    assert {(r["protocol"], r["protocol_caveat"], r["epoch_rule"], r["study"]) for r in final} == {
        ("iemocap/session5", None, "late_dev", study) for study in ("fold0", "fold1")
    }
    assert {(r["protocol"], r["protocol_caveat"], r["study"], r["role"]) for r in rows[name]} == {
        ("iemocap/emodarts-no-dev", rules.NO_DEV, "published", "test")
    }
    by_rule = {(r["fold"], r["epoch_rule"]): r["uar"] for r in rows[name]}
    assert len(by_rule) == 4
    assert all(by_rule[fold, "best_test"] >= by_rule[fold, "last"] for fold in (0, 1))
    predictions = opened.table("predictions").to_pylist()
    assert {p["epoch_rule"] for p in predictions if p["sweep"] == clean and p["stage"] == "final"} == {"late_dev"}
    assert {p["label"] for p in predictions if p["sweep"] == name} == {"angry", "happy", "neutral", "sad"}
    epochs = [e for e in opened.table("epochs").to_pylist() if e["sweep"] == name]
    assert {(e["dev_loss"], e["dev_uar"], e["dev_war"]) for e in epochs} == {(None, None, None)}
    assert {e["phase"] for e in epochs} == {"search", "train"}


@pytest.mark.slow
def test_nothing_of_it_enters_a_choice(experiment):
    results, said = experiment
    name = next(p.name for p in results.iterdir() if p.name.endswith("-published"))
    one = reader.open(results / name)
    assert [(t.study, t.trial, t.status, t.values) for t in one.trials()] == [("published", 0, "complete", ())]
    with pytest.raises(EmodartsError, match="published ran without dev part, so nothing of it was chosen"):
        chosen_units(one, {}, None, None)
    with pytest.raises(EmodartsError, match="chose no configuration of emodarts on a dev part"):
        SourceSweep.open(str(results / name), "emodarts")
    lines = compare_epoch_rules(load_report_data(reader.open(results)))
    assert [(x.results.epoch_rule, x.results.protocol, len(x.results.folds)) for x in lines] == [
        ("late_dev", "iemocap/session5", 2),
        ("last", "iemocap/emodarts-no-dev", 2),
        ("best_test", "iemocap/emodarts-no-dev", 2),
    ]
    last, best = (x.tallies[0].uar() for x in lines[1:])
    assert lines[2].above_last.value == pytest.approx(best - last)
    assert "published protocols beside clean ones, for comparison alone" in " ".join(said.split())
    assert "BEST ON TEST" in said
    assert "choosing the epoch on test is worth" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "name", "folds", "tests", "about"),
    [
        (iemocap, "iemocap", 5, {"1M", "2F"}, {"excited": "drop"}),
        (msp_improv, "msp_improv", 4, None, {"source": "intended"}),
        (msp_podcast, "msp_podcast", 5, None, {}),
    ],
)
def test_each_experiment_is_ready_to_run(tmp_path, monkeypatch, layout, name, folds, tests, about):
    layout.write_corpus(tmp_path / "corpora" / name)
    monkeypatch.setenv("EMODARTS_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("EMODARTS_CACHE", str(tmp_path / "cache"))
    asked = settings(f"experiment=emodarts_{name}", "search=small", *TINY, "features.speeds=[1.0]")
    assert (asked.corpus.name, asked.published_protocol) == (name, True)
    assert asked.sweep_name == settings(f"corpus={name}", *TINY, "features.speeds=[1.0]").sweep_name
    other = published_settings(asked)
    assert other.sweep_name == f"{asked.sweep_name}-published"
    assert {key: getattr(other.corpus, key) for key in about} == about
    console = Console(quiet=True)
    clean, data = prepare(asked, console), prepare(other, console, needs_dev=False)
    assert clean.all_folds[0].dev
    assert (data.protocol, len(data.folds)) == (f"{name}/emodarts-no-dev", folds)
    assert all(not fold.dev and fold.protocol_caveat == rules.NO_DEV for fold in data.folds.values())
    if tests:
        (ids,) = data.folds[0].tests.values()
        assert {data.folds[0].speakers[u][-2:] for u in ids} == {"1M", "2F"}


def test_a_corpus_without_a_published_protocol():
    with pytest.raises(EmodartsError, match="savee has no published protocol of emoDARTS"):
        published_settings(settings("corpus=savee", "published_protocol=true"))
