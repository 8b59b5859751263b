"""TESS: two copies of the set, odd names and rates, and folds whose dev part shares its speaker."""

from collections import Counter

import pytest

from emodarts import corpora
from emodarts.corpora.protocols import rules
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from tests.support.contracts import CorpusContract
from tests.support.layouts import check_folds, folds_of, tess


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("tess")
    return root, tess.write_corpus(root)


class TestTess(CorpusContract):
    @pytest.fixture
    def corpus(self, folder):
        return corpora.read(CorpusSettings(name="tess", root=str(folder[0])))

    def test_rows_and_drops(self, corpus, folder):
        folder[1].assert_matches(corpus)

    def test_rates_and_channels_are_those_of_the_files(self, corpus):
        rows = {row["utterance"]: row for row in corpus.utterances.to_pylist()}
        assert Counter(row["sample_rate"] for row in rows.values()) == {24414: len(rows) - 1, 96000: 1}
        assert rows["tess/OAF_food_fear"]["frames"] == 28800
        assert rows["tess/YAF_germ_angry"]["channels"] == 2

    def test_one_woman_tests_and_the_other_is_divided(self, folder):
        _, labels, folds = folds_of("tess", folder[0])
        check_folds(folds, labels)
        assert [fold.protocol for fold in folds] == ["tess/speaker2-random-dev"] * 2
        assert {fold.protocol_caveat for fold in folds} == {rules.SHARED_DEV}
        for fold, (test, other) in zip(folds, (("OAF", "YAF"), ("YAF", "OAF")), strict=True):
            assert {fold.speakers[u] for u in fold.tests["tess/test"]} == {f"tess/{test}"}
            assert {fold.speakers[u] for u in (*fold.train, *fold.dev)} == {f"tess/{other}"}
            assert Counter(fold.labels[u] for u in fold.dev) == dict.fromkeys(("angry", "happy", "neutral", "sad"), 1)
        again = folds_of("tess", folder[0])[2]
        assert [fold.hash for fold in again] == [fold.hash for fold in folds]
        assert folds[0].hash != folds[1].hash


def test_the_flat_layout(tmp_path):
    written = tess.write_corpus(tmp_path, flat=True)
    written.assert_matches(corpora.read(CorpusSettings(name="tess", root=str(tmp_path))))


def test_both_layouts_make_the_same_folds(tmp_path):
    tess.write_corpus(tmp_path / "flat", flat=True, junk=False)
    tess.write_corpus(tmp_path / "nested", junk=False)
    hashes = [[fold.hash for fold in folds_of("tess", tmp_path / kind)[2]] for kind in ("flat", "nested")]
    assert hashes[0] == hashes[1]


def test_one_woman_alone_makes_no_fold(tmp_path):
    tess.write_corpus(tmp_path, flat=True, junk=False)
    for file in tmp_path.glob("YAF_*"):
        file.unlink()
    with pytest.raises(EmodartsError, match="part is empty"):
        folds_of("tess", tmp_path)
