"""Program messages of IEEE 488.2 and SCPI-99: separated in a stream of bytes, parsed, and read.

A message ends with a line feed, unless that stands inside a definite-length block
(IEEE 488.2, 7.7.6). Whatever comes in, `Framer` keeps at most one message of bounded size, and
what is malformed becomes a `ScpiError`.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias, final

MOST_TEXT = 2**20  # bytes of a message outside its blocks: 65 536 points written as numbers fit
MOST_BLOCKS = 8

ERRORS = {  # SCPI-99, volume 2, section 21.8
    0: "No error",
    -101: "Invalid character",
    -102: "Syntax error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -114: "Header suffix out of range",
    -120: "Numeric data error",
    -123: "Exponent too large",
    -124: "Too many digits",
    -131: "Invalid suffix",
    -138: "Suffix not allowed",
    -151: "Invalid string data",
    -161: "Invalid block data",
    -168: "Block data not allowed",
    -211: "Trigger ignored",
    -221: "Settings conflict",
    -222: "Data out of range",
    -223: "Too much data",
    -224: "Illegal parameter value",
    -230: "Data corrupt or stale",
    -240: "Hardware error",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
}


@final
class ScpiError(Exception):
    """What goes into the error queue; positive codes are the instrument's own and need a text."""

    def __init__(self, code: int, text: str | None = None) -> None:
        self.code = code
        self.text = ERRORS[code] if text is None else text
        super().__init__(f"{code},{self.text}")


@final
@dataclass(frozen=True)
class Message:
    """A whole program message."""

    text: str  # without its terminator; NUL stands for a block
    blocks: tuple[bytes, ...] = ()  # the payloads, in order


# Outside quotes, and inside those of each kind.
_STOPS = {b"": re.compile(rb"[\n\"'#]"), b'"': re.compile(rb'[\n"]'), b"'": re.compile(rb"[\n']")}


