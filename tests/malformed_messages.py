"""Messages that are malformed on purpose, and random ones, for every virtual instrument."""

import io
import random
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from hypothesis import strategies as st

from pnnlab.virtual_bench.bench import answers
from pnnlab.virtual_bench.generator_models import Afg3000, Keysight33500
from pnnlab.virtual_bench.instrument import Command, SimulatedInstrument, undefined
from pnnlab.virtual_bench.messages import ScpiError
from pnnlab.virtual_bench.oscilloscope_models import Ds1000z, InfiniiVision

MODELS: dict[str, Callable[[], SimulatedInstrument]] = {
    "keysight generator": Keysight33500,
    "tektronix generator": Afg3000,
    "keysight oscilloscope": InfiniiVision,
    "rigol oscilloscope": Ds1000z,
}
Bytes: TypeAlias = st.SearchStrategy[bytes]

# Numbers stay below what would make an oscilloscope convert millions of points an example.
NUMBERS = st.one_of(
    st.integers(-9_999, 9_999).map(str),
    st.floats(-1e4, 1e4).map(repr),
    st.sampled_from(["MIN", "DEF", "1e-6", "+.5E-3", "2 MV", "1.5 kHz", "#HFF", "1e30", "9.9E37"]),
)
WORDS = st.sampled_from(["ON", "OFF", "0", "RAW", "WORD", "NORM", "BUS", "ARB", "EMEM", "CHAN2"])
BLOCKS = st.binary(max_size=40).map(lambda data: b"#2%02d" % len(data) + data)


def spelled(pattern: str) -> str:
    """A header that a pattern stands for: the longest, for the first channel."""
    return re.sub(r"[\[\]]|\|\w+", "", pattern).replace("#", "1")


def entries(model: Callable[[], SimulatedInstrument]) -> tuple[list[Command], list[Command]]:
    """The settings and the other commands of a model, but those that wait for a trigger."""
    table = [entry for entry in model().commands if "DIGitize" not in entry.pattern]
    settings = [entry for entry in table if entry.setting is not None]
    return settings, [entry for entry in table if entry.setting is None]


def refuses(entry: Command, text: str, code: int, instrument: SimulatedInstrument) -> bool:
    """Whether a setting refuses a value for this reason."""
    try:
        entry.do(instrument, 1, (text,))
    except ScpiError as error:
        return error.code == code
    return False


def malformed(model: Callable[[], SimulatedInstrument]) -> Bytes:
    """Whole messages, each of which must leave an error in the queue."""
    settings, commands = entries(model)
    headers = st.sampled_from([spelled(entry.pattern) for entry in settings]).map(str.encode)
    numbers = [entry for entry in settings if refuses(entry, "ZQX", -104, model())]
    finite = [entry for entry in numbers if refuses(entry, "1e99", -222, model())]
    choices = [entry for entry in settings if refuses(entry, "ZQX", -224, model())]
    numbered = [entry.pattern for entry in settings if "#" in entry.pattern]

    def of(chosen: list[Command]) -> Bytes:
        return st.sampled_from([spelled(entry.pattern) for entry in chosen]).map(str.encode)

    def after(header: Bytes, rest: Bytes) -> Bytes:
        return st.tuples(header, rest).map(b" ".join)

    junk = st.sampled_from([b"1e", b"1.2.3", b"--1", b"1e999", b"#HXYZ", b"#B2", b"1 QQ", b"'1'"])
    silent = [entry.pattern for entry in commands if entry.ask is undefined]
    mute = [entry.pattern for entry in commands if entry.do is undefined]
    return st.one_of(
        st.from_regex(rb"\A:?ZQX[A-Z]{0,9}(:[A-Z]{1,5}){0,3}\??( [0-9]{1,3})?\Z"),
        headers,
        headers.map(lambda header: header + b" 1,2,3,4"),
        headers.map(lambda header: header + b' "abc'),
        headers.map(lambda header: header + b" 1,,"),
        after(
            headers, st.binary(min_size=1, max_size=3).map(lambda b: b.translate(HIGH) + b"\xff")
        ),
        after(headers, st.sampled_from([b"#3x12", b"#42b22", b"#1a"])),
        after(of(numbers), junk),
        after(of(finite), st.sampled_from([b"1e30", b"-1E+30"])),
        after(of(numbers), BLOCKS),
        after(of(choices), st.from_regex(rb"\AZQX[A-Z]{0,20}\Z")),
        st.sampled_from(numbered).map(
            lambda pattern: re.sub(r"[\[\]]", "", pattern).replace("#", "77").encode() + b"?"
        ),
        st.sampled_from(silent).map(lambda pattern: spelled(pattern).encode() + b"?"),
        st.sampled_from(mute).map(lambda pattern: spelled(pattern).encode()),
    ).map(lambda message: message + b"\n")


