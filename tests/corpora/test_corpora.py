import shutil
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emodarts import corpora
from emodarts.corpora.labels import Labels, label_utterances
from emodarts.corpora.protocols.folds import check_fold, make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import UTTERANCES, Utterance
from emodarts.errors import EmodartsError
from tests.support.contracts import CorpusContract
from tests.support.files import write_tone


def read(name, root, **more):
    corpus_settings = CorpusSettings(name=name, root=str(root), **more)
    corpus = corpora.read(corpus_settings)
    return corpus, label_utterances(corpus.utterances, corpus_settings)


class TestEmoDB(CorpusContract):
    @pytest.fixture
    def corpus(self, recordings):
        return read("emodb", recordings / "emodb")[0]

    def test_golden_counts(self, corpus, recordings):
        assert corpus.utterances.num_rows == 535
        speakers = Counter(s[-2:] for s in corpus.utterances["speaker"].to_pylist())
        published = "03:49 08:58 09:43 10:38 11:55 12:35 13:61 14:69 15:56 16:71"
        assert speakers == {k: int(v) for k, v in (item.split(":") for item in published.split())}
        _, labels = read("emodb", recordings / "emodb")
        assert Counter(labels.by_utterance.values()) == {"angry": 127, "neutral": 79, "happy": 71, "sad": 62}
        assert labels.left_out == {"boredom": 81, "disgust": 46, "fear": 69}

    def test_folds(self, corpus, recordings):
        _, labels = read("emodb", recordings / "emodb")
        folds = make_folds(CorpusSettings(name="emodb"), corpus.utterances, labels)
        assert len(folds) == 10
        assert {folds[0].speakers[u] for u in folds[0].dev} == {"emodb/08", "emodb/10"}
        assert folds[0].hash == "d921622886ca51f9"


class TestRavdess(CorpusContract):
    @pytest.fixture
    def corpus(self, recordings):
        return read("ravdess", recordings / "ravdess")[0]

    @pytest.mark.slow
    def test_golden_counts(self, corpus, recordings):
        assert corpus.utterances.num_rows == 1440
        assert len(read("ravdess", recordings / "ravdess")[1].by_utterance) == 672
        assert len(read("ravdess", recordings / "ravdess", calm="neutral")[1].by_utterance) == 864

    @pytest.mark.slow
    def test_folds_hold_two_women_and_two_men(self, corpus, recordings):
        folds = make_folds(
            CorpusSettings(name="ravdess"), corpus.utterances, read("ravdess", recordings / "ravdess")[1]
        )
        assert len(folds) == 6
        for fold in folds:
            actors = {int(fold.speakers[u][-2:]) for u in fold.tests["ravdess/test"]}
            assert sorted(a % 2 for a in actors) == [0, 0, 1, 1]
        assert folds[0].hash == "b100e364c0ca7f6b"


class TestDemo(CorpusContract):
    @pytest.fixture
    def corpus(self, demo):
        return demo[0]

    @pytest.mark.slow
    def test_same_seed_same_bytes(self, corpus, tmp_path):
        again, _ = read("demo", tmp_path / "again")
        for path in again.utterances["path"].to_pylist()[::16]:
            assert (again.root / path).read_bytes() == (corpus.root / path).read_bytes()

    @pytest.mark.slow
    def test_two_processes_at_once(self, tmp_path):
        with ProcessPoolExecutor(2) as pool:
            counts = list(pool.map(_count_demo, [str(tmp_path / "both")] * 2))
        assert counts == [256, 256]

    def test_foreign_folder_is_left_alone(self, tmp_path):
        (tmp_path / "mine.txt").write_text("precious")
        with pytest.raises(EmodartsError, match="not empty"):
            read("demo", tmp_path)
        assert (tmp_path / "mine.txt").read_text() == "precious"


def _count_demo(root):
    return read("demo", root)[0].utterances.num_rows


