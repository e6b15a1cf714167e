"""Compiled functions and their compiled adjoints as differentiable operations of torch."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

Array: TypeAlias = NDArray[Any]
Adjoint: TypeAlias = Callable[[Array], Array]


def with_adjoint(value: Tensor, solve: Callable[[Array, bool], tuple[Array, Adjoint]]) -> Tensor:
    """Apply a function of arrays that brings its own vector-Jacobian product.

    ``solve`` takes ``value`` as a contiguous array that it must not change, and whether the adjoint
    will be called. It returns an array of its own and the adjoint, which takes the gradient of a
    scalar by that array, contiguous, and returns the gradient by ``value``. The answer is
    differentiable once.
    """
    answer: Tensor = _Operation.apply(value, solve)
    return answer


class _Operation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, solve: Callable[..., tuple[Array, Adjoint]]) -> Tensor:
        answer, ctx.adjoint = solve(_array(value), ctx.needs_input_grad[0])
        return torch.from_numpy(answer)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return torch.from_numpy(ctx.adjoint(_array(grad))), None


def _array(value: Tensor) -> Array:
    return np.ascontiguousarray(value.detach().resolve_conj().numpy())
