import pytest
import torch
from conformance import SystemConformance
from toy import Toy, toy_response

from pnnlab.errors import RangeError, ShapeError
from pnnlab.protocols import PhysicalSystem


class TestToy(SystemConformance):
    def make_system(self):
        return Toy()


class Bench(PhysicalSystem):
    """Like a device on a bench: no state that a computer could put back."""

    def __init__(self) -> None:
        super().__init__(4, 8, 2)
        self.random = torch.Generator()

    def _measure(self, x, theta):
        return toy_response(x, theta, 1.0) + 0.01 * torch.randn(len(x), 2, generator=self.random)


class TestBench(SystemConformance):
    simulated = False

    def make_system(self):
        return Bench()


def test_a_device_takes_only_an_empty_state():
    Bench().restore(Bench().state())
    with pytest.raises(RangeError, match="another system"):
        Bench().restore({"shots": 3})


def test_a_system_needs_inputs_and_outputs():
    class Nothing(Bench):
        def __init__(self) -> None:
            PhysicalSystem.__init__(self, 0, 1, 1)

    with pytest.raises(ShapeError, match="input_dim"):
        Nothing()


def test_a_system_without_parameters_is_one():
    class Fixed(PhysicalSystem):
        def __init__(self) -> None:
            super().__init__(3, 0, 3)

        def _measure(self, x, theta):
            return x.square()

    assert Fixed()(torch.ones(2, 3), torch.zeros(0)).shape == (2, 3)


def test_messages_say_where_the_range_was_left():
    with pytest.raises(RangeError, match=r"1 of 8 values outside \[0, 1\] \(from 0 to 2\)"):
        Bench()(torch.tensor([[0.0, 0, 0, 2], [0, 0, 0, 0]]), torch.full((8,), 0.5))
    with pytest.raises(ShapeError, match=r"x\[None\]"):
        Bench()(torch.zeros(4), torch.full((8,), 0.5))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_floating_type_is_checked(dtype: torch.dtype):
    sound = torch.full((2, 4), 0.5, dtype=dtype)
    Bench().check(sound, torch.full((8,), 0.5))
    for wrong, told in ((2.0, "outside"), (float("nan"), "NaN")):
        sound[1, 2] = wrong
        with pytest.raises(RangeError, match=told):
            Bench().check(sound, torch.full((8,), 0.5))
