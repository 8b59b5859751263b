"""Search spaces: which operations a search chooses among, in the order of the alphas' columns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OperationSpace:
    """The operations of CNN and of sequence cells, names of `CNN_OPERATIONS` and `SEQUENCE_OPERATIONS`.

    The fixed ones stand on every edge of the part that a search leaves as it is (`search.scope`), with `residual_cells`
    beside skip connections. `reads_frames`: each cell reads the features' frames, over time alone, by its own weighting
    of an encoder's layers, and the pooling over time is searched, too.
    """

    cnn_operations: tuple[str, ...]
    sequence_operations: tuple[str, ...]
    fixed_cnn_operation: str
    fixed_sequence_operation: str
    reads_frames: bool = False
    residual_cells: bool = False


# Of the published sequence operations those of at most two layers, two directions with attention of one.
SMALL_SEQUENCE_OPERATIONS = (
    "none",
    "skip_connect",
    "lstm_1",
    "lstm_2",
    "rnn_1",
    "rnn_2",
    "lstm_attention_1",
    "rnn_attention_1",
)

# The published space: the CNN operations of DARTS (Liu et al. 2019, sec. 3.1.1), and one to four layers of LSTM or RNN,
# or one to two bidirectional ones with self-attention (emoDARTS, Rajapakshe et al. 2024).
_EMODARTS = OperationSpace(
    cnn_operations=(
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    ),
    sequence_operations=(
        "none",
        "skip_connect",
        *(f"lstm_{layers}" for layers in (1, 2, 3, 4)),
        *(f"rnn_{layers}" for layers in (1, 2, 3, 4)),
        *(f"lstm_attention_{layers}" for layers in (1, 2)),
        *(f"rnn_attention_{layers}" for layers in (1, 2)),
    ),
    fixed_cnn_operation="sep_conv_3x3",
    fixed_sequence_operation="lstm_attention_1",
)

# One of each kind, and no deep stacks. CNN: of DARTS's eight one pooling and one dilated convolution (which reaches as
# far as a 5 x 5); an ordinary convolution; one over time alone (QuartzNet, Kriman et al. 2020); squeeze-excite (Hu et
# al. 2018). Sequence: LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al. 2014), both in two directions (Schuster &
# Paliwal 1997), self-attention of four heads (Vaswani et al. 2017).
_MODERN = OperationSpace(
    cnn_operations=("none", "max_pool_3x3", "skip_connect", "conv_3x3", "dil_conv_3x3", "time_conv_7", "se_conv_3x3"),
    sequence_operations=("none", "skip_connect", "lstm_1", "gru_1", "gru_2", "bilstm_1", "bigru_1", "self_attention_4"),
    fixed_cnn_operation="conv_3x3",
    fixed_sequence_operation="bilstm_1",
)

# The published kinds of operations, few and small. CNN: ordinary convolutions as in NAS-Bench-201 (Dong & Yang 2020);
# networks of separable ones are worse on small corpora (docs/search.md, "Which operations").
_COMPACT = OperationSpace(
    cnn_operations=("none", "max_pool_3x3", "skip_connect", "conv_3x3"),
    sequence_operations=SMALL_SEQUENCE_OPERATIONS,
    fixed_cnn_operation="conv_3x3",
    fixed_sequence_operation="lstm_attention_1",
)

# For the frames of an encoder, where two residual convolutions and a bidirectional LSTM did best (docs/search.md): the
# plain architecture. Over time alone, at 25 frames a second: kernels from 120 to 600 ms, ordinary and separable.
_FRAMES = OperationSpace(
    cnn_operations=(
        *("none", "max_pool_3x3", "skip_connect", "conv1d_3", "conv1d_5", "conv1d_3_d2", "conv1d_3_d4"),
        *("time_conv_7", "time_conv_15", "time_conv_7_d2"),
    ),
    sequence_operations=("none", "skip_connect", "lstm_1", "gru_1", "bilstm_1", "bigru_1", "self_attention_4"),
    fixed_cnn_operation="conv1d_3",
    fixed_sequence_operation="bilstm_1",
    reads_frames=True,
    residual_cells=True,
)

SPACES: dict[str, OperationSpace] = {"emodarts": _EMODARTS, "modern": _MODERN, "compact": _COMPACT, "frames": _FRAMES}
