"""Results that no search made: sweeps with planted figures, written by the writer of real ones."""

import json
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from emodarts.audit.model import Finding
from emodarts.networks.genotype import Edge, Genotype
from emodarts.networks.network import NetworkShape
from emodarts.networks.operations import CNN_OPERATIONS
from emodarts.networks.sequence import SEQUENCE_OPERATIONS
from emodarts.records import EpochRecord, Evaluation, GenotypeRecord, TrialRecord, UnitKey, UnitRecords
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage

CLASSES = ("angry", "happy", "neutral", "sad")
SHAPE = NetworkShape(4, 1, 64, 3, 3, 8, 1, 2, 32, 16, (4, 2))
SIZES = {"search": {"channels": 8, "sequence_width": 32}, "training": {"channels": 16, "sequence_width": None}}


@dataclass(frozen=True)
class Made:
    """A sweep to be written: `skills` of the systems (how often they are right), folds of one test speaker each."""

    name: str = "made-1"
    corpus: str = "made"
    skills: dict[str, float] = field(default_factory=lambda: {"emodarts": 0.7})
    folds: int = 4
    speakers: int = 1  # of a test part
    takes: int = 3  # of a speaker and class
    trials: int = 3
    seeds: int = 1
    classes: tuple[str, ...] = CLASSES
    crosses: dict[str, float] = field(default_factory=dict)  # other corpora, and the skill there
    shared: bool = False
    rule: str = "late_dev"
    suffix: str = ""  # of the protocol
    protocol_caveat: str | None = None
    source: str | None = None
    marks: str = "h"  # of the fold hashes
    beside: tuple[str, ...] = ()  # corpora that were trained on, too
    normalisation: str = "train"
    again: int | None = None  # fold i tests the speakers of fold i mod so many
    gender: bool = False  # a table of utterances, in which every other speaker is a woman
    gap: float = 0.0  # how much less often men are recognised

    def key(self, system, fold, trial=0, seed=0):
        study = "shared" if self.shared else f"fold{fold}"
        protocol = f"{self.corpus}/speaker{self.folds}{self.suffix}"
        place = (
            self.name,
            system,
            study,
            trial,
            seed,
            (self.corpus, *self.beside),
            protocol,
            fold,
            f"{self.marks}{fold}",
        )
        source = None if self.source is None else f"{self.source}/{system}/fold{fold}/0/0/{fold}"
        return UnitKey(*place, self.classes, genotype_from=source, protocol_caveat=self.protocol_caveat)


def write(root, made: Made):
    """Write the sweep below a results folder; the same each time."""
    storage = Storage.open(root)
    register(storage, made.name, {"corpus.name": made.corpus, "sweep.seed": 0})
    writer = SweepWriter(storage, made.name)
    finding = asdict(Finding("warning", "texts", "8 texts stand in train and test", "divide by text"))
    audit = {"findings": [finding], "cues": {"figures": [{"name": "all together", "uar": 0.4}], "chance": 0.25}}
    dropped = [{"path": f"{made.corpus}/bad.wav", "reason": "it holds <no> sound"}]
    writer.write_corpus(made.corpus, 100, dropped, {"fear": 7}, json.dumps(audit))
    if made.gender:
        writer.write_utterances(made.corpus, utterance_rows(made))
    for number, (system, skill) in enumerate(made.skills.items()):
        for trial in range(made.trials):
            rng = np.random.default_rng([number, trial])
            parameters = {"search.nodes": 1 + trial % 3, "training.learning_rate": 10.0 ** -(1 + rng.uniform(0, 3))}
            for seed in range(made.seeds if trial == 0 else 1):
                for fold in range(made.folds):
                    rng = np.random.default_rng([number, trial, seed, fold])
                    better = skill - 0.1 * trial
                    writer.commit(made.key(system, fold, trial, seed), unit(made, system, fold, better, rng), "x")
                    if not made.shared or fold == made.folds - 1:
                        study, value = made.key(system, fold).study, (0.9 - 0.1 * trial + 0.001 * fold,)
                        writer.write_trial(
                            TrialRecord(system, study, trial, seed, parameters, "complete", values=value)
                        )
        writer.write_importances(system, "fold0", {"search.nodes": 0.7, "training.learning_rate": 0.3})
    return storage.path(made.name)


