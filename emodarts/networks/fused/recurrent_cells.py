"""The recurrent cells LSTM, GRU and tanh RNN as steps of a stack of layers.

A cell turns the product `p = [x_t, h_t-1] W + b`, blocks of the cell's width, into the hidden state h_t; the numbers
are those of torch.nn.LSTM, GRU and RNN. `forward` and `backward` are one step of its equations, which stand in each
class, and of their gradient, in place, for all rows of a stack.
"""

from typing import ClassVar

import torch
from torch import Tensor

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input  # g * y * (1 - y)
_tanh_backward = torch.ops.aten.tanh_backward.grad_input  # g * (1 - y * y)


class RecurrentCell:
    """What the cells share, on tensors that are the same at every step.

    `product (blocks, rows, batch, width)`: that of the step, or its gradient. `h (rows, batch, width)`: the hidden
    state after the step, or its gradient. `saved (steps + 1, saves, rows, batch, width)`: what the backward pass needs
    of each step; a state before the step, always the last of them, is written by the step before. `direct`: the hidden
    state before a step reaches the one after it not only by the product.
    """

    blocks: ClassVar[int]
    saves: ClassVar[int]
    direct: ClassVar[bool] = False

    def __init__(self, saved: Tensor, product: Tensor):
        self.h, self.scratch = torch.empty_like(saved[0, 0]), torch.empty_like(saved[0, 0])
        self.saved = list(zip(*(saved[:, number].unbind(0) for number in range(self.saves)), strict=True))
        self.product, self.carried = product.unbind(0), [self.h]

    def forward(self, step: int) -> None:
        """`product` -> `h`, and what the backward pass needs of this step."""
        raise NotImplementedError

    def clear(self, step: int, group: slice, rows: slice) -> None:
        """Zero the states of some rows of a group before a step."""
        self.saved[step][-1][group][rows] = 0

    def backward(self, step: int) -> None:
        """The gradient in `h` -> that in `product`.

        If the cell is `direct`, what reaches the hidden state before beside the product remains in `h`.
        """
        raise NotImplementedError

    def clear_back(self, group: slice, rows: slice) -> None:
        """Zero what is carried to the step before, for some rows of a group."""
        for carried in self.carried:
            carried[group][rows] = 0


class _Rnn(RecurrentCell):
    """h_t = tanh(p) (Elman 1990). Saved: h_t-1."""

    blocks, saves = 1, 1

    def forward(self, step: int) -> None:
        self.saved[step + 1][0].copy_(torch.tanh(self.product[0], out=self.h))

    def backward(self, step: int) -> None:
        _tanh_backward(self.h, self.saved[step + 1][0], grad_input=self.product[0])


class _Lstm(RecurrentCell):
    """i, f, o = sigmoid(p_i, p_f, p_o), g = tanh(p_g); c_t = f c_t-1 + i g, h_t = o tanh(c_t).

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000. Blocks: i f o g. Saved: i, f, o, g, c_t-1.
    """

    blocks, saves = 4, 5

    def __init__(self, saved: Tensor, product: Tensor):
        super().__init__(saved, product)
        self.gates, self.factors = saved[:, :3].unbind(0), saved[:, 3:].unbind(0)
        self.of_gates, self.of_i_f = product[:3], product[:2]
        self.of_c = torch.zeros_like(self.h)
        self.carried = [self.h, self.of_c]

    def forward(self, step: int) -> None:
        i, f, o, g, c = self.saved[step]
        torch.sigmoid(self.of_gates, out=self.gates[step])
        g.copy_(self.product[3]).tanh_()
        c = torch.mul(f, c, out=self.saved[step + 1][4]).addcmul_(i, g)
        torch.tanh(c, out=self.h).mul_(o)

    def backward(self, step: int) -> None:
        i, f, o, g, _ = self.saved[step]
        tanh_c = torch.tanh(self.saved[step + 1][4], out=self.scratch)
        torch.mul(self.h, tanh_c, out=self.product[2])
        self.of_c += _tanh_backward(self.h.mul_(o), tanh_c, grad_input=self.h)
        torch.mul(self.of_c, self.factors[step], out=self.of_i_f)
        _sigmoid_backward(self.of_gates, self.gates[step], grad_input=self.of_gates)
        _tanh_backward(torch.mul(self.of_c, i, out=self.h), g, grad_input=self.product[3])
        self.of_c *= f


class _Gru(RecurrentCell):
    """r, z = sigmoid(p_r, p_z), n = tanh(p_n + r p_m), h_t = (1 - z) n + z h_t-1 (Cho et al. 2014, as in torch.nn.GRU).

    Blocks: r z n m, where p_n is of the input alone and p_m of the hidden state alone. Saved: r, z, n, p_m, h_t-1.
    """

    blocks, saves, direct = 4, 5, True

    def __init__(self, saved: Tensor, product: Tensor):
        super().__init__(saved, product)
        self.gates, self.of_gates = saved[:, :2].unbind(0), product[:2]

    def forward(self, step: int) -> None:
        r, z, n, m, previous = self.saved[step]
        torch.sigmoid(self.of_gates, out=self.gates[step])
        torch.addcmul(self.product[2], r, m.copy_(self.product[3]), out=n).tanh_()
        self.saved[step + 1][4].copy_(torch.lerp(n, previous, z, out=self.h))

    def backward(self, step: int) -> None:
        (r, z, n, m, previous), (of_r, of_z, of_n, of_m) = self.saved[step], self.product
        torch.mul(torch.sub(previous, n, out=self.scratch), self.h, out=of_z)
        of_new = torch.addcmul(self.h, self.h, z, value=-1, out=self.scratch)
        _tanh_backward(of_new, n, grad_input=of_n)
        torch.mul(of_n, m, out=of_r)
        torch.mul(of_n, r, out=of_m)
        _sigmoid_backward(self.of_gates, self.gates[step], grad_input=self.of_gates)
        self.h *= z


CELLS: dict[str, type[RecurrentCell]] = {"LSTM": _Lstm, "GRU": _Gru, "RNN_TANH": _Rnn}
