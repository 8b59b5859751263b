"""Does the search earn its cost? All systems under equal budgets, and one page with table, figure and verdicts.

    python tests/benchmarks/evidence.py dev [--encoders FOLDER]           # EmoDB and RAVDESS, dev parts: defaults
    python tests/benchmarks/evidence.py test --corpus nemo [--encoders FOLDER]        # once, for the frozen default
    python tests/benchmarks/evidence.py test --corpus manifest --root FOLDER          # anybody's own recordings
        [--folds 0 1 2] [--groups main] [--minutes M] [--results evidence] [--page-only]

docs/evidence.md says what is compared and by which rules, and was committed before any run. The last form takes a
folder with recordings and a table of file, speaker and label (three speakers or more). FOLDER of encoders holds
whisper-tiny.en/ in the layout of transformers; without it, the library's own cache does. Sweeps are ordinary ones
(`sweeps/run.py`), a results folder a condition: a run that was stopped goes on, and once all of them have ended the
page is written to `<results>/test/<corpus>.md` and `.svg`. `dev` reads no figure of a test part. Last line: JSON.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyarrow.compute as pc  # noqa: E402

from emodarts import corpora  # noqa: E402
from emodarts.corpora.labels import label_utterances  # noqa: E402
from emodarts.errors import EmodartsError  # noqa: E402
from emodarts.provenance import git_revision  # noqa: E402
from emodarts.report.figures import Figure  # noqa: E402
from emodarts.report.plots import draw_intervals  # noqa: E402
from emodarts.report.report_data import ReportData, SystemResults, load_report_data, read_systems  # noqa: E402
from emodarts.results import reader  # noqa: E402
from emodarts.results.statistics import (  # noqa: E402
    MARGIN,
    Difference,
    Interval,
    Tally,
    Verdict,
    compare_systems,
    difference,
    interval,
    judge,
)
from emodarts.results.winners import Winner  # noqa: E402
from tests.benchmarks.sweep_cells import (  # noqa: E402
    FRAMES_PER_SECOND,
    Cell,
    Condition,
    RunCell,
    run_cells,
    run_in_process_of_its_own,
)
from tests.support.commands import settings as compose  # noqa: E402

PAGE = TREE / "docs" / "evidence.md"
BEGIN, END = "<!-- design -->", "<!-- end of design -->"
NAMES = {"emodb": "EmoDB", "ravdess": "RAVDESS", "nemo": "nEMO", "manifest": "own recordings"}
DEV_CORPORA = ("emodb", "ravdess")
PROTOCOL = "speaker3"  # of these and of nEMO: in three folds everybody is in dev and everybody in test
CONDITIONS = (Condition("log_mel", "train"), Condition("tiny.en", "speaker"))
SIZES = {"log_mel": "small", "tiny.en": "frames"}  # `search=...`: the space and its sizes
BUDGET = ["search.epochs=10", "training.epochs=20", "sweep.space.training.width.high=1.5"]
# All layers of the encoder, which each network, or each cell of it, weighs; and no width below 1, at which the plain
# architecture of the space for frames has more parameters than the network designed by hand.
OF_ENCODER = ["features.layers=learned", "sweep.space.training.width.low=1.0"]
TRIALS, TOP, SEEDS, DRAWS = 6, 5, 3, 5
SEARCHED = "emodarts"
# By the rule for defaults, the simplest first; and what is a default only where it is better than all of these.
SIMPLE = ("emodarts:fixed:joint", "emodarts:sampler:joint")
SEARCHES = (SEARCHED, "emodarts:random_search:joint")
FEWEST_SPEAKERS = 3


@dataclass(frozen=True)
class Group:
    """Systems that run as one sweep; `seeds` of each study's winner, `more`: overrides."""

    systems: tuple[str, ...]
    seeds: int = SEEDS
    more: tuple[str, ...] = ()


