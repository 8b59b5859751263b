"""The records of a unit of work, as the result tables take them."""

import json
import resource
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from emodarts.experiment.fold_data import FoldData, FoldSettings
from emodarts.networks.costs import count_macs, count_parameters
from emodarts.networks.network import NetworkShape
from emodarts.provenance import git_revision, package_versions
from emodarts.records import Evaluation, GenotypeRecord, UnitRecords
from emodarts.search.task import SearchResult
from emodarts.training.svm import TrainedSvm
from emodarts.training.train import TrainedNetwork, crop_frames


def unit_records(
    data: FoldData, search_result: SearchResult | None, trained: TrainedNetwork, evaluations: Sequence[Evaluation]
) -> UnitRecords:
    """The records of a network, and of the search that found it (None: it was not searched)."""
    settings, network = data.settings, trained.network
    return UnitRecords(
        evaluations=tuple(evaluations),
        epochs=(search_result.epochs if search_result else ()) + trained.epochs,
        genotypes=(_genotype_record(search_result, network.shape),) if search_result else (),
        parameters=count_parameters(network),
        macs=count_macs(network, crop_frames(settings.training.crop_seconds, settings.features)),
        search_seconds=search_result.seconds if search_result else 0.0,
        train_seconds=trained.seconds,
        **_provenance(settings),
    )


def svm_records(data: FoldData, machine: TrainedSvm, evaluations: Sequence[Evaluation]) -> UnitRecords:
    """The records of a support vector machine."""
    return UnitRecords(
        evaluations=tuple(evaluations),
        epochs=(),
        genotypes=(),
        parameters=machine.parameters,
        macs=machine.macs,
        search_seconds=0.0,
        train_seconds=machine.seconds,
        **_provenance(data.settings),
    )


def _provenance(settings: FoldSettings) -> dict[str, Any]:
    return {
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "settings_json": json.dumps(asdict(settings), sort_keys=True),
        "git_revision": git_revision(),
        "packages_json": package_versions(),
    }


def _genotype_record(search_result: SearchResult, shape: NetworkShape) -> GenotypeRecord:
    network = json.dumps({**asdict(shape), "layout": shape.layout}, sort_keys=True)
    return GenotypeRecord("final", search_result.genotype.to_json(), network, search_result.epoch)
