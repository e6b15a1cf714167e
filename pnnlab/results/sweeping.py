"""Sweeps: a notebook or a function with every combination of some values, each once, on Dask."""

import hashlib
import inspect
import itertools
import json
import logging
import os
import re
import secrets
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple, TypeAlias, final
from unittest.mock import patch

from tqdm import tqdm

import pnnlab
from pnnlab import storage
from pnnlab.errors import NotebookError, RangeError, RunError
from pnnlab.plain import plain, whole
from pnnlab.provenance import versions
from pnnlab.results.notebooks import Notebook, assign, choose, list_notebooks, notebooks_folder
from pnnlab.results.rows import Row, read_json, write_json
from pnnlab.results.tables import results_table
from pnnlab.storage import user_path

TRIES = 3
LOOPBACK = "127.0.0.1"
NO_DASK = "Dask is not installed; pip install 'pnnlab[scaling]'."
RESULT = "result.json"
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
# Ctrl-C reaches every process of a terminal; workers end with the process that started them.
_IGNORING = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"

Work: TypeAlias = Callable[..., Row | Iterable[Row] | None]
Resources: TypeAlias = Mapping[str, float]


class Done(NamedTuple):
    """What came of a job: rows, or after the last try the error."""

    values: Mapping[str, object]
    rows: tuple[Row, ...] = ()
    error: str | None = None


@final
@dataclass(frozen=True)
class Job:
    """One notebook or function and its values. Equal work, values, code and data: one ``key``."""

    work: Notebook | Work
    values: Mapping[str, object]
    code: Mapping[str, str]  # versions, and digests of this package and of the work
    data: str  # digest
    out: Path  # folder of the sweep

    @property
    def name(self) -> str:
        return str(self.work.name if isinstance(self.work, Notebook) else self.work.__name__)

    @property
    def identity(self) -> dict[str, object]:
        """What makes it this job, as JSON holds it."""
        return {"work": self.name, "values": self.values, "code": self.code, "data": self.data}

    @property
    def key(self) -> str:
        return storage.checksum_of_json(self.identity)

    @property
    def folder(self) -> Path:
        """Where it keeps its run and its result; a job that is taken up again finds both there."""
        # Sorted as in the key: in what order a grid names its parameters makes no difference.
        values = (f"{name}-{value}" for name, value in sorted(self.values.items()))
        text = "-".join((self.name, *values))
        return self.out / "-".join((re.sub(r"[^\w.+-]+", "-", text)[:80], self.key[:12]))

    def finished(self) -> Done | None:
        """Read its result, if there is one, or raise a `RunError`."""

        def decoded(data: dict[str, Any]) -> Done:
            if data["identity"] != json.loads(json.dumps(self.identity)):
                raise ValueError("it is of another task")
            return Done(self.values, tuple(Row(**row) for row in data["rows"]))

        path = self.folder / RESULT
        if not path.exists():
            return None
        return read_json(path, "result", "delete it, and sweep again", decoded)

    def keep(self, rows: Iterable[Row]) -> None:
        """Write its result, whole or not at all."""
        data = {"identity": self.identity, "rows": [asdict(row) for row in rows]}
        write_json(self.folder / RESULT, data)


def perform(job: Job) -> Done:
    """Do a job where this process is, unless it is done, and keep its result there."""
    import numba
    import torch

    if differing := [name for name, own in package_code().items() if job.code.get(name) != own]:
        raise RunError(
            f"this worker has another {', '.join(differing)} than the process that sweeps; install "
            "the same versions on all machines, and start the workers anew."
        )
    if (before := job.finished()) is not None:
        return before
    job.folder.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    try:
        rows = _of_notebook(job) if isinstance(job.work, Notebook) else _of_function(job)
    finally:
        torch.set_num_threads(threads[0])
        numba.set_num_threads(threads[1])
    job.keep(rows)
    return Done(job.values, rows)


def _of_notebook(job: Job) -> tuple[Row, ...]:
    from pnnlab.results.running import run_notebooks  # papermill loads slowly

    assert isinstance(job.work, Notebook)
    own = {"out": str(job.folder)} if "out" in job.work.parameters else {}
    (outcome,) = run_notebooks([job.work], [{**job.values, **own}], job.folder, env=ONE_THREAD)
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    if outcome.status != "ok":
        raise RunError(str(outcome.error))
    return tuple(row for summary in outcome.summaries for row in summary.rows)


