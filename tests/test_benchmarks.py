"""`tests/benchmarks/all.py`, the net under what was won in speed, on small scripts in the place of benchmarks."""

import json
import tomllib

import pytest

from tests.benchmarks import all as every
from tests.benchmarks import planted_bugs
from tests.support.files import REPOSITORY


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """A folder of benchmarks, one of which has a ratio of 2 where more is better, and 1 where less is."""
    monkeypatch.setattr(every, "HERE", tmp_path)
    monkeypatch.setattr(every, "RECORDED", tmp_path / "recorded.json")
    monkeypatch.setattr(every, "BENCHMARKS", (every.Benchmark("fine", ("--short",), ("fast_ratio",), ("slow_ratio",)),))
    line = "print('some words'); print(json.dumps({'fast_ratio': 2.0, 'slow_ratio': 1.0, 'short': sys.argv[1:]}))"
    (tmp_path / "fine.py").write_text(f"import json, sys\n{line}\n")
    return tmp_path


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(
    ("recorded", "lost"),
    [
        ({"fast_ratio": 2.3, "slow_ratio": 0.9}, []),
        ({"fast_ratio": 2.4}, ["fine.fast_ratio"]),
        ({"slow_ratio": 0.86}, ["fine.slow_ratio"]),
        ({}, []),
    ],
)
def test_a_ratio_that_lost_more_than_its_tolerance_fails(scripts, capsys, recorded, lost):
    (scripts / "recorded.json").write_text(json.dumps({"fine": recorded}))
    assert every.main(["--quick"]) == int(bool(lost))
    assert last_line(capsys) == {"lost": lost, "failed": [], "ratios": {"fine": {"fast_ratio": 2.0, "slow_ratio": 1.0}}}
    assert every.main([]) == 0  # other sizes than the recorded ones


@pytest.mark.parametrize("source", ["raise SystemExit('it died')", "print('no line of JSON')", "print('{}')"])
def test_a_benchmark_without_its_ratios_fails_and_the_others_go_on(scripts, capsys, source):
    (scripts / "broken.py").write_text(source)
    broken = every.Benchmark("broken", (), ("fast_ratio",))
    every.BENCHMARKS = (broken, *every.BENCHMARKS)  # undone by the fixture
    assert every.main(["--quick"]) == 1
    found = last_line(capsys)
    assert found["failed"] == ["broken"]
    assert list(found["ratios"]) == ["fine"]


def test_what_a_benchmark_needs_is_looked_for(scripts, capsys):
    every.BENCHMARKS = (every.BENCHMARKS[0]._replace(needs=("json", "no_such_package", "corpora/nothing")),)
    assert every.main(["--quick"]) == 0
    assert "skipped, without no_such_package, corpora/nothing" in capsys.readouterr().out


def test_ratios_are_recorded(scripts):
    assert every.main(["--quick", "--record"]) == 0
    assert json.loads((scripts / "recorded.json").read_text()) == {"fine": {"fast_ratio": 2.0, "slow_ratio": 1.0}}


def test_every_recorded_ratio_is_of_a_benchmark_that_is_there():
    ratios = {every.name_of(b): {*b.higher, *b.lower} for b in every.BENCHMARKS}
    recorded = json.loads(every.RECORDED.read_text())
    assert recorded
    assert not {name: rest for name, figures in recorded.items() if (rest := set(figures) - ratios.get(name, set()))}
    assert all((every.HERE / f"{b.script}.py").is_file() for b in every.BENCHMARKS)


def test_each_planted_bug_has_its_place_in_the_present_code():
    for bug in tomllib.loads(planted_bugs.BUGS.read_text())["bugs"]:
        now = planted_bugs.of_side(bug, "new")
        assert (REPOSITORY / now.file).read_text().count(now.text) == 1, f"{bug['name']}: {now.file}"
        path, _, name = now.test.partition("::")
        assert name.rpartition("::")[2].partition("[")[0] in (REPOSITORY / path).read_text(), now.test
