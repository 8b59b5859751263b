"""`emodarts corpora`: all corpora with size, language, licence, protocol and traps; one with its sources; JSON."""

import json

from emodarts import cli
from emodarts.corpora.readers import corpus_names
from tests.support.files import REPOSITORY


def run(capsys, *arguments):
    code = cli.main(["corpora", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_all_are_listed(capsys):
    code, shown, _ = run(capsys, "--json")
    records = {record["name"]: record for record in json.loads(shown)}
    assert code == 0
    assert list(records) == list(corpus_names())
    emodb = records["emodb"]
    assert (emodb["utterances"], emodb["speakers"], emodb["language"]) == (535, 10, "German")
    assert emodb["protocol"] == "speaker10"
    assert "disgusted" in emodb["classes"]
    assert records["urdu"]["traps"][0]["subject"] == "the speaker tells the emotion"
    assert records["jvnv"]["evidence"] == "from descriptions"
    assert any("differ" in note for note in records["shemo"]["notes"])
    _, table, _ = run(capsys)
    assert all(name[:6] in table for name in records)


def test_one_corpus_or_a_grammar_of_ones_own(capsys, tmp_path):
    _, shown, _ = run(capsys, "esd")
    told = " ".join(shown.split())
    assert "35,000" in told
    assert "two loaders differ about speakers 0012 and 0019" in told
    own = REPOSITORY / "emodarts" / "corpora" / "readers" / "grammars" / "emovo.toml"
    (tmp_path / "mine.toml").write_text(own.read_text())
    assert json.loads(run(capsys, str(tmp_path / "mine.toml"), "--json")[1])[0]["name"] == "mine"
    code, _, errors = run(capsys, "emobd")
    assert code == 1
    assert "is it emodb" in errors


def test_labels_of_a_grammar_of_ones_own(capsys, tmp_path):
    own = REPOSITORY / "emodarts" / "corpora" / "readers" / "grammars" / "emovo.toml"
    (tmp_path / "mine.toml").write_text(own.read_text())
    assert cli.main(["labels", str(tmp_path / "mine.toml")]) == 0
    assert "joy" in capsys.readouterr().out
