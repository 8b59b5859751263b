"""What each normalisation is worth on dev, and what enrolment by few recordings or unequal classes costs.

    python tests/benchmarks/normalisation.py --corpora FOLDER [--system svm] [--folds 0 1] [--epochs 12] [--draws 5]

FOLDER holds copies of EmoDB and RAVDESS. Four classes, the corpora's default protocols, the dev part of each fold, and
nothing of its test part: UAR, the mean over folds. Training speakers have all of their recordings; `speaker@k` takes k
recordings of each dev speaker, in the mean over some draws. `neutral alone` enrols a dev speaker by its neutral
recordings, `70 % neutral` by these and 3/7 as many others: acted corpora have the classes in equal parts, life has not.
Last line: one JSON object. `neutral_enrolment_ratio`: UAR by neutral recordings alone over that by all of a speaker's,
of the corpora's means.
"""

import argparse
import json
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from emodarts import corpora
from emodarts.corpora.settings import CorpusSettings
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.fold_settings import SVM, FoldSettings
from emodarts.experiment.stages import hand_designed, predict_part, train
from emodarts.experiment.training_corpus import TrainingCorpus, extract_features
from emodarts.features.batches import FoldPart
from emodarts.features.normalisation import GroupStandardiser, Normaliser, enrolled_recordings
from emodarts.features.settings import FeatureSettings
from emodarts.metrics import uar
from emodarts.training import svm
from emodarts.training.settings import TrainingSettings

CORPORA, SIZES = ("emodb", "ravdess"), (1, 2, 5, 10)
NEUTRAL, MIXED = "neutral alone", "70 % neutral"


def measure(corpus, system, epochs, folds, draws):
    """Rule or enrolment -> UAR on the dev part of each fold."""
    figures = {}
    for fold in corpus.folds if folds is None else [corpus.folds[number] for number in folds]:
        for rule in ("train", "utterance", "speaker"):
            settings = FoldSettings(
                FeatureSettings(normalisation=rule), training=TrainingSettings(epochs=epochs), system=system
            )
            data = FoldData.of(corpus.store, fold, settings)
            predict = fitted(data)
            figures.setdefault(rule, []).append(uar_of(predict(data.dev), data.dev))
        by_speaker = recordings_of(fold)
        for name, enrolments in enrolments_of(fold, by_speaker, draws).items():
            parts = [enrolled_part(data, by_speaker, enrolled) for enrolled in enrolments]
            figures.setdefault(name, []).append(mean(uar_of(predict(part), part) for part in parts))
    return figures


def fitted(data):
    """What predicts a part: an SVM or a network, trained on the fold's train part."""
    if data.settings.system == SVM:
        return svm.fit(data.train, len(data.fold.classes), data.settings.training.svm_penalty, 0).predict
    network = train(data, hand_designed(data)).network
    return lambda part: predict_part(data, network, part)


def uar_of(probabilities, part):
    """UAR of predictions on a part."""
    return uar(part.labels, probabilities.argmax(1), probabilities.shape[1])


def recordings_of(fold):
    """Dev speaker -> recordings."""
    speakers = sorted({fold.speakers[u] for u in fold.dev})
    return {speaker: [u for u in fold.dev if fold.speakers[u] == speaker] for speaker in speakers}


def enrolments_of(fold, by_speaker, draws):
    """Name -> for each draw, dev speaker -> the recordings that its statistics are taken from."""

    def drawn(recordings, speaker, size, draw):
        return enrolled_recordings(recordings, speaker if draw == 0 else f"{speaker}, draw {draw}", size)

    def mixed(recordings, speaker, draw):
        neutral = [u for u in recordings if fold.labels[u] == "neutral"]
        others = [u for u in recordings if fold.labels[u] != "neutral"]
        return neutral + drawn(others, speaker, max(1, round(len(neutral) * 3 / 7)), draw)

    enrolments = {
        f"speaker@{size}": [{s: drawn(ids, s, size, draw) for s, ids in by_speaker.items()} for draw in range(draws)]
        for size in SIZES
    }
    neutral = {s: [u for u in ids if fold.labels[u] == "neutral"] for s, ids in by_speaker.items()}
    if all(neutral.values()):
        enrolments[NEUTRAL] = [neutral]
        enrolments[MIXED] = [{s: mixed(ids, s, draw) for s, ids in by_speaker.items()} for draw in range(draws)]
    return enrolments


def enrolled_part(data, by_speaker, enrolled):
    """The dev part, each speaker normalised by some of its recordings."""
    means, deviations, rows, groups = [], [], [], []
    for number, (speaker, ids) in enumerate(enrolled.items()):
        normaliser = Normaliser(data.store, "speaker", {"dev": ids}, data.fold.speakers, data.standardiser)
        own, positions = normaliser.standardiser(ids), data.store.positions(by_speaker[speaker])
        means.append(own.means[0])
        deviations.append(own.deviations[0])
        rows += positions.tolist()
        groups += [number] * len(positions)
    order = np.argsort(rows)
    standardiser = GroupStandardiser(
        torch.stack(means), torch.stack(deviations), np.array(rows)[order], np.array(groups)[order]
    )
    return FoldPart.of(data.store, standardiser, data.fold, data.fold.dev)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--system", default=SVM, help="svm, or a network that is designed by hand")
    parser.add_argument("--epochs", type=int, default=12, help="of a network's training")
    parser.add_argument("--folds", type=int, nargs="*", help="numbers of the folds; all without it")
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = {}
    for name in CORPORA:
        settings = CorpusSettings(name=name, root=str(options.corpora / name))
        read = corpora.read(settings)
        corpus = TrainingCorpus.of(settings, read, *extract_features(read, FeatureSettings(), "cpu"))
        figures = measure(corpus, options.system, options.epochs, options.folds, options.draws)
        columns[name] = {rule: mean(by_fold) for rule, by_fold in figures.items()}
    print(f"| {options.system}, log-mel, dev UAR | {' | '.join(CORPORA)} |\n|---|{'---:|' * len(CORPORA)}")
    for rule in columns[CORPORA[0]]:
        print(f"| {rule} | {' | '.join(f'{columns[name][rule]:.3f}' for name in CORPORA)} |")
    neutral, speaker = (mean(columns[name][rule] for name in CORPORA) for rule in (NEUTRAL, "speaker"))
    print(json.dumps({"neutral_enrolment_ratio": round(neutral / speaker, 3)}))


if __name__ == "__main__":
    main()
