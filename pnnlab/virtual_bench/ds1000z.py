"""A Rigol DS1104Z, as far as a physical network needs it.

Four channels of eight bits, 1 GSa/s, a memory of a chosen depth over the twelve divisions of the
screen; 25 codes a division. Nothing marks a missing point; a clipped one is code 0 or 255.

What is idealised: as for `infiniivision`; the sample rate is the depth over the screen's width,
not the next round number.

Source: Rigol MSO1000Z/DS1000Z, Programming Guide: the root commands and the subsystems :ACQuire,
:CHANnel, :TIMebase, :TRIGger, :WAVeform.
"""

from typing import final

import numpy as np

from pnnlab.virtual_bench.instrument import Command, keyword, number, switch
from pnnlab.virtual_bench.messages import ScpiError
from pnnlab.virtual_bench.oscilloscopes import AT_PROBE, SOURCES, Screen, SimulatedOscilloscope

FASTEST_HZ = 1e9
SHOWN = 1200  # points on the screen
WIDE, HIGH = 12, 8  # divisions
_MOST = {"BYTE": 250_000, "WORD": 125_000, "ASC": 15_625}  # points in one answer
_DEPTHS = ("AUTO", "12000", "120000", "1200000", "12000000")


@final
class Ds1000z(SimulatedOscilloscope):
    """The simulated DS1104Z."""

    identity = "RIGOL TECHNOLOGIES,DS1104Z,DS1ZA000000004,00.04.04.SP4"
    sign, notation, block_digits = "-", "e", 9
    codes_high, middle = 25 * HIGH, 127
    preamble = ("format", ("BYTE", "WORD", "ASC")), ("wave mode", ("NORM", "MAX", "RAW"))

    def _screen(self, channel: int = 1) -> Screen:
        probe = self.probe(channel)
        height = HIGH * self.get("scale", channel) * probe
        step = height / self.codes_high
        # The offset is a whole number of codes.
        centre = -round(self.get("offset", channel) * probe / step) * step
        width = WIDE * self.get("time scale")
        depth = 12_000 if self.get("depth") == "AUTO" else int(self.get("depth"))
        points = round(max(SHOWN, min(depth, width * FASTEST_HZ)))
        return Screen(centre, height, self.get("time offset") - width / 2, width, points)

    def _points(self) -> int:
        mode = self.get("wave mode")
        raw = mode == "RAW" or (mode == "MAX" and not self.armed)
        return self._acquired().screen.points if raw else SHOWN

    def _reference(self) -> int:
        return self.middle

    def _vertical(self) -> tuple[float, float]:
        return self._step_v(), round(-self._acquired().screen.centre_v / self._step_v())

    def _data(self, *_: object) -> bytes:
        if self.get("wave mode") == "RAW" and self.armed:
            raise ScpiError(-221)
        form, screen = self.get("format"), self._acquired().screen
        first, last = round(self.get("first")), round(self.get("last"))
        if not first <= last <= self._points():
            raise ScpiError(-222)
        if last - first + 1 > _MOST[form]:
            raise ScpiError(-223)
        octets = self._codes()[first - 1 : last] >> 8
        if form == "ASC":
            volts = (octets.astype(np.float64) - self.middle) * self._step_v() + screen.centre_v
            return ",".join(map(self.decimal, volts)).encode()
        return octets.astype("<u2" if form == "WORD" else "u1").tobytes()

    def _round_scale(self, channel: int) -> None:
        if self.get("vernier", channel):
            return
        # Without fine adjustment a scale is 1, 2 or 5 times a power of ten.
        probe = self.probe(channel)
        wanted = self.get("scale", channel) * probe
        steps = 10.0 ** np.floor(np.log10(wanted)) * np.array([1, 2, 5, 10])
        nearest = steps[np.argmin(np.abs(np.log(steps / wanted)))]
        self.put("scale", float(nearest) / probe, channel)

    def _set_depth(self, _: int) -> None:
        if self.run_state == "STOP":
            raise ScpiError(-221)

    def _set_sweep(self, _: int) -> None:
        if self.get("sweep") == "SING":
            self.arm("SING")

    def _single(self, *_: object) -> None:
        self.put("sweep", "SING")  # the guide: the same as :TRIGger:SWEep SINGle
        self.arm("SING")

    def _clear(self, *_: object) -> None:
        self.capture = None

    def _trigger_status(self, *_: object) -> str:
        if not self.armed:
            return "STOP"
        return "AUTO" if self.get("sweep") == "AUTO" else "WAIT"

    commands = (
        *SimulatedOscilloscope.commands,
        Command("SINGle", do=_single),
        Command("TFORce", do=SimulatedOscilloscope.trigger),
        Command("CLEar", do=_clear),
        keyword("ACQuire:MDEPth", "depth", _DEPTHS, then=_set_depth),
        keyword("ACQuire:TYPE", "type", ("NORMal", "AVERages")),
        number("ACQuire:AVERages", "averages", 2, (2, 1024), whole=True),
        Command("ACQuire:SRATe", ask=SimulatedOscilloscope.rate),
        keyword("CHANnel#:BWLimit", "bandwidth", ("OFF",)),
        switch("CHANnel#:VERNier", "vernier"),
        keyword("CHANnel#:UNITs", "units", ("VOLTage", "AMPere")),
        number("CHANnel#:PROBe", "probe", 10.0, (0.01, 1000.0)),
        number(
            "CHANnel#:SCALe", "scale", 0.1, (1e-3, 10.0), "V", scale=AT_PROBE, then=_round_scale
        ),
        number("CHANnel#:OFFSet", "offset", 0.0, (-100, 100), "V", scale=AT_PROBE),
        number("TIMebase[:MAIN]:SCALe", "time scale", 1e-6, (5e-9, 50.0), "S"),
        number("TIMebase[:MAIN]:OFFSet", "time offset", 0.0, (-500, 500), "S"),
        keyword("TRIGger:SWEep", "sweep", ("AUTO", "NORMal", "SINGle"), then=_set_sweep),
        Command("TRIGger:STATus", ask=_trigger_status),
        keyword("TRIGger:EDGe:SOURce", "trigger source", (*SOURCES, "EXT")),
        keyword("TRIGger:EDGe:SLOPe", "trigger slope", ("POSitive", "NEGative")),
        number("TRIGger:EDGe:LEVel", "trigger level", 0.0, (-50, 50), "V"),
        keyword("TRIGger:COUPling", "trigger coupling", ("DC",)),
        number("TRIGger:HOLDoff", "holdoff", 1.6e-8, (1.6e-8, 10.0), "S"),
        keyword("WAVeform:MODE", "wave mode", ("NORMal", "MAXimum", "RAW")),
        number("WAVeform:STARt", "first", 1, (1, 24e6), whole=True),
        number("WAVeform:STOP", "last", SHOWN, (1, 24e6), whole=True),
        Command("WAVeform:POINts", ask=lambda s, *_: s._points()),
        Command("WAVeform:DATA", ask=_data, asks=(0, 1)),
    )
