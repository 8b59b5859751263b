"""What encoders, normalisation and ensembles are worth on dev: runs sweeps of this project, and writes the table.

    export EMODARTS_CORPORA=...   # a folder with emodb/ and ravdess/
    python tests/benchmarks/recognition.py run --encoders FOLDER [--corpora emodb] [--minutes 60]
    python tests/benchmarks/recognition.py averaging --encoders FOLDER    # the same, with training.averaging=late
    python tests/benchmarks/recognition.py table      # docs/recognition.json; docs/features.md and README.md between
                                                      # their markers

FOLDER holds whisper-tiny.en/ and whisper-base/ in the layout of transformers. Every cell of the table is an ordinary
sweep (`sweeps/run.py`, five trials a study, three folds a corpus), in the folder --results (default recognition): a run
that was stopped goes on where it stopped, and runs of different corpora may go side by side. Only dev figures are read.
`table` adds what is finished to docs/recognition.json, whose sweeps are not run again (`--again`: all are).
`averaging` runs what proposes alike with averaged weights: configuration by configuration, fold by fold, a pair.
Last line of `table`: one JSON object, `top5_gain`: UAR of `+top5` minus that of the winners, mean over all cells;
`averaging_gain`: UAR with averaged weights minus without, mean over all pairs.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))

from tests.benchmarks.recorded_page import replace_between  # noqa: E402
from tests.benchmarks.sweep_cells import Cell, Condition, run_cells  # noqa: E402

PAGE, README, FIGURES = TREE / "docs" / "features.md", TREE / "README.md", TREE / "docs" / "recognition.json"
BEGIN, END = "<!-- recognition -->", "<!-- end of recognition -->"
FOLDS = {"emodb": (0, 3, 6), "ravdess": (0, 2, 4)}
NAMES = {"emodb": "EmoDB", "ravdess": "RAVDESS"}
LINEAR = ("svm", "linear_probe")
NETWORKS = ("cnn_lstm_attention", "emodarts:fixed", "emodarts")
AVERAGED = ("cnn_lstm_attention", "emodarts:fixed")
GROUPS = {LINEAR: "linear", NETWORKS: "networks", AVERAGED: "averaged"}
SUMMARY = {
    "linear_probe": "`linear_probe`: the mean over time, one layer",
    "cnn_lstm_attention": "`cnn_lstm_attention`: designed by hand",
    "emodarts:fixed": "`emodarts:fixed`: the space's plain architecture",
    "emodarts": "`emodarts`: searched",
}
TRIALS = 5


CONDITIONS = [Condition(f, by) for f in ("log_mel", "tiny.en", "base") for by in ("train", "utterance", "speaker")]
OF_NETWORKS = [Condition(*pair) for pair in (("base", "speaker"), ("log_mel", "speaker"), ("log_mel", "train"))]
OF_NETWORKS.append(Condition("tiny.en", "speaker"))


def sweep_name(corpus: str, condition: Condition, systems: tuple[str, ...]) -> str:
    """What a cell's sweep is called."""
    return f"{corpus}-{condition.name}-{GROUPS[systems]}"


def run(options: argparse.Namespace) -> int:
    """The sweeps that are missing, one after the other; 0 where all are finished."""
    if options.command == "averaging":
        about = [(corpus, c, AVERAGED) for c in OF_NETWORKS[:2] for corpus in options.corpora]
    else:
        about = [(corpus, c, LINEAR) for corpus in options.corpora for c in CONDITIONS]
        about += [(corpus, c, NETWORKS) for c in OF_NETWORKS for corpus in options.corpora]
    recorded = {} if options.again else load_figures()
    return run_cells([cell_of(options, *c) for c in about if sweep_name(*c) not in recorded], options.minutes)


