"""Stand-ins for Slurm's commands and for `ray start`: they refuse what the real ones refuse. Run as a script.

With the variable REAL_RAY, `ray start` is what it names.

`FakeSlurm` lays them into a folder and is asked about it; the file itself is what each of the commands runs.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "scontrol", "scancel", "srun", "ray")
NODES = ("node1", "node2")
NODE_CPUS, NODE_MEMORY = 64, 256 * 1024  # MB
_KNOWN = {
    "sbatch": (
        "parsable requeue open-mode job-name signal partition gres gpus-per-node gpus cpus-per-task mem mem-per-cpu"
        " time array dependency nodes ntasks-per-node"
    ),
    "srun": "nodes ntasks overlap nodelist cpus-per-task mem mem-per-cpu",
}
_LONE = ("parsable", "requeue", "overlap")


class FakeSlurm:
    """A folder with the commands, a copy of cluster/, and a sweep of the test's own."""

    def __init__(self, folder, cluster, sweep, **about):
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir(parents=True)
        for name in COMMANDS:
            (self.bin / name).write_text(f'#!/bin/bash\nexec {sys.executable} -S {__file__} {name} "$@"\n')
            (self.bin / name).chmod(0o755)
        (self.bin / "python").symlink_to(sys.executable)
        for name in (
            "bash",
            "cat",
            "awk",
            "grep",
            "date",
            "mkdir",
            "mv",
            "rm",
            "seq",
            "sleep",
            "touch",
            "dirname",
            "env",
        ):
            (self.bin / name).symlink_to(shutil.which(name))
        (self.bin / "hostname").write_text('#!/bin/bash\necho "${SLURMD_NODENAME:-login}"\n')
        (self.bin / "hostname").chmod(0o755)
        shutil.copytree(cluster, folder / "cluster")
        (folder / "sweeps").mkdir()
        (folder / "sweeps" / "run.py").write_text(sweep)
        (folder / "jobs").mkdir()
        (folder / "log").touch()
        self.environment = {
            "HOME": str(folder), "PATH": str(self.bin), "ENVIRONMENT": str(folder), "FAKE_SLURM": str(folder),
            "HEAD_ADDRESS": "127.0.0.1", "REJOIN_SECONDS": "0.2", **about,
        }  # fmt: skip

    def run(self, *command, **more):
        """A command as on the login node."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **more,
        )

    def log(self, command=None):
        """What was called: (command, node, job, arguments)."""
        lines = [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]
        return [line for line in lines if command in (None, line[0])]

    def wait_for(self, condition, seconds=30):
        """Until a condition holds; what the jobs wrote where it does not."""
        deadline = time.time() + seconds
        while not condition():
            assert time.time() < deadline, self.output()
            time.sleep(0.05)

    def output(self):
        return "\n".join(f"{p.name}:\n{p.read_text()}" for p in sorted(self.folder.glob("slurm-*.out"))) + str(
            self.log()
        )

    def job(self, name):
        """A job's record: options, process id, exit code if it has ended."""
        record = json.loads((self.folder / "jobs" / f"{name}.json").read_text())
        code = self.folder / "jobs" / f"{name}.code"
        return {**record, "code": int(code.read_text()) if code.exists() and code.read_text() else None}

    def signal(self, name, number):
        """To the batch shell alone (SIGTERM: `--signal=B:TERM`, or preemption), or to all of a job (SIGKILL)."""
        if number == signal.SIGKILL:
            _kill(self.job(name)["group"])
        else:
            os.kill(self.job(name)["pid"], number)

    def stop(self):
        for path in (self.folder / "jobs").glob("*.json"):
            _kill(json.loads(path.read_text())["group"])


def _refuse(command, message, code=1):
    print(f"{command}: error: {message}", file=sys.stderr)
    sys.exit(code)


def _options(command, arguments):
    """Options and what follows them; unknown ones are refused."""
    options = {}
    while arguments and arguments[0].startswith("--"):
        name, has_value, value = arguments.pop(0)[2:].partition("=")
        if name not in _KNOWN[command].split():
            _refuse(command, f"unrecognized option '--{name}'", 255)
        if not has_value and name not in _LONE:
            value = arguments.pop(0)
        options[name] = value
    if "mem" in options and "mem-per-cpu" in options:
        _refuse(command, "--mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.")
    return options


def _megabytes(text):
    number, unit = re.fullmatch(r"(\d+)([MG]?)", text).groups()
    return int(number) * (1024 if unit == "G" else 1)


def _note(command, *arguments):
    about = [command, os.environ.get("SLURMD_NODENAME"), os.environ.get("SLURM_JOB_ID"), list(arguments)]
    with (FOLDER / "log").open("a") as file:
        file.write(json.dumps(about) + "\n")


