"""Settings that are sent, read back, and compared: an instrument may round or ignore them."""

import math
from collections.abc import Mapping, Sequence

from pnnlab.errors import InstrumentError
from pnnlab.instruments.dialects import GeneratorDialect, ScopeDialect, Setting
from pnnlab.instruments.link import Link

Values = Mapping[str, str]
Dialect = GeneratorDialect | ScopeDialect

_INFINITY = 9.9e37  # how SCPI writes it (SCPI-99, volume 1, 7.2.1)
_SWITCH = {"ON": "1", "OFF": "0"}


def number(value: float) -> str:
    """Write a number as commands take it, with nine digits."""
    return "INF" if value == math.inf else f"{value + 0.0:.9G}"  # without the sign of -0


def apply(link: Link, dialect: Dialect, values: Values) -> None:
    """Send all settings of a dialect as one group, and read them back; see `verify`."""
    commands = [f"{setting.header} {setting.value}" for setting in dialect.settings]
    link.send(*(command.format_map(values) for command in (*dialect.before, *commands)))
    verify(link, dialect, dialect.settings, values)


def verify(link: Link, dialect: Dialect, settings: Sequence[Setting], values: Values) -> None:
    """Read settings back.

    Parameters
    ----------
    link : Link
        The instrument.
    dialect : GeneratorDialect or ScopeDialect
        Its commands.
    settings : sequence of Setting
        Some of them.
    values : mapping
        What stands for the names in braces.

    Raises
    ------
    InstrumentError
        If one is not what it was set to.
    """
    settings = [setting for setting in settings if setting.verified]
    headers = [setting.header.format_map(values) for setting in settings]
    answers = _ask(link, [f"{header}?" for header in headers], compound=dialect.compound)
    for setting, header, answer in zip(settings, headers, answers, strict=True):
        value = setting.value.format_map(values)
        if not agrees(value, answer, setting.tolerance):
            raise InstrumentError(
                f"{link}: {header} was set to {value} but is {answer}. Choose a value that the "
                "instrument can take, and do not use its front panel."
            )


def _ask(link: Link, questions: Sequence[str], *, compound: bool) -> list[str]:
    if not compound:
        return [link.ask(question) for question in questions]
    message = ";".join(f":{question.lstrip(':')}" for question in questions)
    answers = link.ask(message).split(";")
    if len(answers) != len(questions):
        raise InstrumentError(f"{link} gave {len(answers)} answers to {message!r}.")
    return answers


def agrees(sent: str, answer: str, tolerance: float) -> bool:
    """Whether an answer means what was sent: short or long form, ON or 1, rounded numbers."""
    sent, answer = (_plain(text) for text in (sent, answer))
    try:
        return math.isclose(_value(sent), _value(answer), rel_tol=tolerance, abs_tol=1e-12)
    except ValueError:
        return answer == sent or (sent.isalpha() and answer.startswith(sent))


def _plain(text: str) -> str:
    text = text.strip().strip('"').upper()
    return _SWITCH.get(text, text)


def _value(text: str) -> float:
    value = float(text)
    return math.inf if value >= _INFINITY else value
