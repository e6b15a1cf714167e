"""A Keysight InfiniiVision DSO-X 3034T, as far as a physical network needs it.

Four channels of eight bits, 5 GSa/s, four million points; the screen's eight divisions span 199
of the 256 codes.

What is idealised: the record is taken the moment the trigger comes; transfers of fewer points than
were acquired pick points evenly; input impedances do not load the device; of the acquisition
types, averages and peak detection are not there.

Source: Keysight InfiniiVision 3000T X-Series Oscilloscopes, Programmer's Guide: the root commands
and the subsystems ACQuire, CHANnel, TIMebase, TRIGger, WAVeform; there also the special codes for
holes and clipped points.
"""

from typing import final

import numpy as np

from pnnlab.virtual_bench.commands import Command, Keyword, Number, Parameters, Switch, Text
from pnnlab.virtual_bench.messages import Message, ScpiError, matches, short, split
from pnnlab.virtual_bench.oscilloscopes import SOURCES, Screen, SimulatedOscilloscope, per_probe

FASTEST_HZ = 5e9
MEMORY = 4_000_000
_RATES, _DEPTHS = (1.0, FASTEST_HZ), (100, MEMORY)
SHOWN_MOST = 62_500  # points of the record behind the screen
HIGH_RESOLUTION_BITS = 12
_POINTS = Number("", "points", 1000, _DEPTHS)
_EDGES = ("POSitive", "NEGative", "EITHer", "ALTernate")


def _per_division(scope: SimulatedOscilloscope, channel: int) -> float:
    return per_probe(scope, channel) / 8


def _subsystem(root: str, headers: str) -> Command:
    """A query of a whole subsystem: what its settings are, as they would be sent."""

    def ask(scope: SimulatedOscilloscope, channel: int, _: Parameters) -> str:
        path = f":{short(root).replace('#', str(channel))}:"
        answers = scope.execute(Message(path + headers.replace(" ", "?;") + "?")).decode().strip()
        shown = zip(headers.split(), split(answers, ";"), strict=True)
        return path + ";".join(f"{header} {answer}" for header, answer in shown)

    return Command(root, ask=ask)


