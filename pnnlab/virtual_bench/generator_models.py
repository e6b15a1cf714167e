"""Two makes of function generators, as far as a physical network needs them."""

import math
from collections.abc import Callable
from typing import ClassVar, final

import numpy as np

from pnnlab.virtual_bench.generators import Points, SimulatedGenerator, Waveform, commands, settle
from pnnlab.virtual_bench.instrument import (
    Command,
    keyword,
    number,
    read_keyword,
    string,
    switch,
    times,
)
from pnnlab.virtual_bench.messages import Parameters, ScpiError, read_number, read_string, short

LEAST_POINTS, MOST_POINTS = 8, 1_000_000
MOST_LETTERS = 80  # of a name
CODES = 2**15 - 1  # of the converter, either way
BUILT_IN = "EXP_RISE"

_MEMORY_FULL = 781, "Not enough memory to load new arb waveform; use DATA:VOLatile:CLEar"
_TRIGGERS = ("IMMediate", "EXTernal", "TIMer", "BUS")
_FUNCTIONS = ("SINusoid", "SQUare", "TRIangle", "RAMP", "PULSe", "ARB", "DC")
_RISE = 2 * (1 - np.exp(-5 * np.linspace(0, 1, 1000))) / (1 - np.exp(-5)) - 1


def _key(name: str) -> str:
    return name.upper().removeprefix("INT:\\BUILTIN\\").removesuffix(".ARB")


def _converted(points: Points) -> Waveform:
    rounded = np.round(points * CODES) / CODES
    return Waveform(rounded, float(rounded.min()), float(rounded.max()))


def _rates(generator: "Keysight33500", channel: int) -> tuple[float, float]:
    return 1e-6, 62.5e6 if generator.get("filter", channel) == "OFF" else 250e6


def _attribute(header: str, measure: Callable[[Points], float]) -> Command:
    def ask(generator: "Keysight33500", channel: int, parameters: Parameters) -> float:
        name = read_string(parameters[0]) if parameters else None
        return measure(generator.memory(channel, name).points)

    return Command(f"[SOURce#:]{header}", ask=ask, asks=(0, 1))


def _upload(header: str, kind: str, one: int) -> Command:  # `one` stands for 1
    def do(generator: "Keysight33500", channel: int, parameters: Parameters) -> None:
        name, *values = parameters
        if len(values) > 1 and isinstance(values[-1], bytes):
            raise ScpiError(-168)
        if isinstance(values[0], bytes):
            dtype = np.dtype(("<" if generator.get("byte order") == "SWAP" else ">") + kind)
            if len(values[0]) % dtype.itemsize:
                raise ScpiError(-161)
            points = np.frombuffer(values[0], dtype).astype(np.float64)
        else:
            points = np.array([read_number(value) for value in values])
        generator.store(channel, read_string(name), points / one)

    return Command(f"[SOURce#:]{header}", do, takes=(2, MOST_POINTS), block=True)


def _apply(function: str) -> Command:
    """Set a function, what follows it, and switch on; what is left out is DEFault."""

    def do(generator: "Keysight33500", channel: int, parameters: Parameters) -> None:
        word = short(function)
        names = ["rate" if word == "ARB" else "frequency", "amplitude", "offset"]
        given = [*parameters, "DEF", "DEF", "DEF"][:3]
        if word == "DC":  # has neither a frequency nor an amplitude
            names, given = names[2:], given[2:]
        generator.put("amplitude", generator.least_v, channel)
        generator.put("offset", 0.0, channel)
        for name, value in (("function", word), ("duty", "50"), *zip(names, given, strict=True)):
            _SETTERS[name].do(generator, channel, (value,))
        generator.put("burst", False, channel)
        generator.put("trigger source", "IMM", channel)
        generator.put("output", True, channel)

    return Command(f"[SOURce#:]APPLy:{function}", do, takes=(0, 3))


def _applied(generator: "Keysight33500", channel: int, _: Parameters) -> str:
    function = generator.get("function", channel)
    names = ("rate" if function == "ARB" else "frequency", "amplitude", "offset")
    values = (_SETTERS[name].ask(generator, channel, ()) for name in names)
    return f'"{function} {",".join(generator.decimal(float(value)) for value in values)}"'


