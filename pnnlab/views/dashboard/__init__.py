"""The training dashboard: see a session live, hold it, save it, end it; then keep the picture."""

from pnnlab.views.dashboard.board import (
    TrainingDashboard,
    error_html,
    state_html,
    summary,
    tiles_html,
    watch,
)
from pnnlab.views.dashboard.panels import training_panels

__all__ = [
    "TrainingDashboard",
    "error_html",
    "state_html",
    "summary",
    "tiles_html",
    "training_panels",
    "watch",
]
