"""Find the notebooks, read and set the literals of their parameter cell, and run them in turn."""

import ast
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, final

import pnnlab
from pnnlab.errors import NotebookError, RunError
from pnnlab.results.rows import SCALES, SUFFIX, Summary
from pnnlab.storage import user_path

PATTERN = "[0-9][0-9]_*.ipynb"
NOT_A_LITERAL: Final = object()
"""Stands for a default that only running the notebook would tell."""
BAR = "{desc:<28.28} {bar} {n_fmt}/{total_fmt}  {elapsed} elapsed, {remaining} left"
Status = Literal["ok", "failed", "interrupted", "not run"]

_WORDS = {"true": True, "false": False, "null": None, "none": None}
_WANTED: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list such as '[1, 2]'",
    dict: "a dictionary such as \"{'a': 1}\"",
}


@final
@dataclass(frozen=True)
class Notebook:
    """A notebook of the lab.

    Attributes
    ----------
    path : Path
        The file, absolute.
    parameters : Mapping
        Names and defaults of the cell tagged ``parameters``.
    parameters_cell : int or None
        Position of that cell, from 0.
    """

    path: Path
    parameters: Mapping[str, object]
    parameters_cell: int | None

    @property
    def name(self) -> str:
        """File name without the ending, such as ``"03_fit_the_twin"``."""
        return self.path.stem


def notebooks_folder(given: str | Path | None = None) -> Path:
    """Find the folder that holds the notebooks.

    Parameters
    ----------
    given : path, optional
        Take this one. Otherwise ``notebooks/`` of the source checkout that this package runs
        from, or else of the current folder.

    Raises
    ------
    NotebookError
        If there is none, or it holds no notebook.
    """
    if given is not None:
        candidates = [user_path(given)]
    else:
        checkout = Path(pnnlab.__file__).resolve().parents[1]
        candidates = [checkout / "notebooks"] if (checkout / "pyproject.toml").is_file() else []
        candidates += [Path.cwd() / "notebooks", Path.cwd()]
    for folder in candidates:
        if any(folder.glob(PATTERN)):
            return folder.resolve()
    looked = ", ".join(dict.fromkeys(map(str, candidates)))
    raise NotebookError(
        f"No notebook named like 00_tour.ipynb in {looked}; run the command in a clone of the "
        "project, or point to its notebooks with --notebooks DIR."
    )


def list_notebooks(folder: Path) -> tuple[Path, ...]:
    """All notebooks of a folder, by number."""
    return tuple(sorted(folder.glob(PATTERN)))


def choose(paths: Sequence[Path], wanted: Sequence[str]) -> tuple[Path, ...]:
    """Pick notebooks by number or name.

    Parameters
    ----------
    paths : sequence of Path
        The notebooks there are, in order.
    wanted : sequence of str
        ``"3"``, ``"03"``, ``"03_fit_the_twin"`` or a path ending so; empty for all of them.

    Returns
    -------
    tuple of Path
        In the order asked for, each once.

    Raises
    ------
    NotebookError
        If one is not there; the message lists those that are.
    """
    if not wanted:
        return tuple(paths)
    chosen: dict[Path, None] = {}
    for name in wanted:
        found = [path for path in paths if _answers_to(path, name)]
        if not found:
            there = ", ".join(path.stem for path in paths)
            raise NotebookError(
                f"There is no notebook {name!r}; give a number or a name of these: {there}."
            )
        chosen.update(dict.fromkeys(found))
    return tuple(chosen)


def _answers_to(path: Path, name: str) -> bool:
    if name.isdecimal():
        return int(path.stem.partition("_")[0]) == int(name)
    return path.stem == Path(name).name.removesuffix(".ipynb")


def read_notebook(path: Path) -> Notebook:
    """Read a notebook's parameters without running it.

    Raises
    ------
    NotebookError
        If the file is no notebook, or its parameter cell no Python.
    """
    # Not papermill's inspect_notebook: it overlooks a parameter whose comment has an equals sign.
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = {
            index: "".join(cell["source"])
            for index, cell in enumerate(cells)
            if cell["cell_type"] == "code"
            and "parameters" in cell.get("metadata", {}).get("tags", ())
        }
    except OSError as error:
        raise NotebookError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions."
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotebookError(
            f"{path} is not a notebook of format 4 ({error}); get it back with "
            f"`git checkout {path.name}`, or open and save it in JupyterLab."
        ) from error
    if not sources:
        return Notebook(path.resolve(), {}, None)
    cell = min(sources)
    try:
        tree = ast.parse(sources[cell])
    except SyntaxError as error:
        raise NotebookError(
            f"The parameter cell of {path} is not valid Python (line {error.lineno}: {error.msg});"
            " mend it in JupyterLab."
        ) from error
    return Notebook(path.resolve(), _assignments(tree), cell)


