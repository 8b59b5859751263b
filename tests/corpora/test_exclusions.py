"""`corpus.exclude`: what a file names never trains; dev, test and the labels stay as they are."""

from dataclasses import replace

import pytest

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import join_folds, make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    settings = CorpusSettings(root=str(tmp_path_factory.mktemp("corpus") / "demo"))
    utterances = corpora.read(settings).utterances
    return settings, utterances, label_utterances(utterances, settings)


def folds(read, exclude=None):
    settings, utterances, labels = read
    return make_folds(CorpusSettings(root=settings.root, exclude=exclude), utterances, labels)


def write(path, *ids, head="utterance,reason"):
    path.write_text("\n".join([head, *(f"{name},doubtful" for name in ids)]) + "\n")
    return str(path)


@pytest.mark.slow
def test_what_is_named_never_trains_and_everything_else_stays(read, tmp_path):
    plain = folds(read)
    without = folds(read, write(tmp_path / "hard.csv", "demo/s0_angry_0", "s3_sad_7", "ravdess/x"))
    names = {"demo/s0_angry_0", "demo/s3_sad_7"}
    assert any(names & set(fold.train) for fold in plain)
    for before, after in zip(plain, without, strict=True):
        assert (after.dev, after.tests) == (before.dev, before.tests)
        assert set(after.train) == set(before.train) - names
        for name in names & set(before.train):
            assert after.left_out[name] == "hard.csv takes it out of the train part"
        assert (after.hash == before.hash) == (not names & set(before.train))
    assert without[0].protocol.startswith(f"{plain[0].protocol}-without-2@")


def test_the_name_depends_on_the_ids_alone(read, tmp_path):
    first = folds(read, write(tmp_path / "a.csv", "demo/s0_angry_0", "demo/s3_sad_7"))
    again = folds(read, write(tmp_path / "b.csv", "s3_sad_7", "s0_angry_0"))
    other = folds(read, write(tmp_path / "c.csv", "s3_sad_6", "s0_angry_0"))
    assert first[0].protocol == again[0].protocol != other[0].protocol


def test_joined_corpora_keep_the_mark(read, tmp_path):
    (first, *_) = folds(read, write(tmp_path / "hard.csv", "s0_angry_0"))
    renamed = {name: f"b/{name}" for name in first.labels}
    other = replace(
        first,
        protocol="b/speaker4",
        train=tuple(map(renamed.get, first.train)),
        dev=tuple(map(renamed.get, first.dev)),
        tests={"b/test": tuple(map(renamed.get, first.test_ids))},
        labels={renamed[u]: label for u, label in first.labels.items()},
        speakers={renamed[u]: f"b/{speaker}" for u, speaker in first.speakers.items()},
        groups={renamed[u]: f"b/{group}" for u, group in first.groups.items()},
    )
    mark = first.protocol.partition("-without-")[2]
    (joined,) = join_folds({"demo": (first,), "b": (other,)})
    assert joined.protocol == f"demo+b/joined-without-{mark}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "utterance\ns0_angry_99\n",
            "hard.csv.*no labelled utterance .s0_angry_99. in demo; take the line out",
        ),
        ("utterance\ndemo/nobody\n", "there is no labelled utterance 'demo/nobody' in demo"),
        ("file,label\na,b\n", "needs a column utterance; it has file, label"),
    ],
)
def test_files_that_are_none_are_refused(read, tmp_path, content, message):
    (tmp_path / "hard.csv").write_text(content)
    with pytest.raises(EmodartsError, match=message):
        folds(read, str(tmp_path / "hard.csv"))


def test_a_missing_file_is_refused(read, tmp_path):
    with pytest.raises(EmodartsError, match="cannot be read: no such file; give a CSV file with a column utterance"):
        folds(read, str(tmp_path / "nothing.csv"))


def test_a_class_must_not_vanish(read, tmp_path):
    _, _, labels = read
    sad = [name for name, label in labels.by_utterance.items() if label == "sad"]
    with pytest.raises(EmodartsError, match="class 'sad' has 0 utterance"):
        folds(read, write(tmp_path / "hard.csv", *sad))
