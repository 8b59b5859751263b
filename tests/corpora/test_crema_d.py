"""CREMA-D: labels from names and from votes, copies, pointers, and the folds by ranges of actors."""

import pytest

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from tests.support.contracts import CorpusContract
from tests.support.layouts import check_folds, crema_d, folds_of


def read(root, **more):
    return corpora.read(CorpusSettings(name="crema_d", root=str(root), **more))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("crema_d")
    return root, crema_d.write_corpus(root)


class TestCremaD(CorpusContract):
    @pytest.fixture
    def corpus(self, folder):
        return read(folder[0])

    def test_rows_and_drops(self, corpus, folder):
        folder[1].assert_matches(corpus)

    def test_ties_of_votes_are_no_agreement(self, corpus, folder):
        settings = CorpusSettings(name="crema_d", source="perceived", class_set="full")
        with pytest.raises(EmodartsError, match=r"disgusted \(1\)"):
            label_utterances(corpus.utterances, settings)
        settings = CorpusSettings(name="crema_d", source="perceived")
        labels = label_utterances(corpus.utterances, settings)
        assert labels.unknown == ()
        assert labels.left_out == {"A:N": 1, "D": 1, "F:H:N": 1}
        assert labels.by_utterance["crema_d/1018_IEO_ANG_HI"] == "angry"

    def test_intended_labels_are_the_default(self, corpus):
        labels = label_utterances(corpus.utterances, CorpusSettings(name="crema_d"))
        assert labels.by_utterance["crema_d/1001_IEO_ANG_HI"] == "angry"
        assert labels.unlabelled == {}

    def test_speaker5(self, folder):
        _, labels, folds = folds_of("crema_d", folder[0], protocol="crema_d/speaker5")
        check_folds(folds, labels)
        tested = [{fold.speakers[u][-4:] for u in fold.tests["crema_d/test"]} for fold in folds]
        last = [
            {"1001", "1018"},
            {"1019", "1036"},
            {"1037", "1040", "1054"},
            {"1055", "1072"},
            {"1073", "1076", "1091"},
        ]
        assert tested == last
        held = [{fold.speakers[u][-4:] for u in fold.dev} for fold in folds]
        assert held == last[1:] + last[:1]
        again = folds_of("crema_d", folder[0])[2]
        assert [fold.hash for fold in again] == [fold.hash for fold in folds]


def test_without_tables_there_are_intended_labels_alone(tmp_path):
    written = crema_d.write_corpus(tmp_path, junk=False, votes=False, demographics=False)
    corpus = read(tmp_path)
    written.assert_matches(corpus)
    settings = CorpusSettings(name="crema_d", source="perceived")
    with pytest.raises(EmodartsError, match="80 utterances have no perceived label"):
        label_utterances(corpus.utterances, settings)


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ("summaryTable.csv", crema_d.LFS_POINTER, "git lfs pull"),
        ("summaryTable.csv", b"FileName,FaceVote\n", "no columns FileName and VoiceVote"),
        ("summaryTable.csv", b"FileName,VoiceVote\nx,A\nx,N\n", r"summaryTable\.csv:3: x stands there twice"),
        ("VideoDemographics.csv", b"ActorID,Sex\n1001,?\n", r"VideoDemographics\.csv:2: Sex is '\?'"),
        ("VideoDemographics.csv", b"ActorID,Sex\n1001,M\xff\n", "invalid UTF8"),
    ],
)
def test_tables_that_are_not_as_published(tmp_path, table, content, message):
    crema_d.write_corpus(tmp_path, junk=False)
    for path in tmp_path.rglob(table):
        path.unlink()
    (tmp_path / table).write_bytes(content)
    with pytest.raises(EmodartsError, match=message):
        read(tmp_path)
