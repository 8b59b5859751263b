"""A process that builds a store, to be killed: apart from the tests, so that it starts without what they import."""

import time

from emodarts import corpora
from emodarts.corpora.settings import CorpusSettings
from emodarts.features.settings import FeatureSettings
from emodarts.features.store import building
from emodarts.features.store.plan import ExtractionPlan

SETTINGS = FeatureSettings(n_mels=32, noise_snr_db=[10.0])


def read(root):
    return corpora.read(CorpusSettings(name="manifest", root=str(root), class_set="full"))


def plan_of(root, rows_per_shard=4, settings=SETTINGS):
    corpus = read(root)
    return ExtractionPlan.of(corpus.utterances, corpus.root, settings, rows_per_shard)


def builder(told, cache, root, rows_per_shard, processes, stop_after=None):
    """Life of a builder process: tells what the build says and how it ended; may stop for good after some shards."""

    def progress(done, total):
        if done == stop_after:
            time.sleep(300)

    told.send("starting")
    store = building.build(plan_of(root, rows_per_shard), cache, processes=processes, progress=progress, say=told.send)
    told.send(f"built {len(store.utterances)}")
