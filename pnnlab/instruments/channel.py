"""A channel of an instrument: settings that are sent, read back, and compared.

They hold for one session of the link: later the instrument may have been switched off and on again.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Self, TypeVar, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pnnlab.errors import InstrumentError, LinkError
from pnnlab.instruments.dialects import GeneratorDialect, ScopeDialect, Setting
from pnnlab.instruments.link import Link

Dialect = TypeVar("Dialect", GeneratorDialect, ScopeDialect)
Values = Mapping[str, str]

_INFINITY = 9.9e37  # how SCPI writes it (SCPI-99, volume 1, 7.2.1)
_SWITCH = {"ON": "1", "OFF": "0"}


class Channel(Generic[Dialect]):
    """A channel of a generator or an oscilloscope. Use it in a ``with`` statement, or close it."""

    def __init__(self, link: Link, dialect: Dialect, channel: int) -> None:
        self.link = link
        self.dialect: Dialect = dialect
        self.channel = channel
        self._session: int | None = None  # of the link, in which the settings were applied
        self._values: Values = {}  # what stands for the names in braces of the dialect

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the link."""
        self.link.close()

    def _apply(self, **values: str) -> None:
        """Send all settings as one group, and read them back."""
        self._values = values | {"channel": str(self.channel)}
        self._session = None
        with self.link.lock:
            session = self.link.reopened + self.link.broken  # a broken one is opened anew now
            self.link.send(
                *(command.format_map(self._values) for command in self.dialect.before),
                *commands(self.dialect.settings, self._values),
            )
            self._read_back(self.dialect.settings)
            self._session = session

    def _expect_settings(self) -> None:
        """Raise unless the settings were applied, and the link has held since then."""
        if self._session is None:
            raise InstrumentError(f"{self.link} is not set up; apply settings first.")
        if self.link.broken or self.link.reopened != self._session:
            raise LinkError(
                f"The link to {self.link} broke after it was set up. Apply the settings again."
            )

    def _read_back(self, settings: Sequence[Setting], *questions: str) -> dict[str, str]:
        """Compare settings with what was sent; return the answers to these and more questions."""
        values = self._values
        sent: dict[str, Setting] = {
            one.header.format_map(values): one for one in settings if one.verified
        }
        asked = [*map("{}?".format, sent), *questions]
        if self.dialect.compound:
            message = ";".join(f":{question.lstrip(':')}" for question in asked)
            said = self.link.ask(message).split(";")
            if len(said) != len(asked):
                raise InstrumentError(f"{self.link} gave {len(said)} answers to {message!r}.")
        else:
            said = [self.link.ask(question) for question in asked]
        answers = dict(zip(asked, said, strict=True))
        for header, setting in sent.items():
            value, answer = setting.value.format_map(values), answers[f"{header}?"]
            if not agrees(value, answer, setting.tolerance):
                raise InstrumentError(
                    f"{self.link}: {header} was set to {value} but is {answer}. Choose a value "
                    "that the instrument can take, and do not use its front panel."
                )
        return answers


def commands(settings: Sequence[Setting], values: Values) -> list[str]:
    """Write settings as commands."""
    return [f"{setting.header} {setting.value}".format_map(values) for setting in settings]


def number(value: float) -> str:
    """Write a number as commands take it, with nine digits."""
    return "INF" if value == math.inf else f"{value + 0.0:.9G}"  # without the sign of -0


def agrees(sent: str, answer: str, tolerance: float) -> bool:
    """Whether an answer means what was sent: short or long form, ON or 1, rounded numbers."""
    words = (text.strip().strip('"').upper() for text in (sent, answer))
    sent, answer = (_SWITCH.get(word, word) for word in words)
    try:
        one, other = (
            math.inf if float(text) >= _INFINITY else float(text) for text in (sent, answer)
        )
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=1e-12)
    except ValueError:
        return answer == sent or (sent.isalpha() and answer.startswith(sent))


@final
class Scratch:
    """Memory for one array at a time, used again: new pages take longer to get than to fill."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def array(self, count: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return an array (count,) of any content, valid until the next call."""
        size = count * np.dtype(dtype).itemsize
        if len(self._bytes) < size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size].view(dtype)
