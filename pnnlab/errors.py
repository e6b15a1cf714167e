"""The errors a user of the lab meets. Each message says what is wrong and what to do."""


class PnnlabError(Exception):
    """Base of every error raised on purpose by pnnlab."""


class ShapeError(PnnlabError, ValueError):
    """A tensor has the wrong shape or data type."""


class RangeError(PnnlabError, ValueError):
    """A value is NaN, infinite or outside the range that the system accepts."""


class TwinError(PnnlabError, ValueError):
    """A twin does not belong to the system it was given to, or its fit failed."""


class DataError(PnnlabError, RuntimeError):
    """A data set is missing, incomplete or not the one it claims to be."""


class DeviceError(PnnlabError, RuntimeError):
    """A device or its driver failed: a `Session` pauses, and resuming takes the step again."""


class InstrumentError(DeviceError):
    """An instrument did not answer, or answered with an error."""


class ReadoutError(InstrumentError, ValueError):
    """What a device returned is no read-out: NaN, overrange, or of another shape."""


class LinkError(InstrumentError):
    """The link to an instrument broke, or what came over it is not whole."""


class LimitError(DeviceError, RangeError):
    """A waveform exceeds what may be sent to a device; nothing was sent."""


class PlantError(DeviceError):
    """A plant is stopped, or its step came too late: reset it."""


class TrainingError(PnnlabError, ArithmeticError):
    """Training cannot go on: its loss is no longer a finite number."""


class RunError(PnnlabError, RuntimeError):
    """A run folder, journal or checkpoint cannot be written, read or trusted."""


class NotebookError(PnnlabError, ValueError):
    """A notebook or one of its parameters does not exist."""
