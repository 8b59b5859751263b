"""How many candidates random search and evolution get in a sweep: as many as a supernet's search is worth in seconds.

Both are measured once for each system, on the preset's own configuration and a part of the first fold; the number then
stands in every trial's parameters, so that a later start uses the same. Multiply-accumulates, by which `run_fold`
counts without a sweep, are not seconds: a supernet's many small operations take far longer for each of them.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from emodarts.console import print_line
from emodarts.corpora.protocols.folds import Fold
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.processors import choose_device
from emodarts.results.reader import Results
from emodarts.storage import Storage
from sweeps.execution.sweep_spec import SweepSpec
from sweeps.study.search_space import SearchSpace
from sweeps.variants.jobs import SweepJob

if TYPE_CHECKING:  # torch, which takes seconds
    from sweeps.variants.forecast import FoldsWithFeatures

NAME = "search.candidates"
_CANDIDATES, _EPOCHS = 3, 2  # measured; the first candidate is not counted


def with_candidates(job: SweepJob, results: Results, storage: Storage, console: Console) -> SweepJob:
    """The job, where each system that searches by candidates, whose settings name no number of them, has one.

    Measured on a node with a GPU, where units run on GPUs. Raises EmodartsError.
    """
    counts = {}
    for name, space in job.systems.items():
        if counts_by_seconds(space) and not job.transferred:
            trials = (trial.parameters for trial in results.trials() if trial.system == name)
            counts[name] = next((parameters[NAME] for parameters in trials if NAME in parameters), None)
    missing = [name for name, count in counts.items() if count is None]
    if missing:  # a second or more of imports, here and in what measures: later starts take the numbers from the tables
        counts |= _measured_counts({name: job.systems[name] for name in missing}, job, storage, console)
    systems = {n: replace(s, measured={NAME: counts[n]}) if n in counts else s for n, s in job.systems.items()}
    return replace(job, systems=systems)


def _measured_counts(
    systems: dict[str, SearchSpace], job: SweepJob, storage: Storage, console: Console
) -> dict[str, int]:
    from sweeps.nodes.node_tasks import node_tasks

    counts, resources = {}, job.settings.resources
    with node_tasks(job.settings, console) as tasks:
        sweep = SweepSpec.publish(job.settings, storage, job.data) if tasks is not None else None
        for name, space in systems.items():
            settings = space.apply(space.default_parameters())
            arguments = settings, resources.device, resources.cpus_per_trial
            search, candidate = (
                both_seconds(job.data, *arguments) if tasks is None else tasks.run(seconds_on_node, sweep, *arguments)
            )
            counts[name] = max(1, int(search / candidate))
            about = f"a search by a supernet takes {search:.1f} s, a candidate {candidate:.1f} s"
            print_line(console, f"{name}: {about}, so each search has {counts[name]} candidates")
    return counts


def seconds_on_node(sweep: SweepSpec, settings: FoldSettings, device: str, threads: int) -> tuple[float, float]:
    """`both_seconds` as a task on a node. Raises EmodartsError."""
    from sweeps.variants.forecast import NodeData

    return both_seconds(NodeData.of(sweep), settings, device, threads)


def both_seconds(data: "FoldsWithFeatures", settings: FoldSettings, device: str, threads: int) -> tuple[float, float]:
    """Seconds of a search by a supernet, and of a candidate."""
    import torch

    torch.set_num_threads(threads)
    device = choose_device(device)
    return search_seconds(settings, data, device), candidate_seconds(settings, data, device)


def counts_by_seconds(space: SearchSpace) -> bool:
    """Whether a system searches by candidates, and nothing says how many."""
    s = space.settings
    is_named = s.search.candidates is not None or NAME in space.free or NAME in space.fixed
    return s.searches and s.search.method in ("random_search", "evolution") and not is_named


def search_seconds(settings: FoldSettings, data: "FoldsWithFeatures", device: str) -> float:
    """Seconds of a search by a supernet with these settings on the first fold."""
    from sweeps.variants.forecast import macs_of, measure, part_of

    searching, fold = replace(settings, search=replace(settings.search, method="darts")), _first_fold(data)
    s = searching.search
    measured = measure(searching, macs_of(searching, data), data, part_of(fold), device)
    (_, warmup), (_, moving) = measured.search
    return s.warmup * warmup + (s.epochs - s.warmup) * moving + measured.selection


def candidate_seconds(settings: FoldSettings, data: "FoldsWithFeatures", device: str) -> float:
    """Seconds of a candidate's training on what the search has of the first fold's train part."""
    from emodarts.experiment.unit import run_fold
    from emodarts.search.budget import candidate_epochs
    from sweeps.variants.forecast import part_of

    s, fold = settings.search, _first_fold(data)
    part = part_of(fold)
    shortened = replace(
        settings,
        search=replace(s, method="random_search", candidates=_CANDIDATES, candidate_epochs=_EPOCHS, subsample=None),
        training=replace(settings.training, epochs=1),
    )
    records = run_fold(data.store, part, shortened, device=device, tests=False)
    seconds = [epoch.seconds for epoch in records.epochs if epoch.phase == "search"]
    utterances = min(len(fold.train), s.subsample or len(fold.train))
    return float(np.mean(seconds[1:])) / _EPOCHS * candidate_epochs(s) * utterances / len(part.train)


def _first_fold(data: "FoldsWithFeatures") -> Fold:
    return next(iter(data.folds.values()))
