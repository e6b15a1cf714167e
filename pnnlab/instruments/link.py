"""One instrument over one VISA session: questions, command groups, blocks, and what goes wrong.

After every command group the instrument's error queue (``SYST:ERR?``, SCPI-99 volume 2, section
21.8) is read to its end. An answer that did not come in time may still come later, and would then
be taken for the answer to the next question. So after any failure of the link its session is
thrown away, and the next use opens a new one, makes sure that the same instrument answers, and
clears its status (``*CLS``, IEEE 488.2).
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Self, TypeVar, final

import numpy as np
import pyvisa

from pnnlab.errors import InstrumentError, LinkError
from pnnlab.instruments.scratch import Scratch
from pnnlab.instruments.wire import Wire, open_wire

_ERRORS = ":SYST:ERR?"
_ERROR = re.compile(r'([+-]?\d+)\s*,\s*".*"')
_DEEPEST_QUEUE = 100
_REPEATS = 2
_FAILURES = (pyvisa.Error, OSError, RuntimeError, ValueError)

_Answer = TypeVar("_Answer")


@final
class Link:
    """The conversation with one instrument. May be shared by threads.

    Parameters
    ----------
    resource : str
        VISA address, such as ``"TCPIP::192.168.0.7::5025::SOCKET"``.
    library : str
        ``"@py"`` for pyvisa-py, ``"@ivi"`` for the VISA of an instrument maker, or the path of
        a VISA library.
    timeout_s : float
        The longest silence of the instrument, s. A large waveform that it takes long to digest
        needs more.
    models : sequence of str
        Parts of the identity, one of which must be in it; empty: any instrument will do.

    Raises
    ------
    LinkError
        If nobody answers at this address.
    InstrumentError
        If another model answers.

    Attributes
    ----------
    identity : str
        The answer to ``*IDN?``: maker, model, serial number, firmware.
    lock : threading.RLock
        Hold it for a sequence that nothing may interrupt.
    reopened : int
        How often the session had to be opened anew.
    round_trips : int
        How often the instrument's answer was awaited.
    """

    def __init__(
        self,
        resource: str,
        *,
        library: str = "@py",
        timeout_s: float = 5.0,
        models: Sequence[str] = (),
    ) -> None:
        self.resource = resource
        self.library = library
        self.timeout_s = timeout_s
        self.lock = threading.RLock()
        self.reopened = 0
        self.round_trips = 0
        self.identity = ""
        self._wire: Wire | None = None
        self._closed = False
        self.identity = self._connect()
        if models and not any(model in self.identity for model in models):
            self.close()
            raise InstrumentError(
                f"{self} is none of {', '.join(models)}. Check the address, or choose the dialect "
                "that this instrument speaks."
            )

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

    def send(self, *messages: str) -> None:
        """Send a command group and read the error queue to its end. Never repeated.

        Raises
        ------
        InstrumentError
            If the instrument queued an error.
        LinkError
            If the link broke; whether the group was carried out is not known then.
        """
        with self._session(messages[0]) as wire:
            wire.write(*messages, _ERRORS)
            self._report(wire, "; ".join(messages))

    def send_block(
        self,
        header: str,
        payload: bytes | bytearray | memoryview,
        *,
        before: Sequence[str] = (),
        after: Sequence[str] = (),
    ) -> None:
        """Send a definite-length block (IEEE 488.2, 7.7.6), with commands around it, as one group.

        Parameters
        ----------
        header : str
            Command and what stands before the block, such as ``"DATA:ARB:DAC name,"``.
        payload : bytes-like
            The data.
        before, after : sequence of str
            Commands that go before it and after it.

        Raises
        ------
        InstrumentError, LinkError
            As `send` does.
        """
        data = memoryview(payload).cast("B")
        head = f"{header}#{len(str(len(data)))}{len(data)}"
        with self._session(header) as wire:
            wire.write_block(before, head, data, (*after, _ERRORS))
            self._report(wire, "; ".join((*before, f"{header}({len(data)} bytes)", *after)))

    def ask(self, message: str) -> str:
        """Ask what may be asked twice; after a failure of the link it is, up to two times.

        Raises
        ------
        InstrumentError
            If the instrument does not know the question.
        LinkError
            If there is no answer in the end.
        """
        with self.lock:
            for _ in range(_REPEATS):
                try:
                    return self._ask(message)
                except LinkError:
                    continue
            return self._ask(message)

    def ask_block(
        self, message: str, most_bytes: int, scratch: Scratch | None = None
    ) -> memoryview:
        """Ask for a definite-length block. Not repeated: what is read may be gone by then.

        Parameters
        ----------
        message : str
            The question.
        most_bytes : int
            More than this is not believed.
        scratch : Scratch, optional
            Where the data may lie.

        Returns
        -------
        memoryview
            The data alone.

        Raises
        ------
        InstrumentError
            If the instrument queued an error instead of answering.
        LinkError
            If the answer is no block, is too long or too short, or did not come.
        """
        with self._session(message) as wire:
            wire.write(message)
            start = self._await(wire, message, lambda: wire.read_exactly(2))
            if start[:1] != b"#" or start[1:] not in b"123456789":
                raise LinkError(f"{self} answered {message!r} with {bytes(start)!r}, not a block.")
            digits = wire.read_exactly(int(start[1:]))
            if not digits.isdigit() or int(digits) > most_bytes:
                raise LinkError(
                    f"{self} answered {message!r} with a block of {bytes(digits)!r} bytes; at most "
                    f"{most_bytes} were expected."
                )
            data = (scratch or Scratch()).array(int(digits) + 1, np.uint8).data
            wire.read_into(data)
            if data[-1] != ord("\n"):
                raise LinkError(f"{self}: the block that {message!r} asked for does not end.")
            return data[:-1]

    def reopen(self) -> None:
        """Close the session, open another, and make sure that the same instrument answers.

        Its settings are not touched, but may be others if it was switched off: apply and read
        them back.

        Raises
        ------
        LinkError
            If nobody answers.
        InstrumentError
            If another instrument does, or the link was closed for good.
        """
        with self.lock:
            self._drop()
            identity = self._connect()
            if identity != self.identity:
                self._drop()
                raise InstrumentError(
                    f"{self} is gone: {identity!r} answers at its address instead of "
                    f"{self.identity!r}. Check the addresses."
                )
            self.reopened += 1

    def close(self) -> None:
        """End the session for good. The instrument stays as it is."""
        with self.lock:
            self._closed = True
            self._drop()

    @contextmanager
    def _session(self, doing: str) -> Iterator[Wire]:
        """Lend the wire; the only place where failures of a link are caught."""
        with self.lock:
            try:
                yield self._wire or self._renewed()
            except InstrumentError as error:
                if isinstance(error, LinkError):
                    self._drop()
                raise
            except _FAILURES as error:
                self._drop()
                raise LinkError(
                    f"{self}: {doing!r} failed ({_reason(error)}). Check that the instrument is "
                    "on, its cable and its address; the next use tries a new session."
                ) from error
            except BaseException:  # Ctrl-C: an answer may still be under way
                self._drop()
                raise

    def _renewed(self) -> Wire:
        self.reopen()
        if self._wire is None:
            raise LinkError(f"{self} was lost as soon as it was found.")
        return self._wire

    def _connect(self) -> str:
        """Open a session and return who answers, with an empty error queue."""
        if self._closed:
            raise InstrumentError(f"The link to {self} is closed. Make a new one.")
        with self._opening():
            self._wire = open_wire(self.resource, self.library, self.timeout_s)
        with self._session("*IDN?") as wire:
            wire.write("*IDN?")
            identity = self._line(wire)
            wire.write("*CLS", _ERRORS)
            self._report(wire, "*CLS")
            return identity

    @contextmanager
    def _opening(self) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            raise LinkError(
                f"{self} cannot be opened ({_reason(error)}). Check the address, that the "
                f"instrument is on, and that {self.library!r} is a VISA library."
            ) from error

    def _ask(self, message: str) -> str:
        with self._session(message) as wire:
            wire.write(message)
            return self._await(wire, message, wire.read_line)

    def _await(self, wire: Wire, message: str, read: Callable[[], _Answer]) -> _Answer:
        """Read an answer; where none comes, ask the error queue why."""
        self.round_trips += 1
        try:
            return read()
        except TimeoutError:
            wire.write(_ERRORS)
            errors = self._queued(wire)
            if not errors:
                raise
        # Nothing says that the answer will not come after all.
        self._drop()
        raise InstrumentError(
            f"{self} did not answer {message!r} but queued {'; '.join(errors)}. -113 means that "
            "it does not know the command: choose the dialect that it speaks."
        )

    def _line(self, wire: Wire) -> str:
        self.round_trips += 1
        return wire.read_line()

    def _report(self, wire: Wire, group: str) -> None:
        errors = self._queued(wire)
        if errors:
            raise InstrumentError(f"{self} refused {group!r}: {'; '.join(errors)}.")

    def _queued(self, wire: Wire) -> list[str]:
        """Read the error queue, whose first entry has been asked for, to its end."""
        errors: list[str] = []
        while len(errors) < _DEEPEST_QUEUE:
            line = self._line(wire)
            found = _ERROR.fullmatch(line)
            if found is None:
                raise LinkError(f"{self} answered {_ERRORS!r} with {line[:60]!r}: out of step.")
            if int(found[1]) == 0:
                return errors
            errors.append(line)
            wire.write(_ERRORS)
        raise LinkError(f"{self}: its error queue has no end, last {errors[-1]}.")

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            with suppress(*_FAILURES):  # a session that cannot even be closed is gone
                wire.close()


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0].rstrip(".:") if text else "") or type(error).__name__
