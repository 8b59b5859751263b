"""A sweep under fire: its driver, workers and nodes are killed at random moments until none is left to kill."""

import importlib.util
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from tests.support.files import REPOSITORY

TIMES_A_UNIT = 2  # a unit whose workers die three times has failed, as it should


@contextmanager
def local_cluster(nodes=2, cpus=1, gpus=0, **settings):
    """A cluster of `cluster/local_cluster.py`."""
    spec = importlib.util.spec_from_file_location("local_cluster", REPOSITORY / "cluster" / "local_cluster.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = Path(tempfile.mkdtemp(prefix="er-"))  # short: Ray's sockets lie below it
    made = module.LocalCluster(folder, settings)
    try:
        for _ in range(nodes):
            made.add_node(cpus, gpus)
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Chaos:
    """Runs a command again and again until it ends by itself; `kills` (driver | worker | node) come down on it."""

    def __init__(self, cluster, command, environment, kills, pause=(2.0, 6.0), seed=0, patience=1800.0):
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

    def _kill_node(self, driver):
        if not self._units():
            return False
        for _, title in self._units():
            self.hit[title] = self.hit.get(title, 0) + 1
        self.cluster.kill(self.random.choice(self.cluster.nodes))
        self.cluster.add_node()
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
