"""Genotypes that one sweep found, trained and tested on another corpus; what would leak or be ignored is refused."""

import json
from dataclasses import replace

import pytest

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.export.data import SweepCorpus
from emodarts.export.units import chosen_units
from emodarts.export.weights import retrain
from emodarts.features.store.building import build_store
from emodarts.results import reader
from emodarts.results.sweep_file import settings_of
from emodarts.storage import Storage
from sweeps.variants.genotype_transfer import SourceSweep, refuse_changed
from tests.support.commands import ONE_TRIAL, TINY, run_here, settings, variables
from tests.support.files import write_tone
from tests.support.layouts import savee

BRIEF = ["training.crop_seconds=0.3", "search.crop_seconds=0.3", "features.speeds=[1.0]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs the command: what it says. All runs share a cache."""
    environment = variables(tmp_path_factory.mktemp("cache"))

    def command(*given, code=0):
        return run_here(environment, *given, code=code)

    return command


@pytest.fixture(scope="module")
def source(run, tmp_path_factory):
    """A sweep of two searches on three folds of a corpus with two classes; its folder, and the corpus's settings."""
    root = tmp_path_factory.mktemp("source")
    lines = ["file,speaker,label"]
    for speaker in "abc":
        for name, f0 in (("angry", 240.0), ("sad", 120.0)):
            for take in range(4):
                write_tone(root / "corpus" / f"{speaker}{name}{take}.wav", f0=f0, seed=take)
                lines.append(f"{speaker}{name}{take}.wav,{speaker},{name}")
    (root / "corpus" / "table.csv").write_text("\n".join(lines) + "\n")
    corpus = ["corpus=manifest", "corpus.class_set='angry,sad'", f"corpus.root={root / 'corpus'}"]
    given = [*corpus, "protocol=speaker3", f"results={root / 'results'}", "ray.dashboard=false"]
    run(*TINY, *ONE_TRIAL, *BRIEF, *given, "system=[emodarts,emodarts:random_architecture:joint]", "sweep.trials=2")
    return next(p for p in (root / "results").iterdir()), given


@pytest.fixture(scope="module")
def taken(run, source, tmp_path_factory):
    """The same genotypes on SAVEE's four folds and classes: the command's arguments, its results, what it said."""
    root = tmp_path_factory.mktemp("taken")
    savee.write_corpus(root / "corpus")
    given = ["corpus=savee", f"corpus.root={root / 'corpus'}", f"results={root / 'results'}", "ray.dashboard=false"]
    given += [f"genotypes_from={source[0]}"]
    return given, root / "results", run(*given)


@pytest.mark.slow
def test_each_fold_trains_the_winner_of_its_fold_of_the_source(source, taken):
    found, opened = reader.open(source[0]), reader.open(taken[1])
    dev = {(t.study, t.trial): t.values[0] for t in found.trials() if t.system == "emodarts"}
    genotypes = {
        (row["study"], row["trial"]): row for row in found.table("genotypes").to_pylist() if row["system"] == "emodarts"
    }
    rows = {row["fold"]: row for row in opened.table("genotypes").to_pylist()}
    assert sorted(rows) == [0, 1, 2, 3]
    for fold, row in rows.items():
        name, system, study, trial, seed, index = row["genotype_from"].split("/")
        assert (name, system, study, seed, index) == (
            source[0].name, "emodarts", f"fold{fold % 3}", "0", str(fold % 3),
        )  # fmt: skip
        assert dev[study, int(trial)] == max(value for (s, _), value in dev.items() if s == study)
        origin = genotypes[study, int(trial)]
        assert (row["genotype"], row["derived_at"]) == (origin["genotype"], origin["derived_at"])
        sizes = [json.loads(r["network"]) for r in (row, origin)]
        assert [s.pop("classes") for s in sizes] == [4, 2]
        assert sizes[0] == sizes[1]
    folds = opened.table("folds").to_pylist()
    assert {(row["system"], row["study"], row["trial"], row["role"]) for row in folds} == {
        ("emodarts", f"fold{fold}", 0, role) for fold in range(4) for role in ("dev", "test")
    }
    assert {row["stage"] for row in folds} == {"final"}
    assert {row["phase"] for row in opened.table("epochs").to_pylist()} == {"train"}
    assert {row["genotype_from"] for row in folds} == {row["genotype_from"] for row in rows.values()}
    begun_with = {
        (row["study"], row["trial"]): row["settings"]
        for row in found.table("folds").to_pylist()
        if row["system"] == "emodarts"
    }
    for row in folds:
        assert (
            row["settings"] == begun_with[row["genotype_from"].split("/")[2], int(row["genotype_from"].split("/")[3])]
        )
    assert "emodarts on savee/test" in taken[2]
    assert f"fold 3 takes {rows[0]['genotype_from']}" in taken[2]


@pytest.mark.slow
def test_a_second_start_does_nothing_and_another_seed_is_added(run, taken):
    given, results, _ = taken
    before = {p: p.stat().st_mtime_ns for p in results.glob("*/*/*.parquet")}
    run(*given)
    assert {p: p.stat().st_mtime_ns for p in results.glob("*/*/*.parquet")} == before
    run(*given, "sweep.seeds=2", "sweep.folds=[1]")
    opened = reader.open(results)
    assert sorted((c.key.study, c.key.seed) for c in opened.commits) == [
        *((f"fold{fold}", 0) for fold in (0,)), ("fold1", 0), ("fold1", 1), ("fold2", 0), ("fold3", 0),
    ]  # fmt: skip
    assert {(t.status, t.retries, len(t.values)) for t in opened.trials()} == {("complete", 0, 1)}
    assert before.items() <= {p: p.stat().st_mtime_ns for p in results.glob("*/*/*.parquet")}.items()


@pytest.mark.slow
def test_what_was_transferred_can_be_exported(taken, tmp_path):
    """The network that a unit trained is made again from its rows, to the last bit."""
    (name,) = reader.open(taken[1]).sweeps
    begun_with = settings_of(Storage.open(taken[1]), name)
    (unit,) = chosen_units(reader.open(taken[1]), begun_with, None, 3)
    about = CorpusSettings(name="savee", root=taken[0][1].partition("=")[2])
    corpus = corpora.read(about)
    store = build_store(corpus.utterances, corpus.root, unit.settings.features, tmp_path)
    folds = make_folds(about, corpus.utterances, label_utterances(corpus.utterances, about))
    _, agreement = retrain(unit, SweepCorpus(about, folds, store, (), ()))
    assert (agreement.difference, agreement.changed_labels) == (0.0, 0)


@pytest.mark.slow
def test_a_control_s_genotypes_and_the_source_s_own_corpus(run, source):
    """On its own corpus each fold takes its own winner; the system is that of the source."""
    folder, corpus = source
    found = SourceSweep.open(str(folder), "emodarts:random_architecture:joint")
    given = [*corpus[:4], f"genotypes_from={folder}"]
    asked = settings(*given)
    own = replace(asked.corpus, protocol="speaker3")
    utterances = corpora.read(own).utterances
    folds = make_folds(own, utterances, label_utterances(utterances, own))
    resolved = found.resolve(asked, given)
    assert resolved.features.n_mels == 32
    winners = found.assign({f.index: f for f in folds}, resolved)
    assert [w.source.split("/")[1:3] for w in winners.values()] == [[found.system, f"fold{i}"] for i in range(3)]
    moved = {0: replace(folds[1], index=0)}
    with pytest.raises(EmodartsError, match="may have been chosen on speakers that test here"):
        found.assign(moved, resolved)
    with pytest.raises(EmodartsError, match="takes the winner of fold 7 of manifest/speaker3, and sweep"):
        found.assign({7: replace(folds[1], index=7)}, resolved)
    with pytest.raises(EmodartsError, match="extra_tests=manifest: the genotypes of sweep"):
        found.assign({}, replace(resolved, extra_tests=["manifest"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            "features=mfcc",
            "rule, and others were given: features.kind was log_mel, now mfcc; features.n_mels was 32, now 64",
        ),
        ("training.epochs=7", "training.epochs was 1, now 7; leave them out, or search with them"),
        ("search=paper", "search.cells was 2, now 4; search.nodes was 1, now 4"),
        ("batches.bucket_size=0", "batches.bucket_size was"),
        ("sweep.trials=3", "sweep.trials=3: genotypes_from runs one configuration a fold"),
        ("sweep.pruner=asha", "and asks for no others"),
        ("sweep.space.training.depth=2", "and asks for no others"),
        ("system=cnn", "system=cnn: with genotypes_from the system is the source's"),
    ],
)
def test_what_would_be_ignored_is_refused(source, given, told):
    found = SourceSweep.open(str(source[0]), "emodarts")
    with pytest.raises(EmodartsError, match=told):
        found.resolve(settings("corpus=savee", given), ["corpus=savee", given])


@pytest.mark.slow
def test_what_changes_nothing_may_be_said(source):
    found = SourceSweep.open(str(source[0].parent), "emodarts")  # results that hold one sweep
    said = [
        "corpus=savee",
        "features.n_mels=32",
        "training.epochs=1",
        "sweep.trials=10",
        "sweep.seeds=2",
        "system=emodarts",
    ]
    plain, more = (found.resolve(settings(*given), given) for given in (["corpus=savee"], said))
    assert plain.sweep_name == more.sweep_name != settings("corpus=savee").sweep_name


@pytest.mark.slow
def test_a_source_that_changed_its_winners(source, taken, tmp_path):
    found = SourceSweep.open(str(source[0]), "emodarts")
    resolved = found.resolve(settings("corpus=savee"), [])
    storage = Storage.open(taken[1])
    assert storage.exists(f"{resolved.sweep_name}/sweep.json")
    refuse_changed(storage, resolved.sweep_name, found.hashed_settings(resolved))
    changed = replace(found, winners={**found.winners, 0: found.winners[1]})
    again = changed.resolve(settings("corpus=savee"), [])
    assert again.sweep_name != resolved.sweep_name
    with pytest.raises(
        EmodartsError, match=r"has changed its winners since sweep 'savee-.* took them \(fold0: fold0 tri"
    ):
        refuse_changed(storage, again.sweep_name, changed.hashed_settings(again))


@pytest.mark.slow
def test_sources_that_cannot_be_taken(source, taken, tmp_path):
    def begun_with(name, value):
        folder = tmp_path / "results" / "s"
        folder.mkdir(parents=True, exist_ok=True)
        content = json.loads((source[0] / "sweep.json").read_text())
        assert name in content["settings"], "the guard reads a setting that sweeps write"
        content["settings"][name] = value
        (folder / "sweep.json").write_text(json.dumps(content))
        return str(folder)

    refused = {
        "its one winner was chosen on the speakers of all its folds": begun_with("sweep.study_per", "sweep"),
        f"has its genotypes from sweep '{source[0].name}': give that one": str(taken[1]),
        "the folder does not exist": str(tmp_path / "nowhere"),
    }
    for told, location in refused.items():
        with pytest.raises(EmodartsError, match=told):
            SourceSweep.open(location if told[:3] != "its" else begun_with("sweep.study_per", "sweep"), "emodarts")
    with pytest.raises(
        EmodartsError, match="has no search of system emodarts; set genotypes_from_system to one of none"
    ):
        SourceSweep.open(begun_with("sweep.study_per", "fold"), "emodarts")
    with pytest.raises(EmodartsError, match="to one of emodarts, emodarts:random_architecture:joint"):
        SourceSweep.open(str(source[0]), "cnn")
    (tmp_path / "results" / "t").mkdir()
    (tmp_path / "results" / "t" / "sweep.json").write_text((source[0] / "sweep.json").read_text())
    with pytest.raises(EmodartsError, match="holds several sweeps: name the folder of one of them: s, t"):
        SourceSweep.open(str(tmp_path / "results"), "emodarts")
