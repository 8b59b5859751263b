"""The search of one fold by a supernet: weights and alphas learn from the train part, the epoch is chosen on dev."""

import time
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoint, Checkpoints, random_state, restore_random
from emodarts.features.batches import training_batches
from emodarts.networks.genotype import Genotype
from emodarts.networks.supernet import Supernet
from emodarts.records import EpochRecord, late_dev_epoch
from emodarts.search.budget import Budget
from emodarts.search.regularisers import skip_dropout
from emodarts.search.scope import held_weights
from emodarts.search.selection import Selector
from emodarts.search.settings import SearchSettings
from emodarts.search.stopping import dominant_eigenvalue, epochs_back, most_skips, stops
from emodarts.search.supernet_evaluation import discretised_uar, mean_loss
from emodarts.search.supernet_trainer import SupernetTrainer
from emodarts.search.task import Progress, SearchResult, SearchTask
from emodarts.seeds import derive_seed
from emodarts.training.prediction import figures_of, predict


def search(
    task: SearchTask, progress: Progress = lambda record: None, checkpoints: Checkpoints = NO_CHECKPOINTS
) -> SearchResult:
    """Search an architecture with the methods `darts` and `frozen`. Raises FloatingPointError for a loss that is NaN.

    The genotype is that of the best dev UAR among the last quarter of the epochs, of the last epoch where there is no
    dev part; where a stopping rule ends the search, that of the epoch which the rule names; with perturbation-based
    selection, that of the supernet at the end.
    `frozen` leaves the alphas at their start and trains the weights alike: a coin derives its genotype.
    `progress` hears of each epoch, of those before a stop again.
    """
    run = _Run(task)
    course = run.resume(checkpoints.load())
    for record in course.records:
        progress(record)
    while not course.has_ended(task.settings):
        record, choice = run.epoch(len(course.records))
        course.add(record, choice, run.stop_figure(choice), task.settings)
        if checkpoints.due(len(course.records)):
            checkpoints.save(run.checkpoint(course))
        progress(record)
    begin = time.perf_counter()
    chosen = run.select(course)
    seconds = sum(record.seconds for record in course.records) + time.perf_counter() - begin
    return SearchResult(
        chosen.genotype, chosen.epoch, tuple(course.records), chosen.probabilities, run.supernet.shape, seconds
    )


@dataclass(frozen=True)
class _Choice:
    """What could be chosen of an epoch: the genotype derived there, and the supernet's dev probabilities, if any."""

    epoch: int
    genotype: Genotype
    probabilities: NDArray[np.float32] | None


@dataclass
class _Course:
    """How far a search has come. `recent` are the last choices, as many as a stopping rule may go back."""

    records: list[EpochRecord] = field(default_factory=list)
    best: _Choice | None = None
    recent: list[_Choice] = field(default_factory=list)
    stop_figures: list[float] = field(default_factory=list)
    has_stopped: bool = False

    def has_ended(self, settings: SearchSettings) -> bool:
        """Whether all epochs are done, or a rule has ended the search."""
        return self.has_stopped or len(self.records) >= settings.epochs

    def add(self, record: EpochRecord, choice: _Choice, stop_figure: float | None, settings: SearchSettings) -> None:
        """One more epoch."""
        # Without a dev part nothing tells epochs apart, and the last one counts.
        self.records.append(record)
        if record.dev_uar is None or late_dev_epoch(self.records, settings.epochs) == record.epoch:
            self.best = choice
        self.recent = [*self.recent, choice][-(epochs_back(settings) + 1) :]
        if stop_figure is not None:
            self.stop_figures.append(stop_figure)
            self.has_stopped = stops(settings, self.stop_figures)

    def choices(self) -> dict[str, _Choice]:
        """All choices that may still be taken, by name."""
        best = {} if self.best is None else {"best": self.best}
        return {**best, **{f"recent{number}": choice for number, choice in enumerate(self.recent)}}


