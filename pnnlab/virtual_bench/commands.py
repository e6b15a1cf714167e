"""The table of an instrument's commands: what each does, and which values it takes.

A model lists one entry a command: `Number`, `Keyword`, `Switch` or `Text` for a value that is set
and asked for, `Command` for everything else. What no entry names is refused with -113.
"""

import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, TypeAlias, final

from pnnlab.virtual_bench.messages import ScpiError, matches, read_number, read_string, short

Value: TypeAlias = float | str | bool
Parameters: TypeAlias = tuple[Any, ...]  # of str; the last one is bytes if it is a block
Bounds: TypeAlias = tuple[float, float] | Callable[[Any, int], tuple[float, float]]

INFINITY = 9.9e37  # how SCPI writes it (SCPI-99, volume 1, 7.2.1.4)


@final
@dataclass(frozen=True)
class Command:
    """A command, a query, or both.

    `do` and `ask` are given the instrument, the channel and the parameters. They may raise the
    `ScpiError` that refuses them: the settings are then what they were before. An answer of bytes
    is sent as a block.
    """

    # As manuals write it: "[SOURce#:]FUNCtion:ARBitrary:SRATe". Brackets: may be left out; #: takes
    # the number of a channel; |: either name.
    pattern: str
    do: Callable[[Any, int, Parameters], None] | None = None
    ask: Callable[[Any, int, Parameters], str | bytes] | None = None
    takes: tuple[int, int] = (0, 0)  # least and greatest number of parameters
    asks: tuple[int, int] = (0, 0)  # the same of the query
    block: bool = False  # whether the last parameter may be a block


@dataclass(frozen=True)
class StoredValue(ABC):
    """A value that is set and asked for: of each channel where the pattern has a #, or else one."""

    pattern: str  # as for `Command`
    name: str  # under which `SimulatedInstrument.get` finds it
    _: KW_ONLY
    then: Callable[[Any, int], None] | None = None  # what follows; it may refuse the value
    shown: Callable[[Any, int], str] | None = None  # what is answered instead of the value
    kept: bool = False  # whether ``*RST`` leaves it as it is
    # Parameters: what follows the first, such as the source of a trigger level, is ignored.
    takes: tuple[int, int] = (1, 1)
    asks: ClassVar = (0, 0)
    block: ClassVar = False

    def reset(self, instrument: Any) -> None:
        """Set the value that it has after ``*RST``."""
        for channel in range(1, instrument.channels + 1 if "#" in self.pattern else 2):
            instrument.put(self.name, self._initial(), channel)

    def do(self, instrument: Any, channel: int, parameters: Parameters) -> None:
        """Set the value."""
        instrument.put(self.name, self.read(parameters[0], instrument, channel), channel)
        if self.then is not None:
            self.then(instrument, channel)

    def ask(self, instrument: Any, channel: int, parameters: Parameters) -> str:
        """Answer with the value, or with the limit that is asked for."""
        if self.shown is not None:
            return self.shown(instrument, channel)
        value: Value | None = instrument.get(self.name, channel)
        if parameters and self.takes[1] == 1:
            value = self._limit(parameters[0], instrument, channel)
            if value is None:
                raise ScpiError(-224)
        return self._show(value, instrument, channel)

    @abstractmethod
    def read(self, text: str, instrument: Any, channel: int) -> Value:
        """Read a parameter, or raise the `ScpiError` that refuses it."""

    @abstractmethod
    def _initial(self) -> Value: ...

    @abstractmethod
    def _show(self, value: Any, instrument: Any, channel: int) -> str: ...

    def _limit(self, *_: Any) -> Value | None:
        return None