@final
class Keysight33500(SimulatedGenerator):
    """A Keysight 33522B.

    Two channels, 16 bits, 250 MSa/s, one million points a channel, 10 Vpp into 50 Ω behind 50 Ω.

    The amplitude is that of the points as they are: the peak-to-peak value of the waveform that
    plays, not that of points from -1 to 1. Its greatest value shrinks with theirs.

    What is idealised: the filters (`pnnlab.systems` has the generator's as a part of the bench),
    rise times, the switching of attenuators; triggers and uploads take no time; a value out of
    range is refused, not set to the limit; no gate is connected. Refused: Vrms and dBm, edges of
    pulses, noise, modulation, sweeps, lists, trigger delays.

    Source: Keysight 33500 Series, Operating and Service Guide, the subsystems DATA, FUNCtion,
    VOLTage, BURSt, OUTPut, TRIGger; for the amplitude also the account of a user at
    https://community.keysight.com/thread/22573.
    """

    identity = "Agilent Technologies,33522B,MY00000001,4.00-1.19-2.00-52-00"
    memory_bytes = 4 * MOST_POINTS
    sign, notation = "+", "+.15E"
    least_v = 2e-3
    bus_sources = ("BUS",)
    clocks: ClassVar = {"IMM": "burst period", "TIM": "timer"}
    burst_phase = "burst phase"
    fastest_hz: ClassVar = {"RAMP": 2e5, "TRI": 2e5, "": 30e6}

    def _clear_state(self) -> None:
        self._arbs: dict[int, dict[str, Waveform]] = {}
        for channel in range(1, self.channels + 1):
            self._forget(channel)
        super()._clear_state()

    def memory(self, channel: int, name: str | None = None) -> Waveform:
        """Return a waveform in memory, by default the selected one."""
        key = _key(self.get("arb", channel) if name is None else name)
        if key not in self._arbs[channel]:
            raise ScpiError(785, "Specified arb waveform does not exist")
        return self._arbs[channel][key]

    def _room(self, channel: int) -> int:
        used = sum(len(waveform.points) for waveform in self._arbs[channel].values())
        return MOST_POINTS + len(_RISE) - used

    def _forget(self, channel: int, *_: object) -> None:
        self._arbs[channel] = {BUILT_IN: _converted(_RISE)}
        self.put("arb", BUILT_IN, channel)

    def _select(self, channel: int) -> None:
        self.memory(channel)
        self.put("arb", _key(self.get("arb", channel)), channel)
        self.settle(channel)

    def store(self, channel: int, name: str, points: Points) -> None:
        key = _key(name)
        if not 0 < len(key) <= MOST_LETTERS:
            raise ScpiError(-151)
        if key in self._arbs[channel]:
            raise ScpiError(786, "Specified arb waveform already exists")
        if len(points) < LEAST_POINTS or not (np.abs(points) <= 1).all():  # NaN is not either
            raise ScpiError(-222)
        if len(points) > self._room(channel):
            raise ScpiError(*_MEMORY_FULL)
        self._arbs[channel][key] = _converted(points)

    def _rate(self, channel: int) -> float:
        arbitrary = self.get("function", channel) == "ARB"
        return float(self.get("rate", channel)) if arbitrary else super()._rate(channel)

    def _catalog(self, channel: int, _: Parameters) -> str:
        return ",".join(f'"{name}"' for name in self._arbs[channel])

    def synced(self, channel: int) -> bool:
        """Tell whether Sync or Trig Out gives a pulse."""
        sync = self.get("sync") and self.get("sync source") == f"CH{channel}"
        return bool(sync or (self.get("trigger out") and self.waits(channel)))

    commands = (
        *commands("[SOURce#:]BURSt:STATe", (1, 1e8), (1e3, 30e6), "[SOURce#:]FUNCtion:PULSe", 100),
        *(_apply(function) for function in _FUNCTIONS),
        Command("[SOURce#:]APPLy", ask=_applied),
        keyword("FORMat:BORDer", "byte order", ("NORMal", "SWAPped")),
        Command("[SOURce#:]DATA:VOLatile:CLEar", do=_forget),
        Command("[SOURce#:]DATA:VOLatile:CATalog", ask=_catalog),
        Command("[SOURce#:]DATA:VOLatile:FREE", ask=lambda g, c, _: g._room(c)),
        _upload("DATA:ARBitrary", "f4", 1),
        _upload("DATA:ARBitrary:DAC", "i2", CODES),
        _attribute("DATA:ATTRibute:POINts", len),
        _attribute("DATA:ATTRibute:PTPeak", np.ptp),
        _attribute("DATA:ATTRibute:AVERage", np.mean),
        _attribute("FUNCtion:ARBitrary:POINts", len),
        string("[SOURce#:]FUNCtion:ARBitrary", "arb", BUILT_IN, MOST_LETTERS, then=_select),
        keyword("[SOURce#:]FUNCtion", "function", _FUNCTIONS, then=settle),
        number("[SOURce#:]FUNCtion:ARBitrary:SRATe", "rate", 40e3, _rates),
        keyword("[SOURce#:]FUNCtion:ARBitrary:FILTer", "filter", ("NORMal", "STEP", "OFF")),
        keyword("[SOURce#:]FUNCtion:ARBitrary:ADVance", "advance", ("SRATe",)),
        number("[SOURce#:]FUNCtion:SQUare:DCYCle", "duty", 50, (0.01, 99.99), "PCT", then=settle),
        number("[SOURce#:]PHASe", "phase", 0, (-360, 360), "DEG"),
        keyword("UNIT:ANGLe", "angle", ("DEGree",)),
        Command("[SOURce#:]PHASe:SYNChronize", do=lambda *_: None),
        switch("[SOURce#:]VOLTage:RANGe:AUTO", "range", True),
        number("[SOURce#:]BURSt:PHASe", "burst phase", 0, (-360, 360), "DEG"),
        keyword("[SOURce#:]BURSt:GATE:POLarity", "gate", ("NORMal", "INVerted")),
        number("[SOURce#:]BURSt:INTernal:PERiod", "burst period", 1e-2, (1e-6, 8e3), "S"),
        keyword("TRIGger#[:SEQuence]:SOURce", "trigger source", _TRIGGERS),
        keyword("TRIGger#[:SEQuence]:SLOPe", "trigger slope", ("POSitive", "NEGative")),
        number("TRIGger#[:SEQuence]:DELay", "trigger delay", 0, (0, 0), "S"),
        number("TRIGger#:COUNt", "trigger count", 1, (1, 1), whole=True),
        number("TRIGger#[:SEQuence]:TIMer", "timer", 1, (1e-6, 8e3), "S"),
        Command("TRIGger#[:SEQuence][:IMMediate]", do=SimulatedGenerator.play),
        Command("ABORt", do=lambda g, *_: g._endless.clear()),
        number("OUTPut#:LOAD", "load", 50, (1, 1e4), "OHM", infinite=True, then=settle),
        keyword("OUTPut#:MODE", "output mode", ("NORMal",)),
        switch("OUTPut:SYNC[:STATe]", "sync", True),
        keyword("OUTPut:SYNC:SOURce", "sync source", ("CH1", "CH2")),
        keyword("OUTPut#:SYNC:MODE", "sync mode", ("NORMal",)),
        keyword("OUTPut#:SYNC:POLarity", "sync polarity", ("NORMal",)),
        switch("OUTPut:TRIGger[:STATe]", "trigger out"),
        keyword("OUTPut:TRIGger:SLOPe", "trigger out slope", ("POSitive",)),
        keyword("OUTPut:TRIGger:SOURce", "trigger out source", ("CH1", "CH2")),
        switch("DISPlay", "display", True),
    )


