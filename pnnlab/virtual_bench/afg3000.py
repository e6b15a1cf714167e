"""A Tektronix AFG3022B, as far as a physical network needs it.

Two channels, 14 bits, 250 MS/s, 131 072 points of edit memory, 10 Vpp into 50 Ω behind 50 Ω.

It knows no sample rate: the frequency says how often the whole memory is played in a second. The
amplitude belongs to the whole range of codes, whatever range the points take.

What is idealised and refused: as for `keysight33500`; the user memories are forgotten with
``*RST``.

Source: Tektronix AFG3000 Series, Programmer Manual, the groups DATA (TRACe), SOURce, OUTPut and
TRIGger.
"""

import math
from typing import ClassVar, final

import numpy as np

from pnnlab.virtual_bench.generators import Points, SimulatedGenerator, Waveform, commands, settle
from pnnlab.virtual_bench.instrument import Command, keyword, number, read_keyword, times
from pnnlab.virtual_bench.messages import Parameters, ScpiError

LEAST_POINTS, MOST_POINTS = 2, 131_072
TOP = 16_382  # the greatest code
MEMORIES = ("EMEMory", "USER1", "USER2", "USER3", "USER4")
_RADIANS = times(lambda *_: math.pi / 180)
_SHAPES = ("SINusoid", "SQUare", "RAMP", "PULSe", "DC", *MEMORIES)


@final
class Afg3000(SimulatedGenerator):
    """The simulated AFG3022B."""

    identity = "TEKTRONIX,AFG3022B,C000003,SCPI:99.0 FV:3.2.2"
    memory_bytes = 2 * MOST_POINTS
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
        if not LEAST_POINTS <= len(data) // 2 <= MOST_POINTS:
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
