"""What a notebook hands on: rows of results, written as JSON.

A :class:`Row` is one training: its accuracy on the system beside everything needed to judge it
(its own twin, a recalibration, the digital baselines, chance, the cost in device passes). A
:class:`Summary` is the rows of one notebook.
"""

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self, final

from pnnlab import storage
from pnnlab.errors import RangeError, RunError
from pnnlab.provenance import commit, utc_now, versions
from pnnlab.storage import user_path

SUFFIX = ".summary.json"
SCALES = ("smoke", "quick", "paper")
FRACTIONS = (
    "accuracy",
    "accuracy_on_twin",
    "recalibrated_accuracy",
    "digital_baseline",
    "linear_baseline",
    "accuracy_without_physics",
    "chance",
    "published",
)
_COUNTS = ("layers", "seed", "n_test", "parameters", "device_passes")
_NUMBERS: Mapping[str, tuple[type[float] | type[int], float, str]] = {
    **dict.fromkeys(FRACTIONS, (float, 1.0, "a fraction in [0, 1], not a percentage")),
    **dict.fromkeys(_COUNTS, (int, math.inf, "a whole number of at least 0")),
    "seconds": (float, math.inf, "a finite time of at least 0 s"),
}


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """One result. ``None`` where a field does not apply.

    Attributes
    ----------
    system, task, method : str
        What was trained, on what, and by which gradient rule.
    twin : str or None
        The kind of twin that gave the gradients.
    layers : int or None
        Depth of the physical network.
    seed : int or None
        Seed of this training.
    split : str or None
        The samples behind the accuracies, such as ``"test"`` or ``"validation"``.
    n_test : int or None
        How many they are.
    accuracy : float or None
        Fraction of them read right by the system itself, in [0, 1]; so are the next seven.
    accuracy_on_twin : float or None
        The same network, run on its own twin.
    recalibrated_accuracy : float or None
        On the system, after its normalisation was measured again there.
    digital_baseline : float or None
        A digital network (MLP) with at most as many parameters, trained by the same loop.
    linear_baseline : float or None
        A linear digital classifier, trained by the same loop.
    accuracy_without_physics : float or None
        The digital layers of a hybrid network, trained without the physical ones.
    chance : float or None
        Guessing.
    published : float or None
        The figure that a paper gives for this system and task.
    parameters : int or None
        Trainable numbers in the network.
    device_passes : int or None
        How often the system was driven, summed over samples, training and test.
    seconds : float or None
        Wall-clock time of this training, in seconds.
    commit : str or None
        Source revision with which the training began; it ends in ``-dirty`` where there were
        uncommitted changes.

    Raises
    ------
    RangeError
        If an accuracy is NaN or outside [0, 1], or a count or a time is negative.
    """

    system: str
    task: str
    method: str
    twin: str | None = None
    layers: int | None = None
    seed: int | None = None
    split: str | None = None
    n_test: int | None = None
    accuracy: float | None = None
    accuracy_on_twin: float | None = None
    recalibrated_accuracy: float | None = None
    digital_baseline: float | None = None
    linear_baseline: float | None = None
    accuracy_without_physics: float | None = None
    chance: float | None = None
    published: float | None = None
    parameters: int | None = None
    device_passes: int | None = None
    seconds: float | None = None
    commit: str | None = None

    def __post_init__(self) -> None:
        for name in ("system", "task", "method"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text:
                raise RangeError(f"{name} of a row is {text!r}; give its name.")
        for name, (kind, most, want) in _NUMBERS.items():
            value = getattr(self, name)
            if value is None:
                continue
            try:
                number = math.nan if isinstance(value, str) else float(value)
            except (TypeError, ValueError):
                number = math.nan
            # NaN compares false with everything, so it is refused here too.
            fits = 0.0 <= number <= most and math.isfinite(number)
            if not fits or (kind is int and not number.is_integer()):
                raise RangeError(f"{name} of a row is {value!r}; give {want}.")
            # Plain Python numbers, so that a row from numpy or torch equals the one read back.
            object.__setattr__(self, name, kind(value))


def provenance() -> dict[str, object]:
    """Source revision, versions and the time (UTC, ISO 8601); nothing of the machine."""
    return {
        "commit": commit(),
        "versions": versions(),
        "written": utc_now(),
    }


@final
@dataclass(frozen=True)
class Summary:
    """The results of one notebook.

    Attributes
    ----------
    notebook : str
        Its file name without the ending, such as ``"04_physics_aware_training"``.
    scale : str
        The size at which it ran: ``"smoke"``, ``"quick"`` or ``"paper"``.
    parameters : Mapping
        The values of its parameter cell.
    seconds : float
        Wall-clock time of the notebook, in seconds.
    rows : tuple of Row
        The results, in the order in which they should be read.
    provenance : Mapping
        See the function `provenance`; empty in summaries that were written before it was noted.
    """

    notebook: str
    scale: str
    parameters: Mapping[str, object]
    seconds: float
    rows: tuple[Row, ...]
    provenance: Mapping[str, object] = field(default_factory=provenance)

    def __post_init__(self) -> None:
        if not self.notebook or Path(self.notebook).name != self.notebook:
            raise RangeError(
                f"The notebook of a summary is {self.notebook!r}; give a bare file name "
                "such as '04_physics_aware_training'."
            )
        check_scale(self.scale)
        object.__setattr__(self, "rows", tuple(self.rows))

    def write(self, folder: str | Path) -> Path:
        """Write ``<folder>/<notebook>.summary.json``, whole or not at all, and return its path.

        Raises
        ------
        RunError
            If the folder cannot be written, or a parameter has no JSON form.
        """
        target = user_path(folder) / f"{self.notebook}{SUFFIX}"
        try:
            text = json.dumps(
                asdict(self), indent=1, default=_plain, allow_nan=False, ensure_ascii=False
            )
        except (TypeError, ValueError) as error:
            raise RunError(
                f"The summary of {self.notebook} has a value without a JSON form ({error}); "
                "keep its parameters to text, finite numbers and lists of them."
            ) from error
        remedy = "choose another folder with the parameter `out` (--out on the command line)"
        with contextlib.suppress(OSError):  # `write` says what is wrong
            target.parent.mkdir(parents=True, exist_ok=True)
        write(target, text + "\n", remedy)
        return target

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a summary back.

        Raises
        ------
        RunError
            If the file is missing, damaged or not a summary.
        """
        text = read_text(path, "run its notebook again with `pnnlab run`")
        try:
            data = json.loads(text)
            rows = tuple(Row(**row) for row in data.pop("rows"))
            data["provenance"] = dict(data.get("provenance", {}))  # never that of this process
            return cls(rows=rows, **data)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise RunError(
                f"{path} is not a summary ({error}); delete it and run its notebook again."
            ) from error


def check_scale(scale: object) -> None:
    """Refuse what is not in `SCALES`."""
    if scale not in SCALES:
        raise RangeError(f"There is no scale {scale!r}; give one of {', '.join(SCALES)}.")


def read_text(path: str | Path, remedy: str = "check its name") -> str:
    """Read a text file.

    Raises
    ------
    RunError
        It is missing, or cannot be read.
    """
    try:
        return user_path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read ({error}); {remedy}.") from error


def write(path: str | Path, text: str, remedy: str = "check its folder") -> None:
    """Write a file, whole or not at all.

    Raises
    ------
    RunError
        It cannot be written.
    """
    try:
        storage.write(user_path(path), text)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({error.strerror or error}); make room, or {remedy}."
        ) from error


def _plain(value: object) -> object:
    """Give numpy and torch scalars, and paths, a form that JSON knows."""
    if isinstance(value, Path):
        return str(value)
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    raise TypeError(f"{type(value).__name__} {value!r}")
