"""An arbitrary waveform generator that plays a waveform once for each trigger, within limits.

A waveform beyond them is refused, and never clipped.
"""

import math
import os
import secrets
import socket
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import psutil
from numpy.typing import NDArray

from pnnlab.compiling import compiled
from pnnlab.errors import InstrumentError, LimitError, LinkError, RangeError, ShapeError
from pnnlab.instruments.dialects import (
    KEYSIGHT_33500,
    Channel,
    Encoding,
    GeneratorDialect,
    Scratch,
    agrees,
    commands,
    number,
)
from pnnlab.instruments.link import Link
from pnnlab.instruments.shutdown import TripError

Array = NDArray[Any]

_ATTEMPTS = 3  # to switch off
_CLIENT, _LONGEST = "pnnlab ", 40  # what a client's text begins with, and characters of it
_AT_REST = 1e-3  # of the permitted range, either way
_ROUNDING = 1e-9  # of doubles, relative


@final
@dataclass(frozen=True)
class Limits:
    """Limits of a waveform.

    Attributes
    ----------
    low_v, high_v : float
        Lowest and highest voltage.
    slew_v_per_s : float
        Largest change from one sample to the next, and from the last to the first.
    duty : float
        Largest fraction of the samples that may be away from rest.
    power_w : float
        Largest mean power in the load.
    load_ohm : float
        The load.
    rest_v : float
        The voltage at rest.

    Raises
    ------
    RangeError
        If these limits make no sense, such as ``low_v >= high_v``.
    """

    low_v: float
    high_v: float
    slew_v_per_s: float = math.inf
    duty: float = 1.0
    power_w: float = math.inf
    load_ohm: float = math.inf
    rest_v: float = 0.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low_v < self.high_v < math.inf:
            raise RangeError(
                f"low_v is {self.low_v} and high_v {self.high_v}; give two voltages, the lower "
                "first."
            )
        if not self.low_v <= self.rest_v <= self.high_v:
            raise RangeError(f"rest_v is {self.rest_v}, outside [{self.low_v}, {self.high_v}].")
        if not 0 < self.duty <= 1:
            raise RangeError(f"duty is {self.duty}; a fraction lies in (0, 1].")
        for name in ("slew_v_per_s", "power_w", "load_ohm"):
            if not getattr(self, name) > 0:
                raise RangeError(f"{name} is {getattr(self, name)}, not above 0.")
        if math.isfinite(self.power_w) and math.isinf(self.load_ohm):
            raise RangeError(f"power_w is {self.power_w}; give the load_ohm that it is put into.")

    @property
    def range_alone(self) -> bool:
        """Whether nothing else is limited."""
        return self.duty == 1 and math.isinf(self.slew_v_per_s) and math.isinf(self.power_w)

    def check(self, volts: NDArray[np.floating[Any]], sample_rate_hz: float) -> None:
        """Raise `LimitError` unless a waveform, (samples,), V, is within the limits.

        Nothing beyond them is forgiven, nor is NaN. Between two triggers a generator rests at the
        first sample.
        """
        self.check_range(volts)
        if not math.isinf(self.slew_v_per_s):
            jump = float(max(np.abs(np.diff(volts)).max(initial=0), abs(volts[0] - volts[-1])))
            if jump * sample_rate_hz > self.slew_v_per_s * (1 + _ROUNDING):
                raise LimitError(
                    f"The waveform changes by {jump * sample_rate_hz:.6g} V/s; permitted are "
                    f"{self.slew_v_per_s:.6g} V/s. Nothing was sent. Smooth the drive, end it "
                    "where it begins, or lower its sample rate."
                )
        if self.duty < 1:
            away = np.abs(volts - self.rest_v) > _AT_REST * (self.high_v - self.low_v)
            duty = np.count_nonzero(away) / len(volts)
            if away[0]:
                raise LimitError(
                    f"The first sample is {float(volts[0]):.6g} V, where the generator stays "
                    f"between triggers, but with a duty of {self.duty} it must be at rest, "
                    f"{self.rest_v:.6g} V. Nothing was sent. Begin with rest."
                )
            if duty > self.duty:
                raise LimitError(
                    f"The waveform is away from rest for {duty:.4g} of its length; permitted are "
                    f"{self.duty:.4g}. Nothing was sent. Put longer rests between the shots."
                )
        if not math.isinf(self.power_w):
            mean_square = np.mean(np.square(volts, dtype=np.float64))
            power = max(mean_square, float(volts[0]) ** 2) / self.load_ohm
            if power > self.power_w:
                raise LimitError(
                    f"The waveform puts {power:.4g} W into {self.load_ohm:.6g} ohm; permitted are "
                    f"{self.power_w:.4g} W. Nothing was sent. Lower the drive, or let it rest "
                    "longer."
                )

    def check_range(self, volts: NDArray[np.floating[Any]]) -> None:
        """Raise `LimitError` unless all samples are within the range; see `check`."""
        if volts.ndim != 1 or len(volts) == 0:
            raise LimitError(f"A waveform is (samples,), not {volts.shape}; nothing was sent.")
        low, high = float(volts.min()), float(volts.max())
        slack = _ROUNDING * (self.high_v - self.low_v)
        if low >= self.low_v - slack and high <= self.high_v + slack:  # false of NaN too
            return
        if not (math.isfinite(low) and math.isfinite(high)):
            count = int(np.count_nonzero(~np.isfinite(volts)))
            raise LimitError(
                f"{count} of {len(volts)} samples are NaN or infinite; nothing was sent. Look for "
                "a division by zero, or a training step that diverged."
            )
        raise LimitError(
            f"The waveform goes from {low:.6g} to {high:.6g} V; permitted are {self.low_v:.6g} to "
            f"{self.high_v:.6g} V. Nothing was sent. Scale the drive."
        )


