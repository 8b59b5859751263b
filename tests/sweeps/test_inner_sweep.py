"""`sweep.inner` in the command: splits of speakers, what reaches no choice, kills, and what becomes of its results."""

import shutil

import numpy as np
import pytest
import soundfile

from emodarts import cli
from emodarts.errors import EmodartsError
from emodarts.export.units import chosen_units
from emodarts.report.report_data import load_report_data
from emodarts.report.sections.health import find_health
from emodarts.results import reader
from emodarts.results.winners import winners
from sweeps.execution import local
from sweeps.study.warm_start import read_prior_studies
from sweeps.variants.genotype_transfer import SourceSweep
from tests.support.commands import manifest, run_here, variables
from tests.support.files import write_corpus

# TPE from the second trial on: whatever a study hears changes what it proposes.
SPACE = ["~sweep.space.training", "~sweep.space.batches", "+sweep.space.training.learning_rate={low:0.0001,high:0.1}"]
INNER = [*SPACE, "sweep.inner=3", "sweep.trials=4", "sweep.top=2", "sweep.sampler=tpe", "sweep.startup_trials=1"]
SYSTEMS = ["system=[emodarts,cnn]", "sweep.folds=[0]"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return variables(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def sweep(environment, tmp_path_factory):
    """Runs the sweep on the small corpus, changed by `change(root)`: its results and what it said."""

    def run(change=lambda root: None, *more):
        folder = tmp_path_factory.mktemp("inner")
        root = write_corpus(folder / "corpus")
        change(root)
        said = run_here(environment, *manifest(root, folder / "results", *INNER, *SYSTEMS, *more))
        return folder / "results", said

    return run


@pytest.fixture(scope="module")
def swept(sweep):
    return sweep()


def rows(results, name, **columns):
    return [r for r in reader.open(results).table(name, with_inner=True).to_pylist() if columns.items() <= r.items()]


def speaker_of_test(results):
    (speaker,) = {row["speaker"] for row in rows(results, "predictions", role="test")}
    return speaker


@pytest.mark.slow(seconds=10)
def test_the_splits_divide_the_speakers_and_only_the_best_are_tested(swept):
    results, said = swept
    assert "pooled" in said
    opened = reader.open(results)
    assert {commit.key.inner for commit in opened.commits} == {0, 1, 2, None}
    for system in ("emodarts", "cnn"):
        predicted = rows(results, "predictions", system=system, stage="final")
        test = {row["speaker"] for row in predicted if row["role"] == "test"}
        parts = [{r["speaker"] for r in predicted if r["inner"] == split} for split in range(3)]
        assert {row["role"] for row in predicted if row["inner"] is not None} == {"dev"}
        assert sorted(len(part) for part in parts) == [1, 1, 1]
        assert len(set.union(*parts)) == 3
        assert len(test) == 1
        assert not test & set.union(*parts)
        tested = {r["trial"] for r in predicted if r["role"] == "test"}
        trials = {t.trial: t for t in opened.trials() if t.system == system}
        complete = {n: t.values[0] for n, t in trials.items() if t.status == "complete"}
        assert tested == set(sorted(complete, key=lambda n: (-complete[n], n))[:2])
        for number, value in complete.items():
            dev = [
                r["uar"]
                for r in rows(results, "folds", system=system, trial=number, stage="final")
                if r["inner"] is not None
            ]
            assert value == pytest.approx(np.mean(dev))
    assert {row["system"] for row in opened.table("ensembles").to_pylist()} == {"emodarts+top2", "cnn+top2"}


def choices(results):
    """Proposals, values, decisions, and what was searched: all that must not know the test speakers."""
    opened = reader.open(results)
    trials = [(t.system, t.trial, t.seed, t.parameters, t.status, t.values, t.reason) for t in opened.trials()]
    rungs = [(r.system, r.trial, r.rung, r.value, r.pruned) for r in opened.rungs()]
    genotypes = {(r["trial"], r["inner"]): r["genotype"] for r in rows(results, "genotypes")}
    dev = {(r["system"], r["trial"], r["inner"], r["stage"]): r["uar"] for r in rows(results, "folds", role="dev")}
    return trials, sorted(rungs), genotypes, dev, [(w.key, w.dev_uar) for w in winners(opened)]


@pytest.mark.slow(seconds=20)
@pytest.mark.parametrize("spoilt", ["labels", "audio"])
def test_test_speakers_reach_no_proposal_winner_or_genotype(swept, sweep, spoilt):
    speaker = speaker_of_test(swept[0]).rpartition("/")[2]

    def change(root):
        if spoilt == "labels":
            swapped = {"angry": "sad", "sad": "angry"}
            lines = [line.split(",") for line in (root / "table.csv").read_text().splitlines()]
            lines = [[f, s, swapped[label] if s == speaker else label] for f, s, label in lines]
            (root / "table.csv").write_text("\n".join(map(",".join, lines)) + "\n")
        else:
            for number, file in enumerate(sorted((root / speaker).iterdir())):
                noise = np.random.default_rng(number).normal(0, 0.1, 9600)
                soundfile.write(file, noise, 16000, subtype="PCM_16")

    results, _ = sweep(change)
    assert choices(results) == choices(swept[0])
    before, after = (
        [r["probabilities" if spoilt == "audio" else "label"] for r in rows(x, "predictions", role="test")]
        for x in (swept[0], results)
    )
    assert before != after, "the test part itself is another"
    assert len({value for *_, value, _ in choices(results)[0]}) > 2, "there was something to choose"


@pytest.mark.slow(seconds=10)
def test_a_sweep_that_is_stopped_at_any_unit_goes_on_to_the_same(swept, sweep, environment, tmp_path, monkeypatch):
    plain, units = local.run_unit_locally, []

    def stopping(unit, spec, report):
        units.append(unit.key.name)
        outcome = plain(unit, spec, report)
        if len(units) % 2 == 0:
            raise KeyboardInterrupt  # after the worker's commit, before the driver hears of it
        return outcome

    root = write_corpus(tmp_path / "corpus")
    given = manifest(root, tmp_path / "results", *INNER, *SYSTEMS)
    with monkeypatch.context() as patch:
        patch.setattr(local, "run_unit_locally", stopping)
        while "what is finished is kept" in (said := _run_any(environment, given)):
            assert len(units) < 100
    assert "next: emodarts report" in said
    assert choices(tmp_path / "results") == choices(swept[0])
    assert len(units) == len(set(units)) == len(reader.open(tmp_path / "results").commits)


def _run_any(environment, given):
    try:
        return run_here(environment, *given)
    except AssertionError as stopped:  # another exit code than 0
        return str(stopped)


@pytest.mark.slow
def test_results_are_exported_transferred_and_taught_by_the_units_on_the_folds_own_parts(swept, tmp_path, capsys):
    results = tmp_path / "results"
    shutil.copytree(swept[0], results)
    opened = reader.open(results)
    settings = opened.parts[0].settings
    assert settings["sweep.inner"] == 3
    best = {w.system: w for w in winners(opened)}
    (unit,) = chosen_units(opened, settings, "emodarts", 0)
    assert (unit.key.inner, unit.key.trial) == (None, best["emodarts"].trial)
    assert unit.figures[-1].role == "test"
    with pytest.raises(EmodartsError, match="has run on inner splits alone"):
        chosen_units(opened, settings, "emodarts", 0, top=9)
    with pytest.raises(EmodartsError, match="folds with finished units: 0"):  # nothing of that fold waits
        chosen_units(opened, settings, "emodarts", 5, top=9)
    source = SourceSweep.open(str(results), "emodarts")
    (own,) = [r["genotype"] for r in rows(results, "genotypes", trial=unit.key.trial, inner=None)]
    assert source.winners[0].genotype.genotype.to_json() == own
    assert source.hashes[0] == unit.key.fold_hash
    (prior,) = [study for study in read_prior_studies([results], "best_epoch") if study.system == "cnn"]
    assert len(prior.trials) == best["cnn"].of
    assert all(trial.costs["parameters"] > 0 for trial in prior.trials)
    assert cli.main(["report", str(results), "--html", str(tmp_path / "page.html")]) == 0
    data = load_report_data(opened)
    seen = {finding.what for finding in find_health(data, opened.parts[0])}
    assert "dev noise" not in seen, "that is of one dev part"
    before = choices(results)
    assert cli.main(["compact", str(results)]) == 0
    assert choices(results) == before
    assert chosen_units(reader.open(results), settings, "emodarts", 0)[0].key == unit.key
    capsys.readouterr()


@pytest.mark.slow
def test_without_their_final_units_winners_are_neither_exported_nor_transferred(swept, tmp_path):
    copy = tmp_path / "results"
    shutil.copytree(swept[0], copy)
    for path in copy.glob("*/folds/*.s0.f0.parquet"):
        path.unlink()
    shutil.rmtree(next(copy.iterdir()) / "log", ignore_errors=True)
    opened = reader.open(copy)
    with pytest.raises(EmodartsError, match="on inner splits alone"):
        chosen_units(opened, opened.parts[0].settings, "emodarts", 0)
    with pytest.raises(EmodartsError, match="has not ended"):
        SourceSweep.open(str(copy), "emodarts")


@pytest.mark.slow
def test_what_cannot_be_divided_is_refused_before_anything_runs(environment, tmp_path):
    root = write_corpus(tmp_path / "corpus")
    given = manifest(root, tmp_path / "results", *INNER, *SYSTEMS)
    assert "has 3 known speakers in train and dev" in run_here(environment, *given, "sweep.inner=4", code=1)
    assert "leave sweep.pruner=asha out" in run_here(environment, *given, "sweep.pruner=asha", code=1)
    (tmp_path / "out.csv").write_text("utterance\na/angry0\n")
    excluded = run_here(environment, *given, f"corpus.exclude={tmp_path / 'out.csv'}", code=1)
    assert "leave one of the settings out" in " ".join(excluded.split())
    assert not list((tmp_path / "results").glob("*/sweep.json"))
