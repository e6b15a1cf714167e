"""Run notebooks one after the other and collect what they found."""

from pnnlab.series.finding import Notebook, choose, list_notebooks, notebooks_folder, read_notebook
from pnnlab.series.parameters import assign
from pnnlab.series.running import BAR, Outcome, prepare_out, run_series

__all__ = [
    "BAR",
    "Notebook",
    "Outcome",
    "assign",
    "choose",
    "list_notebooks",
    "notebooks_folder",
    "prepare_out",
    "read_notebook",
    "run_series",
]
