"""The command `emodarts audit`: what it prints and writes, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from emodarts import cli, corpora
from emodarts.audit import cues as cue_room
from emodarts.audit import measuring
from emodarts.audit.measuring import measure_recordings
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from tests.support.files import write_tone


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """Small forests, but where a test is about their figures."""
    monkeypatch.setattr(cue_room, "TREES", 3)


def run(capsys, *arguments):
    code = cli.main(["audit", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


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
    assert (told["schema_version"], told["corpus"], told["labelled"]) == (2, "manifest", 32)
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


@pytest.mark.slow
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
        (["--set", "features.n_mels=80"], "settings of the corpus alone"),
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
        measure_recordings(corpus.utterances, corpus.root, processes=2)


@pytest.mark.slow
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
