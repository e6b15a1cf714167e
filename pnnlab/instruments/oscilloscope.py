"""An oscilloscope that takes one record for each trigger."""

import math
import time
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.compiling import compiled
from pnnlab.errors import InstrumentError, RangeError
from pnnlab.instruments.dialects import (
    INFINIIVISION,
    BlockFormat,
    Channel,
    Poll,
    ScopeDialect,
    Scratch,
    number,
)
from pnnlab.instruments.link import Link

Array = NDArray[Any]

_MOST_CODES = 1 << 16
_PAUSE_S = 2e-4, 1e-2  # between two polls: first, and at most


@final
class TriggerError(InstrumentError):
    """The oscilloscope saw no trigger in time."""


@final
@dataclass(frozen=True)
class ScopeSettings:
    """Settings of a record, taken at the rising edge of the trigger."""

    low_v: float  # what the screen must show
    high_v: float
    sample_rate_hz: float
    points: int  # at this rate; what was sampled faster is interpolated
    delay_s: float  # of the first point after the trigger; negative: before it

    def __post_init__(self) -> None:
        sizes = self.sample_rate_hz, self.points, self.high_v - self.low_v
        if not (all(0 < size < math.inf for size in sizes) and math.isfinite(self.delay_s)):
            raise RangeError(
                f"{self} is no record: rate, points and height are above 0, and all is finite."
            )


class Trace(NamedTuple):
    """A record at the times that were asked for."""

    volts: NDArray[np.float32]  # (points,), V; NaN where nothing was acquired
    saturated: int  # points out of the instrument's range
    missing: int  # points that were not acquired


def resampled(
    volts: NDArray[np.float32], start_s: float, step_s: float, settings: ScopeSettings
) -> NDArray[np.float32]:
    """Interpolate points, of which the first came ``start_s`` after the trigger, as asked for."""
    wanted_s = 1 / settings.sample_rate_hz
    first = start_s - settings.delay_s
    last = first + (len(volts) - 1) * (step_s - wanted_s)
    # A grid that differs by less than a thousandth of a step needs no interpolation.
    if len(volts) == settings.points and max(abs(first), abs(last)) < 1e-3 * wanted_s:
        return volts
    times = settings.delay_s + wanted_s * np.arange(settings.points)
    taken = start_s + step_s * np.arange(len(volts))
    wanted: NDArray[np.float32] = np.interp(times, taken, volts).astype(np.float32)
    return wanted


class Preamble(NamedTuple):
    """What the codes of a trace mean: V = code * step_v + zero_v; ``code`` is their format's."""

    code: int
    points: int
    step_s: float
    start_s: float
    step_v: float
    zero_v: float


def read_preamble(answer: str, *, origin_in_volts: bool) -> Preamble:
    """Read the ten fields of a preamble; raise `ValueError` if they make no sense."""
    fields = [float(field) for field in answer.split(",")]
    if len(fields) != 10:
        raise ValueError(f"{len(fields)} fields instead of ten")
    code, _, points, _, step_s, origin_s, reference_s, step_v, origin_v, reference_v = fields
    if not (np.isfinite(fields).all() and points >= 1 and step_s > 0 and step_v > 0):
        raise ValueError("no points, or no scale")
    zero_v = (
        origin_v - reference_v * step_v if origin_in_volts else -(origin_v + reference_v) * step_v
    )
    if not abs(zero_v) + _MOST_CODES * step_v < float(np.finfo(np.float32).max):
        raise ValueError("more volts than numbers")
    start_s = origin_s - reference_s * step_s
    return Preamble(int(code), int(points), step_s, start_s, step_v, zero_v)