HIGH = bytes(128 + value % 128 for value in range(256))


def anything(model: Callable[[], SimulatedInstrument]) -> Bytes:
    """Messages of every sort: well-formed, mutilated, random."""
    settings, commands = entries(model)
    headers = [spelled(entry.pattern) for entry in (*settings, *commands)]
    header = st.sampled_from([text.encode() for text in headers])
    mark = st.sampled_from([b"", b"?", b" ", b":", b"? "])
    text = st.one_of(NUMBERS, WORDS).map(str.encode)
    value = st.one_of(text, BLOCKS, st.binary(max_size=8))
    values = st.lists(value, max_size=3).map(b",".join)
    unit = st.tuples(header, mark, st.just(b" "), values).map(b"".join)
    whole = st.lists(unit, min_size=1, max_size=3).map(b";".join)

    def mutilated(message: bytes, at: int, cut: int, put: bytes) -> bytes:
        at %= len(message) + 1
        return message[:at] + put + message[at + cut :]

    broken = st.builds(
        mutilated, whole, st.integers(0, 99), st.integers(0, 5), st.binary(max_size=3)
    )
    return st.one_of(whole, broken, st.binary(max_size=30)).map(lambda message: message + b"\n")


def mutants(pool: list[bytes], seed: int, count: int) -> Iterator[bytes]:
    """Messages made from others: cut, put together, with bytes knocked out or in."""
    rng = random.Random(seed)
    for _ in range(count):
        message = bytearray(rng.choice(pool))
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(message) + 1)
            match rng.randrange(4):
                case 0:
                    message[at : at + rng.randrange(6)] = b""
                case 1:
                    message[at:at] = rng.randbytes(rng.randrange(4))
                case 2:
                    message[at:at] = rng.choice([b";", b":", b",", b"#", b'"', b"\n", b"*", b"?"])
                case _:
                    message[at:] = rng.choice(pool)
        yield bytes(message)


def disguised(pool: list[bytes], seed: int, count: int) -> Iterator[bytes]:
    """Malformed messages in other shapes: no less malformed."""
    rng = random.Random(seed)
    harmless = [b"", b" ", b"\t", b":", b"*WAI;", b"*WAI;:", b";;", b"*OPC;*WAI; :"]
    for _ in range(count):
        message = rng.choice(pool)
        if b"#" not in message:
            message = message.swapcase() if rng.randrange(2) else message
        if rng.randrange(4) == 0:
            message = message.removesuffix(b"\n") + b";" + rng.choice(pool)
        before = rng.choice(harmless)
        yield before + (message.lstrip(b":") if before.endswith(b":") else message)


class Pieces(io.RawIOBase):
    """A stream that arrives in pieces; a function among them is called when its turn comes."""

    def __init__(self, pieces: Iterable[bytes | Callable[[], None]]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece if isinstance(piece, bytes) else piece() or b""
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def arriving(pieces: Iterable[bytes | Callable[[], None]]) -> io.BufferedReader:
    return io.BufferedReader(Pieces(pieces))


def cut(stream: bytes, sizes: list[int]) -> Iterator[bytes]:
    """A stream in pieces of these sizes; the last one is what remains."""
    start = 0
    for size in sizes:
        yield stream[start : start + size]
        start += size
    yield stream[start:]


def answered(instrument: SimulatedInstrument, stream: bytes, pieces: list[int]) -> bytes:
    """What is answered to a stream that arrives in pieces, and to its end."""
    return b"".join(answers(instrument, arriving(cut(stream, pieces))))


def errors(instrument: SimulatedInstrument) -> list[str]:
    """Empty the queue."""
    found = []
    while not (error := answered(instrument, b"SYST:ERR?\n", []).decode()).startswith(
        ("0,", "+0,")
    ):
        found.append(error)
    return found