_SETTERS = {one.setting[0]: one for one in reversed(Keysight33500.commands) if one.setting}


EDITED = 2, 131_072  # points of the edit memory, at least and at most
TOP = 16_382  # the greatest code
MEMORIES = ("EMEMory", "USER1", "USER2", "USER3", "USER4")
_RADIANS = times(lambda *_: math.pi / 180)
_SHAPES = ("SINusoid", "SQUare", "RAMP", "PULSe", "DC", *MEMORIES)


@final
class Afg3000(SimulatedGenerator):
    """A Tektronix AFG3022B.

    Two channels, 14 bits, 250 MS/s, 131 072 points of edit memory, 10 Vpp into 50 Ω behind 50 Ω.

    It knows no sample rate: the frequency says how often the whole memory is played in a second.
    The amplitude belongs to the whole range of codes, whatever range the points take.

    What is idealised and refused: as for `Keysight33500`; the user memories are forgotten with
    ``*RST``.

    Source: Tektronix AFG3000 Series, Programmer Manual, the groups DATA (TRACe), SOURce, OUTPut and
    TRIGger.
    """

    identity = "TEKTRONIX,AFG3022B,C000003,SCPI:99.0 FV:3.2.2"
    memory_bytes = 2 * EDITED[1]
    sign, notation = "-", ".12E"
    least_v = 20e-3
    bus_sources = ("TIM", "EXT")
    clocks: ClassVar = {"TIM": "timer"}
    burst_phase = "phase"
    fastest_hz: ClassVar = {"SIN": 25e6, "RAMP": 2.5e5, "": 12.5e6}

    def _clear_state(self) -> None:
        sine = np.sin(2 * np.pi * np.arange(1000) / 1000)
        self._memories: dict[str, Points] = {"EMEM": np.round((sine + 1) * (TOP / 2))}  # codes
        super()._clear_state()

    def memory(self, channel: int) -> Waveform:
        """Return the codes of the selected memory; from 250 MS/s on, points are left out."""
        return Waveform(self._codes(self.get("function", channel)) / (TOP / 2) - 1)

    def synced(self, channel: int) -> bool:
        """Tell whether it is the first channel: the trigger output always follows that one."""
        return channel == 1

    def _codes(self, name: str) -> Points:
        name = read_keyword(name, MEMORIES)
        if name not in self._memories:
            raise ScpiError(-221)
        return self._memories[name]

    def _upload(self, _: int, parameters: Parameters) -> None:
        name, data = read_keyword(parameters[0], MEMORIES[:1]), parameters[1]
        if not isinstance(data, bytes):
            raise ScpiError(-104)
        if len(data) % 2:
            raise ScpiError(-161)
        if not EDITED[0] <= len(data) // 2 <= EDITED[1]:
            raise ScpiError(-222)
        # Fourteen bits are wired to the converter; what is above them falls away.
        codes = np.frombuffer(data, ">u2") & np.uint16(0x3FFF)
        self._memories[name] = np.minimum(codes, TOP).astype(np.float64)

    def _download(self, _: int, parameters: Parameters) -> bytes:
        return self._codes(parameters[0]).astype(">u2").tobytes()

    def _copy(self, _: int, parameters: Parameters) -> None:
        target, source = parameters
        self._memories[read_keyword(target, MEMORIES)] = self._codes(source)

    commands = (
        *commands("[SOURce#:]BURSt[:STATe]", (5, 1e6), (1e6, 25e6), "[SOURce#:]PULSe", 50),
        Command("DATA|TRACe[:DATA]", _upload, _download, (2, 2), (1, 1), block=True),
        Command("DATA|TRACe:COPY", _copy, takes=(2, 2)),
        Command("DATA|TRACe:POINts", ask=lambda g, _, p: len(g._codes(p[0])), asks=(1, 1)),
        Command("DATA|TRACe:CATalog", ask=lambda g, *_: ",".join(map('"{}"'.format, g._memories))),
        keyword("[SOURce#:]FUNCtion[:SHAPe]", "function", _SHAPES, then=settle),
        number("[SOURce#:]PHASe[:ADJust]", "phase", 0, (-180, 180), "RAD", scale=_RADIANS),
        Command("[SOURce#:]PHASe:INITiate", do=lambda *_: None),
        number("[SOURce#:]BURSt:TDELay", "burst delay", 0, (0, 0), "S"),
        keyword("TRIGger[:SEQuence]:SOURce", "trigger source", ("TIMer", "EXTernal")),
        number("TRIGger[:SEQuence]:TIMer", "timer", 1e-3, (1e-6, 500), "S"),
        keyword("TRIGger[:SEQuence]:SLOPe", "trigger slope", ("POSitive", "NEGative")),
        Command("TRIGger[:SEQuence][:IMMediate]", do=SimulatedGenerator.trigger),
        number("OUTPut#:IMPedance", "load", 50, (1, 1e4), "OHM", infinite=True, then=settle),
        keyword("OUTPut:TRIGger:MODE", "trigger out", ("TRIGger", "SYNC")),
    )
