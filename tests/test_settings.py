"""What the command line says, and what of it makes the sweep's hash."""

import pytest
from conftest import REPOSITORY
from hydra import compose, initialize_config_dir

from emodarts.corpora.registry import READERS, describe
from emodarts.errors import EmodartsError
from sweeps.settings import from_hydra, register_schema


def settings(*overrides):
    register_schema()
    with initialize_config_dir(str(REPOSITORY / "sweeps" / "conf"), version_base="1.3"):
        return from_hydra(compose("config", list(overrides)))


@pytest.mark.parametrize(
    "given",
    [
        ["corpus.columns.label=mood", "corpus.columns.speaker=who"],
        ["corpus.columns={label: mood, speaker: who}"],
        ["+corpus.columns.label=mood", "+corpus.columns.speaker=who"],
    ],
)
def test_columns_of_a_table(given):
    assert settings("corpus=manifest", *given).corpus.columns == {"label": "mood", "speaker": "who"}


def test_an_unknown_column_is_refused():
    with pytest.raises(EmodartsError, match=r"corpus\.columns names unknown fields: mood; known are file, speaker"):
        settings("corpus=manifest", "corpus.columns.mood=label")


@pytest.mark.parametrize("corpus", [name for name in READERS if name != "demo"])
def test_each_corpus_has_a_file_with_its_default_protocol_and_source(corpus):
    found = settings(f"corpus={corpus}").corpus
    assert found.name == corpus
    if found.protocol is not None:
        assert found.protocol == f"{corpus}/{describe(corpus).protocol}"
        assert found.source == describe(corpus).sources[0]


def test_spellings_of_one_protocol_make_one_sweep():
    names = {
        settings("corpus=iemocap", *given).sweep_name
        for given in ([], ["protocol=session5"], ["corpus.protocol=session5"], ["corpus.protocol=null"])
    }
    assert len(names) == 1
    assert settings("corpus=iemocap", "protocol=speaker10").sweep_name not in names
    assert settings("corpus=iemocap", "corpus.source=null").sweep_name in names


def test_a_file_counts_by_its_name_wherever_it_lies():
    names = {settings("corpus=savee", f"protocol={folder}/mine.csv").sweep_name for folder in ("/a", "/b/c", ".")}
    assert len(names) == 1
    assert settings("corpus=savee", "protocol=/a/other.csv").sweep_name not in names


def test_what_is_stored_where_does_not_count():
    whole = settings("corpus=emodb").sweep_name
    assert settings("corpus=emodb", "corpus.root=/x", "results=/y", "batches.device_memory_share=0").sweep_name == whole
    assert settings("corpus=emodb", "batches.bucket=0").sweep_name != whole
