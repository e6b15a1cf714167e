"""A Rigol DS1104Z, as far as a physical network needs it.

Four channels of eight bits, 1 GSa/s, a memory of a chosen depth over the twelve divisions of the
screen; 25 codes a division. Nothing marks a missing point; a clipped one is code 0 or 255.

What is idealised: as for `infiniivision`; the sample rate is the depth over the screen's width,
not the next round number.

Source: Rigol MSO1000Z/DS1000Z, Programming Guide: the root commands and the subsystems :ACQuire,
:CHANnel, :TIMebase, :TRIGger, :WAVeform.
"""

import threading
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.virtual_bench.commands import Choice, Number, Switch, Value
from pnnlab.virtual_bench.messages import ScpiError
from pnnlab.virtual_bench.record import Screen
from pnnlab.virtual_bench.simulated_oscilloscope import SimulatedOscilloscope
from pnnlab.virtual_bench.table import Command, Entry, Setting, as_text

IDENTITY = "RIGOL TECHNOLOGIES,DS1104Z,DS1ZA000000004,00.04.04.SP4"
FASTEST_HZ = 1e9
DEPTHS = (12_000, 120_000, 1_200_000, 12_000_000)
SHOWN = 1200  # points on the screen
WIDE, HIGH = 12, 8  # divisions
CODES = 25  # of the converter, in a division
MIDDLE = 127
_MOST = {"BYTE": 250_000, "WORD": 125_000, "ASC": 15_625}  # points in one answer


@final
class Ds1000z(SimulatedOscilloscope):
    """The virtual DS1104Z.

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

    def clear_state(self) -> None:
        """``*RST`` forgets the record, and sees to the depth itself."""
        super().clear_state()
        self.put("depth", 0)

    def screen(self, channel: int = 1) -> Screen:
        """The screen as it is set now; the offset is a whole number of codes."""
        division = self.get("scale", channel)
        step = division / CODES
        centre = -round(self.get("offset", channel) / step) * step
        width = WIDE * self.get("time scale")
        depth = self.get("depth") or DEPTHS[0]
        points = round(max(SHOWN, min(depth, width * FASTEST_HZ)))
        start = self.get("time offset") - width / 2
        return Screen(centre, HIGH * division, start, width, points)

    def steps(self) -> tuple[float, int]:
        """Volts a code, and the code at the centre."""
        return self.acquired().screen.height_v / (HIGH * CODES), MIDDLE

    def points(self) -> int:
        """How many points there are to read."""
        return self.acquired().screen.points if self.raw() else SHOWN

    def raw(self) -> bool:
        """Whether the memory is read, and not the screen."""
        mode = self.get("wave mode")
        return bool(mode == "RAW" or (mode == "MAX" and not self.armed))

    def show_error(self, error: ScpiError) -> str:
        """How it writes an error."""
        return f'{error.code},"{error.text}"'


def _form(value: float) -> str:
    return f"{value:e}"


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _per_probe(low: float, high: float) -> Any:
    """Bounds at the connector, called by the probe's factor."""

    def bounds(scope: Ds1000z, channel: int) -> tuple[float, float]:
        probe = scope.get("probe", channel)
        return low * probe, high * probe

    return bounds


def _probed(scope: Ds1000z, channel: int, before: Value) -> None:
    """Another probe factor: what was set in volts stays what it is at the connector."""
    ratio = scope.get("probe", channel) / float(before)
    for name in ("scale", "offset"):
        scope.put(name, scope.get(name, channel) * ratio, channel)


def _rounded(scope: Ds1000z, channel: int, _: Value) -> None:
    """Without fine adjustment a scale is 1, 2 or 5 times a power of ten."""
    if scope.get("vernier", channel):
        return
    wanted = scope.get("scale", channel)
    power = 10.0 ** np.floor(np.log10(wanted))
    steps = power * np.array([1, 2, 5, 10])
    nearest = float(steps[np.argmin(np.abs(np.log(steps / wanted)))])
    scope.put("scale", nearest, channel)


def _depth(scope: Ds1000z, _: int, parameters: tuple[str | bytes, ...]) -> None:
    if scope.run_state == "STOP":
        raise ScpiError(-221)
    text = as_text(parameters[0])
    depth = 0.0 if text.upper() == "AUTO" else Number(0, (0, 24e6)).read(text, scope, 1)
    if depth not in (0, *DEPTHS):
        raise ScpiError(-224)
    scope.put("depth", round(depth))


def _single(scope: Ds1000z, *_: object) -> None:
    scope.put("sweep", "SING")  # the guide: the same as :TRIGger:SWEep SINGle
    scope.arm("SING")


def _swept(scope: Ds1000z, _: int, before: Value) -> None:
    if scope.get("sweep") == "SING" != before:
        scope.arm("SING")


def _status(scope: Ds1000z, *_: object) -> str:
    if not scope.armed:
        return "STOP"
    return "AUTO" if scope.get("sweep") == "AUTO" else "WAIT"


# --- waveform ---


def _words(scope: Ds1000z) -> NDArray[np.uint16]:
    scope.acquired()
    if scope.get("wave mode") == "RAW" and scope.armed:
        raise ScpiError(-221)
    first, last = round(scope.get("first")), round(scope.get("last"))
    if not first <= last <= scope.points():
        raise ScpiError(-222)
    if last - first + 1 > _MOST[scope.get("format")]:
        raise ScpiError(-223)
    return scope.codes(int(scope.get("source")[-1]), scope.points())[first - 1 : last]


