"""Find the notebooks and read what they can be asked: the literals of their parameter cell."""

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import pnnlab
from pnnlab.errors import NotebookError
from pnnlab.storage import user_path

PATTERN = "[0-9][0-9]_*.ipynb"
NOT_A_LITERAL: Final = object()
"""Stands for a default that only running the notebook would tell."""


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
            case ast.Assign(targets=[ast.Name(id=name)], value=node):
                values[name] = _literal(node)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as node):
                values[name] = _literal(node)
    return values


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return NOT_A_LITERAL
