"""`emodarts report --audio`: what is to be heard, and what is refused, a sentence each."""

import base64
import io
import re
from collections import Counter

import numpy as np
import pytest
import soundfile

from emodarts import cli
from emodarts.errors import EmodartsError
from emodarts.features.audio import decode
from emodarts.features.measures import measure
from emodarts.report.comparisons import group_comparisons
from emodarts.report.elements import Collapsible, Paragraph
from emodarts.report.listening import Listening
from emodarts.report.predictions import load_predictions, load_utterances
from emodarts.report.recordings import AudioFolder, log_mel, open_audio
from emodarts.report.report_data import load_report_data
from emodarts.report.sections.listening import select_recordings
from emodarts.results import reader
from emodarts.results.writer import SweepWriter
from tests.support.made_results import Made, utterance_rows, write

RATE = 8000
MADE = Made("demo-1", "demo", {"emodarts": 0.7, "svm": 0.5}, folds=3, speakers=2, trials=1, gender=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A results folder with hashes of the recordings, and the folder of these."""
    folder = tmp_path_factory.mktemp("listen")
    write(folder / "results", MADE)
    (folder / "audio").mkdir()
    rows = utterance_rows(MADE)
    for number, row in enumerate(rows):
        sound = 0.3 * np.sin(np.arange(RATE // 2) * (0.05 + 0.002 * number))
        soundfile.write(folder / "audio" / row["path"], sound, RATE, subtype="PCM_16")
        row["audio_hash"] = measure(*decode(folder / "audio" / row["path"]))["audio_hash"]
    storage = reader.open(folder / "results").parts[0].storage
    SweepWriter(storage, "demo-1").write_utterances("demo", rows)
    return folder / "results", folder / "audio", rows


@pytest.fixture(scope="module")
def predicted(made):
    """The comparisons of the results, and what is known of their utterances."""
    data = load_report_data(reader.open(made[0]))
    return load_predictions(data, group_comparisons(data)), load_utterances(data)


def listen(predicted, folder, errors=24, beside=None):
    return Listening((str(folder),), errors, private=False, beside=beside).section(*predicted)


def cards_of(section):
    return [card for part in section.elements if isinstance(part, Collapsible) for card in part.elements]


def words_of(section):
    return " ".join(part.text for part in section.elements if isinstance(part, Paragraph))


@pytest.mark.slow
def test_a_page_has_sound_pictures_and_what_others_said(made, tmp_path):
    options = ["--html", str(tmp_path / "page.html"), "--audio", str(made[1]), "--audio-errors", "6"]
    assert cli.main(["report", str(made[0]), *options]) == 0
    html = (tmp_path / "page.html").read_text()
    assert "Recordings of demo, licence: synthetic, no restrictions." in html
    assert "the most confident errors (6)" in html
    assert "right, and the most hesitant (3)" in html
    sources = re.findall(r'<audio controls preload="none" src="data:audio/\w+;base64,', html)
    assert html.count('class="wave"') == html.count("data:image/png") == len(sources) > 9
    cards = html.split('<article class="card">')[1:7]
    assert all("heard as" in card and "svm: " in card for card in cards)


def test_the_sound_is_that_of_the_recording(made, predicted):
    for card in cards_of(listen(predicted, made[1], errors=2))[:3]:
        content = base64.b64decode(card.clip.source.partition(",")[2])
        sound, rate = soundfile.read(io.BytesIO(content))
        assert len(sound) / rate == pytest.approx(0.5, abs=0.05)
        assert np.abs(sound).max() == pytest.approx(0.3, abs=0.05)


def test_which_recordings_are_chosen(predicted):
    test = predicted[0][0].systems[0].test
    chosen = select_recordings(test, 6)
    sure, right = test.mean.max(1), test.mean.argmax(1) == test.labels
    assert not right[[*chosen.errors, *chosen.drawn]].any()
    assert right[list(chosen.hits)].all()
    assert sure[list(chosen.errors)].min() >= np.sort(sure[~right])[-6]
    assert not set(chosen.errors) & set(chosen.drawn)
    cells = Counter((test.labels[row], test.mean[row].argmax()) for row in chosen.drawn)
    assert max(cells.values()) <= 2


def test_what_does_not_fit_lies_beside_the_page(made, predicted, tmp_path, monkeypatch):
    monkeypatch.setattr("emodarts.report.recordings.EMBEDDED_BYTES", 20_000)
    sources = [card.clip.source for card in cards_of(listen(predicted, made[1], beside=tmp_path / "page"))]
    beside = [source for source in sources if source.startswith("page-audio/")]
    assert 0 < len(beside) < len(sources)
    assert all((tmp_path / name).stat().st_size > 100 for name in beside)


def test_missing_and_changed_recordings_are_said_and_left_out(made, predicted, tmp_path):
    for number, row in enumerate(made[2]):
        if number % 3 == 1:
            soundfile.write(tmp_path / row["path"], np.full(4000, 0.1), RATE)
        elif number % 3 == 0:
            (tmp_path / row["path"]).write_bytes((made[1] / row["path"]).read_bytes())
    section = listen(predicted, tmp_path)
    words = words_of(section)
    assert re.search(r"\d+ recordings of demo are missing, and left out; the first: s\d+-\w+-\d.wav\.", words)
    assert re.search(r"\d+ recordings of demo are of other sound than in the sweep, and left out", words)
    numbers = {
        made[2].index(next(row for row in made[2] if row["utterance"] == c.utterance)) for c in cards_of(section)
    }
    assert {number % 3 for number in numbers} == {0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--audio", "{empty}"],
            r"none of \d+ recordings of demo can be taken, the first, s\d.*wav, is missing: name the",
        ),
        (["--audio", "{empty}/x"], "there is no folder .*; name that of demo's recordings"),
        (["--audio", "emodb={empty}"], "the results have demo; give --audio NAME=FOLDER for each"),
        (["--audio", "{empty}", "--audio-errors", "0"], "--audio-errors 0: give 1 or more"),
        (["--private"], "--private goes with --audio"),
    ],
)
def test_what_does_not_fit_is_refused(made, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    filled = [text.format(empty=tmp_path / "empty") for text in arguments]
    assert cli.main(["report", str(made[0]), "--html", str(tmp_path / "p.html"), *filled]) == 1
    errors = capsys.readouterr().err
    assert re.search(message, errors)
    assert errors.count("\n") == 1
    assert not (tmp_path / "p.html").exists()


def test_a_page_for_recordings_and_a_table_of_utterances_are_needed(made, predicted, capsys):
    assert cli.main(["report", str(made[0]), "--audio", str(made[1])]) == 1
    assert "recordings stand in a page; give --html FILE, too" in capsys.readouterr().err
    with pytest.raises(EmodartsError, match="the results have no table of utterances"):
        listen((predicted[0], {"demo-1": {}}), made[1])


@pytest.mark.parametrize("corpus", ["iemocap", "msp_podcast", "savee", "manifest", "something"])
def test_a_licence_that_forbids_needs_private(corpus, tmp_path):
    with pytest.raises(EmodartsError, match=rf"the licence of {corpus} \(.+\) does not let .* --private"):
        open_audio([str(tmp_path)], [corpus], private=False)
    assert open_audio([str(tmp_path)], [corpus], private=True)[corpus].root == tmp_path


@pytest.mark.parametrize("corpus", ["emodb", "ravdess", "crema_d", "tess", "demo"])
def test_open_licences_need_nothing(corpus, tmp_path):
    assert list(open_audio([f"{corpus}={tmp_path}"], [corpus, "other"], private=False)) == [corpus]


def test_pictures_show_where_the_sound_is():
    sound = np.concatenate([np.zeros(16000), np.sin(np.arange(16000) * 0.4)]).astype(np.float32)
    levels = log_mel(sound)
    assert levels.shape[1] == 64
    assert levels[150:190].max() > levels[:90].max() + 40
    assert len(log_mel(np.tile(sound, 20))) <= 605


def test_a_part_of_a_file_is_cut_out(tmp_path):
    soundfile.write(tmp_path / "long.wav", 0.2 * np.sin(np.arange(RATE * 3) * 0.3), RATE)
    facts = {"utterance": "x/a", "path": "long.wav", "start": 1.0, "end": 1.5, "audio_hash": None}
    clip = AudioFolder("x", tmp_path).clip(facts)
    assert clip.seconds == pytest.approx(0.5)
