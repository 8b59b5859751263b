"""The evidence command: its design as docs/evidence.md has it, refusals, and the way from a folder to the page."""

import shutil
from types import SimpleNamespace

import pytest

from emodarts.results.statistics import Tally
from tests.benchmarks import evidence
from tests.support.commands import run_here

TINY = [
    "features.n_mels=32", "features.speeds=[1.0]", "search.epochs=1", "search.cells=2", "search.nodes=1",
    "search.channels=4", "search.sequence_width=8", "search.stem_channels=4", "search.crop_seconds=0.5",
    "search.sequence_operations=[none,skip_connect,lstm_1,rnn_1]", "training.epochs=1", "training.channels=4",
    "training.sequence_width=8", "training.crop_seconds=0.5", "search.candidates=1", "search.match_parameters=null",
    "~sweep.space.training.width", "~sweep.space.training.depth", "~sweep.space.training.sequence_rate",
]  # fmt: skip


def manifest_of(demo, tmp_path, speakers=range(4), takes=(0, 1, 2), header="file,speaker,label"):
    """The demo corpus as a folder with a table."""
    read, *_ = demo
    folder = tmp_path / "own"
    folder.mkdir()
    lines = [header]
    for row in read.utterances.select(["path", "speaker", "intended", "text"]).to_pylist():
        if int(row["speaker"][-1]) in speakers and int(row["text"]) in takes:
            shutil.copy(read.root / row["path"], folder / row["path"].replace("/", "_"))
            lines.append(f"{row['path'].replace('/', '_')},{row['speaker']},{row['intended']}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_page_has_the_design_of_the_script():
    page = evidence.PAGE.read_text()
    design = page.partition(evidence.BEGIN)[2].partition(evidence.END)[0].strip()
    assert design == "\n".join(evidence.design_lines())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"speakers": range(2)}, "has 2 known speakers with labels"),
        ({"header": "file,who,label"}, "no column for 'speaker' among file, who, label"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(demo, tmp_path, capsys, changes, sentence):
    folder = manifest_of(demo, tmp_path, **changes)
    asked = ["test", "--corpus", "manifest", "--root", str(folder), "--results", str(tmp_path / "results")]
    assert evidence.main(asked) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line]
    assert line.startswith("error: ")
    assert sentence in line
    assert not (tmp_path / "results").exists()


def test_settings_of_the_run_are_those_of_the_check(demo, tmp_path, capsys):
    """What a sentence advises helps; and where a sweep ends with an error, that is said as well."""
    folder = manifest_of(demo, tmp_path, header="file,who,label")
    asked = ["test", "--corpus", "manifest", "--root", str(folder), "--results", str(tmp_path / "results")]

    def fail(cell, hours):
        cell.log.parent.mkdir(parents=True, exist_ok=True)
        cell.log.write_text("sweep x\nerror: no space left\n")
        return 1

    assert evidence.main([*asked, "--set", "corpus.columns.speaker=who", "corpus.class_set='dull,sad'"], fail) == 1
    assert "too few utterances of dull" in capsys.readouterr().out
    assert evidence.main([*asked, "--set", "corpus.columns.speaker=who"], fail) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[-2] == "error: no space left"
    assert told[-1].startswith("ended with 1, see ")


def test_the_rule_for_defaults_compares_each_search_with_what_is_simpler():
    names = ("emodarts", "cnn_lstm_attention", *evidence.SIMPLE, "emodarts:random_search:joint")
    row = SimpleNamespace(condition="x", kind="single", tallies=(Tally.of(["a", "a", "b"], [0, 1, 0], [0, 1, 0], 2),))
    rows = [SimpleNamespace(**vars(row), system=name, name=name) for name in names]
    pairs = [(c.one.name, c.other.name) for c in evidence.compare_defaults(rows)]
    assert pairs == [
        ("emodarts", "emodarts:fixed:joint"),
        ("emodarts", "emodarts:sampler:joint"),
        ("emodarts:sampler:joint", "emodarts:fixed:joint"),
        ("emodarts:random_search:joint", "emodarts:fixed:joint"),
        ("emodarts:random_search:joint", "emodarts:sampler:joint"),
    ]


def test_a_manifest_needs_its_folder(capsys):
    assert evidence.main(["test", "--corpus", "manifest"]) == 1
    assert capsys.readouterr().out.startswith("error: --corpus manifest needs --root")


def test_nothing_is_seen_of_nemo_by_a_default_that_is_not_committed(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(evidence, "git_revision", lambda: "abc-dirty")
    asked = ["test", "--corpus", "nemo", "--results", str(tmp_path)]
    assert evidence.main(asked, run=lambda cell, hours: pytest.fail("it ran")) == 1
    assert "commit what has changed first" in capsys.readouterr().out


def test_a_run_goes_on_with_its_own_settings_alone(tmp_path, capsys):
    asked = ["dev", "--corpora", "emodb", "--results", str(tmp_path), "--conditions", "log_mel-train"]
    ran = []

    def stop(cell, hours):
        ran.append(cell)
        return 3

    assert evidence.main(asked, stop) == 3
    assert evidence.main([*asked, "--trials", "9"], stop) == 1
    assert "was begun with other trials" in capsys.readouterr().out
    assert evidence.main(asked, stop) == 3
    assert [cell.name for cell in ran] == ["emodb-log_mel-train-main"] * 2
    assert {"corpus=emodb", "corpus.protocol=speaker3", "sweep.trials=6", "sweep.seeds=3"} <= set(ran[0].overrides)


@pytest.mark.slow(seconds=25)
@pytest.mark.timeout(300)
def test_a_folder_of_recordings_ends_with_the_page(environment, demo, tmp_path, capsys):
    folder = manifest_of(demo, tmp_path)

    def run(cell, hours):
        run_here(environment, *cell.overrides, f"sweep.name={cell.name}", f"results={cell.results}")
        return 0

    asked = ["test", "--corpus", "manifest", "--root", str(folder), "--results", str(tmp_path / "results")]
    asked += ["--conditions", "log_mel-train", "--trials", "2", "--seeds", "1", "--folds", "0", "1", "--set", *TINY]
    assert evidence.main(asked, run) == 0
    page = (tmp_path / "results" / "test" / "manifest.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| log-mel, train |")]
    systems = ("emodarts", "cnn_lstm_attention", "emodarts:fixed:joint", "emodarts:random_architecture:joint",
               "emodarts:random_search:joint", "emodarts:sampler:joint", "svm", "linear_probe")  # fmt: skip
    for name in (*systems, *(f"{system}+top5" for system in systems)):
        assert sum(f"| `{name}` |" in row for row in rows) == 1, name
    assert len(rows) == 16
    assert "\n2 speakers are recognised, 24 utterances of 4 classes; chance is .250.\n" in page
    assert sum("| reference |" in row for row in rows) == 2
    words = [line for line in page.splitlines() if line.startswith("- log-mel, train: `emodarts")]
    assert len(words) == 14
    assert all(line.endswith(".") and "minus" in line for line in words)
    assert (tmp_path / "results" / "test" / "manifest.svg").read_text().lstrip().startswith("<?xml")
    told = capsys.readouterr().out
    assert evidence.main([*asked, "--page-only"], lambda cell, hours: pytest.fail("it ran")) == 0
    assert (tmp_path / "results" / "test" / "manifest.md").read_text() == page
    assert told.count("all sweeps are finished") == 1
