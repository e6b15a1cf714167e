"""Volts to codes, and codes to volts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pnnlab.instruments.blocks import decode, encode, read_preamble, sent_volts, step
from pnnlab.instruments.dialects import (
    INFINIIVISION,
    KEYSIGHT_33500,
    RIGOL_DS1000Z,
    TEKTRONIX_AFG3000,
    Encoding,
)

ENCODINGS = [*KEYSIGHT_33500.encodings.values(), *TEKTRONIX_AFG3000.encodings.values()]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: e.header)
@settings(deadline=None)  # the first call compiles
@given(
    arrays(np.float64, st.integers(1, 30), elements=st.floats(-1, 1)),
    st.floats(-5, 5),
    st.floats(1e-3, 10),
)
def test_codes_mean_the_volts_they_were_made_from(
    encoding: Encoding, fractions: np.ndarray, centre_v: float, amplitude_v: float
) -> None:
    volts = centre_v + amplitude_v * fractions
    codes = encode(volts, encoding, centre_v, amplitude_v)
    assert codes.dtype == np.dtype(encoding.dtype)
    sent = sent_volts(codes, encoding, centre_v, amplitude_v)
    rounding = 1e-6 * amplitude_v + 1e-12 * abs(centre_v)
    assert np.abs(sent - volts).max() <= 0.5 * step(encoding, amplitude_v) + rounding


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: e.header)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_of_the_span_are_the_ends_of_the_codes(
    encoding: Encoding, dtype: type[np.floating]
) -> None:
    codes = encode(np.array([-0.1, 0.1, 0.3], dtype), encoding, 0.1, 0.2)
    assert codes.tolist() == pytest.approx(
        [encoding.lowest, (encoding.lowest + encoding.highest) / 2, encoding.highest], abs=1e-6
    )


def test_the_codes_of_the_manuals() -> None:
    """33500: -32767 to 32767, here low byte first; AFG3000: 0 to 16382, high byte first."""
    volts = np.array([-1.0, 0.0, 1.0])
    keysight, tektronix = KEYSIGHT_33500.encodings["int16"], TEKTRONIX_AFG3000.encodings["int16"]
    assert encode(volts, keysight, 0.0, 1.0).tobytes() == b"\x01\x80\x00\x00\xff\x7f"
    assert encode(volts, tektronix, 0.0, 1.0).tobytes() == b"\x00\x00\x1f\xff\x3f\xfe"


def test_the_preamble_of_the_rigol_guide() -> None:
    """The guide's own example of ``:WAV:PRE?``; V = (code - origin - reference) * increment."""
    preamble = read_preamble(
        "0,2,6000000,1,1.000000e-09,-3.000000e-03,0,4.132813e-01,0,122", origin_in_volts=False
    )
    assert (preamble.code, preamble.points) == (0, 6_000_000)
    assert (preamble.step_s, preamble.start_s) == (1e-9, -3e-3)
    volts, saturated, missing = decode(
        memoryview(bytes([122, 123, 22])), RIGOL_DS1000Z.formats["BYTE"], preamble
    )
    np.testing.assert_allclose(volts, [0.0, 0.4132813, -41.32813], atol=1e-5)
    assert (saturated, missing) == (0, 0)


def test_volts_that_no_number_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="more volts"):
        read_preamble("0,0,10,1,1e-6,0,0,1e34,0,128", origin_in_volts=True)


def test_time_begins_at_the_reference() -> None:
    preamble = read_preamble("+1,+0,+10,+1,+1E-6,+2E-5,+5,+1E-3,+0.5,+32768", origin_in_volts=True)
    assert preamble.start_s == pytest.approx(15e-6)
    assert preamble.zero_v == pytest.approx(0.5 - 32.768)


@settings(deadline=None)  # the first call compiles
@given(arrays(np.uint8, st.integers(1, 50)))
def test_special_codes_are_counted_each_once(codes: np.ndarray) -> None:
    preamble = read_preamble("0,0,10,1,1e-6,0,0,0.01,0,128", origin_in_volts=True)
    volts, saturated, missing = decode(
        memoryview(codes.tobytes()), INFINIIVISION.formats["BYTE"], preamble
    )
    assert missing == np.count_nonzero(codes == 0) == np.count_nonzero(np.isnan(volts))
    assert saturated == np.count_nonzero((codes == 1) | (codes == 255))
