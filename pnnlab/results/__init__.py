"""The table of all that was trained: summaries in, ``notebooks/results.json`` and Markdown out.

`gather` takes rows out of summaries; `Results` keeps them, and computes what they come to.
"""

from pnnlab.results.file import FILE, Results, read_text, write
from pnnlab.results.gathering import Gathered, Trained, gather
from pnnlab.results.lines import Line, Method, Score, summed_up
from pnnlab.results.table import BEGIN, END, markdown, with_section

__all__ = [
    "BEGIN",
    "END",
    "FILE",
    "Gathered",
    "Line",
    "Method",
    "Results",
    "Score",
    "Trained",
    "gather",
    "markdown",
    "read_text",
    "summed_up",
    "with_section",
    "write",
]
