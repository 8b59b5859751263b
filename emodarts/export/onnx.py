"""From torch to ONNX, and the proof that both give the same probabilities."""

import importlib
import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emodarts.errors import EmodartsError
from emodarts.export.graph import Classifier, features_graph
from emodarts.features.settings import FeatureSettings

# What is known of a speaker, and what a recording adds: see Classifier.forward. `predict.py` has these names, too.
SPEAKER_INPUTS = ("speaker_frames", "speaker_sums", "speaker_squares")
SPEAKER_OUTPUTS = ("frame_count", "sums", "squares")
TOLERANCE = 1e-4  # of a probability
OPSET = 17
_CHECKED = ((1, 0.7), (1, 3.1), (4, 0.7), (4, 3.1))  # batch, seconds


def check_exportable(features: FeatureSettings) -> None:
    """Refuse (EmodartsError) features that the graph cannot compute, and missing packages: before any training."""
    features_graph(features)
    for name in ("onnx", "onnxruntime"):
        _optional(name)


def to_onnx(classifier: Classifier, bins: int, channels: int, classes: Sequence[str]) -> bytes:
    """The classifier as an ONNX model: inputs `samples (batch, samples)`, or without spectra `frames (batch, channels,
    bins, time)`, and `lengths (batch,)` in samples or frames; output `probabilities (batch, classes)`. Where it is
    normalised by speaker, SPEAKER_INPUTS and SPEAKER_OUTPUTS beside them.

    Batch and time are dynamic; the classes stand in the model's metadata. Raises EmodartsError without `onnx`.
    """
    onnx = _optional("onnx")
    name = "frames" if classifier.spectra is None else "samples"
    inputs, outputs = [name, "lengths"], ["probabilities"]
    if classifier.by_speaker:
        inputs, outputs = [*inputs, *SPEAKER_INPUTS], [*outputs, *SPEAKER_OUTPUTS]
    axes = {value: {0: "batch"} for value in (*inputs, *outputs)}
    axes[name][3 if name == "frames" else 1] = name
    example = random_inputs(classifier, bins, channels, 2, 100 if name == "frames" else 16000, seed=0)
    # The exporter by tracing, not the newer one by `torch.export`: that one cannot take recurrent layers over a
    # dynamic time (torch 2.14).
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        file = Path(folder) / "model.onnx"
        torch.onnx.export(
            classifier,
            example,
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
        )
        model = onnx.load(file)
    onnx.checker.check_model(model)
    model.metadata_props.add(key="classes", value=json.dumps(list(classes)))
    serialised: bytes = model.SerializeToString()
    return serialised


def random_inputs(
    classifier: Classifier, bins: int, channels: int, batch: int, size: int, seed: int
) -> tuple[Tensor, ...]:
    """Random samples or frames, and lengths of which the first is the whole `size` and the others are shorter.

    By speaker, that nothing is known of the speakers.
    """
    rng = np.random.default_rng(seed)
    shape = (batch, channels, bins, size) if classifier.spectra is None else (batch, size)
    level = 1.0 if classifier.spectra is None else 0.1
    lengths = np.sort(rng.integers(1, size + 1, batch))[::-1].copy()
    lengths[0] = size
    return _inputs(classifier, rng.normal(0, level, shape).astype(np.float32), lengths, bins * channels)


def _inputs(
    classifier: Classifier, x: NDArray[np.float32], lengths: NDArray[np.int64], values: int
) -> tuple[Tensor, ...]:
    inputs = torch.from_numpy(x), torch.from_numpy(lengths)
    if not classifier.by_speaker:
        return inputs
    nothing = torch.zeros(len(x), values, dtype=torch.float64)
    return *inputs, torch.zeros(len(x), dtype=torch.int64), nothing, nothing.clone()


def check_parity(
    model: bytes,
    classifier: Classifier,
    bins: int,
    channels: int,
    per_second: float,
    sounds: Sequence[NDArray[np.float32]] = (),
) -> float:
    """The largest difference of a probability between torch and ONNX: of each of `sounds` (samples of recordings)
    alone and of all as one batch, else of noise at two lengths and two batch sizes.

    By speaker, by the train part's statistics and by those of the recordings themselves, each by its own program.
    `per_second`: samples or frames a second. Raises EmodartsError where it is above TOLERANCE.
    """
    run = OnnxSession(model)
    worst = 0.0
    for inputs in _checked_inputs(classifier, bins, channels, per_second, sounds):
        by_torch, by_onnx = _run_torch(classifier, *inputs), run(*(x.numpy() for x in inputs))
        worst = max(worst, float(np.abs(by_torch[0] - by_onnx[0]).max()))
        if classifier.by_speaker:
            by_torch = _run_torch(classifier, *inputs[:2], *map(torch.from_numpy, by_torch[1:]))
            by_onnx = run(*(x.numpy() for x in inputs[:2]), *by_onnx[1:])
            worst = max(worst, float(np.abs(by_torch[0] - by_onnx[0]).max()))
    if not worst <= TOLERANCE:
        raise EmodartsError(
            f"the ONNX model differs from the network by {worst:.1e} of a probability, more than {TOLERANCE:g}: "
            "please report it with the genotype; nothing was written"
        )
    return worst


def _checked_inputs(
    classifier: Classifier, bins: int, channels: int, per_second: float, sounds: Sequence[NDArray[np.float32]]
) -> Iterator[tuple[Tensor, ...]]:
    if not sounds or classifier.spectra is None:
        for seed, (batch, seconds) in enumerate(_CHECKED):
            yield random_inputs(classifier, bins, channels, batch, max(1, round(seconds * per_second)), seed)
        return
    for together in (sounds, *([sound] for sound in sounds)):
        lengths = np.array([len(sound) for sound in together], np.int64)
        padded = np.zeros((len(together), lengths.max()), np.float32)
        for row, sound in zip(padded, together, strict=True):
            row[: len(sound)] = sound
        yield _inputs(classifier, padded, lengths, bins * channels)


def _run_torch(classifier: Classifier, *inputs: Tensor) -> list[NDArray[Any]]:
    with torch.no_grad():
        outputs = classifier(*inputs)
    return [x.numpy() for x in (outputs if isinstance(outputs, tuple) else (outputs,))]


class OnnxSession:
    """An ONNX model to call: its inputs in their order -> its outputs, probabilities `(batch, classes)` first."""

    def __init__(self, model: bytes):
        runtime = _optional("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._names = [value.name for value in self._session.get_inputs()]

    def __call__(self, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Samples or frames, lengths, and what is known of the speakers -> all outputs."""
        outputs: list[NDArray[Any]] = self._session.run(None, dict(zip(self._names, inputs, strict=True)))
        return outputs


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EmodartsError(f"an export needs the package {name}: pip install 'emodarts[export]'") from error
