"""Program messages of IEEE 488.2 and SCPI-99: read from a stream, parsed, and their values.

A message ends with a line feed, unless that stands inside a definite-length block
(IEEE 488.2, 7.7.6). What is malformed becomes a `ScpiError`; no message takes unbounded memory.
"""

import math
import re
from collections.abc import Iterator, Sequence
from io import BufferedReader
from typing import Any, NamedTuple, TypeAlias, final

MOST_TEXT = 2**20  # bytes of a message outside its blocks: 65 536 points written as numbers fit
MOST_BLOCKS = 8
MOST_NODES = 16  # of a header
_HTTP_END = b" HTTP/1.1\r\n"
_HTTP = re.compile(rb"\sHTTP/[\d.]+\s*\Z")
_CHUNK = 2**14  # bytes of a refused block that are dropped at once

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


class Message(NamedTuple):
    """A whole program message."""

    text: str  # without its terminator; NUL stands for a block
    blocks: tuple[bytes, ...] = ()


# Outside quotes, and inside those of each kind.
_STOPS = {b"": re.compile(rb"[\n\"'#]"), b'"': re.compile(rb'[\n"]'), b"'": re.compile(rb"[\n']")}


def read_message(stream: BufferedReader, most_bytes: int) -> Message | ScpiError | None:
    """Read the next message, or what is wrong with it; None at the end of the stream.

    Blocks beyond `most_bytes` in one message are skipped. A request line of HTTP ends the stream:
    any web page may send one to this machine, and commands in its body.
    """
    text, blocks, quote = bytearray(), list[bytes](), b""
    error: ScpiError | None = None
    while waiting := stream.peek():
        stop = _STOPS[quote].search(waiting)
        mark = stop.group() if stop else b""
        text += stream.read(stop.end() if stop else len(waiting)).replace(b"\0", b"\1")
        if len(text) > MOST_TEXT:
            error = error or ScpiError(-363)
            del text[: -len(_HTTP_END)]
        if mark == b"\n":
            if _HTTP.search(text):
                return None
            return error or Message(text[:-1].decode("latin-1").removesuffix("\r"), tuple(blocks))
        if mark == b"#":
            if not b"1" <= stream.peek()[:1] <= b"9":  # #H1F and the like are numbers
                continue
            room = -1 if error or len(blocks) == MOST_BLOCKS else most_bytes - sum(map(len, blocks))
            try:
                blocks.append(_read_block(stream, room))
                text[-1:] = b"\0"
            except ScpiError as refused:
                error = error or refused
        elif mark:
            quote = b"" if quote else mark
    if text.strip() and not error:
        error = ScpiError(-161 if text.endswith(b"#") else -102)
    return error


def _read_block(stream: BufferedReader, room: int) -> bytes:
    digits = b""
    for _ in range(int(stream.read(1))):
        if not stream.peek()[:1].isdigit():
            raise ScpiError(-161)
        digits += stream.read(1)
    length = int(digits)
    if length > room:
        while length and (dropped := stream.read(min(length, _CHUNK))):
            length -= len(dropped)
        raise ScpiError(-223)
    data = stream.read(length)
    if len(data) < length:
        raise ScpiError(-161)
    return data


_UNIT = re.compile(
    r"\s*(\*[A-Z]+|:?[A-Z]\w*(?::[A-Z]\w*)*)(\??)(?:\s+(.*?))?\s*",
    re.DOTALL | re.ASCII | re.IGNORECASE,
)
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
Parameters: TypeAlias = Sequence[Any]  # of str, or bytes where one is a block


def units(message: Message) -> Iterator[tuple[str, bool, Parameters]]:
    """Parse a message into headers in capitals, whether each is a query, and their parameters.

    A header without a leading colon continues the path of the one before (SCPI-99, volume 1,
    6.2.4); common commands leave that path alone. The first unit that cannot be read raises, and
    the rest of the message is lost, as IEEE 488.2 allows.
    """
    if re.search(r"[^ -~\t\0\r]", message.text):
        raise ScpiError(-101)
    blocks = iter(message.blocks)
    path = ""
    for text in filter(str.strip, split(message.text, ";")):
        matched = _UNIT.fullmatch(text)
        if matched is None:
            raise ScpiError(-102)
        header, query, rest = matched.groups(default="")
        parameters = tuple(_parameter(part, blocks) for part in (split(rest, ",") if rest else ()))
        if not header.startswith("*"):
            header = header[1:] if header.startswith(":") else path + header
            path = header[: header.rfind(":") + 1]
            if path.count(":") > MOST_NODES:
                raise ScpiError(-113)
        yield header.upper(), bool(query), parameters


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
_PREFIXES = {"": 1.0, "N": 1e-9, "U": 1e-6, "M": 1e-3, "K": 1e3}
_UNITS = {
    "": {},
    "HZ": {"HZ": 1.0, "KHZ": 1e3, "MHZ": 1e6, "MAHZ": 1e6, "GHZ": 1e9, "UHZ": 1e-6},
    "OHM": {"OHM": 1.0, "KOHM": 1e3, "MOHM": 1e6},
    "PCT": {"PCT": 1.0, "%": 1.0},
    "DEG": {"DEG": 1.0},
    "RAD": {"RAD": 1.0, "DEG": math.pi / 180},
    "V": {p + "V": f for p, f in _PREFIXES.items()},
    "VPP": {p + u: f for p, f in _PREFIXES.items() for u in ("V", "VPP")},
    "S": {p + "S": f for p, f in _PREFIXES.items()},
}


def read_number(text: str, unit: str = "") -> float:
    """Read a decimal number as IEEE 488.2 has them, with or without its unit."""
    if len(text) > 255:
        raise ScpiError(-124)
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ScpiError(-104 if text[0].isalpha() or text[0] in "\"'" else -120)
    factor = ({"": 1.0} | _UNITS[unit]).get(found[2].upper())
    if factor is None:
        raise ScpiError(-131 if unit else -138)
    number = float(found[1]) * factor
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
