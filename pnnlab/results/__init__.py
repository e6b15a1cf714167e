"""Results: rows of trainings, their statistics, tables and file; running the notebooks.

`compare` and the baselines are in `pnnlab.results.comparison`, which loads torch.
"""

from pnnlab.results.rows import Row, Summary, mean_interval
from pnnlab.results.tables import results_table

__all__ = ["Row", "Summary", "mean_interval", "results_table"]
