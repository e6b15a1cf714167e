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

import threading
from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.virtual_bench.commands import (
    Choice,
    Number,
    Switch,
    Text,
    matches,
    nr1,
    nr3,
    read_number,
)
from pnnlab.virtual_bench.messages import ScpiError
from pnnlab.virtual_bench.record import Screen
from pnnlab.virtual_bench.simulated_oscilloscope import SimulatedOscilloscope
from pnnlab.virtual_bench.table import Command, Entry, Setting, as_text

IDENTITY = "KEYSIGHT TECHNOLOGIES,DSO-X 3034T,MY00000002,07.50.2021102830"
FASTEST_HZ = 5e9
LEAST_POINTS, MEMORY = 100, 4_000_000
SHOWN_MOST = 62_500  # points of the record behind the screen
CODES = 199  # of the converter, over the eight divisions
MIDDLE = 128
HIGH_RESOLUTION_BITS = 12


@final
class InfiniiVision(SimulatedOscilloscope):
    """The virtual DSO-X 3034T.

    Parameters
    ----------
    noise : bool
        Whether its readings are noisy and its trigger jitters.
    seed : int
        Of both.
    """

    def __init__(
        self, *, noise: bool = True, seed: int = 0, lock: "threading.RLock | None" = None
    ) -> None:
        super().__init__(IDENTITY, COMMANDS, channels=4, noise=noise, seed=seed, lock=lock)

    def screen(self, channel: int = 1) -> Screen:
        """The screen as it is set now."""
        width, points = self.get("width"), self.get("depth")
        if self.get("digitizer"):
            width = points / self.get("rate")
        else:
            points = round(min(MEMORY, max(LEAST_POINTS, width * FASTEST_HZ)))
        reference = {"LEFT": 0.1, "CENT": 0.5, "RIGH": 0.9}[self.get("reference")]
        start = self.get("position") - reference * width
        height = self.get("range", channel)
        return Screen(self.get("offset", channel), height, start, width, points)

    def clear_state(self) -> None:
        """``*RST`` forgets the record; what commands of their own set is as it was."""
        super().clear_state()
        self.put("trigger level", 0.0)
        self.put("points", 1000)
        self.put("depth", MEMORY)
        self.put("rate", FASTEST_HZ)

    def steps(self) -> tuple[float, int]:
        """Volts a code, and the code at the centre."""
        return self.acquired().screen.height_v / CODES, MIDDLE

    def points(self) -> int:
        """How many points a transfer gives."""
        most: int = (self.screen() if self.capture is None else self.capture.screen).points
        if self.get("points mode") == "NORM":
            most = min(most, SHOWN_MOST)
        return min(most, int(self.get("points")))

    def rate(self) -> float:
        """Points acquired a second."""
        return self.screen().points / self.screen().width_s


def _number(value: float) -> str:
    return nr3(value, 8, 3)


def _per_probe(low: float, high: float) -> Any:
    """Bounds at the connector, called by the probe's factor."""

    def bounds(scope: InfiniiVision, channel: int) -> tuple[float, float]:
        probe = scope.get("probe", channel)
        return low * probe, high * probe

    return bounds


def _probed(scope: InfiniiVision, channel: int, before: Any) -> None:
    """Another probe factor: what was set in volts stays what it is at the connector."""
    ratio = scope.get("probe", channel) / before
    for name in ("range", "offset"):
        scope.put(name, scope.get(name, channel) * ratio, channel)


def _scaled(pattern: str, name: str, number: Number, divisions: int) -> Command:
    """A setting for all divisions, given for one."""

    def do(scope: InfiniiVision, channel: int, parameters: tuple[str | bytes, ...]) -> None:
        value = number.read(as_text(parameters[0]), scope, channel) * divisions
        scope.put(name, value, channel)

    def ask(scope: InfiniiVision, channel: int, _: tuple[str | bytes, ...]) -> str:
        return _number(scope.get(name, channel) / divisions)

    return Command(pattern, do, ask, takes=(1, 2))


