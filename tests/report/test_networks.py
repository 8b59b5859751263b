"""Pictures of networks: what stands in them, that no text lies on another one, and sizes as the networks have them."""

import itertools
import json
from collections import Counter
from dataclasses import asdict, replace

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

from emodarts.features.settings import FeatureSettings
from emodarts.networks.baselines import build_network
from emodarts.networks.genotype import Edge, Genotype
from emodarts.networks.names import CNN_OPERATION_NAMES, SEQUENCE_OPERATION_NAMES
from emodarts.networks.network import DiscreteNetwork, NetworkShape
from emodarts.report.elements import Collapsible, Paragraph
from emodarts.report.figures import Figure
from emodarts.report.network_drawing import STYLES, kind_of, label_of
from emodarts.report.sections.networks import network_drawing, network_figure

SHAPE = NetworkShape(4, 1, 64, 3, 2, 8, 1, 1, 32, 16, (4, 2), sequence_shortcut=True)
LOG_MEL, ENCODER = {"kind": "log_mel"}, {"kind": "encoder", "model": "models/wav2vec2-base", "frames_per_second": 50.0}


def cell(*nodes):
    """A cell of the edges `(operation, source)` of each node."""
    return tuple(tuple(Edge(*edge) for edge in node) for node in nodes)


CNN = cell(
    [("sep_conv_3x3", 0), ("max_pool_3x3", 1)],
    [("dil_conv_5x5", 0), ("skip_connect", 2)],
    [("none", 1), ("sep_conv_5x5", 3)],
    [("dil_conv_3x3", 2), ("dil_conv_3x3", 2)],  # twice from one state
)
SEQUENCE = cell(
    [("lstm_attention_2", 0), ("lstm_4", 1)],
    [("skip_connect", 0), ("rnn_attention_2", 2)],
    [("rnn_3", 1), ("gru_2", 3)],
    [("self_attention_4", 0), ("bilstm_1", 4)],
)
OVER_TIME = cell([("conv1d_3_d4", 0), ("time_conv_15", 1)], [("skip_connect", 0), ("time_conv_7_d2", 2)])
READS = cell([("self_attention_4", 0), ("bigru_1", 1)])
SMALL = Genotype(CNN[:2], CNN[:2], SEQUENCE[:1])
PAPER = Genotype(CNN, CNN, SEQUENCE)
FRAMES = Genotype(OVER_TIME, OVER_TIME, READS, "both", (2, None, 11, 0))
ROWS = {
    "small": (SMALL, SHAPE, LOG_MEL),
    "paper": (PAPER, replace(SHAPE, cells=8, nodes=4, sequence_cells=2, sequence_nodes=4), LOG_MEL),
    "frames": (FRAMES, replace(SHAPE, input_channels=13, bins=768, frame_layers=13, over_time=True), ENCODER),
}


def searched(name):
    genotype, shape, features = ROWS[name]
    row = {"settings": json.dumps({"features": features}), "system": "emodarts", "classes": ["a"] * 4}
    return network_drawing(row, {"genotype": genotype.to_json(), "network": shape.to_json()})


def designed(system, training, features=LOG_MEL):
    sizes = {"search": {"channels": 8, "sequence_width": 32}, "training": training}
    settings = json.dumps({"features": {**asdict(FeatureSettings()), **features}, **sizes})
    return network_drawing({"settings": settings, "system": system, "classes": ["a"] * 7}, None)


def texts_of(drawing):
    """The texts of a drawing with their boxes in pixels, as matplotlib measures them, and those of its canvas."""
    canvas = Canvas(figsize=(drawing.width, drawing.height))
    renderer = FigureCanvasAgg(canvas).get_renderer()
    drawing.draw(canvas)
    texts = [text for text in canvas.findobj(Text) if text.get_text()]
    assert all(text.get_rotation() or fits_its_box(text, renderer) for text in texts)
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts], canvas


