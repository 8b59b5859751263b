"""Published counts of the corpora, as data: what a complete copy holds, by word, speaker, session, scenario and split.

Values are written as the publications write them; `emodarts.audit.comparison` holds them against a copy.
"""

from emodarts.corpora.published_counts import Counts, Release, cells, equal_counts, table


def releases_of(corpus: str) -> tuple[Release, ...]:
    """The releases of a corpus whose counts are published; none for an unknown one."""
    return tuple(release for release in RELEASES if release.corpus == corpus)


_FOUR = ("ang", "hap", "exc", "neu", "sad")
_IEMOCAP_WORDS = "ang dis exc fea fru hap neu oth sad sur xxx"
_EMO_SUPERB = "turn lists of the EMO-SUPERB benchmark"

_IEMOCAP = Release(
    "iemocap",
    "the full release",
    10039,
    "perceived",
    (
        Counts(
            "turns by word",
            ("word",),
            cells(_IEMOCAP_WORDS, "1103 2 1041 40 1849 595 1708 3 1084 107 2507"),
            "EmoBox's counts and one data card; xxx is no majority",
        ),
        Counts("turns by session", ("session",), cells("1 2 3 4 5", "1819 1811 2136 2103 2170"), _EMO_SUPERB),
        Counts(
            "four classes by session",
            ("session", "word"),
            table(
                "ang hap exc neu sad",
                {
                    "1": "229 135 143 384 194",
                    "2": "137 117 210 362 197",
                    "3": "240 135 151 320 305",
                    "4": "327 65 238 258 143",
                    "5": "170 143 299 384 245",
                },
            ),
            "the 5,531 utterances of most publications (excited counts as happy there)",
            words=_FOUR,
        ),
        Counts(
            "four classes by true speaker",
            ("speaker", "word"),
            table(
                "ang hap exc sad neu",
                {
                    "1F": "147 69 63 78 171",
                    "1M": "82 66 80 116 213",
                    "2F": "67 70 96 113 135",
                    "2M": "70 47 114 84 227",
                    "3F": "92 80 48 172 130",
                    "3M": "148 55 103 133 190",
                    "4F": "205 31 154 62 76",
                    "4M": "122 34 84 81 182",
                    "5F": "78 77 82 132 221",
                    "5M": "92 66 217 113 163",
                },
            ),
            "counted by session and letter of the turn; the letter in the dialog's name gives other numbers",
            words=_FOUR,
        ),
        Counts(
            "four classes, improvised",
            ("word",),
            cells("neu exc sad ang hap", "1099 663 608 289 284"),
            "2,943 utterances, or 2,280 without excited",
            words=_FOUR,
            scenario="improvised",
        ),
        Counts("four classes, scripted", (), {(): 2588}, "5,531 less the improvised", words=_FOUR, scenario="scripted"),
    ),
)

_LETTERS = "A S H N O X"
_IMPROV_BY_SCENARIO = {
    "T": "115 106 136 283 1 11",
    "R": "169 80 88 241 3 39",
    "S": "470 633 1048 1789 70 371",
    "P": "38 66 1372 1164 11 134",
}
_IMPROV = Release(
    "msp_improv",
    "the full release",
    8438,
    "perceived",
    (
        Counts(
            "turns by scenario",
            ("scenario",),
            cells("S P T R", "4381 2785 652 620"),
            "tables 3 and 4 of the corpus's paper (Busso et al. 2017)",
        ),
        Counts(
            "consensus by scenario",
            ("scenario", "word"),
            table(_LETTERS, _IMPROV_BY_SCENARIO),
            "tables 3 and 4 of the corpus's paper; O is other, X no agreement",
        ),
        Counts(
            "four classes",
            ("word",),
            cells("A S H N", "792 885 2644 3477"),
            "the 7,798 turns of most publications",
            words=("A", "S", "H", "N"),
        ),
        Counts(
            "read turns by session",
            ("session",),
            cells("1 2 3 5 6", "100 170 175 95 80"),
            "counted from the names; session 4 has none",
            scenario="R",
        ),
    ),
)
_IMPROV_SUBSET = Release(
    "msp_improv",
    "the 8,385 turns of EMO-SUPERB",
    8385,
    "perceived",
    (
        Counts("turns by scenario", ("scenario",), cells("S P T R", "4347 2768 650 620"), _EMO_SUPERB),
        Counts("turns by session", ("session",), cells("1 2 3 4 5 6", "979 1422 1765 1108 1499 1612"), _EMO_SUPERB),
        Counts(
            "turns by true speaker",
            ("speaker",),
            cells(
                "F1 F2 F3 F4 F5 F6 M1 M2 M3 M4 M5 M6",
                "432 648 701 710 794 741 547 774 1064 398 705 871",
            ),
            "counted by the last token of the name; the target actor's token gives other numbers",
        ),
    ),
)

