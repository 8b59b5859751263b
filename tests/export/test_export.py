"""`emodarts export` from result tables to a folder that predicts without torch: end to end, and what it refuses."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from emodarts import cli
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.experiment.stages import predict
from emodarts.export import package
from emodarts.export.data import corpora_settings, corpus_settings
from emodarts.export.predict import VERSION
from emodarts.export.units import chosen_units, ensemble_figures
from emodarts.features.settings import FeatureSettings
from emodarts.records import TrialRecord
from emodarts.results import reader
from emodarts.results.ensembles import evaluate_ensembles
from emodarts.results.sweep_file import register
from emodarts.results.winners import rank_configurations, winners
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from sweeps.data.placement import StoreLocation
from sweeps.execution import metrics, worker
from sweeps.execution.sweep_spec import SweepSpec
from sweeps.settings import Settings, SweepSettings
from sweeps.study.search_space import SearchSpace
from sweeps.units.spec_factory import UnitSpecFactory

BLOCKED = ("torch", "torchaudio", "ray", "emodarts", "pyarrow", "scipy")


@pytest.fixture(scope="module")
def swept(demo, demo_store, tiny, tmp_path_factory):
    """Results of two folds, two configurations in the first, written by the units of a sweep as they are."""
    results = tmp_path_factory.mktemp("results")
    corpus = replace(Settings().corpus, name="demo", protocol="demo/speaker4")
    settings = Settings(corpus, tiny.features, tiny.batches, tiny.search, tiny.training, SweepSettings(seed=5))
    storage = Storage.open(results)
    register(storage, "s", settings.hashed_settings())
    for fold, number in ((0, 0), (0, 1), (1, 0)):
        run_trial(storage, demo, demo_store, tiny, fold, number)
    return results


def run_trial(storage, demo, demo_store, settings, fold, number):
    """A unit as a sweep's worker runs it, and the row of its trial; `settings.system` is its system."""
    folds = {fold.index: fold for fold in demo[2][:2]}
    store = StoreLocation(str(demo_store.folder), socket.gethostname(), None)
    specs = UnitSpecFactory("s", settings.system, SearchSpace(settings), folds, ("demo",), sweep_seed=5, device="cpu")
    sweep = SweepSpec("s", storage.root, (store,), folds, threads=1)
    trial = TrialRecord(settings.system, f"fold{fold}", number, 0, {"training.learning_rate": (3e-3, 1e-5)[number]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "setproctitle", lambda title: None)
        outcome = worker.run_unit_locally(specs.make(trial, fold), sweep)
    SweepWriter(storage, "s").write_trial(replace(trial, status="complete", values=(outcome.dev_uar,)))


@pytest.fixture
def export(swept, demo, cache, tmp_path, monkeypatch, capsys):
    """Runs `emodarts export` on the results: (exit code, output, errors)."""
    monkeypatch.setenv("EMODARTS_CACHE", str(cache / "export"))

    def run(*more, out=tmp_path / "model"):
        code = cli.main(["export", str(swept), "--out", str(out), "--root", str(demo[0].root), *more])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def alone(tmp_path):
    """Runs an exported predict.py where nothing but its requirements can be imported: (exit code, output, errors)."""
    blocked = tmp_path / "blocked"
    for name in BLOCKED:
        (blocked / name).mkdir(parents=True)
        (blocked / name / "__init__.py").write_text(f"raise ImportError('{name} is not for predict.py')\n")

    def run(folder, *arguments, stdin=None):
        done = subprocess.run(
            [sys.executable, str(folder / "predict.py"), *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(blocked)},
            timeout=60,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return run


def paths_of(corpus, utterances):
    rows = zip(corpus.utterances["utterance"].to_pylist(), corpus.utterances["path"].to_pylist(), strict=True)
    known = dict(rows)
    return [str(corpus.root / known[u]) for u in utterances]


def json_rows(output):
    return [json.loads(line) for line in output.splitlines()]


def probabilities(rows):
    return np.array([list(row["probabilities"].values()) for row in rows])


@pytest.mark.slow
def test_the_winner_of_a_fold_predicts_what_its_unit_predicted(export, alone, swept, demo, tmp_path):
    """From recordings, in a process without torch, what stands in the tables: retrained, in ONNX, by numpy."""
    code, output, errors = export("--fold", "0")
    assert (code, errors) == (0, "")
    assert "the dev predictions (64 utterances) equal the stored ones" in output
    folder = tmp_path / "model"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["MODEL_CARD.md", "model.json", "model.onnx", "predict.py", "requirements.txt", "weights.safetensors"]
    )
    rows = reader.open(swept).table("predictions").to_pylist()
    winner = next(w.trial for w in winners(reader.open(swept)) if w.study == "fold0")
    rows = [r for r in rows if (r["fold"], r["trial"], r["stage"], r["role"]) == (0, winner, "final", "test")][::8]
    code, output, errors = alone(folder, "--json", *paths_of(demo[0], [r["utterance"] for r in rows]))
    assert (code, errors) == (0, "")
    found = json_rows(output)
    np.testing.assert_allclose(probabilities(found), [r["probabilities"] for r in rows], atol=1e-4)
    assert [r["label"] for r in found] == [r["predicted"] for r in rows]
    card = (folder / "MODEL_CARD.md").read_text()
    figures = next(f for f in reader.open(swept).table("folds").to_pylist() if f["role"] == "test" and f["fold"] == 0)
    for words in ("demo/speaker4", f"{figures['uar']:.3f}", "synthetic, no restrictions", "the winner of fold 0"):
        assert words in card
    assert "no test figure" not in card


@pytest.mark.slow
def test_the_ensemble_is_the_mean_and_says_that_it_has_no_test_figure(export, alone, demo, demo_store, tmp_path):
    code, output, _ = export()
    assert code == 0
    assert "an ensemble of 2 folds, without a test figure of its own" in output
    folder = tmp_path / "model"
    assert "**no test figure of its own**" in (folder / "MODEL_CARD.md").read_text()
    utterances = demo[2][0].dev[:5]
    members = package.load_export(folder)
    each = []
    for member, fold in zip(members, demo[2], strict=False):
        data = replace(FoldData.of(demo_store, fold, _settings()), standardiser=member.standardiser)
        each.append(predict(data, member.network, utterances))
    _, output, _ = alone(folder, "--json", *paths_of(demo[0], utterances))
    np.testing.assert_allclose(probabilities(json_rows(output)), np.mean(each, 0), atol=1e-4)


@pytest.mark.slow
def test_the_best_trials_of_a_fold_are_one_graph_with_figures_of_its_own(export, alone, swept, demo, tmp_path):
    """What predict.py says of test recordings is the ensemble of the tables, and the card has its figures and costs."""
    code, output, errors = export("--top", "5", "--fold", "0")
    assert (code, errors) == (0, "")
    assert "an ensemble of 2 networks, the best on dev of fold 0; try" in output
    (sweep,) = reader.open(swept).parts
    found = {e.row["role"]: e for e in evaluate_ensembles(sweep, 5) if e.row["fold"] == 0}
    test = found["test"].evaluation
    utterances = test.utterances[::16]
    code, output, _ = alone(tmp_path / "model", "--json", *paths_of(demo[0], utterances))
    np.testing.assert_allclose(probabilities(json_rows(output)), test.probabilities[::16], atol=1e-4)
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    for role in ("dev", "test demo/test"):
        row = found[role.split()[0]].row
        figures = " | ".join(f"{row[name]:.3f}" for name in ("uar", "war", "macro_f1"))
        assert f"| 0 | **mean of all 2** | {role} | {row['n']} | {figures} |" in card
    assert f"| together | | {found['test'].row['parameters']} | {found['test'].row['macs']} | | |" in card
    assert "no test figure" not in card
    members = json.loads((tmp_path / "model" / "model.json").read_text())["members"]
    assert [f"{m['system']}/{m['trial']}" for m in members] == found["test"].row["members"]
    assert len(package.load_export(tmp_path / "model")) == 2


@pytest.mark.slow
def test_systems_together_are_one_graph(swept, demo, demo_store, tiny, cache, alone, tmp_path, monkeypatch, capsys):
    """A searched network and one designed by hand, whose mean is the ensemble over both in the tables."""
    results, model = tmp_path / "results", tmp_path / "model"
    shutil.copytree(swept, results)
    for number in range(2):
        run_trial(Storage.open(results), demo, demo_store, replace(tiny, system="cnn_lstm_attention"), 0, number)
    monkeypatch.setenv("EMODARTS_CACHE", str(cache / "export"))
    systems = ("emodarts", "cnn_lstm_attention")
    given = ["--system", ",".join(systems), "--fold", "0", "--top", "2", "--root", str(demo[0].root)]
    assert cli.main(["export", str(results), "--out", str(model), *given]) == 0, capsys.readouterr().err
    (sweep,) = reader.open(results).parts
    (test,) = (
        e.evaluation
        for e in evaluate_ensembles(sweep, 2, systems)
        if (e.ensemble.system, e.row["role"]) == ("emodarts&cnn_lstm_attention+top2", "test") and e.row["fold"] == 0
    )
    _, output, _ = alone(model, "--json", *paths_of(demo[0], test.utterances[::16]))
    np.testing.assert_allclose(probabilities(json_rows(output)), test.probabilities[::16], atol=1e-4)
    card = (model / "MODEL_CARD.md").read_text()
    assert "system emodarts, cnn\\_lstm\\_attention" in card
    assert "**mean of all 4**" in card


def test_the_best_trials_of_all_folds_and_what_cannot_be(export, swept, tmp_path):
    settings = {"sweep.seed": 5}
    units = chosen_units(reader.open(swept), settings, None, None, top=5)
    ranking = rank_configurations(reader.open(swept).parts[0]).to_pylist()
    best = [row["trial"] for row in ranking if row["study"] == "fold0"]
    assert [(u.key.fold, u.key.trial) for u in units] == [(0, best[0]), (0, best[1]), (1, 0)]
    assert ensemble_figures(reader.open(swept), units) == ()
    for given, refusal in (
        (("--top", "0"), "--top 0: give 1 or more"),
        (("--top", "2", "--refit"), "--refit makes one network, --top 2 the mean of several"),
        (("--system", "emodarts,svm"), "--system svm: sweep 's' has emodarts"),
    ):
        code, _, errors = export(*given)
        assert code == 1
        assert refusal in errors
    assert not (tmp_path / "model").exists()


def _settings():

    return FoldSettings(FeatureSettings(n_mels=32))


@pytest.mark.slow
def test_a_refit_trains_on_everything_and_says_that_nothing_measured_it(export, alone, demo, tmp_path, monkeypatch):
    from emodarts.training import train

    drawn = []
    original = train.training_batches
    monkeypatch.setattr(train, "training_batches", lambda part, *a: drawn.append(part.utterances) or original(part, *a))
    code, output, _ = export("--refit", "--fold", "1")
    fold = demo[2][1]
    everything = sorted((*fold.train, *fold.dev, *fold.tests["demo/test"]))
    assert code == 0
    assert [sorted(part) for part in drawn] == [everything] * len(drawn)
    assert f"trained on all {len(everything)} utterances for {len(drawn)} epochs" in output
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert "It has **no test figure of its own**" in card
    assert "training the units again" not in card
    code, output, _ = alone(tmp_path / "model", paths_of(demo[0], fold.dev[:1])[0])
    assert code == 0
    assert output.splitlines()[0].split("\t") == ["file", "start", "end", "label", *fold.classes]


@pytest.mark.slow
def test_without_a_fold_a_refit_takes_the_best_on_dev(export, swept, tmp_path):
    assert export("--refit")[0] == 0
    about = json.loads((tmp_path / "model" / "model.json").read_text())
    rows = [r for r in reader.open(swept).table("folds").to_pylist() if (r["stage"], r["role"]) == ("final", "dev")]
    best = max(rows, key=lambda r: (r["uar"], -r["parameters"], -r["fold"]))
    assert (about["kind"], about["version"], len(about["members"])) == ("refit", VERSION, 1)
    assert (about["members"][0]["fold"], about["members"][0]["trial"]) == (best["fold"], best["trial"])


@pytest.mark.slow
def test_another_network_than_the_stored_one_is_told(export, tmp_path, monkeypatch):
    """A GPU, another machine: the tables cannot be wrong about what was measured, but the weights may be others."""
    from emodarts.export import units

    monkeypatch.setattr(units, "unit_seed", lambda *names: 1)
    code, output, _ = export("--fold", "1")
    assert code == 0
    assert "the dev predictions differ from the stored ones: by up to" in output
    assert "hold for these ones as far as they are alike" in (tmp_path / "model" / "MODEL_CARD.md").read_text()


def test_what_is_trained_again_is_what_was_chosen(swept):
    opened = reader.open(swept)
    settings = json.loads(opened.parts[0].storage.read("s/sweep.json"))["settings"]
    for unit in chosen_units(opened, settings, None, None):
        rows = [r for r in opened.table("epochs").to_pylist() if r["fold"] == unit.key.fold and r["phase"] == "train"]
        dev = [r["dev_uar"] for r in rows if r["trial"] == unit.key.trial and r["epoch"] == unit.epoch]
        assert dev == [pytest.approx(unit.dev_uar)]
        assert unit.shape.layout == "NR"
        assert unit.settings.training.learning_rate == (3e-3, 1e-5)[unit.key.trial]
    assert corpus_settings(settings, "/x", None) == replace(
        Settings().corpus, name="demo", protocol="demo/speaker4", root="/x", source="intended"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fold", "3"], "fold 3 has a finished winner; folds with finished units: 0, 1"),
        (["--system", "svm"], "--system svm: sweep 's' has emodarts"),
        (["--system", "emodarts:fixed"], "--system emodarts:fixed:joint: sweep 's' has emodarts"),
        (["--sweep", "t"], "there is no sweep 't'"),
        (["--refit", "--ensemble"], "give one of them"),
        (["--device", "tpu"], "there is no such device"),
        (["--threads", "0"], "give 1 or more"),
        (["--root", __file__], "is a file, not a folder"),
    ],
)
def test_mistakes_are_told_in_a_sentence(export, tmp_path, arguments, words):
    code, _, errors = export(*arguments)
    assert code == 1
    assert errors.startswith("error: ")
    assert words in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_a_folder_with_something_in_it_is_left_alone(export, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("x")
    code, _, errors = export("--fold", "0")
    assert code == 1
    assert "is there and not empty" in errors
    assert (tmp_path / "model" / "mine").read_text() == "x"


def test_other_data_than_the_sweep_saw_are_refused(export, small_corpus, swept, demo, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(demo[0].root, copy)
    next(copy.glob("s0_angry_*.wav")).unlink()
    code, _, errors = export("--fold", "0", "--root", str(copy))
    assert code == 1
    assert "in the sweep and is" in errors
    assert "cannot be trained again on other data" in errors


def test_a_split_of_ones_own_has_to_be_named():
    sweep = {"corpus.name": "manifest", "corpus.protocol": "manifest/mine.csv", "corpus.columns.label": "mood"}
    with pytest.raises(EmodartsError, match="say where it lies with --protocol FILE"):
        corpus_settings(sweep, None, None)
    found = corpus_settings(sweep, None, "/data/mine.csv")
    assert (found.protocol, found.columns) == ("/data/mine.csv", {"label": "mood"})


def test_the_corpora_of_a_joined_sweep_and_their_folders():
    sweep = {"corpus.name": "emodb+savee", "corpus.protocol": "emodb+savee/joined", "corpus.calm": "neutral"}
    sweep["train_corpora"] = ["emodb", "savee"]
    emodb, savee = corpora_settings(sweep, ["savee=/a=b"])
    assert (emodb.name, emodb.root, savee.name, savee.root) == ("emodb", None, "savee", "/a=b")
    assert {(one.protocol, one.calm) for one in (emodb, savee)} == {(None, "neutral")}
    for root in ("/x", "tess=/x"):
        with pytest.raises(EmodartsError, match=r"trained on emodb, savee; give --root NAME=FOLDER"):
            corpora_settings(sweep, [root])
    with pytest.raises(EmodartsError, match="joins the default protocols of its corpora"):
        corpora_settings(sweep, [], "mine.csv")
    (alone,) = corpora_settings({"corpus.name": "emodb"}, ["/x", "/y"])
    assert (alone.name, alone.root) == ("emodb", "/y")


@pytest.fixture(scope="module")
def model(tmp_path_factory, swept, demo, cache):
    """An exported folder to predict with."""
    folder = tmp_path_factory.mktemp("out") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMODARTS_CACHE", str(cache / "export"))
        assert cli.main(["export", str(swept), "--out", str(folder), "--root", str(demo[0].root), "--fold", "0"]) == 0
    return folder


@pytest.mark.slow
def test_a_recording_from_standard_input_a_folder_and_a_list_are_the_same(model, alone, demo, tmp_path):
    files = paths_of(demo[0], demo[2][0].dev[:3])
    (tmp_path / "some" / "deeper").mkdir(parents=True)
    for number, file in enumerate(files):
        target = tmp_path / "some" / ("deeper" if number else "") / f"{number}.wav"
        target.write_bytes(Path(file).read_bytes())
    (tmp_path / "some" / "notes.txt").write_text("no recording")
    listed = json_rows(alone(model, "--json", *files)[1])
    folder = json_rows(alone(model, "--json", "--batch", "1", tmp_path / "some")[1])
    assert [row["file"] for row in folder] == sorted(row["file"] for row in folder)
    assert len(folder) == 3
    piped = json_rows(alone(model, "--json", "-", stdin=Path(files[0]).read_bytes())[1])
    assert piped[0]["file"] == "-"
    order = [int(os.path.basename(row["file"])[0]) for row in folder]
    np.testing.assert_allclose(probabilities(folder), probabilities(listed)[order], atol=1e-5)
    np.testing.assert_allclose(probabilities(piped), probabilities(listed)[:1], atol=1e-5)
    assert piped[0]["end"] == pytest.approx(soundfile.info(files[0]).duration, abs=1e-3)


@pytest.mark.slow
def test_what_is_not_sure_enough_is_rejected(model, alone, demo):
    files = paths_of(demo[0], demo[2][0].dev[:6])
    plain = json_rows(alone(model, "--json", *files)[1])
    sure = [max(row["probabilities"].values()) for row in plain]
    limit = f"{sorted(sure)[3]:.4f}"
    rejected = json_rows(alone(model, "--json", "--reject", limit, *files)[1])
    assert [row["probabilities"] for row in rejected] == [row["probabilities"] for row in plain]
    expected = [row["label"] if p >= float(limit) else "unsure" for row, p in zip(plain, sure, strict=True)]
    assert [row["label"] for row in rejected] == expected
    assert 0 < expected.count("unsure") < 6
    table = alone(model, "--reject", "1", files[0])[1].splitlines()[1].split("\t")
    assert table[3] == "unsure"
    code, _, errors = alone(model, "--reject", "60", files[0])
    assert code == 2
    assert "--reject is 0 to 1" in errors


def test_a_long_recording_in_windows(model, alone, demo, tmp_path):
    """A window is what the same stretch of sound is as a file of its own; silent ones get no label."""
    sound = np.concatenate([soundfile.read(f, dtype="float32")[0] for f in paths_of(demo[0], demo[2][0].dev[:4])])
    sound = np.concatenate([sound[:32000], np.zeros(16000, np.float32), sound[32000:40000]])
    soundfile.write(tmp_path / "long.wav", sound, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "cut.wav", sound[8000:24000], 16000, subtype="FLOAT")
    code, output, errors = alone(model, "--json", "--window", "1", "--step", "0.5", tmp_path / "long.wav")
    rows = json_rows(output)
    assert code == 0
    assert [(r["start"], r["end"]) for r in rows] == [(n / 2, min(n / 2 + 1, 3.5)) for n in range(6)]
    assert [r["label"] is None for r in rows] == [False] * 4 + [True, False]
    assert "long.wav at 2.00 s: silent" in errors
    (alone_row,) = json_rows(alone(model, "--json", tmp_path / "cut.wav")[1])
    np.testing.assert_allclose(probabilities([alone_row]), probabilities(rows[1:2]), atol=1e-5)


def test_recordings_that_get_no_label(model, alone, demo, tmp_path):
    good = paths_of(demo[0], demo[2][0].dev[:1])[0]
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "short.wav", np.random.default_rng(0).normal(0, 0.1, 500), 16000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "long.wav", np.random.default_rng(0).normal(0, 0.1, 16000 * 61), 16000)
    (tmp_path / "text.wav").write_text("no sound")
    names = [tmp_path / f"{n}.wav" for n in ("silent", "short", "empty", "long", "text", "missing")]
    code, output, errors = alone(model, *names, good)
    lines = [line.split("\t") for line in output.splitlines()]
    assert code == 1
    assert [line[3] for line in lines[1:-1]] == ["-"] * 6
    assert lines[-1][3] in lines[0][4:]
    assert sum(map(float, lines[-1][4:])) == pytest.approx(1, abs=1e-3)
    told = ("silent: every sample", "too short: 31 ms", "no samples in it", "61 s are no utterance: give --window")
    for words in (*told, "cannot be decoded", "there is no such file"):
        assert words in errors
    code, _, errors = alone(model, tmp_path / "blocked")
    assert code == 1
    assert f"no recordings in {tmp_path / 'blocked'}: names have to end with .wav" in errors
    code, _, errors = alone(model, "--window", "1", tmp_path / "empty.wav")
    assert code == 1
    assert "no samples in it" in errors


def test_a_folder_with_broken_recordings_of_all_kinds(model, alone, tmp_path):
    """What is left of a cut recording is told with its own times; the others are as they would be alone."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    steps = np.arange(64000) / 16000
    noise = np.random.default_rng(0).normal(0, 0.02, len(steps))
    sound = 0.2 * np.sin(2 * np.pi * 150 * steps) * np.abs(np.sin(4 * steps)) + noise
    sound = (32767 * sound).astype(np.int16)  # else WAV and FLAC would round to 16 bits each in its own way
    for name in ("a.wav", "b.flac", "c.mp3"):
        soundfile.write(folder / name, sound, 16000)
    soundfile.write(folder / "d.wav", np.stack([sound[::2], sound[::2]], 1), 8000)
    for name in ("b.flac", "c.mp3"):
        content = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(content[: len(content) // 2])
    stream = bytearray((folder / "b.flac").read_bytes())
    stream[21] &= 0xF0  # STREAMINFO's number of samples: unknown
    stream[22:26] = bytes(4)
    (folder / "stream.flac").write_bytes(stream)
    (folder / "text.mp3").write_text("no sound")
    whole = (folder / "a.wav").read_bytes()
    (folder / "cut_a.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "piped.wav").write_bytes(whole[:4] + b"\xff" * 4 + whole[8:40] + b"\xff" * 4 + whole[44:])
    code, output, errors = alone(model, "--json", folder)
    rows = {Path(row["file"]).name: row for row in json_rows(output)}
    assert code == 1
    assert {n for n, row in rows.items() if row["label"] is None} == {"cut_b.flac", "stream.flac", "text.mp3"}
    assert [rows[n]["end"] for n in ("a.wav", "b.flac", "c.mp3", "d.wav")] == pytest.approx([4] * 4, abs=0.1)
    assert 1 < rows["cut_c.mp3"]["end"] < 3
    np.testing.assert_allclose(probabilities([rows["b.flac"]]), probabilities([rows["a.wav"]]), atol=1e-5)
    assert rows["cut_a.wav"]["end"] == pytest.approx(2, abs=0.01)
    assert {n for n, row in rows.items() if row["label"] and "reason" in row} == {"cut_a.wav"}
    assert rows["piped.wav"]["probabilities"] == rows["a.wav"]["probabilities"], "written to a pipe, and whole"
    cut = f"the file is cut, and taken up to its end: its header promises {len(whole)} bytes, it has {len(whole) // 2}"
    for words in (cut, "does not say how long it is", "text.mp3 at 0.00 s: cannot be decoded: no sound found in it"):
        assert words in errors
    windows = json_rows(
        alone(model, "--json", "--window", "1", folder / "cut_c.mp3", folder / "cut_b.flac", folder / "cut_a.wav")[1]
    )
    of_wav = [row for row in windows if "wav" in row["file"]]
    assert [row.get("reason") for row in of_wav] == [cut, None]
    windows = windows[: -len(of_wav)]
    of_mp3 = [row for row in windows if "mp3" in row["file"]]
    assert of_mp3[-1]["end"] == pytest.approx(rows["cut_c.mp3"]["end"], abs=0.1)  # not what its header promises
    assert [(r["start"], r["label"] is None) for r in windows if "flac" in r["file"]][-1] == (
        len(windows) - len(of_mp3) - 1,
        True,
    )


@pytest.mark.slow
def test_other_rates_and_channels_are_close_to_the_torch_pipeline(model, alone, tmp_path):
    """The same resampler and the same mean over channels."""
    from emodarts.features.audio import at_speed, decode, prepare
    from emodarts.features.extractors.spectra import Spectra
    from emodarts.networks.masking import image_mask

    features = FeatureSettings(n_mels=32)
    (member,) = package.load_export(model)
    for rate in (8000, 22050, 44100, 48000):
        rng = np.random.default_rng(rate)
        steps = np.arange(int(1.3 * rate)) / rate
        voice = sum(np.sin(2 * np.pi * 140 * k * steps) / k for k in range(1, 30) if 140 * k < rate / 2)
        stereo = np.stack([voice, 0.5 * voice], 1) * 0.1 + rng.normal(0, 2e-3, (len(steps), 2))
        path = tmp_path / f"{rate}.wav"
        soundfile.write(path, stereo, rate, subtype="PCM_16")
        sound = at_speed(prepare(*decode(path), features), rate, 16000, 1.0)
        frames = Spectra(features)([sound])[0].half().float()
        x = ((frames - member.standardiser.mean) / member.standardiser.deviation).T[None, None]
        lengths = torch.tensor([len(frames)])
        with torch.no_grad():
            logits = member.network(x * image_mask(lengths, len(frames), x.dtype), lengths)
        (row,) = json_rows(alone(model, "--json", path)[1])
        np.testing.assert_allclose(probabilities([row])[0], logits.softmax(1)[0], atol=1e-4)
