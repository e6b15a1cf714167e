"""A Tektronix AFG3022B, as far as a physical network needs it.

Two channels, 14 bits, 250 MS/s, 131 072 points of edit memory, 10 Vpp into 50 Ω behind 50 Ω.

It knows no sample rate: the frequency says how often the whole memory is played in a second. The
amplitude belongs to the whole range of codes, whatever range the points take.

What is idealised: as for `keysight33500`; the user memories are forgotten with ``*RST``.

Source: Tektronix AFG3000 Series, Programmer Manual, the groups DATA (TRACe), SOURce, OUTPut and
TRIGger.
"""

import threading
from typing import final

import numpy as np

from pnnlab.virtual_bench.commands import (
    INFINITY,
    Choice,
    Number,
    Switch,
    matches,
    read_number,
)
from pnnlab.virtual_bench.messages import ScpiError
from pnnlab.virtual_bench.simulated_generator import (
    OPEN_V,
    SHAPES,
    Emission,
    Points,
    SimulatedGenerator,
    checked,
    levels,
)
from pnnlab.virtual_bench.table import Command, Entry, Setting, as_text

IDENTITY = "TEKTRONIX,AFG3022B,C000003,SCPI:99.0 FV:3.2.2"
LEAST_POINTS, MOST_POINTS = 2, 131_072
TOP = 16_382  # the greatest code
FASTEST_HZ = 12.5e6  # of a waveform from memory; from 250 MS/s on, points are left out
LEAST_V = 20e-3  # Vpp into an open circuit
USER = ("USER1", "USER2", "USER3", "USER4")
MEMORIES = ("EMEMory", *USER)


@final
class Afg3000(SimulatedGenerator):
    """The virtual AFG3022B."""

    def __init__(self, *, lock: "threading.RLock | None" = None) -> None:
        self.memory: dict[str, Points] = {}
        super().__init__(IDENTITY, COMMANDS, channels=2, memory_bytes=2 * MOST_POINTS, lock=lock)

    def clear_state(self) -> None:
        """``*RST`` puts a sine into the edit memory."""
        sine = np.sin(2 * np.pi * np.arange(1000) / 1000)
        self.memory = {"EMEM": np.round((sine + 1) * (TOP / 2))}

    def codes(self, name: str) -> Points:
        """The codes in a memory."""
        if name not in self.memory:
            raise ScpiError(-221)
        return self.memory[name]

    def points(self, channel: int) -> Points:
        """One cycle of what the channel plays, between -1 and 1."""
        shape = self.get("function", channel)
        if shape in SHAPES:
            return SHAPES[shape]
        return np.asarray(self.codes(shape) / (TOP / 2) - 1)

    def emission(self, channel: int) -> Emission | None:
        """What the channel puts out."""
        if not self.get("output", channel):
            return None
        points = self.points(channel)
        half = self.get("amplitude", channel) / 2
        half = -half if self.get("polarity", channel) == "INV" else half
        volts = points * half + self.get("offset", channel)
        cycles = self.get("cycles", channel) if self.get("burst", channel) else INFINITY
        rate = self.get("frequency", channel) * len(points)
        return Emission(volts, rate, float("inf") if cycles >= INFINITY else cycles)

    def check(self, channel: int) -> None:
        """Neither too often nor beyond what the output stage can do."""
        self.points(channel)  # refused while the memory is empty
        arbitrary = self.get("function", channel) not in SHAPES
        if arbitrary and self.get("frequency", channel) > FASTEST_HZ:
            raise ScpiError(-221)
        half, offset = self.get("amplitude", channel) / 2, self.get("offset", channel)
        if half + abs(offset) > OPEN_V / 2 * (1 + 1e-9):
            raise ScpiError(-221)

    def waits(self, channel: int) -> bool:
        """Whether ``*TRG`` starts it, whatever else may."""
        return bool(self.get("burst", channel) and self.get("burst mode", channel) == "TRIG")

    def plays_freely(self, channel: int) -> bool:
        """Whether it plays without being asked."""
        clocked = self.get("trigger source") == "TIM"
        return bool(self.get("output", channel) and (clocked or not self.get("burst", channel)))

    def synced(self, channel: int) -> bool:
        """The trigger output follows the first channel, always."""
        return channel == 1

    def show_error(self, error: ScpiError) -> str:
        """How it writes an error."""
        return f'{error.code},"{error.text}"'


def _form(value: float) -> str:
    return f"{value:.12E}"


def _infinite(value: float) -> str:
    return "9.9E+37" if value >= INFINITY else _form(value)


def _amplitude_bounds(generator: Afg3000, channel: int) -> tuple[float, float]:
    load = generator.load(channel)
    return LEAST_V * load, OPEN_V * load


_Parameters = tuple[str | bytes, ...]


def _memory(parameter: str | bytes, *, edit: bool = False) -> str:
    for word in MEMORIES[:1] if edit else MEMORIES:
        if matches(as_text(parameter), word):
            return "EMEM" if word == MEMORIES[0] else word
    raise ScpiError(-224)