@final
class InfiniiVision(SimulatedOscilloscope):
    """The simulated DSO-X 3034T."""

    identity = "KEYSIGHT TECHNOLOGIES,DSO-X 3034T,MY00000002,07.50.2021102830"
    sign, block_digits = "+", 8
    codes_high, middle = 199, 128

    def decimal(self, value: float, number: str = "+.8E") -> str:
        """Write a number with three digits in its exponent."""
        mantissa, power = format(value, number).split("E")
        return f"{mantissa}E{int(power):+04d}"

    def clear_state(self) -> None:
        """Forget the record, and transfer a thousand points."""
        super().clear_state()
        self.put("points", _POINTS.initial)

    def screen(self, channel: int = 1) -> Screen:
        """Return the screen as it is set now."""
        width, points = self.get("width"), round(self.get("depth"))
        if self.get("digitizer"):
            width = points / self.get("rate")
        else:
            points = round(min(MEMORY, max(_DEPTHS[0], width * FASTEST_HZ)))
        reference = {"LEFT": 0.1, "CENT": 0.5, "RIGH": 0.9}[self.get("reference")]
        start, probe = self.get("position") - reference * width, per_probe(self, channel)
        centre, height = self.get("offset", channel) * probe, self.get("range", channel) * probe
        return Screen(centre, height, start, width, points)

    def points(self) -> int:
        """Return how many points a transfer gives."""
        most: int = (self.screen() if self.capture is None else self.capture.screen).points
        shown = SHOWN_MOST if self.get("points mode") == "NORM" else MEMORY
        return min(most, shown, int(self.get("points")))

    def _form(self) -> tuple[int, int]:
        form = {"BYTE": 0, "WORD": 1, "ASC": 4}[self.get("format")]
        return form, {"NORM": 0, "HRES": 3}[self.get("type")]

    def _vertical(self) -> tuple[float, float]:
        return self.step_v() / self._fine(), self.acquired().screen.centre_v

    def _reference(self) -> int:
        return self.middle * self._fine() if self.get("unsigned") else 0

    def _fine(self) -> int:
        return 256 if self.get("format") == "WORD" else 1

    def _data(self, *_: object) -> bytes:
        capture = self.acquired()
        if self.get("points mode") != "NORM" and self.armed:
            raise ScpiError(-221)
        words = self.codes(HIGH_RESOLUTION_BITS if self.get("type") == "HRES" else 8)
        if self.get("format") == "ASC":
            volts = (words / 256 - self.middle) * self.step_v() + capture.screen.centre_v
            volts = np.where(words <= 1, 9.9e37, volts)
            return ", ".join(self.decimal(value, "+.5E") for value in volts).encode()
        kind = "<u2" if self.get("byte order") == "LSBF" else ">u2"
        turned = 0 if self.get("unsigned") else 0x8000
        if self.get("format") == "BYTE":
            words, turned, kind = np.where(words == 1, 1, words >> 8), turned >> 8, "u1"
        return (words ^ turned).astype(kind).tobytes()

    def _digitize(self, *_: object) -> None:
        self.capture = None
        self.arm("SING")
        self.wait()

    def _event(self, name: str) -> str:
        happened = getattr(self, name)
        setattr(self, name, False)
        return self.whole(happened)

    def _condition(self, *_: object) -> str:
        return self.whole((8 | 32) * self.armed)  # running, waiting for the trigger

    def _depth(self, _: int) -> str:
        return self.whole(self.screen().points)

    def _set_points(self, _: int, parameters: Parameters) -> None:
        if matches(parameters[0], "MAXimum"):
            self.put("points mode", "MAX")
        self.put("points", _POINTS.read(parameters[0], self, 1))

    def _digitizes(self, *_: object) -> None:
        if not self.get("digitizer"):
            raise ScpiError(-221)
        divisor = round(FASTEST_HZ / self.get("rate"))
        self.put("rate", FASTEST_HZ / divisor)

    commands = (
        *SimulatedOscilloscope.commands,
        Command("DIGitize", do=_digitize, takes=(0, 4)),
        Command("SINGle", do=lambda s, *_: s.arm("SING")),
        Command("AER", ask=lambda s, *_: s._event("armed_event")),
        Command("TER", ask=lambda s, *_: s._event("triggered_event")),
        Command("RSTate", ask=lambda s, *_: s.run_state),
        Command("OPERegister[:CONDition|EVENt]", ask=_condition),
        Command("AUToscale", do=lambda s, *_: s.arm("RUN"), takes=(0, 4)),
        Command("SYSTem:PRESet", do=SimulatedOscilloscope.reset),
        Keyword("ACQuire:TYPE", "type", ("NORMal", "HRESolution")),
        Keyword("ACQuire:MODE", "mode", ("RTIMe",)),
        Number("ACQuire:COUNt", "count", 8, (2, 65536), whole=True),
        Switch("ACQuire:DIGitizer", "digitizer"),
        Command("ACQuire:COMPlete", ask=lambda *_: "100"),
        Number("ACQuire:POINts[:ANALog]", "depth", MEMORY, _DEPTHS, then=_digitizes, shown=_depth),
        Number(
            "ACQuire:SRATe[:ANALog]",
            "rate",
            5e9,
            _RATES,
            "HZ",
            then=_digitizes,
            shown=SimulatedOscilloscope.rate,
        ),
        _subsystem("CHANnel#", "RANG OFFS COUP IMP DISP BWL INV LAB UNIT PROB PROB:SKEW STYP"),
        Keyword("CHANnel#:IMPedance", "impedance", ("ONEMeg", "FIFTy")),
        Switch("CHANnel#:BWLimit", "bandwidth"),
        Text("CHANnel#:LABel", "label", most=32),
        Keyword("CHANnel#:UNITs", "units", ("VOLT", "AMPere")),
        Number("CHANnel#:PROBe", "probe", 1.0, (1e-3, 1e4)),
        Number("CHANnel#:PROBe:SKEW", "skew", 0.0, (-1e-7, 1e-7), "S"),
        Keyword("CHANnel#:PROBe:STYPe", "signal type", ("SINGle", "DIFFerential")),
        Number("CHANnel#:RANGe", "range", 40.0, (8e-3, 40.0), "V", factor=per_probe),
        Number("CHANnel#:SCALe", "range", 40.0, (8e-3, 40.0), "V", factor=_per_division),
        Number("CHANnel#:OFFSet", "offset", 0.0, (-40, 40), "V", factor=per_probe),
        Number("EXTernal:RANGe", "external range", 8.0, (1.6, 8.0), "V"),
        Number("EXTernal:PROBe", "external probe", 1.0, (1e-3, 1e4)),
        _subsystem("TIMebase", "MODE REF MAIN:RANG POS"),
        Number("TIMebase[:MAIN]:RANGe", "width", 1e-3, (20e-9, 500.0), "S"),
        Number("TIMebase:SCALe", "width", 1e-3, (20e-9, 500.0), "S", factor=lambda *_: 0.1),
        Number("TIMebase[:MAIN]:POSition", "position", 0.0, (-500, 500), "S"),
        Keyword("TIMebase:REFerence", "reference", ("CENTer", "LEFT", "RIGHt")),
        Keyword("TRIGger:SWEep", "sweep", ("AUTO", "NORMal")),
        Command("TRIGger:FORCe", do=SimulatedOscilloscope.trigger),
        Keyword("TRIGger[:EDGE]:SOURce", "trigger source", (*SOURCES, "EXTernal", "LINE")),
        Number("TRIGger[:EDGE]:LEVel", "trigger level", 0.0, (-40, 40), "V", takes=(1, 2)),
        Keyword("TRIGger[:EDGE]:SLOPe", "trigger slope", _EDGES),
        Keyword("TRIGger[:EDGE]:COUPling", "trigger coupling", ("DC", "AC", "LFReject")),
        Number("TRIGger:HOLDoff", "holdoff", 4e-8, (4e-8, 10.0), "S"),
        Switch("TRIGger:HFReject", "high frequency reject"),
        Keyword("WAVeform:BYTeorder", "byte order", ("MSBFirst", "LSBFirst")),
        Switch("WAVeform:UNSigned", "unsigned", True),
        Keyword("WAVeform:VIEW", "view", ("MAIN",)),
        Keyword("WAVeform:POINts:MODE", "points mode", ("NORMal", "MAXimum", "RAW")),
        Command("WAVeform:POINts", _set_points, lambda s, *_: s.whole(s.points()), takes=(1, 1)),
        Command("WAVeform:DATA", ask=_data),
        Command("WAVeform:TYPE", ask=lambda s, *_: s.get("type")),
        Command("WAVeform:COUNt", ask=lambda s, *_: s.whole(1)),
    )
