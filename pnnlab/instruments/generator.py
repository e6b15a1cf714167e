"""An arbitrary waveform generator that plays a waveform once for each trigger."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.compiling import compiled
from pnnlab.errors import InstrumentError, LimitError, LinkError, RangeError, ShapeError
from pnnlab.instruments.channel import Channel, Scratch, agrees, commands, number
from pnnlab.instruments.dialects import KEYSIGHT_33500, Encoding, GeneratorDialect
from pnnlab.instruments.limits import Limits
from pnnlab.instruments.link import Link

Array = NDArray[Any]

_ATTEMPTS = 3  # to switch off


@final
@dataclass(frozen=True)
class GeneratorSettings:
    """Settings of the output.

    The converter spans ``offset_v - amplitude_v`` to ``offset_v + amplitude_v``. (Front panels show
    twice the amplitude, from peak to peak.)
    """

    sample_rate_hz: float
    amplitude_v: float
    offset_v: float = 0.0
    load_ohm: float = math.inf  # infinite: an oscilloscope or amplifier


class Converter(NamedTuple):
    """A converter whose lowest and highest code mean ``centre_v -+ amplitude_v``."""

    encoding: Encoding
    centre_v: float
    amplitude_v: float

    @property
    def step_v(self) -> float:
        """Voltage between two neighbouring codes."""
        if np.dtype(self.encoding.dtype).kind == "f":
            return 2 * self.amplitude_v * float(np.finfo(self.encoding.dtype).eps)
        return 2 * self.amplitude_v / (self.encoding.highest - self.encoding.lowest)

    def encode(self, volts: NDArray[np.floating[Any]], scratch: Scratch) -> Array:
        """Encode volts within the span, integers rounded to the nearest; may lie in ``scratch``."""
        dtype, lowest, highest = self.encoding[1:]
        codes = scratch.array(len(volts), np.dtype(dtype).newbyteorder("="))
        scale = (highest - lowest) / (2 * self.amplitude_v)
        shift = (highest + lowest) / 2 - self.centre_v * scale
        _encode(volts, scale, shift, lowest, highest, codes.dtype.kind != "f", codes)
        return codes.astype(dtype, copy=False)

    def decode(self, codes: Array) -> Array:
        """Voltages of codes, (samples,), float64."""
        _, _, lowest, highest = self.encoding
        scale = 2 * self.amplitude_v / (highest - lowest)
        volts: Array = np.multiply(codes, scale, dtype=np.float64)
        volts += self.centre_v - (highest + lowest) / 2 * scale
        return volts


@final
class Generator(Channel[GeneratorDialect]):
    """A channel of a generator; closed, its output is off. No waveform exceeds the limits."""

    def __init__(
        self,
        link: Link,
        dialect: GeneratorDialect = KEYSIGHT_33500,
        *,
        channel: int = 1,
        limits: Limits,
    ) -> None:
        super().__init__(link, dialect, channel)
        self.limits = limits
        self._rate_hz = math.nan
        self._converter = Converter(dialect.encoding, math.nan, math.nan)
        self._points = 0  # of the waveform that is loaded
        self._on = False
        self._codes = Scratch()

    def apply(self, settings: GeneratorSettings) -> None:
        """Switch the output off, send all settings, and read them back.

        Raises
        ------
        LimitError
            If the converter's span exceeds the limits: then a wrong waveform could, too.
        RangeError
            If a setting makes no sense.
        """
        for name in ("sample_rate_hz", "amplitude_v", "load_ohm"):
            value = getattr(settings, name)
            if not value > 0 or (math.isinf(value) and name != "load_ohm"):
                raise RangeError(f"{name} is {value}; give a finite number above 0.")
        ends = settings.offset_v + settings.amplitude_v * np.array([-1.0, 1.0])
        try:
            self.limits.check_range(ends, step_v=1e-9 * settings.amplitude_v)
        except LimitError as error:
            raise LimitError(
                f"With an amplitude of {settings.amplitude_v} V about {settings.offset_v} V the "
                f"converter could exceed the limits, {self.limits.low_v} to "
                f"{self.limits.high_v} V. Choose a smaller amplitude; nothing was sent."
            ) from error
        with self.link.lock:
            self._session = None
            self.output(False)
            self._points = 0
            self._rate_hz = settings.sample_rate_hz
            self._converter = Converter(
                self.dialect.encoding, settings.offset_v, settings.amplitude_v
            )
            span_v = 2 * settings.amplitude_v
            values = {
                "channel": str(self.channel),
                "rate": number(settings.sample_rate_hz),
                "span": number(span_v),
                "extent": number(span_v),
                "offset": number(settings.offset_v),
                "load": number(settings.load_ohm),
            }
            self._apply(values)

    def load(self, volts: NDArray[np.floating[Any]]) -> None:
        """Check a waveform against the limits, then upload and select it.

        During the upload the output may be anywhere in the converter's span; afterwards it rests
        at the first sample.

        Raises
        ------
        LimitError
            If it exceeds the limits or the converter's span; nothing is sent then.
        ShapeError, RangeError
            If it is not (samples,) of floating point, V, or its length or extent is not possible.
        """
        self._expect_settings()
        codes, extent_v = self._encode(volts)
        dialect, points = self.dialect, len(codes)
        rate = number(self._rate_hz / points)
        with self.link.lock:
            self._points = 0
            self._values = {**self._values, "extent": number(extent_v), "frequency": rate}
            self.link.send(
                *(command.format_map(self._values) for command in dialect.before_upload),
                (self.dialect.encoding.header.format_map(self._values), codes.data),
                *commands(dialect.waveform, self._values),
            )
            self._verify_waveform(points)
            self._points = points

    def output(self, on: bool) -> None:
        """Switch the output on or off, and read it back; retry switching off if the link breaks."""
        if on:
            self._expect_settings()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self.link.lock:
                    self.link.send(f"{self._output} {'ON' if on else 'OFF'}")
                    self._verify_output(on)
                    break
            except LinkError:
                if on or attempt == _ATTEMPTS:
                    raise
        self._on = on

    def trigger(self) -> None:
        """Play the waveform once; raise `LinkError` if the link broke since it was set up."""
        self._expect_settings()
        if not self._points:
            raise InstrumentError(f"{self.link} has no waveform to play; load one first.")
        self.link.send(self.dialect.trigger)

    def verify(self) -> None:
        """Read everything back, also the output and the waveform."""
        with self.link.lock:
            super().verify()
            self._verify_output(self._on)
            if self._points:
                self._verify_waveform(self._points)

    def close(self) -> None:
        """Switch the output off, and close the link even if that fails."""
        try:
            self.output(False)
        finally:
            self.link.close()

    def _encode(self, volts: NDArray[np.floating[Any]]) -> tuple[Array, float]:
        """Codes within the limits, and their extent in V."""
        if volts.ndim != 1 or volts.dtype.kind != "f":
            raise ShapeError(
                f"A waveform is (samples,) of floating point, not {volts.shape} of {volts.dtype}."
            )
        if not self.dialect.fewest_points <= len(volts) <= self.dialect.most_points:
            raise RangeError(
                f"The waveform has {len(volts)} samples; {self.dialect.name} takes "
                f"{self.dialect.fewest_points} to {self.dialect.most_points}."
            )
        converter, step_v = self._converter, self._converter.step_v
        low = converter.centre_v - converter.amplitude_v - step_v / 2
        high = converter.centre_v + converter.amplitude_v + step_v / 2
        if not (volts.min() >= low and volts.max() <= high):  # or NaN
            self.limits.check(volts, self._rate_hz, step_v=step_v / 2)
            raise LimitError(
                f"The waveform goes from {volts.min():.6g} to {volts.max():.6g} V, but the "
                f"converter from {low:.6g} to {high:.6g} V. Nothing was sent. Apply a larger "
                "amplitude, or scale the drive."
            )
        # The limits apply to what will be sent, after rounding.
        codes = converter.encode(volts, self._codes)
        # Volts rise with codes, so that the extremes suffice where the range alone is limited.
        extremes = np.array([codes.min(), codes.max()])
        sent = converter.decode(extremes if self.limits.range_alone else codes)
        self.limits.check(sent, self._rate_hz, step_v=step_v)
        extent_v = float(np.ptp(sent))
        if extent_v < self.dialect.least_extent_v:
            raise RangeError(
                f"The waveform varies by {extent_v:.3g} V; {self.dialect.name} plays nothing below "
                f"{self.dialect.least_extent_v:.3g} V. Nothing was sent."
            )
        return codes, extent_v

    @property
    def _output(self) -> str:
        return self.dialect.output.format(channel=self.channel)

    def _verify_output(self, on: bool) -> None:
        answer, state = self.link.ask(f"{self._output}?"), "ON" if on else "OFF"
        if not agrees(state, answer, 0.0):
            raise InstrumentError(
                f"{self.link}: the output was switched {state} but is {answer}. An overload may "
                "have switched it off; look at the instrument before you go on."
            )

    def _verify_waveform(self, points: int) -> None:
        self._verify(self.dialect.waveform, self._values)
        answer = self.link.ask(self.dialect.points_query.format_map(self._values))
        if not agrees(str(points), answer, 0.0):
            raise InstrumentError(
                f"{self.link}: the waveform has {answer} points; {points} were sent. Load it again."
            )


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
    """Encode in one pass, where NumPy takes five."""
    for sample in range(len(volts)):
        code = np.float64(volts[sample]) * scale + shift
        if rounded:
            code = np.rint(code)
        # Removes rounding errors of doubles alone: a waveform out of range was refused before.
        codes[sample] = min(max(code, lowest), highest)
