"""An encoder's features by tasks on the nodes: the recordings of a shard travel there, and the finished shard back.

So a node need not see the corpus; the weights it must have (a folder that every node sees, the image, or a download).
"""

import os
import socket
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from rich.console import Console

from emodarts.console import print_line
from emodarts.errors import EmodartsError
from emodarts.features.extractors.extractor import Extractor, extractor_identity, make_extractor
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.files import shard_name
from emodarts.features.store.plan import ExtractionPlan
from emodarts.files import write_output
from emodarts.processors import choose_device
from sweeps.nodes.node_tasks import NodeTasks, node_tasks
from sweeps.settings import Settings

_LAST_EXTRACTOR: list[tuple[FeatureSettings, str, Extractor]] = []  # of this process: settings, weights, and itself


def extract_on_nodes(
    settings: Settings, console: Console, plan: ExtractionPlan, folder: Path, missing: Sequence[int]
) -> Generator[int, None, None] | None:
    """Write missing shards of a plan into a store's folder; yields their numbers as they are done.

    None where this process is to do it: an encoder on a CPU. Raises EmodartsError.
    """
    stack = ExitStack()
    tasks = stack.enter_context(node_tasks(settings, console))
    if tasks is None:
        stack.close()
        return None
    rows = sum(plan.shard_rows(number) for number in missing)
    print_line(console, f"{plan.corpus}, {rows} utterances: features are made on the nodes of the cluster")
    return _extract(tasks, stack, plan, folder, missing, settings.resources.device)


def _extract(
    tasks: NodeTasks, stack: ExitStack, plan: ExtractionPlan, folder: Path, missing: Sequence[int], device: str
) -> Generator[int, None, None]:
    with stack:
        calls = ((number, (*_shard_alone(plan, number), device)) for number in missing)
        for number, content in tasks.map(extract_sent_shard, calls):
            write_output(folder / shard_name(number), content)
            yield number


def _shard_alone(plan: ExtractionPlan, number: int) -> tuple[ExtractionPlan, dict[str, bytes]]:
    """A plan of one shard alone, and the content of its files by their paths."""
    rows = plan.rows.slice(number * plan.rows_per_shard, plan.rows_per_shard)
    alone = ExtractionPlan(
        rows.combine_chunks(), plan.root, plan.settings, plan.corpus, plan.identity, plan.rows_per_shard
    )
    recordings = {}
    for path in dict.fromkeys(rows["path"].to_pylist()):
        with suppress(FileNotFoundError):  # the plan says so, or what extracts does
            recordings[path] = (plan.root / path).read_bytes()
    return alone, recordings


def extract_sent_shard(plan: ExtractionPlan, recordings: dict[str, bytes], device: str) -> bytes:
    """Run on a node: the file of a plan's only shard, of these files' content by their paths. Raises EmodartsError."""
    import torch

    from emodarts.features.store.extraction import extract_shard

    torch.set_num_threads(1)
    times = dict(zip(*(plan.rows[name].to_pylist() for name in ("path", "time")), strict=True))
    with tempfile.TemporaryDirectory(prefix="emodarts-shard-") as name:
        folder, files = Path(name), dict[str, Path]()
        for number, (path, content) in enumerate(recordings.items()):
            files[path] = folder / f"{number}{Path(path).suffix}"  # a path may lead out of any folder
            files[path].write_bytes(content)
            os.utime(files[path], ns=(times[path], times[path]))
        extract_shard(plan, 0, folder, _load_extractor(plan), choose_device(device), files)
        return (folder / shard_name(0)).read_bytes()


def _load_extractor(plan: ExtractionPlan) -> Extractor:
    """The extractor of a plan, kept for this process's next shard.

    Raises EmodartsError where this node has not the driver's weights.
    """
    if _LAST_EXTRACTOR and _LAST_EXTRACTOR[0][:2] == (plan.settings, plan.identity):
        return _LAST_EXTRACTOR[0][2]
    host = socket.gethostname()
    try:
        identity = extractor_identity(plan.settings)
    except EmodartsError as error:
        raise EmodartsError(f"node {host}: {error}") from error
    if identity != plan.identity:
        raise EmodartsError(
            f"node {host} has other weights of the encoder than the driver: put one copy where every node sees it, and "
            "name its folder (features.model=... or features.checkpoint=...)"
        )
    _LAST_EXTRACTOR[:] = [(plan.settings, plan.identity, make_extractor(plan.settings))]
    return _LAST_EXTRACTOR[0][2]