def _summary(root: str, names: Mapping[str, str]) -> Callable[..., str]:
    """A query of a whole subsystem: what its settings are, as they would be sent."""

    def ask(scope: InfiniiVision, channel: int, _: tuple[str | bytes, ...]) -> str:
        kinds = {entry.name: entry.kind for entry in COMMANDS if isinstance(entry, Setting)}
        shown = (
            f"{header} {kinds[name].show(scope.get(name, channel), scope, channel)}"
            for header, name in names.items()
        )
        return f":{root.replace('#', str(channel))}:{';'.join(shown)}"

    return ask


_CHANNEL = {
    "RANG": "range",
    "OFFS": "offset",
    "COUP": "coupling",
    "IMP": "impedance",
    "DISP": "display",
    "BWL": "bandwidth",
    "INV": "invert",
    "LAB": "label",
    "UNIT": "units",
    "PROB": "probe",
    "PROB:SKEW": "skew",
    "STYP": "signal type",
}
_TIMEBASE = {"MODE": "timebase mode", "REF": "reference", "MAIN:RANG": "width", "POS": "position"}

# --- waveform ---


def _source(scope: InfiniiVision) -> int:
    return int(scope.get("source")[-1])


def _words(scope: InfiniiVision) -> NDArray[np.uint16]:
    scope.acquired()
    if scope.get("points mode") != "NORM" and scope.armed:
        raise ScpiError(-221)
    bits = HIGH_RESOLUTION_BITS if scope.get("type") == "HRES" else 8
    return scope.codes(_source(scope), scope.points(), bits)


def _signed(scope: InfiniiVision) -> bool:
    return not scope.get("unsigned")


def _scaling(scope: InfiniiVision) -> tuple[float, float, int]:
    """Increment, origin and reference of the vertical axis in the present format."""
    capture = scope.acquired()
    step, middle = scope.steps()
    middle = 0 if _signed(scope) else middle
    if scope.get("format") == "WORD":
        step, middle = step / 256, middle * 256
    return step, capture.screen.centre_v, middle


def _preamble(scope: InfiniiVision, *_: object) -> str:
    capture = scope.acquired()
    points = scope.points()
    step, origin, middle = _scaling(scope)
    return ",".join(
        (
            nr1({"BYTE": 0, "WORD": 1, "ASC": 4}[scope.get("format")]),
            nr1({"NORM": 0, "HRES": 3}[scope.get("type")]),
            nr1(points),
            nr1(1),
            _number(capture.screen.width_s / points),
            _number(capture.screen.start_s),
            nr1(0),
            _number(step),
            _number(origin),
            nr1(middle),
        )
    )


def _data(scope: InfiniiVision, *_: object) -> bytes:
    words = _words(scope)
    if scope.get("format") == "ASC":
        step, origin = _scaling(scope)[:2]
        volts = np.where(words <= 1, 9.9e37, (words / 256.0 - MIDDLE) * step + origin)
        return block(", ".join(nr3(value, 5, 3) for value in volts).encode())
    if scope.get("format") == "WORD":
        words = words ^ np.uint16(0x8000) if _signed(scope) else words
        return block(words.astype("<u2" if scope.get("byte order") == "LSBF" else ">u2").tobytes())
    octets = np.where(words == 1, 1, words >> 8).astype(np.uint8)
    return block((octets ^ np.uint8(0x80) if _signed(scope) else octets).tobytes())


def block(payload: bytes) -> bytes:
    """A definite-length block with eight digits, as this maker sends it."""
    return b"#8%08d" % len(payload) + payload


# --- root commands ---


def _single(scope: InfiniiVision, *_: object) -> None:
    scope.arm("SING")


def _digitize(scope: InfiniiVision, *_: object) -> None:
    scope.capture = None
    scope.arm("SING")
    scope.wait()


def _condition(scope: InfiniiVision, *_: object) -> str:
    return nr1((8 | 32) * scope.armed)  # running, waiting for the trigger


def _event(name: str) -> Any:
    def ask(scope: InfiniiVision, *_: object) -> str:
        seen = getattr(scope, name)
        setattr(scope, name, False)
        return nr1(seen)

    return ask


