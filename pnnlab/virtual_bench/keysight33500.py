"""A Keysight 33522B, as far as a physical network needs it.

Two channels, 16 bits, 250 MSa/s, one million points a channel, 10 Vpp into 50 Ω behind 50 Ω.

Amplitude and offset are kept as they are into an open circuit; ``OUTPut:LOAD`` only changes what
they are called. The amplitude is that of the points as they are: the peak-to-peak value of the
waveform that plays, not that of points from -1 to 1. Its greatest value shrinks with theirs.

What is idealised: the filters (`pnnlab.systems` has the generator's as a part of the bench), rise
times, the switching of attenuators; triggers and uploads take no time; a value out of range is
refused, not set to the limit.

Source: Keysight 33500 Series, Operating and Service Guide, the subsystems DATA, FUNCtion, VOLTage,
BURSt, OUTPut, TRIGger; for the amplitude also the account of a user at
https://community.keysight.com/thread/22573.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, final

import numpy as np

from pnnlab.virtual_bench.commands import (
    INFINITY,
    Choice,
    Number,
    Switch,
    Text,
    nr1,
    nr3,
    read_number,
    read_string,
)
from pnnlab.virtual_bench.messages import ScpiError
from pnnlab.virtual_bench.simulated_generator import (
    OPEN_V,
    SHAPES,
    Emission,
    Points,
    SimulatedGenerator,
    checked,
    converted,
    levels,
    numbers,
)
from pnnlab.virtual_bench.table import Command, Entry, Setting, as_text

IDENTITY = "Agilent Technologies,33522B,MY00000001,4.00-1.19-2.00-52-00"
LEAST_POINTS, MOST_POINTS = 8, 1_000_000
MOST_LETTERS = 80  # of a name
BITS = 16
BUILT_IN = "EXP_RISE"
LEAST_V = 2e-3  # Vpp into an open circuit

_NO_SUCH_ARB = (785, "Specified arb waveform does not exist")
_ARB_EXISTS = (786, "Specified arb waveform already exists")
_MEMORY_FULL = (781, "Not enough memory to load new arb waveform; use DATA:VOLatile:CLEar")


@final
class Keysight33500(SimulatedGenerator):
    """The virtual 33522B."""

    def __init__(self, *, lock: "threading.RLock | None" = None) -> None:
        self._arbs: dict[int, dict[str, Points]] = {}
        self._measured: tuple[Points, float, float] | None = None
        super().__init__(IDENTITY, COMMANDS, channels=2, memory_bytes=4 * MOST_POINTS, lock=lock)

    def clear_state(self) -> None:
        """``*RST`` empties the volatile memory."""
        for channel in range(1, self.channels + 1):
            self.forget(channel)

    # --- arbitrary waveforms ---

    def arb(self, channel: int, name: str | None = None) -> Points:
        """A waveform in memory, by default the selected one."""
        name = self.get("arb", channel) if name is None else name
        if arb_key(name) == BUILT_IN:
            return _EXP_RISE
        try:
            return self._arbs[channel][arb_key(name)]
        except KeyError:
            raise ScpiError(*_NO_SUCH_ARB) from None

    def room(self, channel: int) -> int:
        """Points that still fit into a channel's memory."""
        return MOST_POINTS - sum(map(len, self._arbs[channel].values()))

    def store(self, channel: int, name: str, points: Points) -> None:
        """Take a waveform into memory."""
        if not 0 < len(name) <= MOST_LETTERS:
            raise ScpiError(-151)
        if arb_key(name) in self._arbs[channel] or arb_key(name) == BUILT_IN:
            raise ScpiError(*_ARB_EXISTS)
        if len(points) < LEAST_POINTS:
            raise ScpiError(-222)
        if len(points) > self.room(channel):
            raise ScpiError(*_MEMORY_FULL)
        if not (np.abs(points) <= 1).all():  # NaN is not either
            raise ScpiError(-222)
        self._arbs[channel][arb_key(name)] = converted(points, BITS)

    def names(self, channel: int) -> list[str]:
        """What is in a channel's memory."""
        return [BUILT_IN, *self._arbs[channel]]

    def forget(self, channel: int) -> None:
        """Empty a channel's memory; what played goes back to the built-in waveform."""
        self._arbs[channel] = {}
        self.put("arb", BUILT_IN, channel)

    # --- output ---

    def points(self, channel: int) -> Points:
        """One cycle of what the channel plays, between -1 and 1."""
        shape = self.get("function", channel)
        return self.arb(channel) if shape == "ARB" else SHAPES.get(shape, SHAPES["DC"])

    def extent(self, channel: int) -> tuple[float, float]:
        """Lowest and highest point of what the channel plays."""
        points = self.points(channel)
        if self._measured is None or self._measured[0] is not points:  # a million take a while
            self._measured = points, float(points.min()), float(points.max())
        return self._measured[1:]

    def emission(self, channel: int) -> Emission | None:
        """What the channel puts out."""
        if not self.get("output", channel):
            return None
        points, (low, high) = self.points(channel), self.extent(channel)
        gain = self.get("amplitude", channel) / (high - low) if high > low else 0.0
        volts = points * gain + self.get("offset", channel)
        if self.get("polarity", channel) == "INV":
            volts = 2 * self.get("offset", channel) - volts
        arbitrary = self.get("function", channel) == "ARB"
        rate = self.get("rate", channel) if arbitrary else self._shape_rate(channel)
        cycles = self.get("cycles", channel) if self.get("burst", channel) else INFINITY
        return Emission(volts, rate, float("inf") if cycles >= INFINITY else cycles)

    def _shape_rate(self, channel: int) -> float:
        return float(self.get("frequency", channel) * len(self.points(channel)))

    def check(self, channel: int) -> None:
        """Neither the amplitude nor its peak beyond what the output stage can do."""
        low, high = self.extent(channel)
        amplitude, offset = self.get("amplitude", channel), self.get("offset", channel)
        gain = amplitude / (high - low) if high > low else 0.0
        peak = max(abs(offset + gain * low), abs(offset + gain * high))
        if max(amplitude / _greatest(self, channel), peak / (OPEN_V / 2)) > 1 + 1e-6:
            raise ScpiError(-221)

    def waits(self, channel: int) -> bool:
        """Whether ``*TRG`` starts it."""
        triggered = self.get("burst", channel) and self.get("burst mode", channel) == "TRIG"
        return bool(triggered and self.get("trigger source", channel) == "BUS")

    def plays_freely(self, channel: int) -> bool:
        """Whether it plays without being asked."""
        clocked = self.get("trigger source", channel) in ("IMM", "TIM")
        return bool(self.get("output", channel) and (clocked or not self.get("burst", channel)))

    def synced(self, channel: int) -> bool:
        """Whether Sync or Trig Out gives a pulse."""
        sync = self.get("sync") and self.get("sync source") == f"CH{channel}"
        return bool(sync or (self.get("trigger out") and self.waits(channel)))


