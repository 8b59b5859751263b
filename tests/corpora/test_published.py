"""Published counts as data: their sums agree with each other, and copies are held against them cell by cell."""

from collections import Counter

import pyarrow as pa
import pytest

from emodarts import corpora
from emodarts.audit.comparison import compare_counts
from emodarts.corpora.published_counts import parse_releases
from emodarts.corpora.readers import corpus_names, describe
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import UTTERANCES
from emodarts.errors import EmodartsError
from tests.support.files import REPOSITORY

RELEASES = [release for corpus in corpus_names() for release in describe(corpus).releases]


def releases_of(corpus):
    return describe(corpus).releases


def release(corpus, name="the full release"):
    return next(r for r in releases_of(corpus) if r.name == name)


def counts(of, title):
    return next(c for c in of.counts if c.title == title)


def by(table, column):
    """Sums over one column of a published table of two."""
    sums = Counter()
    for cell, number in table.cells.items():
        sums[cell[table.by.index(column)]] += number
    return dict(sums)


def table_of(corpus, **columns):
    """An utterance table with these columns (lists, or one value for all rows)."""
    n = max(len(values) for values in columns.values() if isinstance(values, list))
    columns = {name: v if isinstance(v, list) else [v] * n for name, v in columns.items()}
    ids = [f"{corpus}/{name}" for name in columns.pop("name", [f"u{i:06}" for i in range(n)])]
    given = {"utterance": ids, "path": ids, "corpus": [corpus] * n, "sample_rate": [16000] * n}
    given |= {"channels": [1] * n, "frames": [16000] * n, **columns}
    arrays = [pa.array(given[f.name], f.type) if f.name in given else pa.nulls(n, f.type) for f in UTTERANCES]
    return pa.Table.from_arrays(arrays, schema=UTTERANCES)


def columns_of(rows, *names):
    return {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}


# --- the numbers among themselves ---


@pytest.mark.parametrize("of", RELEASES, ids=lambda r: f"{r.corpus}, {r.name}")
def test_tables_of_all_utterances_sum_to_the_release(of):
    for table in of.counts:
        filtered = table.words or table.scenario or table.labelled or table.usable or table.without or table.distinct
        if table.complete and not filtered:
            assert table.total == of.utterances, table.title


@pytest.mark.parametrize("of", RELEASES, ids=lambda r: f"{r.corpus}, {r.name}")
def test_every_published_word_is_one_that_the_reader_knows(of):
    known = describe(of.corpus).words
    for table in of.counts:
        for word in {*table.words, *(by(table, "word") if "word" in table.by else ())}:
            assert word.lower() in known, word


def test_iemocap_four_classes_agree_by_session_by_speaker_and_by_word():
    iemocap = release("iemocap")
    session = counts(iemocap, "four classes by session")
    speaker = counts(iemocap, "four classes by true speaker")
    words = {word: n for (word,), n in counts(iemocap, "turns by word").cells.items() if word in session.words}
    assert session.total == speaker.total == 5531
    assert by(session, "word") == by(speaker, "word") == words
    assert list(by(session, "session").values()) == [1085, 1023, 1151, 1031, 1241]
    totals = by(speaker, "speaker")
    assert totals == {"1F": 528, "1M": 557, "2F": 481, "2M": 542, "3F": 522, "3M": 629, "4F": 528, "4M": 503} | {
        "5F": 590,
        "5M": 651,
    }
    for number, total in by(session, "session").items():
        assert total == totals[f"{number}F"] + totals[f"{number}M"]
        for word in session.words:
            pair = [speaker.cells[f"{number}{letter}", word] for letter in "FM"]
            assert sum(pair) == session.cells[number, word]
    improvised = counts(iemocap, "four classes, improvised")
    assert (improvised.total, improvised.total - improvised.cells[("exc",)]) == (2943, 2280)
    assert improvised.total + counts(iemocap, "four classes, scripted").total == 5531


def test_msp_improv_four_classes_are_the_sums_over_scenarios():
    improv, subset = release("msp_improv"), release("msp_improv", "the 8,385 turns of EMO-SUPERB")
    consensus = counts(improv, "consensus by scenario")
    four = counts(improv, "four classes")
    assert {(word,): n for word, n in by(consensus, "word").items() if word in "ASHN"} == four.cells
    assert four.total == 7798
    assert {(s,): n for s, n in by(consensus, "scenario").items()} == counts(improv, "turns by scenario").cells
    assert counts(improv, "read turns by session").total == by(consensus, "scenario")["R"] == 620
    sessions = Counter()
    for (speaker,), number in counts(subset, "turns by true speaker").cells.items():
        sessions[speaker[1:],] += number
    assert sessions == counts(subset, "turns by session").cells
    for cell, number in counts(subset, "turns by scenario").cells.items():
        assert number <= counts(improv, "turns by scenario").cells[cell]