def _level(scope: InfiniiVision, _: int, parameters: tuple[str | bytes, ...]) -> None:
    scope.put("trigger level", Number(0, (-40, 40), "V").read(as_text(parameters[0]), scope, 1))


def _points(scope: InfiniiVision, _: int, parameters: tuple[str | bytes, ...]) -> None:
    text = as_text(parameters[0])
    if matches(text, "MAXimum"):
        scope.put("points mode", "MAX")
        number: float = MEMORY
    else:
        number = read_number(text)
    if number < LEAST_POINTS:
        raise ScpiError(-222)
    scope.put("points", min(number, MEMORY))


def _depth(scope: InfiniiVision, _: int, parameters: tuple[str | bytes, ...]) -> None:
    if not scope.get("digitizer"):
        raise ScpiError(-221)
    number = Number(MEMORY, (LEAST_POINTS, MEMORY)).read(as_text(parameters[0]), scope, 1)
    scope.put("depth", round(number))


def _rate(scope: InfiniiVision, _: int, parameters: tuple[str | bytes, ...]) -> None:
    if not scope.get("digitizer"):
        raise ScpiError(-221)
    rate = Number(FASTEST_HZ, (1.0, FASTEST_HZ), "HZ").read(as_text(parameters[0]), scope, 1)
    scope.put("rate", FASTEST_HZ / round(FASTEST_HZ / rate))


_RANGE = Number(40.0, _per_probe(8e-3, 40.0), "V", _number)
_SCALE = Number(5.0, _per_probe(1e-3, 5.0), "V", _number)
_WIDTH = Number(1e-3, (20e-9, 500.0), "S", _number)
_EDGES = ("POSitive", "NEGative", "EITHer", "ALTernate")
_SOURCES = tuple(f"CHANnel{n}" for n in range(1, 5))

