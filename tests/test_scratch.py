"""Memory that is used again."""

import numpy as np

from pnnlab.instruments.scratch import Scratch


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
