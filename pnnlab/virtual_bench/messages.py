"""Program messages of IEEE 488.2 and SCPI-99, cut from a stream of bytes and taken apart.

A message ends with a line feed, unless that stands inside a definite-length block
(IEEE 488.2, 7.7.6). Whatever comes in, `Framer` keeps at most one message of bounded size, and
what is malformed leaves as a `ScpiError`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final

MOST_TEXT = 2**20  # bytes of a message outside its blocks: 65 536 points written as numbers fit
MOST_BLOCKS = 8

ERRORS = {  # SCPI-99, volume 2, section 21.8
    0: "No error",
    -101: "Invalid character",
    -102: "Syntax error",
    -103: "Invalid separator",
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
    -310: "System error",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
    -410: "Query INTERRUPTED",
}


@final
class ScpiError(Exception):
    """What an instrument puts into its error queue.

    Parameters
    ----------
    code : int
        Negative: of SCPI-99; positive: the instrument's own.
    text : str, optional
        By default the standard one.
    """

    def __init__(self, code: int, text: str | None = None) -> None:
        self.code = code
        self.text = ERRORS[code] if text is None else text
        super().__init__(f"{code},{self.text}")


@final
@dataclass(frozen=True)
class Message:
    """A whole program message.

    Attributes
    ----------
    text : str
        Without its terminator; NUL stands for a block.
    blocks : tuple of bytes
        The payloads, in order.
    """

    text: str
    blocks: tuple[bytes, ...] = ()


_STOPS = {
    b"": re.compile(rb"[\n\"'#]"),
    b'"': re.compile(rb'[\n"]'),
    b"'": re.compile(rb"[\n']"),
}


@final
class Framer:
    """Cuts a stream into messages.

    Parameters
    ----------
    most_bytes : int
        Longest block, and longest sum of blocks in one message; longer ones are skipped.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._start()

    def _start(self) -> None:
        self._state: Literal["text", "hash", "count", "block", "skip"] = "text"
        self._quote = b""
        self._text = bytearray()
        self._blocks: list[bytes] = []
        self._count = bytearray()  # digits that give the length of a block, their number first
        self._block = bytearray()
        self._left = 0
        self._held = 0
        self._broken = False  # an error was given; the rest of the message is dropped

    def feed(self, data: bytes) -> Iterator[Message | ScpiError]:
        """Take in what has arrived, and yield each message that is now whole."""
        position = 0
        while position < len(data):
            match self._state:
                case "text":
                    position, found = self._read_text(data, position)
                case "hash" | "count":
                    position, found = self._read_count(data, position)
                case _:
                    position, found = self._read_block(data, position)
            if found is not None:
                yield found

    def close(self) -> ScpiError | None:
        """The stream has ended: the error that an unfinished message leaves."""
        error = None
        if self._state != "text" and not self._broken:
            error = ScpiError(-161)
        elif self._text.strip():
            error = ScpiError(-102)
        self._start()
        return error

    def _read_text(self, data: bytes, start: int) -> tuple[int, Message | ScpiError | None]:
        stop = _STOPS[self._quote].search(data, start)
        end = stop.start() if stop else len(data)
        error = self._keep(data[start:end])
        if stop is None:
            return end, error
        mark = stop.group()
        if mark == b"\n":
            return end + 1, error or self._finish()
        if mark == b"#":
            self._state = "hash"
            return end + 1, error
        self._quote = b"" if self._quote else mark
        return end + 1, error or self._keep(mark)

    def _keep(self, text: bytes) -> ScpiError | None:
        if self._broken:
            return None
        if len(self._text) + len(text) > MOST_TEXT:
            return self._break(-363)
        self._text += text.replace(b"\0", b"\1")  # NUL is ours; neither is a valid character
        return None

    def _break(self, code: int) -> ScpiError:
        self._broken = True
        self._text.clear()
        self._blocks.clear()
        return ScpiError(code)

    def _finish(self) -> Message | None:
        broken, text, blocks = self._broken, self._text.decode("latin-1"), tuple(self._blocks)
        self._start()
        return None if broken else Message(text.removesuffix("\r"), blocks)

    def _read_count(self, data: bytes, start: int) -> tuple[int, ScpiError | None]:
        digit = data[start : start + 1]
        if self._state == "hash":
            if digit not in b"123456789":  # #H1F and the like are numbers; #0 ends with the line
                self._state = "text"
                return start, self._keep(b"#")
            self._state = "count"
        elif not digit.isdigit():
            self._state = "text"
            self._count.clear()
            return start, None if self._broken else self._break(-161)
        self._count += digit
        if len(self._count) <= self._count[0] - ord("0"):
            return start + 1, None
        self._left = int(self._count[1:])
        self._count.clear()
        self._state = "block"
        error = None
        if not self._broken and self._held + self._left > self._most:
            error = self._break(-223)
        if self._broken:
            self._state = "skip"
        return start + 1, error or self._end_of_block()

    def _read_block(self, data: bytes, start: int) -> tuple[int, ScpiError | None]:
        end = min(len(data), start + self._left)
        if self._state == "block":
            self._block += memoryview(data)[start:end]
        self._left -= end - start
        return end, self._end_of_block()

    def _end_of_block(self) -> ScpiError | None:
        if self._left:
            return None
        skipped = self._state == "skip"
        self._state = "text"
        if skipped:
            return None
        if len(self._blocks) == MOST_BLOCKS:
            return self._break(-223)
        self._blocks.append(bytes(self._block))
        self._held += len(self._block)
        self._block = bytearray()
        self._text += b"\0"
        return None


