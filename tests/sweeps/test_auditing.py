"""The audit of a new sweep, beside the start of its workers."""

import io
import threading
from types import SimpleNamespace

import pytest
from rich.console import Console

from emodarts.errors import EmodartsError
from sweeps import sweep
from sweeps.settings import NO_RAY, RaySettings


@pytest.fixture(autouse=True)
def new(monkeypatch):
    monkeypatch.setattr(sweep, "is_audited", lambda *_: False)


def job(address=None):
    return SimpleNamespace(settings=SimpleNamespace(ray=RaySettings(address=address)), data=None)


@pytest.fixture
def console():
    return Console(file=io.StringIO())


def test_warnings_are_printed_when_they_are_there(monkeypatch, console):
    begun = threading.Event()
    asked = []

    def audit(*_, in_background):
        asked.append(in_background)
        return ["  audit, warning: planted"] if begun.wait(60) else []

    monkeypatch.setattr(sweep, "write_trained", audit)
    with sweep.auditing(job(), None, None, console) as (warnings, _):
        assert warnings == []  # the units begin
        begun.set()
    assert console.file.getvalue() == "  audit, warning: planted\n"
    assert asked == [True]


@pytest.mark.parametrize(("address", "audited"), [(None, True), (NO_RAY, False), (NO_RAY, True)])
def test_an_audit_that_is_there_stands_in_the_summary(monkeypatch, console, address, audited):
    monkeypatch.setattr(sweep, "is_audited", lambda *_: audited)
    monkeypatch.setattr(sweep, "write_trained", lambda *_: ["  audit, warning: planted"])
    with sweep.auditing(job(address), None, None, console) as (warnings, _):
        assert warnings == ["  audit, warning: planted"]
    assert console.file.getvalue() == ""


@pytest.mark.parametrize("address", [None, NO_RAY])
def test_an_audit_that_fails_ends_the_sweep_with_its_error(monkeypatch, console, address):
    def fail(*_, in_background=False):
        raise EmodartsError("the results cannot be written")

    monkeypatch.setattr(sweep, "write_trained", fail)
    asked = sweep.auditing(job(address), None, None, console)
    with pytest.raises(EmodartsError, match="cannot be written"), asked as (_, result):
        result()
    assert console.file.getvalue() == ""
