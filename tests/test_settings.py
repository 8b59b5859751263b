"""Fields of settings: what their bounds refuse, and the words for them."""

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pytest
from omegaconf import OmegaConf

from emodarts.errors import EmodartsError
from emodarts.settings import check_settings, default_of, describe_bounds, is_used, setting


@dataclass(frozen=True)
class Oven:
    degrees: int = setting(180, "heat", at_least=50, at_most=300, unit="C")
    minutes: float | None = setting(None, "time; null: until it is done", above=0)
    share: float = setting(0.5, "of its power", above=0, at_most=1)
    loss: float = setting(0.0, "of heat", at_least=0, below=1)
    turns: int = setting(0, "of the tray", at_least=0)
    pause: float = setting(10.0, "between turns", at_least=0, at_most="degrees")
    mode: str = setting("fan", "how it heats", choices=("fan", "grill"))
    grill_level: int = setting(1, "of the grill", at_least=1, only_with=("mode", "grill"))
    trays: list[int] = setting([2], "which", check=lambda trays: len(set(trays)) == len(trays), allowed="none twice")
    names: dict[str, str] = setting({}, "of dishes")
    anything: Any = setting(None, "free")

    def __post_init__(self):
        check_settings(self, "oven")


FIELDS = {declared.name: declared for declared in fields(Oven)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"degrees": 49}, "oven.degrees=49 is out of range: 50 to 300 C"),
        ({"degrees": 301}, "oven.degrees=301 is out of range: 50 to 300 C"),
        ({"degrees": None}, "oven.degrees=None is out of range: 50 to 300 C"),
        ({"minutes": 0}, "oven.minutes=0 is out of range: above 0, or null"),
        ({"minutes": float("nan")}, "oven.minutes=nan is out of range: above 0, or null"),
        ({"share": 0}, "oven.share=0 is out of range: above 0 to 1"),
        ({"share": 1.1}, "oven.share=1.1 is out of range: above 0 to 1"),
        ({"loss": 1}, "oven.loss=1 is out of range: 0 to below 1"),
        ({"turns": -1}, "oven.turns=-1 is out of range: 0 or more"),
        ({"pause": 181}, "oven.pause=181 is out of range: 0 to oven.degrees"),
        ({"mode": "steam"}, "oven.mode=steam is out of range: fan | grill"),
        ({"trays": [1, 1]}, "oven.trays=[1, 1] is out of range: none twice"),
    ],
)
def test_what_is_out_of_bounds_is_refused(changes, message):
    with pytest.raises(EmodartsError) as refused:
        Oven(**changes)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    "changes",
    [{"degrees": 50}, {"degrees": 300}, {"minutes": None}, {"minutes": 1e-9}, {"share": 1}, {"loss": 0}, {"trays": []},
     {"degrees": 200, "pause": 200}, {"mode": "grill"}, {"anything": object()}],
)  # fmt: skip
def test_bounds_that_are_reached_are_allowed(changes):
    assert replace(Oven(), **changes) == Oven(**changes)


def test_a_setting_may_depend_on_another():
    assert not is_used(FIELDS["grill_level"], Oven())
    assert is_used(FIELDS["grill_level"], Oven(mode="grill"))
    assert is_used(FIELDS["mode"], Oven())


def test_words_and_defaults():
    assert describe_bounds(FIELDS["names"], "oven") == describe_bounds(FIELDS["anything"], "oven") == ""
    assert {name: default_of(declared) for name, declared in FIELDS.items()} == asdict(Oven())
    assert Oven().trays is not Oven().trays, "a default is nobody's list"


def test_omegaconf_reads_the_fields():
    config = OmegaConf.to_container(OmegaConf.structured(Oven))
    assert json.dumps(config) == json.dumps(asdict(Oven()))
