"""The values that commands take: how each is read, what is refused, how it is shown."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from pnnlab.virtual_bench.messages import ScpiError

Value: TypeAlias = float | str | bool
Bounds: TypeAlias = tuple[float, float] | Callable[[Any, int], tuple[float, float]]

INFINITY = 9.9e37  # how SCPI writes it (SCPI-99, volume 1, 7.2.1.4)

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z%]*)")
_BASES = {"H": 16, "Q": 8, "B": 2}
_PREFIXES = {"": 1.0, "N": 1e-9, "U": 1e-6, "M": 1e-3, "K": 1e3}
_UNITS = {
    "": {},
    "HZ": {"HZ": 1.0, "KHZ": 1e3, "MHZ": 1e6, "MAHZ": 1e6, "GHZ": 1e9, "UHZ": 1e-6},
    "SA/S": {},
    "OHM": {"OHM": 1.0, "KOHM": 1e3, "MOHM": 1e6},
    "PCT": {"PCT": 1.0, "%": 1.0},
    "DEG": {"DEG": 1.0},
    "V": {p + u: f for p, f in _PREFIXES.items() for u in ("V", "VPP")},
    "S": {p + "S": f for p, f in _PREFIXES.items()},
}


def read_number(text: str, unit: str = "") -> float:
    """A number in any of the forms of IEEE 488.2, with or without its unit.

    Raises
    ------
    ScpiError
        It is no number, too long, too large, or has another unit.
    """
    if len(text) > 255:
        raise ScpiError(-124)
    if text.startswith("#") and len(text) > 2:
        try:
            return float(int(text[2:], _BASES[text[1].upper()]))
        except (KeyError, ValueError, OverflowError):
            raise ScpiError(-120) from None
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ScpiError(-104 if text[0].isalpha() or text[0] in "\"'" else -120)
    suffix = found[2].upper()
    if suffix and suffix not in _UNITS[unit]:
        raise ScpiError(-131 if _UNITS[unit] else -138)
    number = float(found[1]) * (_UNITS[unit][suffix] if suffix else 1.0)
    if not math.isfinite(number):
        raise ScpiError(-123)
    return number


def read_string(text: str) -> str:
    """A quoted string, or a bare word as many instruments take it.

    Raises
    ------
    ScpiError
        -151: it is neither.
    """
    quote = text[0]
    if quote in "\"'":
        if len(text) < 2 or text[-1] != quote:
            raise ScpiError(-151)
        return text[1:-1].replace(2 * quote, quote)
    if not re.fullmatch(r"[\w.:\\/-]+", text):
        raise ScpiError(-151)
    return text


def matches(text: str, word: str) -> bool:
    """Whether a text is the short or the long form of a word such as ``"EXTernal"``."""
    return text.upper() in (short(word), word.upper())


def short(word: str) -> str:
    """The short form: without its small letters."""
    return re.sub("[a-z]", "", word)


def nr3(value: float, digits: int = 15, exponent: int = 2) -> str:
    """A number with a sign, so many decimals, and an exponent of so many digits."""
    mantissa, power = f"{value:+.{digits}E}".split("E")
    return f"{mantissa}E{int(power):+0{exponent + 1}d}"


def nr1(value: float) -> str:
    """A whole number with its sign."""
    return f"{round(value):+d}"


class Kind(ABC):
    """A kind of value."""

    @abstractmethod
    def start(self) -> Value:
        """What it is after ``*RST``."""

    @abstractmethod
    def read(self, text: str, instrument: Any, channel: int) -> Value:
        """Read a parameter, or raise the `ScpiError` that refuses it."""

    @abstractmethod
    def show(self, value: Value, instrument: Any, channel: int) -> str:
        """What a query answers."""

    def limit(self, text: str, instrument: Any, channel: int) -> Value | None:
        """The bound that MINimum or MAXimum names, if this kind has any."""
        del text, instrument, channel
        return None


@final
@dataclass(frozen=True)
class Number(Kind):
    """A number between bounds, or MINimum, MAXimum, DEFault.

    Attributes
    ----------
    initial : float
        After ``*RST``, and DEFault.
    bounds : (float, float), or a function of instrument and channel that gives them
        Least and greatest value; what lies outside is refused with -222 and changes nothing.
    unit : str
        The unit that may follow.
    form : callable
        How it is shown.
    infinite : bool
        Whether INFinity is a value.
    """

    initial: float
    bounds: Bounds
    unit: str = ""
    form: Callable[[float], str] = nr3
    infinite: bool = False

    def start(self) -> float:
        """What ``initial`` is."""
        return self.initial

    def read(self, text: str, instrument: Any, channel: int) -> float:
        """Read a number."""
        if self.infinite and matches(text, "INFinity"):
            return INFINITY
        if matches(text, "DEFault"):
            return self.initial
        if (limit := self.limit(text, instrument, channel)) is not None:
            return limit
        number = read_number(text, self.unit)
        if self.infinite and number >= INFINITY:
            return INFINITY
        low, high = self._bounds(instrument, channel)
        margin = 1e-9 * max(abs(low), abs(high))  # limits that were computed are rounded
        if not low - margin <= number <= high + margin:
            raise ScpiError(-222)
        return min(max(number, low), high)

    def limit(self, text: str, instrument: Any, channel: int) -> float | None:
        """The bound that MINimum or MAXimum names."""
        for word, bound in zip(("MINimum", "MAXimum"), (0, 1), strict=True):
            if matches(text, word):
                return self._bounds(instrument, channel)[bound]
        return None

    def _bounds(self, instrument: Any, channel: int) -> tuple[float, float]:
        return self.bounds(instrument, channel) if callable(self.bounds) else self.bounds

    def show(self, value: Value, instrument: Any, channel: int) -> str:
        """The number in the instrument's way of writing."""
        del instrument, channel
        return self.form(float(value))


