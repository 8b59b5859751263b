"""Utterances of nobody in particular may be by anybody in their recording: they must not train beside its speakers."""

import pyarrow as pa
import pytest

from emodarts import corpora
from emodarts.audit.audit import audit_corpus
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.folds import make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.features.measures import MEASURES
from tests.support.files import write_tone
from tests.support.layouts import msp_podcast


@pytest.fixture
def dialogs(tmp_path):
    """Four files of one speaker each, cut into segments, some of which are said by somebody unknown."""
    rows = ["file,speaker,label,start,end,split"]
    for number, (speaker, split) in enumerate(zip("ABCD", ("train", "train", "dev", "test"), strict=True)):
        write_tone(tmp_path / f"dialog{number}.wav", seconds=8.0, f0=120 + 20 * number)
        for segment in range(8):
            who = "Unknown" if segment > 5 else speaker
            rows.append(f"dialog{number}.wav,{who},{('angry', 'sad')[segment % 2]},{segment},{segment + 1},{split}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def made(root, **settings):
    chosen = CorpusSettings(name="manifest", root=str(root), class_set="angry,sad", **settings)
    corpus = corpora.read(chosen)
    return make_folds(chosen, corpus.utterances, label_utterances(corpus.utterances, chosen))


def check(fold, count):
    held_out = {u.split("@")[0] for part in (fold.dev, *fold.tests.values()) for u in part}
    assert not {u.split("@")[0] for u in fold.train if fold.speakers[u] is None} & held_out
    assert all(fold.speakers[u] for part in (fold.dev, *fold.tests.values()) for u in part)
    assert sum(reason == rules.UNKNOWN_NEAR_TEST for reason in fold.left_out.values()) == count


def test_segments_of_a_held_out_file_do_not_train(dialogs):
    for fold in made(dialogs, protocol="manifest/speaker4"):
        assert len(fold.tests["manifest/test"]) == 6
        check(fold, 4)  # two of the test file, two of the dev file


def test_nor_under_the_table_s_own_split(dialogs):
    (fold,) = made(dialogs, protocol="manifest/official")
    check(fold, 0)
    assert sum(reason == rules.UNKNOWN_SPEAKER for reason in fold.left_out.values()) == 4
    table = dialogs / "table.csv"
    moved = [
        r.replace(",dev", ",train").replace(",test", ",train") if "Unknown" in r else r
        for r in table.read_text().split("\n")
    ]
    table.write_text("\n".join(moved))
    (fold,) = made(dialogs, protocol="manifest/official")
    check(fold, 4)


def test_nor_under_a_split_of_the_user_s(dialogs, tmp_path_factory):
    role = {"0": "train", "1": "train", "2": "dev", "3": "test"}
    ids = [f"dialog{n}@{float(s)}" for n in range(4) for s in range(8)]
    lines = [f"{u},{'train' if float(u[8:]) > 5 else role[u[6]]}" for u in ids]
    split = tmp_path_factory.mktemp("split") / "mine.csv"
    split.write_text("\n".join(["utterance,role", *lines]) + "\n")
    (fold,) = made(dialogs, protocol=str(split))
    check(fold, 4)


def test_the_published_train_part_stays_whole_and_the_audit_counts(tmp_path):
    msp_podcast.write_corpus(tmp_path, junk=False)
    chosen = CorpusSettings(name="msp_podcast", root=str(tmp_path))
    corpus = corpora.read(chosen)
    rows = corpus.utterances.to_pylist()
    near = next(r for r in rows if r["split"] == "Train")
    near |= {"speaker": None, "recording": next(r["recording"] for r in rows if r["split"] == "Test1")}
    table = pa.Table.from_pylist(rows, corpus.utterances.schema)
    labels = label_utterances(table, chosen)
    folds = make_folds(chosen, table, labels)
    assert near["utterance"] in folds[0].train
    found = audit_corpus(
        corpora.Corpus("msp_podcast", tmp_path, table, corpus.dropped), labels, folds, MEASURES.empty_table(), chosen
    )
    (finding,) = [f for f in found.findings if f.subject == "unknown speakers near test"]
    assert finding.severity == "warning"
    assert finding.fact.startswith("1 train utterances")
    chosen = CorpusSettings(name="msp_podcast", root=str(tmp_path), protocol="speaker5")
    for fold in make_folds(chosen, table, labels):
        assert (near["utterance"] in fold.train) == (rules.UNKNOWN_NEAR_TEST not in fold.left_out.values())
