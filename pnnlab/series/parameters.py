"""Turn ``-p NAME VALUE`` into values for each notebook, refusing what none of them knows."""

import ast
from collections.abc import Callable, Sequence
from pathlib import Path

from pnnlab.errors import NotebookError
from pnnlab.series.finding import Notebook
from pnnlab.summary import SCALES

_WORDS = {"true": True, "false": False, "null": None, "none": None}


def assign(
    notebooks: Sequence[Notebook], given: Sequence[tuple[str, str]], out: Path
) -> tuple[dict[str, object], ...]:
    """Give each notebook the parameters that it has.

    Parameters
    ----------
    notebooks : sequence of Notebook
        Those that will run.
    given : sequence of (name, text)
        From the command line; the last of two with one name counts.
    out : Path
        Folder of the results; goes to every notebook with a parameter ``out``.

    Returns
    -------
    tuple of dict
        One for each notebook.

    Raises
    ------
    NotebookError
        If no notebook has a parameter, or a value does not fit it.
    """
    known = dict.fromkeys(name for notebook in notebooks for name in notebook.parameters)
    for name, text in given:
        if name == "out":
            raise NotebookError("The folder of the results is chosen with --out DIR, not -p out.")
        if name not in known:
            listed = ", ".join(n for n in known if n != "out") or "none at all"
            raise NotebookError(
                f"No chosen notebook has a parameter {name!r}; they have: {listed}."
            )
        if name == "scale" and text not in SCALES:
            raise NotebookError(f"There is no scale {text!r}; give one of {', '.join(SCALES)}.")
    texts = dict(given)
    return tuple(
        {
            name: str(out) if name == "out" else _fit(name, texts[name], notebook)
            for name in notebook.parameters
            if name == "out" or name in texts
        }
        for notebook in notebooks
    )


def _fit(name: str, text: str, notebook: Notebook) -> object:
    """Read a value as the kind of thing that the parameter's default is."""
    default = notebook.parameters[name]
    if isinstance(default, str):
        return _parse_text(text)
    value = _parse(text)
    for kind, want, fit in _KINDS:
        if isinstance(default, kind):
            fitted = fit(value)
            if fitted is None:
                raise NotebookError(
                    f"Parameter {name!r} of {notebook.name} is {want} (by default {default!r}), "
                    f"not {text!r}."
                )
            return fitted
    return value


def _fit_bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _fit_int(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():  # 1e3, as people write counts
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _fit_float(value: object) -> float | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value if isinstance(value, float) else None


def _fit_list(value: object) -> list[object] | None:
    return list(value) if isinstance(value, list | tuple) else None


def _fit_dict(value: object) -> dict[object, object] | None:
    return value if isinstance(value, dict) else None


# In this order, because a bool is also an int.
_KINDS: tuple[tuple[type | tuple[type, ...], str, Callable[[object], object | None]], ...] = (
    (bool, "true or false", _fit_bool),
    (int, "a whole number", _fit_int),
    (float, "a number", _fit_float),
    ((list, tuple), "a list such as '[1, 2]'", _fit_list),
    (dict, "a dictionary such as \"{'a': 1}\"", _fit_dict),
)


def _parse_text(text: str) -> str:
    """Text as it is, less the quotes that a Python literal would have."""
    value = _parse(text)
    return value if isinstance(value, str) else text


def _parse(text: str) -> object:
    """Read a Python literal, or true, false, null and none in any case; else it is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return _WORDS.get(text.strip().lower(), text)
