"""The search of one fold: by a supernet, whose weights and alphas learn from the train part, or without one."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoint, Checkpoints, random_checkpoint, restore_random
from emodarts.errors import EmodartsError
from emodarts.features.batches import Batch, training_batches
from emodarts.networks.genotype import Genotype
from emodarts.networks.supernet import Supernet
from emodarts.records import EpochRecord, OnEpochEnd, ignore_epoch, late_dev_epoch
from emodarts.search import controls
from emodarts.search.budget import Budget
from emodarts.search.proposals import draw_proposals, propose_and_train, with_trainings_paid
from emodarts.search.regularisers import skip_dropout
from emodarts.search.scope import fixed_mixing_weights
from emodarts.search.selection import PerturbationSelector
from emodarts.search.settings import SearchSettings
from emodarts.search.single_path import single_path_search
from emodarts.search.stopping import dominant_eigenvalue, epochs_back, most_skip_connections, should_stop
from emodarts.search.supernet_evaluation import discretised_uar, mean_loss
from emodarts.search.supernet_trainer import SupernetTrainer
from emodarts.search.task import Evaluate, SearchResult, SearchTask
from emodarts.seeds import derive_seed
from emodarts.training.prediction import figures_of, predict


def run_search(
    task: SearchTask,
    evaluate: Evaluate,
    on_epoch_end: OnEpochEnd = ignore_epoch,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> SearchResult:
    """Find a genotype by the method of the settings.

    `evaluate` trains a candidate on the train part and measures it on dev; random search, evolution and a supernet
    with several proposals call it.
    The search goes on from the checkpoint where there is one. Raises FloatingPointError where a loss is not finite, and
    EmodartsError for a checkpoint that is damaged or another search's.
    """
    match task.settings.method:
        case "fixed":
            return controls.fixed_architecture(task)
        case "random_architecture":
            return controls.random_architecture(task)
        case "random_search":
            return controls.random_search(task, evaluate, on_epoch_end, checkpoints)
        case "evolution":
            return controls.evolution(task, evaluate, on_epoch_end, checkpoints)
        case "sampler":
            raise EmodartsError(
                "search.method=sampler trains a genotype that a sweep's sampler proposes: run it by sweeps/run.py, or "
                "give run_fold one as `transferred`"
            )
        case "spos":
            return propose_and_train(task, single_path_search, evaluate, on_epoch_end, checkpoints)
        case _:
            return propose_and_train(task, search, evaluate, on_epoch_end, checkpoints)


def search(
    task: SearchTask, on_epoch_end: OnEpochEnd = ignore_epoch, checkpoints: Checkpoints = NO_CHECKPOINTS
) -> SearchResult:
    """Search an architecture with the methods `darts` and `frozen`. Raises FloatingPointError for a loss that is NaN.

    The genotype is that of the last epoch; with `search.derive_at=best_dev` and a dev part, that of the supernet's best
    dev UAR among the last quarter of the epochs. Where a stopping rule ends the search, it is that of the epoch which
    the rule names; with perturbation-based selection, that of the supernet at the end.
    `frozen` leaves the alphas at their start and trains the weights alike: a coin derives its genotype.
    Where `checkpoints` hold one, the search goes on from there; `on_epoch_end` then gets the earlier epochs, too.
    With several `search.proposals` it has the epochs that their trainings leave, and the result has them.
    """
    task = with_trainings_paid(task)
    supernet_search = SupernetSearch(task)
    state = supernet_search.resume(checkpoints.load())
    for record in state.records:
        on_epoch_end(record)
    while not state.has_ended(task.settings):
        on_step = partial(checkpoints.stop_within, partial(supernet_search.checkpoint, state))
        record, derived = supernet_search.run_epoch(len(state.records), on_step)
        state.update(record, derived, supernet_search.stopping_figure(derived), task.settings)
        with checkpoints.saving(partial(supernet_search.checkpoint, state)):
            on_epoch_end(record)
    start = time.perf_counter()
    chosen = supernet_search.choose(state)
    proposals = supernet_search.propose(chosen.genotype)
    seconds = sum(record.seconds for record in state.records) + time.perf_counter() - start
    about_epochs = chosen.epoch, tuple(state.records), chosen.dev_probabilities
    return SearchResult(chosen.genotype, *about_epochs, supernet_search.supernet.shape, seconds, proposals)


@dataclass(frozen=True)
class _DerivedGenotype:
    """What is derived after an epoch (from 0), with the supernet's dev probabilities (None: there is no dev part)."""

    epoch: int
    genotype: Genotype
    dev_probabilities: NDArray[np.float32] | None


