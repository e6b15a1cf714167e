"""A SCPI instrument: a table of commands, their values, status and an error queue.

Sources: IEEE 488.2 for the common commands and the status byte, SCPI-99, volume 2, section 21.8,
for the error queue.
"""

import math
import re
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, NamedTuple, TypeAlias, final

from pnnlab.virtual_bench.messages import (
    Message,
    Parameters,
    ScpiError,
    matches,
    read_number,
    read_string,
    short,
    units,
)

Value: TypeAlias = float | str | bool
Answer: TypeAlias = float | str | bytes
Bounds: TypeAlias = tuple[float, float] | Callable[[Any, int], tuple[float, float]]

INFINITY = 9.9e37  # how SCPI writes it (SCPI-99, volume 1, 7.2.1.4)
QUEUE_DEPTH = 20
_OPERATION_COMPLETE, _QUERY, _DEVICE, _EXECUTION, _COMMAND, _POWER_ON = 1, 4, 8, 16, 32, 128
_EVENTS = {1: _COMMAND, 2: _EXECUTION, 4: _QUERY}  # by the hundreds of an error's code
_MARKS = str.maketrans({"[": "(?:", "]": ")?", "#": r"(\d{0,9})", "*": r"\*"})


def undefined(*_: object) -> Any:
    """Stand for the command of what can only be queried, or the other way."""


@final
@dataclass(frozen=True)
class Command:
    """A command, a query, or both.

    `do` and `ask` are given the instrument, the channel and the parameters. They may raise the
    `ScpiError` that refuses them: the settings are then what they were before. An answer of bytes
    is sent as a block, a number as the make writes it.
    """

    # As manuals write it: "[SOURce#:]FUNCtion:ARBitrary:SRATe". Brackets: may be left out; #: takes
    # the number of a channel; |: either name.
    pattern: str
    do: Callable[[Any, int, Parameters], None] = undefined
    ask: Callable[[Any, int, Parameters], Answer] = undefined
    takes: tuple[int, int] = (0, 0)  # least and greatest number of parameters
    asks: tuple[int, int] = (0, 0)  # the same of the query
    block: bool = False  # whether the last parameter may be a block
    setting: tuple[str, Value] | None = None  # what it stores, and the value after ``*RST``

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """What matches the spellings of its header, in capitals; its group is the channel."""

        def spellings(found: re.Match[str]) -> str:
            names = found[0].split("|")
            return f"(?:{'|'.join(f'{short(name)}|{name.upper()}' for name in names)})"

        return re.compile(re.sub("[A-Za-z|]+", spellings, self.pattern).translate(_MARKS))


def setting(
    pattern: str,
    name: str,
    initial: Value,
    read: Callable[[str, Any, int], Value],
    *,
    show: Callable[[Any, Any, int], Answer] = lambda value, *_: value,
    then: Callable[[Any, int], None] = lambda *_: None,
    takes: tuple[int, int] = (1, 1),
    asks: tuple[int, int] = (0, 0),
) -> Command:
    """A value that is set and queried: of each channel where the pattern has a #, or else one.

    `then` is what follows; it may refuse the value. `show` turns it into an answer. A query may
    name a limit where it `asks` for one. Parameters after the first, such as the source of a
    trigger level, are ignored.
    """

    def do(instrument: Any, channel: int, parameters: Parameters) -> None:
        instrument.put(name, read(parameters[0], instrument, channel), channel)
        then(instrument, channel)

    def ask(instrument: Any, channel: int, parameters: Parameters) -> Answer:
        value: Value = instrument.get(name, channel)
        if parameters and takes[1] == 1:
            if not parameters[0].isalpha():
                raise ScpiError(-224)
            value = read(parameters[0], instrument, channel)
        return show(value, instrument, channel)

    return Command(pattern, do, ask, takes, asks, setting=(name, initial))


class Scale(NamedTuple):
    """How a number that is sent becomes the one that is kept, and the other way."""

    kept: Callable[[float, Any, int], float]
    shown: Callable[[float, Any, int], float]


def times(factor: Callable[[Any, int], float]) -> Scale:
    """Show what is kept times a factor, which depends on other settings."""
    return Scale(lambda value, i, c: value / factor(i, c), lambda value, i, c: value * factor(i, c))


AS_IT_IS = times(lambda *_: 1.0)
INVERSE = Scale(lambda value, *_: 1 / value, lambda value, *_: 1 / value)


