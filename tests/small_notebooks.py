"""Notebooks small enough to write down where they are tested."""

from pathlib import Path

import nbformat

PARAMETERS = 'scale = "quick"  # "smoke" has n=3\nout = "results"\nseed = 0'

WRITE_SUMMARY = """\
from pnnlab.results import Row, Summary
row = Row(system="toy", task="t", method="m", seed=seed, n_test=100, accuracy=0.9)
Summary("{name}", scale, {{"seed": seed}}, 1.0, (row,)).write(out)"""


def write_notebook(
    folder: Path, name: str, *cells: str, parameters: str | None = PARAMETERS
) -> Path:
    """A heading, the parameter cell (unless None) and code cells; `{name}` is filled in."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# {name}")])
    if parameters is not None:
        cell = nbformat.v4.new_code_cell(parameters)
        cell.metadata["tags"] = ["parameters"]
        notebook.cells.append(cell)
    notebook.cells += [nbformat.v4.new_code_cell(cell.format(name=name)) for cell in cells]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path
