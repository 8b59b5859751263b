"""The choices of a genotype as dimensions of a study: `search.method=sampler` searches by trainings, not a supernet."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from emodarts.experiment.fold_settings import FoldSettings
from emodarts.networks.genotype import Genotype

if TYPE_CHECKING:
    from emodarts.search.candidates import CandidateSpace

GROUP = "genotype"
# The settings with which a network has a kind of cell at all.
_REQUIRED: dict[str, dict[str, tuple[Any, ...]]] = {
    "R": {"training.sequence_rate": (None,), "training.depth": tuple(range(2, 21))},
    "S": {"search.sequence_cells": tuple(range(1, 13))},
}


def genotype_dimensions(settings: FoldSettings) -> dict[str, tuple[dict[str, Any], str]]:
    """By name (`genotype.normal_1_from_2`) the choices of a dimension with its conditions, and its default.

    The default is what the space's plain architecture has. What has one option is no dimension.
    """
    choices = [choice for choice in _candidate_space(settings).choices() if len(choice.options) > 1]
    names = {choice.name for choice in choices}
    dimensions = {}
    for choice in choices:
        inputs = {f"{GROUP}.{name}": words for name, words in choice.required.items() if name in names}
        dimension = {"choices": list(choice.options), "when": {**_REQUIRED.get(choice.kind, {}), **inputs}}
        dimensions[f"{GROUP}.{choice.name}"] = dimension, choice.default
    return dimensions


def genotype_of(settings: FoldSettings, parameters: Mapping[str, Any]) -> Genotype:
    """The genotype that a configuration's parameters name."""
    named = {path.removeprefix(f"{GROUP}."): value for path, value in parameters.items() if path.startswith(GROUP)}
    return _candidate_space(settings).build_of_words(named)


def _candidate_space(settings: FoldSettings) -> "CandidateSpace":
    """The space; of an encoder's layers as many as the settings list, since only the encoder knows how many are all."""
    from emodarts.search.candidates import CandidateSpace  # torch, which takes seconds, and nothing else here needs it

    features = settings.features
    are_stored = isinstance(features.layers, list) and features.weighting != "mean"
    layers = 0 if features.layers == "learned" else len(features.layers) if are_stored else 1
    return CandidateSpace.of(settings.search, layers=layers)
