"""`sweep.notify`: what is posted, when, and that nothing depends on whether it arrives."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from emodarts.errors import EmodartsError
from emodarts.storage import Storage
from sweeps.execution import notifier as notifying
from sweeps.execution.notifier import Notifier
from sweeps.settings import SweepSettings
from tests.support.commands import VARIED, manifest, run_here


@pytest.fixture
def server():
    """A server that keeps what is posted to it, and answers with `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            http.messages.append((self.path, self.headers["Content-Type"], json.loads(body)))
            self.send_response(http.statuses.pop(0) if http.statuses else 200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    http.messages, http.statuses = [], []
    http.url = f"http://127.0.0.1:{http.server_port}/hook/secret"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield http
    http.shutdown()
    http.server_close()


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(notifying, "_PAUSES", (0.0, 0.0))


@pytest.mark.slow
def test_a_sweep_s_end_is_posted_with_its_counts(environment, small_corpus, tmp_path, server):
    overrides = manifest(
        small_corpus, tmp_path / "results", *VARIED, "sweep.trials=1", "sweep.folds=[0]", "sweep.name=s", "system=svm"
    )
    run_here(environment, *overrides, f"sweep.notify={server.url}")
    ((path, kind, message),) = server.messages
    assert (path, kind) == ("/hook/secret", "application/json")
    assert message["text"].startswith("emodarts s: complete (1 of 1 units ended): next: emodarts report")
    assert {key: message[key] for key in ("event", "sweep", "units_ended", "units_total")} == {
        "event": "complete",
        "sweep": "s",
        "units_ended": 1,
        "units_total": 1,
    }
    assert message["results"] == str(tmp_path / "results")
    assert "secret" not in (tmp_path / "results" / "s" / "sweep.json").read_text()
    run_here(environment, *overrides)  # the same sweep without it
    assert len(server.messages) == 1


def test_what_ends_a_sweep_before_its_units_is_posted(environment, small_corpus, tmp_path, server):
    (small_corpus / "table.csv").write_text("file,speaker,label\n")
    overrides = manifest(small_corpus, tmp_path / "results", *VARIED, "sweep.name=s")
    printed = run_here(environment, *overrides, f"sweep.notify={server.url}", code=1)
    ((_, _, message),) = server.messages
    assert message["event"] == "failed"
    assert message["text"].removeprefix("emodarts s: failed: ") in printed
    assert message["units_total"] is None


def test_a_message_is_tried_again_and_one_that_cannot_be_delivered_is_said_without_its_secret(server, at_once):
    said = []
    notifier = Notifier(server.url, "results", said.append)
    server.statuses = [500, 503]
    notifier.send("complete", "s", "well")
    assert len(server.messages) == 3
    assert said == []
    server.statuses = [404] * 3
    notifier.send("complete", "s", "well")
    assert len(said) == 1
    assert "127.0.0.1 did not take the message 'complete' (HTTP Error 404" in said[0]
    assert "secret" not in said[0]


def test_nobody_listens(at_once):
    said = []
    Notifier("http://127.0.0.1:9/hook", "results", said.append).send("failed", "s", "x")
    assert len(said) == 1
    Notifier(None, "results", said.append).send("failed", "s", "x")
    assert len(said) == 1


def test_an_hour_without_progress_is_said_once_each_time(server, tmp_path, monkeypatch):
    monkeypatch.setattr(notifying, "QUIET_SECONDS", 0.12)
    key = SimpleNamespace(sweep="s", name="unit")
    queue = SimpleNamespace(running={0: SimpleNamespace(key=key)})

    class Queues(list):
        units_ended, units_total = 0, 2

    queues, storage = Queues([queue]), Storage.open(tmp_path)
    notifier = Notifier(server.url, "results", lambda text: None)

    def wait_for(count):
        deadline = time.monotonic() + 10
        while len(server.messages) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(server.messages) == count

    with notifier.watching("s", storage, queues):
        wait_for(1)
        time.sleep(0.3)
        wait_for(1)  # it is not said again
        storage.write("s/checkpoints/unit/training.safetensors", b"x")
        wait_for(2)
        queues.units_ended = 1
        wait_for(3)
    events = {message["event"] for _, _, message in server.messages}
    assert events == {"quiet"}
    assert "1 units are handed out" in server.messages[0][2]["text"]
    time.sleep(0.2)
    assert len(server.messages) == 3, "the watch ends with the block"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "hooks.example.org/x", "https://", "http://[::1"])
def test_what_is_no_web_address_is_refused(url):
    with pytest.raises(EmodartsError, match=r"sweep\.notify=.* a URL with http:// or https://"):
        SweepSettings(notify=url)
