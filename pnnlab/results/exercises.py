"""Exercises of the notebooks: checked answers, and copies of the notebooks without solutions."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

from pnnlab.errors import NotebookError
from pnnlab.storage import explained

if TYPE_CHECKING:
    from nbformat import NotebookNode

SOLUTION = "solution"
TO_WRITE_IN = "# Write your answer here."
FOLDED = "<details><summary>Conclusion: open it after your answer</summary>\n\n{}\n\n</details>"


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
