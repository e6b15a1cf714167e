"""Notebooks: where they are, the literals of their parameter cell, and their exercises."""

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import pnnlab
from pnnlab.errors import NotebookError
from pnnlab.results.rows import check_scale
from pnnlab.storage import explained, user_path

if TYPE_CHECKING:
    from nbformat import NotebookNode

PATTERN = "[0-9][0-9]_*.ipynb"
SOLUTION = "solution"
TO_WRITE_IN = "# Write your answer here."
FOLDED = "<details><summary>Conclusion: open it after your answer</summary>\n\n{}\n\n</details>"

_WORDS = {"true": True, "false": False, "null": None, "none": None}
_WANTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list such as '[1, 2]'",
    dict: "a dictionary such as \"{'a': 1}\"",
}


@final
@dataclass(frozen=True)
class Notebook:
    """A notebook of the lab, or a variant of one."""

    path: Path  # absolute
    parameters: Mapping[str, object]  # names and defaults of the cell tagged ``parameters``
    parameters_cell: int | None  # position of that cell, from 0
    own: Mapping[str, object] = field(default_factory=dict)  # of them, what makes the variant
    variant: str = ""

    @property
    def name(self) -> str:
        """File name without the ending, with the variant, such as ``"06_images_plate"``."""
        return "_".join(filter(None, (self.path.stem, self.variant)))


def notebooks_folder(given: str | Path | None = None) -> Path:
    """Find the notebooks: by default of the checkout of this package, or of the current folder."""
    checkout = Path(pnnlab.__file__).resolve().parents[1]
    candidates = [Path.cwd() / "notebooks", Path.cwd()]
    if (checkout / "pyproject.toml").is_file():
        candidates.insert(0, checkout / "notebooks")
    if given is not None:
        candidates = [user_path(given)]
    for folder in candidates:
        if any(folder.glob(PATTERN)):
            return folder.resolve()
    searched = ", ".join(dict.fromkeys(map(str, candidates)))
    raise NotebookError(
        f"No notebook named like 00_tour.ipynb in {searched}; run the command in a clone of the "
        "project, or point to its notebooks with --notebooks DIR."
    )


def list_notebooks(folder: Path) -> tuple[Path, ...]:
    """All notebooks of a folder, by number."""
    return tuple(sorted(folder.glob(PATTERN)))


def choose(
    paths: Sequence[Path], wanted: Sequence[str] = (), given: Sequence[tuple[str, str]] = ()
) -> tuple[Notebook, ...]:
    """Read notebooks, by number, name or path, in the order of ``wanted`` and each once, or all.

    One stands for all its variants, unless the name or a ``given`` parameter says which.
    """
    chosen: dict[str, Notebook] = {}
    for name in wanted or [path.stem for path in paths]:
        stem = Path(name).name.removesuffix(".ipynb")
        found = []
        for path in paths:
            number = name.isdecimal() and int(path.stem.partition("_")[0]) == int(name)
            if number or f"{stem}_".startswith(f"{path.stem}_"):
                known = read_variants(path, given)
                found += [one for one in known if number or stem in (path.stem, one.name)]
        if not found:
            there = ", ".join(path.stem for path in paths)
            raise NotebookError(
                f"There is no notebook {name!r}; give a number or a name of these: {there}."
            )
        chosen.update({one.name: one for one in found})
    return tuple(chosen.values())


