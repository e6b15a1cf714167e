"""Measure a device: its noise, response, memory and drift, and data sets to fit a twin to.

Each measurement drives any `PhysicalSystem`, real or simulated, and returns an `xarray.Dataset`
with named dimensions, units, and a record of how it was made.
"""

from pnnlab.characterize.manual_control import ManualControl
from pnnlab.characterize.measuring import (
    MeasuredShots,
    central_difference,
    collect,
    drift,
    load,
    measured,
    memory,
    nmse,
    nmse_floor,
    random_drives,
    repeatability,
    response_curves,
    save,
    shots,
)
from pnnlab.characterize.reading import Scaling, read_measurements

__all__ = ["MeasuredShots", "collect", "load", "measured", "random_drives", "save", "shots"]
__all__ += ["drift", "memory", "repeatability", "response_curves"]
__all__ += ["central_difference", "nmse", "nmse_floor"]
__all__ += ["ManualControl", "Scaling", "read_measurements"]
