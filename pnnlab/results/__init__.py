"""Results: rows of trainings, their statistics, tables and file; running the notebooks.

`compare` and the baselines are in `pnnlab.results.baselines`, which loads torch; the rest does not.
"""

from pnnlab.results.rows import Row, Summary
from pnnlab.results.tables import results_table, student_interval, wilson_interval

__all__ = ["Row", "Summary", "results_table", "student_interval", "wilson_interval"]
