"""A `Row` for each training, a `Summary` of them as JSON, and what rows show together.

Intervals allow for seeds and for the size of the test set.
"""

import base64
import json
import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import fmean, variance
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, final, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from pnnlab import storage
from pnnlab.errors import RangeError, RunError
from pnnlab.plain import real, whole
from pnnlab.provenance import commit, utc_now, versions
from pnnlab.storage import explained, user_path

T = TypeVar("T")
SUFFIX = ".summary.json"
SCALES = ("smoke", "quick", "paper")
MARGIN = 0.01
"""Difference of accuracies within which two methods are called equal."""

MANY = 1e6  # degrees of freedom of a normal distribution, as it were

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
    correct: str | None = None  # test samples classified right, see `packed`
    recalibrated_correct: str | None = None  # likewise, after recalibration
    unit: Count = None  # which fabricated copy of a simulated system
    steps: Count = None  # of the training, on whatever device or twin

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


# --- intervals, and verdicts on pairs ---


def packed(correct: Sequence[bool] | NDArray[Any]) -> str:
    """Write which test samples were classified right as text, base64 of a bit each.

    They are compressed where that is shorter: of 10 000 samples, most of them right, it is half.
    """
    bits = np.packbits(np.asarray(correct, bool)).tobytes()
    return base64.b64encode(min(bits, zlib.compress(bits, 9), key=len)).decode("ascii")


def unpacked(text: str, n: int) -> NDArray[np.bool_]:
    """Read `packed` text of ``n`` samples, or raise a `RangeError`."""
    size = math.ceil(n / 8)
    try:
        bits = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise RangeError(f"{text[:20]!r} is not the base64 text of test samples.") from error
    if len(bits) < size:
        with suppress(zlib.error):
            bits = zlib.decompress(bits)
    if len(bits) != size:
        raise RangeError(f"this text is of {8 * len(bits)} samples or a few fewer, not of {n}.")
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=n).astype(bool)


class Estimate(NamedTuple):
    """A mean over seeds and test samples with its 95 % interval."""

    mean: float
    low: float
    high: float


def mean_interval(accuracies: Sequence[float], n: int | None) -> Estimate:
    """Mean accuracy over seeds, each on ``n`` samples, with its 95 % interval for new ones of both.

    Its variance is that of the seeds, and that of as many samples, which all seeds share; since
    seeds do not all fail on the same samples this is too wide for few samples. The interval is
    Wilson's (J. Am. Stat. Assoc. 22, 209, 1927) for a number of samples with this variance. Each
    part of it has a Student's t of its own (W. G. Cochran, Biometrics 20, 191, 1964): two or three
    seeds that happen to agree make it no narrower than they should. Of one seed it does not cover
    how seeds differ, and without ``n`` only that. Raises a `RangeError`.
    """
    seeds, p = len(accuracies), fmean(accuracies) if accuracies else math.nan
    if not seeds or (seeds == 1 and not n) or not 0 <= p <= 1:
        raise RangeError(
            f"{seeds} accuracies {tuple(accuracies)} of {n} samples have no interval; give "
            "fractions in [0, 1], and the number of test samples."
        )
    by_seed = variance(accuracies) / seeds if seeds > 1 else 0.0
    by_sample = p * (1 - p) / n if n else 0.0
    total = by_seed + by_sample
    # That of the samples follows from the mean: it has no degrees of freedom of its own.
    t = _student(MANY)
    if by_seed:
        t = math.sqrt((_student(seeds - 1) ** 2 * by_seed + t**2 * by_sample) / total)
    size = p * (1 - p) / total if total and 0 < p < 1 else n or math.inf
    share = t**2 / size
    centre, half = p + share / 2, t * math.sqrt(p * (1 - p) / size + share / (4 * size))
    low, high = ((centre + sign * half) / (1 + share) for sign in (-1, 1))
    return Estimate(p, max(0.0, min(p, low)), min(1.0, max(p, high)))


def _student(freedom: float) -> float:
    """Student's t, two-sided, 95 %."""
    return float(stdtrit(freedom, 0.975))


def difference_interval(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Estimate:
    """Difference of two accuracies, paired by seed and test sample, with its 95 % interval.

    ``first`` and ``second`` have shape (seeds, samples). Both are random: two-way random effects
    without repeats, variance (MS_seed + MS_sample - MS_rest) / (seeds * samples), each part with
    Student's t of its own, see `mean_interval`.
    """
    a, b = (np.atleast_2d(np.asarray(one, float)) for one in (first, second))
    if a.shape != b.shape or a.shape[1] < 2:
        raise RangeError(
            f"a pair needs the same seeds and test samples, at least 2; these are {a.shape} and "
            f"{b.shape}."
        )
    values = a - b
    seeds, n = values.shape
    by_seed, by_sample, mean = values.mean(1), values.mean(0), float(values.mean())
    t = _student(n - 1)
    of_samples = float(by_sample.var(ddof=1)) * seeds
    total = t**2 * of_samples
    if seeds > 1:
        of_seeds = float(by_seed.var(ddof=1)) * n
        rest = float(np.square(values - by_sample - by_seed[:, None] + mean).sum())
        rest /= (seeds - 1) * (n - 1)
        # Neither part can be below what the rest alone makes of it.
        total = max(of_samples - rest, 0.0) * t**2 + _student(seeds - 1) ** 2 * of_seeds
        total = max(total, t**2 * of_samples)
    # A difference that was never seen may be there: as of one sample more, either way.
    half = math.sqrt(max(total / (seeds * n), (t / n) ** 2))
    return Estimate(mean, mean - half, mean + half)


def paired(first: Sequence[Row], second: Sequence[Row]) -> Estimate:
    """Difference of the accuracies of two methods as they are used, by `difference_interval`.

    Raises a `RangeError` if rows are of other seeds or do not say which samples were right.
    """
    by_seed = [{row.seed: row for row in rows} for rows in (first, second)]
    seeds = list(by_seed[0])
    if not seeds or set(seeds) != set(by_seed[1]):
        raise RangeError(f"these methods have the seeds {[list(one) for one in by_seed]}.")
    if len(first) + len(second) > 2 * len(seeds):
        raise RangeError(
            "a seed is there twice: pair the rows of one system, task and setting at a time, each "
            "with a seed of its own."
        )

    def right(row: Row) -> NDArray[np.bool_]:
        text = row.recalibrated_correct or row.correct
        if text is None or row.n_test is None:
            raise RangeError(f"the row of {row.method} does not say which samples were right.")
        return unpacked(text, row.n_test)

    return difference_interval(*(np.stack([right(one[s]) for s in seeds]) for one in by_seed))


def verdict(difference: Estimate) -> Literal["better", "worse", "equal", "not known"]:
    """Say what a difference shows: the first better, worse, equal within `MARGIN`, or not known."""
    if difference.low > -MARGIN and difference.high < MARGIN:
        return "equal"  # it may be real, and is too small to matter
    if difference.low > 0:
        return "better"
    if difference.high < 0:
        return "worse"
    return "not known"
