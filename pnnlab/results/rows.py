"""What a notebook writes as JSON: a `Row` for each training, and a `Summary` of them."""

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, final, get_args

from pnnlab import storage
from pnnlab.errors import RangeError, RunError
from pnnlab.plain import real, whole
from pnnlab.provenance import commit, utc_now, versions
from pnnlab.storage import explained, user_path

T = TypeVar("T")
SUFFIX = ".summary.json"
SCALES = ("smoke", "quick", "paper")

Fraction = Annotated[float | None, "a fraction in [0, 1], not a percentage"]
Count = Annotated[int | None, "a whole number of at least 0"]
Seconds = Annotated[float | None, "a finite time of at least 0 s"]
_CHECKS: dict[Any, tuple[Callable[[str, object], float], float]] = {
    Fraction: (real, 1.0),
    Count: (whole, math.inf),
    Seconds: (real, math.inf),
}


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """One training: its accuracy on the system, and what it is judged by. ``None``: not measured.

    Accuracies are fractions in [0, 1] of the samples of ``split``.
    """

    system: str
    task: str
    method: str  # gradient rule
    twin: str | None = None  # kind of twin that gave the gradients
    layers: Count = None  # physical ones
    seed: Count = None  # of this training
    split: str | None = None  # "test" or "validation"
    n_test: Count = None  # samples in it
    accuracy: Fraction = None  # on the system itself
    accuracy_on_twin: Fraction = None  # the same network on its own twin
    recalibrated_accuracy: Fraction = None  # after its normalisation was measured there again
    digital_baseline: Fraction = None  # an MLP with at most as many parameters
    linear_baseline: Fraction = None  # a linear digital classifier
    accuracy_without_physics: Fraction = None  # the digital layers of a hybrid network alone
    chance: Fraction = None
    published: Fraction = None  # what a paper gives for this system and task
    parameters: Count = None  # trainable numbers
    device_passes: Count = None  # samples through the system in training, evaluations included
    seconds: Seconds = None  # wall-clock time of this training
    commit: str | None = None  # source revision with which it began, "-dirty" after changes
    settings: str | None = None  # of this method, such as its learning rate
    trials: Count = None  # from how many they were chosen, on the validation split
    correct: str | None = None  # test samples classified right, see `intervals.packed`
    recalibrated_correct: str | None = None  # likewise, after recalibration
    unit: Count = None  # which fabricated copy of a simulated system

    @property
    def used(self) -> float | None:
        """Accuracy as the method is used: recalibrated, if it was trained on a twin."""
        again = self.recalibrated_accuracy
        return self.accuracy if again is None else again

    def __post_init__(self) -> None:
        for name in ("system", "task", "method"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text:
                raise RangeError(f"{name} of a row is {text!r}; give its name.")
        for one in fields(self):
            value = getattr(self, one.name)
            if value is None or one.type not in _CHECKS:
                continue
            read, most = _CHECKS[one.type]
            number = math.nan
            with suppress(RangeError):
                number = read(one.name, value)
            if not 0 <= number <= most or math.isinf(number):
                (wanted,) = get_args(one.type)[1:]
                raise RangeError(f"{one.name} of a row is {value!r}; give {wanted}.")
            # Plain Python numbers, so that a row from numpy or torch equals the one read back.
            object.__setattr__(self, one.name, number)

    @property
    def device(self) -> str:
        """The system and, other than the first, its unit."""
        return f"{self.system}, unit {self.unit}" if self.unit else self.system


FRACTIONS = tuple(one.name for one in fields(Row) if one.type == Fraction)


@final
@dataclass(frozen=True)
class Summary:
    """The results of one notebook."""

    notebook: str  # its file name without the ending, such as "04_physics_aware_training"
    scale: str  # the size at which it ran, one of `SCALES`
    parameters: Mapping[str, object]  # the values of its parameter cell
    seconds: float  # wall-clock time of the notebook
    rows: tuple[Row, ...]  # in the order in which they should be read
    # Source revision, versions and UTC time, nothing of the machine; empty in old summaries.
    provenance: Mapping[str, object] = field(
        default_factory=lambda: {"commit": commit(), "versions": versions(), "written": utc_now()}
    )

    def __post_init__(self) -> None:
        if not self.notebook or Path(self.notebook).name != self.notebook:
            raise RangeError(
                f"The notebook of a summary is {self.notebook!r}; give a bare file name "
                "such as '04_physics_aware_training'."
            )
        check_scale(self.scale)
        object.__setattr__(self, "rows", tuple(self.rows))

    def write(self, folder: str | Path) -> Path:
        """Write ``<folder>/<notebook>.summary.json``, whole or not at all, and return its path."""

        def plain(value: Any) -> object:  # scalars of numpy and torch, and paths
            return value.item() if hasattr(value, "item") else os.fspath(value)

        target = user_path(folder) / f"{self.notebook}{SUFFIX}"
        try:
            data = json.loads(json.dumps(asdict(self), default=plain, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise RunError(
                f"The summary of {self.notebook} has a value without a JSON form ({error}); "
                "keep its parameters to text, finite numbers and lists of them."
            ) from error
        remedy = "choose another folder with the parameter `out` (--out on the command line)"
        write_json(target, data, remedy)
        return target

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a summary back, or raise a `RunError`."""

        def decoded(data: dict[str, Any]) -> Self:
            rows = tuple(Row(**row) for row in data.pop("rows"))
            data["provenance"] = dict(data.get("provenance", {}))  # never that of this process
            return cls(rows=rows, **data)

        remedy = "delete it, and run its notebook again with `pnnlab run`"
        return read_json(path, "summary", remedy, decoded, checked=False)  # old ones cannot be


def check_scale(scale: object) -> None:
    """Refuse what is not in `SCALES`."""
    if scale not in SCALES:
        raise RangeError(f"There is no scale {scale!r}; give one of {', '.join(SCALES)}.")


def read_text(path: str | Path, remedy: str = "check its name") -> str:
    """Read a text file, or raise a `RunError`."""
    with explained(RunError, f"{path} cannot be read", f"{remedy}."):
        return user_path(path).read_text(encoding="utf-8")


def write(path: str | Path, text: str, remedy: str = "check its folder") -> None:
    """Write a file, whole or not at all, or raise a `RunError`."""
    with explained(RunError, f"{path} cannot be written", f"make room, or {remedy}."):
        storage.write(user_path(path), text)


def write_json(path: Path, data: Mapping[str, object], remedy: str = "check its folder") -> None:
    """Write an object with its checksum, into a folder that may be made, or raise a `RunError`."""
    with suppress(OSError):  # `write` raises it with a remedy
        path.parent.mkdir(parents=True, exist_ok=True)
    sealed = {**data, "checksum": storage.checksum_of_json(data)}
    write(path, json.dumps(sealed, indent=1, ensure_ascii=False) + "\n", remedy)


def read_json(
    path: str | Path, kind: str, remedy: str, decode: Callable[[Any], T], checked: bool = True
) -> T:
    """Decode an object that `write_json` wrote, or raise a `RunError`."""
    text = read_text(path, remedy)
    try:
        data = json.loads(text)
        seal = data.pop("checksum", None)
        if (seal or checked) and seal != storage.checksum_of_json(data):
            raise ValueError("its checksum is wrong")
        return decode(data)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        text = f"{path} is not a {kind}, or is damaged or edited ({error}); {remedy}."
        raise RunError(text) from error