@final
@dataclass(frozen=True)
class Unit:
    """One command or query of a message.

    Attributes
    ----------
    nodes : tuple of (str, int or None)
        The header from its root: each mnemonic in capitals, and its numeric suffix.
    query : bool
        Whether it ends with a question mark.
    parameters : tuple of str or bytes
        As sent; bytes are a block.
    """

    nodes: tuple[tuple[str, int | None], ...]
    query: bool
    parameters: tuple[str | bytes, ...] = ()


_HEADER = re.compile(r"\s*([^\s\0]+)(?:\s+(.*?))?\s*", re.DOTALL)
_PATH = re.compile(r"(:?)([A-Za-z]\w*(?::[A-Za-z]\w*)*)(\??)", re.ASCII)
_COMMON = re.compile(r"(\*[A-Za-z]+)(\??)")
_NODE = re.compile(r"(\w*?)(\d*)", re.ASCII)


def units(message: Message) -> Iterator[Unit]:
    """Take a message apart.

    A header without a leading colon goes on below the path of the one before (SCPI-99, volume 1,
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
    path: tuple[tuple[str, int | None], ...] = ()
    for text in split(message.text, ";"):
        if not text.strip():
            continue
        matched = _HEADER.fullmatch(text)
        if matched is None:
            raise ScpiError(-102)
        header, rest = matched.groups(default="")
        parameters = tuple(_parameter(part, blocks) for part in (split(rest, ",") if rest else ()))
        if common := _COMMON.fullmatch(header):
            nodes: tuple[tuple[str, int | None], ...] = ((common[1].upper(), None),)
            yield Unit(nodes, bool(common[2]), parameters)
            continue
        found = _PATH.fullmatch(header)
        if found is None:
            raise ScpiError(-102)
        nodes = tuple(_node(name) for name in found[2].split(":"))
        nodes = nodes if found[1] else path + nodes
        path = nodes[:-1]
        if len(path) > 16:
            raise ScpiError(-113)
        yield Unit(nodes, bool(found[3]), parameters)


def _node(name: str) -> tuple[str, int | None]:
    found = _NODE.fullmatch(name.upper())
    if found is None:
        raise ScpiError(-102)
    mnemonic, digits = found.groups()
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
    """Split at a separator that stands outside quotes.

    Raises
    ------
    ScpiError
        -151: a quote is not closed.
    """
    if '"' not in text and "'" not in text:
        return text.split(separator)
    parts, start, quote = [], 0, ""
    for position, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign == separator:
            parts.append(text[start:position])
            start = position + 1
    if quote:
        raise ScpiError(-151)
    return [*parts, text[start:]]
