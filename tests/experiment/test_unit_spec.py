"""The unit of work as the driver makes it once: its key, its seed, and its way through JSON."""

import json
from dataclasses import asdict, replace

import pytest

from emodarts.corpora.protocols.folds import Fold
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import FoldSettings, subsample_name
from emodarts.experiment.unit_spec import TransferredGenotype, UnitSpec, settings_from_json
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.networks.genotype import Edge, Genotype
from emodarts.records import TrialRecord, UnitKey
from emodarts.search.settings import SearchSettings
from emodarts.seeds import derive_seed, unit_seed
from emodarts.training.settings import TrainingSettings

UTTERANCES = tuple(f"demo/{n}" for n in range(16))
FOLD = Fold(
    "demo/speaker4",
    3,
    UTTERANCES[:12],
    UTTERANCES[12:14],
    {"demo/test": UTTERANCES[14:]},
    {u: ("angry", "sad")[n % 2] for n, u in enumerate(UTTERANCES)},
    ("angry", "sad"),
    {u: f"demo/s{n // 4}" for n, u in enumerate(UTTERANCES)},
    {},
    hash="0123456789abcdef",
    protocol_caveat="speakers are guessed",
)
CELL = ((Edge("skip_connect", 0), Edge("sep_conv_3x3", 1)),)
GENOTYPE = Genotype(CELL, CELL, ((Edge("lstm_1", 0), Edge("skip_connect", 1)),))
EVERYTHING = FoldSettings(
    FeatureSettings(speeds=[1.0, 0.9], trim_db=None, log_floor=1 / 3e5),
    SearchSettings(
        cnn_operations=["none", "skip_connect"], learning_rate=0.1 + 0.2, final_learning_rate=0, subsample=8
    ),
    TrainingSettings(stem_strides=[2, 2]),
    BatchSettings(device_memory_fraction=1 / 3),
)


def unit(settings=EVERYTHING, **more):
    trial = TrialRecord("emodarts", "fold3", 7, 2, {})
    return UnitSpec.of(FOLD, settings, trial, "demo-1", ("demo",), sweep_seed=5, **more)


def test_a_units_key_follows_from_its_fold_and_settings():
    subsample = subsample_name(FOLD, EVERYTHING)
    assert subsample is not None
    assert unit().key == UnitKey(
        "demo-1", "emodarts", "fold3", 7, 2, ("demo",), "demo/speaker4", 3, FOLD.hash, ("angry", "sad"), None,
        subsample, "speakers are guessed",
    )  # fmt: skip
    source = "other/emodarts/fold0/1/0/0"
    taken = unit(genotype_from=source, transferred=TransferredGenotype(GENOTYPE, 4)).key
    assert taken == replace(unit().key, genotype_from=source, subsample=None)  # nothing is searched


def test_a_units_seed_is_derived_from_the_sweeps_seed_fold_trial_and_seed():
    assert unit().random_seed == unit_seed(5, 3, 7, 2) == derive_seed(5, "unit", 3, 7, 2) == 7873007055474722537
    trial = TrialRecord("svm", "shared", 7, 2, {})
    same = UnitSpec.of(FOLD, FoldSettings(system="svm"), trial, "other", (), sweep_seed=5)
    assert same.random_seed == unit().random_seed


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"rungs": (("search", 1 / 3), ("train", 0.5)), "device": "cuda:1"},
        {"genotype_from": "other/emodarts/fold0/1/0/0", "transferred": TransferredGenotype(GENOTYPE, 4)},
        {"settings": FoldSettings(system="svm")},
    ],
)
def test_a_unit_goes_through_json_and_back_exactly(more):
    spec = unit(**more)
    assert UnitSpec.from_json(spec.to_json()) == spec
    assert UnitSpec.from_json(spec.to_json()).to_json() == spec.to_json()


def test_a_unit_of_another_version_is_refused():
    content = json.loads(unit().to_json())
    for text in ("", "[]", json.dumps({**content, "key": {}}), json.dumps({**content, "settings": {"search": {}}})):
        with pytest.raises(EmodartsError, match=r"^not a unit of work of this version of emodarts: "):
            UnitSpec.from_json(text)


@pytest.mark.parametrize("optimisation", ["single", "bilevel"])
def test_stored_settings_are_read_as_they_were(optimisation):
    now = asdict(FoldSettings(search=SearchSettings(optimisation=optimisation)))
    assert settings_from_json(json.dumps(now)).search == SearchSettings(optimisation=optimisation)


def test_stored_settings_of_another_version_are_refused():
    now = asdict(FoldSettings())
    less = {name: value for name, value in now["search"].items() if name != "optimisation"}
    for search, named in (({**now["search"], "depth": 3}, "depth"), (less, "optimisation")):
        with pytest.raises(EmodartsError, match=rf"another version of emodarts \(.*{named}.*\): read them with the"):
            settings_from_json(json.dumps({**now, "search": search}))


def test_settings_of_frames_and_layers_need_these():
    for rate in (12.5, 25.0):
        with pytest.raises(
            EmodartsError, match=r"training\.sequence_rate is of frames, and features\.kind=egemaps has none"
        ):
            FoldSettings(FeatureSettings(kind="egemaps"), training=TrainingSettings(sequence_rate=rate))
    encoder = FeatureSettings(kind="encoder", model="an/encoder", layers="learned", frames_per_second=25.0)
    layer = TrainingSettings(layer=0.5)
    assert FoldSettings(encoder, training=layer).uses("training.layer")
    for refused in (
        {"features": replace(encoder, layers=2)},
        {"features": encoder, "search": SearchSettings(space="frames")},
    ):
        with pytest.raises(EmodartsError, match=r"training\.layer=0\.5 is one of the layers that would be weighed"):
            FoldSettings(**refused, training=layer)
