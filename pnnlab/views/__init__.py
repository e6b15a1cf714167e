"""Widgets for notebooks, each with a still form for paper.

A view observes a model and changes it only by the commands of a user.
"""

from pnnlab.views.chart import Plot, Series
from pnnlab.views.confusion_view import ConfusionView
from pnnlab.views.dashboard import TrainingDashboard, watch
from pnnlab.views.panel import DevicePanel
from pnnlab.views.pastruns import Comparison, PastRuns
from pnnlab.views.pendulum_view import PendulumView
from pnnlab.views.plotgrid import PlotGrid
from pnnlab.views.style import Picture, use_style
from pnnlab.views.sweep_view import SweepView

__all__ = [
    "Comparison",
    "ConfusionView",
    "DevicePanel",
    "PastRuns",
    "PendulumView",
    "Picture",
    "Plot",
    "PlotGrid",
    "Series",
    "SweepView",
    "TrainingDashboard",
    "use_style",
    "watch",
]
