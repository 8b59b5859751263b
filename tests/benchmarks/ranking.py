"""Does a supernet rank architectures? Some are trained alone, and each method's ranking is held against these figures.

    export EMODARTS_CORPORA=...   # a folder with emodb/ and ravdess/
    python tests/benchmarks/ranking.py run --corpora emodb ravdess [--features log_mel encoder] [--encoder FOLDER]
        [--architectures 40] [--seeds 2] [--epochs 15] [--space compact] [--folds 0 3] [--hours H]
    python tests/benchmarks/ranking.py table      # docs/ranking.json, and docs/ranking.md between its markers

FOLDER holds whisper-tiny.en/ in the layout of transformers. docs/ranking.md says what is measured, and the rule that
was fixed beforehand. Dev figures alone: no test part is read. Every piece is a file in --results (default ranking), so
that a run that was stopped goes on.
Last line of `table`: one JSON object, the tau of each method by condition.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rich.console import Console
from torch import nn

from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.experiment.stages import Architecture, adopt_genotype, derive, search_task, train
from emodarts.experiment.unit_spec import TransferredGenotype
from emodarts.features.batches import Batch, training_batches
from emodarts.files import atomic_write
from emodarts.networks.costs import count_macs, count_parameters
from emodarts.networks.genotype import Genotype
from emodarts.networks.supernet import Supernet
from emodarts.provenance import git_revision
from emodarts.records import late_epochs
from emodarts.search.candidates import CandidateSpace
from emodarts.search.loop import SupernetSearch
from emodarts.search.single_path import SinglePathSearch
from emodarts.search.supernet_evaluation import InheritedWeights
from emodarts.search.task import SearchTask
from emodarts.seeds import derive_seed
from emodarts.training.losses import BalancedLoss
from emodarts.training.train import crop_frames
from sweeps.data.preparation import prepare

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))

from tests.benchmarks.rank_correlation import draws, interval, mean_tau  # noqa: E402
from tests.benchmarks.recorded_page import replace_between  # noqa: E402
from tests.support.commands import settings as compose  # noqa: E402

PAGE, FIGURES = TREE / "docs" / "ranking.md", TREE / "docs" / "ranking.json"
BEGIN, END = "<!-- ranking -->", "<!-- end of ranking -->"
FOLDS = {"emodb": (0, 3, 6), "ravdess": (0, 2, 4), "demo": (0,)}
NAMES = {"emodb": "EmoDB", "ravdess": "RAVDESS", "demo": "demo corpus"}
METHODS = {
    "darts": "DARTS, inherited weights",
    "likelihood": "DARTS, likelihood under the alphas",
    "spos": "SPOS, inherited weights",
    "spos_fair": "SPOS with fair paths",
}
PLAIN = {
    "parameters": "parameters",
    "macs": "MACs",
    "convolutions": "number of convolutions",
    "synflow": "synflow (Tanaka et al. 2020)",
    "grad_norm": "gradient norm (Abdelfattah et al. 2021)",
}
_BATCH = 64  # utterances that the gradient norm is taken on
_TINY = ["search.nodes=1", "search.cells=2", "search.channels=4", "search.sequence_width=8", "training.channels=4"]


@dataclass(frozen=True)
class Condition:
    """What is ranked on what."""

    corpus: str
    features: str
    space: str
    epochs: int
    tiny: bool = False

    @classmethod
    def of(cls, about: dict[str, Any]) -> "Condition":
        """Of what is recorded with its figures."""
        return cls(*(about[name] for name in ("corpus", "features", "space", "epochs", "tiny")))

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.corpus}-{self.features}-{self.space}-{self.epochs}{'-tiny' if self.tiny else ''}"

    @property
    def title(self) -> str:
        """As the page has it."""
        features = "log-mel" if self.features == "log_mel" else "tiny.en by speaker"
        return f"{NAMES[self.corpus]}, {features}, space {self.space}" + (", tiny networks" if self.tiny else "")

    def overrides(self, encoder: str | None) -> list[str]:
        """The settings, as on the command line."""
        # The space for frames has sizes of its own, and reads all layers of an encoder.
        space = "search=frames" if self.space == "frames" else f"search.space={self.space}"
        own = [space, f"corpus={self.corpus}", f"training.epochs={self.epochs}"]
        own += _TINY if self.tiny else []
        if self.features == "log_mel":
            return own
        model = Path(str(encoder)).resolve() / "whisper-tiny.en"
        by = "features.normalisation=speaker"
        layers = ["features.layers=learned"] if self.space == "frames" else []
        return [*own, "features=whisper", f"features.model={model}", "features.frames_per_second=25", by, *layers]


class Pieces:
    """Figures in files of their own, each computed once."""

    def __init__(self, folder: Path, deadline: float | None):
        self.folder, self.deadline = folder, deadline

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        """The content of a piece, computed where it is not there. Raises TimeoutError where time is over."""
        path = self.folder / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimeoutError
        start = time.perf_counter()
        content = compute()
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(content))
        print(f"{self.folder.name} {name}: {time.perf_counter() - start:.0f} s", flush=True)
        return content


Summarise = Callable[[Path], dict[str, Any] | None]
Measure = Callable[[Condition, argparse.Namespace, Pieces], None]


def run_conditions(options: argparse.Namespace, measure: Measure, space_of: Callable[[str], str]) -> int:
    """What is missing, condition by condition, in the space for these features; 1 where time was over."""
    deadline = None if options.hours is None else time.monotonic() + 3600 * options.hours
    try:
        for features in options.features:
            for corpus in options.corpora:
                condition = Condition(corpus, features, space_of(features), options.epochs, options.tiny)
                measure(condition, options, Pieces(Path(options.results) / condition.name, deadline))
    except TimeoutError:
        print("time is over; the same command goes on")
        return 1
    print("all is measured")
    return 0


def measure(condition: Condition, options: argparse.Namespace, pieces: Pieces) -> None:
    """All pieces of a condition: trainings, rankings of supernets, and what needs no training."""
    torch.set_num_threads(1)
    settings = compose(*condition.overrides(options.encoder))
    data = prepare(settings, Console(quiet=True))
    unit = FoldSettings(settings.features, settings.search, settings.training, settings.batches)
    folds = options.folds or FOLDS[condition.corpus]
    about = {**asdict(condition), "folds": list(folds), "seeds": options.seeds, "commit": git_revision()}
    space = CandidateSpace.of(unit.search)
    genotypes = list(draw_distinct(space, options.architectures))
    pieces.get("about", lambda: about)
    for fold in folds:
        of_fold = FoldData.of(data.store, data.all_folds[fold], unit)
        for number, genotype in enumerate(genotypes):
            pieces.get(f"plain/{number}.{fold}", lambda g=genotype, d=of_fold: plain_figures(d, g))
        for seed in range(options.seeds):
            for method in ("darts", "spos", "spos_fair"):
                name = f"supernet/{method}.{fold}.{seed}"
                pieces.get(name, lambda m=method, d=of_fold, s=seed: rank_by_supernet(d, m, genotypes, s))
    for number, genotype in enumerate(genotypes):
        for seed in range(options.seeds):
            for fold in folds:
                of_fold = FoldData.of(data.store, data.all_folds[fold], unit)
                name = f"trained/{number}.{fold}.{seed}"
                pieces.get(name, lambda g=genotype, d=of_fold, s=seed: trained_figure(d, g, s))


def draw_distinct(space: CandidateSpace, count: int) -> Iterator[Genotype]:
    """So many distinct architectures, drawn uniformly: the first ones are the same whatever the count."""
    rng, known = np.random.default_rng(derive_seed(0, "ranking")), set[Genotype]()
    for _ in range(1000 * count):
        genotype = space.draw(rng)
        if genotype not in known and len(known) < count:
            known.add(genotype)
            yield genotype


def architecture_of(data: FoldData, genotype: Genotype) -> Architecture:
    """The genotype's network at the sizes of the training."""
    return derive(data, adopt_genotype(data, TransferredGenotype(genotype, 0)))


