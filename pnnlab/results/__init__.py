"""Results: rows of trainings, their statistics, tables and file; running the notebooks.

`compare` and the baselines are in `pnnlab.results.baselines`, which loads torch; the rest does not.
"""

from pnnlab.results.gathering import FILE, Gathered, Results, gather
from pnnlab.results.notebooks import (
    BAR,
    Notebook,
    Outcome,
    assign,
    choose,
    list_notebooks,
    notebooks_folder,
    prepare_out,
    read_notebook,
    run_notebooks,
)
from pnnlab.results.rows import Row, Summary, read_text, write
from pnnlab.results.statistics import (
    Method,
    ResultLine,
    Score,
    Trained,
    student_interval,
    summed_up,
    wilson_interval,
)
from pnnlab.results.tables import BEGIN, END, markdown, results_table, with_section

__all__ = [
    "BAR",
    "BEGIN",
    "END",
    "FILE",
    "Gathered",
    "Method",
    "Notebook",
    "Outcome",
    "ResultLine",
    "Results",
    "Row",
    "Score",
    "Summary",
    "Trained",
    "assign",
    "choose",
    "gather",
    "list_notebooks",
    "markdown",
    "notebooks_folder",
    "prepare_out",
    "read_notebook",
    "read_text",
    "results_table",
    "run_notebooks",
    "student_interval",
    "summed_up",
    "wilson_interval",
    "with_section",
    "write",
]