def cell_of(options: argparse.Namespace, corpus: str, condition: Condition, systems: tuple[str, ...]) -> Cell:
    """The sweep of a cell of the table."""
    results = Path(options.results)
    overrides = [
        f"corpus={corpus}",
        f"system=[{','.join(systems)}]",
        f"sweep.folds=[{','.join(map(str, FOLDS[corpus]))}]",
        f"sweep.trials={TRIALS}",
        *condition.settings(options.encoders),
        *(["training.averaging=late"] if systems == AVERAGED else []),
    ]
    return Cell(sweep_name(corpus, condition, systems), tuple(overrides), results, results / f"{corpus}.log")


def load_figures() -> dict[str, dict[str, Any]]:
    """What docs/recognition.json holds, by the name of the sweep."""
    return json.loads(FIGURES.read_text()) if FIGURES.exists() else {}


def table(options: argparse.Namespace) -> int:
    """Take up what is finished, and write figures and page."""
    figures = load_figures()
    for corpus in FOLDS:
        for condition in CONDITIONS:
            for systems in GROUPS:
                name = sweep_name(corpus, condition, systems)
                if (Path(options.results) / name / "sweep.json").exists():
                    cell = summarise(options.results, name, systems, len(FOLDS[corpus]))
                    if cell is not None:
                        figures[name] = cell
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    PAGE.write_text(with_tables(PAGE.read_text(), figures))
    README.write_text(with_summary(README.read_text(), figures))
    winners = [c["systems"][s] for c in figures.values() for s in c["systems"] if "averaged" not in c["group"]]
    gains = {
        "top5_gain": [cell["top5"] - cell["single"] for cell in winners],
        "averaging_gain": [d for of in averaging_differences(figures).values() for d in of],
    }
    print(json.dumps({name: round(mean(values), 3) for name, values in gains.items() if values}))
    return 0


def summarise(results: str, name: str, systems: tuple[str, ...], folds: int) -> dict[str, Any] | None:
    """A finished sweep's figures: by system the mean of its winners, of its ensembles, and each trial's; else None."""
    import pyarrow.compute as pc

    from emodarts.results import reader
    from emodarts.results.winners import winners

    opened = reader.open(results, sweep=name)
    is_dev = (pc.field("role") == "dev") & (pc.field("stage") == "final")
    rows = opened.table("folds", where=is_dev).to_pylist()
    ensembles = opened.table("ensembles", where=is_dev).to_pylist()
    parameters = {(t.system, t.study, t.trial): t.parameters for t in opened.trials()}
    cell: dict[str, Any] = {
        "group": GROUPS[systems],
        "units": len(rows),
        "hours": round(sum((r["search_seconds"] or 0) + (r["train_seconds"] or 0) for r in rows) / 3600, 3),
        "revisions": sorted({r["git_revision"][:7] for r in rows if r["git_revision"]}),
        "systems": {},
    }
    for system in systems:
        of = {system, f"{system}:joint"}  # the long name of a control
        first = [w.dev_uar for w in winners(opened) if w.system in of and w.of == TRIALS]
        joint = [e["uar"] for e in ensembles if e["system"].removesuffix(f"+top{TRIALS}") in of]
        if not len(first) == len(joint) == folds:
            return None
        # A configuration is known by its study and parameters: proposals of two sweeps come from the same seeds.
        trials = {}
        for row in rows:
            if row["system"] in of and system in AVERAGED:
                configuration = parameters[row["system"], row["study"], row["trial"]]
                trials[f"{row['study']} {json.dumps(configuration, sort_keys=True)}"] = row["uar"]
        cell["systems"][system] = {"single": mean(first), "top5": mean(joint), "trials": trials}
    return cell


def with_tables(text: str, figures: dict[str, dict[str, Any]]) -> str:
    """The page with the tables of these figures between its markers."""
    return replace_between(text, BEGIN, END, page_lines(figures))