@final
class TakenError(InstrumentError):
    """Another client uses the instrument."""


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
        self._output = dialect.output.format(channel=channel)
        self._rate_hz = math.nan
        self._amplitude_v = math.nan  # which the highest code means
        self._sent: Array = np.empty(0)  # V, of the waveform that is loaded, or its extremes
        self._points = 0
        self._room = 0  # points that memory still takes
        self._uploads = 0
        self._name = f"P{secrets.token_hex(3).upper()}N"
        self._on = False
        self._claimed = False  # its screen bears the name of this client, or did
        self._codes = Scratch()
        # Short enough for a screen, and with all that another client needs to find this one.
        self._client = f"{_CLIENT}{os.getpid()} on {socket.gethostname()}"[:_LONGEST]

    def apply(self, sample_rate_hz: float, amplitude_v: float) -> None:
        """Switch the output off, send all settings, and read them back.

        The converter spans ``-+ amplitude_v`` into a high impedance; beyond the limits that is a
        `LimitError`, for then a wrong waveform could exceed them, too.
        """
        for name, value in ("sample_rate_hz", sample_rate_hz), ("amplitude_v", amplitude_v):
            if not 0 < value < math.inf:
                raise RangeError(f"{name} is {value}; give a finite number above 0.")
        try:
            self.limits.check_range(np.array([-amplitude_v, amplitude_v]))
        except LimitError as error:
            raise LimitError(
                f"With an amplitude of {amplitude_v} V the converter could exceed the limits, "
                f"{self.limits.low_v} to {self.limits.high_v} V. Choose a smaller amplitude; "
                "nothing was sent."
            ) from error
        with self.link.lock:
            # What is sent again after a failure must not undo what somebody did meanwhile.
            if self._claimed:
                self.claim()
            if self._on:
                self._check_output(True, self.link.ask(f"{self._output}?"))
            self._session = None
            self.output(False)
            self._points = 0
            self._room = self.dialect.most_points
            self._rate_hz = sample_rate_hz
            self._amplitude_v = amplitude_v
            self._claimed = True
            self.link.send(*commands([self.dialect.client], {"client": self._client}))
            least, span = self.dialect.least_extent_v, 2 * amplitude_v
            self._apply(rate=number(sample_rate_hz), span=number(span), extent=number(least))

    def load(self, volts: NDArray[np.floating[Any]]) -> None:
        """Check a waveform against the limits, then upload and select it, and `verify`.

        During the upload the output rests where it was; afterwards it rests at the first sample.
        `LimitError`: it exceeds the limits, and nothing was sent; or it would with the amplitude
        that the instrument has made of it, and it cannot be played.
        """
        self._expect_settings()
        codes, sent = self._encode(volts)
        dialect, points, last = self.dialect, len(codes), float(self._values["extent"])
        extent_v = float(np.ptp(sent)) * (1 - 5e-9)  # so that its nine digits never round it up
        full = self._room < points
        with self.link.lock:
            self._points = 0
            self._uploads += 1
            if dialect.make_room:
                last = dialect.least_extent_v if full else last
                self._room = (dialect.most_points if full else self._room) - points
            self._values = values = {
                **self._values,
                "extent": number(extent_v),
                "lesser": number(min(last, extent_v)),
                "frequency": number(self._rate_hz / points),
                "arb": f"{self._name}{self._uploads}",
            }
            before = (*(dialect.make_room if full else ()), *dialect.before_upload)
            self.link.send(
                *(command.format_map(values) for command in before),
                (dialect.encoding.header.format_map(values), codes.data),
                *commands(dialect.waveform[:-1], values),
            )
            # Not in one group: a waveform whose follower was refused must not be stretched to it.
            self.link.send(*commands(dialect.waveform[-1:], values))
            self._points, self._sent = points, sent
            try:
                self.verify()
            except BaseException:
                self._points = 0
                raise

    def output(self, on: bool) -> None:
        """Switch the output on or off, and read it back; retry switching off if the link breaks."""
        if on:
            self._expect_settings()
        else:
            self._on = False  # whatever becomes of it: it is no longer expected to be on
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self.link.lock:
                    self.link.send(f"{self._output} {'ON' if on else 'OFF'}")
                    self._check_output(on, self.link.ask(f"{self._output}?"))
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
        """Read back all that changes what the device gets, in one question where that can be.

        `InstrumentError`: a setting or the waveform is not as it was sent; `TripError`: the output
        was switched off; `TakenError`: another client has put its name on the screen; `LimitError`:
        the waveform exceeds the limits with the amplitude and the offset that are set.
        """
        self._expect_settings()
        dialect, values = self.dialect, self._values
        settings, asked = dialect.settings, [f"{dialect.client.header}?", f"{self._output}?"]
        if self._points:
            settings += dialect.waveform
            asked.append(dialect.points_query.format_map(values))
        with self.link.lock:
            answers = self._read_back(settings, *asked)
        client, output, *points = (answers[question] for question in asked)
        self._check_client(client)
        self._check_output(self._on, output)
        if not points:
            return
        if not agrees(str(self._points), points[0], 0.0):
            raise InstrumentError(
                f"{self.link}: the waveform has {points[0]} points; {self._points} were sent. "
                "Load it again."
            )
        amplitude_v, offset_v = (
            float(answers[f"{one.header.format_map(values)}?"])
            for one in (dialect.amplitude, dialect.offset)
        )
        scale = amplitude_v / float(dialect.amplitude.value.format_map(values))
        if scale > 1 or offset_v:
            self.limits.check(self._sent * scale + offset_v, self._rate_hz)

    def claim(self) -> None:
        """Raise `TakenError` if another client uses the generator, as far as its screen tells."""
        self._check_client(self.link.ask(f"{self.dialect.client.header}?"))

    def close(self) -> None:
        """Switch the output off, take the name off the screen, and close the link in any case."""
        with self.link.lock:  # no other thread may switch it on in between
            try:
                self.output(False)
                if self._session is not None:
                    self.link.send(f'{self.dialect.client.header} ""')
            finally:
                self.link.close()

    def _encode(self, volts: NDArray[np.floating[Any]]) -> tuple[Array, Array]:
        """Codes within the limits, and the volts they mean; only the extremes if those suffice."""
        if volts.ndim != 1 or volts.dtype.kind != "f":
            raise ShapeError(
                f"A waveform is (samples,) of floating point, not {volts.shape} of {volts.dtype}."
            )
        if not self.dialect.fewest_points <= len(volts) <= self.dialect.most_points:
            raise RangeError(
                f"The waveform has {len(volts)} samples; {self.dialect.name} takes "
                f"{self.dialect.fewest_points} to {self.dialect.most_points}."
            )
        encoding, amplitude_v = self.dialect.encoding, self._amplitude_v
        most = amplitude_v * (1 + 0.5 / encoding.half)
        if not (volts.min() >= -most and volts.max() <= most):  # or NaN
            self.limits.check(volts, self._rate_hz)
            raise LimitError(
                f"The waveform goes from {volts.min():.6g} to {volts.max():.6g} V, but the "
                f"converter from {-most:.6g} to {most:.6g} V. Nothing was sent. Apply a larger "
                "amplitude, or scale the drive."
            )
        # The limits apply to what will come out, after rounding.
        codes = encode(encoding, amplitude_v, volts, self._codes)
        # Volts rise with codes, so that the extremes suffice where the range alone is limited.
        extremes = np.array([codes.min(), codes.max()])
        sent = decode(encoding, amplitude_v, extremes if self.limits.range_alone else codes)
        self.limits.check(sent, self._rate_hz)
        if np.ptp(sent) < self.dialect.least_extent_v:
            raise RangeError(
                f"The waveform varies by {np.ptp(sent):.3g} V; {self.dialect.name} plays nothing "
                f"below {self.dialect.least_extent_v:.3g} V. Nothing was sent."
            )
        return codes, sent

    def _check_output(self, on: bool, answer: str) -> None:
        state = "ON" if on else "OFF"
        if not agrees(state, answer, 0.0):
            raise (TripError if on else InstrumentError)(
                f"{self.link}: the output was switched {state} but is {answer}. An overload may "
                "have switched it off, or somebody; look at the instrument before you go on."
            )

    def _check_client(self, text: str) -> None:
        """Raise `TakenError` if this is the name of another client that may still be there."""
        text = text.strip().strip('"')
        if text == self._client or not text.startswith(_CLIENT):
            return
        process, _, host = text.removeprefix(_CLIENT).partition(" on ")
        here = self._client.endswith(f" on {host}")
        if here and process.isdigit() and not psutil.pid_exists(int(process)):
            return
        raise TakenError(
            f"{self.link} is used by {text.removeprefix(_CLIENT)} (process and computer). Close "
            "the bench there; if that client is gone, open this one with take_over=True."
        )


