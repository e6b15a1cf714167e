"""Command sets of generators and oscilloscopes, which are data, and the channel that speaks them.

Sources: Keysight *Trueform Series Operating and Service Guide* (33500/33600); Tektronix *AFG3000
Series Programmer Manual*; Keysight *InfiniiVision 3000 X-Series Oscilloscopes Programmer's Guide*;
Rigol *DS1000Z Programming Guide*. A model with more memory is `dataclasses.replace(KEYSIGHT_33500,
most_points=16_000_000)`, and so is another encoding; another make is a new set of strings.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Self, TypeVar, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pnnlab.errors import InstrumentError, LinkError
from pnnlab.instruments.link import Link


class Setting(NamedTuple):
    """One setting: sent as ``header value``, read back with ``header?``; see the braces below."""

    header: str
    value: str
    tolerance: float = 1e-3  # of a number that is read back, relative to the one sent
    verified: bool = True  # whether its answer means anything before the first acquisition
    each: bool = False  # asked after each record, even where every question is a round trip: a
    # change of it shows neither in the preamble nor in the pilot


_OFFSET = Setting("SOUR{channel}:VOLT:OFFS", "0")


def _tree(root: str, tolerance: float = 1e-3, each: bool = False, **values: str) -> list[Setting]:
    """Settings below one node of the command tree."""
    return [Setting(f"{root}:{name}", v, tolerance, each=each) for name, v in values.items()]


class Encoding(NamedTuple):
    """How a generator takes the samples of a waveform."""

    header: str  # the command before the block
    dtype: str  # of one sample, in numpy's notation, with the byte order
    lowest: int  # code of the lowest voltage
    highest: int
    half: int  # steps of the converter from its middle to either end; codes are rounded to them


@final
@dataclass(frozen=True)
class GeneratorDialect:
    """How to talk to an arbitrary waveform generator.

    Braces stand for `channel`, `rate` (samples a second), `span` (V, from the lowest code to the
    highest), `extent` (V, from the lowest point of the waveform to its highest), `lesser` (V, of
    this extent and that of the waveform before), `frequency` (waveforms a second), `arb` (a name
    that no other upload has) and `client`.
    """

    name: str
    models: tuple[str, ...]  # one of these is in the answer to ``*IDN?``
    before: tuple[str, ...]  # sent before the settings, so that none conflicts with an earlier one
    # Play the waveform once a trigger, from memory to connector. Without a trigger the output rests
    # at the first sample of the waveform, so that no drive outlives its sender.
    settings: tuple[Setting, ...]
    encoding: Encoding
    waveform: tuple[Setting, ...]  # select what was uploaded
    amplitude: Setting  # one of the settings, or of those that select
    points_query: str  # how many points the selected waveform has
    least_extent_v: float  # peak to peak, of a waveform
    fewest_points: int
    most_points: int
    make_room: tuple[str, ...] = ()  # forgets all uploads; empty: each replaces the one before
    before_upload: tuple[str, ...] = ()
    offset: Setting = _OFFSET
    output: str = "OUTP{channel}"  # followed by ON or OFF
    trigger: str = "*TRG"  # play once
    # A text on its screen, which another client can read: who uses it. (SYST:LOCK of the 33500
    # would also lock out the shutdown process.)
    client: Setting = Setting("DISP:TEXT", '"{client}"')  # noqa: RUF009  # immutable
    compound: bool = True  # whether several questions may be asked in one message


_EXTENT = Setting("SOUR{channel}:VOLT", "{extent}")
_SPAN = Setting("SOUR{channel}:VOLT", "{span}")

# It stretches points to the amplitude that is set: the amplitude is that of the waveform, from
# its own lowest point to its highest, and belongs to each waveform. With the lesser of two
# amplitudes while one waveform follows another, neither is stretched beyond its own. An emptied
# memory selects a waveform that rests at its lowest point, so it is emptied at the least amplitude.
KEYSIGHT_33500 = GeneratorDialect(
    name="Keysight 33500/33600",
    models=(",335", ",336"),
    before=(
        *("OUTP{channel}:LOAD INF", "SOUR{channel}:VOLT:UNIT VPP", "SOUR{channel}:VOLT:OFFS 0"),
        *("SOUR{channel}:VOLT 0.002", "SOUR{channel}:DATA:VOL:CLE"),
    ),
    settings=(
        Setting("SOUR{channel}:FUNC", "ARB"),
        # Else the filter rounds off every step.
        *_tree("SOUR{channel}:FUNC:ARB", FILT="OFF", ADV="SRAT", SRAT="{rate}"),
        *_tree("OUTP{channel}", LOAD="INF", POL="NORM", MODE="NORM"),
        *_tree("SOUR{channel}:VOLT", UNIT="VPP", OFFS="0"),
        *_tree("SOUR{channel}:BURS", MODE="TRIG", NCYC="1", PHAS="0", STAT="ON"),
        *_tree("TRIG{channel}", SOUR="BUS", DEL="0"),
        Setting("OUTP:SYNC:SOUR", "CH{channel}"),
        Setting("OUTP:SYNC", "ON"),
    ),
    encoding=Encoding("SOUR{channel}:DATA:ARB:DAC {arb},", "<i2", -32767, 32767, 32767),
    make_room=("SOUR{channel}:VOLT 0.002", "SOUR{channel}:DATA:VOL:CLE"),
    before_upload=("FORM:BORD SWAP",),
    waveform=(
        Setting("SOUR{channel}:VOLT", "{lesser}", verified=False),
        Setting("SOUR{channel}:FUNC:ARB", "{arb}"),
        _EXTENT,
    ),
    amplitude=_EXTENT,
    points_query="SOUR{channel}:DATA:ATTR:POIN? {arb}",
    least_extent_v=2e-3,
    fewest_points=8,
    most_points=1_000_000,
)

# Its edit memory is played as it is: the user memories are flash, which uploads would wear out.
TEKTRONIX_AFG3000 = GeneratorDialect(
    name="Tektronix AFG3000",
    models=(",AFG3",),
    before=("SOUR{channel}:VOLT:OFFS 0",),
    settings=(
        Setting("SOUR{channel}:FUNC", "EMEM"),
        *_tree("OUTP{channel}", IMP="INF", POL="NORM"),
        Setting("SOUR{channel}:VOLT:UNIT", "VPP"),
        _SPAN,
        _OFFSET,
        Setting("SOUR{channel}:PHAS", "0"),
        *_tree("SOUR{channel}:BURS", MODE="TRIG", NCYC="1", TDEL="0", STAT="ON"),
        Setting("TRIG:SOUR", "EXT"),  # otherwise a timer triggers as well
        Setting("OUTP:TRIG:MODE", "TRIG"),
    ),
    encoding=Encoding("DATA EMEM,", ">u2", 0, 16382, 8191),
    # It knows no sample rate, only how often the whole waveform is played in a second.
    waveform=(Setting("SOUR{channel}:FREQ", "{frequency}", tolerance=1e-6),),
    amplitude=_SPAN,
    points_query="DATA:POIN? EMEM",
    least_extent_v=0.0,
    fewest_points=2,
    most_points=131_072,
)


class Poll(NamedTuple):
    """A question, and the answers that mean yes: words, or ``answer & mask == value``."""

    query: str
    words: tuple[str, ...] = ()
    mask: int = 0
    value: int = 0


class BlockFormat(NamedTuple):
    """How an oscilloscope gives the samples of a trace."""

    name: str
    code: int  # first field of its preamble
    dtype: str  # of one sample, in numpy's notation, with the byte order
    low: int  # at and below it the signal was outside the range
    high: int  # at and above it likewise
    hole: int | None  # nothing was acquired there
    most_points: int  # in one block


@final
@dataclass(frozen=True)
class ScopeDialect:
    """How to talk to an oscilloscope.

    Braces stand for `channel`, `window` (V, the whole screen), `division` (V), `centre` and
    `minus_centre` (V), `record` (points), `record_s`, `division_s` and `middle_s` (s), `format`,
    `first` and `last` (points, from 1).

    The ten fields of the preamble are in both makes: format, type, points, count, x increment, x
    origin, x reference, y increment, y origin, y reference.
    """

    name: str
    models: tuple[str, ...]  # one of these is in the answer to ``*IDN?``
    before: tuple[str, ...]  # sent before the settings
    settings: tuple[Setting, ...]  # its own time base, range, trigger and transfer
    divisions: int  # of the screen's width; its height is divided in eight
    records: tuple[int, ...]  # lengths of a record, rising
    format: BlockFormat
    armed: Poll  # whether a trigger would be seen now
    done: Poll  # whether the record is complete
    # V = (code - reference) * increment + origin, or else V = (code - reference - origin) *
    # increment.
    origin_in_volts: bool
    compound: bool  # whether several questions may be asked in one message
    part: tuple[str, ...] = ()  # selects a part of the record; empty: it is always given whole
    arm_clear: str = ""  # empties the register that `armed` asks for, and is a question
    channels: tuple[int, ...] = (1, 2, 3, 4)  # that can record
    trigger_input: str = "external trigger input"
    arm: str = ":SING"  # wait for one trigger; sets the sweep of a Rigol as well
    stop: str = ":STOP"  # stop waiting
    preamble: str = ":WAV:PRE?"
    data: str = ":WAV:DATA?"


INFINIIVISION = ScopeDialect(
    name="Keysight InfiniiVision",
    models=("DSO-X", "MSO-X", "DSOX", "MSOX", "EDUX"),
    before=(":STOP",),
    settings=(
        # 50 ohm would halve what the device puts out.
        *_tree(":CHAN{channel}", DISP="ON", COUP="DC", IMP="ONEM", BWL="OFF", INV="OFF", PROB="1"),
        *_tree(":CHAN{channel}", tolerance=0.02, RANG="{window}", OFFS="{centre}"),
        *_tree(":TIM", MODE="MAIN", REF="CENT", RANG="{record_s}", POS="{middle_s}"),
        *_tree(":TRIG", MODE="EDGE", SOUR="EXT", SLOP="POS"),
        Setting(":TRIG:LEV", "1", tolerance=0.05),  # V: half a logic level
        Setting(":TRIG:SWE", "NORM"),
        Setting(":ACQ:TYPE", "NORM"),
        *_tree(":WAV", SOUR="CHAN{channel}", FORM="{format}", BYT="LSBF", UNS="ON"),
        Setting(":WAV:POIN:MODE", "RAW"),
        Setting(":WAV:POIN", "{record}", verified=False),
    ),
    divisions=10,
    records=(
        *(100, 250, 500),
        *(digit * 10**power for power in (3, 4, 5) for digit in (1, 2, 5)),
        *(1_000_000, 2_000_000, 4_000_000),
    ),
    # Eight bits in the high byte, or more of them with high resolution; then the last steps before
    # the codes of clipping are out of range all the same.
    format=BlockFormat("WORD", 1, "<u2", 0x0100, 0xFF00, hole=0, most_points=4_000_000),
    arm_clear=":AER?",
    armed=Poll(":AER?", mask=1, value=1),
    done=Poll(":OPER:COND?", mask=8, value=0),  # bit 3: running
    origin_in_volts=True,
    compound=True,
)


# It has no external trigger input (a DS1054Z refuses EXT), so its last channel takes the trigger.
# Both are on: how deep the memory is depends on the number of channels that are on.
def _rigol(name: str, models: tuple[str, ...], channels: int) -> ScopeDialect:
    last = f":CHAN{channels}"
    return ScopeDialect(
        name=name,
        models=models,
        # Stopped, it refuses another memory depth.
        before=(":RUN", *(f":CHAN{n}:DISP OFF" for n in range(1, channels + 1))),
        settings=(
            *_tree(last, DISP="ON", COUP="DC", BWL="OFF", INV="OFF", PROB="1", SCAL="1", OFFS="0"),
            Setting(":CHAN{channel}:DISP", "ON"),
            *_tree(":CHAN{channel}", each=True, COUP="DC", BWL="OFF", INV="OFF", PROB="1"),
            Setting(":CHAN{channel}:VERN", "ON"),
            *_tree(":CHAN{channel}", tolerance=0.02, SCAL="{division}", OFFS="{minus_centre}"),
            *_tree(":TIM", MODE="MAIN", SCAL="{division_s}", OFFS="{middle_s}"),
            Setting(":ACQ:TYPE", "NORM", each=True),
            Setting(":ACQ:MDEP", "{record}"),
            Setting(":TRIG:MODE", "EDGE"),
            *_tree(":TRIG:EDG", SOUR=last[1:], SLOP="POS"),
            Setting(":TRIG:EDG:LEV", "1", tolerance=0.05),  # V: half a logic level
            *_tree(":WAV", SOUR="CHAN{channel}", MODE="RAW", FORM="{format}"),
        ),
        divisions=12,
        records=(6_000, 60_000, 600_000, 6_000_000, 12_000_000),
        format=BlockFormat("BYTE", 0, "u1", 0, 255, hole=None, most_points=250_000),
        part=(":WAV:STAR {first}", ":WAV:STOP {last}"),
        armed=Poll(":TRIG:STAT?", words=("WAIT",)),
        done=Poll(":TRIG:STAT?", words=("STOP",)),
        origin_in_volts=False,
        compound=False,
        channels=tuple(range(1, channels)),
        trigger_input=f"channel {channels}",
    )


_FOUR = ",DS1054Z", ",DS1074Z", ",DS1104Z", ",MSO1074Z", ",MSO1104Z"
RIGOL_DS1000Z = _rigol("Rigol DS1000Z", _FOUR, 4)
RIGOL_DS1000ZE = _rigol("Rigol DS1000Z-E", (",DS1102Z-E", ",DS1202Z-E"), 2)

GENERATORS = KEYSIGHT_33500, TEKTRONIX_AFG3000
SCOPES = INFINIIVISION, RIGOL_DS1000Z, RIGOL_DS1000ZE

Dialect = TypeVar("Dialect", GeneratorDialect, ScopeDialect)
Values = Mapping[str, str]

_INFINITY = 9.9e37  # how SCPI writes it (SCPI-99, volume 1, 7.2.1)
_SWITCH = {"ON": "1", "OFF": "0"}


class Channel(Generic[Dialect]):
    """A channel of a generator or an oscilloscope. Use it in a ``with`` statement, or close it.

    Settings are sent, read back, and compared. They hold for one session of the link: later the
    instrument may have been switched off and on again.
    """

    def __init__(self, link: Link, dialect: Dialect, channel: int) -> None:
        self.link = link
        self.dialect: Dialect = dialect
        self.channel = channel
        self._session: int | None = None  # of the link, in which the settings were applied
        self._values: Values = {}  # what stands for the names in braces of the dialect

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the link."""
        self.link.close()

    def _apply(self, **values: str) -> None:
        """Send all settings as one group, and read them back."""
        self._values = values | {"channel": str(self.channel)}
        self._session = None
        with self.link.lock:
            session = self.link.reopened + self.link.broken  # a broken one is opened anew now
            self.link.send(
                *(command.format_map(self._values) for command in self.dialect.before),
                *commands(self.dialect.settings, self._values),
            )
            self._read_back(self.dialect.settings)
            self._session = session

    def _expect_settings(self) -> None:
        """Raise unless the settings were applied, and the link has held since then."""
        if self._session is None:
            raise InstrumentError(f"{self.link} is not set up; apply settings first.")
        if self.link.broken or self.link.reopened != self._session:
            raise LinkError(
                f"The link to {self.link} broke after it was set up. Apply the settings again."
            )

    def _read_back(self, settings: Sequence[Setting], *questions: str) -> dict[str, str]:
        """Compare settings with what was sent; return the answers to these and more questions."""
        values = self._values
        sent: dict[str, Setting] = {
            one.header.format_map(values): one for one in settings if one.verified
        }
        asked = [*map("{}?".format, sent), *questions]
        if self.dialect.compound:
            message = ";".join(f":{question.lstrip(':')}" for question in asked)
            said = self.link.ask(message).split(";")
            if len(said) != len(asked):
                raise InstrumentError(f"{self.link} gave {len(said)} answers to {message!r}.")
        else:
            said = [self.link.ask(question) for question in asked]
        answers = dict(zip(asked, said, strict=True))
        for header, setting in sent.items():
            value, answer = setting.value.format_map(values), answers[f"{header}?"]
            if not agrees(value, answer, setting.tolerance):
                raise InstrumentError(
                    f"{self.link}: {header} was set to {value} but is {answer}. Choose a value "
                    "that the instrument can take, and do not use its front panel."
                )
        return answers


def commands(settings: Sequence[Setting], values: Values) -> list[str]:
    """Write settings as commands."""
    return [f"{setting.header} {setting.value}".format_map(values) for setting in settings]


def number(value: float) -> str:
    """Write a number as commands take it, with nine digits."""
    return "INF" if value == math.inf else f"{value + 0.0:.9G}"  # without the sign of -0


def agrees(sent: str, answer: str, tolerance: float) -> bool:
    """Whether an answer means what was sent: short or long form, ON or 1, rounded numbers."""
    words = (text.strip().strip('"').upper() for text in (sent, answer))
    sent, answer = (_SWITCH.get(word, word) for word in words)
    try:
        one, other = (
            math.inf if float(text) >= _INFINITY else float(text) for text in (sent, answer)
        )
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=1e-12)
    except ValueError:
        return answer == sent or (sent.isalpha() and answer.startswith(sent))


@final
class Scratch:
    """Memory for one array at a time, used again: new pages take longer to get than to fill."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def array(self, count: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return an array (count,) of any content, valid until the next call."""
        size = count * np.dtype(dtype).itemsize
        if len(self._bytes) < size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size].view(dtype)
