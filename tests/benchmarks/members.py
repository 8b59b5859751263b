"""Whose five networks make the best ensemble: one search's, five searches', five seeds of one, or hand-designed ones?

    export EMODARTS_CORPORA=...   # a folder with emodb/ and ravdess/
    python tests/benchmarks/members.py run --corpora emodb ravdess [--features encoder log_mel] [--encoder FOLDER]
        [--repetitions 3] [--epochs 15] [--folds 0 3] [--hours H]
    python tests/benchmarks/members.py table      # docs/members.json, and docs/search.md between its markers

FOLDER holds whisper-tiny.en/ in the layout of transformers. docs/search.md says what is compared, and the rule that was
fixed beforehand. No test part is read: of a fold's train speakers a quarter are the dev part that chooses epochs and
configurations, and the fold's own dev part judges, whose speakers are in neither. Every search and training is a file
in --results (default members), so that a run that was stopped goes on.
Last line of `table`: one JSON object, the UAR of each ensemble by condition.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from rich.console import Console

from emodarts.corpora.protocols.folds import Fold
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.experiment.stages import adopt_genotype, derive, hand_designed, predict, search_task, train
from emodarts.experiment.unit_spec import TransferredGenotype
from emodarts.features.batches import FoldPart
from emodarts.networks.genotype import Genotype
from emodarts.provenance import git_revision
from emodarts.results.statistics import Interval, Tally, compare_systems, interval, judge, pooled
from emodarts.search.loop import SupernetSearch
from emodarts.search.proposals import draw_proposals
from emodarts.seeds import derive_seed
from emodarts.training.prediction import predict as predict_with
from sweeps.data.preparation import prepare
from sweeps.study.search_space import SearchSpace

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))

from tests.benchmarks.choosing import configurations, divide  # noqa: E402
from tests.benchmarks.ranking import (  # noqa: E402
    FOLDS,
    Condition,
    Pieces,
    parse,
    parser_of,
    run_conditions,
    write_table,
)
from tests.benchmarks.recorded_page import replace_between  # noqa: E402
from tests.support.commands import settings as compose  # noqa: E402

PAGE, FIGURES = TREE / "docs" / "search.md", TREE / "docs" / "members.json"
BEGIN, END = "<!-- members -->", "<!-- end of members -->"
MEMBERS = 5
MOST_CONFIGURATIONS = 40
HAND_DESIGNED = "cnn_lstm_attention"
SPACES = {"log_mel": "compact", "encoder": "frames"}
DRAWN = "drawn"
ARMS = {
    DRAWN: "five genotypes drawn from one search's alphas",
    "seeds": "five seeds of that search's own genotype",
    "searches": "five searches, each of a fifth of the epochs",
    "hand_designed": f"the best five configurations of `{HAND_DESIGNED}` by dev",
}
SINGLES = {"one": "that search's own genotype, one network", "supernet": "the supernet itself, one network"}


@dataclass(frozen=True)
class Place:
    """A repetition on a fold, and where its pieces are."""

    data: FoldData
    repetition: int
    pieces: Pieces

    def seed(self, *about: str | int) -> int:
        """A seed of its own."""
        return derive_seed(0, "members", self.data.fold.index, self.repetition, *about)

    def get(self, what: str, compute: Any) -> dict[str, Any]:
        """A piece of this place."""
        content: dict[str, Any] = self.pieces.get(f"{self.data.fold.index}.{self.repetition}/{what}", compute)
        return content


def measure(condition: Condition, options: argparse.Namespace, pieces: Pieces) -> None:
    """All pieces of a condition, repetition by repetition, fold by fold."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    overrides = condition.overrides(options.encoder)
    settings, designed = compose(*overrides), compose(*overrides, f"system={HAND_DESIGNED}")
    data = prepare(settings, Console(quiet=True))
    unit = FoldSettings(settings.features, settings.search, settings.training, settings.batches)
    space = SearchSpace.of(designed, designed.systems[HAND_DESIGNED])
    folds = options.folds or FOLDS[condition.corpus]
    about = {**asdict(condition), "folds": list(folds), "repetitions": options.repetitions, "commit": git_revision()}
    pieces.get("about", lambda: about)
    for repetition in range(options.repetitions):
        for index in folds:
            fold = divide(data.all_folds[index])
            place = Place(FoldData.of(data.store, fold, unit), repetition, pieces)
            pieces.get(f"judged/{index}", lambda f=fold: judged(f))
            measure_place(place, [FoldData.of(data.store, fold, s) for s in configurations(space, MOST_CONFIGURATIONS)])