def number(
    pattern: str,
    name: str,
    initial: float,
    bounds: Bounds,
    unit: str = "",
    *,
    whole: bool = False,
    infinite: bool = False,
    scale: Scale = AS_IT_IS,
    **options: Any,
) -> Command:
    """A number between bounds, or MINimum, MAXimum, DEFault; what lies outside raises -222.

    `unit` may follow it; `whole` shows it without decimals; `infinite` allows INFinity. `initial`
    and `bounds` are as it is kept, see `Scale`.
    """

    def read(text: str, i: Any, channel: int) -> float:
        ends = bounds(i, channel) if callable(bounds) else bounds
        low, high = sorted(scale.shown(end, i, channel) for end in ends)
        for word, limit in ("MINimum", low), ("MAXimum", high):
            if matches(text, word):
                return scale.kept(limit, i, channel)
        if matches(text, "DEFault"):
            return initial
        value = INFINITY if infinite and matches(text, "INFinity") else read_number(text, unit)
        if infinite and value >= INFINITY:
            return math.inf
        margin = 1e-9 * max(abs(low), abs(high))  # limits that were computed are rounded
        if not low - margin <= value <= high + margin:
            raise ScpiError(-222)
        return scale.kept(min(max(value, low), high), i, channel)

    def show(value: float, i: Any, channel: int) -> Answer:
        if math.isinf(value):
            return f"{INFINITY:{i.sign}.1E}"
        value = scale.shown(value, i, channel)
        return round(value) if whole else value

    options = {"show": show, "asks": (0, 1), **options}
    return setting(pattern, name, initial, read, **options)


def read_keyword(text: str, words: tuple[str, ...]) -> str:
    """Find the word in its short or long form, and return the short one; or raise -224."""
    for word in words:
        if matches(text, word):
            return short(word)
    raise ScpiError(-224)


def keyword(pattern: str, name: str, words: tuple[str, ...], **options: Any) -> Command:
    """One of some words such as ``"EXTernal"``; at first the first one."""
    initial = short(words[0])
    return setting(pattern, name, initial, lambda text, *_: read_keyword(text, words), **options)


def switch(
    pattern: str, name: str, initial: bool = False, *, ever: bool = True, **options: Any
) -> Command:
    """ON or OFF, 1 or 0; any number that does not round to 0 is ON, refused if not `ever` on."""

    def read(text: str, *_: Any) -> bool:
        on = text.upper() == "ON" or (text.upper() != "OFF" and round(read_number(text)) != 0)
        if on > ever:
            raise ScpiError(-224)
        return on

    return setting(pattern, name, initial, read, show=lambda value, *_: str(int(value)), **options)


def string(pattern: str, name: str, initial: str = "", most: int = 40, **options: Any) -> Command:
    """A string of at most so many characters; a longer one raises -223."""

    def read(text: str, *_: Any) -> str:
        value = read_string(text)
        if len(value) > most:
            raise ScpiError(-223)
        return value

    def show(value: str, *_: Any) -> str:
        return '"{}"'.format(value.replace('"', '""'))

    return setting(pattern, name, initial, read, show=show, **options)


