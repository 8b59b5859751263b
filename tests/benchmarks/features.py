"""Speed of feature extraction on EmoDB and RAVDESS: spectra against librosa, and all of it against decoding alone.

    python tests/benchmarks/features.py [--recordings FOLDER] [--rounds 5]

Both ways run on the same two processes, each with one thread and half of the shards, in turns, piece by piece of the
recordings; of each way and piece the best round counts (noise of the machine only ever adds, and a long piece would
meet more of it than a short one). Last line: one JSON object. `librosa_ratio`: librosa's time over ours, for
spectra alone, from decoded audio in memory. `decode_ratio`: the whole of our extraction, from the files to a finished
store on the disk, over decoding alone.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

HOPS_MS = (20.0, 10.0)  # the first is the one of the figures
PROCESSES, PIECES = 2, 8
WAYS = ("decode", "extract", "spectra", "librosa")
CORPORA = ("emodb", "ravdess")
BATCH_SAMPLES = 960_000  # as the store's builder takes them: 60 s


def plans(recordings, hop_ms):
    """The plan of each corpus: log-mel, 64 bands, no copies at other speeds."""
    from emodarts import corpora
    from emodarts.corpora.settings import CorpusSettings
    from emodarts.features.settings import FeatureSettings
    from emodarts.features.store.plan import ExtractionPlan

    settings = FeatureSettings(n_mels=64, hop_ms=hop_ms, speeds=[1.0])
    read = [corpora.read(CorpusSettings(name=name, root=str(recordings / name))) for name in CORPORA]
    return [ExtractionPlan.of(corpus.utterances, corpus.root, settings) for corpus in read]


class Half:
    """What one process does: every second shard, in the ways that are compared."""

    def __init__(self, recordings, folder, hop_ms, place):
        import torch

        from emodarts.features.extractors.extractor import make_extractor

        torch.set_num_threads(1)
        made = plans(recordings, hop_ms)
        self.settings = made[0].settings
        self.shards = [(plan, n) for plan in made for n in range(plan.shards)][place::PROCESSES]
        self.folder = folder
        self.extractor = make_extractor(self.settings)
        self.sounds = [sorted(self.decode(piece), key=len) for piece in range(PIECES)]

    def decode(self, piece):
        from emodarts.features.audio import decode

        rows = [(plan.root / row["path"], row) for plan, n in self.shards[piece::PIECES] for row in plan.shard(n)]
        return [decode(path, row["start"], row["end"])[0] for path, row in rows]

    def extract(self, piece):
        from emodarts.features.store.extraction import extract_shard

        for plan, n in self.shards[piece::PIECES]:
            extract_shard(plan, n, self.folder / plan.name, self.extractor)

    def spectra(self, piece):
        batch, size = [], 0
        for sound in self.sounds[piece]:
            batch.append(sound)
            size += len(sound)
            if size > BATCH_SAMPLES:
                self.extractor(batch)
                batch, size = [], 0
        if batch:
            self.extractor(batch)

    def librosa(self, piece):
        import librosa
        import numpy as np

        settings, spectra = self.settings, self.extractor
        for sound in self.sounds[piece]:
            mel = librosa.feature.melspectrogram(
                y=sound,
                sr=settings.sample_rate,
                n_fft=spectra.size,
                win_length=spectra.window,
                hop_length=spectra.hop,
                n_mels=settings.n_mels,
                htk=True,
                norm=None,
                pad_mode="constant",
            )
            np.log(mel + settings.log_floor)


def live(recordings, folder, hop_ms, place, pipe):
    """A process: does what it is told, and tells when it is done."""
    half = Half(recordings, folder, hop_ms, place)
    pipe.send("ready")
    while way := pipe.recv():
        getattr(half, way[0])(way[1])
        pipe.send(way)


def receive(pipe):
    """What a process sends; ends the benchmark where it has died, whose error stands above."""
    try:
        return pipe.recv()
    except EOFError:
        sys.exit("a process of the benchmark died: its error stands above")


def together(pipes, way, piece):
    """Seconds until all processes have done their half of a piece."""
    started = time.perf_counter()
    for pipe in pipes:
        pipe.send((way, piece))
    for pipe in pipes:
        receive(pipe)
    return time.perf_counter() - started


def measure(recordings, folder, hop_ms, rounds):
    """Best seconds of each way."""
    from emodarts.features.store.building import finish_store

    made = plans(recordings, hop_ms)
    for plan in made:
        (folder / plan.name).mkdir()
    context = multiprocessing.get_context("spawn")
    connections = [context.Pipe() for _ in range(PROCESSES)]
    processes = [
        context.Process(target=live, args=(recordings, folder, hop_ms, place, theirs), daemon=True)
        for place, (_, theirs) in enumerate(connections)
    ]
    for process, (_, theirs) in zip(processes, connections, strict=True):
        process.start()
        theirs.close()  # with this end held by its process alone, the other one hears of its death
    pipes = [ours for ours, _ in connections]
    for pipe in pipes:
        receive(pipe)
    best = {}
    for number in range(rounds + 1):
        seconds = {(way, piece): together(pipes, way, piece) for piece in range(PIECES) for way in WAYS}
        started = time.perf_counter()
        for plan in made:
            finish_store(plan, folder / plan.name)
        seconds["extract", "index"] = time.perf_counter() - started
        if number:  # the first round warms up
            best = {key: min(value, best.get(key, value)) for key, value in seconds.items()}
    for pipe in pipes:
        pipe.send(None)
    for process in processes:
        process.join()
    totals = {way: sum(value for key, value in best.items() if key[0] == way) for way in WAYS}
    return totals, sum(plan.rows.num_rows for plan in made)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "corpora")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not options.recordings.is_dir():
        sys.exit(f"no recordings in {options.recordings}; give --recordings a folder with emodb/ and ravdess/")
    result = {}
    for hop_ms in HOPS_MS:
        folder = Path(tempfile.mkdtemp(prefix="emodarts-benchmark-"))
        try:
            best, count = measure(options.recordings, folder, hop_ms, options.rounds)
        finally:
            shutil.rmtree(folder)
        ratios = {
            "librosa_ratio": round(best["librosa"] / best["spectra"], 2),
            "decode_ratio": round(best["extract"] / best["decode"], 2),
        }
        times = ", ".join(f"{way} {seconds:.3f} s" for way, seconds in best.items())
        print(f"{hop_ms:g} ms hop, {count} recordings on {PROCESSES} processes: {times}; {ratios}")
        result.update(ratios if hop_ms == HOPS_MS[0] else {f"{k}_{hop_ms:g}ms": v for k, v in ratios.items()})
    print(json.dumps(result))


if __name__ == "__main__":
    main()