def trained_figure(data: FoldData, genotype: Genotype, seed: int) -> dict[str, Any]:
    """A training alone: the mean dev UAR of the last quarter's epochs."""
    trained = train(data, architecture_of(data, genotype), derive_seed(0, "ranking", data.fold.index, seed))
    late = late_epochs(len(trained.epochs))
    uar = mean(float(record.dev_uar or 0.0) for record in trained.epochs if record.epoch in late)
    return {"uar": uar, "seconds": trained.seconds}


def rank_by_supernet(data: FoldData, method: str, genotypes: Sequence[Genotype], seed: int) -> dict[str, Any]:
    """Scores of all architectures by a supernet that is trained as the product trains it: more is better."""
    fair = method == "spos_fair"
    search = replace(data.settings.search, method=method.partition("_")[0], path_sampling="fair" if fair else "uniform")
    data = replace(data, settings=replace(data.settings, search=search))
    task = search_task(data, derive_seed(0, "ranking", data.fold.index, seed))
    supernet = trained_supernet(task)
    inherited = InheritedWeights.of(supernet, task)
    figures = [inherited.figures(genotype) for genotype in genotypes]
    scores = {"inherited": [[f.uar, -f.loss] for f in figures]}
    if method == "darts":
        scores["likelihood"] = [[likelihood(supernet, genotype)] for genotype in genotypes]
    return scores