@final
class Framer:
    """Separate the messages of a stream; blocks beyond `most_bytes` in one message are skipped."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._data = bytearray()  # arrived, and not taken yet
        self._begin()

    def _begin(self) -> None:
        self._text = bytearray()
        self._blocks: list[bytes] = []
        self._quote = b""
        self._skip = 0  # bytes of a refused block that are still to come
        self._refused = False  # an error was given; the rest of the message is dropped

    def feed(self, data: bytes) -> Iterator[Message | ScpiError]:
        """Take in what has arrived, and yield each message that is now whole."""
        self._data += data
        while self._data:
            try:
                if self._skip:
                    self._skip -= len(self._take(self._skip))
                    continue
                stop = _STOPS[self._quote].search(self._data)
                end, mark = (stop.start(), stop.group()) if stop else (len(self._data), b"")
                self._keep(self._take(end))
                if mark == b"\n":
                    self._take(1)
                    text, blocks, refused = bytes(self._text), tuple(self._blocks), self._refused
                    self._begin()
                    if not refused:
                        yield Message(text.decode("latin-1").removesuffix("\r"), blocks)
                elif mark == b"#":
                    if not self._take_block():
                        return
                elif mark:
                    self._quote = b"" if self._quote else mark
                    self._keep(self._take(1))
            except ScpiError as error:
                if not self._refused:
                    yield error
                self._refused = True
                self._text.clear()
                self._blocks.clear()

    def close(self) -> ScpiError | None:
        """Return the error that an unfinished message leaves when the stream ends."""
        error = None
        if not self._refused and (self._data or self._text.strip()):
            error = ScpiError(-161 if self._data else -102)
        self._data.clear()
        self._begin()
        return error

    def _take(self, count: int) -> bytes:
        taken = bytes(memoryview(self._data)[:count])
        del self._data[:count]
        return taken

    def _keep(self, text: bytes) -> None:
        if len(self._text) + len(text) > MOST_TEXT:
            raise ScpiError(-363)
        if not self._refused:
            self._text += text.replace(b"\0", b"\1")  # NUL stands for a block

    def _take_block(self) -> bool:
        """Take the block that begins here, or return False if some of it has not come yet."""
        if len(self._data) < 2:
            return False
        start = 2 + self._data[1] - ord("0")
        if not 3 <= start <= 11:  # #H1F and the like are numbers
            self._keep(self._take(1))
            return True
        count = self._data[2:start]
        if count and not count.isdigit():
            self._take(2)
            raise ScpiError(-161)
        if len(self._data) < start:
            return False
        length = int(count)
        held = sum(map(len, self._blocks))
        if self._refused or held + length > self._most or len(self._blocks) == MOST_BLOCKS:
            self._take(start)
            self._skip = length
            raise ScpiError(-223)
        if len(self._data) < start + length:
            return False
        self._take(start)
        self._blocks.append(self._take(length))
        self._text += b"\0"
        return True


Nodes: TypeAlias = tuple[tuple[str, int | None], ...]


@final
@dataclass(frozen=True)
class Unit:
    """One command or query of a message."""

    nodes: Nodes  # the header from its root: each mnemonic in capitals, and its numeric suffix
    query: bool
    parameters: tuple[str | bytes, ...] = ()  # bytes are a block


_UNIT = re.compile(r"\s*([^\s\0?]+)(\??)(?:\s+(.*?))?\s*", re.DOTALL)
_COMMON = re.compile(r"\*[A-Za-z]+")
_PATH = re.compile(r":?[A-Za-z]\w*(?::[A-Za-z]\w*)*", re.ASCII)
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def units(message: Message) -> Iterator[Unit]:
    """Parse a message.

    A header without a leading colon continues the path of the one before (SCPI-99, volume 1,
    6.2.4); common commands leave that path alone.

    Raises
    ------
    ScpiError
        At the first unit that cannot be read; the rest of the message is lost, as IEEE 488.2
        allows.
    """
    if any(not (" " <= sign <= "~" or sign in "\t\0\r") for sign in message.text):
        raise ScpiError(-101)
    blocks = iter(message.blocks)
    path: Nodes = ()
    for text in filter(str.strip, split(message.text, ";")):
        matched = _UNIT.fullmatch(text)
        if matched is None:
            raise ScpiError(-102)
        header, query, rest = matched.groups(default="")
        parameters = tuple(_parameter(part, blocks) for part in (split(rest, ",") if rest else ()))
        if _COMMON.fullmatch(header):
            yield Unit(((header.upper(), None),), bool(query), parameters)
        elif _PATH.fullmatch(header):
            nodes = tuple(_node(name) for name in header.lstrip(":").split(":"))
            nodes = nodes if header.startswith(":") else path + nodes
            path = nodes[:-1]
            if len(path) > 16:
                raise ScpiError(-113)
            yield Unit(nodes, bool(query), parameters)
        else:
            raise ScpiError(-102)


def _node(name: str) -> tuple[str, int | None]:
    mnemonic = name.upper().rstrip("0123456789")
    digits = name[len(mnemonic) :]
    if len(digits) > 4:
        raise ScpiError(-114)
    return mnemonic, int(digits) if digits else None


def _parameter(text: str, blocks: Iterator[bytes]) -> str | bytes:
    text = text.strip()
    if text == "\0":
        return next(blocks)
    if "\0" in text:
        raise ScpiError(-161)
    if not text:
        raise ScpiError(-109)
    return text


def split(text: str, separator: str) -> list[str]:
    """Split at a separator that stands outside quotes; raise -151 if one is not closed."""
    if '"' not in text and "'" not in text:
        return text.split(separator)
    if re.search("[\"']", _QUOTED.sub("", text)):
        raise ScpiError(-151)
    hidden = _QUOTED.sub(lambda quoted: quoted[0].replace(separator, "\1"), text)
    return [part.replace("\1", separator) for part in hidden.split(separator)]


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
    """Read a number in any of the forms of IEEE 488.2, with or without its unit."""
    if len(text) > 255:
        raise ScpiError(-124)
    if text.startswith("#"):
        try:
            return float(int(text[2:], _BASES[text[1:2].upper()]))
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
    """Read a quoted string, or a bare word as many instruments take it; or raise -151."""
    quote = text[0]
    if quote in "\"'" and len(text) > 1 and text[-1] == quote:
        return text[1:-1].replace(2 * quote, quote)
    if not re.fullmatch(r"[\w.:\\/-]+", text):
        raise ScpiError(-151)
    return text


def matches(text: str, word: str) -> bool:
    """Tell whether a text is the short or the long form of a word such as ``"EXTernal"``."""
    return text.upper() in (short(word), word.upper())


def short(word: str) -> str:
    """Return the short form of a word: without its small letters."""
    return re.sub("[a-z]", "", word)
