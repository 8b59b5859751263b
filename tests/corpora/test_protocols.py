"""Every named protocol: disjoint, covering, deterministic, with hashes that must not change."""

import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emodarts.corpora.labels import Labels
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.folds import check_fold, check_not_trained_on, join_folds, make_folds
from emodarts.corpora.readers import describe
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import UTTERANCES
from emodarts.errors import EmodartsError

CLASSES = ("angry", "happy", "neutral", "sad")
PROTOCOLS = [
    (corpus, name)
    for corpus in ("emodb", "ravdess", "iemocap", "msp_improv", "msp_podcast", "crema_d", "tess", "savee", "demo")
    for name in describe(corpus).rules
]


def people(corpus):
    """(speaker, gender, session) of the corpus's speakers, as published."""
    if corpus == "iemocap":
        return [(f"Ses0{s}{g}", g, str(s)) for s in range(1, 6) for g in "FM"]
    if corpus == "msp_improv":
        return [(f"{g}{s}", g, str(s)) for s in range(1, 7) for g in "FM"]
    if corpus == "msp_podcast":
        return [(str(n), "FM"[n % 2], None) for n in range(1, 31)]
    ids = {
        "emodb": [
            (n, "F" if n in ("08", "09", "13", "14", "16") else "M")
            for n in ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
        ],
        "ravdess": [(f"{n:02d}", "MF"[n % 2 == 0]) for n in range(1, 25)],
        "crema_d": [(str(n), "FM"[n % 2]) for n in range(1001, 1092)],
        "tess": [("OAF", "F"), ("YAF", "F")],
        "savee": [(n, "M") for n in ("DC", "JE", "JK", "KL")],
        "demo": [(f"s{n}", "FM"[n % 2]) for n in range(8)],
    }[corpus]
    return [(name, gender, None) for name, gender in ids]


def corpus_of(corpus, per_speaker, unknown=0, seed=0):
    """An utterance table of the corpus's speakers with about so many utterances each, and its labels."""
    rng = random.Random(seed)
    blank = dict.fromkeys(UTTERANCES.names)
    blank |= {"corpus": corpus, "sample_rate": 16000, "channels": 1, "frames": 16000}
    splits = ["Train"] * 6 + ["Development"] * 2 + ["Test1", "Test2"]
    rows, found = [], {}
    for number, (speaker, gender, session) in enumerate(people(corpus)):
        for take in range(per_speaker + rng.randrange(4)):
            row = {
                **blank,
                "utterance": f"{corpus}/{speaker}-{take:03d}",
                "path": f"{speaker}-{take}.wav",
                "speaker": f"{corpus}/{speaker}",
                "gender": {"F": "female", "M": "male"}[gender],
                "session": session,
                "recording": f"{speaker}-{take % 3}",
                "scenario": rng.choice(
                    {"iemocap": ["improvised", "scripted"], "msp_improv": list("PRST")}.get(corpus, ["x"])
                ),
                "split": splits[number % 10] if corpus == "msp_podcast" else None,
            }
            rows.append(row)
            found[row["utterance"]] = CLASSES[take % 4]
    hidden = {}
    if corpus == "msp_podcast":
        for n in range(unknown):
            row = {**blank, "utterance": f"{corpus}/unknown-{n}", "path": f"u{n}.wav", "split": "Train"}
            rows.append({**row, "recording": f"{people(corpus)[n][0]}-0" if n % 2 else f"own-{n}"})
            found[row["utterance"]] = CLASSES[n % 4]
        for n in range(3):
            rows.append({**blank, "utterance": f"{corpus}/test3-{n}", "path": f"t{n}.wav", "split": "Test3"})
            hidden[rows[-1]["utterance"]] = rows[-1]["path"]
    return rows, Labels(CLASSES, found, {}, (), hidden)


def folds_of(corpus, name, rows, labels):
    requires = describe(corpus).rules[name].requires
    chosen = CorpusSettings(name=corpus, protocol=f"{corpus}/{name}", **requires)
    return make_folds(chosen, pa.Table.from_pylist(rows, UTTERANCES), labels)


