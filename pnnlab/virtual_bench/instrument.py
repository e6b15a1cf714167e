"""What every instrument that speaks SCPI has: a table of commands, status, an error queue.

The commands of a model are a table of data: `Setting` for what is merely kept, `Command` for the
rest. Sources: IEEE 488.2 for the common commands and the status byte, SCPI-99, volume 2,
section 21.8, for the error queue.
"""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from typing import Any, final

from pnnlab.virtual_bench.commands import Number, Value, nr1
from pnnlab.virtual_bench.messages import Message, ScpiError, Unit, units
from pnnlab.virtual_bench.table import Command, Entry, Setting, as_text, routes

QUEUE_DEPTH = 20
_OPERATION_COMPLETE, _QUERY, _DEVICE, _EXECUTION, _COMMAND, _POWER_ON = 1, 4, 8, 16, 32, 128


class SimulatedInstrument(ABC):
    """An instrument behind a socket; a subclass supplies the model.

    Parameters
    ----------
    identity : str
        What ``*IDN?`` answers.
    entries : sequence of Setting and Command
        The model's table.
    channels : int
        How many it has.
    memory_bytes : int
        Longest block it takes.
    lock : threading.RLock, optional
        Held while a command is carried out; two instruments that are wired share one.
    """

    def __init__(
        self,
        identity: str,
        entries: Iterable[Entry],
        *,
        channels: int,
        memory_bytes: int,
        lock: "threading.RLock | None" = None,
    ) -> None:
        table = (*COMMON, *entries)
        self.identity = identity
        self.channels = channels
        self.memory_bytes = memory_bytes
        self.lock = lock or threading.RLock()
        self.entries = table
        self._routes = routes(table)
        self._values: dict[tuple[str, int], Value] = {}
        self._errors: deque[ScpiError] = deque()
        self._events = _POWER_ON
        self._enabled = {"ese": 0, "sre": 0}
        self.reset()

    # --- what a model supplies ---

    @abstractmethod
    def clear_state(self) -> None:
        """Forget what ``*RST`` forgets besides the settings."""

    @abstractmethod
    def trigger(self) -> None:
        """Act on ``*TRG``, or raise -211."""

    # --- settings ---

    def get(self, name: str, channel: int = 1) -> Any:
        """The value of a setting."""
        return self._values[name, channel]

    def put(self, name: str, value: Value, channel: int = 1) -> None:
        """Change a setting without asking whether it may be."""
        self._values[name, channel] = value

    @final
    def reset(self) -> None:
        """All settings as ``*RST`` leaves them."""
        for setting in (entry for entry in self.entries if isinstance(entry, Setting)):
            for channel in range(1, self.channels + 1):
                self.put(setting.name, setting.kind.start(), channel)
        self.clear_state()

    # --- messages ---

    @final
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
            stream = units(message)
            while True:
                try:
                    unit = next(stream, None)
                    if unit is None:
                        break
                    answer = self._carry_out(unit)
                except ScpiError as error:
                    self.report(error)
                    if -200 < error.code <= -100:
                        break
                else:
                    if answer is not None:
                        answers.append(answer if isinstance(answer, bytes) else answer.encode())
        return b";".join(answers) + b"\n" if answers else b""

    def _carry_out(self, unit: Unit) -> str | bytes | None:
        route = self._routes.get(tuple(name for name, _ in unit.nodes))
        if route is None:
            raise ScpiError(-113)
        command, numbered = route
        channel = 1
        for (_, suffix), takes in zip(unit.nodes, numbered, strict=True):
            if suffix is None:
                continue
            if not takes:
                raise ScpiError(-113)
            channel = suffix
            if not 1 <= suffix <= self.channels:
                raise ScpiError(-114)
        act = command.ask if unit.query else command.do
        if act is None:
            raise ScpiError(-113)
        least, most = command.asks if unit.query else command.takes
        if len(unit.parameters) < least:
            raise ScpiError(-109)
        if len(unit.parameters) > most:
            raise ScpiError(-108)
        return act(self, channel, unit.parameters)

    # --- errors and status ---

    @final
    def report(self, error: ScpiError) -> None:
        """Put an error into the queue; one too many becomes -350, and the rest are lost."""
        with self.lock:
            self._events |= _event_bit(error.code)
            if len(self._errors) < QUEUE_DEPTH:
                self._errors.append(error)
            else:
                self._errors[-1] = ScpiError(-350)

    def next_error(self, *_: object) -> str:
        """Take the oldest error out of the queue."""
        error = self._errors.popleft() if self._errors else ScpiError(0)
        return self.show_error(error)

    def show_error(self, error: ScpiError) -> str:
        """How this maker writes an error."""
        return f'{error.code:+d},"{error.text}"'

    def clear_status(self, *_: object) -> None:
        """Empty the queue and the event registers."""
        self._errors.clear()
        self._events = 0

    def status(self) -> int:
        """The status byte: errors queued, standard events, request for service."""
        byte = 4 * bool(self._errors) + 32 * bool(self._events & self._enabled["ese"])
        return byte + 64 * bool(byte & self._enabled["sre"] & ~64)

    def take_events(self, *_: object) -> str:
        """The standard event register, which reading clears."""
        events, self._events = self._events, 0
        return nr1(events)

    def complete(self) -> None:
        """Set the operation complete bit; nothing here is ever pending when it is asked."""
        self._events |= _OPERATION_COMPLETE

    def enable(self, register: str, parameters: tuple[str | bytes, ...]) -> None:
        """Set ``*ESE`` or ``*SRE``."""
        mask = Number(0, (0, 255)).read(as_text(parameters[0]), self, 1)
        self._enabled[register] = round(mask)

    def enabled(self, register: str) -> str:
        """What ``*ESE?`` or ``*SRE?`` answers."""
        return nr1(self._enabled[register])


def _event_bit(code: int) -> int:
    match -code // 100:
        case 1:
            return _COMMAND
        case 2:
            return _EXECUTION
        case 4:
            return _QUERY
        case _:
            return _DEVICE


COMMON: tuple[Entry, ...] = (
    Command("*IDN", ask=lambda i, *_: i.identity),
    Command("*RST", do=lambda i, *_: i.reset()),
    Command("*CLS", do=SimulatedInstrument.clear_status),
    Command(
        "*ESE",
        do=lambda i, _, p: i.enable("ese", p),
        ask=lambda i, *_: i.enabled("ese"),
        takes=(1, 1),
    ),
    Command("*ESR", ask=SimulatedInstrument.take_events),
    Command(
        "*SRE",
        do=lambda i, _, p: i.enable("sre", p),
        ask=lambda i, *_: i.enabled("sre"),
        takes=(1, 1),
    ),
    Command("*STB", ask=lambda i, *_: nr1(i.status())),
    Command("*OPC", do=lambda i, *_: i.complete(), ask=lambda *_: "1"),
    Command("*OPT", ask=lambda *_: "0"),
    Command("*TST", ask=lambda *_: "+0"),
    Command("*WAI", do=lambda *_: None),
    Command("*TRG", do=lambda i, *_: i.trigger()),
    Command("SYSTem:ERRor[:NEXT]", ask=SimulatedInstrument.next_error, asks=(0, 1)),
    Command("SYSTem:VERSion", ask=lambda *_: "1999.0"),
)
