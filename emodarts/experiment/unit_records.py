"""The records of a unit of work, as the result tables take them."""

import json
import resource
from collections.abc import Sequence
from dataclasses import asdict

from emodarts.experiment.fold_data import FoldData
from emodarts.networks.costs import count_macs, count_parameters
from emodarts.networks.network import NetworkShape
from emodarts.provenance import git_revision, package_versions
from emodarts.records import EpochRecord, Evaluation, GenotypeRecord, UnitRecords
from emodarts.search.task import SearchResult
from emodarts.training.svm import TrainedSvm
from emodarts.training.train import TrainedNetwork, crop_frames


def unit_records(
    data: FoldData,
    search_result: SearchResult | None,
    trained: TrainedNetwork | TrainedSvm,
    evaluations: Sequence[Evaluation],
) -> UnitRecords:
    """The records of what was trained, and of the search that found it (None: it was not searched)."""
    settings = data.settings
    epochs: tuple[EpochRecord, ...] = search_result.epochs if search_result else ()
    genotypes: tuple[GenotypeRecord, ...] = ()
    if isinstance(trained, TrainedSvm):
        parameters, macs = trained.parameters, trained.macs
    else:
        epochs += trained.epochs
        parameters = count_parameters(trained.network)
        macs = count_macs(trained.network, crop_frames(settings.training.crop_seconds, settings.features))
        if search_result is not None:
            genotypes = (_genotype_record(search_result, trained.network.shape),)
    return UnitRecords(
        evaluations=tuple(evaluations),
        epochs=epochs,
        genotypes=genotypes,
        parameters=parameters,
        macs=macs,
        search_seconds=search_result.seconds if search_result else 0.0,
        train_seconds=trained.seconds,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        settings_json=json.dumps(asdict(settings), sort_keys=True),
        git_revision=git_revision(),
        packages_json=package_versions(),
    )


def _genotype_record(search_result: SearchResult, shape: NetworkShape) -> GenotypeRecord:
    return GenotypeRecord("final", search_result.genotype.to_json(), shape.to_json(), search_result.epoch)
