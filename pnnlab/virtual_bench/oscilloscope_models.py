"""Two makes of oscilloscopes, as far as a physical network needs them."""

from typing import final

import numpy as np

from pnnlab.virtual_bench.instrument import Command, keyword, number, string, switch, times
from pnnlab.virtual_bench.messages import Message, Parameters, ScpiError, matches, short, split
from pnnlab.virtual_bench.oscilloscopes import AT_PROBE, SOURCES, Screen, SimulatedOscilloscope

MEMORY = 4_000_000
_DEPTHS = (100, MEMORY)
SHOWN_MOST = 62_500  # points of the record behind the screen
HIGH_RESOLUTION_BITS = 12
_POINTS = number("", "points", 1000, _DEPTHS)
_PER_DIVISION = times(lambda scope, channel: scope.probe(channel) / 8)


def _subsystem(root: str, headers: str) -> Command:
    def ask(scope: SimulatedOscilloscope, channel: int, _: Parameters) -> str:
        path = f":{short(root).replace('#', str(channel))}:"
        answers = scope.execute(Message(path + headers.replace(" ", "?;") + "?")).decode().strip()
        shown = zip(headers.split(), split(answers, ";"), strict=True)
        return path + ";".join(f"{header} {answer}" for header, answer in shown)

    return Command(root, ask=ask)


