"""The one place where templates are rendered."""

import jinja2
import pytest

from emodarts.templates import render_template


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a template for a page and one for a text."""
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "page.html.j2").write_text("{% if name %}\n<p>{{ name|shown }}, {{ 3|twice }}</p>\n{% endif %}\n")
    (folder / "text.md.j2").write_text("{{ name }}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "letters"


def test_a_page_is_escaped_and_a_text_is_not(package):
    filters = {"twice": lambda value: str(2 * value)}
    assert render_template(package, "page.html.j2", filters, name="a<b>\x1b") == "<p>a&lt;b&gt;\\x1b, 6</p>\n"
    assert render_template(package, "text.md.j2", {}, name="a<b>") == "a<b>\n"


def test_a_name_that_nobody_gave_is_an_error(package):
    with pytest.raises(jinja2.UndefinedError, match="'name' is undefined"):
        render_template(package, "text.md.j2", {})


def test_no_other_module_makes_an_environment():
    from tests.support.files import REPOSITORY

    users = [f.name for f in (REPOSITORY / "emodarts").rglob("*.py") if "jinja2" in f.read_text()]
    assert users == ["templates.py"]
