"""The exported folder: written whole or not at all, and read again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from emodarts import __version__
from emodarts.errors import EmodartsError
from emodarts.experiment.stages import Architecture
from emodarts.export.card import ModelCard
from emodarts.export.graph import Classifier, Member, features_graph
from emodarts.export.units import ExportedUnit
from emodarts.features.normalisation import Standardiser
from emodarts.features.settings import FeatureSettings
from emodarts.files import atomic_folder
from emodarts.networks.genotype import Genotype
from emodarts.networks.network import NetworkShape

KINDS = ("fold", "ensemble", "refit")
VERSION = 1  # of model.json, as in predict.py, which runs without this package
LONGEST_SECONDS, LONGEST_ENCODED = 60.0, 30.0  # that predict.py takes as one utterance; Whisper has no more positions
MODEL, WEIGHTS, ABOUT, CARD = "model.onnx", "weights.safetensors", "model.json", "MODEL_CARD.md"
_COPIED = ("predict.py", "requirements.txt")


@dataclass(frozen=True)
class Export:
    """What is exported: the networks and the units whose genotypes and settings they have, in the same order."""

    kind: str  # fold | ensemble | refit
    units: tuple[ExportedUnit, ...]
    members: tuple[Member, ...]
    classes: tuple[str, ...]

    @property
    def features(self) -> FeatureSettings:
        """The features, which all units share."""
        return self.units[0].settings.features

    def classifier(self) -> Classifier:
        """The module that becomes the ONNX model. Raises EmodartsError for features that cannot be in it."""
        return Classifier(list(self.members), features_graph(self.features))


def check_target(folder: Path) -> None:
    """Refuse (EmodartsError) a folder with something in it, before minutes of training."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EmodartsError(f"--out {folder} is there and not empty: name another folder, or delete it")
    if not folder.absolute().parent.is_dir():
        raise EmodartsError(f"--out {folder}: there is no folder {folder.absolute().parent}")


def write_export(folder: Path, export: Export, model: bytes, card: ModelCard) -> None:
    """Write the folder, whole or not at all. Raises EmodartsError where it cannot be written."""
    check_target(folder)
    folder = folder.absolute()
    try:
        with atomic_folder(folder) as temporary:
            (temporary / MODEL).write_bytes(model)
            (temporary / WEIGHTS).write_bytes(save(_tensors(export.members), {"format": "pt"}))
            (temporary / ABOUT).write_text(json.dumps(_about(export), indent=1) + "\n", encoding="utf-8")
            (temporary / CARD).write_text(card.render(), encoding="utf-8")
            for name in _COPIED:
                (temporary / name).write_text((files("emodarts.export") / name).read_text("utf-8"), encoding="utf-8")
    except OSError as error:
        raise EmodartsError(f"--out {folder} cannot be written: {error.strerror}") from error


def load_export(folder: Path) -> list[Member]:
    """The networks of an export as torch modules, for evaluation. Raises EmodartsError for a folder that is none."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
        members = about["members"]
    except (OSError, ValueError, KeyError) as error:
        raise EmodartsError(f"{folder} holds no whole export: {error}") from error
    return [_load_member(number, member, tensors) for number, member in enumerate(members)]


def _load_member(number: int, about: dict[str, Any], tensors: dict[str, Tensor]) -> Member:
    own = {name.removeprefix(f"{number}."): x for name, x in tensors.items() if name.startswith(f"{number}.")}
    genotype = None if about["genotype"] is None else Genotype.from_json(json.dumps(about["genotype"]))
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced at once
        network = Architecture(NetworkShape.from_json(json.dumps(about["network"])), genotype, about["design"]).build()
    standardiser = Standardiser(own.pop("standardiser.mean"), own.pop("standardiser.deviation"))
    network.load_state_dict({name.removeprefix("network."): x for name, x in own.items()})
    return Member(network.eval(), standardiser)


def _tensors(members: Sequence[Member]) -> dict[str, Tensor]:
    """`<member>.network.<name>` and `<member>.standardiser.mean`, `.deviation`."""
    tensors: dict[str, Tensor] = {}
    for number, member in enumerate(members):
        tensors |= {f"{number}.network.{name}": x.cpu() for name, x in member.network.state_dict().items()}
        tensors[f"{number}.standardiser.mean"] = member.standardiser.mean
        tensors[f"{number}.standardiser.deviation"] = member.standardiser.deviation
    return {name: x.contiguous().clone() for name, x in tensors.items()}


def _about(export: Export) -> dict[str, Any]:
    """Everything that predict.py needs, and what the networks are made of."""
    f = export.features
    return {
        "version": VERSION,
        "emodarts": __version__,
        "kind": export.kind,
        "classes": list(export.classes),
        "sample_rate": f.sample_rate,
        "trim_db": f.trim_db,
        "minimum_ms": f.minimum_ms,
        "longest_seconds": LONGEST_ENCODED if f.is_encoder else LONGEST_SECONDS,
        "features": f.content,
        "members": [_about_member(u, m) for u, m in zip(export.units, export.members, strict=True)],
    }


def _about_member(unit: ExportedUnit, member: Member) -> dict[str, Any]:
    key = {name: getattr(unit.key, name) for name in ("sweep", "system", "study", "trial", "seed", "protocol", "fold")}
    return {
        **key,
        "fold_hash": unit.key.fold_hash,
        "epoch": unit.epoch,
        "design": unit.settings.system,
        "genotype": None if unit.genotype is None else json.loads(unit.genotype.to_json()),
        "network": json.loads(member.network.shape.to_json()),
    }
