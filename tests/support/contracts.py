"""What every corpus, operation or sampler must keep: inherit a class of these as `Test...` and give its fixture."""

from dataclasses import replace

import pytest
import torch

from emodarts.corpora.table import UTTERANCES, audio_files
from emodarts.networks.costs import count_parameters, counted_macs, operation_costs
from tests.support.networks import LENGTHS
from tests.support.operations import FRAMES
from tests.support.optuna_studies import complete_trial, make_study, run_trials
from tests.support.plain import plain_edges
from tests.support.unfusing import extract


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


class OperationContract:
    """What every operation of a cell must keep; subclasses parametrise `case`, an `OperationCase`."""

    def test_shape_and_padding(self, case):
        torch.manual_seed(0)
        x, extent = case.batch()
        y = case.build()(x, extent)
        shape = (3, 4, -(-case.bins // case.stride), case.output_frames) if case.kind == "cnn" else x.shape
        assert y.shape == shape
        assert y.isfinite().all()
        output_lengths = -(-LENGTHS // case.stride)
        padding = torch.arange(case.output_frames) >= output_lengths[:, None]
        assert case.frames_first(y)[padding].abs().sum() == 0

    @pytest.mark.parametrize("affine", [False, True])
    def test_gradients_reach_the_input_and_all_weights(self, case, affine):
        if case.name == "none":
            return
        torch.manual_seed(0)
        x, extent = case.batch()
        operation = case.build(affine)
        y = operation(x.requires_grad_(), extent)
        (y * torch.randn_like(y)).sum().backward()
        assert x.grad.abs().sum() > 0
        idle = [name for name, p in operation.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
        assert not idle

    @pytest.mark.parametrize("affine", [False, True])
    def test_an_utterance_does_not_depend_on_its_batch(self, case, affine):
        torch.manual_seed(0)
        x, extent = case.batch()
        operation = case.build(affine)
        operation(x, extent)  # some running statistics
        together = operation.eval()(x, extent)
        for row in range(len(LENGTHS)):
            alone = case.frames_first(operation(*case.utterance(x, extent, row)))
            expected = case.frames_first(together[row : row + 1])[:, : alone.shape[1]]
            torch.testing.assert_close(alone, expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("affine", [False, True])
    def test_costs_are_those_of_its_module(self, case, affine):
        operation = case.build(affine)
        x, extent = case.batch()
        x, extent = x[:1], extent[:1] if case.kind == "cnn" else torch.tensor([FRAMES])
        counted = count_parameters(operation), counted_macs(operation, x, extent)
        state = torch.get_rng_state()
        size = (case.bins, FRAMES)
        assert (
            operation_costs(case.name, case.kind, case.channels, size, case.stride, case.over_time, affine) == counted
        )
        assert torch.equal(torch.get_rng_state(), state)

    def test_the_fused_form_gives_the_same_numbers(self, case):
        torch.manual_seed(0)
        fused = case.edges(2).double()
        plain = plain_edges(fused)
        x, extent = case.batch(torch.float64)
        weights = torch.rand(2, 1, dtype=torch.float64)
        for training in (True, False):
            leaves, outputs = [], []
            for edges in (fused, plain):
                leaves.append([x.clone().requires_grad_(), weights.clone().requires_grad_()])
                outputs.append(edges.train(training)(leaves[-1][0], extent, leaves[-1][1]))
            torch.testing.assert_close(*outputs, atol=1e-9, rtol=1e-9)
            if case.name != "none":
                against = torch.randn_like(outputs[0])
                ours, theirs = (torch.autograd.grad(y, t, against) for y, t in zip(outputs, leaves, strict=True))
                real = case.batch(torch.float64)[0] != 0  # what stands at padding does not count
                torch.testing.assert_close(ours[0] * real, theirs[0] * real, atol=1e-9, rtol=1e-9)
                torch.testing.assert_close(ours[1], theirs[1], atol=1e-9, rtol=1e-9)

    def test_the_fused_form_draws_the_weights_of_the_plain_one(self, case):
        torch.manual_seed(3)
        fused = case.edges(3)
        torch.manual_seed(3)
        drawn = [case.build() for _ in range(3)]
        state = torch.get_rng_state()
        for edge, operation in enumerate(drawn):
            extracted = extract(fused, edge, case.name).state_dict()
            assert all(torch.equal(extracted[key], value) for key, value in operation.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state)  # to look at an operation draws nothing


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