def judged(fold: Fold) -> dict[str, Any]:
    """Speakers and class indices of the utterances that judge."""
    ids, index = fold.tests["judging"], {name: number for number, name in enumerate(fold.classes)}
    labels = [index[fold.labels[utterance]] for utterance in ids]
    return {"speakers": [fold.speakers[utterance] for utterance in ids], "labels": labels, "classes": len(index)}


def measure_place(place: Place, designed: Sequence[FoldData]) -> None:
    """The searches and trainings of a repetition on a fold."""
    epochs = place.data.settings.search.epochs
    searched = place.get("search", lambda: search(place.data, place.seed("search"), epochs))
    genotypes = [Genotype.from_json(text) for text in searched["genotypes"]]
    spent = searched["seconds"]
    for number in range(MEMBERS):
        # A supernet that has decided gives fewer: then the first ones are trained again, with other seeds.
        genotype = genotypes[number % len(genotypes)]
        trained = place.get(f"{DRAWN}{number}", lambda g=genotype, n=number: train_genotype(place, g, n))
        spent += trained["seconds"]
    for number in range(1, MEMBERS):
        place.get(f"seeds{number}", lambda n=number: train_genotype(place, genotypes[0], n))
    for number in range(MEMBERS):
        seed, short = place.seed("searches", number), max(1, epochs // MEMBERS)
        found = place.get(f"search{number}", lambda s=seed, e=short: search(place.data, s, e))
        genotype = Genotype.from_json(found["genotypes"][0])
        place.get(f"searches{number}", lambda g=genotype, n=number: train_genotype(place, g, n))
    for number, data in enumerate(designed):
        if spent <= 0 and number >= MEMBERS:
            break
        trained = place.get(f"hand_designed{number}", lambda d=data, n=number: train_designed(place, d, n))
        spent -= trained["seconds"]


def search(data: FoldData, seed: int, epochs: int) -> dict[str, Any]:
    """A search of so many epochs: its genotype and four drawn from its alphas, and the supernet's own predictions."""
    start = time.process_time()
    data = replace(data, settings=replace(data.settings, search=replace(data.settings.search, epochs=epochs)))
    task = search_task(data, seed)
    by_alphas = SupernetSearch(task)
    for epoch in range(epochs):
        by_alphas.run_epoch(epoch)
    rng = np.random.default_rng(derive_seed(seed, "members drawn"))
    drawn = draw_proposals(by_alphas.supernet, by_alphas.supernet.derive(), MEMBERS, rng)
    seconds = time.process_time() - start
    probabilities = predict_with(by_alphas.supernet, judging_part(data), data.settings.search.batch_size, data.device)
    genotypes = [genotype.to_json() for genotype in drawn]
    return {"genotypes": genotypes, "seconds": seconds, "probabilities": rounded(probabilities)}


def train_genotype(place: Place, genotype: Genotype, number: int) -> dict[str, Any]:
    """A training of a genotype with the seed of this number."""
    start = time.process_time()
    architecture = derive(place.data, adopt_genotype(place.data, TransferredGenotype(genotype, 0)))
    return figures_of(place.data, train(place.data, architecture, place.seed("training", number)), start)


def train_designed(place: Place, data: FoldData, number: int) -> dict[str, Any]:
    """A training of a configuration of the network designed by hand."""
    start = time.process_time()
    return figures_of(data, train(data, hand_designed(data), place.seed("training", number)), start)


def figures_of(data: FoldData, trained: Any, start: float) -> dict[str, Any]:
    """What is kept of a training: CPU seconds, its rank on dev, and the probabilities of who judges."""
    seconds = time.process_time() - start
    probabilities = predict(data, trained.network, data.fold.tests["judging"])
    dev = list(trained.epochs[trained.epoch].dev_rank)
    return {"seconds": seconds, "dev": dev, "probabilities": rounded(probabilities)}


def judging_part(data: FoldData) -> FoldPart:
    """The utterances that judge."""
    return data.part(data.fold.tests["judging"])


def rounded(probabilities: NDArray[np.float32]) -> list[list[float]]:
    """Five digits of each."""
    return [[round(float(p), 5) for p in row] for row in probabilities]


@dataclass(frozen=True)
class Ensemble:
    """The members of an arm on a fold in a repetition."""

    members: tuple[dict[str, Any], ...]
    seconds: float  # of the CPU, for all that it took to have them

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Mean over members `(utterances, classes)`."""
        return np.mean([member["probabilities"] for member in self.members], axis=0)

    @property
    def disagreement(self) -> float:
        """The part of the utterances on which two members differ, mean over pairs."""
        predicted = [np.argmax(member["probabilities"], 1) for member in self.members]
        pairs = [(a, b) for number, a in enumerate(predicted) for b in predicted[:number]]
        return mean(float(np.mean(a != b)) for a, b in pairs) if pairs else 0.0


def arms_of(folder: Path) -> dict[str, Ensemble] | None:
    """All arms of a repetition on a fold; None where a piece is missing."""
    pieces = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    names = [DRAWN + "0", *(f"{arm}{n}" for arm in (DRAWN, "seeds") for n in range(1, MEMBERS))]
    names += [f"{what}{n}" for what in ("search", "searches", "hand_designed") for n in range(MEMBERS)]
    if not {"search", *names} <= pieces.keys():
        return None

    def members(arm: str) -> tuple[dict[str, Any], ...]:
        return tuple(pieces[f"{arm}{number}"] for number in range(MEMBERS))

    def seconds(of: Sequence[dict[str, Any]]) -> float:
        return sum(piece["seconds"] for piece in of)

    drawn = members(DRAWN)
    own = (drawn[0], *(pieces[f"seeds{number}"] for number in range(1, MEMBERS)))
    by_search = members("searches")
    designed = [piece for name, piece in pieces.items() if name.startswith("hand_designed")]
    budget = pieces["search"]["seconds"] + seconds(drawn)
    if len(designed) < MOST_CONFIGURATIONS and seconds(designed) < budget:
        return None
    best = tuple(sorted(designed, key=lambda piece: piece["dev"], reverse=True)[:MEMBERS])
    return {
        DRAWN: Ensemble(drawn, budget),
        "seeds": Ensemble(own, pieces["search"]["seconds"] + seconds(own)),
        "searches": Ensemble(by_search, seconds(by_search) + seconds(members("search"))),
        "hand_designed": Ensemble(best, seconds(designed)),
        "one": Ensemble(drawn[:1], pieces["search"]["seconds"] + drawn[0]["seconds"]),
        "supernet": Ensemble((pieces["search"],), pieces["search"]["seconds"]),
    }


def summarise(folder: Path) -> dict[str, Any] | None:
    """Figures of a condition, of the repetitions that are whole on all folds; None: there is none."""
    about = json.loads((folder / "about.json").read_text())
    by_repetition: list[dict[int, dict[str, Ensemble]]] = []
    for repetition in range(about["repetitions"]):
        of_folds = {fold: arms_of(folder / f"{fold}.{repetition}") for fold in about["folds"]}
        if all(arms is not None for arms in of_folds.values()):
            by_repetition.append({fold: arms for fold, arms in of_folds.items() if arms is not None})
    if not by_repetition:
        return None
    truth = {fold: json.loads((folder / f"judged/{fold}.json").read_text()) for fold in about["folds"]}

    def tally(of: dict[str, Any], probabilities: NDArray[np.float64]) -> Tally:
        return Tally.of(of["speakers"], of["labels"], probabilities.argmax(1), of["classes"])

    def all_of(arm: str) -> list[tuple[int, Ensemble]]:
        return [(fold, arms[arm]) for of_folds in by_repetition for fold, arms in of_folds.items()]

    tallies, rows = {}, {}
    for arm in (*ARMS, *SINGLES):
        tallies[arm] = [
            pooled([tally(truth[fold], arms[arm].probabilities) for fold, arms in of_folds.items()])
            for of_folds in by_repetition
        ]
        single = [tally(truth[f], np.array(m["probabilities"])).uar() for f, e in all_of(arm) for m in e.members]
        rows[arm] = {
            "uar": _limits(interval(tallies[arm])),
            "members": round(mean(single), 4),
            "disagreement": round(mean(ensemble.disagreement for _, ensemble in all_of(arm)), 3),
            "seconds": round(mean(ensemble.seconds for _, ensemble in all_of(arm)), 1),
        }
    others = [arm for arm in rows if arm != DRAWN]
    verdicts = judge([compare_systems(tallies[DRAWN], tallies[arm]) for arm in others])
    for arm, verdict in zip(others, verdicts, strict=True):
        rows[arm] |= {"drawn_minus": _limits(verdict.difference), "verdict": str(verdict)}
    return {**about, "repetitions": len(by_repetition), "rows": rows}


def _limits(value: Interval) -> list[float | None]:
    return [None if x != x else round(float(x), 4) for x in (value.value, value.low, value.high)]


def page_lines(conditions: Sequence[dict[str, Any]]) -> list[str]:
    """A table a condition."""
    lines: list[str] = []
    for about in conditions:
        title, folds = Condition.of(about).title, ", ".join(map(str, about["folds"]))
        lines += [
            f"**{title}**: folds {folds}, {about['repetitions']} repetitions, {about['epochs']} epochs a "
            f"training; commit {str(about['commit'])[:12]}.",
            "",
            "| ensemble of | UAR [95 %] | drawn minus it [95 %] | verdict on the drawn ones | a member alone | members "
            "differ | CPU seconds |",
            "|---|---|---|---|---:|---:|---:|",
        ]
        for arm, of in (ARMS | SINGLES).items():
            row = about["rows"][arm]
            against = _shown(row["drawn_minus"], "+") if "drawn_minus" in row else "reference"
            cells = [of, _shown(row["uar"]), against, row.get("verdict", ""), _figure(row["members"], 3)]
            cells += [_figure(row["disagreement"], 2), f"{row['seconds']:.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return lines or ["No figures yet."]


def _shown(values: Sequence[float | None], sign: str = "") -> str:
    value, low, high = ("-" if x is None else _figure(x, 3, sign) for x in values)
    return f"{value} [{low}, {high}]"


def _figure(value: float, digits: int, sign: str = "") -> str:
    text = f"{value:{sign}.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def with_tables(text: str, conditions: Sequence[dict[str, Any]]) -> str:
    """The page with the tables between its markers."""
    return replace_between(text, BEGIN, END, page_lines(conditions))


def main() -> int:
    """Both commands."""
    parser = parser_of(__doc__, "members", "encoder")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parse(parser)
    if options.command == "run":
        return run_conditions(options, measure, SPACES.__getitem__)
    measured = write_table(options, summarise, FIGURES, PAGE, with_tables)
    print(json.dumps({n: {arm: row["uar"][0] for arm, row in c["rows"].items()} for n, c in measured.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
