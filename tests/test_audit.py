"""The audit: what it finds in planted and in real corpora, and the command around it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from conftest import write_tone

from emodarts import cli, corpora
from emodarts.audit import cues as cue_room
from emodarts.audit import measuring
from emodarts.audit.audit import audit
from emodarts.audit.folds import protocol_audit
from emodarts.audit.measuring import measure_all
from emodarts.audit.page import render_page
from emodarts.audit.tallies import reasons
from emodarts.audit.view import view
from emodarts.corpora import labels as labelling
from emodarts.corpora import protocols
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
    labels = labelling.label(corpus.utterances, settings)
    try:
        folds = protocols.make(settings, corpus.utterances, labels)
    except EmodartsError as error:
        folds = error
    return audit(corpus, labels, folds, measures, settings)


def changed(measures, **columns):
    """Measures with single values changed: column -> {utterance: value}."""
    rows = measures.to_pylist()
    for name, values in columns.items():
        for row in rows:
            row[name] = values.get(row["utterance"], row[name])
    return pa.Table.from_pylist(rows, MEASURES)


def about(found, subject):
    return [finding for finding in found.findings if finding.subject == subject]


def run(capsys, *arguments):
    code = cli.main(["audit", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# --- planted faults ---


def test_a_clean_corpus_has_no_leak_and_no_warning():
    found = audit_of(*made(text=[str(i) for i in range(120)]))
    assert found.worst() in ("ok", "note")
    assert (found.utterances, found.labelled, found.classes) == (120, 120, CLASSES)
    assert about(found, "speakers")[0].severity == "ok"
    assert about(found, "texts")[0].severity == "ok"


def test_the_same_recording_in_train_and_test_is_a_leak_and_named():
    corpus, measures = made()
    pair = ("manifest/s000_sad_0", "manifest/s003_sad_1")
    found = audit_of(corpus, changed(measures, audio_hash=dict.fromkeys(pair, "same")))
    (finding,) = about(found, "equal recordings across roles")
    assert finding.severity == "leak"
    assert pair[0] in finding.found
    assert pair[1] in finding.found
    assert "train and test" in finding.found
    assert found.findings[0].severity == "leak"
    (same,) = found.recordings.duplicates
    assert same.utterances == pair
    assert same.leaks


def test_the_same_recording_in_train_and_dev_alone_is_a_warning():
    corpus, measures = made()
    labels = labelling.label(corpus.utterances, SETTINGS)
    folds = protocols.make(SETTINGS, corpus.utterances, labels)[:1]
    pair = (folds[0].train[0], folds[0].dev[0])
    found = audit(corpus, labels, folds, changed(measures, audio_hash=dict.fromkeys(pair, "same")), SETTINGS)
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
    assert "2 groups" in about(found, "equal recordings")[0].found
    assert about(found, "equal recordings")[0].severity == "note"
    assert "as angry, sad" in about(found, "one recording, several labels")[0].found


def test_silent_recordings_are_named_and_are_no_duplicates():
    corpus, measures = made()
    silent = ("manifest/s000_sad_0", "manifest/s003_sad_1")
    nothing = dict.fromkeys(silent, 0.0)
    found = audit_of(corpus, changed(measures, audio_hash=dict.fromkeys(silent, "0"), peak=nothing, dc=nothing))
    assert "2 of 120" in about(found, "silent")[0].found
    assert silent[0] in about(found, "silent")[0].found
    assert found.recordings.duplicates == ()


def test_shared_texts_are_counted_per_fold():
    texts = ["" if i % 20 else "hello" for i in range(120)]  # the first utterance of each speaker
    texts = [text or f"own {i}" for i, text in enumerate(texts)]
    found = audit_of(*made(text=texts))
    (finding,) = about(found, "texts")
    assert finding.severity == "note"
    assert finding.found.startswith("6 of 120 test utterances (5%)")
    for fold in found.protocol.folds:
        test = fold.parts[-1]
        assert test.shared_texts == 1
        assert test.with_shared_text == len(test.speakers)
    everywhere = audit_of(*made(text=["hello"] * 120))
    assert about(everywhere, "texts")[0].severity == "warning"
    assert everywhere.texts.shared_by_speakers == 1


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
    assert about(found, "clipped")[0].found.startswith("30 of 120 (angry 30 of 30; happy 0 of 30")
    assert ids[5] in about(found, "zeros at an end")[0].found
    assert ids[7] in about(found, "very quiet")[0].found
    assert about(found, "sample rates")[0].found == "119 at 16000 Hz, 1 at 96000 Hz"
    assert "1 at 2 channel(s)" in about(found, "channels")[0].found


def test_unknown_speakers_and_speakers_that_do_not_add_up():
    speakers = [f"manifest/s{i // 20:03}" if i > 3 else None for i in range(120)]
    genders = ["female"] * 119 + ["male"]
    found = audit_of(*made(speaker=speakers, gender=genders, recording=[f"r{i}" for i in range(120)]))
    assert about(found, "unknown speakers")[0].found == "4 utterances"
    assert any("manifest/s005: female, male" in f.found for f in about(found, "speakers"))
    assert all(part.unknown_speakers == 0 for fold in found.protocol.folds for part in fold.parts[1:])


def test_a_protocol_that_leaks_is_found_out_whatever_it_promises():
    corpus, measures = made()
    labels = labelling.label(corpus.utterances, SETTINGS)
    fold = protocols.make(SETTINGS, corpus.utterances, labels)[0]
    (test,) = fold.tests.values()
    leaking = replace(fold, train=(*fold.train, test[0]), tests={"manifest/test": test[1:]})
    shown = protocol_audit(view(corpus.utterances, labels, measures, SETTINGS), [leaking], SETTINGS)
    speaker = corpus.utterances["speaker"].to_pylist()[corpus.utterances["utterance"].to_pylist().index(test[0])]
    assert shown.folds[0].shared_speakers == {"train and manifest/test": (speaker,)}
    found = audit(corpus, labels, [leaking], measures, SETTINGS)
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
    assert first["utterance"] in found[0].found
    assert second["utterance"] in found[0].found
    second.update(start=0.75)  # they speak at once for a moment
    assert not about(audit_of(replace(corpus, utterances=pa.Table.from_pylist(rows, UTTERANCES)), measures), OVERLAP)


OVERLAP = "overlapping parts of one file"


def test_fewer_folds_than_the_name_says_are_a_warning(recordings, tmp_path, capsys):
    for file in (recordings / "emodb" / "wav").iterdir():
        if file.name[:2] in ("03", "08", "09", "10"):
            (tmp_path / file.name).symlink_to(file)
    code, shown, _ = run(capsys, "emodb", "--root", tmp_path)
    assert code == 0
    assert "warning protocol emodb/speaker10: 4 folds instead of 10" in " ".join(shown.split())


def test_a_setting_that_maps_columns_and_text_that_looks_like_a_number(small_corpus, capsys):
    table = small_corpus / "table.csv"
    table.write_text(table.read_text().replace("label", "mood"))
    code, _, _ = run(capsys, "manifest", "--root", small_corpus, *SAD_AND_ANGRY, "--set", "corpus.columns.label=mood")
    assert code == 0
    _, _, errors = run(capsys, "manifest", "--root", small_corpus, "--set", "corpus.table=5")
    assert "corpus.table=5: there is no such file" in errors
    settings = ("--set", "corpus.columns.label=mood", "--set", "corpus.protocol=5", *SAD_AND_ANGRY)
    _, shown, _ = run(capsys, "manifest", "--root", small_corpus, *settings)
    assert "protocol '5' does not fit manifest" in " ".join(shown.split())


def test_a_link_stays_a_link_and_a_pipe_a_pipe(small_corpus, tmp_path, capsys):
    link, target = tmp_path / "latest.json", tmp_path / "audit.json"
    link.symlink_to(target)
    code, _, _ = run(capsys, "manifest", "--root", small_corpus, *SAD_AND_ANGRY, "--json", link)
    assert code == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["corpus"] == "manifest"
    os.mkfifo(tmp_path / "pipe")
    code, _, errors = run(capsys, "manifest", "--root", small_corpus, *SAD_AND_ANGRY, "--html", tmp_path / "pipe")
    assert code == 1
    assert "is a device or a pipe" in errors


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
    found = reasons(
        [("a", "the file is cut: 10 of 20"), ("b", "the file is cut: 7 of 9"), ("c", "the file is missing")]
    )
    assert [(r.reason, r.count, r.examples) for r in found] == [
        ("the file is cut: … of …", 2, ("a", "b")),
        ("the file is missing", 1, ("c",)),
    ]


def test_fifty_thousand_utterances_take_seconds():
    corpus, measures = made(500, 25, text=[str(i % 3000) for i in range(50_000)])
    settings = replace(SETTINGS, protocol="speaker5")
    labels = labelling.label(corpus.utterances, settings)
    folds = protocols.make(settings, corpus.utterances, labels)
    start = time.process_time()
    found = audit(corpus, labels, folds, measures, settings)
    render_page(found)
    found.to_json()
    assert found.cues.subsampled is not None
    assert time.process_time() - start < 15  # about 3 s alone


# --- real recordings ---


@pytest.fixture(scope="module")
def real(recordings):
    found = {}
    for name in ("emodb", "ravdess"):
        settings = CorpusSettings(name=name, root=str(recordings / name))
        corpus = corpora.read(settings)
        measures, dropped = measure_all(corpus.utterances, corpus.root, processes=1)
        assert dropped == ()
        found[name] = audit_of(corpus, measures, settings)
    return found


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
    assert about(found, "texts")[0].found.startswith("339 of 339 test utterances (100%)")
    assert found.texts.texts == 10
    assert found.recordings.duplicates == ()


def test_ravdess_has_one_duplicate_and_two_sentences(real):
    found = real["ravdess"]
    assert found.cues.figure(cue_room.ALL) == pytest.approx(0.32, abs=0.05)
    (same,) = found.recordings.duplicates
    assert same.utterances == ("ravdess/03-01-03-01-02-01-07", "ravdess/03-01-03-01-02-02-07")
    assert same.folds == ()  # one speaker: the same role in every fold
    assert about(found, "equal recordings")[0].severity == "note"
    assert found.texts.texts == 2
    assert about(found, "published counts")[0].severity == "ok"


def test_measuring_in_processes_gives_the_same_as_in_one(recordings):
    settings = CorpusSettings(name="emodb", root=str(recordings / "emodb"))
    corpus = corpora.read(settings)
    steps = []
    one, _ = measure_all(corpus.utterances, corpus.root, processes=1)
    two, _ = measure_all(corpus.utterances, corpus.root, 2, lambda done, total: steps.append((done, total)))
    assert one.equals(two)
    assert steps[-1] == (535, 535)


# --- the command ---

SAD_AND_ANGRY = ("--set", "corpus.class_set=angry,sad")


def test_the_command_prints_and_writes_both_files(small_corpus, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    out = {kind: tmp_path / "out" / f"audit.{kind}" for kind in ("json", "html")}
    out["json"].write_text("old")
    arguments = ["manifest", "--root", small_corpus, *SAD_AND_ANGRY, "--json", out["json"], "--html", out["html"]]
    code, shown, errors = run(capsys, *arguments)
    assert (code, errors) == (0, "")
    assert "32 utterances" in shown
    assert "non-emotional cues" in shown
    assert sorted(p.name for p in out["json"].parent.iterdir()) == ["audit.html", "audit.json"]  # nothing half-written
    told = json.loads(out["json"].read_text())
    assert (told["schema_version"], told["corpus"], told["labelled"]) == (1, "manifest", 32)
    assert told["protocol"]["name"] == "manifest/speaker4"
    page = out["html"].read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "prefers-color-scheme" in page


def test_equal_files_under_two_speakers_are_found_by_the_command(small_corpus, capsys):
    shutil.copy(small_corpus / "a" / "sad0.wav", small_corpus / "c" / "sad3.wav")
    code, shown, _ = run(capsys, "manifest", "--root", small_corpus, *SAD_AND_ANGRY)
    flat = " ".join(shown.split())
    assert code == 0
    assert "leak equal recordings across roles: " in flat
    assert "manifest/a/sad0" in flat
    assert "manifest/c/sad3" in flat
    strict, _, errors = run(capsys, "manifest", "--root", small_corpus, *SAD_AND_ANGRY, "--strict")
    assert strict == 1
    assert "--strict" in errors


def test_names_from_the_corpus_are_escaped_on_the_page_and_in_the_terminal(tmp_path, capsys):
    root = tmp_path / "corpus"
    lines = ["file,speaker,label"]
    for number, speaker in enumerate(("<b>x</b>", "[red]y", "z\x1b[31m", "w")):
        for name in ("angry", "sad"):
            for take in range(2):
                write_tone(root / f"{number}_{name}{take}.wav", 0.2, f0=100 + 100 * (name == "angry"), seed=take)
                lines.append(f"{number}_{name}{take}.wav,{speaker},{name}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    page = tmp_path / "a.html"
    code, shown, _ = run(capsys, "manifest", "--root", root, *SAD_AND_ANGRY, "--html", page)
    assert code == 0
    assert "[red]y" in shown
    assert "\x1b[31m" not in shown
    assert "&lt;b&gt;x&lt;/b&gt;" in page.read_text()
    assert "<b>x</b>" not in page.read_text()


def test_broken_audio_is_dropped_with_its_reason(small_corpus, tmp_path, capsys):
    whole = (small_corpus / "a" / "sad0.wav").read_bytes()
    (small_corpus / "a" / "sad0.wav").write_bytes(whole[: len(whole) // 2])
    samples = np.full(8000, 0.1, np.float32)
    samples[10] = np.nan  # read by its header, refused by the decoder
    soundfile.write(small_corpus / "b" / "sad1.wav", samples, 16000, subtype="FLOAT")
    (small_corpus / "c" / "angry2.wav").write_bytes(b"no audio at all")
    out = tmp_path / "a.json"
    code, _, _ = run(capsys, "manifest", "--root", small_corpus, *SAD_AND_ANGRY, "--json", out)
    assert code == 0
    told = json.loads(out.read_text())
    examples = {example for reason in told["dropped"] for example in reason["examples"]}
    assert examples >= {"a/sad0.wav", "b/sad1.wav", "c/angry2.wav"}
    assert told["utterances"] == 30  # the file of NaN has a good header
    assert told["recordings"]["not_measured"]["examples"] == ["manifest/b/sad1"]
    assert any("NaN" in reason["reason"] for reason in told["dropped"])


def test_too_few_speakers_are_told_and_the_rest_is_audited(small_corpus, capsys):
    table = small_corpus / "table.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join(row for row in rows if row[:2] not in ("c/", "d/")) + "\n")
    code, shown, _ = run(capsys, "manifest", "--root", small_corpus, *SAD_AND_ANGRY)
    flat = " ".join(shown.split())
    assert code == 0
    assert "2 known speaker(s), but train, dev and test need one each" in flat
    assert "there are no folds" in flat
    assert "by speaker" in flat


def test_a_protocol_that_does_not_fit_says_which_do(recordings, capsys):
    root = recordings / "emodb"
    code, shown, _ = run(capsys, "emodb", "--root", root, "--protocol", "session5")
    flat = " ".join(shown.split())
    assert code == 0
    assert "'session5' does not fit emodb" in flat
    assert "emodb/speaker10" in flat
    assert "as published" in flat


def test_classes_that_do_not_occur_stand_in_the_audit(small_corpus, capsys):
    code, shown, _ = run(capsys, "manifest", "--root", small_corpus)  # the classes that the table has, as in a sweep
    assert code == 0
    assert "warning protocol" not in " ".join(shown.split())
    code, shown, _ = run(capsys, "manifest", "--root", small_corpus, "--set", "corpus.class_set=four")
    assert code == 0
    assert "too few utterances of happy (0), neutral (0)" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--root", "/no/such/folder"], "does not exist"),
        (["--json", "/no/such/folder/a.json"], "cannot be written"),
        (["--html", "."], "is a folder"),
        (["--json", "one.file", "--html", "./one.file"], "give two files"),
        (["--set", "features.bands=80"], "settings of the corpus alone"),
        (["--set", "corpus.nonsense=1"], "there is no setting"),
        (["--set", "corpus.calm=maybe"], "corpus.calm=maybe"),
    ],
)
def test_what_cannot_be_read_or_written_is_one_sentence(arguments, told, small_corpus, capsys):
    root = [] if "--root" in arguments else ["--root", small_corpus]
    code, _, errors = run(capsys, "manifest", *root, *arguments)
    assert code == 1
    assert told in errors
    assert len(errors.strip().splitlines()) == 1


def test_an_empty_folder_is_an_error(tmp_path, capsys):
    code, _, errors = run(capsys, "emodb", "--root", tmp_path)
    assert code == 1
    assert "no utterance of emodb" in errors


def test_a_worker_that_dies_is_an_error_and_not_a_hang(small_corpus, monkeypatch):
    corpus = corpora.read(CorpusSettings(name="manifest", root=str(small_corpus)))
    monkeypatch.setattr(measuring, "_FEW", 1)
    monkeypatch.setattr(measuring, "_CHUNK", 4)
    monkeypatch.setattr(measuring, "_measure_chunk", die)
    with pytest.raises(EmodartsError, match="a process that measured"):
        measure_all(corpus.utterances, corpus.root, processes=2)


@pytest.mark.parametrize("seconds", [0.2, 1.5])
def test_ctrl_c_is_one_line(seconds, recordings):
    command = [sys.executable, "-c", START, "audit", "ravdess", "--root", str(recordings / "ravdess")]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert running.stdout.readline() == "measuring\n"
    time.sleep(seconds)
    os.killpg(running.pid, signal.SIGINT)
    out, errors = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert errors == "stopped\n"


START = """
import signal, sys
from emodarts import cli
from emodarts.audit import measuring

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
results = measuring._results
measuring._results = lambda *given: print("measuring", flush=True) or results(*given)
sys.exit(cli.main(sys.argv[1:]))
"""


def die(root, rows):
    os._exit(3)