@pytest.mark.parametrize(("corpus", "name"), PROTOCOLS)
@given(per_speaker=st.integers(48, 60), unknown=st.integers(0, 6), seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_disjoint_covering_and_independent_of_order(corpus, name, per_speaker, unknown, seed):
    rows, labels = corpus_of(corpus, per_speaker if len(people(corpus)) < 30 else 12, unknown, seed)
    folds = folds_of(corpus, name, rows, labels)
    random.Random(seed).shuffle(rows)
    assert [f.hash for f in folds_of(corpus, name, rows, labels)] == [f.hash for f in folds]
    everything = {*labels.by_utterance, *labels.unlabelled}
    for fold in folds:
        test = [u for ids in fold.tests.values() for u in ids]
        parts = [*fold.train, *fold.dev, *test, *fold.left_out]
        assert sorted(parts) == sorted(everything)  # each exactly once
        speakers = {
            role: {fold.speakers[u] for u in ids}
            for role, ids in (("train", fold.train), ("dev", fold.dev), ("test", test))
        }
        assert not speakers["test"] & speakers["train"] - {None}
        assert not speakers["test"] & speakers["dev"] - {None}
        if fold.protocol_caveat == rules.SHARED_DEV:
            assert speakers["dev"] <= speakers["train"]
        else:
            assert not speakers["train"] & speakers["dev"] - {None}
        assert None not in speakers["dev"]
        assert (not fold.dev) == (fold.protocol_caveat == rules.NO_DEV)


@pytest.mark.parametrize("corpus", ["emodb", "ravdess", "iemocap", "msp_improv", "crema_d", "tess", "savee", "demo"])
def test_the_folds_of_a_default_protocol_test_everybody_once(corpus):
    rows, labels = corpus_of(corpus, 48 if len(people(corpus)) < 30 else 12)
    folds = folds_of(corpus, describe(corpus).protocol, rows, labels)
    assert sorted(u for fold in folds for ids in fold.tests.values() for u in ids) == sorted(labels.by_utterance)


def test_hashes_are_what_they_were():
    """A changed hash means other folds than those of every earlier result under the same name."""
    found = {}
    for corpus, name in PROTOCOLS:
        rows, labels = corpus_of(corpus, 48 if len(people(corpus)) < 30 else 12, unknown=4)
        found[f"{corpus}/{name}"] = " ".join(fold.hash[:4] for fold in folds_of(corpus, name, rows, labels))
    assert found == HASHES


HASHES = {
    "emodb/speaker10": "2d17 7ab1 9f69 7fe8 cd9b 482e c603 cf03 5ef5 8335",
    "ravdess/speaker6": "09c8 320d 9b7f b6c3 91ab 2b22",
    "iemocap/session5": "a4e7 b149 5479 991a 2521",
    "iemocap/session5-random-dev": "563a bb14 facb 37e3 ca92",
    "iemocap/speaker10": "6ea2 c7a5 ed96 88a6 b3ab f2b6 d09e 05f9 2382 5106",
    "iemocap/emodarts-no-dev": "0cae 71b8 b41c 7dc0 1ae3",
    "msp_improv/session6": "4b79 2be4 7b72 9b4d 9f70 bed4",
    "msp_improv/speaker12": "83cc ed9b 69e6 e4b4 a880 bbee 1a0c 332f 9b0d af7f e7dd 2672",
    "msp_improv/emodarts-no-dev": "ff66 fa9b ab32 e5f9",
    "msp_podcast/official": "6b95",
    "msp_podcast/speaker5": "1be5 b6b6 9ff7 4744 eded",
    "msp_podcast/emodarts-no-dev": "83c7 4ffa d5cf c65b 56cd",
    "crema_d/speaker5": "e15f 07bc c8f8 dcc9 59d0",
    "tess/speaker2-random-dev": "3ae6 c77c",
    "savee/speaker4": "7942 55f7 b673 bab7",
    "demo/speaker4": "f95b 69a2 2979 5bf0",
}


def roles(fold):
    speakers = {
        role: sorted({fold.speakers[u] for u in ids if fold.speakers[u]})
        for role, ids in (("dev", fold.dev), ("test", [u for ids in fold.tests.values() for u in ids]))
    }
    return speakers["test"], speakers["dev"]


def test_sessions_as_in_the_table():
    for corpus, pairs in (("iemocap", "45 34 23 12 51"), ("msp_improv", "43 32 21 16 65 54")):
        folds = folds_of(corpus, describe(corpus).protocol, *corpus_of(corpus, 48))
        found = [{s[-2] if corpus == "iemocap" else s[-1] for s in part} for f in folds for part in roles(f)]
        assert ["".join(a) + "".join(b) for a, b in zip(found[::2], found[1::2], strict=True)] == pairs.split()


def test_a_test_speaker_s_partner_is_dev():
    for fold in folds_of("iemocap", "speaker10", *corpus_of("iemocap", 48)):
        (test,), (dev,) = roles(fold)
        assert test[:-1] == dev[:-1]
        assert {test[-1], dev[-1]} == {"F", "M"}


def test_crema_d_actors_by_ranges():
    folds = folds_of("crema_d", "speaker5", *corpus_of("crema_d", 12))
    ranges = [(int(t[0][-4:]), int(t[-1][-4:])) for t, _ in map(roles, folds)]
    assert ranges == [(1001, 1018), (1019, 1036), (1037, 1054), (1055, 1072), (1073, 1091)]
    assert roles(folds[4])[1] == roles(folds[0])[0]


def test_podcast_keeps_its_test_sets_apart_and_unknown_speakers_in_train():
    rows, labels = corpus_of("msp_podcast", 12, unknown=6)
    (fold,) = folds_of("msp_podcast", "official", rows, labels)
    assert set(fold.tests) == {f"msp_podcast/test{n}" for n in (1, 2, 3)}
    assert len(fold.tests["msp_podcast/test3"]) == 3
    assert not set(fold.tests["msp_podcast/test3"]) & set(fold.labels)
    assert sum(s is None for u, s in fold.speakers.items() if u in fold.train) == 6
    for fold in folds_of("msp_podcast", "speaker5", rows, labels):
        held_out = {r["recording"] for r in rows if r["utterance"] not in fold.train and r["speaker"]}
        mine = [r for r in rows if r["speaker"] is None and r["utterance"] in fold.train]
        assert not {r["recording"] for r in mine} & held_out
        assert set(fold.left_out.values()) <= {rules.UNKNOWN_NEAR_TEST, "its label is not public"}


def test_an_unknown_speaker_in_an_official_test_set_is_left_out():
    rows, labels = corpus_of("msp_podcast", 12)
    victim = next(r for r in rows if r["split"] == "Test1")
    victim["speaker"] = None
    (fold,) = folds_of("msp_podcast", "official", rows, labels)
    assert fold.left_out == {victim["utterance"]: rules.UNKNOWN_SPEAKER}


def test_balanced_groups_are_balanced():
    rows, labels = corpus_of("msp_podcast", 12)
    sizes = [len(f.tests["msp_podcast/test"]) for f in folds_of("msp_podcast", "speaker5", rows, labels)]
    assert max(sizes) - min(sizes) <= 3


def test_a_random_dev_is_a_stratified_fifth():
    for corpus, name in (("iemocap", "session5-random-dev"), ("tess", "speaker2-random-dev")):
        for fold in folds_of(corpus, name, *corpus_of(corpus, 48)):
            for label in CLASSES:
                counts = [sum(fold.labels[u] == label for u in ids) for ids in (fold.train, fold.dev)]
                assert counts[1] == pytest.approx(0.2 * sum(counts), abs=0.51)


def test_a_weakness_must_stand_in_the_id():
    from dataclasses import replace

    fold = folds_of("iemocap", "session5-random-dev", *corpus_of("iemocap", 48))[0]
    with pytest.raises(EmodartsError, match="the protocol's name does not say -random-dev"):
        check_fold(replace(fold, protocol="iemocap/session5"))
    with pytest.raises(EmodartsError, match="stands in train and in dev"):
        check_fold(replace(fold, protocol_caveat=None))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"protocol": "iemocap/session6"}, "choose one of iemocap/session5, iemocap/session5-random-dev"),
        ({"protocol": "msp_improv/session6"}, "does not fit iemocap"),
        ({"protocol": "iemocap/emodarts"}, "defined for corpus.excited=drop"),
    ],
)
def test_a_protocol_that_does_not_fit_says_which_do(given, message):
    rows, labels = corpus_of("iemocap", 48)
    with pytest.raises(EmodartsError, match=message):
        make_folds(CorpusSettings(name="iemocap", **given), pa.Table.from_pylist(rows, UTTERANCES), labels)