def read_variants(path: Path, given: Sequence[tuple[str, str]] = ()) -> tuple[Notebook, ...]:
    """Read the parameters of a notebook, or of each of its variants, without running it.

    Its metadata may name a parameter, and values that make variants, with other defaults that each
    has: ``{"pnnlab": {"variants": {"system": {"plate": {}, "circuit": {"seed": 1}}}}}``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        variants = content.get("metadata", {}).get("pnnlab", {}).get("variants", {})
        sources = {
            index: "".join(cell["source"])
            for index, cell in enumerate(content["cells"])
            if cell["cell_type"] == "code"
            and "parameters" in cell.get("metadata", {}).get("tags", ())
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotebookError(
            f"{path} is not a notebook of format 4, or cannot be read ({error}); check its "
            f"permissions, get it back with `git checkout {path.name}`, or open and save it in "
            "JupyterLab."
        ) from error
    if not sources:
        return (Notebook(path.resolve(), {}, None),)
    cell = min(sources)
    values: dict[str, object] = {}
    try:
        statements = ast.parse(sources[cell]).body
    except SyntaxError as error:
        raise NotebookError(
            f"The parameter cell of {path} is not valid Python (line {error.lineno}: {error.msg});"
            " correct it in JupyterLab."
        ) from error
    for statement in statements:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=node)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as node)
            ):
                values[name] = ...  # known only once the notebook runs
                with suppress(ValueError):
                    values[name] = ast.literal_eval(node)
    notebook = Notebook(path.resolve(), values, cell)
    found = [notebook]
    for name, each in variants.items():
        one = dict(given).get(name)
        if one not in (None, *each):
            raise NotebookError(f"{name} of {path.stem} is {one!r}; give one of {', '.join(each)}.")
        owns = {value: {name: value, **each[value]} for value in each if one in (None, value)}
        found = [
            replace(notebook, parameters={**values, **own}, own=own, variant=value)
            for value, own in owns.items()
        ]
    return tuple(found)


def assign(
    notebooks: Sequence[Notebook], given: Sequence[tuple[str, str]], out: Path
) -> tuple[dict[str, object], ...]:
    """Give each notebook those parameters that it has, read from text, and ``out``."""
    known = dict.fromkeys(name for notebook in notebooks for name in notebook.parameters)
    for name, text in given:
        if name == "out":
            raise NotebookError("The folder of the results is chosen with --out DIR, not -p out.")
        if name not in known:
            listed = ", ".join(n for n in known if n != "out") or "none at all"
            raise NotebookError(
                f"No chosen notebook has a parameter {name!r}; they have: {listed}."
            )
        if name == "scale":
            check_scale(text)
    texts, chosen = dict(given), []
    for notebook in notebooks:
        own = dict(notebook.own)
        own |= {n: _fit(n, texts[n], notebook) for n in notebook.parameters if n in texts}
        chosen.append(own | ({"out": str(out)} if "out" in notebook.parameters else {}))
    return tuple(chosen)


def _fit(name: str, text: str, notebook: Notebook) -> object:
    default = notebook.parameters[name]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = _WORDS.get(text.strip().lower(), text)
    if isinstance(default, str):  # as it is, less the quotes that a Python literal would have
        return value if isinstance(value, str) else text
    kind: Any = list if isinstance(default, tuple) else type(default)
    if kind is int and isinstance(value, float) and value.is_integer():  # 1e3, as counts are typed
        value = int(value)
    elif (kind, type(value)) in ((float, int), (list, tuple)):
        value = kind(value)
    if kind in _WANTED and type(value) is not kind:
        raise NotebookError(
            f"Parameter {name!r} of {notebook.name} is {_WANTED[kind]} (by default {default!r}), "
            f"not {text!r}."
        )
    return value


# --- exercises ---


def check_answer(right: Callable[[], object], otherwise: str) -> None:
    """Print whether the answer to an exercise is ``right``, and ``otherwise`` what to look at.

    The check may use a name that only the answer assigns.
    """
    try:
        said = "Right." if right() else f"Not yet. {otherwise}"
    except NameError as error:
        said = f"Not answered yet: assign {error.name} in the cell above, then run this one again."
    print(said)  # noqa: T201  # in a notebook


def without_solutions(notebook: "NotebookNode") -> "NotebookNode":
    """Copy a notebook for its reader to solve: nothing is run, and conclusions are folded."""
    copy = deepcopy(notebook)
    for cell in copy.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if SOLUTION in tags:
            cell.source = TO_WRITE_IN if cell.cell_type == "code" else FOLDED.format(cell.source)
        # What nbval checks is gone, and papermill needs the parameters.
        cell.metadata["tags"] = [tag for tag in tags if tag == "parameters"]
    return copy


def write_students(paths: Sequence[Path], folder: Path) -> None:
    """Write notebooks without their solutions into a folder, or raise a `NotebookError`."""
    import nbformat  # loads slowly, and every notebook loads this module

    if there := [path.name for path in paths if (folder / path.name).exists()]:
        raise NotebookError(
            f"{folder} holds {', '.join(there)} already, perhaps with answers; choose another "
            "folder with --out DIR, or move it away."
        )
    remedy = "choose another folder with --out DIR."
    with explained(NotebookError, f"{folder} cannot be written", remedy):
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            nbformat.write(without_solutions(nbformat.read(path, 4)), folder / path.name)