def _data(scope: Ds1000z, *_: object) -> bytes:
    octets = _words(scope) >> 8
    match scope.get("format"):
        case "ASC":
            step, middle = scope.steps()
            volts = (octets.astype(np.float64) - middle) * step + scope.acquired().screen.centre_v
            payload = ",".join(_form(value) for value in volts).encode()
        case "WORD":
            payload = octets.astype("<u2").tobytes()
        case _:
            payload = octets.astype(np.uint8).tobytes()
    return b"#9%09d" % len(payload) + payload


def _origin(scope: Ds1000z) -> int:
    """Codes by which zero lies away from the reference."""
    return round(-scope.acquired().screen.centre_v / scope.steps()[0])


def _increment(scope: Ds1000z) -> float:
    return scope.acquired().screen.width_s / scope.points()


def _preamble(scope: Ds1000z, *_: object) -> str:
    return ",".join(
        (
            str({"BYTE": 0, "WORD": 1, "ASC": 2}[scope.get("format")]),
            str({"NORM": 0, "MAX": 1, "RAW": 2}[scope.get("wave mode")]),
            str(scope.points()),
            "1",
            _form(_increment(scope)),
            _form(scope.acquired().screen.start_s),
            "0",
            _form(scope.steps()[0]),
            str(_origin(scope)),
            str(MIDDLE),
        )
    )


_SOURCES = tuple(f"CHANnel{n}" for n in range(1, 5))
_SCALE = Number(1.0, _per_probe(1e-3, 10.0), "V", _form)
_POINT = Number(1, (1, 24e6), form=_whole)

COMMANDS: tuple[Entry, ...] = (
    Command("RUN", do=lambda s, *_: s.arm("RUN")),
    Command("STOP", do=lambda s, *_: s.stop()),
    Command("SINGle", do=_single),
    Command("TFORce", do=lambda s, *_: s.force()),
    Command("CLEar", do=lambda s, *_: s.forget()),
    Command("AUToscale", do=lambda s, *_: s.arm("RUN")),
    Command(
        "ACQuire:MDEPth",
        do=_depth,
        ask=lambda s, *_: str(s.get("depth") or "AUTO"),
        takes=(1, 1),
    ),
    Setting("ACQuire:TYPE", "type", Choice(("NORMal",))),
    Command("ACQuire:SRATe", ask=lambda s, *_: _form(s.screen().points / s.screen().width_s)),
    Setting("CHANnel#:DISPlay", "display", Switch(True)),
    Setting("CHANnel#:COUPling", "coupling", Choice(("DC", "AC"))),
    Setting("CHANnel#:INVert", "invert", Switch()),
    Setting("CHANnel#:BWLimit", "bandwidth", Choice(("OFF", "20M"))),
    Setting("CHANnel#:VERNier", "vernier", Switch()),
    Setting("CHANnel#:UNITs", "units", Choice(("VOLTage", "AMPere"))),
    Setting("CHANnel#:PROBe", "probe", Number(10.0, (0.01, 1000.0), form=_form), _probed),
    Setting("CHANnel#:SCALe", "scale", _SCALE, _rounded),
    Setting("CHANnel#:OFFSet", "offset", Number(0.0, _per_probe(-100, 100), "V", _form)),
    Setting("TIMebase:MODE", "timebase mode", Choice(("MAIN",))),
    Setting("TIMebase[:MAIN]:SCALe", "time scale", Number(1e-6, (5e-9, 50.0), "S", _form)),
    Setting("TIMebase[:MAIN]:OFFSet", "time offset", Number(0.0, (-500, 500), "S", _form)),
    Setting("TRIGger:MODE", "trigger mode", Choice(("EDGE",))),
    Setting("TRIGger:SWEep", "sweep", Choice(("AUTO", "NORMal", "SINGle")), _swept),
    Command("TRIGger:STATus", ask=_status),
    Setting("TRIGger:EDGe:SOURce", "trigger source", Choice((*_SOURCES, "EXT", "AC"))),
    Setting("TRIGger:EDGe:SLOPe", "trigger slope", Choice(("POSitive", "NEGative"))),
    Setting("TRIGger:EDGe:LEVel", "trigger level", Number(0.0, (-50, 50), "V", _form)),
    Setting("TRIGger:COUPling", "trigger coupling", Choice(("DC", "AC", "LFReject"))),
    Setting("TRIGger:HOLDoff", "holdoff", Number(1.6e-8, (1.6e-8, 10.0), "S", _form)),
    Setting("TRIGger:NREJect", "noise reject", Switch()),
    Setting("WAVeform:SOURce", "source", Choice(_SOURCES)),
    Setting("WAVeform:MODE", "wave mode", Choice(("NORMal", "MAXimum", "RAW"))),
    Setting("WAVeform:FORMat", "format", Choice(("BYTE", "WORD", "ASCii"))),
    Setting("WAVeform:STARt", "first", _POINT),
    Setting("WAVeform:STOP", "last", Number(SHOWN, (1, 24e6), form=_whole)),
    Command("WAVeform:PREamble", ask=_preamble),
    Command("WAVeform:DATA", ask=_data, asks=(0, 1)),
    Command("WAVeform:XINCrement", ask=lambda s, *_: _form(_increment(s))),
    Command("WAVeform:XORigin", ask=lambda s, *_: _form(s.acquired().screen.start_s)),
    Command("WAVeform:XREFerence", ask=lambda *_: "0"),
    Command("WAVeform:YINCrement", ask=lambda s, *_: _form(s.steps()[0])),
    Command("WAVeform:YORigin", ask=lambda s, *_: str(_origin(s))),
    Command("WAVeform:YREFerence", ask=lambda *_: str(MIDDLE)),
)
