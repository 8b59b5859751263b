"""How many candidates random search and evolution get in a sweep: as many as a supernet's search is worth in seconds.

Both are measured once for each system, on the preset's own configuration and a part of the first fold; the number then
stands in every trial's parameters, so that a later start uses the same. Multiply-accumulates, by which `run_fold`
counts without a sweep, are not seconds: a supernet's many small operations take far longer for each of them.
"""

from dataclasses import replace

import numpy as np
import torch
from rich.console import Console

from emodarts.console import print_line
from emodarts.corpora.protocols.folds import Fold
from emodarts.experiment.fold_data import FoldSettings
from emodarts.experiment.unit import run_fold
from emodarts.processors import choose_device
from emodarts.results.reader import Results
from emodarts.search.budget import candidate_epochs
from sweeps.study.search_space import SearchSpace
from sweeps.variants.forecast import macs_of, measure, part_of
from sweeps.variants.jobs import SweepJob

NAME = "search.candidates"
_CANDIDATES, _EPOCHS = 3, 2  # measured; the first candidate is not counted


def with_candidates(job: SweepJob, results: Results, console: Console) -> SweepJob:
    """The job, where each system that searches by candidates, whose settings name no number of them, has one."""
    systems = {name: _with_candidates(name, space, job, results, console) for name, space in job.systems.items()}
    return replace(job, systems=systems)


def _with_candidates(name: str, space: SearchSpace, job: SweepJob, results: Results, console: Console) -> SearchSpace:
    if not counts_by_seconds(space) or job.transferred:
        return space
    trials = (trial.parameters for trial in results.trials() if trial.system == name)
    count = next((parameters[NAME] for parameters in trials if NAME in parameters), None)
    if count is None:
        settings = space.apply(space.default_parameters())
        device = choose_device(job.settings.resources.device)
        torch.set_num_threads(job.settings.resources.cpus_per_trial)
        search, candidate = search_seconds(settings, job, device), candidate_seconds(settings, job, device)
        count = max(1, int(search / candidate))
        about = f"a search by a supernet takes {search:.1f} s, a candidate {candidate:.1f} s"
        print_line(console, f"{name}: {about}, so each search has {count} candidates")
    return replace(space, measured={NAME: count})


def counts_by_seconds(space: SearchSpace) -> bool:
    """Whether a system searches by candidates, and nothing says how many."""
    s = space.settings
    is_named = s.search.candidates is not None or NAME in space.free or NAME in space.fixed
    return s.searches and s.search.method in ("random_search", "evolution") and not is_named


def search_seconds(settings: FoldSettings, job: SweepJob, device: str) -> float:
    """Seconds of a search by a supernet with these settings on the first fold."""
    searching, fold = replace(settings, search=replace(settings.search, method="darts")), _first_fold(job)
    s = searching.search
    measured = measure(searching, macs_of(searching, job.data), job.data, part_of(fold), device)
    (_, warmup), (_, moving) = measured.search
    return s.warmup * warmup + (s.epochs - s.warmup) * moving + measured.selection


def candidate_seconds(settings: FoldSettings, job: SweepJob, device: str) -> float:
    """Seconds of a candidate's training on what the search has of the first fold's train part."""
    s, fold = settings.search, _first_fold(job)
    part = part_of(fold)
    shortened = replace(
        settings,
        search=replace(s, method="random_search", candidates=_CANDIDATES, candidate_epochs=_EPOCHS, subsample=None),
        training=replace(settings.training, epochs=1),
    )
    records = run_fold(job.data.store, part, shortened, device=device, tests=False)
    seconds = [epoch.seconds for epoch in records.epochs if epoch.phase == "search"]
    utterances = min(len(fold.train), s.subsample or len(fold.train))
    return float(np.mean(seconds[1:])) / _EPOCHS * candidate_epochs(s) * utterances / len(part.train)


def _first_fold(job: SweepJob) -> Fold:
    return next(iter(job.data.folds.values()))