_PAGE = "the corpus's official page"
_PODCAST_FOUR = {
    "train": "1839 8564 16518 1680",
    "dev": "621 1320 2529 302",
    "test1": "622 3475 4702 505",
    "test2": "136 926 2260 161",
}
_PODCAST = (
    Release(
        "msp_podcast",
        "1.8",
        73042,
        "perceived",
        (
            Counts(
                "turns by word",
                ("word",),
                cells("N H X U C A S D F O", "26009 14285 14199 4084 3644 3218 2649 2593 1544 817"),
                "EmoBox's counts",
            ),
            Counts(
                "turns by split (train with test2)",
                ("split",),
                cells("train dev test1", "49916 7800 15326"),
                "EmoBox's counts",
                merged={"test2": "train"},
            ),
            Counts(
                "four classes by split",
                ("split", "word"),
                table("A H N S", _PODCAST_FOUR),
                "nkululeko's lists: 46,160 turns, without one stereo file at 44.1 kHz",
                words=("A", "H", "N", "S"),
                without=("MSP-PODCAST_1023_0235",),
            ),
            Counts("speakers", (), {(): 1273}, "EmoBox's counts", distinct="speaker", decisive=False),
        ),
    ),
    Release(
        "msp_podcast",
        "1.11",
        151654,
        "perceived",
        (
            Counts(
                "turns by split",
                ("split",),
                cells("train dev test1 test2 test3", "84030 19815 30647 14815 2347"),
                _PAGE,
            ),
            Counts(
                "eight classes by split (Odyssey 2024)",
                ("split", "word"),
                table(
                    "N H S A U C D F",
                    {
                        "train": "25106 13440 3882 3053 2897 2443 1426 1139",
                        "dev": "5667 3340 1101 2413 729 1323 486 282",
                    },
                ),
                "the challenge's own part of release 1.11; shown for information, the challenge left turns out",
                words=tuple("NHSAUCDF"),
                complete=False,
                decisive=False,
            ),
            Counts(
                "speakers by split",
                ("split",),
                cells("train dev test1", "1409 454 237"),
                _PAGE,
                distinct="speaker",
                complete=False,
                decisive=False,
            ),
        ),
    ),
    Release(
        "msp_podcast",
        "1.12",
        207136,
        "perceived",
        (
            Counts("turns", (), {(): 207136}, "its readme (2024-06-06)"),
            Counts("labelled turns", (), {(): 203936}, "its readme", labelled=True),
            Counts("hidden test turns", ("split",), cells("test3", "3200"), "its readme", complete=False),
        ),
    ),
    Release(
        "msp_podcast",
        "the Interspeech 2025 challenge",
        119421,
        "perceived",
        (
            Counts("turns by split", ("split",), cells("train dev test3", "84260 31961 3200"), "its readme"),
            Counts(
                "speakers by split",
                ("split",),
                cells("train dev", "2114 714"),
                "its readme",
                distinct="speaker",
                complete=False,
                decisive=False,
            ),
        ),
    ),
    Release(
        "msp_podcast",
        "2.0",
        267905,
        "perceived",
        (
            Counts("turns", (), {(): 267905}, "the laboratory's page: 264,705 labelled and 3,200 hidden"),
            Counts("labelled turns", (), {(): 264705}, "the laboratory's page", labelled=True),
            Counts(
                "turns by split",
                ("split",),
                cells("dev test3", "34399 3200"),
                "the laboratory's page; train and the other test parts are known roughly only",
                complete=False,
            ),
            Counts(
                "second test part",
                ("split",),
                cells("test2", "14815"),
                "taken to be that of release 1.11",
                complete=False,
                decisive=False,
            ),
        ),
    ),
)

_EMODB = Release(
    "emodb",
    "the release",
    535,
    "intended",
    (
        Counts(
            "utterances by word",
            ("word",),
            cells("anger boredom disgust fear happiness sadness neutral", "127 81 46 69 71 62 79"),
            "the corpus's page (Burkhardt et al. 2005), counted from the names",
        ),
        Counts(
            "utterances by speaker",
            ("speaker",),
            cells("03 08 09 10 11 12 13 14 15 16", "49 58 43 38 55 35 61 69 56 71"),
            "counted from the names",
        ),
    ),
)