class TestJoined:
    @pytest.fixture
    def parts(self):
        return {
            corpus: folds_of(corpus, describe(corpus).protocol, *corpus_of(corpus, 48)) for corpus in ("emodb", "savee")
        }

    def test_fold_i_joins_fold_i_mod_k_and_tests_stay_apart(self, parts):
        folds = join_folds(parts)
        assert len(folds) == 10
        assert folds[0].protocol == "emodb+savee/joined"
        for index, fold in enumerate(folds):
            assert set(fold.tests) == {"emodb/test", "savee/test"}
            assert fold.tests["savee/test"] == parts["savee"][index % 4].tests["savee/test"]
            assert len(fold.train) == len(parts["emodb"][index].train) + len(parts["savee"][index % 4].train)

    def test_what_cannot_be_joined(self, parts):
        with pytest.raises(EmodartsError, match="two corpora or more"):
            join_folds({"emodb": parts["emodb"]})
        rows, _ = corpus_of("savee", 48)
        two = Labels(
            ("angry", "sad"), {r["utterance"]: ("angry", "sad")[i % 2] for i, r in enumerate(rows)}, {}, (), {}
        )
        without = folds_of("iemocap", "emodarts-no-dev", *corpus_of("iemocap", 48))
        with pytest.raises(EmodartsError, match="iemocap: a protocol without dev part cannot be joined"):
            join_folds({**parts, "iemocap": without})
        with pytest.raises(EmodartsError, match="different classes"):
            join_folds({**parts, "savee": folds_of("savee", "speaker4", rows, two)})

    def test_a_weak_part_makes_a_weak_whole(self, parts):
        tess = folds_of("tess", "speaker2-random-dev", *corpus_of("tess", 48))
        (first, *_) = join_folds({"savee": parts["savee"], "tess": tess})
        assert first.protocol_caveat == rules.SHARED_DEV
        assert first.protocol == "savee+tess/joined-random-dev"

    def test_a_corpus_in_training_is_refused_as_a_further_test(self, parts):
        with pytest.raises(EmodartsError, match="savee trains here"):
            check_not_trained_on(join_folds(parts), "savee")
        check_not_trained_on(join_folds(parts), "tess")


