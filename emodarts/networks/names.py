"""What networks are made of, by name: what settings, genotypes and reports know without importing torch (2 s)."""

from dataclasses import dataclass

# The names of `operations.CNN_OPERATIONS` and `sequence.SEQUENCE_OPERATIONS`, which say how each is built, in order.
CNN_OPERATION_NAMES = (
    *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5"),
    *("dil_conv_3x3", "dil_conv_5x5", "time_conv_7", "se_conv_3x3", "conv_3x3"),
    *("conv1d_3", "conv1d_5", "conv1d_3_d2", "conv1d_3_d4", "time_conv_15", "time_conv_7_d2"),
)
SEQUENCE_OPERATION_NAMES = (
    *("none", "skip_connect", "lstm_1", "lstm_2", "lstm_3", "lstm_4", "rnn_1", "rnn_2", "rnn_3", "rnn_4"),
    *("lstm_attention_1", "lstm_attention_2", "rnn_attention_1", "rnn_attention_2"),
    *("gru_1", "gru_2", "bilstm_1", "bigru_1", "self_attention_4"),
)
# Poolings over time, of `pooling.POOLINGS`: mean, attentive mean and deviation, all three of these.
POOLING_NAMES = ("mean", "attentive_statistics", "both")
# What two layers of a stem can do exactly, neither with a stride above 4: a larger one would pass frames by.
STEM_STRIDES = (1, 2, 3, 4, 6, 8)
STEM_STRIDES_TEXT = "1, 2, 3, 4, 6, 8"
DEPTH = 3  # residual blocks of a network designed by hand


@dataclass(frozen=True)
class Design:
    """The parts of a hand-designed network; `pooling`: attention | statistics (mean and deviation) | mean."""

    convolutions: bool
    lstm: bool
    pooling: str


DESIGNS = {
    "cnn": Design(True, False, "statistics"),
    "lstm": Design(False, True, "statistics"),
    "cnn_lstm": Design(True, True, "statistics"),
    "cnn_lstm_attention": Design(True, True, "attention"),
    "temporal_attention": Design(False, False, "attention"),
    "linear_probe": Design(False, False, "mean"),
}


def family_of(operation: str) -> str:
    """The SeqNN family of an operation: `lstm_attention_2` -> `lstm_attention`."""
    return operation.rsplit("_", 1)[0] if operation[-1].isdigit() else operation


def operations_of(family: str, operations: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `operations` that belong to a SeqNN family (`all` keeps every one); none and skip always stay."""
    return tuple(name for name in operations if family in ("all", family_of(name)) or not name[-1].isdigit())
