"""Training of a genotype's network from scratch; the epoch is chosen by dev UAR in the last quarter."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from emodarts.features.batches import Part, class_weights, training_batches
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.networks.genotype import Genotype
from emodarts.networks.network import DiscreteNetwork, NetworkShape
from emodarts.results.records import EpochRecord
from emodarts.seeds import derive_seed
from emodarts.training.prediction import dev_figures, is_late
from emodarts.training.settings import TrainingSettings

Progress = Callable[[EpochRecord], None]
_LEAST_STEPS = 8  # a quarter of fewer would be no warm-up (of 4, a division by zero)


@dataclass(frozen=True)
class Trained:
    """The network at the chosen epoch, and the course of all epochs."""

    network: DiscreteNetwork
    epoch: int
    epochs: tuple[EpochRecord, ...]
    seconds: float


def train(
    genotype: Genotype,
    shape: NetworkShape,
    part: Part,
    dev: Part,
    settings: TrainingSettings,
    features: FeatureSettings,
    batches: BatchSettings,
    seed: int,
    device: str = "cpu",
    progress: Progress = lambda record: None,
) -> Trained:
    """Train on `part`, look at `dev` after each epoch. Raises FloatingPointError where the loss is not finite."""
    torch.manual_seed(derive_seed(seed, "training"))
    rng = np.random.default_rng(derive_seed(seed, "training batches"))
    network = DiscreteNetwork(shape, genotype).to(device)
    steps = -(-len(part.utterances) // settings.batch_size)
    optimiser = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=max(_LEAST_STEPS, settings.epochs * steps), pct_start=0.25
    )
    weights = class_weights(part, shape.classes).to(device)
    crop = max(1, round(settings.crop_seconds * features.frames_per_second))
    records: list[EpochRecord] = []
    best, state, chosen = (-1.0, 0.0), network.state_dict(), 0
    begin = time.perf_counter()
    for epoch in range(settings.epochs):
        start = time.perf_counter()
        network.train()
        network.drop_path = settings.drop_path * epoch / settings.epochs
        losses = []
        for batch in training_batches(part, settings.batch_size, crop, rng, device, batches):
            logits = network(batch.inputs, batch.lengths)
            loss = F.cross_entropy(logits, batch.labels, weights, label_smoothing=settings.label_smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip, error_if_nonfinite=True)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        figures = dev_figures(network, dev, settings.batch_size, device)
        if is_late(epoch, settings.epochs) and (figures.uar, -figures.loss) > best:
            best, state, chosen = (figures.uar, -figures.loss), copy.deepcopy(network.state_dict()), epoch
        record = EpochRecord(
            phase="train",
            epoch=epoch,
            train_loss=float(np.mean(losses)),
            dev_loss=figures.loss,
            dev_uar=figures.uar,
            dev_war=figures.war,
            seconds=time.perf_counter() - start,
        )
        records.append(record)
        progress(record)
    network.load_state_dict(state)
    return Trained(network.eval(), chosen, tuple(records), time.perf_counter() - begin)
