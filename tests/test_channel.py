"""Whether what an instrument says is what it was told."""

import math

import numpy as np
import pytest

from pnnlab.instruments.dialects import Scratch, agrees, number


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        ("ARB", "ARB"),
        ("EMEM", "EMEMORY"),
        ("PNNLAB", '"PNNLAB"'),
        ("ON", "1"),
        ("OFF", "0"),
        ("1", "ON"),
        ("1000000", "+1.000000000000000E+06"),
        ("1000000", "1000000"),
        ("INF", "+9.9E+37"),
        ("INF", "9.90000000E+037"),
        ("0", "-0.0000E+00"),
        ("0.3333", "+3.334E-01"),
    ],
)
def test_the_same_said_otherwise(sent: str, answer: str) -> None:
    assert agrees(sent, answer, 1e-3)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        ("ARB", "SIN"),
        ("ON", "0"),
        ("OFF", "1"),
        ("1000000", "+1.002E+06"),
        ("INF", "+5.0E+01"),
        ("50", "9.9E+37"),
        ("0", "1E-3"),
        ("1", ""),
        ("CH1", "CH12"),
        ("ARB", ""),
    ],
)
def test_something_else(sent: str, answer: str) -> None:
    assert not agrees(sent, answer, 1e-3)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e6, "1000000"), (1e-7, "1E-07"), (-0.0, "0"), (math.inf, "INF"), (1 / 3, "0.333333333")],
)
def test_numbers_as_commands_take_them(value: float, text: str) -> None:
    assert number(value) == text


def test_what_fits_lies_where_the_last_one_lay():
    scratch = Scratch()
    first = scratch.array(10, np.float32)
    assert (first.shape, first.dtype) == ((10,), np.float32)
    again = scratch.array(5, np.float64)
    assert (again.shape, again.dtype) == ((5,), np.float64)
    assert np.shares_memory(first, again)


def test_a_larger_array_leaves_the_last_one_alone():
    scratch = Scratch()
    small = scratch.array(10, np.int16)
    small[:] = 7
    scratch.array(11, np.int16)[:] = 0
    assert (small == 7).all()