_ACTORS = [f"{actor:02}" for actor in range(1, 25)]
_RAVDESS_WORDS = ["calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
_RAVDESS = Release(
    "ravdess",
    "the speech part, audio only",
    1440,
    "intended",
    (
        Counts(
            "utterances by word",
            ("word",),
            {("neutral",): 96, **equal_counts(192, _RAVDESS_WORDS)},
            "Livingstone & Russo 2018: neutral has no strong version",
        ),
        Counts("utterances by actor", ("speaker",), equal_counts(60, _ACTORS), "Livingstone & Russo 2018"),
        Counts(
            "utterances by actor and word",
            ("speaker", "word"),
            {**equal_counts(4, _ACTORS, ["neutral"]), **equal_counts(8, _ACTORS, _RAVDESS_WORDS)},
            "Livingstone & Russo 2018: 2 sentences, 2 repetitions, 2 intensities",
        ),
    ),
)

_CREMA_WORDS = ["ANG", "DIS", "FEA", "HAP", "SAD"]
_CREMA_D = (
    Release(
        "crema_d",
        "the release",
        7442,
        "intended",
        (
            Counts(
                "clips by intended word",
                ("word",),
                {**equal_counts(1271, _CREMA_WORDS), ("NEU",): 1087},
                "Cao et al. 2014, counted from the names",
            ),
            Counts(
                "clips by level",
                ("scenario",),
                cells("XX LO MD HI", "6077 455 455 455"),
                "Cao et al. 2014; XX is no level",
            ),
            Counts("usable clips", (), {(): 7441}, "1076_MTI_SAD_XX is silent", usable=True, decisive=False),
            Counts("actors", (), {(): 91}, "Cao et al. 2014", distinct="speaker"),
            Counts(
                "actors by gender", ("gender",), cells("male female", "48 43"), "Cao et al. 2014", distinct="speaker"
            ),
        ),
    ),
    Release(
        "crema_d",
        "the release without the silent clip 1076_MTI_SAD_XX",
        7441,
        "intended",
        (
            Counts(
                "clips by intended word",
                ("word",),
                {**equal_counts(1271, _CREMA_WORDS), ("NEU",): 1087, ("SAD",): 1270},
                "Cao et al. 2014, less the silent clip",
            ),
            Counts("clips by level", ("scenario",), cells("XX LO MD HI", "6076 455 455 455"), "less the silent clip"),
            Counts("actors", (), {(): 91}, "Cao et al. 2014", distinct="speaker"),
        ),
    ),
)

_TESS_WORDS = ["angry", "disgust", "fear", "happy", "neutral", "ps", "sad"]
_TESS = Release(
    "tess",
    "the release",
    2800,
    "intended",
    (
        Counts("clips by word", ("word",), equal_counts(400, _TESS_WORDS), "Pichora-Fuller & Dupuis 2010"),
        Counts("clips by speaker", ("speaker",), equal_counts(1400, ["OAF", "YAF"]), "Pichora-Fuller & Dupuis 2010"),
    ),
)

_SAVEE_SPEAKERS = ["DC", "JE", "JK", "KL"]
_SAVEE_WORDS = ["anger", "disgust", "fear", "happiness", "sadness", "surprise"]
_SAVEE = Release(
    "savee",
    "the release",
    480,
    "intended",
    (
        Counts(
            "utterances by word",
            ("word",),
            {("neutral",): 120, **equal_counts(60, _SAVEE_WORDS)},
            "the corpus's page (Jackson & Haq 2014)",
        ),
        Counts("utterances by speaker", ("speaker",), equal_counts(120, _SAVEE_SPEAKERS), "the corpus's page"),
        Counts(
            "utterances by speaker and word",
            ("speaker", "word"),
            {**equal_counts(30, _SAVEE_SPEAKERS, ["neutral"]), **equal_counts(15, _SAVEE_SPEAKERS, _SAVEE_WORDS)},
            "the corpus's page: 15 sentences an emotion, 30 neutral",
        ),
    ),
)

RELEASES = (_IEMOCAP, _IMPROV, _IMPROV_SUBSET, *_PODCAST, _EMODB, _RAVDESS, *_CREMA_D, _TESS, _SAVEE)
