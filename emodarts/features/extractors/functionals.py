"""eGeMAPS functionals (Eyben et al. 2016) by openSMILE: 88 values an utterance, as one frame. An optional extra.

openSMILE's licence allows research and private use, not commercial products.
"""

import importlib.metadata

import torch
from torch import Tensor

from emodarts.errors import EmodartsError
from emodarts.features.audio import Samples
from emodarts.features.settings import EGEMAPS_VALUES, FeatureSettings

_LARGEST = 60_000.0  # of what float16 holds


class Functionals:
    """The eGeMAPSv02 functionals as an Extractor: one frame `(1, 88)` an utterance, in openSMILE's order."""

    def __init__(self, settings: FeatureSettings):
        opensmile_version()
        import opensmile

        self._rate = settings.sample_rate
        self._smile = opensmile.Smile(
            feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.Functionals
        )

    def __call__(self, utterances: list[Samples], device: str = "cpu") -> list[Tensor]:
        """Float32 frames `(1, 88)` on the CPU, one tensor an utterance; values beyond float16 are cut to its range."""
        values = (torch.from_numpy(self._smile(x[None], self._rate)).reshape(1, EGEMAPS_VALUES) for x in utterances)
        return [x.float().clamp(-_LARGEST, _LARGEST) for x in values]


def opensmile_version() -> str:
    """`opensmile <version>`. Raises EmodartsError where it is not installed."""
    try:
        return f"opensmile {importlib.metadata.version('opensmile')}"
    except importlib.metadata.PackageNotFoundError:
        raise EmodartsError("features.kind=egemaps needs openSMILE: pip install 'emodarts[egemaps]'") from None