def _gpus(options):
    """Of each node, and how srun's environment would tell it."""
    if "gres" in options:  # no SLURM_GPUS_PER_NODE at all
        kind = options["gres"].removeprefix("gpu:")
        return int(kind.rpartition(":")[2]), {}
    if "gpus-per-node" in options:
        kind = options["gpus-per-node"]
        return int(kind.rpartition(":")[2]), {"SLURM_GPUS_PER_NODE": kind}
    if "gpus" in options:
        count = int(options["gpus"].rpartition(":")[2])
        return count // int(options.get("nodes", 1)), {"SLURM_GPUS": options["gpus"]}
    return 0, {}


def sbatch(arguments):
    options = _options("sbatch", arguments)
    script = Path(arguments[0])
    if not script.exists():
        _refuse("sbatch", f"Unable to open file {script}")
    for line in script.read_text().splitlines():  # options of the command line have precedence over those of the file
        if line.startswith("#SBATCH --"):
            options = {**_options("sbatch", line.removeprefix("#SBATCH ").split()), **options}
    if int(options["cpus-per-task"]) > NODE_CPUS or _megabytes(options.get("mem", "0")) > NODE_MEMORY:
        _refuse("sbatch", "Batch job submission failed: Requested node configuration is not available")
    number = 100 + len(list((FOLDER / "jobs").glob("*.json")))
    number += int(os.environ.get("FIRST_JOB", "0"))
    content = script.read_text()  # as it is now: Slurm keeps a copy of its own
    for index in _indices(options.get("array")):
        name = str(number) if index is None else f"{number}_{index}"
        spool = FOLDER / "jobs" / f"{name}.sh"
        spool.write_text(content)
        job_id = number if index is None else number + index
        node = NODES[0] if index is None else NODES[index % 2]
        record = {"name": name, "id": job_id, "options": options, "arguments": arguments[1:], "node": node}
        start_job({**record, "directory": str(Path.cwd())})
    print(f"{number};cluster" if "parsable" in options else f"Submitted batch job {number}")


def _indices(array):
    if array is None:
        return [None]
    first, last = map(int, array.split("-"))
    return range(first, last + 1)


