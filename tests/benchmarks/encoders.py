"""Cost of an encoder's features: the whole extraction against the encoder's forward passes alone, on one thread.

    python tests/benchmarks/encoders.py [--recordings FOLDER] [--model FOLDER] [--files 100] [--rounds 3]

Whole extraction: from the files to a finished store on the disk. Forward passes alone: the same utterances, one by one,
from mel frames in memory through the convolutions and blocks up to the middle layer, by the library's own modules. Both
run in turns; of each the best round counts, in seconds of one thread's processor time. Last line: one JSON object.
`encoder_ratio`: extraction over forward passes;
`real_time_fraction`: extraction over the seconds of sound that were encoded.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

SHARED = Path(__file__).resolve().parents[3] / "shared"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, default=SHARED / "corpora", help="a folder with emodb/")
    parser.add_argument("--model", type=Path, default=SHARED / "encoders" / "whisper-tiny.en", help="a Whisper")
    parser.add_argument("--files", type=int, default=100, help="of EmoDB, evenly chosen")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    import torch
    from torch.nn import functional as F

    from emodarts import corpora
    from emodarts.corpora.settings import CorpusSettings
    from emodarts.features.audio import decode, prepare
    from emodarts.features.extractors.extractor import make_extractor
    from emodarts.features.settings import FeatureSettings
    from emodarts.features.store.building import finish_store
    from emodarts.features.store.extraction import extract_shard
    from emodarts.features.store.plan import ExtractionPlan

    torch.set_num_threads(1)
    settings = FeatureSettings(kind="encoder", model=str(options.model), speeds=[1.0])
    corpus = corpora.read(CorpusSettings(name="emodb", root=str(options.recordings / "emodb")))
    step = max(1, corpus.utterances.num_rows // options.files)
    utterances = corpus.utterances.take(list(range(0, corpus.utterances.num_rows, step))[: options.files])
    plan = ExtractionPlan.of(utterances, corpus.root, settings)
    extractor = make_extractor(settings)
    encoder, mels, seconds = extractor.model, [], 0.0
    for path in utterances["path"].to_pylist():
        sound = prepare(*decode(corpus.root / path), settings)
        seconds += len(sound) / settings.sample_rate
        mels.append(extractor._extracted(torch.from_numpy(sound), padding="longest").input_features)

    def extract():
        with tempfile.TemporaryDirectory() as folder:
            plan.write(Path(folder))
            for number in range(plan.shards):
                extract_shard(plan, number, Path(folder), extractor)
            finish_store(plan, Path(folder))

    @torch.no_grad()
    def forward():
        for mel in mels:
            x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2)
            x = x + encoder.embed_positions.weight[: x.shape[1]]
            for block in encoder.layers[: plan.settings.layers[0]]:
                x = block(x, None)

    best = dict.fromkeys((extract, forward), float("inf"))
    for _ in range(options.rounds):
        for way in best:
            start = time.process_time()
            way()
            best[way] = min(best[way], time.process_time() - start)
    print(f"{options.model.name}, layer {plan.settings.layers}: {len(mels)} utterances, {seconds:.0f} s of sound")
    print(f"whole extraction {best[extract]:.2f} s, forward passes alone {best[forward]:.2f} s")
    ratios = {
        "encoder_ratio": best[extract] / best[forward],
        "real_time_fraction": best[extract] / seconds,
    }
    print(json.dumps({name: round(value, 4) for name, value in ratios.items()}))


if __name__ == "__main__":
    main()
