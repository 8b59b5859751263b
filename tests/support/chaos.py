"""A sweep under fire: drivers, workers and nodes die at random moments, GPUs fail, storage is away, files are torn."""

import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3
from botocore.config import Config

from tests.support.commands import QUICK_WORKERS
from tests.support.files import REPOSITORY

TIMES_A_UNIT = 2  # a unit whose workers die three times has failed, as it should


@contextmanager
def local_cluster(nodes=2, cpus=1, gpus=0, head=None, **settings):
    """A cluster of `cluster/local_cluster.py`; `head`: what its head has (cpus, gpus, name, dashboard).

    Its workers are as quick as the tests, where Ray would have them wait for all else that runs.
    """
    spec = importlib.util.spec_from_file_location("local_cluster", REPOSITORY / "cluster" / "local_cluster.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = Path(tempfile.mkdtemp(prefix="er-"))  # short: Ray's sockets lie below it
    made = module.LocalCluster(folder, {**QUICK_WORKERS, **settings}, **{"dashboard": False, **(head or {})})
    try:
        for _ in range(nodes):
            made.add_node(cpus, gpus)
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


OUTAGE = 20.0  # s
# In every process of the nodes: where the file `sick-<process id>` appears, what searches or trains there meets what a
# broken GPU does to it.
SICKNESS = """
import ctypes, os, sys, threading, time

def watch(flag):
    while not os.path.exists(flag):
        time.sleep(0.1)
    import torch

    class Illness(torch.AcceleratorError):
        def __init__(self):
            super().__init__("CUDA error: an illegal memory access was encountered")

    rooms = ("/emodarts/search/", "/emodarts/training/", "/emodarts/networks/")
    while True:
        for thread, frame in sys._current_frames().items():
            while frame is not None and not any(room in frame.f_code.co_filename for room in rooms):
                frame = frame.f_back
            if frame is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Illness))
                return
        time.sleep(0.02)

if b"default_worker" in open("/proc/self/cmdline", "rb").read():
    flag = os.path.join(os.path.dirname(__file__), "sick-%d" % os.getpid())
    threading.Thread(target=watch, args=(flag,), daemon=True).start()
"""


class ObjectStore:
    """An S3 server in a process of its own, which can be away for a while, and whose files can be torn."""

    def __init__(self, port):
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 10}, connect_timeout=2),
        )
        self.client.create_bucket(Bucket="emotions")

    def uri(self, name):
        """Of a folder there."""
        return f"s3://test:test@emotions/{name}?scheme=http&endpoint_override=127.0.0.1:{self.port}&region=us-east-1"

    def rest(self, seconds):
        """Answer nothing for so long."""
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)

    def tear(self, word):
        """Cut each file with the word in its name to its half; how many there were."""
        listed = self.client.get_paginator("list_objects_v2").paginate(Bucket="emotions")
        keys = [entry["Key"] for page in listed for entry in page.get("Contents", ()) if word in entry["Key"]]
        for key in keys:
            content = self.client.get_object(Bucket="emotions", Key=key)["Body"].read()
            self.client.put_object(Bucket="emotions", Key=key, Body=content[: len(content) // 2])
        return len(keys)

    def stop(self):
        """End the server."""
        self.process.kill()
        self.process.wait()


class Chaos:
    """Runs a command again and again until it ends by itself; `kills` come down on it: driver, worker, node, sick,
    storage, file. The last two need a `store`, sick one needs the folder `sickness` (see SICKNESS) in the nodes' path.
    """

    def __init__(
        self,
        cluster,
        command,
        environment,
        kills,
        pause=(2.0, 6.0),
        seed=0,
        patience=1800.0,
        store=None,
        sickness=None,
    ):
        self.store, self.sickness = store, sickness
        self.cluster, self.command, self.environment = cluster, command, {**environment, **cluster.environment}
        self.random = random.Random(seed)
        self.kills = list(kills)
        self.random.shuffle(self.kills)
        self.pause, self.deadline = pause, time.time() + patience
        self.hit: dict[str, int] = {}
        self.told: list[str] = []
        self.starts = 0

    def run(self, log):
        """The output of the last start. Fails where a start ends badly without having been killed."""
        while True:
            with open(log, "ab") as out:
                driver = subprocess.Popen(self.command, env=self.environment, stdout=out, stderr=out)
            self.starts += 1
            if not self._fire_at(driver):
                code = driver.wait()
                assert code == 0, f"start {self.starts} ended with {code}: {Path(log).read_text()[-3000:]}"
                assert not self.kills, f"the sweep was over before {self.kills} could happen"
                return

    def _fire_at(self, driver):
        """Kill what is next until the driver is hit; False once it has ended by itself."""
        while driver.poll() is None:
            if not self.kills:
                driver.wait(timeout=max(1.0, self.deadline - time.time()))
                return False
            time.sleep(self.random.uniform(*self.pause))
            assert time.time() < self.deadline, f"out of time with {self.kills} left"
            kind = self.kills[-1]
            while driver.poll() is None and not getattr(self, f"_kill_{kind}")(driver):
                time.sleep(0.02)  # until a unit runs
            if driver.poll() is None or kind == "driver":
                self.kills.pop()
            if kind == "driver":
                driver.wait()
                return True
        return False

    def _kill_driver(self, driver):
        if not self._units():
            return False
        driver.send_signal(signal.SIGKILL)
        return True

    def _kill_worker(self, driver):
        targets = [(pid, title) for pid, title in self._units() if self.hit.get(title, 0) < TIMES_A_UNIT]
        if not targets:
            return False
        pid, title = self.random.choice(targets)
        self.hit[title] = self.hit.get(title, 0) + 1
        self.told.append(title)
        os.kill(pid, signal.SIGKILL)
        return True

    def _kill_sick(self, driver):
        targets = [(pid, title) for pid, title in self._units() if self.hit.get(title, 0) < TIMES_A_UNIT]
        if not targets:
            return False
        pid, title = self.random.choice(targets)
        self.hit[title] = self.hit.get(title, 0) + 1
        (self.sickness / f"sick-{pid}").touch()
        return True

    def _kill_storage(self, driver):
        if not self._units():
            return False
        self.store.rest(OUTAGE)
        return True

    def _kill_file(self, driver):
        """A worker dies, and the checkpoints that it leaves are torn: its unit begins anew."""
        return self._kill_worker(driver) and self.store.tear("/checkpoints/") > 0

    def _kill_node(self, driver):
        if not self._units():
            return False
        for _, title in self._units():
            self.hit[title] = self.hit.get(title, 0) + 1
        self.cluster.kill(self.random.choice(self.cluster.nodes))
        others = [pid for pid, _ in self._units()]
        for pid in others:  # a node takes seconds to start: what still runs would end the sweep before the next kill
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            self.cluster.add_node()
        finally:
            for pid in others:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        return True

    def _units(self):
        """Workers that run a unit: process id, and `trial 12 · fold 3`."""
        found = []
        for pid in self.cluster.workers():
            try:
                title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ").decode(errors="replace")
            except OSError:
                continue
            name, _, phase = title.removeprefix("ray::").rpartition(" · ")
            if name.startswith("trial ") and phase not in ("ended", "begins"):
                found.append((pid, name))
        return found
