"""Models that normalise by speaker or by recording: exported, and predicting from recordings what their units did."""

import os
import subprocess
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

from emodarts import cli
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.stages import predict as predict_by_torch
from emodarts.experiment.unit import run_fold
from emodarts.export import predict
from emodarts.export.package import load_export
from emodarts.records import TrialRecord, UnitKey
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.seeds import unit_seed
from emodarts.storage import Storage
from sweeps.settings import Settings, flatten


@pytest.fixture(scope="module", params=["speaker", "utterance"])
def exported(request, demo, demo_store, tiny, cache, tmp_path_factory):
    """The rule, the folder of an exported hand-designed network, and its unit's test rows with their files."""
    results, fold = tmp_path_factory.mktemp("results"), demo[2][0]
    features = replace(tiny.features, normalisation=request.param)
    settings = replace(tiny, system="cnn", features=features)
    records = run_fold(demo_store, fold, settings, unit_seed(0, fold.index, 0, 0))
    storage = Storage.open(results)
    corpus = {**asdict(Settings().corpus), "name": "demo", "protocol": fold.protocol}
    corpus.pop("root")
    register(storage, "s", {**dict(flatten({"corpus": corpus})), "sweep.seed": 0})
    key = UnitKey("s", "cnn", "fold0", 0, 0, ("demo",), fold.protocol, fold.index, fold.hash, fold.classes)
    writer = SweepWriter(storage, "s")
    writer.commit(key, records, "x")
    writer.write_trial(TrialRecord("cnn", "fold0", 0, 0, {}, "complete", values=(0.5,)))
    out = tmp_path_factory.mktemp("export") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMODARTS_CACHE", str(cache / "normalised"))
        assert cli.main(["export", str(results), "--out", str(out), "--root", str(demo[0].root)]) == 0
    table = demo[0].utterances
    paths = dict(zip(table["utterance"].to_pylist(), table["path"].to_pylist(), strict=True))
    test = records.evaluations[-1]
    assert test.role == "test"
    files = [str(demo[0].root / paths[u]) for u in test.utterances]
    return SimpleNamespace(
        rule=request.param, folder=out, files=files, speakers=test.speakers, probabilities=test.probabilities
    )


def run(exported, *arguments):
    done = subprocess.run(
        [sys.executable, str(exported.folder / "predict.py"), *map(str, arguments)],
        capture_output=True,
        env={"PATH": os.environ["PATH"]},
        timeout=120,
    )
    rows = [line.split("\t") for line in done.stdout.decode().splitlines()[1:]]
    return done.returncode, np.array([[float(x) for x in row[4:]] for row in rows]), done.stderr.decode()


def speakers_table(folder, exported, files):
    lines = [f"{f},{s}" for f, s in zip(exported.files, exported.speakers, strict=True) if f in files]
    (folder / "who.csv").write_text("\n".join(["file,speaker", *lines, ""]))
    return folder / "who.csv"


@pytest.mark.slow
def test_it_predicts_what_its_unit_predicted(exported, tmp_path):
    whose = ("--speaker-column", speakers_table(tmp_path, exported, exported.files))
    code, found, errors = run(exported, *(whose if exported.rule == "speaker" else ()), *exported.files)
    assert (code, errors) == (0, "")
    np.testing.assert_allclose(found, exported.probabilities, atol=1.5e-4)  # of which .5e-4 are the table's digits
    assert exported.probabilities.std(0).max() > 0.01
    card = (exported.folder / "MODEL_CARD.md").read_text()
    assert ("**It normalises by speaker**" in card) == (exported.rule == "speaker")
    assert ("by its own mean and deviation" in card) == (exported.rule == "utterance")


def test_speakers_are_asked_for_and_one_recording_is_said(exported, demo_store, tmp_path):
    if exported.rule == "utterance":
        code, found, errors = run(exported, "--enrol", exported.files[0], exported.files[1])
        assert (code, len(found)) == (1, 0)
        assert "does not normalise by speaker" in errors
        return
    _, unknown, errors = run(exported, *exported.files[:2])
    assert "nothing is known of the speaker: 2" in errors
    np.testing.assert_array_less(0.001, np.abs(unknown - exported.probabilities[:2]).max())
    table = speakers_table(tmp_path, exported, exported.files[:1])
    _, found, errors = run(exported, "--speaker-column", table, *exported.files[:2])
    assert f"{exported.speakers[0]}: one recording only" in errors
    assert "nothing is known of the speaker: 1" in errors
    np.testing.assert_allclose(found[1], unknown[1], atol=1e-4)
    np.testing.assert_array_less(0.001, np.abs(found[0] - unknown[0]).max())
    (tmp_path / "empty.csv").write_text("path,who\na,b\n")
    code, _, errors = run(exported, "--speaker-column", tmp_path / "empty.csv", *exported.files[:2])
    assert code == 2
    assert "no table with the columns file and speaker" in errors


def test_folders_and_enrolled_recordings_are_speakers(exported, tmp_path):
    if exported.rule == "utterance":
        return
    of_first = [f for f, s in zip(exported.files, exported.speakers, strict=True) if s == exported.speakers[0]]
    for number, file in enumerate(of_first):
        folder = tmp_path / ("new" if number < 2 else "enrolled") / "anna"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / os.path.basename(file)).symlink_to(file)
    _, enrolled, errors = run(exported, "--enrol", tmp_path / "enrolled", tmp_path / "new")
    assert (len(enrolled), errors) == (2, "")
    _, by_folder, errors = run(exported, "--speakers-by-folder", "--enrol", tmp_path / "enrolled", tmp_path / "new")
    assert errors == ""
    np.testing.assert_array_equal(by_folder, enrolled)
    _, everything, _ = run(exported, "--speakers-by-folder", tmp_path)
    names = [os.path.basename(f) for f in exported.files]
    paths = sorted(path for path in tmp_path.rglob("*.wav"))
    expected = exported.probabilities[[names.index(path.name) for path in paths]]
    np.testing.assert_allclose(everything, expected, atol=1.5e-4)
    np.testing.assert_array_less(1e-4, np.abs(enrolled - everything[-2:]).max())


def test_the_library_adds_statistics_up_and_unknown_speakers_are_the_train_parts(exported, demo, demo_store, tiny):
    model = predict.Model.load(exported.folder)
    assert model.by_speaker == (exported.rule == "speaker")
    if not model.by_speaker:
        return
    (loaded,) = load_export(exported.folder)
    by_train = replace(tiny, system="cnn")
    ids = demo[2][0].dev[:4]
    expected = predict_by_torch(FoldData.of(demo_store, demo[2][0], by_train), loaded.network, ids)
    table = demo[0].utterances
    paths = dict(zip(table["utterance"].to_pylist(), table["path"].to_pylist(), strict=True))
    pieces = [next(predict.whole(model, u, str(demo[0].root / paths[u]))) for u in ids]
    found = model.probabilities([piece.samples for piece in pieces])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    frames, sums, squares = model.statistics(pieces[0].samples)
    stored = demo_store.frames(ids[0]).astype(np.float64)
    assert frames == len(stored)
    np.testing.assert_allclose(sums, stored.sum(0), rtol=1e-3, atol=0.1)
    np.testing.assert_allclose(squares, np.square(stored).sum(0), rtol=1e-3)
