"""Get to know a device: how well it repeats itself, what it does, remembers, and how it drifts.

Each measurement drives any `PhysicalSystem`, real or simulated, and returns what it saw as an
`xarray.Dataset` with named dimensions, units, and a record of how it was made.
"""

from pnnlab.characterize.datasets import load, save
from pnnlab.characterize.drives import (
    MeasuredShots,
    collect,
    collecting,
    join,
    measured,
    random_drives,
    shots,
)
from pnnlab.characterize.measuring import (
    drift,
    memory,
    nmse,
    noise_ceiling,
    repeatability,
    response_curves,
)

__all__ = [
    "MeasuredShots",
    "collect",
    "collecting",
    "drift",
    "join",
    "load",
    "measured",
    "memory",
    "nmse",
    "noise_ceiling",
    "random_drives",
    "repeatability",
    "response_curves",
    "save",
    "shots",
]