GROUPS = {
    "main": Group(
        (SEARCHED, "cnn_lstm_attention", "emodarts:fixed"),
        more=("search.match_parameters=cnn_lstm_attention",),
    ),
    "draws": Group(("emodarts:random_architecture:joint",), DRAWS),
    "controls": Group(("emodarts:random_search:joint", "emodarts:sampler:joint", "svm", "linear_probe")),
}


@dataclass(frozen=True)
class Row:
    """A system of the table: one network, or the ensemble of its study's best trials."""

    condition: Condition
    group: str
    results: SystemResults
    tallies: tuple[Tally, ...]
    default: tuple[Tally, ...]  # of the preset's own configuration, with the first seed

    @property
    def name(self) -> str:
        """As the table has it."""
        return self.results.system

    @property
    def system(self) -> str:
        """The system whose network or ensemble it is."""
        return self.results.system.partition("+")[0]

    @property
    def kind(self) -> str:
        """What it is compared as."""
        return f"+top{TOP}" if self.results.is_ensemble else "single"

    @property
    def is_reference(self) -> bool:
        """Whether it is what the others are compared with."""
        return self.group == "main" and self.system == SEARCHED

    @cached_property
    def uar(self) -> Interval:
        """Pooled UAR, mean over seeds, with its interval over speakers."""
        return interval(self.tallies)

    @property
    def tuned(self) -> Difference | None:
        """What the outer loop adds: the winner minus the preset's own configuration, with the first seed."""
        return difference(self.tallies[:1], self.default) if self.default else None


@dataclass(frozen=True)
class Comparison:
    """A system minus another one, as single networks or as ensembles, with its verdict."""

    one: Row
    other: Row
    verdict: Verdict


def cells_of(options: argparse.Namespace, corpus: str) -> list[Cell]:
    """The sweeps of a corpus, condition by condition."""
    cells = []
    for condition in options.conditions:
        folder = folder_of(options, corpus, condition)
        for name in options.groups:
            group = GROUPS[name]
            overrides = [
                f"corpus={corpus}",
                *([] if corpus == "manifest" else [f"corpus.protocol={PROTOCOL}"]),
                *([f"corpus.root={Path(options.root).resolve()}"] if options.root else []),
                f"system=[{','.join(group.systems)}]",
                f"sweep.trials={options.trials}",
                f"sweep.top={TOP}",
                f"sweep.seeds={min(group.seeds, options.seeds)}",
                f"search={SIZES[condition.features]}",
                *BUDGET,
                *condition.settings(options.encoders),
                *(OF_ENCODER if condition.features != "log_mel" else []),
                *group.more,
                *([f"sweep.folds=[{','.join(map(str, options.folds))}]"] if options.folds else []),
                *options.set,
            ]
            cells.append(Cell(f"{corpus}-{condition.name}-{name}", tuple(overrides), folder, folder / "log.txt"))
    return cells


def folder_of(options: argparse.Namespace, corpus: str, condition: Condition) -> Path:
    """The results of a condition."""
    return Path(options.results) / options.command / f"{corpus}-{condition.name}"


def check(options: argparse.Namespace) -> None:
    """Raise EmodartsError, with what is missing, before anything runs."""
    if options.command == "test" and options.corpus == "nemo":
        revision = git_revision()
        if revision is None or revision.endswith("-dirty"):
            raise EmodartsError(
                "the one look at nEMO is at a default that was committed: commit what has changed first"
            )
    if options.corpus != "manifest" or options.command == "dev":
        return
    if not options.root:
        raise EmodartsError(
            "--corpus manifest needs --root, a folder with recordings and a table of file, speaker, label"
        )
    settings = compose("corpus=manifest", f"corpus.root={Path(options.root).resolve()}", *options.set).corpus
    corpus = corpora.read(settings)
    labelled = label_utterances(corpus.utterances, settings).by_utterance
    rows = corpus.utterances.select(["utterance", "speaker"]).to_pylist()
    speakers = {row["speaker"] for row in rows if row["utterance"] in labelled and row["speaker"] is not None}
    if len(speakers) < FEWEST_SPEAKERS:
        raise EmodartsError(
            f"{options.root} has {len(speakers)} known speakers with labels, and train, dev and test need one each: "
            f"{FEWEST_SPEAKERS} or more"
        )


