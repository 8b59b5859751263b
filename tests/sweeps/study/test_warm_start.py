"""Trials of finished sweeps teach a new one's studies, but for those that know the speakers who test in a fold."""

import json

import numpy as np
import pytest

from emodarts.errors import EmodartsError
from emodarts.records import TrialRecord
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from sweeps.settings import Settings, SweepSettings
from sweeps.study.optuna_study import OptunaStudy
from sweeps.study.search_space import SearchSpace
from sweeps.study.warm_start import PriorTrial, WarmStart, read_prior_studies
from tests.support.optuna_studies import complete_trial, run_trials
from tests.support.unit_records import key, records

SPACE = {
    "search": {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}},
    "training": {"dropout": {"low": 0.0, "high": 0.5}},
}
COSTS = {"parameters": 10.0, "macs": 5.0}


def make_space(settings):
    return SearchSpace.of(Settings(sweep=settings, system="emodarts"))


def parameters(rate, dropout=0.1):
    return {"search.learning_rate": rate, "training.dropout": dropout}


@pytest.fixture
def root(tmp_path):
    """A sweep of corpus x, three folds of one test speaker each, whose second study has not ended."""
    storage = Storage.open(tmp_path)
    register(storage, "s", {})
    writer = SweepWriter(storage, "s")
    for fold in range(3):
        for trial, (rate, right) in enumerate([(1e-3, 1), (1e-2, 3), (5e-2, 2), (2e-2, 0)]):
            status = "running" if (fold, trial) == (1, 3) else "complete"
            values = (right / 4,) if status == "complete" else ()
            writer.write_trial(
                TrialRecord("emodarts", f"fold{fold}", trial, 0, parameters(rate), status, values=values)
            )
            if status == "complete":
                writer.commit(key(trial, fold), records(right, 2, fold=fold), "x")
    roles = [{"train": ["x/a", "x/b"], "dev": ["x/c"], "test": ["x/d"]}] * 2
    roles.append({"train": ["x/d", "x/a"], "dev": ["x/b"], "test": ["x/c"]})
    folds = [{"parts": [{"role": r, "speakers": s} for r, s in parts.items()]} for parts in roles]
    writer.write_corpus("x", 4, [], {}, json.dumps({"protocol": {"folds": folds}}))
    return tmp_path


def describe(root, tested, space=SPACE):
    settings = SweepSettings(space=space)
    warm_start = WarmStart(read_prior_studies([root], "best_epoch"), tested)
    return warm_start, warm_start.describe({"emodarts": make_space(settings)})


def test_a_study_whose_train_or_dev_speakers_test_in_this_fold_is_left_out_and_named(root):
    tested = {"fold0": (frozenset("x"), frozenset({"x/d"})), "fold2": (frozenset("x"), frozenset({"x/c"}))}
    warm_start, lines = describe(root, tested)
    assert lines == [
        "emodarts, fold0: 4 prior trials of s/emodarts/fold0",
        "emodarts, fold2: 4 prior trials of s/emodarts/fold2",
        "emodarts, fold0: s/emodarts/fold1 is left out: it has not ended",
        "emodarts, fold0: s/emodarts/fold2 is left out: its train or dev speakers test here: x/d",
        "emodarts, fold2: s/emodarts/fold0 is left out: its train or dev speakers test here: x/c",
        "emodarts, fold2: s/emodarts/fold1 is left out: it has not ended",
    ]
    space = make_space(SweepSettings(space=SPACE))
    sources = {trial.source for trial in warm_start.prior_trials(space, "emodarts", "fold0")}
    assert sources == {f"s/emodarts/fold0/{trial}" for trial in range(4)}


def test_another_corpus_teaches_every_fold_unless_it_is_tested_on(root):
    _, lines = describe(root, {"fold0": (frozenset("y"), frozenset({"y/a"}))})
    assert lines[0] == "emodarts, fold0: 8 prior trials of s/emodarts/fold0, s/emodarts/fold2"
    with pytest.raises(EmodartsError, match="nothing of the sweeps can be taken"):
        describe(root, {"fold0": (frozenset("xy"), frozenset({"y/a", "x/a", "x/b", "x/c", "x/d"}))})


def test_speakers_that_are_not_known_are_taken_for_those_who_test(root):
    (root / "s" / "corpora" / "x.parquet").unlink()
    with pytest.raises(EmodartsError, match="which speakers of x it saw is not known"):
        describe(root, {"fold0": (frozenset("x"), frozenset({"x/z"}))})