def fits_its_box(text, renderer):
    """Whether a text is no wider than the boxes count with; titles have none."""
    inches = max(map(len, text.get_text().split("\n"))) * text.get_fontsize() * 0.61 / 72
    return text.get_fontsize() > 8 or text.get_window_extent(renderer).width <= (inches + 0.06) * renderer.dpi


@pytest.mark.parametrize("name", ROWS)
def test_no_text_lies_on_another_one_or_is_cut_off(name):
    texts, canvas = texts_of(searched(name))
    for (one, box), (other, second) in itertools.combinations(texts, 2):
        assert not box.overlaps(second), (one, other)
    for text, box in texts:
        assert min(box.x0, box.y0, canvas.bbox.x1 - box.x1, canvas.bbox.y1 - box.y1) >= 0, text


@pytest.mark.parametrize("name", ROWS)
def test_every_edge_is_drawn_once_and_has_its_label(name):
    genotype, _, _ = ROWS[name]
    drawing = searched(name)
    svg, labels = network_figure("network-0", "a caption", drawing).svg(), [text for text, _ in texts_of(drawing)[0]]
    for kind in (c.kind for c in drawing.cells):
        edges = [edge for node in genotype.cells[kind] for edge in node]
        assert svg.count(f'id="network-0-edge-{kind}-') == len(edges)
    every = [edge for c in drawing.cells for node in genotype.cells[c.kind] for edge in node]
    expected = Counter(label_of(edge.operation) for edge in every) + Counter(drawing.kinds)  # and the legend
    assert Counter(label for label in labels if label in expected) == expected


def test_features_layers_shortcut_and_pooling_stand_in_the_picture():
    drawing = searched("frames")
    texts = [text for text, _ in texts_of(drawing)[0]]
    for text in ("wav2vec2-base", "13 layers × 768\n50 /s", "N\nlayer 2", "N\nweighed", "N\nlayer 11", "S\nlayer 0"):
        assert text in texts
    assert "mean, attentive\nstatistics" in texts
    assert {"frames", "cell k−1", "cell k−2"} & {*texts} == {"frames", "cell k−1"}
    assert [c.kind for c in drawing.cells] == ["N", "S"]
    assert drawing.stages[drawing.shortcut[0]].label == "linear"
    assert drawing.stages[drawing.shortcut[1]].size.startswith("pooling")
    assert all(words in drawing.describe() for words in ("layer 2", "conv1d_3_d4(frames)"))


def outputs_of(network, features, rate):
    """Name of each module -> "channels, bins, frames a second" of what it gives for four seconds."""
    sizes = {}

    def note(name):
        def hook(module, inputs, output):
            x = output[0] if isinstance(output, tuple) else output
            channels, bins, frames = x.shape[1:] if x.dim() == 4 else (x.shape[2], 1, x.shape[1])
            sizes[name] = f"{channels} ch" + (f" × {bins}" if bins > 1 else "") + f"\n{frames / 4:.4g} /s"

        return hook

    for name, module in network.named_modules():
        module.register_forward_hook(note(name)) if name.rsplit(".", 1)[0].endswith(features) else None
    with torch.no_grad():
        x = torch.zeros(1, network.shape.input_channels, network.shape.bins, 4 * rate)
        network.eval()(x, torch.tensor([4 * rate]))
    return sizes


def test_the_sizes_in_the_picture_are_those_of_the_network():
    for genotype, shape, _ in (ROWS["small"], (PAPER, ROWS["paper"][1], LOG_MEL)):
        sizes = outputs_of(DiscreteNetwork(shape, genotype), ("stem", "cells", "to_sequence", "sequence_cells"), 50)
        name = "small" if genotype is SMALL else "paper"
        drawn = [stage.size for stage in searched(name).stages]
        assert sizes["stem"] == drawn[1]
        cell_sizes = [sizes[f"cells.{n}"] for n in range(shape.cells)]
        runs = itertools.groupby(range(shape.cells), shape.layout.__getitem__)
        after = [cell_sizes[list(cells)[-1]] for _, cells in runs] + [sizes["to_sequence"]]
        after.append(sizes[f"sequence_cells.{shape.sequence_cells - 1}"])
        assert drawn[2:-2] == after