class TestManifest(CorpusContract):
    @pytest.fixture
    def corpus(self, small_corpus):
        return read("manifest", small_corpus, class_set="full")[0]

    def test_column_names_can_be_given(self, small_corpus):
        table = small_corpus / "table.csv"
        table.write_text(table.read_text().replace("file,speaker,label", "f,who,what"))
        with pytest.raises(EmodartsError, match=r"no column for 'file' among f, who, what.*corpus.columns.file"):
            read("manifest", small_corpus, class_set="full")
        columns = {"file": "f", "speaker": "who", "label": "what"}
        assert read("manifest", small_corpus, class_set="full", columns=columns)[0].utterances.num_rows == 32


def test_bad_files_are_dropped_with_a_reason(small_corpus):
    whole = (small_corpus / "a" / "angry0.wav").read_bytes()
    (small_corpus / "a" / "angry0.wav").write_bytes(whole[: len(whole) // 2])
    (small_corpus / "a" / "angry1.wav").write_bytes(b"")
    (small_corpus / "b" / "sad0.wav").write_bytes(b"this is no audio at all, not in the least")
    (small_corpus / "b" / "sad1.wav").unlink()
    corpus, _ = read("manifest", small_corpus, class_set="full")
    reasons = dict(zip(corpus.dropped["path"].to_pylist(), corpus.dropped["reason"].to_pylist(), strict=True))
    assert "cut" in reasons["a/angry0.wav"]
    assert "empty" in reasons["a/angry1.wav"]
    assert "cannot be read" in reasons["b/sad0.wav"]
    assert "missing" in reasons["b/sad1.wav"]
    assert corpus.utterances.num_rows == 28


def test_junk_beside_emodb_is_dropped(tmp_path):
    for name in ("03a01Wa.wav", "._03a01Wa.wav", "99a01Wa.wav", "holiday.wav"):
        write_tone(tmp_path / "wav" / name)
    corpus = corpora.read(CorpusSettings(name="emodb", root=str(tmp_path)))
    assert corpus.utterances["utterance"].to_pylist() == ["emodb/03a01Wa"]
    assert corpus.dropped.num_rows == 3


def test_unknown_labels_are_named(small_corpus):
    table = small_corpus / "table.csv"
    table.write_text(table.read_text() + "a/angry0.wav,a,angry\n")
    write_tone(small_corpus / "a" / "odd.wav")
    table.write_text(table.read_text() + "a/odd.wav,a,perplexed\n")
    _, labels = read("manifest", small_corpus, class_set="angry,sad")
    assert "manifest/a/odd" not in labels.by_utterance
    assert labels.left_out == {"perplexed": 1}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda p: p / "nowhere", "does not exist"),
        (lambda p: (p / "file").write_text("x") and p / "file", "is a file, not a folder"),
        (lambda p: p, "no utterance of emodb in .*looked for audio files such as"),
    ],
)
def test_bad_roots(tmp_path, prepare, message):
    with pytest.raises(EmodartsError, match=message):
        corpora.read(CorpusSettings(name="emodb", root=str(prepare(tmp_path))))


def test_unknown_corpus_and_unset_root(monkeypatch):
    monkeypatch.delenv("EMODARTS_CORPORA", raising=False)
    with pytest.raises(EmodartsError, match="unknown corpus 'emdb': is it emodb"):
        corpora.read(CorpusSettings(name="emdb"))
    with pytest.raises(EmodartsError, match=r"set corpus\.root"):
        corpora.read(CorpusSettings(name="emodb"))


def test_a_class_with_one_utterance_is_refused(small_corpus):
    write_tone(small_corpus / "a" / "odd.wav")
    with (small_corpus / "table.csv").open("a") as table:
        table.write("a/odd.wav,a,bored\n")
    with pytest.raises(EmodartsError, match=r"too few utterances of bored \(1\).*corpus.class_set"):
        read("manifest", small_corpus, class_set="full")


def test_a_leaking_fold_is_refused(demo):
    from dataclasses import replace

    fold = demo[2][0]
    leaked = replace(
        fold, train=(*fold.train, fold.tests["demo/test"][0]), tests={"demo/test": fold.tests["demo/test"][1:]}
    )
    with pytest.raises(EmodartsError, match="speaker demo/s0 stands in train and in test"):
        check_fold(leaked)