def utterance_rows(made):
    """What is known of the utterances: gender, one session, durations."""
    rows = []
    for number in range(made.folds * made.speakers):
        speaker = f"{made.corpus}/s{number:03d}"
        for label in made.classes:
            for take in range(made.takes):
                name = f"{speaker}-{label}-{take}"
                row = dict.fromkeys(("start", "end", "scenario", "text", "audio_hash"))
                row |= {"utterance": name, "path": f"{name.partition('/')[2]}.wav", "speaker": speaker, "session": "1"}
                rows.append({**row, "gender": ("female", "male")[number % 2], "seconds": 1.0 + take + number / 100})
    return rows


def unit(made, system, fold, skill, rng):
    """Records of a unit: dev is the test part of the next fold, as in rotating folds."""
    groups = made.again or made.folds
    parts = [("dev", f"{made.corpus}/dev", (fold + 1) % groups), ("test", f"{made.corpus}/test", fold % groups)]
    evaluations = [
        replace(evaluation(made, made.corpus, role, name, skill, rng, group), normalisation=made.normalisation)
        for role, name, group in parts
    ]
    for corpus, there in made.crosses.items():
        for normalisation in (made.normalisation, "test"):
            found = evaluation(made, corpus, "cross", f"{corpus}/all", there, rng, 0)
            evaluations.append(replace(found, normalisation=normalisation))
    searched = system.startswith("emodarts")
    epochs = [EpochRecord("train", e, 1 / (e + 1), 1.0, 0.4 + 0.05 * e + skill / 10, 0.5, 0.1) for e in range(6)]
    if searched:
        epochs += [
            EpochRecord("search", e, 1.4 / (e + 1), 1.0, 0.3 + 0.05 * e, 0.5, 0.1, 1.0, 2.0 - 0.2 * e, 0.1, e % 3)
            for e in range(5)
        ]
    genotypes = (GenotypeRecord("final", genotype(fold).to_json(), SHAPE.to_json(), 4),) if searched else ()
    settings = json.dumps({"features": {"kind": "log_mel"}, "system": system, **SIZES})
    about = ("a1b2c3d4e5f6a7", json.dumps({"torch": "2.14.1"}))
    size = int(20_000 * (1 + rng.uniform(0, 4)))
    return UnitRecords(tuple(evaluations), tuple(epochs), genotypes, size, 5, 1, 1, 1, settings, *about)


def evaluation(made, corpus, role, name, skill, rng, group):
    """Predictions of a group of speakers: right with the chance `skill`, more or less so by speaker."""
    ids, speakers, labels, rows = [], [], [], []
    for s in range(made.speakers):
        speaker = f"{corpus}/s{group * made.speakers + s:03d}"
        gap = made.gap * ((group * made.speakers + s) % 2)
        mine = np.clip(skill - gap + np.random.default_rng([group, s]).normal(0, 0.05), 0, 1)
        for c, label in enumerate(made.classes):
            for take in range(made.takes):
                right = rng.uniform() < mine
                answer = c if right else int((c + 1 + rng.integers(len(made.classes) - 1)) % len(made.classes))
                row = np.full(len(made.classes), 0.1 / (len(made.classes) - 1), np.float32)
                row[answer] = 0.9
                ids.append(f"{speaker}-{label}-{take}")
                speakers.append(speaker)
                labels.append(label)
                rows.append(row)
    return Evaluation(
        "final", made.rule, role, name, "train", tuple(ids), tuple(speakers), tuple(labels), np.array(rows)
    )


def genotype(number):
    """A genotype of three nodes and two sequence nodes; other numbers, other operations."""
    cnn, sequence = list(CNN_OPERATIONS), list(SEQUENCE_OPERATIONS)

    def cell(operations, nodes, shift):
        edges = [[(n + e * 3 + shift + number) % len(operations) for e in range(2)] for n in range(nodes)]
        return tuple(
            tuple(Edge(operations[o], (n + e) % (n + 2)) for e, o in enumerate(found)) for n, found in enumerate(edges)
        )

    return Genotype(cell(cnn, 3, 0), cell(cnn, 3, 2), cell(sequence, 2, 1))
