"""The audit: what it finds in planted and in real corpora."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from emodarts import corpora
from emodarts.audit import background
from emodarts.audit import cues as cue_room
from emodarts.audit.audit import audit_corpus
from emodarts.audit.background import audit_in_background
from emodarts.audit.counts import group_reasons
from emodarts.audit.data import AuditData
from emodarts.audit.folds import audit_protocol
from emodarts.audit.measuring import measure_recordings
from emodarts.audit.page import render_page
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import DROPPED, UTTERANCES, Corpus
from emodarts.errors import EmodartsError
from emodarts.features.measures import MEASURES

CLASSES = ("angry", "happy", "neutral", "sad")
SETTINGS = CorpusSettings(name="manifest", root="corpus")


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """Small forests, but where a test is about their figures."""
    monkeypatch.setattr(cue_room, "TREES", 3)


def made(speakers=6, takes=5, dc_of=None, seed=0, **columns):
    """A corpus in memory (speakers x 4 classes x takes) and measures of noise; `dc_of`: class -> DC offset."""
    rng = np.random.default_rng(seed)
    keys = [(s, name, t) for s in range(speakers) for name in CLASSES for t in range(takes)]
    n = len(keys)
    names = [f"s{s:03}_{name}_{t}" for s, name, t in keys]
    given = {
        "utterance": [f"manifest/{name}" for name in names],
        "corpus": ["manifest"] * n,
        "path": [f"{name}.wav" for name in names],
        "speaker": [f"manifest/s{s:03}" for s, _, _ in keys],
        "gender": [("female", "male")[s % 2] for s, _, _ in keys],
        "intended": [name for _, name, _ in keys],
        "sample_rate": [16000] * n,
        "channels": [1] * n,
        "frames": [16000 + i for i in range(n)],
        **columns,
    }
    table = pa.table([pa.array(given.get(f.name, [None] * n), f.type) for f in UTTERANCES], schema=UTTERANCES)
    offset = np.array([(dc_of or {}).get(name, 0.0) for _, name, _ in keys])
    measured = {
        "utterance": given["utterance"],
        "audio_hash": [f"{i:016x}" for i in range(n)],
        "seconds": rng.uniform(1, 4, n),
        "leading_zeros": np.zeros(n),
        "trailing_zeros": np.zeros(n),
        "dc": offset + rng.normal(0, 1e-4, n),
        "noise_floor": rng.normal(-60, 5, n),
        "peak": rng.uniform(0.3, 0.7, n),
        "clipped": np.zeros(n),
    }
    measures = pa.table([pa.array(measured[f.name], f.type) for f in MEASURES], schema=MEASURES)
    return Corpus("manifest", Path("corpus"), table, DROPPED.empty_table()), measures


def audit_of(corpus, measures, settings=SETTINGS):
    labels = label_utterances(corpus.utterances, settings)
    try:
        folds = make_folds(settings, corpus.utterances, labels)
    except EmodartsError as error:
        folds = error
    return audit_corpus(corpus, labels, folds, measures, settings)


def changed(measures, **columns):
    """Measures with single values changed: column -> {utterance: value}."""
    rows = measures.to_pylist()
    for name, values in columns.items():
        for row in rows:
            row[name] = values.get(row["utterance"], row[name])
    return pa.Table.from_pylist(rows, MEASURES)


def about(found, subject):
    return [finding for finding in found.findings if finding.subject == subject]


# --- planted faults ---


def test_a_clean_corpus_has_no_leak_and_no_warning():
    found = audit_of(*made(text=[str(i) for i in range(120)]))
    assert found.worst_severity() in ("ok", "note")
    assert (found.utterances, found.labelled, found.classes) == (120, 120, CLASSES)
    assert about(found, "speakers")[0].severity == "ok"
    assert about(found, "texts")[0].severity == "ok"


def test_the_same_recording_in_train_and_test_is_a_leak_and_named():
    corpus, measures = made()
    pair = ("manifest/s000_sad_0", "manifest/s003_sad_1")
    found = audit_of(corpus, changed(measures, audio_hash=dict.fromkeys(pair, "same")))
    (finding,) = about(found, "equal recordings across roles")
    assert finding.severity == "leak"
    assert pair[0] in finding.fact
    assert pair[1] in finding.fact
    assert "train and test" in finding.fact
    assert found.findings[0].severity == "leak"
    (same,) = found.recordings.duplicates
    assert same.utterances == pair
    assert same.leaks


def test_the_same_recording_in_train_and_dev_alone_is_a_warning():
    corpus, measures = made()
    labels = label_utterances(corpus.utterances, SETTINGS)
    folds = make_folds(SETTINGS, corpus.utterances, labels)[:1]
    pair = (folds[0].train[0], folds[0].dev[0])
    found = audit_corpus(corpus, labels, folds, changed(measures, audio_hash=dict.fromkeys(pair, "same")), SETTINGS)
    assert about(found, "equal recordings in train and dev")[0].severity == "warning"
    assert not about(found, "equal recordings across roles")


def test_the_same_recording_within_a_speaker_is_a_note_and_under_two_labels_a_warning():
    corpus, measures = made()
    same = {
        "manifest/s000_sad_0": "a",
        "manifest/s000_sad_1": "a",
        "manifest/s001_sad_0": "b",
        "manifest/s001_angry_0": "b",
    }
    found = audit_of(corpus, changed(measures, audio_hash=same))
    assert "2 groups" in about(found, "equal recordings")[0].fact
    assert about(found, "equal recordings")[0].severity == "note"
    assert "as angry, sad" in about(found, "one recording, several labels")[0].fact


def test_silent_recordings_are_named_and_are_no_duplicates():
    corpus, measures = made()
    silent = ("manifest/s000_sad_0", "manifest/s003_sad_1")
    nothing = dict.fromkeys(silent, 0.0)
    found = audit_of(corpus, changed(measures, audio_hash=dict.fromkeys(silent, "0"), peak=nothing, dc=nothing))
    assert "2 of 120" in about(found, "silent")[0].fact
    assert silent[0] in about(found, "silent")[0].fact
    assert found.recordings.duplicates == ()


def test_shared_texts_are_counted_per_fold():
    texts = ["" if i % 20 else "hello" for i in range(120)]  # the first utterance of each speaker
    texts = [text or f"own {i}" for i, text in enumerate(texts)]
    found = audit_of(*made(text=texts))
    (finding,) = about(found, "texts")
    assert finding.severity == "note"
    assert finding.fact.startswith("6 of 120 test utterances (5%)")
    for fold in found.protocol.folds:
        test = fold.parts[-1]
        assert test.shared_texts == 1
        assert test.with_shared_text == len(test.speakers)
    everywhere = audit_of(*made(text=["hello"] * 120))
    assert about(everywhere, "texts")[0].severity == "warning"
    assert everywhere.texts.shared_by_speakers == 1


@pytest.mark.slow
def test_a_planted_cue_gives_a_high_figure_and_without_it_chance(monkeypatch):
    monkeypatch.setattr(cue_room, "TREES", 20)
    planted = {"angry": 0.004, "happy": 0.002, "neutral": 0.0, "sad": -0.002}
    clean, dirty = audit_of(*made(10, 8)), audit_of(*made(10, 8, planted))
    assert dirty.cues.figure("DC offset") > 0.95
    assert dirty.cues.figure(cue_room.ALL) > 0.9
    assert dirty.cues.figure(cue_room.WITHOUT_DC) == clean.cues.figure(cue_room.WITHOUT_DC)
    assert abs(clean.cues.figure(cue_room.ALL) - 0.25) < clean.cues.margin
    assert clean.cues.chance == 0.25
    assert about(clean, "non-emotional cues")[0].severity == "ok"
    assert about(dirty, "non-emotional cues")[0].severity == "leak"
    assert about(dirty, "DC offset")[0].severity == "warning"  # of .001 and more in three classes of four


@pytest.mark.slow
def test_cue_figures_use_no_test_speaker(monkeypatch):
    """A DC offset that differs by speaker and class, but follows no rule over speakers, must not look like a cue."""
    monkeypatch.setattr(cue_room, "TREES", 20)
    rng = np.random.default_rng(1)
    corpus, measures = made(10, 8)
    level = {f"{s}{name}": rng.normal() for s in range(10) for name in CLASSES}
    dc = {u: level[f"{int(u[10:13])}{u.split('_')[1]}"] for u in corpus.utterances["utterance"].to_pylist()}
    assert abs(audit_of(corpus, changed(measures, dc=dc)).cues.figure("DC offset") - 0.25) < 0.12


def test_large_corpora_are_subsampled_and_it_is_said(monkeypatch):
    monkeypatch.setattr(cue_room, "TRAIN_ROWS", 500)
    monkeypatch.setattr(cue_room, "TEST_ROWS", 500)
    monkeypatch.setattr(cue_room, "_LEAST_TRAIN_ROWS", 40)
    corpus, measures = made(10, 20, {"angry": 0.1, "happy": 0.05, "neutral": 0.0, "sad": -0.1})
    found = audit_of(corpus, measures)
    assert found.cues.subsampled == "500 of 3,200 train rows and 500 of 800 test rows over all folds"
    assert found.cues.test_utterances == 500
    assert found.cues.figure("DC offset") > 0.9
    assert found.cues == audit_of(corpus, measures).cues


def test_oddities_and_mixes_are_reported():
    n = 120
    corpus, measures = made(sample_rate=[16000] * (n - 1) + [96000], channels=[2] + [1] * (n - 1))
    ids = corpus.utterances["utterance"].to_pylist()
    angry = {u: 0.01 for u in ids if "angry" in u}
    found = audit_of(corpus, changed(measures, clipped=angry, trailing_zeros={ids[5]: 0.5}, peak={ids[7]: 2e-4}))
    assert about(found, "clipped")[0].severity == "warning"
    assert about(found, "clipped")[0].fact.startswith("30 of 120 (angry 30 of 30; happy 0 of 30")
    assert ids[5] in about(found, "zeros at an end")[0].fact
    assert ids[7] in about(found, "very quiet")[0].fact
    assert about(found, "sample rates")[0].fact == "119 at 16000 Hz, 1 at 96000 Hz"
    assert "1 at 2 channel(s)" in about(found, "channels")[0].fact


def test_unknown_speakers_and_speakers_that_do_not_add_up():
    speakers = [f"manifest/s{i // 20:03}" if i > 3 else None for i in range(120)]
    genders = ["female"] * 119 + ["male"]
    found = audit_of(*made(speaker=speakers, gender=genders, recording=[f"r{i}" for i in range(120)]))
    assert about(found, "unknown speakers")[0].fact == "4 utterances"
    assert any("manifest/s005: female, male" in f.fact for f in about(found, "speakers"))
    assert all(part.unknown_speakers == 0 for fold in found.protocol.folds for part in fold.parts[1:])


def test_a_protocol_that_leaks_is_found_out_whatever_it_promises():
    corpus, measures = made()
    labels = label_utterances(corpus.utterances, SETTINGS)
    fold = make_folds(SETTINGS, corpus.utterances, labels)[0]
    (test,) = fold.tests.values()
    leaking = replace(fold, train=(*fold.train, test[0]), tests={"manifest/test": test[1:]})
    shown = audit_protocol(AuditData.of(corpus.utterances, labels, measures, SETTINGS), [leaking], SETTINGS)
    speaker = corpus.utterances["speaker"].to_pylist()[corpus.utterances["utterance"].to_pylist().index(test[0])]
    assert shown.folds[0].shared_speakers == {"train and manifest/test": (speaker,)}
    found = audit_corpus(corpus, labels, [leaking], measures, SETTINGS)
    assert about(found, "speakers, fold 0")[0].severity == "leak"
    assert not about(found, "speakers")


def test_overlapping_parts_of_one_file_in_two_roles_are_a_leak():
    corpus, measures = made()
    rows = corpus.utterances.to_pylist()
    first, second = rows[0], next(row for row in rows if row["speaker"] != rows[0]["speaker"])
    for row, start, end in ((first, 0.0, 0.8), (second, 0.2, 0.9)):
        row.update(path="one.wav", start=start, end=end)
    found = about(audit_of(replace(corpus, utterances=pa.Table.from_pylist(rows, UTTERANCES)), measures), OVERLAP)
    assert found[0].severity == "leak"
    assert first["utterance"] in found[0].fact
    assert second["utterance"] in found[0].fact
    second.update(start=0.75)  # they speak at once for a moment
    assert not about(audit_of(replace(corpus, utterances=pa.Table.from_pylist(rows, UTTERANCES)), measures), OVERLAP)


OVERLAP = "overlapping parts of one file"


def test_utterances_without_measures_are_counted_and_rows_of_others_ignored():
    corpus, measures = made()
    stranger = changed(measures.slice(0, 1), utterance={"manifest/s000_angry_0": "manifest/nobody"})
    found = audit_of(corpus, pa.concat_tables([measures.slice(2), stranger]))
    assert (found.recordings.measured, found.recordings.not_measured.count) == (118, 2)
    none = audit_of(corpus, MEASURES.empty_table())
    assert none.recordings.measured == 0
    assert "no fold has measured recordings" in none.cues.reason
    assert json.loads(none.to_json())["cues"]["chance"] is None


@pytest.mark.parametrize(("lost", "severity"), [(0, "note"), (1, "warning")])
def test_many_drops_are_a_warning_unless_the_copy_is_as_published(lost, severity, recordings):
    settings = CorpusSettings(name="emodb", root=str(recordings / "emodb"))
    corpus = corpora.read(settings)
    junk = pa.Table.from_pylist(
        [{"path": f"._{i}.wav", "reason": "a hidden file or folder"} for i in range(300)], DROPPED
    )
    found = audit_of(
        replace(corpus, utterances=corpus.utterances.slice(lost), dropped=junk), MEASURES.empty_table(), settings
    )
    assert about(found, "dropped")[0].severity == severity


def test_reasons_are_grouped_by_kind():
    found = group_reasons(
        [("a", "the file is cut: 10 of 20"), ("b", "the file is cut: 7 of 9"), ("c", "the file is missing")]
    )
    assert [(r.reason, r.count, r.examples) for r in found] == [
        ("the file is cut: … of …", 2, ("a", "b")),
        ("the file is missing", 1, ("c",)),
    ]


@pytest.mark.slow
def test_fifty_thousand_utterances_take_seconds():
    corpus, measures = made(500, 25, text=[str(i % 3000) for i in range(50_000)])
    settings = replace(SETTINGS, protocol="speaker5")
    labels = label_utterances(corpus.utterances, settings)
    folds = make_folds(settings, corpus.utterances, labels)
    start = time.process_time()
    found = audit_corpus(corpus, labels, folds, measures, settings)
    render_page(found)
    found.to_json()
    assert found.cues.subsampled is not None
    assert time.process_time() - start < 15  # about 3 s alone


# --- real recordings ---


def real_corpus(recordings, name):
    settings = CorpusSettings(name=name, root=str(recordings / name))
    return corpora.read(settings), settings


@pytest.fixture(scope="module")
def real_measures(recordings):
    """Of EmoDB and RAVDESS, in this process."""
    found = {}
    for name in ("emodb", "ravdess"):
        corpus, _ = real_corpus(recordings, name)
        found[name], dropped = measure_recordings(corpus.utterances, corpus.root, processes=1)
        assert dropped == ()
    return found


@pytest.fixture(scope="module")
def real(recordings, real_measures):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cue_room, "TREES", 30)
        found = {}
        for name, measures in real_measures.items():
            corpus, settings = real_corpus(recordings, name)
            found[name] = audit_of(corpus, measures, settings)
        return found


@pytest.mark.slow
def test_emodb_gives_its_labels_away_by_dc_before_all(real):
    found = real["emodb"]
    alone = {f.name: f.uar for f in found.cues.figures if len(f.cues) < 3}
    assert found.cues.figure(cue_room.ALL) == pytest.approx(0.62, abs=0.05)
    assert max(alone, key=alone.get) == "DC offset"
    assert alone["DC offset"] > 0.44
    assert about(found, "non-emotional cues")[0].severity == "leak"
    sad, angry = (
        next(o for o in found.recordings.oddities if o.name == "DC offset").classes[c] for c in ("sad", "angry")
    )
    assert sad > 10 * angry
    assert about(found, "published counts")[0].severity == "ok"
    assert about(found, "texts")[0].fact.startswith("339 of 339 test utterances (100%)")
    assert found.texts.texts == 10
    assert found.recordings.duplicates == ()


@pytest.mark.slow
def test_ravdess_has_one_duplicate_and_two_sentences(real):
    found = real["ravdess"]
    assert found.cues.figure(cue_room.ALL) == pytest.approx(0.32, abs=0.05)
    (same,) = found.recordings.duplicates
    assert same.utterances == ("ravdess/03-01-03-01-02-01-07", "ravdess/03-01-03-01-02-02-07")
    assert same.folds == ()  # one speaker: the same role in every fold
    assert about(found, "equal recordings")[0].severity == "note"
    assert found.texts.texts == 2
    assert about(found, "published counts")[0].severity == "ok"


@pytest.mark.slow
def test_measuring_in_processes_gives_the_same_as_in_one(recordings, real_measures):
    corpus, _ = real_corpus(recordings, "emodb")
    steps = []
    two, _ = measure_recordings(corpus.utterances, corpus.root, 2, lambda done, total: steps.append((done, total)))
    assert real_measures["emodb"].equals(two)
    assert steps[-1] == (535, 535)


# --- in a process of its own ---


def audited_parts():
    corpus, measures = made(speakers=3, takes=2)
    labels = label_utterances(corpus.utterances, SETTINGS)
    return corpus, labels, make_folds(SETTINGS, corpus.utterances, labels), measures, SETTINGS


def test_in_a_process_of_its_own_it_is_the_same_audit(monkeypatch):
    monkeypatch.setattr(cue_room, "TREES", 100)  # as that process has it
    parts = audited_parts()
    assert audit_in_background(*parts).to_json() == audit_corpus(*parts).to_json()


def test_what_it_raises_there_is_raised():
    corpus, labels, folds, measures, _ = audited_parts()
    with pytest.raises(AttributeError, match="name"):
        audit_in_background(corpus, labels, folds, measures, None)


def test_a_process_that_dies_is_one_sentence(monkeypatch):
    real = subprocess.Popen

    def killed(*arguments, **options):
        process = real(*arguments, **options)
        process.kill()
        return process

    monkeypatch.setattr(background.subprocess, "Popen", killed)
    with pytest.raises(EmodartsError, match="audited manifest ended with -9: memory may be short"):
        audit_in_background(*audited_parts())


def test_it_does_not_outlive_who_waits_for_it():
    process = subprocess.Popen([sys.executable, "-m", "emodarts.audit.background"], stdin=subprocess.PIPE)
    process.stdin.write(b"half of a ")
    process.stdin.close()
    assert process.wait(60) == 1


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="the scheduling class is Linux's")
def test_it_takes_there_what_processor_time_nobody_wants():
    program = """
import os
from emodarts.audit.background import yield_processors
yield_processors()
print(os.nice(0), os.sched_getscheduler(0) == os.SCHED_IDLE)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == "19 True\n"