def test_a_protocol_that_does_not_fit(demo):
    corpus, labels, _ = demo
    with pytest.raises(EmodartsError, match="demo/speaker<k> with k from 3 to 8"):
        make_folds(CorpusSettings(protocol="demo/speaker9"), corpus.utterances, labels)


@given(
    sizes=st.lists(st.integers(4, 9), min_size=4, max_size=9),
    k=st.integers(3, 4),
    unknown=st.integers(0, 3),
    shuffle=st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_folds_of_any_corpus(sizes, k, unknown, shuffle):
    rows = [(f"manifest/{s}-{i}", f"manifest/s{s}", "ab"[i % 2]) for s, n in enumerate(sizes) for i in range(n)]
    rows += [(f"manifest/x{i}", None, "a") for i in range(unknown)]

    def make(rows):
        import pyarrow as pa

        blank = dict.fromkeys(UTTERANCES.names)
        table = [
            {
                **blank,
                "utterance": u,
                "speaker": s,
                "corpus": "manifest",
                "path": u,
                "sample_rate": 1,
                "channels": 1,
                "frames": 1,
            }
            for u, s, _ in rows
        ]
        labels = Labels(("a", "b"), {u: c for u, _, c in rows}, {}, (), {})
        chosen = CorpusSettings(name="manifest", protocol=f"manifest/speaker{k}")
        return make_folds(chosen, pa.Table.from_pylist(table, UTTERANCES), labels)

    folds = make(rows)
    shuffled = list(rows)
    shuffle.shuffle(shuffled)
    assert [f.hash for f in make(shuffled)] == [f.hash for f in folds]
    tested = [u for f in folds for u in f.tests["manifest/test"]]
    assert sorted(tested) == sorted(u for u, s, _ in rows if s)
    for fold in folds:
        check_fold(fold)
        everything = {*fold.train, *fold.dev, *fold.tests["manifest/test"]}
        assert everything == {u for u, _, _ in rows}
        assert all(fold.speakers[u] for u in (*fold.dev, *fold.tests["manifest/test"]))


def test_utterance_ids_must_differ(tmp_path):
    from emodarts.corpora.table import build_corpus

    write_tone(tmp_path / "a.wav")
    shutil.copy(tmp_path / "a.wav", tmp_path / "b.wav")
    rows = [Utterance("x/1", "a.wav", "x/s"), Utterance("x/1", "b.wav", "x/s")]
    with pytest.raises(EmodartsError, match="both utterance x/1"):
        build_corpus("x", tmp_path, rows, "anything")


def test_the_demo_corpus_is_neither_trivial_nor_hopeless_for_a_linear_model(demo):
    """Logistic regression on the mean MFCC, across speakers: between .45 and .80."""
    import numpy as np
    import soundfile
    import torch
    import torchaudio
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from emodarts.metrics import uar

    corpus, labels, folds = demo
    mfcc = torchaudio.transforms.MFCC(16000, 20, melkwargs={"n_mels": 40, "n_fft": 512})
    columns = (corpus.utterances[name].to_pylist() for name in ("utterance", "path"))
    sounds = {u: soundfile.read(corpus.root / p, dtype="float32")[0] for u, p in zip(*columns, strict=True)}
    means = {u: mfcc(torch.from_numpy(x)).mean(1).numpy() for u, x in sounds.items()}
    truth, predicted = [], []
    for fold in folds:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=3000))
        model.fit([means[u] for u in fold.train], [fold.labels[u] for u in fold.train])
        test = fold.tests["demo/test"]
        truth += [fold.labels[u] for u in test]
        predicted += model.predict([means[u] for u in test]).tolist()
    index = {name: number for number, name in enumerate(labels.classes)}
    score = uar(np.array([index[y] for y in truth]), np.array([index[p] for p in predicted]), 4)
    assert 0.45 <= score <= 0.80