def _of_function(job: Job) -> tuple[Row, ...]:
    assert not isinstance(job.work, Notebook)
    own = {"folder": job.folder} if "folder" in inspect.signature(job.work).parameters else {}
    made = job.work(**job.values, **own)
    rows = (made,) if isinstance(made, Row) else tuple(made or ())
    if not all(isinstance(row, Row) for row in rows):
        raise RangeError(f"{job.name} returned {made!r}; let it return a Row, or several.")
    return rows


# --- which jobs there are ---


@cache  # what this process has imported stays as it is
def package_code() -> Mapping[str, str]:
    """Versions of what numbers depend on, builds for one processor or another apart, and digest."""
    folder = Path(pnnlab.__file__).parent
    texts = [path.read_bytes() for path in sorted(folder.rglob("*.py"))]
    found = {name: text.partition("+")[0] for name, text in versions().items()}
    return found | {"pnnlab": storage.checksum(*texts).hex()}


def data_digest(root: Path | None) -> str:
    """Digest of the names and contents of all files of a folder."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(root.rglob("*")) if root is not None else ():
        if path.is_file():
            digest.update(f"{path.relative_to(root or path)}\n".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def source(function: Any, seen: frozenset[Any] = frozenset()) -> str:
    """Source of a function, with functions, classes and plain values of its module that it uses."""
    try:
        texts = [inspect.getsource(function)]
    except (OSError, TypeError) as error:
        if seen:  # of a class that was written in a notebook there may be none
            return ""
        raise RangeError(
            f"{function!r} has no source to tell it from others; give a function by its name."
        ) from error
    used: dict[str, Any] = {}  # also by the methods of a class
    for one in vars(function).values() if inspect.isclass(function) else (function,):
        if inspect.isfunction(one):
            names = _names(one.__code__)
            used |= {name: value for name, value in one.__globals__.items() if name in names}
            used |= inspect.getclosurevars(one).nonlocals
    for name, value in sorted(used.items()):
        if inspect.isfunction(value) or inspect.isclass(value):
            if value.__module__ == function.__module__ and value not in seen | {function}:
                texts.append(source(value, seen | {function}))
        else:
            with suppress(TypeError):  # other than plain
                texts.append(f"{name} = {json.dumps(plain(value))}")
    return "\n".join(texts)


def _names(code: CodeType) -> set[str]:
    # With those of lambdas, comprehensions and inner functions, whose code is a constant of it:
    # `inspect.getclosurevars` knows its own alone.
    inner = (one for one in code.co_consts if inspect.iscode(one))
    return {*code.co_names}.union(*map(_names, inner))


def _of_notebooks(
    name: str, combinations: Iterable[Mapping[str, object]], folder: str | Path | None
) -> Iterator[tuple[Notebook, dict[str, object], str]]:
    """Notebooks, or those variants that fit a combination, with its values and their source."""
    found = choose(list_notebooks(notebooks_folder(folder)), [name])
    texts = {}
    for path in {one.path for one in found}:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts[path] = json.dumps([one["source"] for one in cells if one["cell_type"] == "code"])
    for combination in combinations:
        given = {n: v if isinstance(v, str) else repr(v) for n, v in combination.items()}
        # The first parameter of its own is the one that makes variants.
        fitting = [
            one for one in found if given.get(next(iter(one.own), ""), one.variant) == one.variant
        ]
        if not fitting:
            known = ", ".join(one.variant for one in found)
            raise NotebookError(f"{name} has the variants {known}, and none of {given}.")
        for one, values in zip(fitting, assign(fitting, [*given.items()], Path()), strict=True):
            values.pop("out", None)
            yield one, values, texts[one.path]


def read_grid(words: Iterable[str]) -> dict[str, list[str]]:
    """Read values from words such as ``seed=0..9`` and ``method=PAT,ideal``."""
    grid: dict[str, list[str]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals) or name in grid:
            raise RangeError(f"the grid has {word!r}; give each name once, such as seed=0..9.")
        values = grid[name] = []
        for value in filter(None, re.split(r",(?![^\[({]*[\])}])", text)):
            if ends := re.fullmatch(r"(-?\d+)\.\.(-?\d+)", value):
                values += map(str, range(int(ends[1]), int(ends[2]) + 1))
            else:
                values.append(value)
    return grid


def read_resources(words: Iterable[str]) -> dict[str, float]:
    """Read resources from words such as ``bench-3=1``."""
    found = {}
    for word in words:
        name, _, number = word.partition("=")
        if not name or not re.fullmatch(r"\d+(\.\d+)?", number) or not float(number):
            raise RangeError(f"a resource is {word!r}; give a name and a number: bench-3=1.")
        found[name] = float(number)
    return found


# --- doing them ---


@final
@dataclass
class Sweep:
    """The jobs of a grid, and what came of them so far; iterate `outcomes` or call `run`.

    What is done is not done again: a result stands in a folder of its own below ``out``, named by
    all that it depends on. A job that was interrupted, or whose worker was killed, begins anew in
    the same folder, where a run goes on from its checkpoint. One that fails three times is reported
    with its last error, and the others go on.

    Nothing leaves the machine unless a ``client`` is given. Then the work, its values and its rows
    travel between this process, the scheduler and the workers, and whoever reaches the scheduler
    can run code on all of them: on a network that others share give all three the TLS files of one
    authority, in Dask's configuration (``distributed.comm.tls``), and a ``tls://`` address.

    Parameters
    ----------
    work : str or callable
        Number or name of a notebook; or a function of the values that returns a `Row` or several.
        If it takes ``folder`` too, it is given one to keep its run in. In a script the sweep stands
        below ``if __name__ == "__main__":``.
    grid : mapping of str to iterable
        Plain values of each parameter.
    out : path
        Folder of the sweep. Notebooks need one that all workers see under this path.
    client : distributed.Client or str, optional
        Of a cluster of one's own, or the address of its scheduler. By default workers on this
        machine, heard by nobody else.
    workers : int, optional
        How many of them, one thread each; by default one a core. 0: in this process, in turn.
    needs : mapping or callable, optional
        Resources of Dask that a job takes, such as ``{"bench-3": 1}``, or a function of its values
        that gives them. On this machine one worker has them.
    notebooks : path, optional
        Folder of the notebooks.

    Raises
    ------
    RangeError, NotebookError
        A value is unknown to the work, given twice or no plain data, or there is none.
    RunError
        A result is damaged, no scheduler answers, or no worker has what a job needs.
    """

    work: str | Work
    grid: Mapping[str, Iterable[object]]
    out: str | Path
    client: Any = None
    workers: int | None = None
    needs: Resources | Callable[[Mapping[str, object]], Resources] | None = None
    notebooks: str | Path | None = None
    jobs: tuple[Job, ...] = field(init=False)
    done: dict[str, Done] = field(init=False, default_factory=dict)  # by key of the job
    failed: dict[str, Done] = field(init=False, default_factory=dict)
    active: bool = field(init=False, default=False)
    dashboard: str | None = field(init=False, default=None)  # address of Dask's, while it runs
    observers: list[Callable[[], object]] = field(init=False, default_factory=list)
    _threads: int = field(init=False, default=1)
    seconds_left: float | None = field(init=False, default=None)  # None: not known

    def __post_init__(self) -> None:
        from pnnlab.tasks.task import data_root  # with torch

        if self.workers is not None:
            whole("workers", self.workers, 0)
        tasks = list(self._tasks())
        code, data, out = package_code(), data_digest(data_root()), user_path(self.out).absolute()
        self.jobs = tuple(
            Job(work, values, {**code, "work": storage.checksum(text.encode()).hex()}, data, out)
            for work, values, text in tasks
        )
        try:
            counts = Counter(job.key for job in self.jobs)
        except TypeError as error:
            raise RangeError(
                f"a value of the grid is no plain data ({error}); give numbers, texts and lists of "
                "them, and make the rest within the function."
            ) from error
        if twice := next((job for job in self.jobs if counts[job.key] > 1), None):
            raise RangeError(f"the grid gives {dict(twice.values)} twice; give each value once.")
        found = {job.key: job.finished() for job in self.jobs}
        self.done = {key: before for key, before in found.items() if before is not None}

    def _tasks(self) -> Iterator[tuple[Any, dict[str, object], str]]:
        """Work, values and source of each combination; what is wrong is said before any runs."""
        values = {name: [plain(value) for value in given] for name, given in self.grid.items()}
        if empty := [name for name, given in values.items() if not given]:
            raise RangeError(f"the grid gives no value of {', '.join(empty)}; give at least one.")
        products = itertools.product(*values.values())
        combinations = [dict(zip(values, one, strict=True)) for one in products]
        if isinstance(self.work, str):
            yield from _of_notebooks(self.work, combinations, self.notebooks)
            return
        signature = inspect.signature(self.work)
        try:
            signature.bind(**dict.fromkeys({*values, *{"folder"} & {*signature.parameters}}))
        except TypeError as error:
            raise RangeError(
                f"{self.work.__name__}{signature} does not take the grid: {error}."
            ) from error
        text = source(self.work)
        for one in combinations:
            yield self.work, one, text

    @property
    def rows(self) -> list[Row]:
        """Rows of all jobs that are done, in the order of the grid."""
        return [row for job in self.jobs if (one := self.done.get(job.key)) for row in one.rows]

    @property
    def left(self) -> int:
        """Jobs that have neither been done nor failed."""
        return len(self.jobs) - len(self.done) - len(self.failed)

    @property
    def running(self) -> int:
        """Jobs that are being done: one for each thread of the workers, as far as there are any."""
        return min(self.left, self._threads) if self.active else 0

    def __repr__(self) -> str:
        """The results table; what else than seeds was varied stands beside the system."""
        known = {"system", "task", "method", "twin", "layers", "unit", "seed"}  # apart in the table
        values = {n: {repr(job.values.get(n)) for job in self.jobs} for n in self.jobs[0].values}
        varied = [name for name, each in values.items() if name not in known and len(each) > 1]
        rows = []
        for job in self.jobs:
            beside = "".join(f", {name} {job.values[name]}" for name in varied)
            done = self.done.get(job.key, Done({}))
            rows += [replace(row, system=row.system + beside) for row in done.rows]
        return f"{results_table(rows)}\n- {self.summary()}"

    _repr_markdown_ = __repr__

    def summary(self) -> str:
        """One sentence: how many are done, failed and left, and how to go on."""
        counts = f"{len(self.done)} of {len(self.jobs)} done, {len(self.failed)} failed"
        again = " The same call goes on with what is not done."
        return f"{counts}, {self.left} left.{again * (len(self.done) < len(self.jobs))}"

    def run(self, progress: bool = True) -> "Sweep":
        """Do what is not done, with a progress bar."""
        with tqdm(total=len(self.jobs), initial=len(self.done), disable=not progress) as bar:
            for _ in self.outcomes():
                bar.set_postfix_str(f"{len(self.failed)} failed" if self.failed else "")
                bar.update()
        return self

    def outcomes(self) -> Iterator[Done]:
        """Do what is not done; yield each job as it ends. Leaving the loop stops the others."""
        left = [job for job in self.jobs if job.key not in self.done]
        self.failed.clear()
        self.active, began = bool(left), time.monotonic()
        self._changed()
        try:
            for number, (job, one) in enumerate(self._ended(left), start=1):
                (self.done if one.error is None else self.failed)[job.key] = one
                self.seconds_left = (time.monotonic() - began) / number * (len(left) - number)
                self._changed()
                yield one
        finally:
            self.active, self.dashboard = False, None
            self._changed()

    def _changed(self) -> None:
        for observer in self.observers:
            observer()

    def _ended(self, left: list[Job]) -> Iterator[tuple[Job, Done]]:
        workers = (os.cpu_count() or 1) if self.workers is None else self.workers
        if left and (self.client or workers) and find_spec("distributed") is None:
            if self.client or self.workers:
                raise RunError(NO_DASK)
            warnings.warn(f"tasks run one after the other: {NO_DASK}", RuntimeWarning, stacklevel=4)
            workers = 0
        if not left or not (self.client or workers):
            yield from map(_in_turn, left)
            return
        there: AbstractContextManager[Any] = nullcontext(self.client)
        if self.client is None:
            held = {name: n for job in left for name, n in self._needs(job).items()}
            there = local_client(min(workers, len(left)), held)
        elif isinstance(self.client, str):
            from distributed import Client

            try:
                there = Client(self.client)
            except (OSError, ValueError, TypeError, RuntimeError) as error:  # two are of TLS
                raise RunError(
                    f"no scheduler answers at {self.client} ({error}); start one with `dask "
                    "scheduler`. For tls:// both sides need TLS files: see distributed.comm.tls of "
                    "Dask's configuration."
                ) from error
        with there as client:
            yield from self._by_dask(client, left)

    def _needs(self, job: Job) -> Resources:
        return (self.needs(job.values) if callable(self.needs) else self.needs) or {}

    def _by_dask(self, client: Any, left: list[Job]) -> Iterator[tuple[Job, Done]]:
        from distributed import as_completed

        self.dashboard = client.dashboard_link
        there = client.scheduler_info(n_workers=-1)["workers"].values()
        held = {name for worker in there for name in worker["resources"]}
        missing = {name: None for job in left for name in self._needs(job) if name not in held}
        if there and missing:
            raise RunError(
                f"no worker has {', '.join(missing)}; where it is, start `dask worker ADDRESS "
                f'--nthreads 1 --resources "{next(iter(missing))}=1"`.'
            )
        self._threads = sum(worker["nthreads"] for worker in there)
        self._changed()
        token = secrets.token_hex(8)
        jobs: dict[Any, Job] = {}
        for job in left:
            needs = dict(self._needs(job)) or None
            # One group of keys, which the scheduler hands out as workers become free.
            own = {"key": (f"{job.name}-{token}", job.key), "pure": False, "retries": TRIES - 1}
            jobs[client.submit(perform, job, resources=needs, **own)] = job
        try:
            for future in as_completed(list(jobs)):
                self._threads = sum(client.nthreads().values())
                job = jobs.pop(future)
                if future.cancelled():
                    raise RunError("Dask's scheduler is gone; start it, and the same call goes on.")
                if (error := future.exception()) is not None:
                    yield job, Done(job.values, error=f"{type(error).__name__}: {error}")
                    continue
                done = future.result()
                if not (job.folder / RESULT).exists():  # of a worker with another disk
                    job.keep(done.rows)
                yield job, done
        finally:
            with suppress(Exception):  # the scheduler may be gone
                client.cancel(list(jobs), force=True)


def _in_turn(job: Job) -> tuple[Job, Done]:
    error = ""
    for _ in range(TRIES):
        try:
            return job, perform(job)
        except Exception as raised:  # noqa: BLE001  # whatever the work of a user raises
            error = f"{type(raised).__name__}: {raised}"
    return job, Done(job.values, error=error)


@contextmanager
def local_client(workers: int, resources: Resources | None = None) -> Iterator[Any]:
    """Give a client of workers on this machine, one thread each, and end them.

    They and their scheduler listen on the loopback alone. The first has the ``resources``.
    """
    import dask
    from distributed import Client, Nanny, Scheduler, SpecCluster

    options: dict[str, Any] = {
        "host": LOOPBACK,
        "nthreads": 1,
        "memory_limit": 0,  # of the machine; Dask would kill what exceeds an equal part of it
        "env": ONE_THREAD,
        "preload": [_IGNORING],
        "silence_logs": logging.CRITICAL,
    }
    first = {**options, "resources": dict(resources or {})}
    nannies = {n: {"cls": Nanny, "options": options if n else first} for n in range(workers)}
    dashboard = {"host": LOOPBACK, "dashboard_address": f"{LOOPBACK}:0"}
    settings = {
        "distributed.scheduler.worker-saturation": 1.0,  # a free worker is given a job, no other
        # A worker that was killed starts anew. By default it is given up if it is away just then.
        "distributed.deploy.lost-worker-timeout": "365 days",
        # How many of its workers may be killed before a job counts as failed.
        "distributed.scheduler.allowed-failures": 10,
    }
    scheduler = {"cls": Scheduler, "options": dashboard}
    with (
        patch.dict(os.environ),  # which Dask changes for the processes that it starts
        dask.config.set(settings),
        SpecCluster(nannies, scheduler, silence_logs=logging.CRITICAL) as cluster,
        Client(cluster) as client,
    ):
        yield client
