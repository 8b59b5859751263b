"""Section "Networks": the winners as pictures, the first system's best one open."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import PurePath
from typing import Any

from emodarts.errors import EmodartsError
from emodarts.features.settings import BUNDLES
from emodarts.networks.genotype import KINDS, Genotype
from emodarts.networks.names import DEPTH, DESIGNS
from emodarts.networks.sizes import residual_strides, scale_widths, spread_layers, time_stride
from emodarts.report.comparisons import Comparison
from emodarts.report.elements import Collapsible, Element, Paragraph, Section
from emodarts.report.figures import Figure
from emodarts.report.network_drawing import CellDrawing, NetworkDrawing, Stage
from emodarts.report.report_data import ReportData
from emodarts.report.sections.systems import SystemFigures

_FEATURES = {"log_mel": "log-mel", "mfcc": "MFCC", "egemaps": "eGeMAPS"}
_POOLINGS = {"attentive_statistics": "attentive\nstatistics", "both": "mean, attentive\nstatistics"}
_DESIGN_POOLINGS = {"attention": "attentive\nstatistics", "statistics": "mean and\ndeviation", "mean": "mean"}
_ABOUT_CELLS = {"N": "normal cell", "R": "reduction cell, to half the frames", "S": "sequence cell, over time"}
_READ = ("sweep", "system", "study", "trial", "fold")


def networks_section(
    data: ReportData, compared: Sequence[tuple[Comparison, list[SystemFigures]]] = ()
) -> Section | None:
    """The winners' networks as pictures, equal ones once; None where nothing but machines without layers was trained.

    That of the first system of `compared` which is the best on dev comes first.
    """
    genotypes = {tuple(row[name] for name in _READ): row for row in data.winner_rows("genotypes", _COLUMNS)}
    folds_of: dict[tuple[str, str, NetworkDrawing], list[dict[str, Any]]] = defaultdict(list)
    problems: list[Element] = []
    for row in _rows_of_networks(data):
        genotype = genotypes.get(tuple(row[name] for name in _READ))
        try:
            drawing = network_drawing(row, genotype)
        except (EmodartsError, KeyError, TypeError, ValueError) as error:
            words = str(error) if isinstance(error, EmodartsError) else f"no network of this version ({error!r})"
            problems.append(Paragraph(f"{row['sweep']}, {row['system']}, fold {row['fold']}: {words}", "warning"))
            continue
        if drawing is not None:
            folds_of[row["sweep"], row["system"], drawing].append(row)
    first = _best_fold(compared)
    shown = sorted(folds_of.items(), key=lambda item: not any(_place(row) == first for row in item[1]))
    elements: list[Element] = []
    for number, ((sweep, system, drawing), rows) in enumerate(shown):
        folds = sorted(row["fold"] for row in rows)
        title = f"{sweep}: {system}, fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"
        is_first = any(_place(row) == first for row in rows)
        words = f"the winning network, the best of its folds on dev: {title}" if is_first else title
        figure = network_figure(f"network-{number}", f"{words}; {_costs(rows[0])}", drawing)
        elements.append(figure if is_first else Collapsible(title, (figure,)))
    if not elements and not problems:
        return None
    text = (
        "Each box gives what stands under it: channels (ch), with bins where there are some, and frames a second. A "
        "node is the sum of the operations that lead to it, a cell gives all of its nodes. Cells that read "
        "the frames do so through a stem each, of a layer (counted from 0 among those of the features) or of all of "
        "them, weighed."
    )
    return Section("Networks", (Paragraph(text), *elements, *problems))


_COLUMNS = [*_READ, "genotype", "genotype_from", "network"]


def _rows_of_networks(data: ReportData) -> list[dict[str, Any]]:
    """A row of `folds` for each winner and fold, the first seed; not of ensembles, nor of genotypes drawn already."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for system in data.systems:
        if not system.is_ensemble and system.source not in data.results.sweeps:
            for row in system.rows:
                if row["seed"] == 0:
                    rows.setdefault((system.sweep, *(row[name] for name in _READ[1:])), {**row, "sweep": system.sweep})
    return [rows[key] for key in sorted(rows)]