_EXP_RISE = converted(2 * (1 - np.exp(-5 * np.linspace(0, 1, 1000))) / (1 - np.exp(-5)) - 1, BITS)


def arb_key(name: str) -> str:
    """A name as the memory knows it: without folder, extension and difference of case."""
    return name.upper().removeprefix("INT:\\BUILTIN\\").removesuffix(".ARB")


# --- amplitude and offset ---


def _greatest(generator: Keysight33500, channel: int) -> float:
    """Greatest amplitude of what plays, Vpp into an open circuit."""
    low, high = generator.extent(channel)
    return OPEN_V * (high - low) / 2 if high > low else OPEN_V


def _amplitude_bounds(generator: Keysight33500, channel: int) -> tuple[float, float]:
    load = generator.load(channel)
    return LEAST_V * load, _greatest(generator, channel) * load


# --- uploads ---

_Parameters = tuple[str | bytes, ...]


def _upload(codes: bool, generator: Keysight33500, channel: int, parameters: _Parameters) -> None:
    name, *values = parameters
    order = "<" if generator.get("byte order") == "SWAP" else ">"
    if len(values) == 1 and isinstance(values[0], bytes):
        width, kind = (2, "i2") if codes else (4, "f4")
        if len(values[0]) % width:
            raise ScpiError(-161)
        points = np.frombuffer(values[0], order + kind).astype(np.float64)
    else:
        points = numbers(tuple(values), read_number)
    generator.store(channel, read_string(as_text(name)), points / 32767 if codes else points)