def _upload(generator: Afg3000, _: int, parameters: _Parameters) -> None:
    name, data = _memory(parameters[0], edit=True), parameters[1]
    if not isinstance(data, bytes):
        raise ScpiError(-104)
    if len(data) % 2:
        raise ScpiError(-161)
    if not LEAST_POINTS <= len(data) // 2 <= MOST_POINTS:
        raise ScpiError(-222)
    # Fourteen bits are wired to the converter; what is above them falls away.
    codes = np.frombuffer(data, ">u2") & np.uint16(0x3FFF)
    generator.memory[name] = np.minimum(codes, TOP).astype(np.float64)


def _download(generator: Afg3000, _: int, parameters: _Parameters) -> bytes:
    payload = generator.codes(_memory(parameters[0])).astype(">u2").tobytes()
    count = str(len(payload))
    return f"#{len(count)}{count}".encode() + payload


def _define(generator: Afg3000, _: int, parameters: _Parameters) -> None:
    name = _memory(parameters[0], edit=True)
    points = Number(1000, (LEAST_POINTS, MOST_POINTS)).read(
        as_text(parameters[1]) if len(parameters) > 1 else "DEF", generator, 1
    )
    generator.memory[name] = np.full(round(points), TOP / 2)


def _copy(generator: Afg3000, _: int, parameters: _Parameters) -> None:
    target, source = (_memory(parameter) for parameter in parameters)
    generator.memory[target] = generator.codes(source)


def _delete(generator: Afg3000, _: int, parameters: _Parameters) -> None:
    name = _memory(parameters[0])
    playing = [generator.get("function", channel) for channel in (1, 2)]
    if name == "EMEM" or name in playing or name not in generator.memory:
        raise ScpiError(-221)
    del generator.memory[name]


def _value(generator: Afg3000, _: int, parameters: _Parameters) -> str:
    codes = generator.codes(_memory(parameters[0]))
    point = read_number(as_text(parameters[1]))
    if not 1 <= point <= len(codes):
        raise ScpiError(-222)
    return str(round(codes[round(point) - 1]))


_SHAPES = ("SINusoid", "SQUare", "RAMP", "PULSe", "DC", *MEMORIES)

COMMANDS: tuple[Entry, ...] = (
    *(
        entry
        for root in ("DATA", "TRACe")
        for entry in (
            Command(f"{root}[:DATA]", _upload, _download, takes=(2, 2), asks=(1, 1)),
            Command(f"{root}:DATA:VALue", ask=_value, asks=(2, 2)),
            Command(f"{root}:DEFine", do=_define, takes=(1, 2)),
            Command(f"{root}:COPY", do=_copy, takes=(2, 2)),
            Command(f"{root}:DELete[:NAME]", do=_delete, takes=(1, 1)),
            Command(
                f"{root}:POINts",
                do=_define,
                ask=lambda g, _, p: str(len(g.codes(_memory(p[0])))),
                takes=(1, 2),
                asks=(1, 2),
            ),
            Command(
                f"{root}:CATalog",
                ask=lambda g, *_: ",".join(f'"{name}"' for name in g.memory),
            ),
        )
    ),
    Setting("[SOURce#:]FUNCtion[:SHAPe]", "function", Choice(_SHAPES), checked),
    Setting(
        "[SOURce#:]FREQuency[:CW]",
        "frequency",
        Number(1e6, (1e-6, 25e6), "HZ", _form),
        checked,
    ),
    *levels("[SOURce#:]VOLTage[:LEVel][:IMMediate]", _amplitude_bounds, _form),
    Setting("[SOURce#:]VOLTage:UNIT", "unit", Choice(("VPP", "VRMS", "DBM"))),
    Setting("[SOURce#:]PHASe[:ADJust]", "phase", Number(0, (-3.2, 3.2), form=_form)),
    Command("[SOURce#:]PHASe:INITiate", do=lambda *_: None),
    Setting("[SOURce#:]BURSt[:STATe]", "burst", Switch()),
    Setting("[SOURce#:]BURSt:MODE", "burst mode", Choice(("TRIGgered", "GATed"))),
    Setting(
        "[SOURce#:]BURSt:NCYCles", "cycles", Number(5, (1, 1e6), form=_infinite, infinite=True)
    ),
    Setting("[SOURce#:]BURSt:TDELay", "burst delay", Number(0, (0, 85), "S", _form)),
    Setting("TRIGger[:SEQuence]:SOURce", "trigger source", Choice(("TIMer", "EXTernal"))),
    Setting("TRIGger[:SEQuence]:TIMer", "timer", Number(1e-3, (1e-6, 500), "S", _form)),
    Setting("TRIGger[:SEQuence]:SLOPe", "trigger slope", Choice(("POSitive", "NEGative"))),
    Command("TRIGger[:SEQuence][:IMMediate]", do=lambda g, *_: g.trigger()),
    Setting("OUTPut#[:STATe]", "output", Switch()),
    Setting("OUTPut#:IMPedance", "load", Number(50, (1, 1e4), "OHM", _infinite, infinite=True)),
    Setting("OUTPut#:POLarity", "polarity", Choice(("NORMal", "INVerted"))),
    Setting("OUTPut:TRIGger:MODE", "trigger out", Choice(("TRIGger", "SYNC"))),
    Command("SYSTem:BEEPer[:IMMediate]", do=lambda *_: None),
)
