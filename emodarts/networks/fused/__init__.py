"""The same numbers as the plain cells of `networks.cell`, faster: edges that leave one state are computed together.

Nothing here is needed to understand the method: `Supernet(..., fused=False)` is made of the plain classes. Each file,
what it replaces there, and what that gains (ratios of CPU time on one thread, at the sizes of the benchmark):

    file                      in the place of                            gain
    cell                      MixedCell, node by node                    the order that makes the others possible
    mixed_cnn                 MixedOperation of a CNN edge               first-order step 4.4, second order 3.7
      stacked_convolutions      the convolutions of operations             (tests/benchmarks/search_step.py,
      mixture                   pointwise, batch norm, weighted sum        both with all of these files)
    mixed_sequence            MixedOperation of a sequence edge          sequence cell 3.3
      sequence_layers           RNN layers, self-attention                 (tests/benchmarks/search_step.py)
      recurrence                torch.nn's loop over layers and time     see its drawing of the wavefront
      recurrent_cells           torch.nn.LSTM, GRU, RNN at one step

Two files beside this folder serve trained networks as well:

    networks.normalisation    a batch norm of PyTorch's functions      the ReLU in the same pass
                              (`PlainBatchNorm` of the tests)            (tests/networks/test_normalisation.py)
    networks.depthwise        torch's gradients of depthwise           in the figures above
                              convolutions                               (`test_depthwise_convolution`)

`tests/networks/fused/test_mixed_cnn.py` holds the first half to the plain classes, `test_mixed_sequence.py` the second,
both the whole supernet: outputs to 1e-5 and gradients to 1e-4 (relative, float32), both to 1e-9 in float64.
"""
