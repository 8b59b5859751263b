"""Which part of the network is searched: CNN and sequence cells jointly, one of them alone, or one after the other.

The method's central claim is that joint search is better (emoDARTS, Rajapakshe et al. 2024); `search.scope` takes it
apart at equal numbers of epochs and steps. The cells of a part that is never searched are fixed, to one operation;
those of a part that waits for its turn are mixed evenly, so that none of their operations begins untrained.
Where cells read frames, what they read belongs to the CNN part, and the pooling over time to the sequence part.
"""

from torch import Tensor

from emodarts.networks.genotype import CellGenotype, Edge, Genotype
from emodarts.networks.network import NetworkShape
from emodarts.networks.supernet import Supernet
from emodarts.search.settings import SearchSettings

_CNN, _SEQUENCE = ("N", "R", "L"), ("S", "P")


def fixed_kinds(settings: SearchSettings, epoch: int = 0) -> tuple[str, ...]:
    """The kinds of cell (N, R, S), and P and L, that are not searched in an epoch (from 0)."""
    cnn_first = epoch < settings.sequence_start_epoch
    return {
        "joint": (),
        "cnn_only": _SEQUENCE,
        "seqnn_only": _CNN,
        "one_after_the_other": _SEQUENCE if cnn_first else _CNN,
    }[settings.scope]


def fixed_cells(settings: SearchSettings) -> dict[str, CellGenotype]:
    """The cell of each kind (N, R, S) where it is not searched: the space's fixed operation everywhere.

    Each node reads the two states before it; of a space of residual cells the first by a skip connection. Where the
    search's operations lack the space's, their first one with weights takes its place.
    """
    space = settings.chosen_space
    parts = (
        ("N", settings.nodes, settings.all_cnn_operations, space.fixed_cnn_operation),
        ("R", settings.nodes, settings.all_cnn_operations, space.fixed_cnn_operation),
        ("S", settings.sequence_nodes, settings.seqnn_operations, space.fixed_sequence_operation),
    )
    cells = {}
    for kind, nodes, operations, preferred in parts:
        operation = _fixed_operation(operations, preferred)
        is_residual = space.residual_cells and "skip_connect" in operations
        cells[kind] = fixed_cell(nodes, operation, "skip_connect" if is_residual else operation)
    return cells


def fixed_cell(nodes: int, operation: str, first: str | None = None) -> CellGenotype:
    """A cell whose nodes each read the two states before them through one operation, or the earlier one by `first`."""
    return tuple((Edge(first or operation, node), Edge(operation, node + 1)) for node in range(nodes))


def fixed_genotype(settings: SearchSettings, shape: NetworkShape) -> Genotype:
    """The space's plain architecture: its fixed cells, attentive pooling, and learned weightings of layers."""
    layers = (None if shape.frame_layers != 1 else 0,) * shape.readers
    return Genotype.from_cells(fixed_cells(settings), layers=layers)


def fixed_mixing_weights(supernet: Supernet, settings: SearchSettings, epoch: int) -> dict[str, Tensor]:
    """The mixing weights `(edges, operations)` of the kinds that are not searched in an epoch: of the fixed cells.

    With `one_after_the_other`, the sequence part is mixed evenly until `settings.sequence_start_epoch`, and from there
    on the CNN part is fixed to its derived architecture; its alphas have not moved since, so each epoch derives the
    same.
    """
    kinds = fixed_kinds(settings, epoch)
    if settings.searches_parts_in_turn:
        is_first = epoch < settings.sequence_start_epoch
        weights = supernet.even_weights() if is_first else supernet.discrete_weights(supernet.derive())
    else:
        weights = supernet.discrete_weights(fixed_genotype(settings, supernet.shape)) if kinds else {}
    return {kind: weights[kind] for kind in kinds if kind in weights}


def _fixed_operation(operations: tuple[str, ...], preferred: str) -> str:
    with_weights = [name for name in operations if name not in ("none", "skip_connect")]
    return preferred if preferred in operations else (*with_weights, "skip_connect")[0]
