"""A real Ray cluster of several nodes on this machine, to try out what a cluster does: separate processes and ports.

    python cluster/local_cluster.py                                        # until Ctrl-C; says how to use it
    python cluster/local_cluster.py --nodes 3 -- python sweeps/run.py      # runs a command in it, then takes it down

It has a token and temporary folders of its own, and takes down only the processes that it started.
"""

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

_IDLE = (b"IDLE", b"Agent")  # in the titles of processes that run nothing
RAY = Path(sys.executable).with_name("ray")


class LocalCluster:
    """A head, by default without cores for units, and nodes that come and go. Processes die with `stop`, or with this
    one.

    `settings` are further variables (RAY_...) of all of them.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        cpus: int = 0,
        gpus: int = 0,
        name: str = "head",
        dashboard: bool = True,
    ):
        self.folder, self.settings = folder, dict(settings or {})
        self.folder.mkdir(parents=True, exist_ok=True)
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        self.port, self.dashboard_port, agent = free_ports(3)
        self.address = f"127.0.0.1:{self.port}"
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.count = 0
        self._log: IO[bytes] = (folder / "ray.log").open("ab")
        self.head = self._start(
            "--head",
            f"--num-cpus={cpus}",
            f"--num-gpus={gpus}",
            f"--node-name={name}",
            f"--port={self.port}",
            f"--include-dashboard={dashboard}",
            f"--temp-dir={folder / 'ray'}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.dashboard_port}",
            f"--dashboard-agent-listen-port={agent}",
        )
        self._wait(self.head, lambda: _answers(self.port))

    @property
    def environment(self) -> dict[str, str]:
        """What a driver of this cluster needs in its environment."""
        return {
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def add_node(self, cpus: int = 1, gpus: int = 0, name: str | None = None) -> subprocess.Popen[bytes]:
        """Start a node, one at a time: two that start at once may choose the same ports."""
        (agent,) = free_ports(1)
        self.count += 1  # a temporary folder of its own: nodes that share one unpack a job's files over each other's
        options = (
            f"--num-cpus={cpus}",
            f"--num-gpus={gpus}",
            f"--dashboard-agent-listen-port={agent}",
            f"--temp-dir={self.folder / f'n{self.count}'}",
            f"--node-name={name or f'node{self.count}'}",  # all have one address
        )
        node = self._start(f"--address={self.address}", *options)
        self._wait(node, lambda: sum(b"Agent" in _command(pid) for pid in descendants(node.pid)) >= 2)
        self.nodes.append(node)
        return node

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """Take a node away at once, as a spot instance goes: all of its processes by SIGKILL."""
        self._end(node, signal.SIGKILL)
        self.nodes.remove(node)

    def workers(self) -> list[int]:
        """Process ids of the workers that run units."""
        return [
            pid
            for node in (self.head, *self.nodes)
            for pid in descendants(node.pid)
            if (command := _command(pid)).startswith(b"ray::") and not any(word in command for word in _IDLE)
        ]

    def stop(self) -> None:
        """End all that was started here."""
        for process in (*self.nodes, self.head):
            self._end(process, signal.SIGTERM)
        self._log.close()

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        # Ray's first workers, one a core, have none of a sweep's environment, and run no unit.
        environment |= {"RAY_prestart_worker_first_driver": "0", **self.environment, **self.settings}
        environment.pop("RAY_ADDRESS")
        return subprocess.Popen(
            [RAY, "start", "--block", "--include-log-monitor=false", *options],  # no driver prints what workers log
            env=environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _end(self, process: subprocess.Popen[bytes], how: signal.Signals) -> None:
        below = descendants(process.pid)
        for pid in (process.pid, *(below if how == signal.SIGKILL else ())):
            _send(pid, how)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in below:
            _send(pid, signal.SIGKILL)

    def _wait(self, process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        deadline = time.time() + 120
        while not ready():
            if process.poll() is not None or time.time() > deadline:
                raise RuntimeError(f"a Ray node did not start: see {self.folder / 'ray.log'}")
            time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def descendants(pid: int) -> list[int]:
    """The processes below a process, parents first."""
    processes: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:  # it has ended
        return processes
    for task in tasks:
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        processes += [below for child in children for below in (child, *descendants(child))]
    return processes


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=2, help="beside the head (default 2)")
    parser.add_argument("--cpus", type=int, default=1, help="of each node (default 1)")
    parser.add_argument("--gpus", type=int, default=0, help="logical ones of each node (default 0)")
    parser.add_argument("command", nargs="*", help="what to run in it, after --")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="emodarts-ray-"))  # short: Ray's sockets lie below it
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts what is behind & with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    cluster = LocalCluster(folder)
    try:
        for _ in range(options.nodes):
            cluster.add_node(options.cpus, options.gpus)
        print(
            f"cluster of {options.nodes} nodes at {cluster.address}; dashboard http://127.0.0.1:{cluster.dashboard_port}"
        )
        if options.command:
            return subprocess.run(options.command, env={**os.environ, **cluster.environment}, check=False).returncode
        variables = " ".join(f"{name}={value}" for name, value in cluster.environment.items())
        print(
            f"in another terminal:\n  export {variables}\n  python sweeps/run.py\nCtrl-C here takes it down", flush=True
        )
        signal.pause()
    except KeyboardInterrupt:
        return 130
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