@final
class Oscilloscope(Channel[ScopeDialect]):
    """A channel of an oscilloscope; closed, it keeps its state."""

    def __init__(
        self, link: Link, dialect: ScopeDialect = INFINIIVISION, *, channel: int = 1
    ) -> None:
        super().__init__(link, dialect, channel)
        if channel not in dialect.channels:
            raise RangeError(
                f"{dialect.name} records at one of the channels {dialect.channels}, not {channel}; "
                f"its {dialect.trigger_input} takes the trigger."
            )
        self._settings = ScopeSettings(0.0, 1.0, 1.0, 1, 0.0)
        self._record = 0
        self._received = Scratch()

    def apply(self, settings: ScopeSettings) -> None:
        """Send all settings, and read them back; raise `RangeError` if memory is too short."""
        fitting = [record for record in self.dialect.records if record >= settings.points]
        if not fitting:
            raise RangeError(
                f"{settings.points} points are more than the {self.dialect.records[-1]} of "
                f"{self.dialect.name}; take fewer at once."
            )
        self._settings, self._record = settings, fitting[0]
        window = _three_digits_up(settings.high_v - settings.low_v)
        centre = (settings.high_v + settings.low_v) / 2
        record_s = self._record / settings.sample_rate_hz
        self._apply(
            window=number(window),
            division=number(window / 8),
            centre=number(centre),
            minus_centre=number(-centre),
            record=str(self._record),
            record_s=number(record_s),
            division_s=number(record_s / self.dialect.divisions),
            middle_s=number(settings.delay_s + record_s / 2),
            format=self.dialect.format.name,
        )

    def arm(self) -> None:
        """Make ready for one trigger, and return once it would be noticed."""
        self._expect_settings()
        with self.link.lock:
            if self.dialect.arm_clear:
                self.link.ask(self.dialect.arm_clear)
            self.link.send(self.dialect.arm)
            if not self._poll(self.dialect.armed, self.link.timeout_s):
                raise InstrumentError(
                    f"{self.link} did not become ready for a trigger within {self.link.timeout_s} "
                    "s. Check its time base, and that no trigger comes too early."
                )

    def wait(self, timeout_s: float) -> None:
        """Wait until the record is complete, or stop waiting and raise `TriggerError`."""
        if self._poll(self.dialect.done, timeout_s):
            return
        self.link.send(self.dialect.stop)
        raise TriggerError(
            f"{self.link} saw no trigger within {timeout_s:.3g} s. Check the cable from the "
            f"generator's trigger or sync output to the {self.dialect.trigger_input}."
        )

    def read(self, scratch: Scratch | None = None) -> Trace:
        """Read the record if it covers what was asked for; its volts may lie in ``scratch``."""
        self._expect_settings()
        with self.link.lock:
            answer = self.link.ask(self.dialect.preamble)
            try:
                preamble = read_preamble(answer, origin_in_volts=self.dialect.origin_in_volts)
                first, count = self._window(preamble)
            except ValueError as error:
                raise InstrumentError(
                    f"{self.link}: the record with the preamble {answer[:200]!r} cannot be read: "
                    f"{error}. Check that its channel is on and has taken a record, and choose a "
                    "sample rate and a length that it has."
                ) from error
            data = self._data(first, count, preamble.points)
            self._expect_settings()  # a question may have opened another session
        scratch = scratch or Scratch()
        volts, saturated, missing = decode(data, self.dialect.format, preamble, scratch)
        start_s = preamble.start_s + first * preamble.step_s
        return Trace(resampled(volts, start_s, preamble.step_s, self._settings), saturated, missing)

    def verify(self) -> None:
        """Read the settings back; where each is a round trip, those that a record does not show."""
        self._expect_settings()
        all_at_once = self.dialect.compound
        settings = [one for one in self.dialect.settings if all_at_once or one.each]
        with self.link.lock:
            self._read_back(settings)

    def _poll(self, poll: Poll, timeout_s: float) -> bool:
        """Ask until the answer is yes; return False on timeout."""
        deadline = time.monotonic() + timeout_s
        pause, longest = _PAUSE_S
        while not _is_yes(poll, self.link.ask(poll.query)):
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(2 * pause, longest)
        return True

    def _window(self, preamble: Preamble) -> tuple[int, int]:
        """First point and number of points that cover what was asked for, or ValueError."""
        wanted, form, step = self._settings, self.dialect.format, preamble.step_s
        if preamble.code != form.code:
            raise ValueError(f"it is in format {preamble.code}, not as {form.name}")
        if preamble.points > self.dialect.records[-1]:
            raise ValueError(f"it has {preamble.points} points, more than the memory")
        if step * wanted.sample_rate_hz > 1.001:
            raise ValueError(f"it is too slow, {step:.6g} s a point")
        first = round((wanted.delay_s - preamble.start_s) / step)
        count = round(wanted.points / wanted.sample_rate_hz / step)
        # Where parts are selected, the preamble may describe the part alone.
        available = self._record if self.dialect.part else preamble.points
        # Where the two grids are shifted, one point may be missing at either end.
        if first < -1 or first + count > available + 1 or first >= available:
            raise ValueError(
                f"it lies elsewhere, and is not the {wanted.points} points of "
                f"{1 / wanted.sample_rate_hz:.6g} s from {wanted.delay_s:.6g} s on"
            )
        first = max(first, 0)
        return first, min(count, available - first)

    def _data(self, first: int, count: int, points: int) -> memoryview:
        """Codes of a part of the record, which has so many points."""
        size = np.dtype(self.dialect.format.dtype).itemsize
        if not self.dialect.part:
            data = self._received.array(points * size, np.uint8).data
            self.link.ask_block(self.dialect.data, data)
            return data[first * size : (first + count) * size]
        data = self._received.array(count * size, np.uint8).data
        most = self.dialect.format.most_points
        for start in range(first, first + count, most):
            stop = min(start + most, first + count)
            part = {"first": str(start + 1), "last": str(stop)}
            self.link.send(*(command.format_map(part) for command in self.dialect.part))
            here = slice((start - first) * size, (stop - first) * size)
            self.link.ask_block(self.dialect.data, data[here])
        return data


def _three_digits_up(value: float) -> float:
    """Round up to three digits, as instruments do with a range."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit - 1e-6) * unit


def _is_yes(poll: Poll, answer: str) -> bool:
    if poll.words:
        return answer.upper() in poll.words
    try:
        return int(float(answer)) & poll.mask == poll.value
    except ValueError as error:
        raise InstrumentError(
            f"{poll.query!r} was answered with {answer[:60]!r}, not a number. Choose another "
            "dialect."
        ) from error


def decode(
    data: memoryview, form: BlockFormat, preamble: Preamble, scratch: Scratch
) -> tuple[NDArray[np.float32], int, int]:
    """Decode a block to volts, which lie in ``scratch``, and count saturated and missing points."""
    codes = np.frombuffer(data, form.dtype)
    volts = scratch.array(len(codes), np.float32)
    lowest, highest = _decode(
        codes, np.float32(preamble.step_v), np.float32(preamble.zero_v), volts
    )
    if lowest > form.low and highest < form.high:
        return volts, 0, 0
    holes = codes == form.hole if form.hole is not None else np.zeros(len(codes), bool)
    missing = int(np.count_nonzero(holes))
    volts[holes] = np.nan
    beyond = int(np.count_nonzero((codes <= form.low) | (codes >= form.high)))
    return volts, beyond - missing, missing


@compiled()
def _decode(codes: Array, step_v: np.float32, zero_v: np.float32, volts: Array) -> tuple[int, int]:
    """Decode codes; return the lowest and the highest of them."""
    lowest, highest = codes[0], codes[0]
    for point in range(len(codes)):
        code = codes[point]
        lowest, highest = min(lowest, code), max(highest, code)
        volts[point] = np.float32(code) * step_v + zero_v
    return lowest, highest