COMMANDS: tuple[Entry, ...] = (
    Command("DIGitize", do=_digitize, takes=(0, 4)),
    Command("SINGle", do=_single),
    Command("RUN", do=lambda s, *_: s.arm("RUN")),
    Command("STOP", do=lambda s, *_: s.stop()),
    Command("AER", ask=_event("armed_event")),
    Command("TER", ask=_event("triggered_event")),
    Command("RSTate", ask=lambda s, *_: s.run_state),
    Command("OPERegister:CONDition", ask=_condition),
    Command("OPERegister[:EVENt]", ask=_condition),
    Command("AUToscale", do=lambda s, *_: s.arm("RUN"), takes=(0, 4)),
    Command("SYSTem:PRESet", do=lambda s, *_: s.reset()),
    Setting("ACQuire:TYPE", "type", Choice(("NORMal", "HRESolution"))),
    Setting("ACQuire:MODE", "mode", Choice(("RTIMe",))),
    Setting("ACQuire:COUNt", "count", Number(8, (2, 65536), form=nr1)),
    Setting("ACQuire:DIGitizer", "digitizer", Switch()),
    Command("ACQuire:COMPlete", ask=lambda *_: "100"),
    Command(
        "ACQuire:POINts[:ANALog]",
        do=_depth,
        ask=lambda s, *_: nr1(s.screen().points),
        takes=(1, 1),
    ),
    Command("ACQuire:SRATe[:ANALog]", do=_rate, ask=lambda s, *_: _number(s.rate()), takes=(1, 1)),
    Command("CHANnel#", ask=_summary("CHAN#", _CHANNEL)),
    Setting("CHANnel#:DISPlay", "display", Switch(True)),
    Setting("CHANnel#:COUPling", "coupling", Choice(("DC", "AC"))),
    Setting("CHANnel#:IMPedance", "impedance", Choice(("ONEMeg", "FIFTy"))),
    Setting("CHANnel#:BWLimit", "bandwidth", Switch()),
    Setting("CHANnel#:INVert", "invert", Switch()),
    Setting("CHANnel#:LABel", "label", Text(most=32)),
    Setting("CHANnel#:UNITs", "units", Choice(("VOLT", "AMPere"))),
    Setting("CHANnel#:PROBe", "probe", Number(1.0, (1e-3, 1e4), form=_number), _probed),
    Setting("CHANnel#:PROBe:SKEW", "skew", Number(0.0, (-1e-7, 1e-7), "S", _number)),
    Setting("CHANnel#:PROBe:STYPe", "signal type", Choice(("SINGle", "DIFFerential"))),
    Setting("CHANnel#:RANGe", "range", _RANGE),
    _scaled("CHANnel#:SCALe", "range", _SCALE, 8),
    Setting("CHANnel#:OFFSet", "offset", Number(0.0, _per_probe(-40, 40), "V", _number)),
    Setting("EXTernal:RANGe", "external range", Number(8.0, (1.6, 8.0), "V", _number)),
    Setting("EXTernal:PROBe", "external probe", Number(1.0, (1e-3, 1e4), form=_number)),
    Command("TIMebase", ask=_summary("TIM", _TIMEBASE)),
    Setting("TIMebase:MODE", "timebase mode", Choice(("MAIN",))),
    Setting("TIMebase:RANGe", "width", _WIDTH),
    _scaled("TIMebase:SCALe", "width", Number(1e-4, (2e-9, 50.0), "S"), 10),
    Setting("TIMebase:POSition", "position", Number(0.0, (-500, 500), "S", _number)),
    Setting("TIMebase:REFerence", "reference", Choice(("CENTer", "LEFT", "RIGHt"))),
    Setting("TRIGger:MODE", "trigger mode", Choice(("EDGE",))),
    Setting("TRIGger:SWEep", "sweep", Choice(("AUTO", "NORMal"))),
    Command("TRIGger:FORCe", do=lambda s, *_: s.force()),
    Setting("TRIGger[:EDGE]:SOURce", "trigger source", Choice((*_SOURCES, "EXTernal", "LINE"))),
    Command(
        "TRIGger[:EDGE]:LEVel",
        do=_level,
        ask=lambda s, *_: _number(s.get("trigger level")),
        takes=(1, 2),
        asks=(0, 1),
    ),
    Setting("TRIGger[:EDGE]:SLOPe", "trigger slope", Choice(_EDGES)),
    Setting("TRIGger[:EDGE]:COUPling", "trigger coupling", Choice(("DC", "AC", "LFReject"))),
    Setting("TRIGger:HOLDoff", "holdoff", Number(4e-8, (4e-8, 10.0), "S", _number)),
    Setting("TRIGger:NREJect", "noise reject", Switch()),
    Setting("TRIGger:HFReject", "high frequency reject", Switch()),
    Setting("WAVeform:SOURce", "source", Choice(_SOURCES)),
    Setting("WAVeform:FORMat", "format", Choice(("BYTE", "WORD", "ASCii"))),
    Setting("WAVeform:BYTeorder", "byte order", Choice(("MSBFirst", "LSBFirst"))),
    Setting("WAVeform:UNSigned", "unsigned", Switch(True)),
    Setting("WAVeform:VIEW", "view", Choice(("MAIN",))),
    Setting("WAVeform:POINts:MODE", "points mode", Choice(("NORMal", "MAXimum", "RAW"))),
    Command("WAVeform:POINts", do=_points, ask=lambda s, *_: nr1(s.points()), takes=(1, 1)),
    Command("WAVeform:PREamble", ask=_preamble),
    Command("WAVeform:DATA", ask=_data),
    Command("WAVeform:TYPE", ask=lambda s, *_: s.get("type")),
    Command("WAVeform:COUNt", ask=lambda *_: nr1(1)),
    Command(
        "WAVeform:XINCrement", ask=lambda s, *_: _number(s.acquired().screen.width_s / s.points())
    ),
    Command("WAVeform:XORigin", ask=lambda s, *_: _number(s.acquired().screen.start_s)),
    Command("WAVeform:XREFerence", ask=lambda *_: nr1(0)),
    Command("WAVeform:YINCrement", ask=lambda s, *_: _number(_scaling(s)[0])),
    Command("WAVeform:YORigin", ask=lambda s, *_: _number(_scaling(s)[1])),
    Command("WAVeform:YREFerence", ask=lambda s, *_: nr1(_scaling(s)[2])),
)