@final
class InfiniiVision(SimulatedOscilloscope):
    """A Keysight InfiniiVision DSO-X 3034T.

    Four channels of eight bits, 5 GSa/s, four million points; the screen's eight divisions span 199
    of the 256 codes.

    What is idealised: the record is taken the moment the trigger comes; transfers of fewer points
    than were acquired pick points evenly. Refused: 50 Ω inputs, bandwidth limits, peak detection,
    filters of the trigger, more than 1024 averages, finding the scales by itself.

    Source: Keysight InfiniiVision 3000T X-Series Oscilloscopes, Programmer's Guide: the root
    commands and the subsystems ACQuire, CHANnel, TIMebase, TRIGger, WAVeform; there also the
    special codes for holes and clipped points.
    """

    identity = "KEYSIGHT TECHNOLOGIES,DSO-X 3034T,MY00000002,07.50.2021102830"
    sign, block_digits = "+", 8
    codes_high, middle = 199, 128
    preamble = ("format", ("BYTE", "WORD", "", "", "ASC")), ("type", ("NORM", "", "AVER", "HRES"))

    def decimal(self, value: float, notation: str = "+.8E") -> str:
        """Write a number with three digits in its exponent."""
        mantissa, power = format(value, notation).split("E")
        return f"{mantissa}E{int(power):+04d}"

    def _clear_state(self) -> None:
        super()._clear_state()
        _POINTS.do(self, 1, ("DEF",))

    def _screen(self, channel: int = 1) -> Screen:
        width = self.get("width")
        points = round(min(MEMORY, max(_DEPTHS[0], width * 5e9)))
        reference = {"LEFT": 0.1, "CENT": 0.5, "RIGH": 0.9}[self.get("reference")]
        start, probe = self.get("position") - reference * width, self.probe(channel)
        centre, height = self.get("offset", channel) * probe, self.get("range", channel) * probe
        return Screen(centre, height, start, width, points)

    def _points(self) -> int:
        most: int = (self._screen() if self.capture is None else self.capture.screen).points
        shown = SHOWN_MOST if self.get("points mode") == "NORM" else MEMORY
        return min(most, shown, int(self.get("points")))

    def _reference(self) -> int:
        return self.middle * self._fine() if self.get("unsigned") else 0

    def _vertical(self) -> tuple[float, float]:
        return self._step_v() / self._fine(), self._acquired().screen.centre_v

    def _fine(self) -> int:
        return 256 if self.get("format") == "WORD" else 1

    def _data(self, *_: object) -> bytes:
        capture = self._acquired()
        if self.get("points mode") != "NORM" and self.armed:
            raise ScpiError(-221)
        words = self._codes(HIGH_RESOLUTION_BITS if self.get("type") != "NORM" else 8)
        if self.get("format") == "ASC":
            volts = (words / 256 - self.middle) * self._step_v() + capture.screen.centre_v
            volts = np.where(words <= 1, 9.9e37, volts)
            return ", ".join(self.decimal(value, "+.5E") for value in volts).encode()
        kind = "<u2" if self.get("byte order") == "LSBF" else ">u2"
        turned = 0 if self.get("unsigned") else 0x8000
        if self.get("format") == "BYTE":
            words, turned, kind = np.where(words == 1, 1, words >> 8), turned >> 8, "u1"
        return (words ^ turned).astype(kind).tobytes()

    def _digitize(self, *_: object) -> None:
        self.arm("SING")
        self._wait()

    def _event(self, name: str) -> int:
        happened = getattr(self, name)
        setattr(self, name, False)
        return int(happened)

    def _set_points(self, _: int, parameters: Parameters) -> None:
        if matches(parameters[0], "MAXimum"):
            self.put("points mode", "MAX")
        _POINTS.do(self, 1, parameters)

    commands = (
        *SimulatedOscilloscope.commands,
        Command("DIGitize", do=_digitize, takes=(0, 4)),
        Command("SINGle", do=lambda s, *_: s.arm("SING")),
        Command("AER", ask=lambda s, *_: s._event("armed_event")),
        Command("TER", ask=lambda s, *_: s._event("triggered_event")),
        Command("RSTate", ask=lambda s, *_: s.run_state),
        # Running, and waiting for the trigger.
        Command("OPERegister[:CONDition|EVENt]", ask=lambda s, *_: (8 | 32) * s.armed),
        Command("SYSTem:PRESet", do=SimulatedOscilloscope.reset),
        keyword("ACQuire:TYPE", "type", ("NORMal", "AVERage", "HRESolution")),
        keyword("ACQuire:MODE", "mode", ("RTIMe",)),
        number("ACQuire:COUNt", "averages", 8, (2, 1024), whole=True),
        Command("ACQuire:COMPlete", ask=lambda *_: "100"),
        Command("ACQuire:POINts[:ANALog]", ask=lambda s, *_: s._screen().points),
        Command("ACQuire:SRATe[:ANALog]", ask=SimulatedOscilloscope.rate),
        _subsystem("CHANnel#", "RANG OFFS COUP IMP DISP BWL INV LAB UNIT PROB PROB:SKEW STYP"),
        keyword("CHANnel#:IMPedance", "impedance", ("ONEMeg",)),
        switch("CHANnel#:BWLimit", "bandwidth", ever=False),
        string("CHANnel#:LABel", "label", most=32),
        keyword("CHANnel#:UNITs", "units", ("VOLT", "AMPere")),
        number("CHANnel#:PROBe", "probe", 1.0, (1e-3, 1e4)),
        number("CHANnel#:PROBe:SKEW", "skew", 0.0, (0.0, 0.0), "S"),
        keyword("CHANnel#:PROBe:STYPe", "signal type", ("SINGle", "DIFFerential")),
        number("CHANnel#:RANGe", "range", 40.0, (8e-3, 40.0), "V", scale=AT_PROBE),
        number("CHANnel#:SCALe", "range", 40.0, (8e-3, 40.0), "V", scale=_PER_DIVISION),
        number("CHANnel#:OFFSet", "offset", 0.0, (-40, 40), "V", scale=AT_PROBE),
        number("EXTernal:RANGe", "external range", 8.0, (1.6, 8.0), "V"),
        number("EXTernal:PROBe", "external probe", 1.0, (1.0, 1.0)),
        _subsystem("TIMebase", "MODE REF MAIN:RANG POS"),
        number("TIMebase[:MAIN]:RANGe", "width", 1e-3, (20e-9, 500.0), "S"),
        number("TIMebase:SCALe", "width", 1e-3, (20e-9, 500.0), "S", scale=times(lambda *_: 0.1)),
        number("TIMebase[:MAIN]:POSition", "position", 0.0, (-500, 500), "S"),
        keyword("TIMebase:REFerence", "reference", ("CENTer", "LEFT", "RIGHt")),
        keyword("TRIGger:SWEep", "sweep", ("AUTO", "NORMal")),
        Command("TRIGger:FORCe", do=SimulatedOscilloscope.trigger),
        keyword("TRIGger[:EDGE]:SOURce", "trigger source", (*SOURCES, "EXTernal")),
        number("TRIGger[:EDGE]:LEVel", "trigger level", 0.0, (-40, 40), "V", takes=(1, 2)),
        keyword("TRIGger[:EDGE]:SLOPe", "trigger slope", ("POSitive", "NEGative")),
        keyword("TRIGger[:EDGE]:COUPling", "trigger coupling", ("DC",)),
        number("TRIGger:HOLDoff", "holdoff", 4e-8, (4e-8, 10.0), "S"),
        keyword("WAVeform:BYTeorder", "byte order", ("MSBFirst", "LSBFirst")),
        switch("WAVeform:UNSigned", "unsigned", True),
        keyword("WAVeform:VIEW", "view", ("MAIN",)),
        keyword("WAVeform:POINts:MODE", "points mode", ("NORMal", "MAXimum", "RAW")),
        Command("WAVeform:POINts", _set_points, lambda s, *_: s._points(), takes=(1, 1)),
        Command("WAVeform:DATA", ask=_data),
        Command("WAVeform:TYPE", ask=lambda s, *_: s.get("type")),
        Command("WAVeform:COUNt", ask=lambda *_: 1),
    )


