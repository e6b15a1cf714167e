"""What every instrument that speaks SCPI has: a table of commands, status, an error queue.

Sources: IEEE 488.2 for the common commands and the status byte, SCPI-99, volume 2, section 21.8,
for the error queue.
"""

import threading
from abc import ABC, abstractmethod
from collections import deque
from typing import Any, ClassVar

from pnnlab.virtual_bench.commands import Command, Entry, Number, StoredValue, Value, routes
from pnnlab.virtual_bench.messages import Message, ScpiError, Unit, units

QUEUE_DEPTH = 20
_OPERATION_COMPLETE, _QUERY, _DEVICE, _EXECUTION, _COMMAND, _POWER_ON = 1, 4, 8, 16, 32, 128
_EVENTS = {1: _COMMAND, 2: _EXECUTION, 4: _QUERY}  # by the hundreds of an error's code


class SimulatedInstrument(ABC):
    """An instrument behind a socket; a subclass supplies the model.

    `lock` is held while a command is carried out; two instruments that are wired share one.
    """

    identity: ClassVar[str]  # what ``*IDN?`` answers
    channels: ClassVar[int]
    memory_bytes: ClassVar[int]  # the longest block it takes
    sign: ClassVar[str]  # of whole numbers: "+", or "-" where only negative ones have one
    number: ClassVar[str]  # how others are written, for `format`
    block_digits: ClassVar[int] = 1  # at least so many tell the length of a block

    def __init__(self, *, lock: "threading.RLock | None" = None) -> None:
        self.lock = lock or threading.RLock()
        self._routes = routes(self.commands)
        self._values: dict[tuple[str, int], Value] = {}
        self._errors: deque[ScpiError] = deque()
        self._events = _POWER_ON
        self._stored = [entry for entry in self.commands if isinstance(entry, StoredValue)]
        for entry in self._stored:
            entry.reset(self)
        self.clear_state()

    @abstractmethod
    def clear_state(self) -> None:
        """Forget what ``*RST`` forgets besides the settings."""

    @abstractmethod
    def trigger(self, *_: object) -> None:
        """Act on ``*TRG``, or raise -211."""

    def decimal(self, value: float) -> str:
        """Write a number as this make does."""
        return format(value, self.number)

    def whole(self, value: float) -> str:
        """Write a whole number as this make does."""
        return f"{round(value):{self.sign}d}"

    def write(self, value: float) -> str:
        """Write an int as a whole number, and others as they are."""
        return self.whole(value) if isinstance(value, int) else self.decimal(value)

    # --- settings ---

    def get(self, name: str, channel: int = 1) -> Any:
        """Return a setting of a channel, or of the whole instrument."""
        return self._values[(name, channel) if (name, channel) in self._values else (name, 1)]

    def put(self, name: str, value: Value, channel: int = 1) -> None:
        """Change a setting without asking whether it may be."""
        self._values[name, channel] = value

    def reset(self, *_: object) -> None:
        """Make all settings what they are after ``*RST``."""
        for entry in self._stored:
            if not entry.kept:
                entry.reset(self)
        self.clear_state()

    # --- messages ---

    def execute(self, message: Message) -> bytes:
        """Carry out a message.

        Returns
        -------
        bytes
            What its queries answer, ended by a line feed; empty without a query. Errors go into
            the queue: one of the syntax drops the rest of its message, any other does not.
        """
        answers: list[bytes] = []
        with self.lock:
            try:
                for unit in units(message):
                    answers += self._carry_out(unit)
            except ScpiError as error:
                self.report(error)
        return b";".join(answers) + b"\n" if answers else b""

    def _carry_out(self, unit: Unit) -> list[bytes]:
        act, channel = self._find(unit)
        before = self._values if unit.query else self._values.copy()
        try:
            answer = act(self, channel, unit.parameters)
        except ScpiError as error:
            self._values = before
            if -200 < error.code <= -100:
                raise
            self.report(error)
            return []
        if isinstance(answer, bytes):
            count = str(len(answer)).zfill(self.block_digits)
            return [f"#{len(count)}{count}".encode() + answer]
        return [] if answer is None else [answer.encode()]

    def _find(self, unit: Unit) -> tuple[Any, int]:
        """What carries a command or a query out, and the channel it names."""
        entry, numbered = self._routes.get(tuple(name for name, _ in unit.nodes), (None, ()))
        act = None if entry is None else entry.ask if unit.query else entry.do
        channel = 1
        for (_, suffix), takes in zip(unit.nodes, numbered, strict=False):
            if suffix is not None:
                act, channel = act if takes else None, suffix
        if entry is None or act is None:
            raise ScpiError(-113)
        if not 1 <= channel <= self.channels:
            raise ScpiError(-114)
        least, most = entry.asks if unit.query else entry.takes
        if not least <= len(unit.parameters) <= most:
            raise ScpiError(-109 if len(unit.parameters) < least else -108)
        texts = unit.parameters[:-1] if entry.block and not unit.query else unit.parameters
        if bytes in map(type, texts):
            raise ScpiError(-168)
        return act, channel

    # --- errors and status ---

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
        return f'{self.whole(error.code)},"{error.text}"'

    def _clear_status(self, *_: object) -> None:
        self._errors.clear()
        self._events = 0

    def _status(self, *_: object) -> str:
        """The status byte: errors queued, standard events, request for service."""
        byte = 4 * bool(self._errors) + 32 * bool(self._events & round(self.get("*ESE")))
        return self.whole(byte + 64 * bool(byte & round(self.get("*SRE")) & ~64))

    def _take_events(self, *_: object) -> str:
        """The standard event register, which reading clears."""
        events, self._events = self._events, 0
        return self.whole(events)

    def _complete(self, *_: object) -> None:
        self._events |= _OPERATION_COMPLETE  # nothing is ever pending when it is asked

    commands: ClassVar[tuple[Entry, ...]] = (
        Command("*IDN", ask=lambda i, *_: i.identity),
        Command("*RST", do=reset),
        Command("*CLS", do=_clear_status),
        Number("*ESE", "*ESE", 0, (0, 255), whole=True, kept=True),
        Command("*ESR", ask=_take_events),
        Number("*SRE", "*SRE", 0, (0, 255), whole=True, kept=True),
        Command("*STB", ask=_status),
        Command("*OPC", do=_complete, ask=lambda *_: "1"),
        Command("*OPT", ask=lambda *_: "0"),
        Command("*TST", ask=lambda i, *_: i.whole(0)),
        Command("*WAI", do=lambda *_: None),
        Command("*TRG", do=lambda i, *_: i.trigger()),
        Command("SYSTem:ERRor[:NEXT]", ask=_next_error, asks=(0, 1)),
        Command("SYSTem:VERSion", ask=lambda *_: "1999.0"),
    )