def encode(
    encoding: Encoding, amplitude_v: float, volts: NDArray[np.floating[Any]], scratch: Scratch
) -> Array:
    """Encode volts within ``-+ amplitude_v`` by the nearest steps; may lie in ``scratch``."""
    _, dtype, lowest, highest, half = encoding
    codes = scratch.array(len(volts), np.dtype(dtype).newbyteorder("="))
    middle = (highest + lowest) / 2
    _encode(volts, half / amplitude_v, half, (highest - middle) / half, middle, codes)
    return codes.astype(dtype, copy=False)


def decode(encoding: Encoding, amplitude_v: float, codes: Array) -> Array:
    """Voltages of codes, (samples,), float64, as the converter rounds them."""
    _, _, lowest, highest, half = encoding
    middle = (highest + lowest) / 2
    steps = np.rint((codes.astype(np.float64) - middle) * (half / (highest - middle)))
    volts: Array = steps * (amplitude_v / half)
    return volts


@compiled()
def _encode(
    volts: Array, scale: float, half: int, unit: float, middle: float, codes: Array
) -> None:
    """Encode in one pass, where NumPy takes five."""
    for sample in range(len(volts)):
        step = np.rint(np.float64(volts[sample]) * scale)
        # Removes rounding errors of doubles alone: a waveform out of range was refused before.
        codes[sample] = min(max(step, -half), half) * unit + middle
