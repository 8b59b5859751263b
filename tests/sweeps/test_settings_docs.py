"""What settings mean is said once, at their fields: the page and the help of the command repeat it word for word."""

import subprocess

import pytest

from docs.settings_page import PAGE, settings_page
from emodarts.settings import describe_bounds
from sweeps.hydra_config import known_settings
from sweeps.settings_help import meaning_of, parts, spell
from tests.support.commands import RUN, settings, variables

ROWS = {
    f"{prefix}{declared.name}": (meaning_of(declared, prefix), describe_bounds(declared, prefix.rstrip(".")))
    for prefix, _, group in parts()
    for declared in group
}


def test_the_committed_page_is_what_the_settings_say():
    assert PAGE.read_text() == settings_page(), "run python docs/settings_page.py"


def test_every_setting_has_a_meaning_of_one_line():
    assert list(ROWS) == sorted(known_settings(), key=list(ROWS).index)
    for name, (meaning, _) in ROWS.items():
        assert meaning, name
        assert "\n" not in meaning, name
        assert len(meaning) < 200, name


@pytest.mark.slow
@pytest.mark.parametrize("given", [("corpus=emodb",), ("search=paper", "corpus=iemocap", "sweep.trials=7")])
def test_page_and_help_have_the_same_words(given, tmp_path):
    done = subprocess.run([*RUN, *given, "--help"], env=variables(tmp_path), capture_output=True, text=True, check=True)
    assert max(map(len, done.stdout.splitlines())) <= 120
    text, page = " ".join(done.stdout.split()), settings_page()
    composed = settings(*given)
    for name, (meaning, bounds) in ROWS.items():
        row = f"{meaning} ({bounds})" if bounds else meaning
        value = composed
        for part in name.split("."):
            value = getattr(value, part)
        shown = name if name in ("sweep.space", "sweep.bounds") else f"{name}={spell(value)}"
        spaced = shown.replace(",", ", ") if len(shown) > 120 else shown
        assert f" {spaced} {row}" in text, name
        cells = (cell.replace("|", r"\|") for cell in (bounds, meaning))
        assert f"| {' | '.join(cells)} |\n" in page[page.index(f"| `{name}` |") :].split("\n", 1)[0] + "\n", name
    assert "sweep.bounds.search.nodes.low=" in text
    assert "corpus: aesdd, ased, audformat, banglaser, cafe" in text
