"""Shared fixtures: the demo corpus with features, small settings, synthetic folders."""

import os
from collections import Counter
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.building import build_store
from emodarts.search.settings import SearchSettings
from emodarts.training.settings import TrainingSettings
from tests.support.commands import variables
from tests.support.files import REPOSITORY, write_corpus

RECORDINGS = REPOSITORY.parent / "shared" / "corpora"
torch.set_num_threads(1)
USUAL_SECONDS = {"slow": 2, "cluster": 30}  # of a test with this mark; others say theirs, as in `slow(seconds=50)`


def pytest_collection_modifyitems(items):
    """Files that take longest begin first, so that no process is left alone with one at the end; those that wait for
    other processes (`cluster`) and those that compute in turn, so that neither all wait nor all compute.

    A `cluster` test that fails runs once more, and the summary names it (RERUN): its processes and clocks are those of
    a machine that may stand still for seconds. One that is named there again and again is a defect to be found.
    """
    seconds, waiting = Counter(), set()
    for item in items:
        if item.get_closest_marker("cluster") is not None:
            item.add_marker(pytest.mark.flaky(reruns=1))
        for name, usual in USUAL_SECONDS.items():
            if (marker := item.get_closest_marker(name)) is not None:
                seconds[item.path] += marker.kwargs.get("seconds", usual)
                waiting |= {item.path} if name == "cluster" else set()
    ranks, counts = {}, Counter()
    for path in sorted(dict.fromkeys(item.path for item in items), key=lambda path: -seconds[path]):
        ranks[path] = (counts[path in waiting], path not in waiting)
        counts[path in waiting] += 1
    items.sort(key=lambda item: ranks[item.path])
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs a CUDA device")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def recordings():
    """The folder with copies of EmoDB and RAVDESS."""
    if not RECORDINGS.is_dir():
        pytest.skip(f"needs recordings of EmoDB and RAVDESS in {RECORDINGS.name} beside the repository")
    return RECORDINGS


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def demo(cache):
    """The demo corpus, its labels and folds."""
    settings = CorpusSettings(name="demo", root=str(cache / "demo"))
    corpus = corpora.read(settings)
    labels = label_utterances(corpus.utterances, settings)
    return corpus, labels, make_folds(settings, corpus.utterances, labels)


@pytest.fixture(scope="session")
def demo_store(demo, cache):
    corpus, _, _ = demo
    return build_store(corpus.utterances, corpus.root, FeatureSettings(n_mels=32), cache)


@pytest.fixture(scope="session")
def fold(demo):
    """The demo corpus's first fold with every second utterance: still several batches."""
    whole = demo[2][0]
    tests = {name: ids[::2] for name, ids in whole.tests.items()}
    return replace(whole, train=whole.train[::2], dev=whole.dev[::2], tests=tests)


@pytest.fixture(scope="session")
def tiny():
    """Settings of a unit that takes seconds."""
    return FoldSettings(
        FeatureSettings(n_mels=32),
        SearchSettings(
            epochs=2,
            cells=2,
            nodes=1,
            channels=4,
            sequence_width=8,
            stem_channels=4,
            sequence_operations=["none", "skip_connect", "lstm_1", "rnn_1", "lstm_attention_1"],
        ),
        TrainingSettings(epochs=2, channels=4, sequence_width=8),
    )


@pytest.fixture
def environment(tmp_path):
    """The environment of a command with a cache of its own."""
    return variables(tmp_path / "cache")


@pytest.fixture
def small_corpus(tmp_path):
    """A manifest corpus: 4 speakers x 2 classes x 4 short files."""
    return write_corpus(tmp_path / "corpus")


@pytest.fixture(scope="session")
def bucket():
    """The URI of a bucket on an S3 server of this machine."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", **access).create_bucket(Bucket="emotions")
    yield f"s3://test:test@emotions/{{}}?scheme=http&endpoint_override={host}:{port}&region=us-east-1"
    server.stop()
