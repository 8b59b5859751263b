"""Checkpoints: all that a search or a training needs to go on as if it had never stopped, in one safetensors file.

The file's metadata hold the state as JSON, what the checkpoint belongs to, a version and a digest. It is replaced at
once or not at all, and nothing of it is used before all of it has been checked.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from emodarts.errors import EmodartsError
from emodarts.storage import Storage

VERSION = 2  # of emodarts 0.2.0; 0.1.0 wrote version 1
_KEYS = ("version", "identity", "state")


class StopRequested(SystemExit):
    """A stage that was to stop has saved where it is, and goes on from there at another time."""


class CheckpointError(EmodartsError):
    """A checkpoint that is damaged, foreign or of something else: what it belonged to has to start anew."""


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` on the CPU, and a `state` of what JSON can hold (lists for tuples; floats keep every bit)."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def __or__(self, other: "Checkpoint") -> "Checkpoint":
        """Both in one; no name is in both."""
        return Checkpoint({**self.tensors, **other.tensors}, {**self.state, **other.state})


def never() -> bool:
    """The stage is not to stop before its end."""
    return False


@dataclass
class _SavedFiles:
    """When the last step's checkpoint was saved (s of `time.monotonic`), and whether there is one within a step."""

    saved_at: float = field(default_factory=lambda: time.monotonic())
    has_within: bool = False


@dataclass(frozen=True)
class Checkpoints:
    """The file of a stage's latest checkpoint, `name` in a storage; `storage` None: there are none.

    `identity` is what the stage's result depends on: a checkpoint of another identity is refused, not used.
    `seconds`: at least, between two that are saved while the stage lasts; see `saving`. `should_stop` is asked after
    each batch; a stage that is to stop leaves a second file, `within_name`, until the next step's checkpoint is saved.
    """

    storage: Storage | None
    name: str = ""
    identity: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    should_stop: Callable[[], bool] = field(default=never, compare=False)
    _files: _SavedFiles = field(default_factory=_SavedFiles, init=False, repr=False, compare=False)

    @property
    def within_name(self) -> str:
        """The file of a checkpoint within a step."""
        return within_name(self.name)

    @contextmanager
    def saving(self, make: Callable[[], Checkpoint], ends: bool = False) -> Iterator[None]:
        """Around what follows a step of the stage (an epoch, a candidate): what `make` gives is saved before it.

        Where the last one was saved less than `seconds` ago it is saved only if the block is stopped (SystemExit,
        KeyboardInterrupt), if the stage is to stop, or if it `ends` with this step. Raises StopRequested after the
        block where the stage is to stop and does not end, and StorageError.
        """
        if self.storage is None:
            yield
            return
        stops = not ends and self.should_stop()
        is_due = ends or stops or time.monotonic() - self._files.saved_at >= self.seconds
        if is_due:
            self.save(make())
        try:
            yield
        except (SystemExit, KeyboardInterrupt):
            if not is_due:
                self.save(make())
            raise
        if stops:
            raise StopRequested

    def stop_within(self, make: Callable[[], Checkpoint]) -> None:
        """After each batch within a step: where the stage is to stop, save what `make` gives, and stop.

        Raises StopRequested then, and StorageError.
        """
        if self.storage is not None and self.should_stop():
            self.storage.write(self.within_name, _serialise(make(), self.identity))
            raise StopRequested

    def load(self) -> Checkpoint | None:
        """The latest checkpoint, or None where there is none; of one within a step that is unusable, the step's before.

        Raises CheckpointError for a file that is damaged or foreign, or belongs to something else, and StorageError
        for one that cannot be read.
        """
        files = self._present()
        self._files.has_within = self.within_name in files
        if self._files.has_within:
            with suppress(CheckpointError):
                return self._read(self.within_name)
        return self._read(self.name) if self.name in files else None

    def _present(self) -> set[str]:
        """Which of both files are there: one request to an object store, where asking for each would be two."""
        folder, slash, _ = self.name.rpartition("/")
        names = [] if self.storage is None else self.storage.list(folder)
        return {self.name, self.within_name}.intersection(folder + slash + name for name in names)

    def _read(self, name: str) -> Checkpoint | None:
        if self.storage is None:
            return None
        try:
            content = self.storage.read(name)
        except FileNotFoundError:
            return None
        return _parse(content, self.identity, self.storage.path(name))

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the file by this checkpoint. Raises StorageError where it cannot be written; the old one stays."""
        if self.storage is not None:
            self.storage.write(self.name, _serialise(checkpoint, self.identity))
            self._files.saved_at = time.monotonic()
            if self._files.has_within:
                self.storage.delete(self.within_name)
                self._files.has_within = False

    def delete(self) -> None:
        """Delete what is there. Raises StorageError."""
        for name in self._present():
            if self.storage is not None:
                self.storage.delete(name)


def within_name(name: str) -> str:
    """The file beside `name` that a stage leaves which stopped within a step."""
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.within.{suffix}"


NO_CHECKPOINTS = Checkpoints(None)


def module_checkpoint(module: nn.Module, name: str) -> Checkpoint:
    """Parameters and buffers of a module, copied: `name.` before each."""
    return Checkpoint({f"{name}.{key}": value.detach().cpu().clone() for key, value in module.state_dict().items()}, {})


def load_module(module: nn.Module, checkpoint: Checkpoint, name: str) -> None:
    """Give a module the parameters and buffers that `module_checkpoint` took, bit for bit. Raises CheckpointError."""
    with _refusing_misfits(name):
        module.load_state_dict(tensors_below(checkpoint.tensors, name))


def optimiser_checkpoint(optimiser: torch.optim.Optimizer, name: str) -> Checkpoint:
    """Tensors (`name.` before each) and state (below `name`) of an optimiser: moments, steps, rates."""
    content = optimiser.state_dict()
    tensors: dict[str, Tensor] = {}
    entries_by_number: dict[str, dict[str, Any]] = {}
    for number, entries in content["state"].items():
        others = entries_by_number[str(number)] = {}
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{name}.{number}.{key}"] = value.detach().cpu().clone()
            else:
                others[key] = value
    return Checkpoint(tensors, {name: {"entries": entries_by_number, "groups": content["param_groups"]}})


def load_optimiser(optimiser: torch.optim.Optimizer, checkpoint: Checkpoint, name: str) -> None:
    """Give an optimiser of such parameters what `optimiser_checkpoint` took, bit for bit. Raises CheckpointError."""
    with _refusing_misfits(name):
        saved = checkpoint.state[name]
        state: dict[int, dict[str, Any]] = {int(number): dict(entries) for number, entries in saved["entries"].items()}
        for key, value in tensors_below(checkpoint.tensors, name).items():
            number, _, entry = key.partition(".")
            state[int(number)][entry] = value.clone()
        groups = []
        for present, group in zip(optimiser.state_dict()["param_groups"], saved["groups"], strict=True):
            tuples = {key for key, value in present.items() if isinstance(value, tuple)}
            groups.append({key: tuple(value) if key in tuples else value for key, value in group.items()})
        optimiser.load_state_dict({"state": state, "param_groups": groups})


def random_checkpoint(rng: np.random.Generator, device: str) -> Checkpoint:
    """Tensors and state of all random generators: torch's of the CPU and of a CUDA device, and numpy's `rng`."""
    tensors = {"random.cpu": torch.get_rng_state()}
    if torch.device(device).type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    return Checkpoint(tensors, {"random": _to_json_types(rng.bit_generator.state)})


def restore_random(checkpoint: Checkpoint, rng: np.random.Generator, device: str) -> None:
    """Set the generators to where `random_checkpoint` found them; a CUDA one that was not there keeps its own state."""
    with _refusing_misfits("random"):
        torch.set_rng_state(checkpoint.tensors["random.cpu"])
        if torch.device(device).type == "cuda" and "random.cuda" in checkpoint.tensors:
            torch.cuda.set_rng_state(checkpoint.tensors["random.cuda"], device)
        rng.bit_generator.state = checkpoint.state["random"]


def tensors_below(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `name.`, without it."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


@contextmanager
def _refusing_misfits(name: str) -> Iterator[None]:
    """Within the block, what says that a checkpoint does not fit what it is loaded into becomes a CheckpointError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise  # a matter of the device, not of the checkpoint
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"the checkpoint's '{name}' does not fit ({type(error).__name__}: {reason}): it has to start anew"
        ) from error


