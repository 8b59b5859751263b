"""A scenario alone: improvised turns of IEMOCAP, for example."""

from collections import Counter

import pytest

from emodarts.errors import EmodartsError
from tests.support.layouts import folds_of, iemocap


def test_improvised_turns_alone(tmp_path):
    iemocap.write_corpus(tmp_path, junk=False, takes=2)
    corpus, both, _ = folds_of("iemocap", tmp_path)
    _, labels, folds = folds_of("iemocap", tmp_path, scenario="improvised")
    scenarios = dict(zip(*(corpus.utterances[n].to_pylist() for n in ("utterance", "scenario")), strict=True))
    assert {scenarios[u] for u in labels.by_utterance} == {"improvised"}
    counts = Counter(scenarios[u] for u in both.by_utterance)
    assert len(labels.by_utterance) == counts["improvised"] > 0
    assert labels.left_out == {"scenario scripted": counts["scripted"]}
    assert len(folds) == 5
    assert folds_of("iemocap", tmp_path, scenario="scripted, improvised")[1].by_utterance == both.by_utterance


@pytest.mark.parametrize("given", ["improvized", "", "improvised,dance"])
def test_an_unknown_scenario_says_which_there_are(tmp_path, given):
    iemocap.write_corpus(tmp_path, junk=False)
    with pytest.raises(EmodartsError, match="iemocap has improvised, scripted; name one or several"):
        folds_of("iemocap", tmp_path, scenario=given)