def test_msp_podcast_splits_and_classes():
    old = release("msp_podcast", "1.8")
    four = counts(old, "four classes by split")
    assert by(four, "split") == {"train": 28601, "dev": 4772, "test1": 9304, "test2": 3483}
    assert four.total == 28601 + 4772 + 9304 + 3483 == 46160
    words = {word: n for (word,), n in counts(old, "turns by word").cells.items()}
    # the lists leave out one sad turn (stereo), and nothing else
    assert {**by(four, "word"), "S": by(four, "word")["S"] + 1} == {word: words[word] for word in "AHNS"}
    eight = counts(release("msp_podcast", "1.11"), "eight classes by split (Odyssey 2024)")
    assert by(eight, "split") == {"train": 53386, "dev": 15341}
    sizes = {r.name: r.utterances for r in releases_of("msp_podcast")}
    assert sizes == {"1.8": 73042, "1.11": 151654, "1.12": 207136, "the Interspeech 2025 challenge": 119421} | {
        "2.0": 267905
    }
    labelled = {name: counts(release("msp_podcast", name), "labelled turns").total for name in ("1.12", "2.0")}
    assert labelled == {"1.12": 207136 - 3200, "2.0": 267905 - 3200}


def test_open_corpora():
    assert sum(by(counts(release("emodb", "the release"), "utterances by speaker"), "speaker").values()) == 535
    ravdess = releases_of("ravdess")[0]
    both = counts(ravdess, "utterances by actor and word")
    assert {(w,): n for w, n in by(both, "word").items()} == counts(ravdess, "utterances by word").cells
    crema, without = releases_of("crema_d")
    gap = Counter(counts(crema, "clips by intended word").cells)
    gap.subtract(counts(without, "clips by intended word").cells)
    assert +gap == {("SAD",): 1}


# --- the files ---

FILE = """
[[release]]
name = "1.0"
utterances = 3
source = "intended"

[[release.counts]]
title = "by word"
by = ["word"]
source = "its paper"
cells = { anger = 1, joy = 2 }
"""


def test_every_file_is_of_a_corpus_and_holds_a_release():
    files = {path.stem for path in (REPOSITORY / "emodarts" / "corpora" / "published").iterdir()}
    assert files == {"iemocap", "msp_improv", "msp_podcast"}
    assert {of.corpus for of in RELEASES} == set(corpus_names()) - {"demo", "manifest", "audformat"}


