"""What is seen: widgets for notebooks, each with a still form for paper.

A view observes a model and changes it only through the commands a user gave.
"""

from pnnlab.views.dashboard import TrainingDashboard
from pnnlab.views.lineplot import Line, LinePlot, Panel
from pnnlab.views.style import Picture, use_style

__all__ = ["Line", "LinePlot", "Panel", "Picture", "TrainingDashboard", "use_style"]