def _to_json_types(value: Any) -> Any:
    """The state of a numpy generator in types that JSON can hold: Python's integers have any size."""
    if isinstance(value, dict):
        return {key: _to_json_types(entry) for key, entry in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _serialise(checkpoint: Checkpoint, identity: dict[str, Any]) -> bytes:
    # Copies: the format has no place for two names of one memory.
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in checkpoint.tensors.items()
    }
    texts = dict(zip(_KEYS, (str(VERSION), _json(identity), _json(checkpoint.state)), strict=True))
    return safetensors.torch.save(tensors, {**texts, "digest": _digest(tensors, texts)})


def _parse(content: bytes, identity: dict[str, Any], where: str) -> Checkpoint:
    try:
        size = int.from_bytes(content[:8], "little")
        tensors = {name: value.clone() for name, value in safetensors.torch.load(content).items()}
        header = json.loads(content[8 : 8 + size]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{where} is cut off or damaged ({error}); delete it to start anew") from error
    if not {*_KEYS, "digest"} <= header.keys():
        raise CheckpointError(f"{where} is no checkpoint of emodarts; move it away to start anew")
    if header["version"] != str(VERSION):
        program = "emodarts 0.1.0" if header["version"] == "1" else "the version of emodarts that wrote it"
        raise CheckpointError(
            f"{where} is a checkpoint of version {header['version']}, and this program reads version {VERSION}: go on "
            f"with {program}, or delete the file to start anew"
        )
    if header["digest"] != _digest(tensors, {key: header[key] for key in _KEYS}):
        raise CheckpointError(f"{where} is damaged: its content does not fit its digest; delete it to start anew")
    if header["identity"] != _json(identity):
        differing = ", ".join(_differing(json.loads(header["identity"]), json.loads(_json(identity))))
        raise CheckpointError(
            f"{where} belongs to another run: {differing} differ. Go on with that run's settings, take another folder, "
            "or delete the file to start anew"
        )
    return Checkpoint(tensors, json.loads(header["state"]))


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)


def _digest(tensors: dict[str, Tensor], texts: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps([texts[key] for key in _KEYS]).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _differing(stored: Any, present: Any, name: str = "") -> list[str]:
    """Dotted names of what differs in two contents of JSON."""
    if isinstance(stored, dict) and isinstance(present, dict):
        prefix = f"{name}." if name else ""
        names = sorted(stored.keys() | present.keys())
        return [d for key in names for d in _differing(stored.get(key), present.get(key), prefix + key)]
    return [] if _json({"": stored}) == _json({"": present}) else [name]