def _place(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return row["sweep"], row["system"], row["fold"]


def _best_fold(compared: Sequence[tuple[Comparison, list[SystemFigures]]]) -> tuple[str, str, int] | None:
    """Sweep, system and fold of the first system's winner that is the best on dev."""
    for results in [figures[0].system.results for comparison, figures in compared if not comparison.shared][:1]:
        fold = max(results.winners, key=lambda fold: (results.winners[fold].dev_uar or 0.0, -fold))
        return results.sweep, results.system, fold
    return None


def _costs(row: Mapping[str, Any]) -> str:
    seconds = json.loads(row["settings"]).get("training", {}).get("crop_seconds")
    count = row["macs"] or 0
    macs = f"{count / 1e6:,.1f} million MACs" if count >= 1e6 else f"{count:,} MACs" if count else ""
    piece = f" for {seconds:g} s" if seconds and macs else ""
    return ", ".join(filter(None, [f"{row['parameters']:,} parameters", macs + piece]))


def network_figure(name: str, caption: str, drawing: NetworkDrawing) -> Figure:
    """The figure of a drawing."""
    return Figure(name, caption, drawing.describe(), drawing.draw, drawing.width, drawing.height, 0.8 * drawing.width)


def network_drawing(row: Mapping[str, Any], genotype_row: Mapping[str, Any] | None) -> NetworkDrawing | None:
    """The network of a row of `folds` with its row of `genotypes`, or of a design; None where it has no layers (SVM).

    Raises EmodartsError for a damaged genotype, KeyError, TypeError or ValueError for sizes of another version.
    """
    settings = json.loads(row["settings"])
    if genotype_row is not None:
        return _searched(
            Genotype.from_json(genotype_row["genotype"]), json.loads(genotype_row["network"]), settings["features"]
        )
    design = row["system"] in DESIGNS
    return _designed(row["system"], settings, len(row["classes"])) if design else None


def _is_encoder(features: Mapping[str, Any]) -> bool:
    return features["kind"] in ("pretrained", "encoder")


def _frame_rate(features: Mapping[str, Any]) -> float:
    if _is_encoder(features):
        return float(features.get("frames_per_second", 50.0))
    return 0.0 if features["kind"] == "egemaps" else 1000 / features.get("hop_ms", 20.0)


def _input(features: Mapping[str, Any], channels: int | None, bins: int | None) -> Stage:
    model = features.get("model") or features.get("checkpoint") or features.get("bundle")
    label = PurePath(str(model)).name if _is_encoder(features) and model else _FEATURES.get(features["kind"], "input")
    values = "" if bins is None else f"{bins} {'bins' if features['kind'] in ('log_mel', 'mfcc') else 'values'}"
    if values and channels and channels > 1:
        values = f"{channels} layers × {bins}" if _is_encoder(features) else f"{channels} × {values}"
    return Stage(label, "\n".join(filter(None, [values, _per_second(_frame_rate(features))])))


def _per_second(rate: float) -> str:
    return f"{rate:.4g} /s" if rate else ""


def _size(channels: int, rate: float, bins: int = 1) -> str:
    return "\n".join(filter(None, [f"{channels} ch" + (f" × {bins}" if bins > 1 else ""), _per_second(rate)]))


def _searched(genotype: Genotype, shape: Mapping[str, Any], features: Mapping[str, Any]) -> NetworkDrawing:
    """The network of a genotype at the sizes of `NetworkShape.to_json`."""
    reads_frames, layers = shape.get("frame_layers") is not None, shape.get("frame_layers") or 0
    frequency, time = shape["stem_strides"]
    bins = 1 if shape["over_time"] or reads_frames else -(-shape["bins"] // frequency)
    rate = _frame_rate(features) / time
    stages = [_input(features, layers or shape["input_channels"], shape["bins"])]
    if shape["layer_weighting"] and not reads_frames:
        stages.append(Stage("weighed\nlayers" if shape.get("layer") is None else f"layer\n{shape['layer']}"))
    stages.append(Stage("stem", _size(shape["stem_channels"], rate, bins)))
    chosen = spread_layers(genotype.layers, shape["cells"], shape["sequence_cells"]) if layers > 1 else ()
    notes = [f"\n{'weighed' if layer is None else f'layer {layer}'}" for layer in chosen]
    notes = notes or [""] * (shape["cells"] + shape["sequence_cells"])
    channels, width = shape["channels"], shape["sequence_width"]
    for (kind, note), cells in groupby(zip(shape["layout"], notes, strict=False)):
        count = len(list(cells))
        if kind == "R":
            channels, bins, rate = channels * 2**count, -(-bins // 2**count), rate / 2**count
        label = kind + (f" ×{count}" if count > 1 else "") + note
        stages.append(Stage(label, _size(channels * len(genotype.normal), rate, bins), kind, reads_frames))
    joined = {"flatten": "all bins,\n", "mean": "mean of bins,\n"}[shape["frequency_pooling"]] if bins > 1 else ""
    stages.append(Stage(f"{joined}linear", _size(width, rate)))
    linear = len(stages) - 1
    for note, same in groupby(notes[shape["cells"] :]):
        label = "S" + (f" ×{count}" if (count := len(list(same))) > 1 else "") + note
        stages.append(Stage(label, _size(width * len(genotype.sequence), rate), "S", reads_frames))
    shortcut = (linear, len(stages)) if shape["sequence_shortcut"] and shape["sequence_cells"] else None
    stages += _ending(_POOLINGS.get(genotype.pooling, genotype.pooling), shape["classes"])
    drawn = [kind for kind in KINDS if kind in shape["layout"] or (kind == "S" and shape["sequence_cells"])]
    inputs = ("frames", "cell k−1") if reads_frames else ("cell k−2", "cell k−1")
    cells_drawn = tuple(
        CellDrawing(kind, _ABOUT_CELLS[kind], inputs, tuple(tuple((e.operation, e.source) for e in n) for n in cell))
        for kind, cell in genotype.cells.items()
        if kind in drawn
    )
    return NetworkDrawing(tuple(stages), cells_drawn, shortcut)


def _ending(pooling: str, classes: int) -> list[Stage]:
    return [Stage(pooling, "pooling\nover time"), Stage(f"{classes}\nclasses")]


def _designed(system: str, settings: Mapping[str, Any], classes: int) -> NetworkDrawing:
    """A hand-designed network at the sizes of its settings."""
    design, features = DESIGNS[system], settings["features"]
    search, training, rate = settings["search"], settings["training"], _frame_rate(features)
    channels, width = scale_widths(
        training.get("channels") or search["channels"],
        training.get("sequence_width") or search["sequence_width"],
        training.get("width", 1.0),
    )
    kind = features["kind"]
    bins = {"log_mel": features.get("n_mels"), "mfcc": features.get("n_mfcc")}.get(kind)
    if kind == "pretrained" and features.get("bundle") in BUNDLES:
        bins = BUNDLES[features["bundle"]].width
    learns = _is_encoder(features) and "learned" in (features.get("layers"), features.get("layer_weighting"))
    stages = [_input(features, 3 if features.get("deltas") and kind == "mfcc" else None, bins)]
    stages += [Stage("weighed\nlayers" if training.get("layer") is None else "one\nlayer")] if learns else []
    if design.convolutions:
        sequence_rate = training.get("sequence_rate")
        stride = time_stride(rate, sequence_rate) if sequence_rate else 1
        stem, blocks = residual_strides(training.get("depth"), sequence_rate is None, stride)
        bins = 1 if bins is None or kind not in ("log_mel", "mfcc") else bins
        for label, multiple, strides in [("stem", 1.0, stem), *(("block", *block) for block in blocks)]:
            bins, rate = -(-bins // strides[0]) if bins > 1 else 1, rate / strides[1]
            stages.append(Stage(label, _size(round(multiple * channels), rate, bins)))
        stages += [Stage("mean of\nbins", _size(round(blocks[-1][0] * channels), rate))] if bins > 1 else []
    if design.lstm:
        layers = 1 if design.convolutions else max(1, (training.get("depth") or DEPTH) - 2)
        stages.append(Stage("BiLSTM" + (f" ×{layers}" if layers > 1 else ""), _size(width, rate)))
    return NetworkDrawing((*stages, *_ending(_DESIGN_POOLINGS[design.pooling], classes)))
