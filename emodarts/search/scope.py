"""Which part of the network is searched: CNN and sequence cells jointly, one of them alone, or one after the other.

The method's central claim is that joint search is better (emoDARTS, Rajapakshe et al. 2024); `search.scope` takes it
apart at equal numbers of epochs and steps. The cells of a part that is never searched are fixed, to one operation;
those of a part that waits for its turn are mixed evenly, so that none of their operations begins untrained.
"""

from torch import Tensor

from emodarts.networks.genotype import CellGenotype, Edge
from emodarts.networks.supernet import Supernet, discrete_weights
from emodarts.search.settings import SearchSettings

_CNN, _SEQUENCE = ("N", "R"), ("S",)


def fixed_kinds(settings: SearchSettings, epoch: int = 0) -> tuple[str, ...]:
    """The kinds of cell (N, R, S) that are not searched in an epoch (from 0)."""
    cnn_first = epoch < settings.sequence_start_epoch
    return {
        "joint": (),
        "cnn_only": _SEQUENCE,
        "seqnn_only": _CNN,
        "one_after_the_other": _SEQUENCE if cnn_first else _CNN,
    }[settings.scope]


def fixed_cells(settings: SearchSettings) -> dict[str, CellGenotype]:
    """The cell of each kind (N, R, S) where it is not searched: the space's fixed operation everywhere.

    Each node reads the two states before it. Where the search's operations lack the space's, their first one with
    weights takes its place.
    """
    space = settings.chosen_space
    cnn = _fixed_operation(settings.all_cnn_operations, space.fixed_cnn_operation)
    sequence = _fixed_operation(settings.seqnn_operations, space.fixed_sequence_operation)
    return {
        "N": fixed_cell(settings.nodes, cnn),
        "R": fixed_cell(settings.nodes, cnn),
        "S": fixed_cell(settings.sequence_nodes, sequence),
    }


def fixed_cell(nodes: int, operation: str) -> CellGenotype:
    """A cell whose nodes each read the two states before them through one operation."""
    return tuple((Edge(operation, node), Edge(operation, node + 1)) for node in range(nodes))


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
        return {kind: weights[kind] for kind in kinds}
    cells = fixed_cells(settings)
    return {
        kind: discrete_weights(cells[kind], supernet.operations_of(kind)).to(supernet.alphas[kind].device)
        for kind in kinds
    }


def _fixed_operation(operations: tuple[str, ...], preferred: str) -> str:
    with_weights = [name for name in operations if name not in ("none", "skip_connect")]
    return preferred if preferred in operations else (*with_weights, "skip_connect")[0]
