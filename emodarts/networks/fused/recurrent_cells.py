"""The recurrent cells LSTM, GRU and tanh RNN: as equations, and as steps of a stack of layers.

A cell turns the product `p = [x_t, h_t-1] W + b`, blocks of the cell's width, into the hidden state h_t; the numbers
are those of torch.nn.LSTM, GRU and RNN. `equations` is the definition. `forward` and `backward` are one step of it and
of its gradient, in place, for all rows of a stack.
"""

from typing import ClassVar

import torch
from torch import Tensor

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input  # g * y * (1 - y)
_tanh_backward = torch.ops.aten.tanh_backward.grad_input  # g * (1 - y * y)


class RecurrentCell:
    """What the cells share, on tensors that are the same at every step.

    `product (blocks, rows, batch, width)`: that of the step, or its gradient. `h (rows, batch, width)`: the hidden
    state after the step, or its gradient. `kept (steps + 1, keeps, rows, batch, width)`: what the backward pass needs
    of each step; a state before the step, always the last of them, is written by the step before. `direct`: the hidden
    state before a step reaches the one after it not only by the product.
    """

    blocks: ClassVar[int]
    keeps: ClassVar[int]
    direct: ClassVar[bool] = False

    def __init__(self, kept: Tensor, product: Tensor):
        self.h, self.scratch = torch.empty_like(kept[0, 0]), torch.empty_like(kept[0, 0])
        self.kept = list(zip(*(kept[:, number].unbind(0) for number in range(self.keeps)), strict=True))
        self.product = product.unbind(0)

    @staticmethod
    def initial(zeros: Tensor) -> tuple[Tensor, ...]:
        """The states before the first frame; the hidden state first."""
        return (zeros,)

    @staticmethod
    def equations(product: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Product and states -> the next states."""
        raise NotImplementedError

    def forward(self, step: int) -> None:
        """`product` -> `h`, and what is kept of this step."""
        raise NotImplementedError

    def clear(self, step: int, rows: slice) -> None:
        """Zero the states of some rows before a step."""
        self.kept[step][-1][rows] = 0

    def backward(self, step: int) -> None:
        """The gradient in `h` -> that in `product`.

        If the cell is `direct`, what reaches the hidden state before beside the product remains in `h`.
        """
        raise NotImplementedError

    def clear_back(self, rows: slice) -> None:
        """Zero what is carried to the step before, for some rows."""
        self.h[rows] = 0


class Rnn(RecurrentCell):
    """h_t = tanh(p) (Elman 1990). Kept: h_t-1."""

    blocks, keeps = 1, 1

    @staticmethod
    def equations(product: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """See `Cell`."""
        return (product.tanh(),)

    def forward(self, step: int) -> None:
        """See `Cell`."""
        self.kept[step + 1][0].copy_(torch.tanh(self.product[0], out=self.h))

    def backward(self, step: int) -> None:
        """See `Cell`."""
        _tanh_backward(self.h, self.kept[step + 1][0], grad_input=self.product[0])


class Lstm(RecurrentCell):
    """i, f, o = sigmoid(p_i, p_f, p_o), g = tanh(p_g); c_t = f c_t-1 + i g, h_t = o tanh(c_t).

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000. Blocks: i f o g. Kept: i, f, o, g, c_t-1.
    """

    blocks, keeps = 4, 5

    def __init__(self, kept: Tensor, product: Tensor):
        super().__init__(kept, product)
        self.gates, self.factors = kept[:, :3].unbind(0), kept[:, 3:].unbind(0)
        self.of_gates, self.of_i_f = product[:3], product[:2]
        self.carried = torch.zeros_like(self.h)

    @staticmethod
    def initial(zeros: Tensor) -> tuple[Tensor, ...]:
        """See `Cell`."""
        return zeros, zeros

    @staticmethod
    def equations(product: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """See `Cell`."""
        i, f, o, g = product.chunk(4, -1)
        c = f.sigmoid() * states[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    def forward(self, step: int) -> None:
        """See `Cell`."""
        i, f, o, g, c = self.kept[step]
        torch.sigmoid(self.of_gates, out=self.gates[step])
        g.copy_(self.product[3]).tanh_()
        c = torch.mul(f, c, out=self.kept[step + 1][4]).addcmul_(i, g)
        torch.tanh(c, out=self.h).mul_(o)

    def backward(self, step: int) -> None:
        """See `Cell`."""
        i, f, o, g, _ = self.kept[step]
        tanh_c = torch.tanh(self.kept[step + 1][4], out=self.scratch)
        torch.mul(self.h, tanh_c, out=self.product[2])
        self.carried += _tanh_backward(self.h.mul_(o), tanh_c, grad_input=self.h)
        torch.mul(self.carried, self.factors[step], out=self.of_i_f)
        _sigmoid_backward(self.of_gates, self.gates[step], grad_input=self.of_gates)
        _tanh_backward(torch.mul(self.carried, i, out=self.h), g, grad_input=self.product[3])
        self.carried *= f

    def clear_back(self, rows: slice) -> None:
        """See `Cell`."""
        self.h[rows] = 0
        self.carried[rows] = 0


class Gru(RecurrentCell):
    """r, z = sigmoid(p_r, p_z), n = tanh(p_n + r p_m), h_t = (1 - z) n + z h_t-1 (Cho et al. 2014, as in torch.nn.GRU).

    Blocks: r z n m, where p_n is of the input alone and p_m of the hidden state alone. Kept: r, z, n, p_m, h_t-1.
    """

    blocks, keeps, direct = 4, 5, True

    def __init__(self, kept: Tensor, product: Tensor):
        super().__init__(kept, product)
        self.gates, self.of_gates = kept[:, :2].unbind(0), product[:2]

    @staticmethod
    def equations(product: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """See `Cell`."""
        r, z, n, m = product.chunk(4, -1)
        n = (n + r.sigmoid() * m).tanh()
        return (n + z.sigmoid() * (states[0] - n),)

    def forward(self, step: int) -> None:
        """See `Cell`."""
        r, z, n, m, before = self.kept[step]
        torch.sigmoid(self.of_gates, out=self.gates[step])
        torch.addcmul(self.product[2], r, m.copy_(self.product[3]), out=n).tanh_()
        self.kept[step + 1][4].copy_(torch.lerp(n, before, z, out=self.h))

    def backward(self, step: int) -> None:
        """See `Cell`."""
        (r, z, n, m, before), (of_r, of_z, of_n, of_m) = self.kept[step], self.product
        torch.mul(torch.sub(before, n, out=self.scratch), self.h, out=of_z)
        beside = torch.addcmul(self.h, self.h, z, value=-1, out=self.scratch)
        _tanh_backward(beside, n, grad_input=of_n)
        torch.mul(of_n, m, out=of_r)
        torch.mul(of_n, r, out=of_m)
        _sigmoid_backward(self.of_gates, self.gates[step], grad_input=self.of_gates)
        self.h *= z


CELLS: dict[str, type[RecurrentCell]] = {"lstm": Lstm, "gru": Gru, "rnn": Rnn}