def register_run(options: argparse.Namespace, corpus: str) -> dict[str, Any]:
    """What a run is of, written down at its first start: the commit of the design, and all that differs from it."""
    path = Path(options.results) / options.command / f"{corpus}.json"
    about = {
        "design": git_revision(),
        "folds": options.folds or [],
        "trials": options.trials,
        "seeds": options.seeds,
        "set": list(options.set),
    }
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(about) + "\n")
        return about
    before: dict[str, Any] = json.loads(path.read_text())
    differing = [key for key in about if key != "design" and before[key] != about[key]]
    if differing:
        raise EmodartsError(
            f"{path} was begun with other {', '.join(differing)}: go on with those, or take another --results folder"
        )
    return before


def read_rows(options: argparse.Namespace, corpus: str) -> list[Row]:
    """The rows of the table, by condition and group; the reference first."""
    rows: list[Row] = []
    for condition in options.conditions:
        data = load_report_data(reader.open(str(folder_of(options, corpus, condition))), top=TOP)
        of_condition = [
            Row(condition, group, system, *_tallies(data, system, options.command))
            for group in GROUPS
            for system in data.systems
            if system.sweep == f"{corpus}-{condition.name}-{group}"
        ]
        rows += sorted(of_condition, key=lambda row: (row.kind != "single", not row.is_reference))
    return rows


def _tallies(data: ReportData, system: SystemResults, role: str) -> tuple[tuple[Tally, ...], tuple[Tally, ...]]:
    """A system's tallies of a role, one a seed, all folds pooled; and those of the preset's own configuration."""
    part = system.parts(role)[0]
    tallies = tuple(system.pooled(part))
    sweep = next(sweep for sweep in data.results.parts if sweep.name == system.sweep)
    studies = {winner.study for winner in data.winners if winner.sweep == sweep.name}
    if system.is_ensemble or not system.winners:
        return tallies, ()
    first = {
        (system.system, study, 0): Winner(sweep.name, system.system, study, 0, None, {}, 1) for study in sorted(studies)
    }
    default = next(iter(read_systems(sweep, first)), None)
    if default is None or part not in default.tallies or default.folds_of(part) != system.folds_of(part):
        return tallies, ()
    return tallies, tuple(default.pooled(part)[:1])


def compare(rows: Sequence[Row]) -> list[Comparison]:
    """The searched system against all others, Holm-corrected over a condition: front ends apart."""
    return _compare(rows, lambda one, other: one.is_reference and not other.is_reference)


def compare_defaults(rows: Sequence[Row]) -> list[Comparison]:
    """What the rule for defaults asks: each search minus all that is simpler, Holm-corrected over a condition."""

    def asks(one: Row, other: Row) -> bool:
        simpler = SIMPLE[: SIMPLE.index(one.system)] if one.system in SIMPLE else SIMPLE
        return one.system in (*SIMPLE, *SEARCHES) and other.system in simpler

    return _compare(rows, asks)


def _compare(rows: Sequence[Row], asks: Callable[[Row, Row], bool]) -> list[Comparison]:
    comparisons = []
    for condition in dict.fromkeys(row.condition for row in rows):
        pairs = [
            (one, other)
            for one in rows
            for other in rows
            if one.condition == other.condition == condition and one.kind == other.kind and asks(one, other)
        ]
        verdicts = judge([compare_systems(one.tallies, other.tallies) for one, other in pairs])
        comparisons += [Comparison(*pair, verdict) for pair, verdict in zip(pairs, verdicts, strict=True)]
    return comparisons


