"""One door to all search methods: `search.method`."""

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoints
from emodarts.search import controls
from emodarts.search.loop import search
from emodarts.search.task import Evaluate, Progress, SearchResult, SearchTask


def run_search(
    task: SearchTask,
    evaluate: Evaluate,
    progress: Progress = lambda record: None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> SearchResult:
    """Find a genotype by the method of the settings.

    `evaluate` trains a candidate on the train part; only the controls that try candidates call it. Goes on from the
    checkpoint where there is one. Raises FloatingPointError where a loss is not finite, and EmodartsError for a
    checkpoint that is damaged or another search's.
    """
    match task.settings.method:
        case "random_architecture":
            return controls.random_architecture(task)
        case "random_search":
            return controls.random_search(task, evaluate, progress, checkpoints)
        case "evolution":
            return controls.evolution(task, evaluate, progress, checkpoints)
        case _:
            return search(task, progress, checkpoints)
