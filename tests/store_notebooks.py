"""Run the notebooks at their stored scale and keep their outputs: ``make stored``.

What only a live kernel can show, widgets, is taken out; the still picture that each view leaves
stays, with 32 colours. Execution metadata goes too, so that a stored notebook changes only when
its outputs do.
"""

import sys
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from pnnlab.views.style import lean

WIDGET = "application/vnd.jupyter.widget-view+json"
PNG = "image/png"
NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def is_still(output: NotebookNode) -> bool:
    """Whether an output means something without a kernel; progress bars on stderr do not."""
    return WIDGET not in output.get("data", {}) and output.get("name") != "stderr"


def slim(cell: NotebookNode) -> None:
    """Store the pictures of a cell with fewer colours."""
    for output in cell.outputs:
        if PNG in output.get("data", {}):
            output.data[PNG] = b64encode(lean(b64decode(output.data[PNG]))).decode("ascii")


def store(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=600,
            record_timing=False,
            store_widget_state=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        ).execute()
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if is_still(output)]
            slim(cell)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    chosen = sys.argv[1:] or [""]
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if any(path.name.startswith(start) for start in chosen):
            sys.stderr.write(f"{path.name}\n")
            store(path)
