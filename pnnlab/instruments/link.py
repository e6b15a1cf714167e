"""One instrument over one VISA session: questions, command groups, blocks, and failures.

After each group the error queue (``SYST:ERR?``, SCPI-99 volume 2, 21.8) is read to its end. An
answer that is late would be taken for that to the next question: after any failure of the link the
next use opens a new session, with the same instrument, and clears its status (``*CLS``).
"""

import re
import select
import socket
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import NamedTuple, Self, TypeAlias, TypeVar, final

import pyvisa
from pyvisa.constants import StatusCode
from pyvisa.resources import MessageBasedResource

from pnnlab.errors import InstrumentError, LinkError

_ERRORS = ":SYST:ERR?"
_ERROR = re.compile(r'([+-]?\d+)\s*,\s*".*"')
_DEEPEST_QUEUE = 100
_REPEATS = 2
_SEARCH_S = 1.0  # for each instrument that is asked for its identity
_PIECE = 1 << 21  # bytes that must pass within one timeout
_PACKET = 1 << 16
_LONGEST_LINE = 1 << 16
_FAILURES = (pyvisa.Error, OSError, RuntimeError, ValueError)
_SOCKET = re.compile(r"TCPIP\d*::(.+)::(\d+)::SOCKET", re.IGNORECASE)

_Answer = TypeVar("_Answer")

Message: TypeAlias = "str | tuple[str, memoryview]"
"""A program message, or one whose text ends in a block of data."""


def open_wire(resource: str, library: str, timeout_s: float) -> "_Wire":
    """Open a session with one instrument, or raise any `Exception`.

    Close it after any error: an answer may still be under way. `TimeoutError` means silence for
    longer than the timeout.
    """
    address = _SOCKET.fullmatch(resource)
    if address and library == "@py":
        return _SocketWire((address[1], int(address[2])), timeout_s)
    milliseconds = max(1, round(1e3 * timeout_s))
    manager = pyvisa.ResourceManager(library)
    session = manager.open_resource(
        resource, open_timeout=milliseconds, resource_pyclass=MessageBasedResource
    )
    assert isinstance(session, MessageBasedResource)
    session.timeout = milliseconds
    return _VisaWire(session)