@pytest.mark.parametrize("training", [{}, {"depth": 5, "width": 2.0}, {"sequence_rate": 25.0, "sequence_width": 64}])
def test_hand_designed_networks_are_the_row_of_stages_alone(training):
    rate = training.get("sequence_rate")
    channels, width = (16, 64) if "width" in training else (8, training.get("sequence_width", 32))
    strides = (8, 2) if rate else (4, 2)
    shape = replace(SHAPE, classes=7, channels=channels, sequence_width=width, depth=training.get("depth"))
    shape = replace(shape, stem_strides=strides, reductions=rate is None)
    sizes = outputs_of(build_network("cnn_lstm_attention", shape), ("convolutions", "blocks", "lstm"), 50)
    drawing = designed("cnn_lstm_attention", training)
    assert drawing.cells == ()
    labels = [stage.label for stage in drawing.stages]
    blocks = training.get("depth", 3)
    assert [*labels[:2], labels[-3], labels[-1]] == ["log-mel", "stem", "BiLSTM", "7\nclasses"]
    drawn = [stage.size for stage in drawing.stages]
    assert drawn[1] == sizes["convolutions.stem"]
    assert drawn[2 : 2 + blocks] == [sizes[f"convolutions.blocks.{n}"] for n in range(blocks)]
    assert drawn[-3] == sizes["lstm"]
    texts, _ = texts_of(drawing)
    assert not any(a.overlaps(b) for (_, a), (_, b) in itertools.combinations(texts, 2))


def test_other_designs_and_what_has_no_layers():
    assert [s.label for s in designed("linear_probe", {}, {**ENCODER, "layers": "learned"}).stages] == [
        "wav2vec2-base",
        "weighed\nlayers",
        "mean",
        "7\nclasses",
    ]
    assert designed("svm", {}) is None


def test_the_one_layer_that_is_read_stands_in_the_place_of_a_weighting():
    learned = {**ENCODER, "layers": "learned"}
    assert designed("cnn", {"layer": 0.5}, learned).stages[1].label == "one\nlayer"
    genotype, shape, features = ROWS["small"]
    for layer, label in ((None, "weighed\nlayers"), (2, "layer\n2")):
        sizes = replace(shape, layer_weighting=True, input_channels=4, layer=layer)
        row = {
            "settings": json.dumps({"features": {**features, **learned}}),
            "system": "emodarts",
            "classes": ["a"] * 4,
        }
        drawing = network_drawing(row, {"genotype": genotype.to_json(), "network": sizes.to_json()})
        assert drawing.stages[1].label == label


def test_every_operation_has_a_label_and_the_fills_of_kinds_differ_without_colour():
    names = {*CNN_OPERATION_NAMES, *SEQUENCE_OPERATION_NAMES}
    assert len({label_of(name) for name in names}) == len(names)
    assert {kind_of(name) for name in names} == {*STYLES}
    fills = [to_rgb(fill) for _, fill, _ in STYLES.values() if fill != "none"]
    light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in fills)
    assert all(b - a > 0.1 for a, b in itertools.pairwise(light))
    assert max(light) < 0.95  # and not as white as the kinds without a fill


def test_the_page_opens_the_first_systems_best_network_and_folds_the_others_away(page):
    elements = next(section for section in page.sections if section.title == "Networks").elements
    figures = [element for element in elements if isinstance(element, Figure)]
    assert len(figures) == 1
    assert all(words in figures[0].caption for words in ("the winning network", "parameters"))
    assert any(isinstance(element, Collapsible) for element in elements)
    assert not [e for e in elements if isinstance(e, Paragraph) and e.tone == "warning"]