@dataclass
class SearchState:
    """How far a search has come: its epochs, what was derived at the best of them by the rule `late_dev`, and at the
    last ones, as many as a stopping rule may go back.
    """

    records: list[EpochRecord] = field(default_factory=list)
    best: _DerivedGenotype | None = None
    recent: list[_DerivedGenotype] = field(default_factory=list)
    stopping_figures: list[float] = field(default_factory=list)
    has_stopped: bool = False

    def has_ended(self, settings: SearchSettings) -> bool:
        """Whether all epochs are done, or a rule has ended the search."""
        return self.has_stopped or len(self.records) >= settings.epochs

    def update(
        self, record: EpochRecord, derived: _DerivedGenotype, stopping_figure: float | None, settings: SearchSettings
    ) -> None:
        """Take one more epoch."""
        self.records.append(record)
        # Without a dev part nothing tells epochs apart, and the last one counts.
        if record.dev_uar is None or late_dev_epoch(self.records, settings.epochs) == record.epoch:
            self.best = derived
        self.recent = [*self.recent, derived][-(epochs_back(settings) + 1) :]
        if stopping_figure is not None:
            self.stopping_figures.append(stopping_figure)
            self.has_stopped = should_stop(settings, self.stopping_figures)

    def to_checkpoint(self) -> Checkpoint:
        """All of it; tensors and state are named `state.*` and `state`."""
        derived = {f"recent{number}": d for number, d in enumerate(self.recent)}
        if self.best is not None:
            derived["best"] = self.best
        probabilities = {
            f"state.{name}": torch.from_numpy(d.dev_probabilities)
            for name, d in derived.items()
            if d.dev_probabilities is not None
        }
        content = {
            "records": [asdict(record) for record in self.records],
            "derived": {name: [d.epoch, d.genotype.to_json()] for name, d in derived.items()},
            "stopping_figures": self.stopping_figures,
            "has_stopped": self.has_stopped,
        }
        return Checkpoint(probabilities, {"state": content})

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "SearchState":
        """The reverse of `to_checkpoint`."""
        content, derived = checkpoint.state["state"], {}
        for name, (epoch, genotype) in content["derived"].items():
            probabilities = checkpoint.tensors.get(f"state.{name}")
            numbers = None if probabilities is None else probabilities.numpy()
            derived[name] = _DerivedGenotype(epoch, Genotype.from_json(genotype), numbers)
        best = derived.pop("best", None)
        recent = [derived[f"recent{number}"] for number in range(len(derived))]
        records = [EpochRecord(**record) for record in content["records"]]
        return cls(records, best, recent, content["stopping_figures"], content["has_stopped"])