@final
@dataclass(frozen=True)
class Choice(Kind):
    """One of some words; a query answers its short form.

    Attributes
    ----------
    words : tuple of str
        In the notation of manuals, ``"EXTernal"``; the first is the value after ``*RST``.
    """

    words: tuple[str, ...]

    def start(self) -> str:
        """The first word's short form."""
        return short(self.words[0])

    def read(self, text: str, instrument: Any, channel: int) -> str:
        """Read a word."""
        del instrument, channel
        for word in self.words:
            if matches(text, word):
                return short(word)
        raise ScpiError(-224)

    def show(self, value: Value, instrument: Any, channel: int) -> str:
        """The word itself."""
        del instrument, channel
        return str(value)


@final
@dataclass(frozen=True)
class Switch(Kind):
    """ON or OFF, 1 or 0."""

    initial: bool = False

    def start(self) -> bool:
        """What ``initial`` is."""
        return self.initial

    def read(self, text: str, instrument: Any, channel: int) -> bool:
        """Read a switch; a number is ON unless it rounds to 0."""
        del instrument, channel
        if text.upper() in ("ON", "OFF"):
            return text.upper() == "ON"
        return bool(round(read_number(text)))

    def show(self, value: Value, instrument: Any, channel: int) -> str:
        """1 or 0."""
        del instrument, channel
        return "1" if value else "0"


@final
@dataclass(frozen=True)
class Text(Kind):
    """A string of bounded length."""

    initial: str = ""
    most: int = 40

    def start(self) -> str:
        """What ``initial`` is."""
        return self.initial

    def read(self, text: str, instrument: Any, channel: int) -> str:
        """Read a string."""
        del instrument, channel
        string = read_string(text)
        if len(string) > self.most:
            raise ScpiError(-223)
        return string

    def show(self, value: Value, instrument: Any, channel: int) -> str:
        """The string in quotes."""
        del instrument, channel
        return '"{}"'.format(str(value).replace('"', '""'))