def supernet_lines(options: argparse.Namespace, corpus: str) -> list[str]:
    """The supernets themselves as systems, on dev: they are not trained further, and nobody has tested them."""
    lines = []
    is_supernet = (pc.field("stage") == "supernet") & (pc.field("role") == "dev")
    for condition in options.conditions:
        table = reader.open(str(folder_of(options, corpus, condition))).table("folds", where=is_supernet)
        rows = table.to_pylist()
        for system, sweep in dict.fromkeys((row["system"], row["sweep"]) for row in rows):
            uars = [row["uar"] for row in rows if (row["system"], row["sweep"]) == (system, sweep)]
            lines.append(
                f"{condition.title}: the supernets of `{system}` themselves, all {len(uars)} units: mean "
                f"dev UAR {_three(mean(uars))}."
            )
    return lines


def page_of(options: argparse.Namespace, corpus: str, about: dict[str, Any], rows: Sequence[Row]) -> list[str]:
    """The page: a table, a figure, and the verdicts in words."""
    comparisons = compare(rows)
    verdicts = {(c.other.condition, c.other.kind, c.other.name): c.verdict for c in comparisons}
    part = "dev parts" if options.command == "dev" else "test parts"
    folds = ", ".join(map(str, about["folds"])) or "all"
    changed = f" Changed settings: {' '.join(about['set'])}." if about["set"] else ""
    tally = rows[0].tallies[0]
    classes = tally.counts.shape[1]
    revisions = sorted({r["git_revision"] or "unknown" for row in rows for r in row.results.rows})
    lines = [
        f"# Evidence on {NAMES[corpus]}, {part}",
        "",
        f"By the design of commit {about['design']} (docs/evidence.md), run at {', '.join(revisions)}: folds {folds}, "
        f"{about['trials']} trials a study, dev chooses.{changed}",
        "",
        f"{len(tally.speakers)} speakers are recognised, {tally.counts.sum():.0f} utterances of {classes} classes; "
        f"chance is {_three(1 / classes)}.",
        "",
        "| features, normalisation | system | seeds | UAR [95 %] | first seed | searched minus it "
        "| verdict on the searched one | tuned minus default | parameters | search + training, s |",
        "|---|---|---:|---|---:|---|---|---|---:|---:|",
    ]
    for row in rows:
        verdict = verdicts.get((row.condition, row.kind, row.name))
        units = row.results.rows_of(row.results.parts(options.command)[0])
        cells = [
            row.condition.title,
            f"`{row.name}`",
            str(len(row.tallies)),
            _interval(row.uar),
            _three(interval(row.tallies[:1]).value),
            "-" if verdict is None else _interval(verdict.difference, sign=True),
            "reference" if row.is_reference else str(verdict),
            "-" if row.tuned is None else _interval(row.tuned, sign=True),
            f"{mean(unit['parameters'] for unit in units):,.0f}",
            f"{mean((unit['search_seconds'] or 0) + (unit['train_seconds'] or 0) for unit in units):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"![UAR of all systems with intervals]({corpus}.svg)", "", "In words:", ""]
    lines += [f"- {in_words(comparison)}" for comparison in comparisons]
    if options.command == "dev":
        lines += [f"- {line}" for line in supernet_lines(options, corpus)]
        lines += ["", "By the rule for defaults, Holm's correction over these alone:", ""]
        lines += [f"- {in_words(comparison)}" for comparison in compare_defaults(rows)]
    return lines


def in_words(comparison: Comparison) -> str:
    """A verdict as a sentence."""
    one, other, verdict = comparison.one, comparison.other, comparison.verdict
    text = f"{one.condition.title}: `{one.name}` minus `{other.name}` {_interval(verdict.difference, sign=True)}"
    return f"{text}: {verdict}."


def figure_of(rows: Sequence[Row]) -> Figure:
    """UAR of all rows with intervals."""
    names = [f"{row.name}, {row.condition.features}" for row in rows]
    colours = [list(dict.fromkeys(row.condition for row in rows)).index(row.condition) for row in rows]
    classes = rows[0].tallies[0].counts.shape[1]
    return Figure(
        "evidence",
        "UAR of all systems",
        "; ".join(f"{name} {_three(row.uar.value)}" for name, row in zip(names, rows, strict=True)),
        lambda canvas: draw_intervals(canvas, names, colours, [row.uar for row in rows], 1 / classes),
        height=1 + 0.24 * len(rows),
    )


def design_lines() -> list[str]:
    """What docs/evidence.md says of the design, as this script runs it."""
    lines = [
        f"- conditions: {'; '.join(f'{c.title}, `search={SIZES[c.features]}`' for c in CONDITIONS)}",
        f"- encoder frames: {FRAMES_PER_SECOND} a second, {', '.join(f'`{override}`' for override in OF_ENCODER)}",
        f"- {', '.join(f'`{override}`' for override in BUDGET)}",
        f"- {TRIALS} trials a study and fold, ensembles of the best {TOP} by dev; margin {_three(MARGIN)} UAR",
        f"- `dev`: {' and '.join(NAMES[c] for c in DEV_CORPORA)}; these and {NAMES['nemo']} by `{PROTOCOL}`, all folds",
    ]
    for name, group in GROUPS.items():
        systems = ", ".join(f"`{system}`" for system in group.systems)
        lines.append(f"- {name}: {systems}; {group.seeds} seeds of the winner")
    return lines


def _three(value: float, sign: bool = False) -> str:
    text = f"{value:+.3f}" if sign else f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def _interval(value: Interval, sign: bool = False) -> str:
    limits = "-" if value.low != value.low else f"{_three(value.low, sign)}, {_three(value.high, sign)}"
    return f"{_three(value.value, sign)} [{limits}]"


def run_corpus(options: argparse.Namespace, corpus: str, run: RunCell) -> int:
    """The sweeps of a corpus, and its page where they have ended."""
    about = register_run(options, corpus)
    if not options.page_only and (code := run_cells(cells_of(options, corpus), options.minutes, run)):
        return code
    rows = read_rows(options, corpus)
    folder = Path(options.results) / options.command
    (folder / f"{corpus}.md").write_text("\n".join(page_of(options, corpus, about, rows)) + "\n")
    (folder / f"{corpus}.svg").write_bytes(figure_of(rows).to_bytes("svg"))
    print(f"wrote {folder / corpus}.md")
    print(json.dumps({f"{row.condition.name} {row.name}": round(row.uar.value, 3) for row in rows}))
    return 0


def main(arguments: Sequence[str] | None = None, run: RunCell = run_in_process_of_its_own) -> int:
    """Both commands; 1 with a sentence for what cannot be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("dev", "test"))
    parser.add_argument("--corpus", choices=("nemo", "manifest"), help="of `test`")
    parser.add_argument("--corpora", nargs="+", choices=DEV_CORPORA, default=list(DEV_CORPORA), help="of `dev`")
    parser.add_argument("--root", help="folder of the recordings and their table, of a manifest")
    parser.add_argument("--encoders", help="folder of whisper-tiny.en/; default: the cache of its library")
    parser.add_argument("--folds", type=int, nargs="+", help="default: all")
    parser.add_argument("--results", default="evidence")
    parser.add_argument("--minutes", type=float, help="begin nothing after so many")
    parser.add_argument("--page-only", action="store_true", help="run nothing")
    names = [condition.name for condition in CONDITIONS]
    parser.add_argument("--conditions", nargs="+", choices=names, default=names)
    groups = list(GROUPS)
    parser.add_argument("--groups", nargs="+", choices=groups, default=groups, help="some, or some beside others")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--seeds", type=int, default=DRAWS, help="at most so many seeds a system")
    parser.add_argument("--set", nargs="+", default=[], help="further settings of all sweeps; the page names them")
    options = parser.parse_args(arguments)
    if options.command == "test" and options.corpus is None:
        parser.error("test needs --corpus")
    options.conditions = [condition for condition in CONDITIONS if condition.name in options.conditions]
    try:
        check(options)
        targets = options.corpora if options.command == "dev" else [options.corpus]
        return max([run_corpus(options, corpus, run) for corpus in targets])
    except EmodartsError as error:
        print(f"error: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