@final
class _SocketWire:
    """A socket of our own: pyvisa-py's leaves Nagle's algorithm on and moves 4 kB at a time.

    It waits forever where an instrument takes no more bytes, and spins until the timeout where one
    has closed the connection. A block of 2 MB takes 5 ms instead of 47, and back 7 instead of 89.
    """

    def __init__(self, address: tuple[str, int], timeout_s: float) -> None:
        self._socket = socket.create_connection(address, timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def write(self, *messages: Message) -> None:
        if select.select([self._socket], [], [], 0)[0]:
            raise OSError(f"it sent what no question asked for: {self._receive()[:40]!r}")
        # In one packet: a message and the question that follows it cost one round trip.
        text = ""
        for message in messages:
            if isinstance(message, str):
                text += f"{message}\n"
                continue
            head, data = message
            self._socket.sendall(b"".join(((text + head).encode("ascii"), data[:_PACKET])))
            for start in range(_PACKET, len(data), _PIECE):
                self._socket.sendall(data[start : start + _PIECE])
            text = "\n"
        self._socket.sendall(text.encode("ascii"))

    def read_line(self) -> str:
        line = b""
        while b"\n" not in line:
            if len(line) > _LONGEST_LINE:
                raise OSError(f"an answer of more than {_LONGEST_LINE} bytes has no end")
            line += self._receive()
        answer, _, more = line.partition(b"\n")
        if more:
            raise OSError(f"it sent what no question asked for: {more[:40]!r}")
        return answer.decode("latin-1").strip()

    def read_into(self, data: memoryview) -> None:
        while data:
            count = self._socket.recv_into(data)
            if not count:
                raise ConnectionResetError(f"it closed the connection {len(data)} bytes too early")
            data = data[count:]

    def clear(self) -> None:
        """Do nothing: the parser of a socket begins anew with each connection."""

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> bytes:
        data = self._socket.recv(_PACKET)
        if not data:
            raise ConnectionResetError("it closed the connection")
        return data


@final
class _VisaWire:
    """A session of any VISA library over any interface."""

    def __init__(self, session: MessageBasedResource) -> None:
        self._session = session
        # A socket has no other end of message; without it every answer would time out.
        is_socket = session.resource_name.upper().endswith("::SOCKET")
        self._termination = "\n" if is_socket else session.read_termination
        session.read_termination = self._termination

    def write(self, *messages: Message) -> None:
        # One by one: over USB and GPIB the end of a transfer is the end of a message.
        for message in messages:
            text, data = (message, b"") if isinstance(message, str) else message
            self._session.write_raw(b"".join((text.encode("ascii"), data, b"\n")))

    def read_line(self) -> str:
        with _timeouts():
            return self._session.read_raw().decode("latin-1").strip()

    def read_into(self, data: memoryview) -> None:
        # With a termination set, each byte 0x0A would end a read of the library.
        self._session.read_termination = None
        try:
            with _timeouts():
                data[:] = self._session.read_bytes(len(data), chunk_size=min(len(data), _PIECE))
        finally:
            self._session.read_termination = self._termination

    def clear(self) -> None:
        """Make the instrument forget a block that was cut short, where the interface can."""
        with suppress(pyvisa.Error, OSError, NotImplementedError):
            self._session.clear()

    def close(self) -> None:
        self._session.close()


_Wire: TypeAlias = _SocketWire | _VisaWire


@contextmanager
def _timeouts() -> Iterator[None]:
    try:
        yield
    except pyvisa.VisaIOError as error:
        if error.error_code == StatusCode.error_timeout:
            raise TimeoutError("timed out") from error
        raise


@final
class Link:
    """Messages to and from one instrument at a VISA address; may be shared by threads.

    ``library`` is ``"@py"`` for pyvisa-py, ``"@ivi"`` for the VISA of an instrument maker, or the
    path of a VISA library; ``timeout_s`` the longest silence of the instrument, s, also while it
    processes a large waveform. `LinkError`: no instrument answers.
    """

    def __init__(self, resource: str, *, library: str = "@py", timeout_s: float = 5.0) -> None:
        self.resource = resource
        self.library = library
        self.timeout_s = timeout_s
        self.lock = threading.RLock()  # for a sequence that no other thread may interrupt
        self.reopened = 0  # how often the session was opened anew
        self.identity = ""  # the answer to *IDN?: maker, model, serial number, firmware
        self._wire: _Wire | None = None
        self._closed = False
        self._open()

    def __str__(self) -> str:
        maker_and_model = " ".join(self.identity.split(",")[:2])
        return f"{maker_and_model} at {self.resource}" if self.identity else self.resource

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def broken(self) -> bool:
        """Whether the session was lost; the next use opens another."""
        return self._wire is None

    def send(self, *messages: Message) -> None:
        """Send a command group and read the error queue to its end. Never repeated.

        A message is a command, such as ``"OUTP1 ON"``, or a tuple: what stands before a
        definite-length block (IEEE 488.2, 7.7.6), such as ``"DATA:ARB:DAC name,"``, and its data.
        After a `LinkError` it is not known whether the group was carried out.
        """
        group = [one if isinstance(one, str) else _block(*one) for one in messages]
        names = [one if isinstance(one, str) else f"{one[0]} {len(one[1])} bytes" for one in group]
        with self._session(names[0]) as wire:
            self._obeyed(wire, "; ".join(names), *group)

    def ask(self, message: str) -> str:
        """Ask a question; repeat it up to two times after failures of the link."""
        with self.lock:
            for _ in range(_REPEATS):
                with suppress(LinkError):
                    return self._ask(message)
            return self._ask(message)

    def ask_block(self, message: str, data: memoryview) -> None:
        """Ask for a definite-length block that fills ``data``.

        Never repeated: a second answer may differ. Any other answer is a `LinkError`.
        """
        start, end = bytearray(2), bytearray(1)
        with self._session(message) as wire:
            wire.write(message)
            self._await(wire, message, lambda: wire.read_into(memoryview(start)))
            if start[:1] != b"#" or start[1:] not in b"123456789":
                raise LinkError(f"{self} answered {message!r} with {bytes(start)!r}, not a block.")
            digits = bytearray(int(start[1:]))
            wire.read_into(memoryview(digits))
            if not digits.isdigit() or int(digits) != len(data):
                raise LinkError(
                    f"{self} answered {message!r} with a block of {digits.decode('latin-1')!r} "
                    f"bytes; {len(data)} were expected."
                )
            wire.read_into(data)
            wire.read_into(memoryview(end))
            if end != b"\n":
                raise LinkError(f"{self}: the block that {message!r} asked for does not end.")

    def close(self) -> None:
        """End the session for good. The instrument stays as it is."""
        with self.lock:
            self._closed = True
            self._drop()

    @contextmanager
    def _session(self, doing: str) -> Iterator[_Wire]:
        """Lend the wire, and turn failures of the link into `LinkError`."""
        with self.lock:
            if self._wire is None:
                self._open()
            assert self._wire is not None
            try:
                yield self._wire
            except BaseException as error:
                if isinstance(error, InstrumentError) and not isinstance(error, LinkError):
                    raise  # it answered: the link is sound
                self._drop()  # after Ctrl-C too: an answer may still be under way
                if isinstance(error, LinkError) or not isinstance(error, _FAILURES):
                    raise
                raise LinkError(
                    f"{self}: {doing!r} failed ({reason(error)}). Check that the instrument is "
                    "on, its cable and its address; the next use tries a new session."
                ) from error

    def _open(self) -> None:
        """Open a session, always with the same instrument, and clear the error queue."""
        if self._closed:
            raise InstrumentError(f"The link to {self} is closed. Make a new one.")
        try:
            self._wire = open_wire(self.resource, self.library, self.timeout_s)
        except Exception as error:  # pyvisa-py raises nothing more special where no host answers
            raise LinkError(
                f"{self} cannot be opened ({reason(error)}). Check the address, that the "
                f"instrument is on, and that {self.library!r} is a VISA library."
            ) from error
        with self._session("*IDN?") as wire:
            wire.write("*IDN?")
            identity = wire.read_line()
            self._obeyed(wire, "*CLS", "*CLS")
        if self.identity and identity != self.identity:
            self._drop()
            raise InstrumentError(
                f"{self} is gone: {identity!r} answers at its address instead of "
                f"{self.identity!r}. Check the addresses."
            )
        self.reopened += bool(self.identity)
        self.identity = identity

    def _ask(self, message: str) -> str:
        with self._session(message) as wire:
            wire.write(message)
            return self._await(wire, message, wire.read_line)

    def _await(self, wire: _Wire, message: str, read: Callable[[], _Answer]) -> _Answer:
        """Read an answer; where none comes, or an empty one, ask the error queue why."""
        try:
            answer = read()
        except TimeoutError:
            errors = self._queued(wire)
            if not errors:
                raise
            self._drop()  # the answer may still come
        else:
            errors = [] if answer != "" else self._queued(wire)
            if not errors:
                return answer
        raise InstrumentError(
            f"{self} did not answer {message!r} but queued {'; '.join(errors)}. -113 means that "
            "it does not know the command: choose another dialect."
        )

    def _obeyed(self, wire: _Wire, name: str, *group: Message) -> None:
        errors = self._queued(wire, *group)
        if errors:
            raise InstrumentError(f"{self} refused {name!r}: {'; '.join(errors)}.")

    def _queued(self, wire: _Wire, *group: Message) -> list[str]:
        """Send a group, and read the error queue to its end."""
        errors: list[str] = []
        while len(errors) < _DEEPEST_QUEUE:
            wire.write(*group, _ERRORS)
            group = ()
            line = wire.read_line()
            found = _ERROR.fullmatch(line)
            if found is None:
                raise LinkError(
                    f"{self} answered {_ERRORS!r} with {line[:60]!r}, the answer to something else."
                )
            if int(found[1]) == 0:
                return errors
            errors.append(line)
        raise LinkError(f"{self}: its error queue has no end, last {errors[-1]}.")

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            with suppress(*_FAILURES):  # a session that cannot be closed is lost anyway
                wire.close()


def _block(header: str, data: memoryview) -> tuple[str, memoryview]:
    payload = memoryview(data).cast("B")
    return f"{header}#{len(str(len(payload)))}{len(payload)}", payload


class Resource(NamedTuple):
    """A VISA address, and the answer to ``*IDN?`` there, or why there is none."""

    name: str
    identity: str | None = None
    error: str | None = None


def list_resources(
    library: str = "@py", names: Sequence[str] | None = None
) -> tuple[Resource, ...]:
    """Find instruments and ask each for its identity, within about a second.

    They are asked ``*IDN?`` (IEEE 488.2) alone, which changes no setting. Do not ask while a
    measurement runs: an answer would come between its own. ``names`` are addresses to ask instead
    of those that the library finds; sockets, such as ``"TCPIP::192.168.0.7::5025::SOCKET"``, are
    never found. `InstrumentError`: the library cannot be loaded or cannot search.
    """
    try:
        manager = pyvisa.ResourceManager(library)
    except (OSError, ValueError) as error:
        raise InstrumentError(
            f"The VISA library {library!r} cannot be loaded ({reason(error)}). "
            "`pip install pyvisa-py` gives '@py', which needs no driver; '@ivi' needs the VISA of "
            "National Instruments, Keysight or Rohde & Schwarz."
        ) from error
    if names is None:
        try:
            with warnings.catch_warnings():
                # pyvisa-py warns of each optional package that would let it find more, and leaves
                # the sockets of its search to the garbage collector.
                warnings.simplefilter("ignore")
                names = manager.list_resources()
        except _FAILURES as error:
            raise InstrumentError(
                f"The VISA library {library!r} cannot search for instruments ({reason(error)}). "
                "Check the network and its drivers, or name an instrument by its address."
            ) from error
    return tuple(_identified(library, name) for name in names)


def _identified(library: str, name: str) -> Resource:
    if name.upper().startswith("ASRL"):
        return Resource(name, error="not asked: bytes may have any effect on a serial port")
    try:
        with closing(open_wire(name, library, _SEARCH_S)) as wire:
            wire.write("*IDN?")
            return Resource(name, identity=wire.read_line())
    except TimeoutError:
        return Resource(name, error=f"timeout: no answer within {_SEARCH_S:g} s")
    except Exception as error:  # noqa: BLE001  # as `Link._open` says
        return Resource(name, error=reason(error))


def reason(error: Exception) -> str:
    """The first line of an error's message, or else its kind."""
    text = str(error).strip().splitlines()
    return (text[0].rstrip(".:") if text else "") or type(error).__name__