SHOWN = 1200  # points on the screen
WIDE, HIGH = 12, 8  # divisions
_MOST = {"BYTE": 250_000, "WORD": 125_000, "ASC": 15_625}  # points in one answer
_MEMORIES = {  # depths that there are, by how many channels share the memory
    1: (12_000, 120_000, 1_200_000, 12_000_000, 24_000_000),
    2: (6_000, 60_000, 600_000, 6_000_000, 12_000_000),
    4: (3_000, 30_000, 300_000, 3_000_000, 6_000_000),
}
_CHOICES = "AUTO", *sorted({str(depth) for some in _MEMORIES.values() for depth in some})


@final
class Ds1000z(SimulatedOscilloscope):
    """A Rigol DS1104Z.

    Four channels of eight bits, which share 1 GSa/s and a memory of a chosen depth over the twelve
    divisions of the screen; 25 codes a division. Nothing marks a missing point; a clipped one is
    code 0 or 255. It has no external trigger input: the pulse arrives at channel 4.

    What is idealised: as for `InfiniiVision`; the sample rate is the depth over the screen's width,
    not the next round number; the pulse triggers, but is not on the screen.

    Source: Rigol MSO1000Z/DS1000Z, Programming Guide: the root commands and the subsystems
    :ACQuire, :CHANnel, :TIMebase, :TRIGger, :WAVeform.
    """

    identity = "RIGOL TECHNOLOGIES,DS1104Z,DS1ZA000000004,00.04.04.SP4"
    sign, notation, block_digits = "-", "e", 9
    codes_high, middle = 25 * HIGH, 127
    trigger_input = "CHAN4"
    preamble = ("format", ("BYTE", "WORD", "ASC")), ("wave mode", ("NORM", "MAX", "RAW"))

    def _screen(self, channel: int = 1) -> Screen:
        probe = self.probe(channel)
        height = HIGH * self.get("scale", channel) * probe
        step = height / self.codes_high
        # The offset is a whole number of codes.
        centre = -round(self.get("offset", channel) * probe / step) * step
        width = WIDE * self.get("time scale")
        share, depths = self._memories()
        depth = depths[0] if self.get("depth") == "AUTO" else int(self.get("depth"))
        points = round(max(SHOWN, min(depth, width * 1e9 / share)))
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

    def _clear_state(self) -> None:
        super()._clear_state()
        for channel in (2, 3, 4):
            self.put("display", False, channel)

    def _memories(self) -> tuple[int, tuple[int, ...]]:
        on = sum(self.get("display", channel) for channel in (1, 2, 3, 4))
        share = 4 if on > 2 else max(on, 1)
        return share, _MEMORIES[share]

    def _set_depth(self, _: int) -> None:
        if self.run_state == "STOP":
            raise ScpiError(-221)
        if self.get("depth") not in ("AUTO", *map(str, self._memories()[1])):
            self.put("depth", "AUTO")
            raise ScpiError(-224)

    def _set_display(self) -> None:
        if self.get("depth") not in map(str, self._memories()[1]):
            self.put("depth", "AUTO")

    def _set_level(self, _: int) -> None:
        channel = int(self.get("trigger source")[-1])
        scale, offset = (self.get(name, channel) for name in ("scale", "offset"))
        if abs(self.get("trigger level") / self.probe(channel) + offset) > 5 * scale:
            raise ScpiError(-222)

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
        keyword("ACQuire:MDEPth", "depth", _CHOICES, then=_set_depth),
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
        keyword("TRIGger:EDGe:SOURce", "trigger source", SOURCES),
        keyword("TRIGger:EDGe:SLOPe", "trigger slope", ("POSitive", "NEGative")),
        number("TRIGger:EDGe:LEVel", "trigger level", 0.0, (-50, 50), "V", then=_set_level),
        keyword("TRIGger:COUPling", "trigger coupling", ("DC",)),
        number("TRIGger:HOLDoff", "holdoff", 1.6e-8, (1.6e-8, 10.0), "S"),
        keyword("WAVeform:MODE", "wave mode", ("NORMal", "MAXimum", "RAW")),
        number("WAVeform:STARt", "first", 1, (1, 24e6), whole=True),
        number("WAVeform:STOP", "last", SHOWN, (1, 24e6), whole=True),
        Command("WAVeform:POINts", ask=lambda s, *_: s._points()),
        Command("WAVeform:DATA", ask=_data, asks=(0, 1)),
    )
