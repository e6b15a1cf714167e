"""A model's commands as a table of data, and every way in which their headers may be spelled."""

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from pnnlab.virtual_bench.commands import Kind, Value, short
from pnnlab.virtual_bench.messages import ScpiError


@final
@dataclass(frozen=True)
class Command:
    """A command, a query, or both.

    Attributes
    ----------
    pattern : str
        As manuals write it: ``"[SOURce#:]FUNCtion:ARBitrary:SRATe"``. Brackets: may be left out;
        # : takes a numeric suffix, that of a channel.
    do, ask : callable, optional
        What the command does, and what the query answers; each takes the instrument, the channel
        and the parameters.
    takes : (int, int)
        Least and greatest number of parameters of ``do``.
    asks : (int, int)
        The same of ``ask``.
    """

    pattern: str
    do: Callable[[Any, int, tuple[str | bytes, ...]], None] | None = None
    ask: Callable[[Any, int, tuple[str | bytes, ...]], str | bytes] | None = None
    takes: tuple[int, int] = (0, 0)
    asks: tuple[int, int] = (0, 0)


@final
@dataclass(frozen=True)
class Setting:
    """A value that is kept, for the whole instrument or for each channel.

    Attributes
    ----------
    pattern : str
        As for `Command`.
    name : str
        Under which `SimulatedInstrument.get` finds it.
    kind : Kind
        Which values it takes.
    then : callable, optional
        What follows, given the instrument, the channel and the value before; it may raise, and
        then that value is put back.
    """

    pattern: str
    name: str
    kind: Kind
    then: Callable[[Any, int, Value], None] | None = None

    def command(self) -> Command:
        """The command that sets it and the query that shows it."""
        return Command(self.pattern, self._set, self._show, takes=(1, 2), asks=(0, 2))

    def _set(self, instrument: Any, channel: int, parameters: tuple[str | bytes, ...]) -> None:
        value = self.kind.read(as_text(parameters[0]), instrument, channel)
        before = instrument.get(self.name, channel)
        instrument.put(self.name, value, channel)
        if self.then is not None:
            try:
                self.then(instrument, channel, before)
            except ScpiError:
                instrument.put(self.name, before, channel)
                raise

    def _show(self, instrument: Any, channel: int, parameters: tuple[str | bytes, ...]) -> str:
        value = instrument.get(self.name, channel)
        if parameters:
            limit = self.kind.limit(as_text(parameters[0]), instrument, channel)
            value = value if limit is None else limit
        return self.kind.show(value, instrument, channel)


Entry: TypeAlias = Command | Setting


def as_text(parameter: str | bytes) -> str:
    """A parameter that must not be a block."""
    if isinstance(parameter, bytes):
        raise ScpiError(-168)
    return parameter


_NODES = re.compile(r"(\[?):?(\*?[A-Za-z]+)(#?):?(\]?)")
Route: TypeAlias = tuple[Command, tuple[bool, ...]]


def routes(entries: Iterable[Entry]) -> dict[tuple[str, ...], Route]:
    """Every spelling of every header, with which of its nodes take a suffix."""
    found: dict[tuple[str, ...], Route] = {}
    for entry in entries:
        command = entry.command() if isinstance(entry, Setting) else entry
        choices: list[list[tuple[str, bool] | None]] = []
        for optional, name, numbered, _ in _NODES.findall(command.pattern):
            spellings: list[tuple[str, bool] | None] = [
                (word, bool(numbered))
                for word in dict.fromkeys((short(name.lstrip("*")), name.upper().lstrip("*")))
            ]
            if name.startswith("*"):
                spellings = [(name.upper(), False)]
            choices.append([*spellings, None] if optional else spellings)
        for chosen in itertools.product(*choices):
            nodes = [node for node in chosen if node is not None]
            key = tuple(word for word, _ in nodes)
            if key in found:
                raise ValueError(f"{':'.join(key)} stands twice in the table.")
            found[key] = (command, tuple(numbered for _, numbered in nodes))
    return found
