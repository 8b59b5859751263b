"""Stores: whole whatever dies, equal whoever builds, honest about what is wrong."""

import errno
import itertools
import logging
import os
import pickle
import shutil
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from emodarts.errors import EmodartsError
from emodarts.features import measures
from emodarts.features.audio import UnreadableAudio, decode
from emodarts.features.settings import FeatureSettings, Variant
from emodarts.features.store import building, extraction, files
from emodarts.features.store.building import build_store
from emodarts.features.store.plan import ExtractionPlan, estimate_bytes
from emodarts.features.store.store import open_store
from emodarts.files import PARTIAL, atomic_write
from tests.support.builders import SETTINGS, plan_of, read
from tests.support.files import contents, write_tone


def build(root, cache, **more):
    corpus = read(root)
    return build_store(corpus.utterances, corpus.root, SETTINGS, cache, **more)


# What a store holds


def test_variants_lengths_and_lookups(small_corpus, tmp_path):
    store = build(small_corpus, tmp_path)
    ids = store.utterances.to_pylist()
    assert ids == sorted(read(small_corpus).utterances["utterance"].to_pylist())
    assert store.variants == (Variant(), Variant(0.9), Variant(1.1), Variant(1.0, 10.0))
    positions = store.positions([ids[7], ids[0], ids[31]])
    assert positions.tolist() == [7, 0, 31]
    plain, slow, fast, noisy = (store.read(7, variant) for variant in range(4))
    assert len(slow) > len(plain) > len(fast)
    assert noisy.shape == plain.shape
    assert np.abs(noisy.astype(np.float32) - plain.astype(np.float32)).mean() > 0.1
    for variant in range(4):
        expected = [len(store.frames(ids[p], variant)) for p in positions]
        assert store.lengths(positions, variant).tolist() == expected
    assert plain.dtype == np.float16
    assert plain.shape[1] == store.bins * store.channels == 32
    assert not plain.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        plain[0, 0] = 1


def test_frames_are_those_of_the_recording(small_corpus, tmp_path):
    """Whatever batch and shard it was in."""
    store, settings = build(small_corpus, tmp_path), SETTINGS
    extractor = building.make_extractor(settings)
    for row in read(small_corpus).utterances.to_pylist()[::5]:
        samples, rate = decode(small_corpus / row["path"])
        expected = extractor([extraction.prepare(samples, rate, settings)])[0].numpy()
        np.testing.assert_allclose(store.frames(row["utterance"]), expected, atol=2e-3, rtol=2e-3)


def test_unknown_utterances_are_named(small_corpus, tmp_path):
    store = build(small_corpus, tmp_path)
    known = store.utterances[0].as_py()
    with pytest.raises(EmodartsError, match=r"no features of manifest/a/none \(2 utterances"):
        store.positions([known, "manifest/a/none", "manifest/zzz"])
    assert store.positions([]).tolist() == []


def test_measures_are_those_of_the_recordings(small_corpus, tmp_path):
    shutil.copy(small_corpus / "a" / "sad0.wav", small_corpus / "b" / "sad1.wav")
    store = build(small_corpus, tmp_path)
    table = store.measures()
    assert table.schema.equals(measures.MEASURES)
    assert table["utterance"].to_pylist() == store.utterances.to_pylist()
    rows = {row["utterance"]: row for row in table.to_pylist()}
    one, copy, other = (rows[f"manifest/{name}"] for name in ("a/sad0", "b/sad1", "b/sad2"))
    assert one["audio_hash"] == copy["audio_hash"] != other["audio_hash"]
    expected = measures.measure(*decode(small_corpus / "a" / "sad0.wav"))
    assert one == pytest.approx({"utterance": "manifest/a/sad0", **expected})


def test_a_store_travels_by_its_folder(small_corpus, tmp_path):
    store = build(small_corpus, tmp_path)
    store.read(3)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).read(3), store.read(3))


