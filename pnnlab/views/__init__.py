"""Widgets for notebooks, each with a still form for paper.

A view observes a model and changes it only by the commands of a user.
"""

from pnnlab.views.chart import Plot, PlotGrid, Series
from pnnlab.views.confusion_view import ConfusionView
from pnnlab.views.dashboard import SweepView, TrainingDashboard, watch
from pnnlab.views.panel import DevicePanel
from pnnlab.views.pendulum_view import PendulumView
from pnnlab.views.style import Picture, use_style
from pnnlab.views.trainings import Comparison, PastRuns

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
