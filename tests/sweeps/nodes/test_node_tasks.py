"""The driver's work on a GPU as tasks on nodes that have one; where there is none, a sentence says so."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import ray
from rich.console import Console

from emodarts.errors import EmodartsError
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.building import build_planned
from emodarts.features.store.plan import ExtractionPlan
from emodarts.results import reader
from sweeps.data import node_extraction
from sweeps.data.node_extraction import extract_sent_shard
from sweeps.nodes import node_tasks as tasks_module
from sweeps.nodes.node_tasks import NodeTasks, node_tasks
from sweeps.nodes.session import session
from sweeps.settings import RaySettings, ResourceSettings, Settings
from tests.support.chaos import local_cluster
from tests.support.commands import ONE_TRIAL, RUN, manifest, run, run_here
from tests.support.transformers_models import save_model

GPU = {"EMODARTS_RESOURCES": "gpu"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, "whisper")
    return folder


@pytest.fixture(scope="module")
def bare_cluster():
    """A head that runs no units, and no node."""
    with local_cluster(nodes=0) as started:
        yield started


@pytest.fixture(scope="module")
def cluster(bare_cluster):
    """With a node that says that it has a GPU: torch sees none there, so that `auto` computes on its processors."""
    if not bare_cluster.nodes:
        bare_cluster.add_node(gpus=1)
    return bare_cluster


@pytest.fixture(scope="module")
def joined():
    """Ray on this machine, joined by this process."""
    with session(RaySettings(dashboard=False), ResourceSettings(), Console(quiet=True)):
        yield


def sweep(root, results, *more):
    command = manifest(root, results, *ONE_TRIAL, "sweep.folds=[0]", *more)
    return [text for text in command if text != "features.n_mels=32"]


def encoder(model):
    return ["features=encoder", f"features.model={model}"]


@pytest.mark.cluster(seconds=60)
def test_without_nodes_it_is_said_that_units_wait_and_none_of_them_is_a_retry(
    bare_cluster, environment, small_corpus, tmp_path
):
    if bare_cluster.nodes:
        pytest.skip("a node was added before: run the whole file")
    variables = {**environment, **bare_cluster.environment, **GPU, "PYTHONUNBUFFERED": "1"}
    command = [*RUN, *manifest(small_corpus, tmp_path, *ONE_TRIAL, "system=svm", "sweep.folds=[0]")]
    with open(tmp_path / "log", "w") as log:
        driver = subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT)
        since = None
        while driver.poll() is None:
            printed = (tmp_path / "log").read_text()
            since = since or (time.monotonic() if "1 units to run" in printed else None)
            if "waiting for resources" in printed:
                break
            time.sleep(0.2)
        assert since is not None, printed
        assert time.monotonic() - since < 45
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(timeout=150) == 130
    assert "a unit asks for 1 CPU, 0.25 GPU; the cluster has 0 CPU, 0 GPU" in printed
    (trial,) = reader.open(tmp_path).trials()
    assert (trial.status, trial.retries) == ("running", 0)
    bare_cluster.add_node(gpus=1)
    run(variables, *command[len(RUN) :], "resources.device=cpu")
    (trial,) = reader.open(tmp_path).trials()
    assert (trial.status, trial.retries) == ("complete", 0)


@pytest.mark.cluster(seconds=40)
def test_with_gpu_resources_features_and_forecast_come_from_the_nodes(
    cluster, environment, small_corpus, tmp_path, model
):
    command = sweep(small_corpus, tmp_path / "results", *encoder(model), "sweep.forecast=true", "resources.device=auto")
    printed = run({**environment, **cluster.environment, **GPU}, *command)
    assert "32 utterances: features are made on the nodes of the cluster" in printed
    assert "emodarts: 1 units" in printed
    assert not (tmp_path / "results" / "s").exists()
    (store,) = (Path(environment["EMODARTS_CACHE"]) / "features").glob("manifest-encoder-*/store.json")
    plan = ExtractionPlan.read(store.parent)
    here = build_planned(plan, tmp_path / "here")
    for shard in here.folder.glob("shard-*.arrow"):
        assert shard.read_bytes() == (store.parent / shard.name).read_bytes()


@pytest.mark.parametrize("kind", ["encoder", "forecast", "units"])
def test_without_any_gpu_a_sentence_says_so(environment, small_corpus, tmp_path, model, kind):
    more = {"encoder": encoder(model), "forecast": ["sweep.forecast=true"], "units": []}[kind]
    printed = run_here({**environment, **GPU}, *sweep(small_corpus, tmp_path / "results", *more), code=1)
    assert "error: resources.device=cuda: this machine has no GPU that torch can use" in " ".join(printed.split())
    assert not list((tmp_path / "results").glob("*/trials/*"))


def test_a_local_ray_is_not_started_for_a_gpu_that_is_not_there():
    settings = Settings(resources=ResourceSettings(device="cuda"))
    with pytest.raises(EmodartsError, match="this machine has no GPU"), node_tasks(settings, Console(quiet=True)):
        pass
    with node_tasks(Settings(), Console(quiet=True)) as tasks:
        assert tasks is None
    with node_tasks(Settings(resources=ResourceSettings(device="cpu")), Console(quiet=True)) as tasks:
        assert tasks is None


@pytest.mark.cluster(seconds=20)
def test_a_task_whose_worker_dies_runs_again_and_one_that_always_dies_is_an_error(joined, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks_module, "_RETRIES", 1)

    def dies(times, name):
        import os
        from pathlib import Path

        deaths = len(list(Path(name).iterdir()))
        if deaths < times:
            (Path(name) / str(deaths)).touch()
            os._exit(1)
        return deaths

    tasks = NodeTasks({"cpu": 1, "gpu": 0}, Console(quiet=True))
    for name in ("once", "always"):
        (tmp_path / name).mkdir()
    assert tasks.run(dies, 1, str(tmp_path / "once")) == 1
    with pytest.raises(EmodartsError, match=r"on a node: .*; what is finished is kept: run again"):
        tasks.run(dies, 99, str(tmp_path / "always"))
    assert len(list((tmp_path / "always").iterdir())) == 2


@pytest.mark.cluster(seconds=4)
def test_results_come_as_they_end_and_arguments_are_read_as_there_is_room(joined):
    read = []

    def calls():
        for number in range(9):
            read.append(number)
            yield number, (number,)

    results = NodeTasks({"cpu": 1, "gpu": 0}, Console(quiet=True)).map(lambda x: x * x, calls())
    first = next(results)
    assert len(read) == min(9, 2 * int(ray.cluster_resources()["CPU"])), "twice as many as run at once"
    assert sorted([first, *results]) == [(x, x * x) for x in range(9)]


@pytest.mark.cluster(seconds=4)
def test_a_mistake_on_a_node_is_the_sentence_that_it_would_be_here(joined):
    def fails(kind):
        from emodarts.errors import EmodartsError

        raise EmodartsError("the file x is cut") if kind == "ours" else KeyError("x")

    tasks = NodeTasks({"cpu": 1, "gpu": 0}, Console(quiet=True))
    with pytest.raises(EmodartsError, match=r"^the file x is cut$"):
        tasks.run(fails, "ours")
    with pytest.raises(EmodartsError, match=r"on a node: KeyError\('x'\)"):
        tasks.run(fails, "other")


@pytest.mark.cluster(seconds=6)
def test_what_no_node_has_is_said(joined, monkeypatch):
    class SaidError(Exception):
        pass

    def say(console, text):
        raise SaidError(text)

    monkeypatch.setattr(tasks_module, "print_line", say)
    monkeypatch.setattr(tasks_module, "_SAY_AFTER", 0.2)
    monkeypatch.setattr(tasks_module, "_LOOK_EVERY", 0.1)
    with pytest.raises(
        SaidError, match=r"since 0\.\d min: this work asks for 1 CPU, 8 GPU; the cluster has \d+ CPU, 0 GPU"
    ):
        NodeTasks({"cpu": 1, "gpu": 8}, Console(quiet=True)).run(lambda: 0)


def test_a_sent_shard_needs_neither_the_corpus_nor_its_folders(small_corpus, tmp_path, model, monkeypatch):
    from emodarts import corpora
    from emodarts.corpora.settings import CorpusSettings

    monkeypatch.setattr(node_extraction, "_LAST_EXTRACTOR", [])
    corpus = corpora.read(CorpusSettings(name="manifest", root=str(small_corpus)))
    plan = ExtractionPlan.of(corpus.utterances, corpus.root, FeatureSettings(kind="encoder", model=str(model)), 20)
    whole = build_planned(plan, tmp_path / "whole")
    sent = [node_extraction._shard_alone(plan, number) for number in range(plan.shards)]
    os.rename(small_corpus, tmp_path / "elsewhere")
    for number, (alone, recordings) in enumerate(sent):
        content = extract_sent_shard(alone, recordings, "cpu")
        assert content == (whole.folder / f"shard-{number:05d}.arrow").read_bytes()
    alone, recordings = sent[0]
    del recordings[next(iter(recordings))]
    with pytest.raises(EmodartsError, match="though it was there before"):
        extract_sent_shard(alone, recordings, "cpu")
    monkeypatch.setattr(node_extraction, "_LAST_EXTRACTOR", [])
    monkeypatch.setattr(node_extraction, "extractor_identity", lambda settings: "others")
    with pytest.raises(EmodartsError, match="has other weights of the encoder than the driver"):
        extract_sent_shard(*sent[1], "cpu")