@pytest.mark.parametrize(
    ("one", "other"), [("ann", "Ann"), ("s1", "s01"), ("j\u00f6", "jo\u0308"), ("a b", "a\u00a0b"), ("x", "x\u200b")]
)
def test_speakers_that_differ_in_spelling_alone_do_not_stand_in_two_roles(one, other):
    rows, labels = corpus_of("savee", 48)
    names = {"DC": one, "JE": other, "JK": "third", "KL": "fourth"}
    for row in rows:
        row["speaker"] = f"savee/{names[row['speaker'][-2:]]}"
    table = pa.Table.from_pylist(rows, UTTERANCES)
    with pytest.raises(EmodartsError, match="if that is one person, spell it one way"):
        make_folds(CorpusSettings(name="savee"), table, labels)


def test_who_has_no_label_neither_tests_nor_counts():
    rows, labels = corpus_of("savee", 48)
    blind = {r["utterance"]: r["path"] for r in rows if "KL" in r["utterance"]}
    found = {u: name for u, name in labels.by_utterance.items() if u not in blind}
    labels = Labels(CLASSES, found, {}, (), blind)
    folds = make_folds(CorpusSettings(name="savee"), pa.Table.from_pylist(rows, UTTERANCES), labels)
    assert [roles(fold)[0] for fold in folds] == [["savee/DC"], ["savee/JE"], ["savee/JK"]]
    assert set(folds[0].left_out) == set(blind)


@pytest.mark.parametrize(
    ("corpus", "lost", "part"),
    [
        ("iemocap", lambda r: r["session"] == "3", "fold 1: the test set iemocap/test part"),
        ("msp_improv", lambda r: r["session"] == "3", "fold 0: the dev part"),
        ("ravdess", lambda r: r["speaker"] > "ravdess/05", "fold 0: the dev part"),
        ("crema_d", lambda r: "1019" <= r["speaker"][-4:] <= "1036", "fold 0: the dev part"),
        ("msp_podcast", lambda r: r["split"] == "Development", "fold 0: the dev part"),
        ("tess", lambda r: r["speaker"] == "tess/OAF", "fold 0: the train part"),
    ],
)
def test_a_copy_with_a_hole_is_refused_and_told_what_fits(corpus, lost, part):
    rows, labels = corpus_of(corpus, 48 if len(people(corpus)) < 30 else 12)
    table = pa.Table.from_pylist([row for row in rows if not lost(row)], UTTERANCES)
    with pytest.raises(EmodartsError, match=f"{part} is empty: the copy has no .* choose another protocol: "):
        make_folds(CorpusSettings(name=corpus), table, labels)


