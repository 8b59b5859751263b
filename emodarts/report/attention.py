"""Where in time a network looks: the weights of its attentive pooling, of an export of the sweep (`--attention`)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emodarts.errors import EmodartsError
from emodarts.export.graph import Member
from emodarts.export.package import ABOUT, load_export
from emodarts.features.audio import Samples, UnusableAudio, at_speed, prepare
from emodarts.features.extractors.spectra import Spectra
from emodarts.features.settings import BY_TRAIN, FeatureSettings
from emodarts.networks.masking import time_mask
from emodarts.networks.pooling import AttentiveStatistics


@dataclass(frozen=True)
class AttentionReader:
    """The networks of an export by fold, `system` of `sweep`, and what makes frames of recordings."""

    sweep: str
    system: str
    members: dict[int, Member]
    spectra: Spectra

    @classmethod
    def open(cls, folder: Path) -> "AttentionReader":
        """That of an export's folder. Raises EmodartsError for one that is none, or whose networks do not tell."""
        members = load_export(folder)
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        settings = FeatureSettings(**about["features"])
        if settings.kind not in ("log_mel", "mfcc") or about["normalisation"] != BY_TRAIN:
            raise EmodartsError(
                f"--attention {folder}: attention is drawn for spectra that are normalised by the train part alone, "
                f"and this export has {settings.kind}, normalised by {about['normalisation']}; leave --attention out"
            )
        if about["kind"] == "refit":
            raise EmodartsError(f"--attention {folder}: a network of all data was tested on none; export an ensemble")
        if not all(any(isinstance(m, AttentiveStatistics) for m in x.network.modules()) for x in members):
            raise EmodartsError(f"--attention {folder}: its networks have no attention over time; leave it out")
        folds = [member["fold"] for member in about["members"]]
        if len(set(folds)) < len(folds):
            raise EmodartsError(f"--attention {folder}: several networks a fold (--top); export the winners alone")
        first = about["members"][0]
        return cls(first["sweep"], first["system"], dict(zip(folds, members, strict=True)), Spectra(settings))

    def over_time(self, samples: Samples, rate: int, fold: int) -> tuple[float, float, NDArray[np.float32]] | None:
        """Where the sound that the network hears begins and ends (s), and its weights there `(frames,)`, sum 1.

        None where the export has no network of the fold, or the recording is of no use to it.
        """
        if fold not in self.members:
            return None
        settings = self.spectra.settings
        try:
            sound = prepare(samples, rate, settings)
        except UnusableAudio:
            return None
        start = _offset(samples, sound) / rate
        weights = attention_weights(self.members[fold], self._inputs(sound, rate, self.members[fold]))
        return start, start + len(sound) / rate, weights

    def _inputs(self, sound: Samples, rate: int, member: Member) -> torch.Tensor:
        """As the sweep's batches are: standardised, `(1, channels, frequency, time)`."""
        (frames,) = self.spectra([at_speed(sound, rate, self.spectra.settings.sample_rate, 1.0)])
        standardised = (frames.half().float() - member.standardiser.mean) / member.standardiser.deviation
        return standardised.view(len(frames), self.spectra.channels, self.spectra.bins).permute(1, 2, 0)[None]


def attention_weights(member: Member, inputs: torch.Tensor) -> NDArray[np.float32]:
    """The weights `(frames,)` of the network's attentive pooling for `inputs (1, channels, frequency, time)`."""
    recorded: list[torch.Tensor] = []

    def record(module: AttentiveStatistics, arguments: tuple[Any, ...]) -> None:
        x, lengths = arguments
        mask = time_mask(lengths, x.shape[1])[:, :, None]
        recorded.append(module.score(x).masked_fill(~mask, float("-inf")).softmax(1)[0, :, 0])

    pools = [m for m in member.network.modules() if isinstance(m, AttentiveStatistics)]
    hooks = [pool.register_forward_pre_hook(record) for pool in pools]
    try:
        with torch.no_grad():
            member.network(inputs, torch.tensor([inputs.shape[3]]))
    finally:
        for hook in hooks:
            hook.remove()
    return np.asarray(torch.stack(recorded).mean(0).numpy(), np.float32)


def _offset(samples: Samples, sound: Samples) -> int:
    """Where the trimmed `sound` begins in `samples`, from which a constant was subtracted."""
    centred = samples - samples.sum() / np.float32(len(samples))
    hits = np.flatnonzero(centred[: len(samples) - len(sound) + 1] == sound[0])
    return next((int(i) for i in hits if np.array_equal(centred[i : i + len(sound)], sound)), 0)
