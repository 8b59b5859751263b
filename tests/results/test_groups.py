"""Groups that are served unlike: figures by hand, a planted gap that is found, and none where there is none."""

import numpy as np
import pytest
from sklearn.metrics import recall_score

from emodarts.results.statistics import compare_groups, holm, served_differently

CLASSES, SPEAKERS, TAKES = 4, 24, 8
SPEAKER = np.repeat(np.arange(SPEAKERS), CLASSES * TAKES)
LABELS = np.tile(np.repeat(np.arange(CLASSES), TAKES), SPEAKERS)
NAMES = np.array([f"s{i:02d}" for i in range(SPEAKERS)])[SPEAKER]
GENDER = np.where(SPEAKER % 2 == 0, "female", "male")


def simulate(rng, gap=0.0, seeds=1):
    """Answers `(seeds, utterances)`: speakers differ by .08 in how often they are recognised, men by `gap` less."""
    skill = np.clip(rng.normal(0.7, 0.08, SPEAKERS)[SPEAKER] - gap * (GENDER == "male"), 0, 1)
    right = rng.random((seeds, len(LABELS))) < skill
    return np.where(right, LABELS, (LABELS + rng.integers(1, CLASSES, right.shape)) % CLASSES)


def uar(part, answers):
    return np.mean([recall_score(LABELS[part], a[part], average="macro", labels=np.unique(LABELS)) for a in answers])


def test_figures_by_hand():
    answers = simulate(np.random.default_rng(0), gap=0.1, seeds=3)
    found = compare_groups(NAMES, LABELS, answers, GENDER, CLASSES, 99)
    assert [g.name for g in found.groups] == ["female", "male"]
    for group in found.groups:
        inside = group.name == GENDER
        assert (group.utterances, group.speakers, group.absent) == (inside.sum(), 12, ())
        assert group.uar.value == pytest.approx(uar(inside, answers))
        assert group.from_others.value == pytest.approx(uar(inside, answers) - uar(~inside, answers))
    assert found.by_speaker


def test_the_threshold_is_that_of_speakers_dealt_anew():
    """The same simulation as a plain loop with scikit-learn's recalls."""
    answers = simulate(np.random.default_rng(1))
    found = compare_groups(NAMES, LABELS, answers, GENDER, CLASSES, 999)
    rng, gaps = np.random.default_rng(9), []
    own = np.where(np.arange(SPEAKERS) % 2 == 0, "female", "male")
    for _ in range(100):
        women = rng.permutation(own)[SPEAKER] == "female"
        gaps.append(abs(uar(women, answers) - uar(~women, answers)))
    assert found.threshold == pytest.approx(np.quantile(gaps, 0.95), rel=0.25)
    observed = abs(found.groups[0].from_others.value)
    assert found.p == pytest.approx(np.mean(np.array(gaps) >= observed), abs=0.1)


def test_utterances_are_dealt_within_speakers_and_classes():
    rng = np.random.default_rng(2)
    skill = np.where(np.tile(np.arange(TAKES) < TAKES // 2, SPEAKERS * CLASSES), 0.85, 0.6)
    answers = np.where(rng.random(len(LABELS)) < skill, LABELS, (LABELS + 1) % CLASSES)[None]
    length = np.where(skill > 0.7, "long", "short")
    found = compare_groups(NAMES, LABELS, answers, length, CLASSES, 199)
    assert not found.by_speaker
    assert found.p == pytest.approx(1 / 200)
    assert found.groups[0].speakers == SPEAKERS
    mixed = compare_groups(NAMES, LABELS, answers, rng.permuted(length), CLASSES, 199)
    assert mixed.p > 0.05


def test_a_planted_gap_is_found():
    rng = np.random.default_rng(3)
    verdicts = []
    for _ in range(20):
        found = compare_groups(NAMES, LABELS, simulate(rng, gap=0.2), GENDER, CLASSES, 199)
        verdicts += served_differently([found], holm([found.p]))
    assert verdicts.count(["served better", "served worse"]) >= 18
    assert all(v in (["served better", "served worse"], ["within chance"] * 2) for v in verdicts)


@pytest.mark.slow
def test_fair_models_are_seldom_called_unfair():
    """200 fair models: at the nominal .05 of a single attribute, and none of them on a page of eight attributes."""
    rng = np.random.default_rng(5)
    p_values = np.array([compare_groups(NAMES, LABELS, simulate(rng), GENDER, CLASSES, 499).p for _ in range(200)])
    assert (p_values <= 0.05).sum() <= 18  # binomial, 200 at .05: 97 % of the time at most 16
    assert (p_values <= 0.05 / 8).sum() <= 4


def test_a_class_that_a_group_lacks_is_compared_with_nobody():
    answers = simulate(np.random.default_rng(6))
    lacks = (GENDER == "male") & (LABELS == 3)
    rest = ~lacks
    found = compare_groups(NAMES[rest], LABELS[rest], answers[:, rest], GENDER[rest], CLASSES, 19)
    women, men = found.groups
    assert (women.absent, men.absent) == ((), (3,))
    both = LABELS < 3
    expected = uar3(rest & both & (GENDER == "male"), answers) - uar3(rest & both & (GENDER == "female"), answers)
    assert men.from_others.value == pytest.approx(expected)


def uar3(part, answers):
    return recall_score(LABELS[part], answers[0][part], average="macro", labels=[0, 1, 2])


def test_one_speaker_a_group_has_no_interval_and_one_group_is_none():
    answers = simulate(np.random.default_rng(7))
    two = SPEAKER < 2
    found = compare_groups(NAMES[two], LABELS[two], answers[:, two], GENDER[two], CLASSES, 19)
    assert all(np.isnan(group.from_others.low) for group in found.groups)
    assert found.p == 1
    with pytest.raises(ValueError, match="compared with each other"):
        compare_groups(NAMES, LABELS, answers, ["x"] * len(LABELS), CLASSES)