class TestUserSplit:
    @pytest.fixture
    def made(self, tmp_path):
        rows, labels = corpus_of("savee", 48)
        table = pa.Table.from_pylist(rows, UTTERANCES)

        def make(text):
            path = tmp_path / "mine.csv"
            path.write_text(text)
            return make_folds(CorpusSettings(name="savee", protocol=str(path)), table, labels)

        return make, [r["utterance"] for r in rows]

    @staticmethod
    def text(ids, **role_of_speaker):
        lines = [f"{u},{role_of_speaker[u[6:8]]}" for u in ids if u[6:8] in role_of_speaker]
        return "\n".join(["utterance,role", *lines]) + "\n"

    def test_several_test_sets_and_what_is_not_named(self, made):
        make, ids = made
        text = self.text(ids, DC="train", JE="dev", JK="test:one", KL="test:two")
        (fold,) = make(text.replace("savee/", ""))  # ids without the corpus's name are understood
        assert fold.protocol == "savee/mine.csv"
        assert set(fold.tests) == {"savee/one", "savee/two"}
        (fold,) = make(self.text(ids, DC="train", JE="dev", JK="test"))
        assert set(fold.left_out.values()) == {"mine.csv does not name it"}
        assert fold.hash == make(self.text(ids[::-1], DC="train", JE="dev", JK="test"))[0].hash

    def test_several_folds(self, made):
        make, ids = made
        both = []
        for number, part in enumerate(("DC JE JK", "JE JK KL")):
            order = dict(zip(part.split(), ("train", "dev", "test"), strict=True))
            both += [f"{number},{line}" for line in self.text(ids, **order).splitlines()[1:]]
        folds = make("fold,utterance,role\n" + "\n".join(both))
        assert [f.index for f in folds] == [0, 1]
        assert roles(folds[1]) == (["savee/KL"], ["savee/JK"])
        with pytest.raises(EmodartsError, match="number them from 0"):
            make("fold,utterance,role\n" + "\n".join(line for line in both if line.startswith("1")))

    def test_a_leaking_split_is_refused(self, made):
        make, ids = made
        text = self.text(ids, DC="train", JE="dev", JK="test")
        with pytest.raises(EmodartsError, match="savee/DC stands in train and in test"):
            make(text.replace("savee/DC-000,train", "savee/DC-000,test"))

    def test_an_unknown_speaker_only_trains(self, tmp_path):
        rows, labels = corpus_of("savee", 48)
        table = pa.Table.from_pylist([{**r, "speaker": None if "KL" in r["utterance"] else r["speaker"]} for r in rows])
        path = tmp_path / "mine.csv"
        chosen = CorpusSettings(name="savee", protocol=str(path))
        ids = [r["utterance"] for r in rows]
        path.write_text(self.text(ids, DC="train", KL="train", JE="dev", JK="test"))
        (fold,) = make_folds(chosen, table, labels)
        assert None in {fold.speakers[u] for u in fold.train}
        path.write_text(self.text(ids, DC="train", JE="dev", KL="test"))
        with pytest.raises(EmodartsError, match=r"mine.csv:\d+: the speaker of savee/KL-000 is unknown"):
            make_folds(chosen, table, labels)

    def test_lines_are_counted_as_an_editor_does(self, made):
        with pytest.raises(EmodartsError, match=r"mine.csv:5: there is no labelled utterance 'x'"):
            made[0]("utterance,role\n\nsavee/DC-000,train\n\nx,train\n")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "it has nothing"),
            ("a,b\n1,2\n", "needs rows under the columns utterance and role"),
            ("utterance,role\nsavee/DC-000,exam\n", r"mine.csv:2: the role 'exam' is none of"),
            ("utterance,role\nsavee/DC-000,test:\n", r"mine.csv:2: the role 'test:' is none of"),
            ("utterance,role\nsavee/nobody,train\n", r"mine.csv:2: there is no labelled utterance 'savee/nobody'"),
            ("utterance,role,fold\nsavee/DC-000,train,x\n", r"mine.csv:2: fold 'x' is no number"),
        ],
    )
    def test_what_cannot_be_a_split(self, made, text, message):
        with pytest.raises(EmodartsError, match=message):
            made[0](text)

    def test_a_missing_file(self):
        rows, labels = corpus_of("savee", 48)
        chosen = CorpusSettings(name="savee", protocol="nowhere/mine.csv")
        table = pa.Table.from_pylist(rows, UTTERANCES)
        with pytest.raises(EmodartsError, match="cannot be read"):
            make_folds(chosen, table, labels)


def test_a_fold_says_the_role_of_each_utterance():
    for fold in folds_of("msp_podcast", "official", *corpus_of("msp_podcast", 48)):
        assert set(fold.test_ids) == {u for ids in fold.tests.values() for u in ids}
        assert set(fold.roles) == {*fold.train, *fold.dev, *fold.test_ids}
        assert {u for u, role in fold.roles.items() if role == "test"} == set(fold.test_ids)
        assert {u for u, role in fold.roles.items() if role == "dev"} == set(fold.dev)