def _select(generator: Keysight33500, channel: int, parameters: _Parameters) -> None:
    name = read_string(as_text(parameters[0]))
    generator.arb(channel, name)
    before = generator.get("arb", channel)
    generator.put("arb", arb_key(name), channel)
    try:
        generator.check(channel)
    except ScpiError:
        generator.put("arb", before, channel)
        raise


def _attribute(measure: Callable[[Points], float], form: Callable[[float], str]) -> Any:
    def ask(generator: Keysight33500, channel: int, parameters: _Parameters) -> str:
        name = read_string(as_text(parameters[0])) if parameters else None
        return form(measure(generator.arb(channel, name)))

    return ask


def _rate_bounds(generator: Keysight33500, channel: int) -> tuple[float, float]:
    return 1e-6, 62.5e6 if generator.get("filter", channel) == "OFF" else 250e6


def _infinite(value: float) -> str:
    return nr3(value, 1) if value >= INFINITY else nr3(value)


COMMANDS: tuple[Entry, ...] = (
    Setting("FORMat:BORDer", "byte order", Choice(("NORMal", "SWAPped"))),
    Command("[SOURce#:]DATA:VOLatile:CLEar", do=lambda g, c, _: g.forget(c)),
    Command(
        "[SOURce#:]DATA:VOLatile:CATalog",
        ask=lambda g, c, _: ",".join(f'"{name}"' for name in g.names(c)),
    ),
    Command("[SOURce#:]DATA:VOLatile:FREE", ask=lambda g, c, _: nr1(g.room(c))),
    Command("[SOURce#:]DATA:ARBitrary", do=partial(_upload, False), takes=(2, MOST_POINTS)),
    Command("[SOURce#:]DATA:ARBitrary:DAC", do=partial(_upload, True), takes=(2, MOST_POINTS)),
    Command("[SOURce#:]DATA:ATTRibute:POINts", ask=_attribute(len, nr1), asks=(0, 1)),
    Command("[SOURce#:]DATA:ATTRibute:PTPeak", ask=_attribute(np.ptp, nr3), asks=(0, 1)),
    Command("[SOURce#:]DATA:ATTRibute:AVERage", ask=_attribute(np.mean, nr3), asks=(0, 1)),
    Command(
        "[SOURce#:]FUNCtion:ARBitrary",
        do=_select,
        ask=lambda g, c, _: f'"{g.get("arb", c)}"',
        takes=(1, 1),
    ),
    Command("[SOURce#:]FUNCtion:ARBitrary:POINts", ask=lambda g, c, _: nr1(len(g.arb(c)))),
    Setting(
        "[SOURce#:]FUNCtion",
        "function",
        Choice(("SINusoid", "SQUare", "TRIangle", "RAMP", "PULSe", "PRBS", "NOISe", "ARB", "DC")),
        checked,
    ),
    Setting("[SOURce#:]FUNCtion:ARBitrary:SRATe", "rate", Number(40e3, _rate_bounds, "SA/S")),
    Setting("[SOURce#:]FUNCtion:ARBitrary:FILTer", "filter", Choice(("NORMal", "STEP", "OFF"))),
    Setting("[SOURce#:]FUNCtion:ARBitrary:ADVance", "advance", Choice(("SRATe", "TRIGger"))),
    Setting("[SOURce#:]FUNCtion:SQUare:DCYCle", "duty", Number(50, (0.01, 99.99), "PCT")),
    Setting("[SOURce#:]FUNCtion:RAMP:SYMMetry", "symmetry", Number(100, (0, 100), "PCT")),
    Setting("[SOURce#:]FUNCtion:PULSe:HOLD", "pulse hold", Choice(("WIDTh", "DCYCle"))),
    Setting("[SOURce#:]FUNCtion:PULSe:PERiod", "pulse period", Number(1e-3, (33e-9, 1e6), "S")),
    Setting("[SOURce#:]FUNCtion:PULSe:WIDTh", "pulse width", Number(1e-4, (16e-9, 1e6), "S")),
    Setting("[SOURce#:]FUNCtion:PULSe:DCYCle", "pulse duty", Number(10, (0.01, 99.99), "PCT")),
    Setting(
        "[SOURce#:]FUNCtion:PULSe:TRANsition[:BOTH]", "edge time", Number(1e-8, (8.4e-9, 1e-6), "S")
    ),
    Setting("[SOURce#:]FREQuency[:CW]", "frequency", Number(1e3, (1e-6, 30e6), "HZ")),
    Setting("[SOURce#:]PHASe", "phase", Number(0, (-360, 360), "DEG")),
    Command("[SOURce#:]PHASe:SYNChronize", do=lambda *_: None),
    *levels("[SOURce#:]VOLTage[:LEVel][:IMMediate]", _amplitude_bounds),
    Setting("[SOURce#:]VOLTage:UNIT", "unit", Choice(("VPP", "VRMS", "DBM"))),
    Setting("[SOURce#:]VOLTage:RANGe:AUTO", "range", Switch(True)),
    Setting("[SOURce#:]BURSt:STATe", "burst", Switch()),
    Setting("[SOURce#:]BURSt:MODE", "burst mode", Choice(("TRIGgered", "GATed"))),
    Setting(
        "[SOURce#:]BURSt:NCYCles", "cycles", Number(1, (1, 1e8), form=_infinite, infinite=True)
    ),
    Setting("[SOURce#:]BURSt:PHASe", "burst phase", Number(0, (-360, 360), "DEG")),
    Setting("[SOURce#:]BURSt:INTernal:PERiod", "burst period", Number(1e-2, (1e-6, 8e3), "S")),
    Setting(
        "TRIGger#[:SEQuence]:SOURce",
        "trigger source",
        Choice(("IMMediate", "EXTernal", "TIMer", "BUS")),
    ),
    Setting("TRIGger#[:SEQuence]:SLOPe", "trigger slope", Choice(("POSitive", "NEGative"))),
    Setting("TRIGger#[:SEQuence]:DELay", "trigger delay", Number(0, (0, 1000), "S")),
    Setting("TRIGger#[:SEQuence]:TIMer", "trigger timer", Number(1, (1e-6, 8e3), "S")),
    Command("TRIGger#[:SEQuence][:IMMediate]", do=lambda g, c, _: g.play(c)),
    Setting("OUTPut#[:STATe]", "output", Switch()),
    Setting("OUTPut#:LOAD", "load", Number(50, (1, 1e4), "OHM", form=_infinite, infinite=True)),
    Setting("OUTPut#:POLarity", "polarity", Choice(("NORMal", "INVerted"))),
    Setting("OUTPut#:MODE", "output mode", Choice(("NORMal", "GATed"))),
    Setting("OUTPut:SYNC[:STATe]", "sync", Switch(True)),
    Setting("OUTPut:SYNC:SOURce", "sync source", Choice(("CH1", "CH2"))),
    Setting("OUTPut#:SYNC:MODE", "sync mode", Choice(("NORMal", "CARRier", "MARKer"))),
    Setting("OUTPut#:SYNC:POLarity", "sync polarity", Choice(("NORMal", "INVerted"))),
    Setting("OUTPut:TRIGger[:STATe]", "trigger out", Switch()),
    Setting("OUTPut:TRIGger:SLOPe", "trigger out slope", Choice(("POSitive", "NEGative"))),
    Setting("OUTPut:TRIGger:SOURce", "trigger out source", Choice(("CH1", "CH2"))),
    Command("SYSTem:BEEPer[:IMMediate]", do=lambda *_: None),
    Setting("DISPlay", "display", Switch(True)),
    Setting("DISPlay:TEXT", "display text", Text()),
    Command("DISPlay:TEXT:CLEar", do=lambda g, *_: g.put("display text", "")),
)