def trained_supernet(task: SearchTask) -> Supernet:
    """The supernet of a task at the end of its search."""
    if task.settings.method == "spos":
        by_paths = SinglePathSearch(task)
        while len(by_paths.records) < by_paths.task.settings.epochs:
            by_paths.records.append(by_paths.train_epoch())
        return by_paths.supernet
    by_alphas = SupernetSearch(task)
    for epoch in range(task.settings.epochs):
        by_alphas.run_epoch(epoch)
    return by_alphas.supernet


def likelihood(supernet: Supernet, genotype: Genotype) -> float:
    """The log-probability of an architecture where each of its operations is drawn by the edge's mixing weights."""
    chosen, weights = supernet.discrete_weights(genotype), supernet.mixing_weights()
    return sum(float((chosen[k] * weights[k].detach().clamp(min=1e-12).log()).sum()) for k in supernet.searched_kinds)


def plain_figures(data: FoldData, genotype: Genotype) -> dict[str, float]:
    """What needs no training: sizes, convolutions, and two zero-cost proxies."""
    torch.manual_seed(derive_seed(0, "ranking", "proxies"))
    network = architecture_of(data, genotype).build()
    s = data.settings
    frames = crop_frames(s.training.crop_seconds, s.features)
    rng = np.random.default_rng(derive_seed(0, "ranking", "proxies"))
    batch = next(training_batches(data.train, _BATCH, frames, rng, "cpu", s.batches))
    loss = BalancedLoss(data.train, len(data.fold.classes), s.batches, "cpu")
    kinds = network.shape.kinds
    operations = [e.operation for k in kinds for node in genotype.cells[k] for e in node]
    return {
        "parameters": float(count_parameters(network)),
        "macs": float(count_macs(network, frames)),
        "convolutions": float(sum("conv" in name for name in operations)),
        "grad_norm": gradient_norm(network, batch, loss),
        "synflow": synflow(network, frames),
    }


def gradient_norm(network: nn.Module, batch: Batch, loss: BalancedLoss) -> float:
    """The Euclidean norm of the loss's gradient at new weights, on a batch (Abdelfattah et al. 2021)."""
    network.train()
    network.zero_grad()
    loss(network(batch.inputs, batch.lengths), batch).backward()
    return math.sqrt(sum(float(p.grad.square().sum()) for p in network.parameters() if p.grad is not None))


def synflow(network: nn.Module, frames: int) -> float:
    """The logarithm of sum |w dR/dw|, R the summed output for an input of ones where all weights are positive.

    Synaptic flow (Tanaka et al. 2020) as a score of architectures (Abdelfattah et al. 2021). In float64; batch norms
    have the statistics of new networks.
    """
    network = network.double().eval()
    shape: Any = network.shape
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    network.zero_grad()
    network(torch.ones(1, shape.input_channels, shape.bins, frames).double(), torch.tensor([frames])).sum().backward()
    flow = sum(float((p.detach() * p.grad).abs().sum()) for p in network.parameters() if p.grad is not None)
    return math.log(flow + 1e-300)


def ranks(scores: Sequence[Sequence[float]]) -> list[int]:
    """Numbers in the order of scores, which are compared one after the other: equal scores have equal numbers."""
    order = sorted({tuple(score) for score in scores})
    return [order.index(tuple(score)) for score in scores]


