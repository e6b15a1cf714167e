"""A second kind of device for torch, beside the CPU, that every machine has.

Its tensors compute on the CPU, but as on a GPU nothing of one device mixes with the other, apart
from single numbers; what crosses is counted. It shows where tensors are and cross. It shows no
speed, no other rounding, no order of streams and no full memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

crossed: list[tuple[str, int]] = []  # direction, "in" or "out", and number of elements

_TAKES_BOTH = ("copy_", "_to_copy", "index", "index_put_", "index_put", "_index_put_impl_")


class Other(Tensor):
    """A tensor of the other device, kept as one of the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Other":
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("other", 0),
        )
        made.inner = inner
        return made

    def tolist(self) -> Any:
        return self.cpu().tolist()  # torch's own refuses a subclass

    def __repr__(self) -> str:
        return f"other {self.inner!r}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        found = [one for one in pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        near = [one for one in found if not isinstance(one, Other) and one.dim()]
        if near and name not in _TAKES_BOTH:
            raise RuntimeError(f"{name}: tensors are on the CPU and on another device")
        here = True  # the result is of the other device
        if kwargs.get("device") is not None:
            here = torch.device(kwargs["device"]).type == "other"
            kwargs["device"] = "cpu"
        if name == "_to_copy" and not here:
            crossed.append(("out", args[0].numel()))
        if name == "_local_scalar_dense":
            crossed.append(("out", 1))
            here = False
        if name == "copy_" and isinstance(args[0], Other) != isinstance(args[1], Other):
            crossed.append(("in" if isinstance(args[0], Other) else "out", args[1].numel()))
        result = func(*pytree.tree_map_only(Other, lambda one: one.inner, args), **_inner(kwargs))
        if func._schema.name.endswith("_") and isinstance(args[0], Tensor):
            return args[0]
        return pytree.tree_map_only(Tensor, Other, result) if here else result


def _inner(kwargs: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pytree.tree_map_only(Other, lambda one: one.inner, kwargs)
    return found


class _Module:
    """What torch asks of a device: it has one, and a generator of random numbers."""

    seed = 0

    def is_initialized(self) -> bool:
        return True

    is_available = is_initialized

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None:
        type(self).seed = seed

    def get_rng_state(self, device: object) -> Tensor:
        return torch.tensor([self.seed % 2**63])

    def set_rng_state(self, state: Tensor, device: object) -> None:
        type(self).seed = int(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16]


def there() -> bool:
    """Make the device known to torch, once; whether this version of torch can have it."""
    from torch.utils import backend_registration as registration

    if hasattr(torch, "other"):
        return True
    if not hasattr(registration, "_setup_privateuseone_for_python_backend"):
        return False
    registration._setup_privateuseone_for_python_backend("other", _Module())

    @torch.library.impl("aten::empty.memory_format", "privateuseone")
    def _empty(size: Any, dtype: Any = None, **_: Any) -> Tensor:
        return Other(torch.empty(size, dtype=dtype))

    @torch.library.impl("aten::empty_strided", "privateuseone")
    def _strided(size: Any, stride: Any, dtype: Any = None, **_: Any) -> Tensor:
        return Other(torch.empty_strided(size, stride, dtype=dtype))

    return True


@contextmanager
def counted() -> Iterator[list[tuple[str, int]]]:
    """Give the list of what crosses within this context."""
    crossed.clear()
    yield crossed
