"""Simulated predictions: speakers who differ in how well they are recognised, in their classes and in their size."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emodarts.results.statistics import Tally


@dataclass(frozen=True)
class Corpus:
    """Mean utterances of each class that a speaker has; `uneven`: they differ by speaker and class, as in EmoDB."""

    speakers: int
    sizes: tuple[int, ...]
    uneven: bool = False

    def draw(self, rng, speakers):
        """Numbers of utterances `(speakers, classes)`."""
        mean = np.broadcast_to(self.sizes, (speakers, len(self.sizes)))
        if not self.uneven:
            return mean
        own = rng.gamma(9, 1 / 9, (speakers, 1)) * rng.gamma(4, 1 / 4, mean.shape)
        return rng.poisson(mean * own)


SAVEE = Corpus(4, (15, 15, 15, 15, 15, 15, 30))
EMODB = Corpus(10, (13, 8, 5, 7, 7, 6, 8), uneven=True)
RAVDESS = Corpus(24, (4, 8, 8, 8, 8, 8, 8, 8))
CREMA_D = Corpus(91, (13, 13, 13, 13, 13, 16), uneven=True)


@dataclass(frozen=True)
class Recognition:
    """Systems on speakers. The logit of answer c to label y of a speaker is the sum of what is named here.

    `skills`: for each system, how much the right answer is favoured; normal effects with these standard deviations:
    `speaker` (on the right answer; the same for all systems), `by_class` (the same, for each class), `answers` (on each
    answer, right or wrong: a voice that always sounds angry), `own` (each of the three again, for each system by
    itself, as a part of its size); and fixed confusions of the classes (`confusion`), the same for all speakers.
    """

    corpus: Corpus
    skills: tuple[float, ...] = (2.3,)
    speaker: float = 0.4
    by_class: float = 0.5
    answers: float = 0.4
    own: float = 0.4
    confusion: float = 0.7

    def tallies(self, rng, speakers=None):
        """The predictions of each system on the same utterances of newly drawn speakers."""
        n = self.corpus.speakers if speakers is None else speakers
        sizes, chances = self.corpus.draw(rng, n), self._chances(rng, n)
        names = tuple(f"s{i:05d}" for i in range(n))
        return [Tally(names, rng.multinomial(sizes, p).astype(float)) for p in chances]

    @cached_property
    def truth(self):
        """Each system's predictions on 40,000 speakers, as expected counts: what an interval should cover."""
        rng = np.random.default_rng(99)
        expected = np.mean([self._chances(rng, 2_000).mean(1) for _ in range(20)], axis=0)
        return [Tally(("all",), (p * np.array(self.corpus.sizes)[:, None])[None]) for p in expected]

    def _chances(self, rng, n):
        """The probability of each answer `(systems, speakers, labels, answers)`."""
        k, systems = len(self.corpus.sizes), len(self.skills)

        def effects(deviation, *shape):
            return deviation * (rng.normal(size=shape) + self.own * rng.normal(size=(systems, *shape)))

        right = effects(self.speaker, n, 1, 1) + effects(self.by_class, n, k, 1)
        right = right + np.array(self.skills)[:, None, None, None]
        fixed = self.confusion * np.random.default_rng(5).normal(size=(k, k))
        logits = fixed + effects(self.answers, n, 1, k) + right * np.eye(k)
        raised = np.exp(logits - logits.max(-1, keepdims=True))
        return raised / raised.sum(-1, keepdims=True)
