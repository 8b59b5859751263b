"""Simulated comparisons of two methods: speakers differ, and so do trainings of one method with other seeds."""

from dataclasses import dataclass

import numpy as np

from emodarts.results.statistics import Tally
from tests.support.speakers import Corpus


@dataclass(frozen=True)
class Methods:
    """Two methods, each trained with `seeds` seeds, all tested on the same utterances of newly drawn speakers.

    The recall of a class of a speaker is the sum of `recall`, of `gain` for the first method, and of normal effects
    with these standard deviations: `speaker` and `by_class` (a speaker, and its class, for both methods alike), `own`
    (a speaker for one method: what makes methods differ from speaker to speaker), `own * sqrt(ratio)` (a seed of a
    method, for all speakers: the luck of a training) and `seed_by_speaker` (the same with one speaker). Answers are
    then binomial. So `ratio` is the variance of the seeds' effects over that of the speakers' effects on a difference,
    and `gain` the true difference in UAR (or a number for each simulation). With `second_is_deterministic` seeds change
    nothing of the second method.
    """

    corpus: Corpus
    ratio: float = 0.5
    gain: float | np.ndarray = 0.0
    seeds: int = 3
    second_is_deterministic: bool = False
    recall: float = 0.65
    speaker: float = 0.08
    by_class: float = 0.1
    own: float = 0.04
    seed_by_speaker: float = 0.03

    def comparisons(self, rng, simulations):
        """For each simulation the tallies of both methods, one a seed each."""
        n, k, luck = self.corpus.speakers, len(self.corpus.sizes), np.array([1, 1 - self.second_is_deterministic])

        def normal(deviation, *shape):
            return deviation * rng.normal(size=(simulations, *shape))

        recall = self.recall + normal(self.speaker, 1, 1, n, 1) + normal(self.by_class, 1, 1, n, k)
        recall = (
            recall
            + normal(self.own, 2, 1, n, 1)
            + np.reshape(self.gain, (-1, 1, 1, 1, 1)) * np.reshape([1, 0], (2, 1, 1, 1))
        )
        by_seed = normal(self.own * self.ratio**0.5, 2, self.seeds, 1, 1)
        by_seed = by_seed + normal(self.seed_by_speaker, 2, self.seeds, n, 1)
        recall = np.clip(recall + luck[:, None, None, None] * by_seed, 0.02, 0.98)
        sizes = self.corpus.draw(rng, simulations * n).reshape(simulations, 1, 1, n, k)
        right = rng.binomial(sizes, recall)
        if self.second_is_deterministic:
            right[:, 1] = right[:, 1, :1]
        names, labels = tuple(f"s{i:05d}" for i in range(n)), np.arange(k)
        counts = np.zeros((*right.shape, k))
        counts[..., labels, labels] = right
        counts[..., labels, (labels + 1) % k] = sizes - right
        for methods in counts:
            yield tuple([Tally(names, of_seed) for of_seed in of_method] for of_method in methods)
