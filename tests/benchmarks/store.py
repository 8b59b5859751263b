"""A feature store of MSP-Podcast's size: seconds to open it, memory and speed of an epoch of shuffled batches.

    python tests/benchmarks/store.py [--utterances 265000] [--folder FOLDER]

The store is synthetic: the index, the number of shards and of copies are those of the real one, the utterances are
shorter (24 to 56 frames of 64 bins, 4 GB in all). It is written by the functions that write every store, and read in a
fresh processes. Last line: one JSON object. `open_seconds`: `open_store` and its first frames. `rss_anon_gb`: growth of
anonymous memory from after `import torch` until all epochs of shuffled batches of all utterances are drawn.
`random_ratio`: frames a second of the first epoch (standardised and padded) over those of reading every utterance in
order from the page cache, converted to float32 in the same way; each in a process of its own, whose memory map has
not been touched. The second epoch, with the pages mapped, is printed beside it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

BATCH, CROP = 64, 150
CLASSES = ("angry", "happy", "neutral", "sad")


def write_store(folder, count):
    """A complete store of so many utterances below the folder; its path."""
    import pyarrow as pa

    from emodarts.features.settings import FeatureSettings
    from emodarts.features.store import building, files
    from emodarts.features.store.files import Extracted, shard_name, write_shard
    from emodarts.features.store.plan import LARGEST_SHARD, ExtractionPlan

    rng = np.random.default_rng(0)
    names = [f"MSP-PODCAST_{number // 99:04d}_{number % 99:04d}" for number in range(count)]
    unknown = pa.nulls(count, pa.float64())
    rows = pa.table(
        {
            "utterance": [f"msp_podcast/{name}" for name in names],
            "path": [f"Audios/{name}.wav" for name in names],
            "start": unknown,
            "end": unknown,
            "sample_rate": pa.array(np.full(count, 16000, np.int32)),
            "frames": pa.array(rng.integers(30_000, 180_000, count)),
            "size": pa.array(rng.integers(60_000, 360_000, count)),
            "time": pa.array(rng.integers(0, 1 << 60, count)),
        }
    ).combine_chunks()
    plan = ExtractionPlan(rows, Path("/data/msp_podcast"), FeatureSettings(), "msp_podcast", "", LARGEST_SHARD)
    store = folder / plan.name
    store.mkdir()
    plan.write(store)
    pool = rng.normal(0, 2, (100_000, 64)).astype(np.float16)
    for number in range(plan.shards):
        extracted = []
        for row in plan.shard(number):
            lengths = rng.integers(24, 57) + np.array([0, 2, -2])
            firsts = rng.integers(0, len(pool) - 60, 3)
            frames = [pool[first : first + length] for first, length in zip(firsts, lengths, strict=True)]
            measures = {"seconds": row["frames"] / 16000, "leading_zeros": 0.0, "trailing_zeros": 0.0, "dc": 1e-4}
            measures |= {"noise_floor": -60.0, "peak": 0.5, "clipped": 0.0, "audio_hash": f"{row['size']:016x}"}
            extracted.append(Extracted({"utterance": row["utterance"], **measures}, frames))
        write_shard(store / shard_name(number), extracted, [], 3)
    building.finish_store(plan, store)
    size = sum(path.stat().st_size for path in store.iterdir())
    print(f"{count} utterances, 3 copies each, {plan.shards} shards, {files.format_bytes(size)}")
    return store


def rss_anon():
    """Bytes of anonymous memory of this process."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def random(folder):
    """In a fresh process: seconds to open the store, then two epochs of shuffled batches."""
    import torch

    before = rss_anon()
    torch.set_num_threads(1)
    from emodarts.corpora.protocols.folds import Fold
    from emodarts.features.batches import FoldPart, training_batches
    from emodarts.features.normalisation import Standardiser
    from emodarts.features.store.store import open_store

    started = time.perf_counter()
    store = open_store(folder)
    store.read(len(store.utterances) // 2)
    opened = time.perf_counter() - started

    ids = tuple(store.utterances.to_pylist())
    labels = {utterance: CLASSES[number % 4] for number, utterance in enumerate(ids)}
    speakers = dict.fromkeys(ids, "msp_podcast/1")
    fold = Fold("msp_podcast/official", 0, ids, (), {}, labels, CLASSES, speakers, speakers, "")
    width = store.channels * store.bins
    part = FoldPart.of(store, Standardiser(torch.zeros(width), torch.ones(width)), fold, ids)
    speeds, peak = [], 0
    for seed in range(2):
        frames, started = 0, time.perf_counter()
        for number, batch in enumerate(training_batches(part, BATCH, CROP, np.random.default_rng(seed))):
            frames += int(batch.lengths.sum())
            if number % 200 == 0:
                peak = max(peak, rss_anon())
        speeds.append(frames / (time.perf_counter() - started))
    peak = max(peak, rss_anon())
    print(json.dumps({"open_seconds": opened, "rss_anon": peak - before, "speeds": speeds, "width": width}))


def in_order(folder):
    """In a fresh process: every copy of every utterance in order, twice, converted as batches are."""
    import torch

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")
    from emodarts.features.store.store import open_store

    store, speeds = open_store(folder), []
    for _ in range(2):
        frames, started = 0, time.perf_counter()
        for position in range(len(store.utterances)):
            for variant in range(len(store.variants)):
                frames += len(torch.from_numpy(store.read(position, variant)).float())
        speeds.append(frames / (time.perf_counter() - started))
    print(json.dumps({"speeds": speeds}))


def read_raw(folder):
    """Bytes a second of reading the shards as plain files, which also brings them into the page cache."""
    size, buffer = 0, bytearray(1 << 20)
    started = time.perf_counter()
    for path in sorted(folder.glob("shard-*.arrow")):
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                size += count
    return size / (time.perf_counter() - started)


def in_fresh_process(way, folder):
    """What a way prints."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def figures(random, in_order):
    """The last line, after the speeds."""
    for name, speeds in (("shuffled batches", random["speeds"]), ("in order", in_order["speeds"])):
        shown = ", then ".join(f"{s / 1e6:.2f}" for s in speeds)
        print(f"{name}: {shown} million frames a second ({speeds[0] * random['width'] * 2 / 1e9:.2f} GB/s of float16)")
    first, second = (one / other for one, other in zip(random["speeds"], in_order["speeds"], strict=True))
    return {
        "open_seconds": round(random["open_seconds"], 3),
        "rss_anon_gb": round(random["rss_anon"] / 1e9, 3),
        "random_ratio": round(first, 2),
        "random_ratio_second_epoch": round(second, 2),
    }


WAYS = {"random": random, "in_order": in_order}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=265_000)
    parser.add_argument("--folder", type=Path, help="where the store is written (default: a temporary folder)")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        WAYS[options.way](options.folder)
        return
    folder = Path(tempfile.mkdtemp(prefix="emodarts-benchmark-", dir=options.folder))
    try:
        started = time.perf_counter()
        store = write_store(folder, options.utterances)
        print(f"written in {time.perf_counter() - started:.1f} s")
        read_raw(store)
        print(f"plain sequential read from the page cache: {read_raw(store) / 1e9:.2f} GB/s", flush=True)
        print(json.dumps(figures(*(in_fresh_process(way, store) for way in WAYS))))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
