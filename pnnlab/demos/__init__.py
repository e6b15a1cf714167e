"""Demonstrations: live inference, and the app that shows the whole lab on one page."""

from pnnlab.demos.inference import LiveInference

__all__ = ["LiveInference"]