class SupernetSearch:
    """A supernet, its trainer, and what is measured after each epoch."""

    def __init__(self, task: SearchTask):
        s = task.settings
        torch.manual_seed(derive_seed(task.seed, "search"))
        self.task, self.settings = task, s
        self.rng = np.random.default_rng(derive_seed(task.seed, "search batches"))
        self.supernet = Supernet(task.shape, s.all_cnn_operations, s.seqnn_operations, relaxation=s.relaxation)
        self.supernet.to(task.device)
        self.trainer = SupernetTrainer(self.supernet, task)
        self.budget = Budget.of(task)

    def run_epoch(self, epoch: int, on_step: Callable[[], None] = lambda: None) -> tuple[EpochRecord, _DerivedGenotype]:
        """Train one epoch (from 0), `on_step` after each step, then measure: its record, and what is derived now."""
        task, s, start, alphas_move = self.task, self.settings, self.trainer.progress.begin(), self.alphas_move(epoch)
        self._set_up_supernet(epoch)
        train_loss, alpha_loss = self.trainer.train_epoch(epoch, alphas_move, self.rng, on_step)
        genotype, alphas = self.supernet.derive(), self.supernet.alpha_statistics()
        probabilities = dev = discretised = None
        if task.dev is not None:
            probabilities = predict(self.supernet, task.dev, s.batch_size, task.device)
            dev = figures_of(probabilities, task.dev)
            discretised = discretised_uar(self.supernet, genotype, task.dev, s.batch_size, task.device)
        record = EpochRecord(
            phase="search",
            epoch=epoch,
            train_loss=train_loss,
            alpha_loss=alpha_loss,
            dev_loss=dev.loss if dev else None,
            dev_uar=dev.uar if dev else None,
            dev_war=dev.war if dev else None,
            seconds=time.perf_counter() - start,
            entropy=alphas["entropy"],
            top2_margin=alphas["top2_margin"],
            skip_connections=int(alphas["skip_connections"]),
            alphas_moved=alphas["moved"],
            discretised_dev_uar=discretised,
            macs=self.budget.of_epoch(alphas_move),
        )
        return record, _DerivedGenotype(epoch, genotype, probabilities)

    def alphas_move(self, epoch: int) -> bool:
        """Whether the alphas move in an epoch: not while the weights warm up, and never with `frozen`."""
        return self.settings.method == "darts" and epoch >= self.settings.warmup

    def stopping_figure(self, derived: _DerivedGenotype) -> float | None:
        """What the stopping rule looks at after an epoch; None where it does not look."""
        if self.settings.stop == "none" or not self.alphas_move(derived.epoch):
            return None
        if self.settings.stop == "skips":
            return most_skip_connections(self.supernet, derived.genotype)
        batches = self._fixed_batches("eigenvalue", 1)
        alphas, loss = self.supernet.architecture_parameters(), self.trainer.val_loss
        return dominant_eigenvalue(alphas, lambda: mean_loss(self.supernet, batches, loss))

    def choose(self, state: SearchState) -> _DerivedGenotype:
        """What the search finds, by the settings' rule."""
        last = state.recent[-1]
        if self.settings.selection == "perturbation" and self.settings.method == "darts":
            return _DerivedGenotype(last.epoch, self._select_by_perturbation(last.epoch), last.dev_probabilities)
        if state.has_stopped:
            return state.recent[0]
        if self.settings.derive_at == "last":
            return last
        assert state.best is not None
        return state.best

    def propose(self, first: Genotype) -> tuple[Genotype, ...]:
        """What is trained before one is taken: `first`, and others that the alphas favour; nothing of one alone."""
        count = self.settings.proposals
        rng = np.random.default_rng(derive_seed(self.task.seed, "proposals"))
        return draw_proposals(self.supernet, first, count, rng) if count > 1 else ()

    def _select_by_perturbation(self, epoch: int) -> Genotype:
        s, loss = self.settings, self.trainer.val_loss
        self._set_up_supernet(epoch)
        batches = self._fixed_batches("selection", s.perturbation_batches)
        selector = PerturbationSelector(
            self.supernet,
            loss=lambda: float(mean_loss(self.supernet, batches, loss)),
            tune=lambda: self.trainer.tune_weights(s.perturbation_steps, self.rng),
            rng=self.rng,
        )
        return selector.select()

    def _set_up_supernet(self, epoch: int) -> None:
        """Fix the cells that are not searched in an epoch, and set its dropout on skip connections."""
        self.supernet.fixed_weights = fixed_mixing_weights(self.supernet, self.settings, epoch)
        self.supernet.set_skip_dropout(skip_dropout(self.settings, epoch))

    def _fixed_batches(self, name: str, count: int) -> list[Batch]:
        """The same batches of the alphas' part each time: what is compared differs in the supernet alone."""
        task = self.task
        rng = np.random.default_rng(derive_seed(task.seed, name))
        batches = training_batches(task.alpha_part, self.settings.batch_size, task.crop, rng, task.device, task.batches)
        return list(islice(batches, count))

    def checkpoint(self, state: SearchState) -> Checkpoint:
        """All that `resume` needs."""
        return self.trainer.checkpoint() | random_checkpoint(self.rng, self.task.device) | state.to_checkpoint()

    def resume(self, checkpoint: Checkpoint | None) -> SearchState:
        """Go back to a checkpoint: the state of the search; a new one where there is none."""
        if checkpoint is None:
            return SearchState()
        self.trainer.resume(checkpoint)
        restore_random(checkpoint, self.rng, self.task.device)
        return SearchState.from_checkpoint(checkpoint)
