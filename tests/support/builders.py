"""A process that builds a store, to be killed: apart from the tests, so that it starts without what they import."""

import logging
import time

from emodarts import corpora
from emodarts.corpora.settings import CorpusSettings
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.building import build_planned
from emodarts.features.store.plan import ExtractionPlan

SETTINGS = FeatureSettings(n_mels=32, noise_snr_db=[10.0])


def read(root):
    return corpora.read(CorpusSettings(name="manifest", root=str(root), class_set="full"))


def plan_of(root, rows_per_shard=4, settings=SETTINGS):
    corpus = read(root)
    return ExtractionPlan.of(corpus.utterances, corpus.root, settings, rows_per_shard)


class PipeHandler(logging.Handler):
    """Sends what is logged through a pipe."""

    def __init__(self, pipe):
        super().__init__()
        self.pipe = pipe

    def emit(self, record):
        self.pipe.send(record.getMessage())


def builder(pipe, cache, root, rows_per_shard, processes, stop_after=None):
    """Life of a builder process: sends what the build logs and how it ended; may stop for good after some shards."""
    logger = logging.getLogger("emodarts")
    logger.addHandler(PipeHandler(pipe))
    logger.setLevel(logging.INFO)

    def progress(done, total):
        if done == stop_after:
            time.sleep(300)

    pipe.send("starting")
    store = build_planned(plan_of(root, rows_per_shard), cache, processes=processes, progress=progress)
    pipe.send(f"built {len(store.utterances)}")
