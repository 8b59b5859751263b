"""What every corpus, operation or sampler must keep: inherit a class of these as `Test...` and give its fixture."""

from dataclasses import replace

import pytest

from emodarts.corpora.table import UTTERANCES, audio_files
from tests.support.optuna_studies import complete_trial, make_study, run_trials


class CorpusContract:
    """What every reader must keep; subclasses give `corpus`."""

    def test_table(self, corpus):
        table = corpus.utterances
        assert table.schema.equals(UTTERANCES)
        ids = table["utterance"].to_pylist()
        assert ids == sorted(set(ids))
        assert all(i.startswith(corpus.name + "/") for i in ids)
        assert all(s is None or s.startswith(corpus.name + "/") for s in table["speaker"].to_pylist())

    def test_every_audio_file_is_accounted_for(self, corpus):
        on_disk = {f.relative_to(corpus.root).as_posix() for f in audio_files(corpus.root)}
        told = {*corpus.utterances["path"].to_pylist(), *corpus.dropped["path"].to_pylist()}
        assert on_disk <= told


class SamplerContract:
    """What every sampler must keep; subclasses give its name in `sweep.sampler`, and the objectives it is for."""

    sampler: str
    objectives = ("dev_uar",)

    @pytest.fixture(scope="class")
    @classmethod
    def history(cls):
        """A study after 24 trials, and their records."""
        study = make_study(cls.sampler, cls.objectives)
        return study, run_trials(study, 24)

    def rebuilt(self, trials, **settings):
        """A study that knows plain rows only, as after a restart of the driver."""
        study = make_study(self.sampler, self.objectives, **settings)
        for trial in trials:
            study.add_trial(trial, {})
        return study

    def test_proposals_lie_in_the_space(self, history):
        study, trials = history
        for parameters in (trial.parameters for trial in trials):
            assert ("search.beta_decay_weight" in parameters) == (parameters["search.regulariser"] == "beta_decay")
            for name, distribution in study.space.distributions_of(parameters).items():
                assert distribution._contains(distribution.to_internal_repr(parameters[name]))

    def test_proposals_differ(self, history):
        assert len({str(trial.parameters) for trial in history[1]}) > 12

    def test_a_rebuilt_study_proposes_what_the_undisturbed_one_does(self, history):
        undisturbed, trials = history[0], list(history[1])
        rebuilt = self.rebuilt(trials)
        for _ in range(2):
            parameters = undisturbed.ask()
            assert rebuilt.ask() == parameters
            trials.append(complete_trial(len(trials), parameters, self.objectives))
        self.test_proposals_lie_in_the_space((undisturbed, trials))

    def test_the_seed_decides(self, history):
        _, trials = history
        again = run_trials(make_study(self.sampler, self.objectives), 3)
        assert [t.parameters for t in again] == [t.parameters for t in trials[:3]]
        other = run_trials(make_study(self.sampler, self.objectives, seed=1), 3)
        assert [t.parameters for t in other] != [t.parameters for t in trials[:3]]

    def test_failed_trials_teach_nothing_and_stop_nothing(self, history):
        failed = replace(history[1][0], status="failed", values=())
        trials = [failed, *history[1][1:4]]
        first, second = self.rebuilt(trials), self.rebuilt(trials)
        assert first.ask() == second.ask()
