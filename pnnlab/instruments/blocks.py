"""Volts to a generator's codes, and an oscilloscope's codes to volts."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.compiling import compiled
from pnnlab.instruments.dialects import BlockFormat, Encoding
from pnnlab.instruments.scratch import Scratch

Array = NDArray[Any]

_MOST_CODES = 1 << 16


def encode(
    volts: NDArray[np.floating[Any]],
    encoding: Encoding,
    centre_v: float,
    amplitude_v: float,
    scratch: Scratch | None = None,
) -> Array:
    """Codes of a waveform whose lowest and highest code mean ``centre_v -+ amplitude_v``.

    Parameters
    ----------
    volts : array, (samples,), floating point
        V, all within these voltages.
    scratch : Scratch, optional
        Where the codes may lie.

    Returns
    -------
    array, (samples,), of the encoding's type
        Rounded to the nearest code, if codes are integers.
    """
    middle = (encoding.highest + encoding.lowest) / 2
    scale = (encoding.highest - encoding.lowest) / (2 * amplitude_v)
    codes = (scratch or Scratch()).array(len(volts), np.dtype(encoding.dtype).newbyteorder("="))
    rounded = codes.dtype.kind != "f"
    shift = middle - centre_v * scale
    _encode(volts, scale, shift, encoding.lowest, encoding.highest, rounded, codes)
    return codes.astype(encoding.dtype, copy=False)


def sent_volts(codes: Array, encoding: Encoding, centre_v: float, amplitude_v: float) -> Array:
    """Voltages that codes mean, (samples,), float64, V."""
    middle = (encoding.highest + encoding.lowest) / 2
    scale = 2 * amplitude_v / (encoding.highest - encoding.lowest)
    volts: Array = np.multiply(codes, scale, dtype=np.float64)
    volts += centre_v - middle * scale
    return volts


def step(encoding: Encoding, amplitude_v: float) -> float:
    """Voltage between two neighbouring codes, V."""
    if np.dtype(encoding.dtype).kind == "f":
        return 2 * amplitude_v * float(np.finfo(encoding.dtype).eps)
    return 2 * amplitude_v / (encoding.highest - encoding.lowest)


@final
@dataclass(frozen=True)
class Preamble:
    """What the codes of a trace mean.

    Attributes
    ----------
    code : int
        Of the block's format.
    points : int
        In the trace.
    step_s, start_s : float
        Time between two points, and of the first one after the trigger, s.
    step_v, zero_v : float
        Voltage between two codes, and of code 0, V.
    """

    code: int
    points: int
    step_s: float
    start_s: float
    step_v: float
    zero_v: float


def read_preamble(answer: str, *, origin_in_volts: bool) -> Preamble:
    """Read the ten fields of a preamble.

    Raises
    ------
    ValueError
        If they are not ten numbers, or make no sense.
    """
    fields = [float(field) for field in answer.split(",")]
    if len(fields) != 10:
        raise ValueError(f"{len(fields)} fields instead of ten")
    code, _, points, _, step_s, origin_s, reference_s, step_v, origin_v, reference_v = fields
    if not (np.isfinite(fields).all() and points >= 1 and step_s > 0 and step_v > 0):
        raise ValueError("no points, or no scale")
    volts_at_zero = (
        origin_v - reference_v * step_v if origin_in_volts else -(origin_v + reference_v) * step_v
    )
    start_s = origin_s - reference_s * step_s
    if not abs(volts_at_zero) + _MOST_CODES * step_v < float(np.finfo(np.float32).max):
        raise ValueError("more volts than numbers")
    return Preamble(int(code), int(points), step_s, start_s, step_v, volts_at_zero)


def decode(
    data: memoryview, form: BlockFormat, preamble: Preamble, scratch: Scratch | None = None
) -> tuple[NDArray[np.float32], int, int]:
    """Volts of a trace.

    Parameters
    ----------
    data : memoryview
        The codes.
    form : BlockFormat
    preamble : Preamble
    scratch : Scratch, optional
        Where the volts may lie.

    Returns
    -------
    volts : array, (points,), float32
        V; NaN where nothing was acquired.
    saturated, missing : int
        Points out of range, and points that were not acquired.
    """
    codes = np.frombuffer(data, form.dtype)
    volts = (scratch or Scratch()).array(len(codes), np.float32)
    scale = np.float32(preamble.step_v), np.float32(preamble.zero_v)
    lowest, highest = _decode(codes, *scale, volts)
    if lowest > form.low and highest < form.high:
        return volts, 0, 0
    holes = codes == form.hole if form.hole is not None else np.zeros(len(codes), bool)
    missing = int(np.count_nonzero(holes))
    volts[holes] = np.nan
    beyond = int(np.count_nonzero((codes <= form.low) | (codes >= form.high)))
    return volts, beyond - missing, missing


@compiled()
def _encode(
    volts: Array,
    scale: float,
    shift: float,
    lowest: float,
    highest: float,
    rounded: bool,
    codes: Array,
) -> None:
    """One pass instead of the five of NumPy."""
    for sample in range(len(volts)):
        code = np.float64(volts[sample]) * scale + shift
        if rounded:
            code = np.rint(code)
        # Only what rounding of doubles adds; a waveform out of range was refused before.
        codes[sample] = min(max(code, lowest), highest)


@compiled()
def _decode(codes: Array, step_v: np.float32, zero_v: np.float32, volts: Array) -> tuple[int, int]:
    """Decode, and return the lowest and the highest code."""
    lowest, highest = codes[0], codes[0]
    for point in range(len(codes)):
        code = codes[point]
        lowest, highest = min(lowest, code), max(highest, code)
        volts[point] = np.float32(code) * step_v + zero_v
    return lowest, highest