def test_a_sweep_with_a_warm_start_of_its_own_is_left_out(root):
    content = json.loads((root / "s" / "sweep.json").read_text())
    content["settings"]["sweep.warm_start"] = ["other"]
    (root / "s" / "sweep.json").write_text(json.dumps(content))
    with pytest.raises(EmodartsError, match="it had a warm start itself"):
        describe(root, {"fold0": (frozenset("y"), frozenset({"y/a"}))})


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"weight_decay": {"low": 0.0, "high": 0.1}}},  # others
        {"search": SPACE["search"], "training": {}},  # fewer
        {**SPACE, "search": {"learning_rate": {"low": 1e-1, "high": 1.0}}},  # the trials lie outside
    ],
)
def test_trials_of_other_dimensions_are_left_out(root, change):
    with pytest.raises(EmodartsError, match="other dimensions"):
        describe(root, {"fold0": (frozenset("y"), frozenset({"y/a"}))}, change)


def test_values_enter_as_distances_from_the_mean_of_their_study(root):
    (first, *_) = read_prior_studies([root], "best_epoch")
    assert [trial.value for trial in first.trials] == [-0.125, 0.375, 0.125, -0.375]
    assert first.trials[0].costs == COSTS


# The best learning rate is 10 ** -2.5.
RATES = sorted((-4 + 3 * n / 19 for n in range(20)), key=lambda rate: abs(rate + 2.5))
PRIOR = tuple(PriorTrial(f"s/x/fold0/{r}", parameters(10**r, 0.2), 0.5 - (r + 2.5) ** 2, COSTS) for r in RATES)


def make_warm_study(**more):
    settings = SweepSettings(space=SPACE, trials=24, **more)
    return OptunaStudy("study", settings, make_space(settings), PRIOR)


def test_the_best_are_proposed_after_the_presets_own():
    study = make_warm_study()
    proposals = [trial.parameters for trial in run_trials(study, 7)]
    assert proposals[0] == study.space.default_parameters()
    assert proposals[1:6] == [trial.parameters for trial in PRIOR[:5]]
    assert proposals[6] not in [trial.parameters for trial in PRIOR]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "random"])
def test_a_rebuilt_study_proposes_what_the_undisturbed_one_does(sampler):
    constraints = ["parameters<=100"] if sampler in ("tpe", "gp") else []
    study, trials = make_warm_study(sampler=sampler, constraints=constraints), []
    for number in range(8):
        trials.append(complete_trial(number, study.ask(), ["dev_uar"]))
        study.tell(trials[-1], COSTS)
    rebuilt = make_warm_study(sampler=sampler, constraints=constraints)
    for trial in trials:
        rebuilt.add_trial(trial, {}, COSTS)
    proposal = rebuilt.ask()
    assert proposal == study.ask()
    assert rebuilt.space.accepts(proposal)


def test_what_was_measured_elsewhere_draws_the_proposals():
    """Proposals lie nearer to the best learning rate of the prior trials than without these."""

    def mean_distance(prior):
        distances = []
        for seed in range(12):
            settings = SweepSettings(space=SPACE, trials=24, seed=seed, sampler="tpe")
            study = OptunaStudy("study", settings, make_space(settings), prior)
            study.first = []  # as if these had been proposed
            distances.append(abs(np.log10(study.ask()["search.learning_rate"]) + 2.5))
        return np.mean(distances)

    assert mean_distance(PRIOR) < 0.5 * mean_distance(())


def test_the_level_of_another_corpus_does_not_count():
    """All prior values lie far above the study's own; its own best configurations are still the better ones."""
    study = make_warm_study()
    run_trials(study, 8)
    informed = study._with_prior_trials()
    shared = [(t.value, study.trials[n + 1].value) for n, t in enumerate(informed.trials[:5])]
    assert sum(a - b for a, b in shared) == pytest.approx(0, abs=1e-9)
    assert [t.params for t in informed.trials[len(PRIOR) :]] == [t.params for t in study.trials]


def test_trials_that_were_judged_otherwise_are_left_out(root):
    """A loss is no UAR: of a sweep that does not say by what it chose, nothing is known to differ."""
    content = json.loads((root / "s" / "sweep.json").read_text())
    (root / "s" / "sweep.json").write_text(json.dumps({**content, "settings": {"sweep.choose_by": "dev_loss"}}))
    prior = {study.study: study.refusal for study in read_prior_studies([root], "best_epoch")}
    assert prior["fold0"] == "its trials are judged by sweep.choose_by=dev_loss, these by best_epoch"
    assert next(iter(read_prior_studies([root], "dev_loss"))).refusal is None