def start_job(record):
    options, node = record["options"], record["node"]
    gpus, told = _gpus(options)
    names = NODES[: int(options.get("nodes", 1))]
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "CUDA"))}
    variables |= told | {
        "SLURM_JOB_ID": str(record["id"]), "SLURM_SUBMIT_DIR": record["directory"], "SLURMD_NODENAME": node,
        "SLURM_JOB_NODELIST": ",".join(names), "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
        "SLURM_NTASKS": str(len(names)), "FAKE_GPUS": str(gpus), "SLURM_CPUS_ON_NODE": options["cpus-per-task"],
    }  # fmt: skip
    if gpus and not os.environ.get("HIDE_DEVICES"):
        variables |= {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus))), "SLURM_GPUS_ON_NODE": str(gpus)}
    if "mem" in options:
        variables["SLURM_MEM_PER_NODE"] = str(_megabytes(options["mem"]))
    if "mem-per-cpu" in options:
        variables["SLURM_MEM_PER_CPU"] = str(_megabytes(options["mem-per-cpu"]))
    jobs = FOLDER / "jobs"
    code = jobs / f"{record['name']}.code"
    code.unlink(missing_ok=True)
    spool = jobs / f"{record['name']}.sh"
    with (FOLDER / f"slurm-{record['id']}.out").open("a") as output:
        # A shell around the batch script notes its exit code; signals go to the script itself.
        keep = 'bash "$@" & echo $! > "$PIDFILE.new"; mv "$PIDFILE.new" "$PIDFILE"; wait $!; echo $? > "$CODEFILE"'
        pid = jobs / f"{record['name']}.pid"
        pid.unlink(missing_ok=True)
        variables |= {"PIDFILE": str(pid), "CODEFILE": str(code)}
        keeper = subprocess.Popen(
            ["bash", "-c", keep, "_", str(spool), *record["arguments"]],
            env=variables, cwd=record["directory"], stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    while not pid.exists():
        time.sleep(0.01)
    about = {**record, "pid": int(pid.read_text()), "group": keeper.pid}
    path = jobs / f"{record['name']}.json"
    path.with_suffix(".new").write_text(json.dumps(about))
    path.with_suffix(".new").replace(path)


def _kill(group):
    """The group, and all below its first process: Ray gives its processes groups of their own. Not the caller."""
    below = [pid for pid in _descendants(group) if pid != os.getpid()]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    for pid in below:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(pid):
    try:
        tasks = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended
        return []
    children = [int(child) for text in tasks for child in text.split()]
    return [below for child in children for below in (child, *_descendants(child))]


def _records(job):
    for path in (FOLDER / "jobs").glob("*.json"):
        record = json.loads(path.read_text())
        if job in (record["name"], record["name"].partition("_")[0], str(record["id"])):
            yield record


def scontrol(arguments):
    if arguments[:2] == ["show", "hostnames"]:
        print(*arguments[2].split(","), sep="\n")
        return
    assert arguments[0] == "requeue", arguments
    _note("scontrol", *arguments)
    (record,) = _records(arguments[1])
    if "requeue" not in record["options"]:
        _refuse("scontrol", "Requested operation is presently disabled")
    if os.environ.get("HOLD"):  # tests that look at the job's end
        return
    if os.fork() == 0:  # the caller is a part of what is killed now
        os.setsid()
        _kill(record["group"])
        start_job({key: value for key, value in record.items() if key not in ("pid", "group")})
        os._exit(0)
    if os.environ.get("SLURM_JOB_ID") == str(record["id"]):
        signal.pause()  # until that end


def scancel(arguments):
    _note("scancel", *arguments)
    for record in _records(arguments[0]):
        _kill(record["group"])


def srun(arguments):
    """A step on one node of the job. Options come from the environment, too, as srun takes them."""
    options = _options("srun", arguments)
    gpus = int(os.environ["FAKE_GPUS"])
    if "SLURM_GPUS" in os.environ and _gpus({"gpus": os.environ["SLURM_GPUS"]})[0] > gpus:
        _refuse("srun", "Unable to create step for job: Requested node configuration is not available")
    if "SLURM_MEM_PER_CPU" in os.environ and "mem" in options:
        _refuse("srun", "SLURM_MEM_PER_CPU, SLURM_MEM_PER_GPU, and SLURM_MEM_PER_NODE are mutually exclusive.")
    memory = os.environ.get("SLURM_MEM_PER_NODE")
    if memory and _megabytes(options.get("mem", "0")) > int(memory):
        _refuse("srun", "Unable to create step for job: Memory required by task is not available")
    if int(options.get("cpus-per-task", 1)) > int(os.environ["SLURM_CPUS_ON_NODE"]):
        _refuse("srun", "Unable to create step for job: More processors requested than permitted")
    if options["nodelist"] not in os.environ["SLURM_JOB_NODELIST"].split(","):
        _refuse("srun", "Unable to create step for job: Requested node configuration is not available")
    _note("srun", *(f"--{name}={value}" for name, value in options.items()))
    variables = {**os.environ, "SLURMD_NODENAME": options["nodelist"]}
    variables["SLURM_CPUS_PER_TASK"] = options.get("cpus-per-task", "1")  # not inherited, as in 22.05 to 23.02
    os.execvpe(arguments[0], arguments, variables)


def ray(arguments):
    """`ray start --block`: listens on all that it was told to, leaves with its head, and drains on SIGTERM."""
    options = dict(argument[2:].partition("=")[::2] for argument in arguments if argument.startswith("--"))
    assert arguments[0] == "start", arguments
    assert "block" in options
    assert Path(os.environ["RAY_AUTH_TOKEN_PATH"]).stat().st_mode & 0o777 == 0o600
    if real := os.environ.get("REAL_RAY"):
        _note("ray", *arguments)
        os.execv(real, [real, *arguments])
    node = f"127.0.0.{1 + NODES.index(os.environ['SLURMD_NODENAME'])}"
    ports = {int(value) for name, value in options.items() if name.endswith("port") and "worker" not in name}
    if "head" in options:
        ports |= {10001} - ({10001} if "ray-client-server-port" in options else set())
        assert options["node-ip-address"] == node
    try:
        servers = {port: socket.create_server((node, port)) for port in ports | {int(options["min-worker-port"])}}
    except OSError as error:
        _refuse("ray", f"port in use: {error}")
    _note("ray", *arguments)

    def leave(*_):
        _note("left")
        for server in servers.values():
            server.close()
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    members = []
    while "head" in options:
        members.append(servers[int(options["port"])].accept()[0])
    host, port = options["address"].split(":")
    with contextlib.suppress(OSError):
        socket.create_connection((host, int(port)), timeout=5).makefile().read()  # until the head is gone
    _refuse("ray", "the head is away")


if __name__ == "__main__":
    FOLDER = Path(os.environ["FAKE_SLURM"])
    {"sbatch": sbatch, "scontrol": scontrol, "scancel": scancel, "srun": srun, "ray": ray}[sys.argv[1]](sys.argv[2:])