class _Run:
    """A supernet in training, and what is asked of it after each epoch."""

    def __init__(self, task: SearchTask):
        s = task.settings
        torch.manual_seed(derive_seed(task.seed, "search"))
        self.task, self.settings = task, s
        self.rng = np.random.default_rng(derive_seed(task.seed, "search batches"))
        self.supernet = Supernet(task.shape, s.all_cnn_operations, s.seqnn_operations, relaxation=s.relaxation)
        self.supernet.to(task.device)
        self.engine = SupernetTrainer(self.supernet, task)
        self.budget = Budget.of(task)

    def epoch(self, number: int) -> tuple[EpochRecord, _Choice]:
        """Train one epoch (from 0), then measure: its record, and what could be chosen of it."""
        task, s, begin = self.task, self.settings, time.perf_counter()
        self.supernet.held = held_weights(self.supernet, s, number)
        self.supernet.set_skip_dropout(skip_dropout(s, number))
        train_loss, alpha_loss = self.engine.train(number, self.moves(number), self.rng)
        genotype, alphas = self.supernet.derive(), self.supernet.alpha_figures()
        probabilities = dev = discretised = None
        if task.dev is not None:
            probabilities = predict(self.supernet, task.dev, s.batch_size, task.device)
            dev = figures_of(probabilities, task.dev)
            discretised = discretised_uar(self.supernet, genotype, task.dev, s.batch_size, task.device)
        record = EpochRecord(
            phase="search",
            epoch=number,
            train_loss=train_loss,
            alpha_loss=alpha_loss,
            dev_loss=dev.loss if dev else None,
            dev_uar=dev.uar if dev else None,
            dev_war=dev.war if dev else None,
            seconds=time.perf_counter() - begin,
            entropy=alphas["entropy"],
            top2_margin=alphas["top2_margin"],
            skip_connections=int(alphas["skip_connections"]),
            alphas_moved=alphas["moved"],
            discretised_dev_uar=discretised,
            macs=self.budget.of_epoch(number, frozen=not self.moves(number)),
        )
        return record, _Choice(number, genotype, probabilities)

    def moves(self, epoch: int) -> bool:
        """Whether the alphas move in an epoch: not while the weights warm up, and never with `frozen`."""
        return self.settings.method == "darts" and epoch >= self.settings.warmup

    def stop_figure(self, choice: _Choice) -> float | None:
        """What the stopping rule looks at after an epoch; None where it does not look."""
        if self.settings.stop == "none" or not self.moves(choice.epoch):
            return None
        if self.settings.stop == "skips":
            return most_skips(self.supernet, choice.genotype)
        batches = self._fixed_batches("eigenvalue", 1)
        weights = self.engine.class_weights[1]
        alphas = self.supernet.architecture_parameters()
        return dominant_eigenvalue(alphas, lambda: mean_loss(self.supernet, batches, weights))

    def select(self, course: _Course) -> _Choice:
        """The choice that the settings' rule makes of the whole course."""
        last = course.recent[-1]
        if self.settings.selection == "perturbation" and self.settings.method == "darts":
            return _Choice(last.epoch, self._perturbed(last.epoch), last.probabilities)
        if course.has_stopped:
            return course.recent[0]
        assert course.best is not None
        return course.best

    def _perturbed(self, epoch: int) -> Genotype:
        s = self.settings
        self.supernet.held = held_weights(self.supernet, s, epoch)
        self.supernet.set_skip_dropout(skip_dropout(s, epoch))
        batches, weights = self._fixed_batches("selection", s.perturbation_batches), self.engine.class_weights[1]

        def tune() -> None:
            self.engine.tune(s.perturbation_steps, self.rng)

        selector = Selector(self.supernet, lambda: float(mean_loss(self.supernet, batches, weights)), tune, self.rng)
        return selector.select()

    def _fixed_batches(self, name: str, count: int) -> list[Any]:
        """The same batches of the alpha half each time: what is compared differs in the supernet alone."""
        task = self.task
        rng = np.random.default_rng(derive_seed(task.seed, name))
        drawn = training_batches(task.alpha_part, self.settings.batch_size, task.crop, rng, task.device, task.batches)
        return list(islice(drawn, count))

    def checkpoint(self, course: _Course) -> Checkpoint:
        """All that `resume` needs."""
        tensors, state = self.engine.saved()
        chance, chance_state = random_state(self.rng, self.task.device)
        choices = course.choices()
        kept = {
            f"choice.{name}": torch.from_numpy(choice.probabilities)
            for name, choice in choices.items()
            if choice.probabilities is not None
        }
        named = {name: [choice.epoch, choice.genotype.to_json()] for name, choice in choices.items()}
        told = {
            "records": [asdict(record) for record in course.records],
            "choices": named,
            "stop_figures": course.stop_figures,
            "has_stopped": course.has_stopped,
        }
        return Checkpoint({**tensors, **chance, **kept}, {**state, **chance_state, "course": told})

    def resume(self, checkpoint: Checkpoint | None) -> _Course:
        """Go back to a checkpoint: the course so far; a new one where there is none."""
        if checkpoint is None:
            return _Course()
        self.engine.load(checkpoint)
        restore_random(checkpoint, self.rng, self.task.device)
        told = checkpoint.state["course"]
        choices = {}
        for name, (epoch, text) in told["choices"].items():
            found = checkpoint.tensors.get(f"choice.{name}")
            choices[name] = _Choice(epoch, Genotype.from_json(text), None if found is None else found.numpy())
        best = choices.pop("best", None)
        recent = [choices[f"recent{number}"] for number in range(len(choices))]
        records = [EpochRecord(**record) for record in told["records"]]
        return _Course(records, best, recent, told["stop_figures"], told["has_stopped"])
