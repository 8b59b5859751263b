"""From torch to ONNX, and the proof that both give the same probabilities."""

import importlib
import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emodarts.errors import EmodartsError
from emodarts.export.graph import Classifier, features_graph
from emodarts.features.settings import FeatureSettings

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
    bins, time)`, and `lengths (batch,)` in samples or frames; output `probabilities (batch, classes)`.

    Batch and time are dynamic; the classes stand in the model's metadata. Raises EmodartsError without `onnx`.
    """
    onnx = _optional("onnx")
    name = "frames" if classifier.spectra is None else "samples"
    axes = {name: {0: "batch", (3 if name == "frames" else 1): name}, "lengths": {0: "batch"}}
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
            input_names=[name, "lengths"],
            output_names=["probabilities"],
            dynamic_axes={**axes, "probabilities": {0: "batch"}},
        )
        model = onnx.load(file)
    onnx.checker.check_model(model)
    model.metadata_props.add(key="classes", value=json.dumps(list(classes)))
    serialised: bytes = model.SerializeToString()
    return serialised


def random_inputs(
    classifier: Classifier, bins: int, channels: int, batch: int, size: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Random samples or frames, and lengths of which the first is the whole `size` and the others are shorter."""
    rng = np.random.default_rng(seed)
    shape = (batch, channels, bins, size) if classifier.spectra is None else (batch, size)
    level = 1.0 if classifier.spectra is None else 0.1
    lengths = np.sort(rng.integers(1, size + 1, batch))[::-1].copy()
    lengths[0] = size
    x = rng.normal(0, level, shape).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(lengths)


def check_parity(model: bytes, classifier: Classifier, bins: int, channels: int, per_second: float) -> float:
    """The largest difference of a probability between torch and ONNX, at two lengths and two batch sizes.

    `per_second`: samples or frames a second. Raises EmodartsError where it is above TOLERANCE.
    """
    run = OnnxSession(model)
    worst = 0.0
    for seed, (batch, seconds) in enumerate(_CHECKED):
        x, lengths = random_inputs(classifier, bins, channels, batch, max(1, round(seconds * per_second)), seed)
        with torch.no_grad():
            expected = classifier(x, lengths).numpy()
        worst = max(worst, float(np.abs(run(x.numpy(), lengths.numpy()) - expected).max()))
    if not worst <= TOLERANCE:
        raise EmodartsError(
            f"the ONNX model differs from the network by {worst:.1e} of a probability, more than {TOLERANCE:g}: "
            "please report it with the genotype; nothing was written"
        )
    return worst


class OnnxSession:
    """An ONNX model to call: (inputs, lengths) -> probabilities `(batch, classes)`."""

    def __init__(self, model: bytes):
        runtime = _optional("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name

    def __call__(self, x: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Samples or frames, and lengths -> probabilities."""
        probabilities: NDArray[np.float32]
        (probabilities,) = self._session.run(["probabilities"], {self._name: x, "lengths": lengths})
        return probabilities


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EmodartsError(f"an export needs the package {name}: pip install 'emodarts[export]'") from error