def kendall(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> dict[str, float | None]:
    """Kendall's tau-b, the mean over pairs of rankings of the same architectures, with its bootstrap interval.

    Architectures are drawn with replacement, for all pairs at once; percentiles of the draws that have a tau.
    """
    arrays = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    taus = np.array([mean_tau(arrays, rows) for rows in draws(len(arrays[0][0]))])
    return dict(zip(("tau", "low", "high"), interval(taus) or (None, None, None), strict=True))


def summarise(folder: Path) -> dict[str, Any] | None:
    """Taus of a condition, of the architectures that are trained on all folds with all seeds; None: too few."""
    about = json.loads((folder / "about.json").read_text())
    folds, seeds = about["folds"], range(about["seeds"])

    def load(name: str) -> Any:
        path = folder / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    trained: list[list[float]] = []  # architecture -> the figure of each seed, mean over folds
    while True:
        pieces = [[load(f"trained/{len(trained)}.{fold}.{seed}") for fold in folds] for seed in seeds]
        if any(piece is None for of_seed in pieces for piece in of_seed):
            break
        trained.append([mean(piece["uar"] for piece in of_seed) for of_seed in pieces])
    count = len(trained)
    if count < 3:
        return None
    alone = [mean(of_seeds) for of_seeds in trained]
    taus = {}
    for method in METHODS:
        key = "likelihood" if method == "likelihood" else "inherited"
        name = "darts" if method == "likelihood" else method
        supernets = [[load(f"supernet/{name}.{fold}.{seed}") for fold in folds] for seed in seeds]
        if any(piece is None for of_seed in supernets for piece in of_seed):
            continue
        # A supernet ranks on each fold; the ranks of the folds are averaged, as the figures are.
        by_seed = [np.mean([ranks(piece[key][:count]) for piece in of_seed], axis=0) for of_seed in supernets]
        taus[method] = kendall([(scores, alone) for scores in by_seed])
    for figure in PLAIN:
        rows = [mean(load(f"plain/{number}.{fold}")[figure] for fold in folds) for number in range(count)]
        taus[figure] = kendall([(rows, alone)])
    ceiling = None
    if len(seeds) > 1:
        ceiling = kendall([([t[0] for t in trained], [t[1] for t in trained])])
    spread = {"best": round(max(alone), 3), "worst": round(min(alone), 3)}
    return {**about, "architectures": count, **spread, "taus": taus, "ceiling": ceiling}


def verdict(condition: dict[str, Any]) -> str:
    """Which methods rank: the interval's lower end above 0, and the tau above that of the number of parameters."""
    taus = condition["taus"]
    least = taus["parameters"]["tau"] or 0.0
    ranking = [
        METHODS[m]
        for m in METHODS
        if m in taus and taus[m]["tau"] is not None and taus[m]["low"] > 0 and taus[m]["tau"] > least
    ]
    return f"Ranks by the rule above: {', '.join(ranking)}." if ranking else "No method ranks by the rule above."


def page_lines(conditions: Sequence[dict[str, Any]]) -> list[str]:
    """The page's tables of what docs/ranking.json holds."""
    lines: list[str] = []
    for about in conditions:
        title, folds = Condition.of(about).title, ", ".join(map(str, about["folds"]))
        lines += [
            f"**{title}**: {about['architectures']} architectures, {about['seeds']} seeds, folds {folds}, "
            f"{about['epochs']} epochs; their dev UAR from {_three(about['worst'])} to {_three(about['best'])}. "
            f"Commit {str(about['commit'])[:12]}.",
            "",
            "| ranked by | Kendall's tau | 95 % interval |",
            "|---|---:|---|",
        ]
        rows = [(title, about["taus"][key]) for key, title in (METHODS | PLAIN).items() if key in about["taus"]]
        rows += [("the other seed's trainings (ceiling)", about["ceiling"])] if about["ceiling"] else []
        for method, figures in rows:
            interval = "-" if figures["tau"] is None else f"{_signed(figures['low'])} to {_signed(figures['high'])}"
            lines.append(f"| {method} | {_signed(figures['tau'])} | {interval} |")
        lines += ["", verdict(about), ""]
    return lines


def _three(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}".replace("0.", ".", 1)


def write_table(
    options: argparse.Namespace, summarise: Summarise, figures: Path, page: Path, with_tables: Callable[..., str]
) -> dict[str, dict[str, Any]]:
    """Write figures and page of what is measured; the figures by name of the condition."""
    folders = sorted(path.parent for path in Path(options.results).glob("*/about.json"))
    measured = {folder.name: summary for folder in folders if (summary := summarise(folder)) is not None}
    figures.write_text(json.dumps(list(measured.values()), indent=1) + "\n")
    page.write_text(with_tables(page.read_text(), list(measured.values())))
    return measured


def with_tables(text: str, conditions: Sequence[dict[str, Any]]) -> str:
    """The page with the tables between its markers."""
    return replace_between(text, BEGIN, END, page_lines(conditions))


def parser_of(description: str | None, results: str, features: str) -> argparse.ArgumentParser:
    """The options of a benchmark of conditions: its folder of results and its features by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--results", default=results)
    parser.add_argument("--corpora", nargs="+", choices=list(FOLDS), default=["emodb", "ravdess"])
    parser.add_argument("--features", nargs="+", choices=("log_mel", "encoder"), default=[features])
    parser.add_argument("--encoder", help="folder of whisper-tiny.en; needed for --features encoder")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--folds", type=int, nargs="+")
    parser.add_argument("--tiny", action="store_true", help="networks of a size that proves nothing but that it runs")
    parser.add_argument("--hours", type=float, help="begin nothing after so many")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options, checked."""
    options = parser.parse_args()
    if options.command == "run" and "encoder" in options.features and options.encoder is None:
        parser.error("--features encoder needs --encoder")
    return options


def main() -> int:
    """Both commands."""
    parser = parser_of(__doc__, "ranking", "log_mel")
    parser.add_argument("--architectures", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--space", default="compact")
    options = parse(parser)
    if options.command == "run":
        return run_conditions(options, measure, lambda features: options.space)
    measured = write_table(options, summarise, FIGURES, PAGE, with_tables)
    print(json.dumps({name: condition["taus"] for name, condition in measured.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