def page_lines(figures: dict[str, dict[str, Any]]) -> list[str]:
    """A table a corpus, what averaging gained, and what was run."""
    lines = []
    for corpus, folds in FOLDS.items():
        lines += [
            f"**{NAMES[corpus]}**, dev UAR, mean over the folds {', '.join(map(str, folds))}: the winner of five "
            "trials by that same dev part, and `+top5`.",
            "",
            f"| features, normalisation | {' | '.join((*LINEAR, *NETWORKS))} |",
            f"|---|{'---:|' * 5}",
        ]
        for condition in CONDITIONS:
            cells = []
            for systems in (LINEAR, NETWORKS):
                cell = figures.get(sweep_name(corpus, condition, systems))
                for system in systems:
                    of = cell["systems"][system] if cell else None
                    cells.append(f"{of['single']:.3f} {of['top5']:.3f}".replace("0.", ".") if of else "-")
            lines.append(f"| {condition.title} | {' | '.join(cells)} |")
        lines.append("")
    differences = averaging_differences(figures)
    if differences:
        lines += [_in_words(differences), ""]
    if not figures:
        return ["No figures yet: the sweeps take about five core-hours."]
    units, hours = (sum(cell[name] for cell in figures.values()) for name in ("units", "hours"))
    revisions = sorted({revision for cell in figures.values() for revision in cell["revisions"]})
    about = f"{hours:.1f} core-hours of search and training, commit {', '.join(revisions)}"
    lines.append(f"Recorded: {units} units, {about}; -: not run.")
    return lines


def with_summary(text: str, figures: dict[str, dict[str, Any]]) -> str:
    """README.md with the systems on the four kinds of features that networks were run on."""
    conditions = sorted(OF_NETWORKS, key=CONDITIONS.index)
    lines = [
        f"| dev UAR, {' / '.join(NAMES.values())} | {' | '.join(c.title for c in conditions)} |",
        f"|---|{'---:|' * len(conditions)}",
    ]
    for system, title in SUMMARY.items():
        cells = []
        for condition in conditions:
            names = [sweep_name(corpus, condition, LINEAR if system in LINEAR else NETWORKS) for corpus in NAMES]
            of = [f"{figures[n]['systems'][system]['single']:.3f}"[1:] if n in figures else "-" for n in names]
            cells.append(" / ".join(of))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return replace_between(text, BEGIN, END, lines)


def averaging_differences(figures: dict[str, dict[str, Any]]) -> dict[tuple[str, Condition], list[float]]:
    """Dev UAR with averaged weights minus without, of each configuration on each fold, by corpus and condition."""
    differences = {}
    for corpus in FOLDS:
        for condition in OF_NETWORKS[:2]:
            plain, averaged = (figures.get(sweep_name(corpus, condition, of)) for of in (NETWORKS, AVERAGED))
            if plain and averaged:
                differences[corpus, condition] = [
                    uar - plain["systems"][system]["trials"][trial]
                    for system in AVERAGED
                    for trial, uar in averaged["systems"][system]["trials"].items()
                    if trial in plain["systems"][system]["trials"]
                ]
    return {key: of for key, of in differences.items() if of}


def _in_words(differences: dict[tuple[str, Condition], list[float]]) -> str:
    """One sentence on averaged weights."""
    parts = [
        f"{NAMES[corpus]}, {condition.title} {mean(of):+.3f} ({len(of)} pairs, sd {stdev(of):.3f})".replace("0.", ".")
        for (corpus, condition), of in differences.items()
    ]
    return f"`training.averaging=late` minus `none`, dev UAR of {' and '.join(AVERAGED)}: {'; '.join(parts)}."


def main() -> int:
    """Both commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "averaging", "table"))
    parser.add_argument("--results", default="recognition")
    parser.add_argument("--encoders", help="folder of the encoders; needed, but for a table")
    parser.add_argument("--corpora", nargs="+", choices=list(FOLDS), default=list(FOLDS))
    parser.add_argument("--again", action="store_true", help="run what docs/recognition.json holds, too")
    parser.add_argument("--minutes", type=float, help="begin nothing after so many")
    options = parser.parse_args()
    if options.command == "table":
        return table(options)
    if options.encoders is None:
        parser.error(f"{options.command} needs --encoders")
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
