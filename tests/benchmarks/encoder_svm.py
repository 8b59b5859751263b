"""What a linear machine makes of the product's own store of an encoder: leave one speaker out, UAR of all predictions.

    python tests/benchmarks/encoder_svm.py emodb [--normalisation train|speaker] [--model FOLDER] [--layers 3]

Anger, happiness, neutral, sadness; recordings with their silence (features.trim_db=null). Mean and deviation over time
of each value of a frame; standardised by all training speakers (`train`), or first by each speaker's own utterances,
without labels (`speaker`); scikit-learn's LinearSVC, C .01, classes balanced. Nothing is chosen by it: it shows that a
store holds what published figures were measured on. Last line: one JSON object with `uar`.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[3] / "shared"
PENALTY = 0.01


def functionals(store, ids):
    """Mean and deviation of each utterance, `(utterances, 2 * values)`, in float64."""
    import numpy as np

    frames = (store.frames(utterance).astype(np.float64) for utterance in ids)
    return np.stack([np.concatenate([x.mean(0), x.std(0)]) for x in frames])


def leave_one_speaker_out(values, labels, speakers):
    """Predicted labels of every utterance, by a machine that did not hear its speaker."""
    import numpy as np
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    predicted = np.empty_like(labels)
    for speaker in np.unique(speakers):
        test = speakers == speaker
        machine = LinearSVC(C=PENALTY, class_weight="balanced", random_state=0, max_iter=20_000)
        predicted[test] = (
            make_pipeline(StandardScaler(), machine).fit(values[~test], labels[~test]).predict(values[test])
        )
    return predicted


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=("emodb", "ravdess", "nemo"))
    parser.add_argument("--normalisation", choices=("train", "speaker"), default="train")
    parser.add_argument("--model", type=Path, default=SHARED / "encoders" / "whisper-base")
    parser.add_argument("--layers", type=int, help="default: the middle one")
    parser.add_argument("--recordings", type=Path, default=SHARED / "corpora", help="a folder with one for each corpus")
    options = parser.parse_args()

    import numpy as np
    from sklearn.metrics import recall_score

    from emodarts import corpora
    from emodarts.corpora.labels import label_utterances
    from emodarts.corpora.settings import CorpusSettings
    from emodarts.features.settings import FeatureSettings
    from emodarts.features.store.building import build_store

    corpus_settings = CorpusSettings(
        name=options.corpus, root=str(options.recordings / options.corpus), class_set="angry,happy,neutral,sad"
    )
    corpus = corpora.read(corpus_settings)
    by_id = label_utterances(corpus.utterances, corpus_settings).by_utterance
    labelled = [utterance in by_id for utterance in corpus.utterances["utterance"].to_pylist()]
    utterances = corpus.utterances.filter(np.array(labelled))
    settings = FeatureSettings(
        kind="encoder", model=str(options.model), layers=options.layers, speeds=[1.0], trim_db=None
    )
    store = build_store(utterances, corpus.root, settings, corpora.cache_folder() / "features", processes=1)
    known = dict(zip(*(utterances[name].to_pylist() for name in ("utterance", "speaker")), strict=True))
    ids = [utterance for utterance in store.utterances.to_pylist() if utterance in by_id]
    labels, speakers = np.array([by_id[u] for u in ids]), np.array([known[u] for u in ids])
    values = functionals(store, ids)
    if options.normalisation == "speaker":
        for speaker in np.unique(speakers):
            own = speakers == speaker
            values[own] = (values[own] - values[own].mean(0)) / np.maximum(values[own].std(0), 1e-6)
    predicted = leave_one_speaker_out(values, labels, speakers)
    uar = recall_score(labels, predicted, average="macro")
    print(f"{options.corpus}: {len(ids)} utterances of {len(set(speakers))} speakers")
    about = {"corpus": options.corpus, "model": options.model.name, "normalisation": options.normalisation}
    print(json.dumps({**about, "uar": round(float(uar), 4)}))


if __name__ == "__main__":
    main()