def test_thousands_of_shards_hold_no_file_open(small_corpus, tmp_path):
    store = building.build_planned(plan_of(small_corpus, 1), tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for position in range(len(store.utterances)):
        store.read(position)
    assert len(list(store.folder.glob("shard-*"))) == 32
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_size_is_never_less_than_what_is_written(small_corpus, tmp_path):
    rng = np.random.default_rng(0)
    for number, path in enumerate(small_corpus.rglob("*.wav")):  # nothing to trim, odd lengths and rates
        rate = (8000, 16000, 44100)[number % 3]
        soundfile.write(path, rng.normal(0, 0.1, 4000 * number + 5003), rate)
    corpus = read(small_corpus)
    for settings in (SETTINGS, FeatureSettings(kind="mfcc", deltas=True, hop_ms=10.0)):
        store = build_store(corpus.utterances, corpus.root, settings, tmp_path)
        written = sum(path.stat().st_size for path in store.folder.iterdir())
        assert written <= estimate_bytes(corpus.utterances, settings) <= 1.3 * written + 20_000


# What cannot be used


def test_what_cannot_be_used_is_dropped_with_its_reason(small_corpus, tmp_path):
    """Also what has changed since the corpus was read."""
    folder = small_corpus / "a"
    soundfile.write(folder / "sad0.wav", np.zeros(16000), 16000)
    soundfile.write(folder / "sad1.wav", np.full(16000, np.nan), 16000, subtype="FLOAT")
    soundfile.write(folder / "sad2.wav", np.full(16000, 1e30), 16000, subtype="FLOAT")
    write_tone(folder / "sad3.wav", seconds=0.05)
    corpus = read(small_corpus)
    (folder / "angry0.wav").unlink()
    (folder / "angry1.wav").write_bytes((folder / "angry1.wav").read_bytes()[:5000])
    (folder / "angry2.wav").write_bytes(b"no audio at all")
    store = build_store(corpus.utterances, corpus.root, SETTINGS, tmp_path)
    reasons = {row.path: row.reason for row in store.dropped}
    expected = {
        "a/sad0.wav": "silent",
        "a/sad1.wav": "NaN",
        "a/sad2.wav": "samples up to 1e+30",
        "a/sad3.wav": "too short",
        "a/angry0.wav": "the file is missing",
        "a/angry1.wav": "the file is cut",
        "a/angry2.wav": "cannot be decoded",
    }
    assert reasons.keys() == expected.keys()
    assert all(reasons[path].startswith(words) for path, words in expected.items())
    assert len(store.utterances) == 25
    with pytest.raises(EmodartsError, match="no features of manifest/a/sad0"):
        store.frames("manifest/a/sad0")


def test_a_file_that_changes_while_features_are_built_stops_it(small_corpus, tmp_path):
    """Under its own key the new one is built: the old key speaks of another file."""
    plan = plan_of(small_corpus)
    write_tone(small_corpus / "c" / "sad1.wav", seconds=0.9)
    with pytest.raises(EmodartsError, match=r"c/sad1\.wav changed while features were built; run again"):
        building.build_planned(plan, tmp_path)
    assert not (tmp_path / plan.name / "store.json").exists()
    again = building.build_planned(plan_of(small_corpus), tmp_path)
    assert again.folder.name != plan.name
    assert again.dropped == ()


def test_what_the_system_does_not_give_now_is_no_drop(small_corpus, tmp_path, monkeypatch):
    """Else one bad moment of a file server would cost an utterance for good."""
    plan = plan_of(small_corpus)
    original = extraction.decode

    def decode(path, *rest):
        if path.name == "sad1.wav":
            raise UnreadableAudio("cannot be decoded: Input/output error")
        return original(path, *rest)

    monkeypatch.setattr(extraction, "decode", decode)
    with pytest.raises(EmodartsError, match=r"sad1\.wav: cannot be decoded: Input/output error; .* run again"):
        building.build_planned(plan, tmp_path)
    monkeypatch.undo()
    (small_corpus / "c" / "sad1.wav").rename(tmp_path / "away.wav")
    with pytest.raises(EmodartsError, match=r"c/sad1\.wav: No such file .* run again"):
        building.build_planned(plan, tmp_path)
    (tmp_path / "away.wav").rename(small_corpus / "c" / "sad1.wav")
    assert building.build_planned(plan, tmp_path).dropped == ()


def test_nothing_usable_is_an_error(small_corpus, tmp_path):
    for path in small_corpus.rglob("*.wav"):
        soundfile.write(path, np.zeros(16000), 16000)
    with pytest.raises(EmodartsError, match=r"none of the 32 recordings .* silent"):
        build(small_corpus, tmp_path)


# Keys


def test_the_key_knows_settings_and_files(small_corpus, tmp_path):
    def key(**settings):
        return plan_of(small_corpus, settings=FeatureSettings(**settings)).name

    first = key(speeds=[1.0])
    assert key(speeds=[1]) == first  # as a command line may give it
    assert key(speeds=[1.0], checkpoint="/elsewhere") == first
    kept = FeatureSettings(kind="pretrained", layers=[6, 9])
    assert kept.content == replace(kept, layer_weighting="learned").content  # the network's matter, not the store's
    assert kept.content != replace(kept, layer_weighting="mean").content
    others = {key(), key(speeds=[1.0], hop_ms=10.0), key(speeds=[1.0], kind="mfcc"), key(noise_snr_db=[10.0])}
    os.utime(small_corpus / "a" / "sad0.wav", ns=(1, 1))
    others.add(key(speeds=[1.0]))
    (small_corpus / "a" / "sad0.wav").unlink()
    others.add(key(speeds=[1.0]))
    assert first not in others
    assert len(others) == 5 or len(others) == 6  # without the file the corpus is another one, too
    corpus = read(small_corpus)
    sliced = ExtractionPlan.of(corpus.utterances.slice(3, 8), corpus.root, SETTINGS)
    rebuilt = ExtractionPlan.of(
        pa.Table.from_pylist(corpus.utterances.slice(3, 8).to_pylist(), corpus.utterances.schema), corpus.root, SETTINGS
    )
    assert sliced.name == rebuilt.name  # by content, not by how the table lies in memory


def test_twice_the_same_id_is_refused(small_corpus, tmp_path):
    table = read(small_corpus).utterances
    with pytest.raises(EmodartsError, match="occur twice"):
        build_store(pa.concat_tables([table, table.slice(0, 1)]), small_corpus, SETTINGS, tmp_path)


# Disks


def test_the_size_is_logged_first_and_too_small_a_disk_refused(small_corpus, tmp_path, monkeypatch, caplog):
    usage = namedtuple("usage", "total used free")
    plan = plan_of(small_corpus)
    caplog.set_level(logging.INFO, "emodarts")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, plan.size - 1))
    with pytest.raises(EmodartsError, match=r"need up to .* set EMODARTS_CACHE"):
        building.build_planned(plan, tmp_path)
    assert not list((tmp_path / plan.name).glob("shard-*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, plan.size))
    building.build_planned(plan, tmp_path)
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith(
        "features of manifest: 32 utterances, 4 copies of each, 50 frames a second of 32 values, at most "
        f"{files.format_bytes(plan.size)} ({plan.size} bytes) in "
    )


def test_a_disk_that_fills_up_is_told_and_the_build_resumes(small_corpus, tmp_path, monkeypatch, caplog):
    original, calls = files.write_table, itertools.count()

    def full(path, batch):
        if next(calls) == 4:
            with atomic_write(path) as temporary:
                temporary.write_bytes(b"half of it")
                raise OSError(errno.ENOSPC, "No space left on device")
        original(path, batch)

    monkeypatch.setattr(files, "write_table", full)
    plan = plan_of(small_corpus)
    with pytest.raises(EmodartsError, match="is full; what is finished is kept"):
        building.build_planned(plan, tmp_path)
    names = [path.name for path in (tmp_path / plan.name).iterdir()]
    assert "shard-00002.arrow" in names
    assert not [name for name in names if name.endswith(PARTIAL)]
    caplog.set_level(logging.INFO, "emodarts")
    assert len(building.build_planned(plan, tmp_path).utterances) == 32
    assert "4 of 8 shards are there" in caplog.messages[0]


# Damage


@pytest.mark.parametrize("name", ["shard-00003.arrow", "index.arrow"])
@pytest.mark.parametrize("damage", ["cut", "gone", "foreign"])
def test_a_damaged_store_is_noticed_and_mended(small_corpus, tmp_path, name, damage):
    folder = building.build_planned(plan_of(small_corpus), tmp_path).folder
    good = contents(folder)
    if damage == "cut":
        (folder / name).write_bytes(good[name][:-100])
    elif damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(good["shard-00004.arrow"])
    with pytest.raises(EmodartsError, match=rf"{name} (has \d+ bytes, not|is missing)"):
        open_store(folder)
    building.build_planned(plan_of(small_corpus), tmp_path)
    assert contents(folder) == good


def test_a_torn_shard_of_an_unfinished_store_is_built_again(small_corpus, tmp_path):
    folder = building.build_planned(plan_of(small_corpus), tmp_path).folder
    good = contents(folder)
    (folder / "store.json").unlink()
    (folder / "shard-00001.arrow").write_bytes(good["shard-00001.arrow"][:1000])
    (folder / "shard-00002.arrow").write_bytes(good["shard-00005.arrow"])  # whole, but of other utterances
    (folder / "shard-00003.arrow").write_bytes(b"")
    building.build_planned(plan_of(small_corpus), tmp_path)
    assert contents(folder) == good


def test_other_versions_and_unreadable_descriptions_are_refused(small_corpus, tmp_path):
    folder = building.build_planned(plan_of(small_corpus), tmp_path).folder
    good = (folder / "store.json").read_text()
    for text, words in (
        (
            good.replace('"schema_version": 3', '"schema_version": 2'),
            "version 2, not 3: emodarts 0.1.0 reads it; del",
        ),
        (good.replace('"schema_version": 3', '"schema_version": 4'), "version 4, not 3: the version of emodarts that"),
        (good[:-20], "no complete feature store"),
        ("[]", "no complete feature store"),
        ("{}", "schema version None"),
    ):
        (folder / "store.json").write_text(text)
        with pytest.raises(EmodartsError, match=words):
            open_store(folder)
        building.build_planned(plan_of(small_corpus), tmp_path)
        assert (folder / "store.json").read_text() == good
