"""Compiled functions and their compiled adjoints as differentiable operations of torch."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

Array: TypeAlias = NDArray[Any]
Adjoint: TypeAlias = Callable[[Array, Array], object]


def with_adjoint(value: Tensor, solve: Callable[[Array, bool], tuple[Array, Adjoint]]) -> Tensor:
    """Apply a function of arrays that brings its own vector-Jacobian product; differentiable once.

    ``solve`` takes ``value`` as a contiguous array that it must not change, and whether the adjoint
    will be called. It returns an array of its own and the adjoint, which takes the gradient by that
    array and an array to fill with the gradient by ``value``.
    """
    answer: Tensor = _Operation.apply(value, solve)
    return answer


class _Operation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, solve: Callable[..., tuple[Array, Adjoint]]) -> Tensor:
        given = _array(value)
        answer, ctx.adjoint = solve(given, ctx.needs_input_grad[0])
        ctx.given = given.shape, given.dtype
        return torch.from_numpy(answer)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        by_value = np.empty(*ctx.given)
        ctx.adjoint(_array(grad), by_value)
        return torch.from_numpy(by_value), None


def _array(value: Tensor) -> Array:
    return np.ascontiguousarray(value.detach().resolve_conj().numpy())