def _assignments(tree: ast.Module) -> dict[str, object]:
    values: dict[str, object] = {}
    for statement in tree.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=node)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as node)
            ):
                try:
                    values[name] = ast.literal_eval(node)
                except ValueError:
                    values[name] = NOT_A_LITERAL
    return values


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
    value = _parse(text)
    if isinstance(default, str):  # as it is, less the quotes that a Python literal would have
        return value if isinstance(value, str) else text
    kind = list if isinstance(default, tuple) else type(default)
    if kind is int and isinstance(value, float) and value.is_integer():  # 1e3, as counts are typed
        value = int(value)
    elif kind is float and type(value) is int:
        value = float(value)
    elif kind is list and isinstance(value, tuple):
        value = list(value)
    if kind in _WANTED and type(value) is not kind:
        raise NotebookError(
            f"Parameter {name!r} of {notebook.name} is {_WANTED[kind]} (by default {default!r}), "
            f"not {text!r}."
        )
    return value


def _parse(text: str) -> object:
    """Read a Python literal, or true, false, null and none in any case; else it is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return _WORDS.get(text.strip().lower(), text)


@final
@dataclass(frozen=True)
class Outcome:
    """What came of one notebook.

    Attributes
    ----------
    name : str
        The notebook, without the ending.
    status : str
        ``"ok"``, ``"failed"``, ``"interrupted"`` or ``"not run"``.
    seconds : float or None
        Wall-clock time with the start of the kernel.
    peak_memory_mb : float or None
        Peak resident memory of the kernel and its children, in 10⁶ bytes.
    error : str or None
        Where and why it stopped.
    summaries : tuple of Summary
        Those written while it ran.
    """

    name: str
    status: Status
    seconds: float | None = None
    peak_memory_mb: float | None = None
    error: str | None = None
    summaries: tuple[Summary, ...] = ()


def prepare_out(out: str | Path, notebooks: Path) -> Path:
    """Make the folder of the results, try whether it can be written, and give it as absolute path.

    Raises
    ------
    RunError
        If it cannot be made or written, or is the folder of the notebooks.
    """
    folder = user_path(out).absolute()
    trial = folder / f".trial.{os.getpid()}"
    remedy = "choose another folder with --out DIR"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            trial.write_bytes(b"\0" * 4096)
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"Results cannot be written to {folder} ({error.strerror or error}); {remedy}."
        ) from error
    if folder.resolve() == notebooks.resolve():
        raise RunError(f"{folder} holds the notebooks, and running would overwrite them; {remedy}.")
    return folder


def run_notebooks(
    notebooks: Sequence[Notebook],
    values: Sequence[Mapping[str, object]],
    out: Path,
    *,
    tick: Callable[[], object] | None = None,
) -> Iterator[Outcome]:
    """Run notebooks in turn; one that fails does not stop the others.

    Ctrl-C ends the notebook that is running; it and those after it are still reported.

    Parameters
    ----------
    notebooks : sequence of Notebook
        What to run.
    values : sequence of Mapping
        The parameters of each.
    out : Path
        Absolute folder; the executed notebooks go there under their own names.
    tick : callable, optional
        Called twice a second, from another thread, by a caller who shows a bar over the
        notebooks and wants its clock to go on. A bar over the cells then appears below it.

    Yields
    ------
    Outcome
        One a notebook, in order.
    """
    interrupted = False
    for notebook, given in zip(notebooks, values, strict=True):
        if interrupted:
            yield Outcome(notebook.name, "not run")
            continue
        outcome = _run_notebook(notebook, given, out, tick)
        interrupted = outcome.status == "interrupted"
        yield outcome


def _run_notebook(
    notebook: Notebook,
    values: Mapping[str, object],
    out: Path,
    tick: Callable[[], object] | None,
) -> Outcome:
    # Imported before the clock starts: papermill takes seconds, which are not the notebook's.
    from pnnlab.results.kernel import KernelWatch, execute

    watch = KernelWatch(tick)
    before = _signatures(out)
    started = time.perf_counter()
    status, error = execute(notebook, values, out / notebook.path.name, watch)
    seconds = time.perf_counter() - started
    summaries, damage = [], []
    for path, signature in sorted(_signatures(out).items()):
        if before.get(path) == signature:
            continue
        try:
            summaries.append(Summary.read(path))
        except RunError as unreadable:
            damage.append(str(unreadable))
    if damage and status == "ok":
        status, error = "failed", " ".join(damage)
    peak = None if watch.peak_bytes is None else round(watch.peak_bytes / 1e6, 1)
    return Outcome(notebook.name, status, round(seconds, 2), peak, error, tuple(summaries))


def _signatures(out: Path) -> dict[Path, tuple[int, int, int]]:
    """What tells a summary written now from one that was there before."""
    signatures = {}
    for path in out.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            signatures[path] = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
    return signatures