@final
@dataclass(frozen=True)
class Number(StoredValue):
    """A number between bounds, or MINimum, MAXimum, DEFault; what lies outside raises -222."""

    initial: float
    bounds: Bounds
    unit: str = ""  # that may follow
    asks: ClassVar = (0, 1)  # the limit
    _: KW_ONLY
    whole: bool = False  # whether it is shown without decimals
    infinite: bool = False  # whether INFinity is a value
    # By what a value is multiplied where it is sent or shown; `initial` and `bounds` are without.
    factor: Callable[[Any, int], float] = lambda *_: 1.0

    def _initial(self) -> float:
        return self.initial

    def read(self, text: str, instrument: Any, channel: int) -> float:
        """Read a number or the name of a limit."""
        if (limit := self._limit(text, instrument, channel)) is not None:
            return limit
        infinite = self.infinite and matches(text, "INFinity")
        number = INFINITY if infinite else read_number(text, self.unit)
        if self.infinite and number >= INFINITY:
            return INFINITY
        number /= self.factor(instrument, channel)
        low, high = self._bounds(instrument, channel)
        margin = 1e-9 * max(abs(low), abs(high))  # limits that were computed are rounded
        if not low - margin <= number <= high + margin:
            raise ScpiError(-222)
        return min(max(number, low), high)

    def _bounds(self, instrument: Any, channel: int) -> tuple[float, float]:
        return self.bounds(instrument, channel) if callable(self.bounds) else self.bounds

    def _limit(self, text: str, instrument: Any, channel: int) -> float | None:
        values = (*self._bounds(instrument, channel), self.initial)
        limits = zip(("MINimum", "MAXimum", "DEFault"), values, strict=True)
        return next((value for word, value in limits if matches(text, word)), None)

    def _show(self, value: Any, instrument: Any, channel: int) -> str:
        if self.infinite and value >= INFINITY:
            return f"{INFINITY:{instrument.sign}.1E}"
        shown = value * self.factor(instrument, channel)
        return str(instrument.whole(shown) if self.whole else instrument.decimal(shown))


@final
@dataclass(frozen=True)
class Keyword(StoredValue):
    """One of some words such as ``"EXTernal"``; at first the first one."""

    words: tuple[str, ...]

    def _initial(self) -> str:
        return short(self.words[0])

    def read(self, text: str, *_: Any) -> str:
        """Find the word, in its short form."""
        for word in self.words:
            if matches(text, word):
                return short(word)
        raise ScpiError(-224)

    def _show(self, value: Any, *_: Any) -> str:
        return str(value)


@final
@dataclass(frozen=True)
class Switch(StoredValue):
    """ON or OFF, 1 or 0; any number that does not round to 0 is ON."""

    initial: bool = False

    def _initial(self) -> bool:
        return self.initial

    def read(self, text: str, *_: Any) -> bool:
        """Read a switch."""
        if text.upper() in ("ON", "OFF"):
            return text.upper() == "ON"
        return bool(round(read_number(text)))

    def _show(self, value: Any, *_: Any) -> str:
        return str(int(value))


@final
@dataclass(frozen=True)
class Text(StoredValue):
    """A string of bounded length."""

    initial: str = ""
    most: int = 40

    def _initial(self) -> str:
        return self.initial

    def read(self, text: str, *_: Any) -> str:
        """Read a string."""
        string = read_string(text)
        if len(string) > self.most:
            raise ScpiError(-223)
        return string

    def _show(self, value: Any, *_: Any) -> str:
        return '"{}"'.format(str(value).replace('"', '""'))


Entry: TypeAlias = Command | StoredValue
Route: TypeAlias = tuple[Entry, tuple[bool, ...]]

_NODES = re.compile(r"(\[?):?(\*?[A-Za-z|]+)(#?):?\]?")


def routes(entries: Iterable[Entry]) -> dict[tuple[str, ...], Route]:
    """Find every spelling of every header, and which of its nodes take a suffix.

    Raises
    ------
    ValueError
        Two entries have a spelling in common.
    """
    found: dict[tuple[str, ...], Route] = {}
    for entry in entries:
        choices: list[list[tuple[str, bool] | None]] = []
        for optional, names, numbered in _NODES.findall(entry.pattern):
            words = {word for name in names.split("|") for word in (short(name), name.upper())}
            choices.append([(word, bool(numbered)) for word in words])
            choices[-1] += [None] if optional else []
        for chosen in itertools.product(*choices):
            nodes = [node for node in chosen if node is not None]
            header = tuple(word for word, _ in nodes)
            if header in found:
                raise ValueError(f"{':'.join(header)} stands twice in the table.")
            found[header] = (entry, tuple(numbered for _, numbered in nodes))
    return found
