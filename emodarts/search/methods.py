"""All search methods behind one function: `search.method` says which."""

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoints
from emodarts.records import OnEpochEnd, ignore_epoch
from emodarts.search import controls
from emodarts.search.loop import search
from emodarts.search.task import Evaluate, SearchResult, SearchTask


def run_search(
    task: SearchTask,
    evaluate: Evaluate,
    on_epoch_end: OnEpochEnd = ignore_epoch,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> SearchResult:
    """Find a genotype by the method of the settings.

    `evaluate` trains a candidate on the train part and measures it on dev; random search and evolution alone call it.
    The search goes on from the checkpoint where there is one. Raises FloatingPointError where a loss is not finite, and
    EmodartsError for a checkpoint that is damaged or another search's.
    """
    match task.settings.method:
        case "random_architecture":
            return controls.random_architecture(task)
        case "random_search":
            return controls.random_search(task, evaluate, on_epoch_end, checkpoints)
        case "evolution":
            return controls.evolution(task, evaluate, on_epoch_end, checkpoints)
        case _:
            return search(task, on_epoch_end, checkpoints)
