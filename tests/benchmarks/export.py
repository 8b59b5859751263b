"""What an exported model costs: start-up, and a recording of 10 s by predict.py and by the torch pipeline, one core.

    python tests/benchmarks/export.py [--python VENV/bin/python] [--members 1]

predict.py runs in a virtual environment made for it, with the requirements of an export and nothing else, or with
`--python` in one that is there. Networks have the default sizes and random weights, two operations each of the slower
kinds. Each figure is the best of several runs, by the clock and of the processor (`cpu`: what a busy machine does not
change much). The last line is JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import soundfile
import torch

from emodarts.export import onnx, predict
from emodarts.export.graph import Classifier, Member, SpectraGraph
from emodarts.features.audio import at_speed, decode, prepare
from emodarts.features.extractors.spectra import Spectra
from emodarts.features.normalisation import Standardiser
from emodarts.features.settings import FeatureSettings
from emodarts.networks.genotype import Edge, Genotype
from emodarts.networks.network import DiscreteNetwork, NetworkShape

CLASSES = ("angry", "happy", "neutral", "sad")
RUNS = 9
ALONE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
# In the subprocess: one model, one file, again and again.
TIMED = """
import sys, time, json
sys.path.insert(0, sys.argv[1])
import soundfile
from pathlib import Path
from predict import Model
model, times = Model.load(Path(sys.argv[1])), []
for _ in range(int(sys.argv[3])):
    start = time.perf_counter(), time.process_time()
    samples, rate = soundfile.read(sys.argv[2], dtype="float32")
    model.probabilities([model.prepare(samples, rate)])
    times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
print(json.dumps(times))
"""


# In the subprocess: what an export must not need.
ABSENT = """
import importlib.util, sys
there = [name for name in ("torch", "torchaudio", "ray", "optuna", "emodarts") if importlib.util.find_spec(name)]
sys.exit(f"{sys.executable} has {', '.join(there)}: give --python one with requirements.txt alone" if there else 0)
"""


def environment(folder: Path) -> str:
    """The interpreter of a new virtual environment that has what an export requires."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    requirements = Path(predict.__file__).with_name("requirements.txt")
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True, stdout=sys.stderr)
    return python


def network(features: FeatureSettings) -> DiscreteNetwork:
    """A network of the default sizes."""
    wide = (Edge("sep_conv_5x5", 0), Edge("dil_conv_5x5", 1)), (Edge("sep_conv_3x3", 0), Edge("avg_pool_3x3", 2))
    genotype = Genotype(wide, wide, ((Edge("lstm_attention_1", 0), Edge("lstm_2", 1)),))
    shape = NetworkShape(4, 1, features.n_mels, 3, 2, 16, 1, 1, 64, 16, (8, 2), frequency_pooling="mean")
    return DiscreteNetwork(shape, genotype).eval()


def write(folder: Path, members: list[Member], features: FeatureSettings) -> None:
    """What predict.py needs."""
    model = onnx.to_onnx(Classifier(members, SpectraGraph(features)), features.n_mels, 1, CLASSES)
    (folder / "model.onnx").write_bytes(model)
    about = {"version": predict.VERSION, "classes": CLASSES, "sample_rate": features.sample_rate, "trim_db": 35.0}
    (folder / "model.json").write_text(json.dumps({**about, "minimum_ms": 100.0, "longest_seconds": 60.0}))
    (folder / "predict.py").write_text(Path(predict.__file__).read_text())


def sound(path: Path, seconds: float, rate: int) -> Path:
    """A noisy tone."""
    steps = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 0.02, len(steps))
    soundfile.write(path, 0.2 * np.sin(2 * np.pi * 150 * steps) + noise, rate, subtype="PCM_16")
    return path


def torch_seconds(path: Path, members: list[Member], features: FeatureSettings) -> tuple[float, float]:
    """The fastest of some runs of decoding, features and networks in torch: by the clock, of the processor."""
    extractor, times = Spectra(features), []
    for _ in range(RUNS):
        start = time.perf_counter(), time.process_time()
        samples, rate = decode(path)
        frames = extractor([at_speed(prepare(samples, rate, features), rate, features.sample_rate, 1.0)])[0]
        with torch.no_grad():
            for member in members:
                x = ((frames - member.standardiser.mean) / member.standardiser.deviation).T[None, None]
                member.network(x, torch.tensor([len(frames)])).softmax(1)
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return fastest(times)


def fastest(times: list[tuple[float, float]]) -> tuple[float, float]:
    """The least of both kinds of seconds."""
    return min(clock for clock, _ in times), min(cpu for _, cpu in times)


def command_seconds(python: str, folder: Path, recording: Path) -> tuple[float, float]:
    """A whole run of predict.py, from the start of the interpreter to its end."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [python, folder / "predict.py", recording]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ALONE)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python")
    parser.add_argument("--members", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    features = FeatureSettings()
    statistics = Standardiser(torch.zeros(features.n_mels), torch.ones(features.n_mels))
    members = [Member(network(features), statistics) for _ in range(options.members)]
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        python = options.python or environment(folder / "venv")
        if subprocess.run([python, "-I", "-c", ABSENT]).returncode:
            sys.exit(1)
        write(folder, members, features)
        short = sound(folder / "short.wav", 1.0, 16000)
        commands = fastest([command_seconds(python, folder, short) for _ in range(RUNS)])
        found["command_s"], found["command_cpu_s"] = commands
        for rate in (16000, 48000):
            path = sound(folder / f"{rate}.wav", 10.0, rate)
            command = [python, "-c", TIMED, str(folder), str(path), str(RUNS)]
            times = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=ALONE).stdout)
            for name, (clock, cpu) in (
                ("predict", fastest(times)),
                ("torch", torch_seconds(path, members, features)),
            ):
                found[f"{name}_{rate}_ms"], found[f"{name}_{rate}_cpu_ms"] = 1000 * clock, 1000 * cpu
    found["torch_over_predict"] = found["torch_16000_cpu_ms"] / found["predict_16000_cpu_ms"]
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
