"""Models of `transformers` on this machine: where they lie, what their configuration says, the hash of their weights.

A model is a folder in the library's layout, or a name in its cache. Nothing is downloaded unless `features.download`
says so; code of a model is never run, and weights are read as safetensors, or as tensors alone.
"""

import hashlib
import importlib
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from emodarts.errors import EmodartsError
from emodarts.features.settings import Bundle, FeatureSettings

_CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json")
_DOWNLOADED = [*_CONFIGS, "*.safetensors", "*.safetensors.index.json"]
_SAFETENSORS, _PICKLED = "*.safetensors", "pytorch_model*.bin"
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@[\w./-]+)?")
# What from_pretrained and the cache raise for files that are missing, broken, too new, or want their own code run.
_UNUSABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)


def find_model(settings: FeatureSettings) -> Path:
    """The folder of `features.model`. Raises EmodartsError where it is not at hand, or has no weights."""
    model = str(settings.model)
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = _find_in_cache(model, settings.download)
    for names, reason in ((["config.json"], "no config.json"), ([_SAFETENSORS, _PICKLED], "no weights")):
        if not any(True for name in names for _ in folder.glob(name)):
            raise EmodartsError(f"features.model={model}: {folder} has {reason}, and is no model of transformers")
    return folder


def _find_in_cache(model: str, download: bool) -> Path:
    if not _NAME.fullmatch(model):
        raise EmodartsError(f"features.model={model}: there is no such folder")
    hub = _import("huggingface_hub")
    name, _, revision = model.partition("@")
    try:
        return Path(
            hub.snapshot_download(
                name, revision=revision or None, local_files_only=not download, allow_patterns=_DOWNLOADED
            )
        )
    except _UNUSABLE as error:
        if download:
            raise EmodartsError(f"features.model={model} cannot be downloaded: {_first_line(error)}") from error
        raise EmodartsError(
            f"features.model={model} is neither a folder nor in the cache {hub.constants.HF_HUB_CACHE}, and nothing is "
            f"downloaded unasked: say features.download=true, run `hf download {name}` on a machine with network, or "
            "name a folder"
        ) from error


def read_sizes(settings: FeatureSettings) -> Bundle:
    """Blocks and width of a model, by its configuration. Raises EmodartsError for what is no encoder."""
    config = read_config(settings)
    blocks = getattr(config, "encoder_layers", None) or getattr(config, "num_hidden_layers", None)
    width = getattr(config, "hidden_size", None)
    if not (isinstance(blocks, int) and isinstance(width, int)):
        raise EmodartsError(f"features.model={settings.model}: its config.json names no layers and width of an encoder")
    return Bundle(blocks, width)


def read_config(settings: FeatureSettings) -> Any:
    """The model's configuration, an object of transformers. Raises EmodartsError."""
    return from_pretrained(settings, "AutoConfig")


def from_pretrained(settings: FeatureSettings, kind: str, **options: Any) -> Any:
    """What `transformers.<kind>` makes of the model's folder, without code of its own, and without network.

    Raises EmodartsError with the library's reason where it makes nothing.
    """
    folder, transformers = find_model(settings), _import("transformers")
    try:
        with _quiet(transformers):
            return getattr(transformers, kind).from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, **options
            )
    except (*_UNUSABLE, SafetensorError, pickle.UnpicklingError) as error:
        raise EmodartsError(f"features.model={settings.model} cannot be read: {_first_line(error)}") from error


def has_safetensors(folder: Path) -> bool:
    """Whether the weights are safetensors; else they are pickled, and only tensors are read."""
    return any(True for _ in folder.glob(_SAFETENSORS))


def model_hash(folder: Path) -> str:
    """16 hex digits of the weights and the configurations: what decides over the frames."""
    weights = sorted(folder.glob(_SAFETENSORS if has_safetensors(folder) else _PICKLED))
    files = [*weights, *(folder / name for name in _CONFIGS if (folder / name).is_file())]
    parts = [f"{path.name} {file_hash(path)}" for path in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """16 hex digits of a file's content."""
    stat = path.stat()
    return _hash(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _hash(path: Path, size: int, changed: int) -> str:
    # Size and time stand in the cache's key: files of gigabytes are read once, and again when they change.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300] or type(error).__name__


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EmodartsError("features.kind=encoder needs transformers: pip install 'emodarts[encoders]'") from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without bars and reports; what matters in these (weights that are missing) is checked where models are loaded."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