class SimulatedInstrument(ABC):
    """An instrument behind a socket; a subclass supplies the model.

    `lock` is held while a command is carried out; instruments that are wired share one.
    """

    identity: ClassVar[str]  # what ``*IDN?`` answers
    channels: ClassVar[int]
    memory_bytes: ClassVar[int]  # the longest block it takes
    sign: ClassVar[str]  # of whole numbers: "+", or "-" where only negative ones have one
    notation: ClassVar[str]  # of other numbers, for `format`
    block_digits: ClassVar[int] = 1  # at least so many tell the length of a block

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._found = lru_cache(1000)(self._find)
        self._values: dict[tuple[str, int], Value] = {}
        self._errors: deque[ScpiError] = deque()
        self._events = _POWER_ON
        self.reset()

    @abstractmethod
    def _clear_state(self) -> None:
        """Forget what ``*RST`` forgets besides the settings."""

    @abstractmethod
    def trigger(self, *_: object) -> None:
        """Act on ``*TRG``, or raise -211."""

    def decimal(self, value: float) -> str:
        """Write a number as this make does."""
        return format(value, self.notation)

    def write(self, value: float) -> str:
        """Write an int as a whole number, and others as they are."""
        return f"{value:{self.sign}d}" if isinstance(value, int) else self.decimal(value)

    def get(self, name: str, channel: int = 1) -> Any:
        """Return a setting of a channel, or of the whole instrument."""
        return self._values[(name, channel) if (name, channel) in self._values else (name, 1)]

    def put(self, name: str, value: Value, channel: int = 1) -> None:
        """Change a setting without asking whether it may be."""
        self._values[name, channel] = value

    def reset(self, *_: object) -> None:
        """Make all settings what they are after ``*RST``, but for those of the status."""
        kept = {key: value for key, value in self._values.items() if key[0].startswith("*")}
        self._values = {
            (entry.setting[0], channel): entry.setting[1]
            for entry in self.commands
            if entry.setting is not None
            for channel in range(1, self.channels + 1 if "#" in entry.pattern else 2)
        } | kept
        self._clear_state()

    def execute(self, message: Message) -> bytes:
        """Carry out a message, and return what its queries answer, ended by a line feed.

        Errors go into the queue: one of the syntax drops the rest of its message, any other does
        not. A query that is refused is answered with nothing between its separators, where a real
        instrument leaves its client to wait until the timeout.
        """
        answers: list[bytes] = []
        with self.lock:
            try:
                for header, query, parameters in units(message):
                    answers += self._carry_out(header, query, parameters)
            except ScpiError as error:
                self.report(error)
                answers += [b""] * ("?" in message.text)
        return b";".join(answers) + b"\n" if answers else b""

    def _carry_out(self, header: str, query: bool, parameters: Parameters) -> list[bytes]:
        entry, channel = self._found(header)
        act = entry.ask if query else entry.do
        if act is undefined:
            raise ScpiError(-113)
        if not 1 <= channel <= self.channels:
            raise ScpiError(-114)
        least, most = entry.asks if query else entry.takes
        if not least <= len(parameters) <= most:
            raise ScpiError(-109 if len(parameters) < least else -108)
        texts = parameters[:-1] if entry.block and not query else parameters
        if bytes in map(type, texts):
            raise ScpiError(-168)
        before = self._values if query else self._values.copy()
        try:
            answer = act(self, channel, parameters)
        except ScpiError as error:
            self._values = before
            if -200 < error.code <= -100:
                raise
            self.report(error)
            return [b""] * query
        if isinstance(answer, bytes):
            count = str(len(answer)).zfill(self.block_digits)
            return [f"#{len(count)}{count}".encode() + answer]
        if answer is None:
            return []
        return [(answer if isinstance(answer, str) else self.write(answer)).encode()]

    def _find(self, header: str) -> tuple[Command, int]:
        for entry in self.commands:
            if found := entry.regex.fullmatch(header):
                return entry, int(next(filter(None, found.groups()), 1))
        raise ScpiError(-113)

    def report(self, error: ScpiError) -> None:
        """Put an error into the queue; one too many becomes -350, and the rest are lost."""
        with self.lock:
            self._events |= _EVENTS.get(-error.code // 100, _DEVICE)
            if len(self._errors) < QUEUE_DEPTH:
                self._errors.append(error)
            else:
                self._errors[-1] = ScpiError(-350)

    def _next_error(self, *_: object) -> str:
        error = self._errors.popleft() if self._errors else ScpiError(0)
        return f'{self.write(error.code)},"{error.text}"'

    def _clear_status(self, *_: object) -> None:
        self._errors.clear()
        self._events = 0

    def _status(self, *_: object) -> int:
        # Errors queued, standard events, request for service.
        byte = 4 * bool(self._errors) + 32 * bool(self._events & round(self.get("*ESE")))
        return byte + 64 * bool(byte & round(self.get("*SRE")) & ~64)

    def _take_events(self, *_: object) -> int:
        events, self._events = self._events, 0
        return events

    def _complete(self, *_: object) -> None:
        self._events |= _OPERATION_COMPLETE  # nothing is ever pending when it is asked

    commands: ClassVar[tuple[Command, ...]] = (
        Command("*IDN", ask=lambda i, *_: i.identity),
        Command("*RST", do=reset),
        Command("*CLS", do=_clear_status),
        number("*ESE", "*ESE", 0, (0, 255), whole=True),
        Command("*ESR", ask=_take_events),
        number("*SRE", "*SRE", 0, (0, 255), whole=True),
        Command("*STB", ask=_status),
        Command("*OPC", do=_complete, ask=lambda *_: "1"),
        Command("*OPT", ask=lambda *_: "0"),
        Command("*TST", ask=lambda *_: 0),
        Command("*WAI", do=lambda *_: None),
        Command("*TRG", do=lambda i, *_: i.trigger()),
        Command("SYSTem:ERRor[:NEXT]", ask=_next_error, asks=(0, 1)),
        Command("SYSTem:VERSion", ask=lambda *_: "1999.0"),
    )