def test_a_file_is_read_as_it_stands():
    (of,) = parse_releases("mine", FILE, "mine.toml")
    assert (of.corpus, of.name, of.utterances, of.source) == ("mine", "1.0", 3, "intended")
    assert of.counts[0].cells == {("anger",): 1, ("joy",): 2}
    assert (of.counts[0].by, of.counts[0].complete, of.counts[0].decisive) == (("word",), True, True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title", "titel", r"mine\.toml, release '1\.0', table 'None': unknown titel; known are by, cells, complete"),
        ("utterances = 3", "", r"mine\.toml, release '1\.0': utterances missing"),
        ('source = "its paper"', "", r"release '1\.0', table 'by word': source missing"),
        ("utterances", "size", r"release '1\.0': unknown size"),
        ("anger = 1", "anger = { F = 1 }", r"table 'by word': cell \('anger', 'F'\) is no number by word"),
        ("anger = 1", "anger = '1'", r"table 'by word': cell \('anger',\) is no number by word"),
        ("[[release]]", "[[releases]]", r"mine\.toml: .*release"),
        ("cells = {", "cells = ", r"mine\.toml: .*line 11"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(old, new, message):
    with pytest.raises(EmodartsError, match=message):
        parse_releases("mine", FILE.replace(old, new, 1), "mine.toml")


# --- copies with exactly these counts ---


def iemocap_rows():
    """(word, speaker, session, scenario) of each turn, as the reader writes them."""
    of = release("iemocap")
    improvised = Counter({word: n for (word,), n in counts(of, "four classes, improvised").cells.items()})
    rows = []
    for (speaker, word), number in counts(of, "four classes by true speaker").cells.items():
        for _ in range(number):
            scenario = "improvised" if improvised[word] > 0 else "scripted"
            improvised[word] -= 1
            rows.append((word, f"iemocap/Ses0{speaker}", speaker[0], scenario))
    left = Counter({s: n for (s,), n in counts(of, "turns by session").cells.items()})
    left.subtract(session for _, _, session, _ in rows)
    sessions = list(left.elements())
    others = {
        w: n for (w,), n in counts(of, "turns by word").cells.items() if w not in ("ang", "hap", "exc", "neu", "sad")
    }
    for word, session in zip(Counter(others).elements(), sessions, strict=True):
        rows.append((word, f"iemocap/Ses0{session}F", session, "scripted"))
    return rows


def iemocap_copy(rows):
    return table_of("iemocap", **columns_of(rows, "perceived", "speaker", "session", "scenario"))


def improv_copy():
    of = release("msp_improv")
    read = list(Counter({s: n for (s,), n in counts(of, "read turns by session").cells.items()}).elements())
    rows = [cell for cell, n in counts(of, "consensus by scenario").cells.items() for _ in range(n)]
    sessions = [read.pop() if scenario == "R" else "4" for scenario, _ in rows]
    return table_of(
        "msp_improv",
        scenario=[scenario for scenario, _ in rows],
        perceived=[word for _, word in rows],
        intended=["A"] * len(rows),  # not what is counted
        session=sessions,
        speaker=[f"msp_improv/F{s}" for s in sessions],
    )


def improv_subset_copy():
    of = release("msp_improv", "the 8,385 turns of EMO-SUPERB")
    speakers = list(Counter({s: n for (s,), n in counts(of, "turns by true speaker").cells.items()}).elements())
    scenarios = list(Counter({s: n for (s,), n in counts(of, "turns by scenario").cells.items()}).elements())
    return table_of(
        "msp_improv",
        scenario=scenarios,
        perceived="N",
        session=[s[1] for s in speakers],
        speaker=[f"msp_improv/{s}" for s in speakers],
    )


def podcast_old_copy():
    """Release 1.8, the stereo turn among it."""
    of = release("msp_podcast", "1.8")
    spelt = {"train": "Train", "dev": "Development", "test1": "Test1", "test2": "Test2"}
    rows = [cell for cell, n in counts(of, "four classes by split").cells.items() for _ in range(n)] + [("train", "S")]
    left = Counter({s: n for (s,), n in counts(of, "turns by split (train with test2)").cells.items()})
    left.subtract("train" if split == "test2" else split for split, _ in rows)
    others = Counter({w: n for (w,), n in counts(of, "turns by word").cells.items() if w not in "AHNS"})
    at = len(rows) - 1
    rows += list(zip(left.elements(), others.elements(), strict=True))
    names = [f"MSP-PODCAST_{i:05}" for i in range(len(rows))]
    names[at] = "MSP-PODCAST_1023_0235"
    return table_of(
        "msp_podcast",
        name=names,
        split=[spelt[s] for s, _ in rows],
        perceived=[w for _, w in rows],
        speaker=[f"msp_podcast/{i % 1273}" for i in range(len(rows))],
    )


def podcast_splits_copy(hidden, **splits):
    """A release known by its splits: hidden turns have no word and no speaker."""
    names = [name for name, n in splits.items() for _ in range(n)] + ["Test3"] * hidden
    words = ["N"] * (len(names) - hidden) + [None] * hidden
    return table_of("msp_podcast", split=names, perceived=words, speaker=[w and "msp_podcast/1" for w in words])


def crema_copy(silent=True):
    words = {"ANG": 1271, "DIS": 1271, "FEA": 1271, "HAP": 1271, "SAD": 1271, "NEU": 1087}
    intended = list(Counter(words).elements())
    levels = list(Counter({"XX": 6077, "LO": 455, "MD": 455, "HI": 455}).elements())
    names = [f"c{i}" for i in range(7442)]
    at = intended.index("SAD")
    names[at] = "1076_MTI_SAD_XX"
    actors = [1001 + i % 91 for i in range(7442)]
    genders = ["male" if actor <= 1048 else "female" for actor in actors]
    columns = {"name": names, "intended": intended, "scenario": levels, "gender": genders}
    columns["speaker"] = [f"crema_d/{actor}" for actor in actors]
    if not silent:
        columns = {name: values[:at] + values[at + 1 :] for name, values in columns.items()}
    return table_of("crema_d", **columns)


COPIES = {
    "iemocap": ("the full release", lambda: iemocap_copy(iemocap_rows())),
    "msp_improv": ("the full release", improv_copy),
    "msp_improv subset": ("the 8,385 turns of EMO-SUPERB", improv_subset_copy),
    "msp_podcast 1.8": ("1.8", podcast_old_copy),
    "msp_podcast 1.11": (
        "1.11",
        lambda: podcast_splits_copy(2347, Train=84030, Development=19815, Test1=30647, Test2=14815),
    ),
    "msp_podcast 1.12": ("1.12", lambda: podcast_splits_copy(3200, Train=203936)),
    "msp_podcast 2.0": (
        "2.0",
        lambda: podcast_splits_copy(3200, Train=169000, Development=34399, Test1=46491, Test2=14815),
    ),
    "msp_podcast challenge": (
        "the Interspeech 2025 challenge",
        lambda: podcast_splits_copy(3200, Train=84260, Development=31961),
    ),
    "crema_d": ("the release", crema_copy),
    "crema_d without": ("the release without the silent clip 1076_MTI_SAD_XX", lambda: crema_copy(silent=False)),
}


@pytest.mark.parametrize("which", COPIES)
def test_a_copy_with_exactly_these_counts_is_as_published(which):
    name, make = COPIES[which]
    found = compare_counts(which.split()[0], make())
    assert [str(d) for d in found.differences if d.decisive] == []
    assert (found.as_published, found.release) == (True, name)
    assert found.sentence().startswith(f"as published ({name})")


def test_one_turn_less_is_named_in_every_table_that_it_stands_in():
    rows = iemocap_rows()
    at = next(i for i, row in enumerate(rows) if row[:2] == ("ang", "iemocap/Ses03M"))
    found = compare_counts("iemocap", iemocap_copy(rows[:at] + rows[at + 1 :]))
    assert not found.as_published
    told = [str(d) for d in found.differences]
    assert "turns by word, word ang: 1,102 of 1,103 (1 missing)" in told
    assert "turns by session, session 3: 2,135 of 2,136 (1 missing)" in told
    assert "four classes by true speaker, speaker 3M, word ang: 147 of 148 (1 missing)" in told
    assert len(told) == 5  # and the session's cell, and the improvised or the scripted total


def test_speakers_by_the_prefix_of_the_dialog_are_found_out():
    swapped = [(w, s[:-1] + "FM"[s.endswith("F")], *rest) for w, s, *rest in iemocap_rows()]
    found = compare_counts("iemocap", iemocap_copy(swapped))
    assert {d.counts for d in found.differences} == {"four classes by true speaker"}
    assert "turns by word" in found.agree


def test_a_turn_too_many_under_an_unknown_word():
    found = compare_counts("iemocap", iemocap_copy([*iemocap_rows(), ("joyful", "iemocap/Ses01F", "1", "scripted")]))
    assert "turns by word, word joyful: 1 of 0 (1 too many)" in map(str, found.differences)


def test_the_nearest_release_and_how_it_differs():
    found = compare_counts(
        "msp_podcast", podcast_splits_copy(0, Train=84030, Development=19800, Test1=30647, Test2=14815)
    )
    assert found.release == "1.11"
    assert [str(d) for d in found.differences if d.decisive] == [
        "turns by split, split dev: 19,800 of 19,815 (15 missing)",
        "turns by split, split test3: 0 of 2,347 (2,347 missing)",
    ]
    assert found.others["2.0"] == 267905


def test_usable_recordings_count_only_where_they_were_measured():
    silent = {"crema_d/1076_MTI_SAD_XX"}
    assert "usable clips" in compare_counts("crema_d", crema_copy()).not_comparable
    assert "usable clips" in compare_counts("crema_d", crema_copy(), silent).agree
    found = compare_counts("crema_d", crema_copy(), {*silent, "crema_d/c7"})
    assert [str(d) for d in found.differences] == ["usable clips: 7,440 of 7,441 (1 missing)"]


def test_a_column_that_the_copy_does_not_have_is_not_compared():
    copy = crema_copy().drop_columns(["gender"]).append_column("gender", pa.nulls(7442, pa.string()))
    found = compare_counts("crema_d", copy.select(UTTERANCES.names))
    assert found.as_published
    assert found.not_comparable == ("usable clips", "actors by gender")


def test_nothing_is_published_of_a_table_of_ones_own():
    assert compare_counts("manifest", table_of("manifest", intended=["angry"])) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["emodb", "ravdess"])
def test_real_copies_are_as_published(name, recordings):
    copy = corpora.read(CorpusSettings(name=name, root=str(recordings / name))).utterances
    assert compare_counts(name, copy).as_published
    less = compare_counts(name, copy.slice(1))
    assert not less.as_published
    assert all(d.counted == d.published - 1 for d in less.differences)
