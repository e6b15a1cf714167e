"""Sweeps: each task once, whatever happens to workers; what tells tasks apart; bad grids."""

import os
import random
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
import sweep_tasks
from records import wait_until
from small_notebooks import WRITE_SUMMARY, write_notebook

from pnnlab import cli
from pnnlab.errors import NotebookError, RangeError, RunError
from pnnlab.results import sweeping
from pnnlab.results.sweeping import (
    RESULT,
    Sweep,
    data_digest,
    local_client,
    perform,
    read_grid,
    source,
)

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers of one thread each; the first has a bench."""
    before = dict(os.environ)
    with local_client(2, {"bench-3": 1}) as client:
        yield client
    assert dict(os.environ) == before


def in_turn(work: Any, grid: dict[str, Any], out: Path) -> Sweep:
    return Sweep(work, grid, out, workers=0).run(progress=False)


def test_killed_workers_change_no_row(client: Any, tmp_path: Path) -> None:
    grid = {"seed": range(50), "tolerance": [0.05, 0.1]}
    quiet = in_turn(sweep_tasks.short, grid, tmp_path / "quiet")
    sweep = Sweep(sweep_tasks.short, grid, tmp_path / "killed", client=client)
    chance = random.Random(0)
    killed = set()
    for number, _ in enumerate(sweep.outcomes()):
        if number % 16 == 8:
            wait_until(lambda: bool(client.nthreads()), 120)
            alive = sorted(client.run(os.getpid, on_error="ignore").values())
            for victim in chance.sample(alive, min(1, len(alive))):
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    killed.add(victim)
    assert len(killed) > 2
    assert len(quiet.rows) == 100
    assert sweep.rows == quiet.rows
    assert len(list((tmp_path / "killed").glob(f"*/{RESULT}"))) == 100


@pytest.mark.parametrize("workers", [0, None])
def test_three_failures_are_reported_and_the_others_finish(
    client: Any, tmp_path: Path, workers: int | None
) -> None:
    own = {"workers": 0} if workers == 0 else {"client": client}
    sweep = Sweep(sweep_tasks.faulty, {"seed": range(4)}, tmp_path, **own).run(progress=False)
    assert [row.seed for row in sweep.rows] == [0, 2, 3]
    assert [one.error for one in sweep.failed.values()] == ["ValueError: seed 1 is bad"]
    tries = [
        len((job.folder / "tries").read_text(encoding="utf-8").splitlines()) for job in sweep.jobs
    ]
    assert tries == [1, 3, 3, 1]
    assert "3 of 4 done, 1 failed, 0 left. The same call goes on" in repr(sweep)


def test_a_task_whose_worker_dies_goes_on_in_its_folder(client: Any, tmp_path: Path) -> None:
    sweep = Sweep(sweep_tasks.deadly, {"seed": [7]}, tmp_path, client=client).run(progress=False)
    assert [row.seed for row in sweep.rows] == [7]
    assert len(list(sweep.jobs[0].folder.glob("step*"))) == 3


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    first = in_turn(sweep_tasks.faulty, {"seed": [0, 2]}, tmp_path)
    again = in_turn(sweep_tasks.faulty, {"seed": [2, 0, 3]}, tmp_path)
    assert again.rows[1::-1] == first.rows
    tries = [
        len((job.folder / "tries").read_text(encoding="utf-8").splitlines()) for job in again.jobs
    ]
    assert tries == [3, 1, 1]
    assert [perform(job).rows for job in first.jobs] == [(row,) for row in first.rows]


def test_tasks_that_need_a_bench_run_one_at_a_time_where_it_is(client: Any, tmp_path: Path) -> None:
    grid = {"seed": range(10), "needs": [True, False]}
    sweep = Sweep(
        sweep_tasks.on_bench,
        grid,
        tmp_path,
        client=client,
        needs=lambda values: {"bench-3": 1} if values["needs"] else {},
    ).run(progress=False)
    assert not sweep.failed
    bench = [job for job in sweep.jobs if job.values["needs"]]
    assert len({(job.folder / "pid").read_text(encoding="utf-8") for job in bench}) == 1
    elsewhere = Sweep(sweep_tasks.short, {"seed": [0]}, tmp_path, client=client, needs={"oven": 1})
    with pytest.raises(RunError, match=r'no worker has oven.*--resources "oven=1"'):
        elsewhere.run(progress=False)


def test_every_library_computes_in_one_thread(client: Any, tmp_path: Path) -> None:
    sweep = Sweep(sweep_tasks.threads, {"seed": range(4)}, tmp_path, client=client)
    assert {row.layers for row in sweep.run(progress=False).rows} == {1}


def test_nobody_else_can_connect(client: Any) -> None:
    own = psutil.Process()
    workers = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
    scheduler = int(client.scheduler.address.rpartition(":")[2])
    heard = {}
    for process in (own, *workers):
        for connection in process.net_connections():
            if connection.status == psutil.CONN_LISTEN:
                heard[connection.laddr.port] = connection.laddr.ip
    assert scheduler in heard
    assert len(heard) > 3
    assert set(heard.values()) == {"127.0.0.1"}
    assert client.dashboard_link.startswith("http://127.0.0.1:")


def test_a_worker_with_other_code_refuses(tmp_path: Path) -> None:
    (job,) = Sweep(sweep_tasks.short, {"seed": [0]}, tmp_path).jobs
    other = replace(job, code={**job.code, "pnnlab": "of yesterday"})
    with pytest.raises(RunError, match="this worker has another pnnlab than"):
        perform(other)
    assert not other.folder.exists()


# --- what tells tasks apart ---


def key(tmp_path: Path, work: Any = sweep_tasks.short, **values: Any) -> str:
    (job,) = Sweep(work, {name: [value] for name, value in values.items()}, tmp_path).jobs
    return job.key


def test_identity_is_values_code_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PNNLAB_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    first = key(tmp_path, seed=1)
    assert key(tmp_path / "elsewhere", seed=1) == first
    others = [key(tmp_path, seed=2), key(tmp_path, sweep_tasks.slow, seed=1)]
    (tmp_path / "data" / "images").write_bytes(b"1")
    others.append(key(tmp_path, seed=1))
    (tmp_path / "data" / "images").write_bytes(b"2")
    others.append(key(tmp_path, seed=1))
    code = {**sweeping.package_code(), "pnnlab": "of tomorrow"}
    monkeypatch.setattr(sweeping, "package_code", lambda: code)
    others.append(key(tmp_path, seed=1))
    assert len({first, *others}) == 6


def test_source_is_of_all_that_a_function_uses() -> None:
    rate = 0.01

    def helper(x: float) -> float:
        return rate * x

    def work(seed: int) -> float:
        return helper(seed)

    text = source(work)
    assert "return rate * x" in text
    assert "rate = 0.01" in text
    assert "import random" not in source(sweep_tasks.slow)
    assert "generator.random()" in source(sweep_tasks.slow)  # of `short`, which it calls
    for work in (sweep_tasks.nested, sweep_tasks.by_class):
        assert "return FACTOR * x" in source(work)
        assert "FACTOR = 0.25" in source(work)
    with pytest.raises(RangeError, match="has no source"):
        source(print)


def test_scales_are_never_averaged_together(tmp_path: Path) -> None:
    grid = {"seed": [0, 1], "scale": ["quick", "paper"]}
    table = str(in_turn(sweep_tasks.by_scale, grid, tmp_path))
    assert "toy, scale quick" in table
    assert "toy, scale paper" in table
    assert "75.0" not in table


def test_a_notebook_that_changes_is_another(tmp_path: Path) -> None:
    def sweep() -> str:
        (job,) = Sweep("00", {"seed": [1]}, tmp_path / "r", notebooks=tmp_path / "n").jobs
        return job.key

    write_notebook(tmp_path / "n", "00_tour", WRITE_SUMMARY)
    before = sweep()
    write_notebook(tmp_path / "n", "00_tour", WRITE_SUMMARY)
    assert sweep() == before
    write_notebook(tmp_path / "n", "00_tour", "x = 1", WRITE_SUMMARY)
    assert sweep() != before


def test_digest_of_data_names_and_contents(tmp_path: Path) -> None:
    assert data_digest(tmp_path) == data_digest(tmp_path)
    digests = {data_digest(tmp_path)}
    for name, content in (("a", b"1"), ("b", b"1"), ("b", b"2")):
        (tmp_path / name).write_bytes(content)
        digests.add(data_digest(tmp_path))
    assert len(digests) == 4


def test_the_order_of_the_parameters_makes_no_other_task(tmp_path: Path) -> None:
    grid = {"tolerance": [0.05, 0.1], "seed": [3, 4]}
    done = in_turn(sweep_tasks.short, grid, tmp_path)
    again = Sweep(sweep_tasks.short, dict(reversed(grid.items())), tmp_path)
    assert again.left == 0
    assert len(again.rows) == len(done.rows) == 4
    assert {*again.done} == {*done.done}


def test_a_damaged_result_is_not_used(tmp_path: Path) -> None:
    sweep = in_turn(sweep_tasks.short, {"seed": [3]}, tmp_path)
    path = sweep.jobs[0].folder / RESULT
    path.write_text(
        path.read_text(encoding="utf-8").replace('"seed": 3', '"seed": 4'), encoding="utf-8"
    )
    with pytest.raises(RunError, match=r"is damaged or edited .*delete it"):
        Sweep(sweep_tasks.short, {"seed": [3]}, tmp_path)


# --- bad sweeps ---


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ({"seed": []}, "no value of seed"),
        ({"seed": [1, 1]}, r"\{'seed': 1\} twice"),
        ({"sead": [1]}, r"short\(seed: int.*does not take the grid"),
        ({"tolerance": [0.1]}, "missing a required argument: 'seed'"),
        ({"seed": [object()]}, "no plain data"),
    ],
)
def test_a_bad_grid_is_refused_before_anything_runs(
    tmp_path: Path, grid: dict[str, Any], says: str
) -> None:
    with pytest.raises(RangeError, match=says):
        Sweep(sweep_tasks.short, grid, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_no_row_is_an_error(tmp_path: Path) -> None:
    def wrong(seed: int) -> Any:
        return [seed]

    (failed,) = in_turn(wrong, {"seed": [5]}, tmp_path).failed.values()
    assert failed.error == "RangeError: wrong returned [5]; let it return a Row, or several."


def test_without_dask_tasks_run_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "find_spec", lambda _: None)
    with pytest.warns(RuntimeWarning, match="one after the other: Dask is not installed"):
        sweep = Sweep(sweep_tasks.short, {"seed": [0, 1]}, tmp_path).run(progress=False)
    assert len(sweep.rows) == 2
    with pytest.raises(RunError, match="Dask is not installed; pip"):
        Sweep(sweep_tasks.short, {"seed": [2]}, tmp_path, workers=2).run(progress=False)


def test_values_that_rows_do_not_know_stand_in_the_table(tmp_path: Path) -> None:
    sweep = in_turn(sweep_tasks.short, {"seed": range(2), "tolerance": [0.05, 0.1]}, tmp_path)
    lines = [line.split("|")[1].strip() for line in repr(sweep).splitlines() if "| toy" in line]
    assert lines == ["toy, tolerance 0.05", "toy, tolerance 0.1"]


# --- the command ---


@pytest.fixture
def notebooks(tmp_path: Path) -> Path:
    write_notebook(tmp_path / "n", "00_tour", "import time; time.sleep(2)", WRITE_SUMMARY)
    return tmp_path / "n"


def words(notebooks: Path, *more: str) -> list[str]:
    out = str(notebooks.parent / "r")
    return ["sweep", "0", "--notebooks", str(notebooks), "--out", out, *more]


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ("seed=", "no value of seed"),
        ("seed=3..1", "no value of seed"),
        ("seed=1,1", "twice"),
        ("seed=x", "Parameter 'seed' of 00_tour is a whole number"),
        ("sead=1", "No chosen notebook has a parameter 'sead'"),
        ("seed", "give each name once, such as seed=0..9"),
        ("scale=huge", "no scale 'huge'"),
        ("out=a,b", "--out DIR"),
    ],
)
def test_the_command_refuses_a_bad_grid(
    notebooks: Path, capsys: pytest.CaptureFixture[str], grid: str, says: str
) -> None:
    assert cli.main(words(notebooks, "--grid", grid)) == cli.BAD_ARGUMENTS
    assert says in capsys.readouterr().err
    assert not (notebooks.parent / "r").exists()


def test_grids_and_resources_are_read() -> None:
    read = sweeping.read_grid(["seed=0..2,7", "rate=0.1,1e-3", "widths=[1,2],[3]", "low=-1..0"])
    assert read == {
        "seed": ["0", "1", "2", "7"],
        "rate": ["0.1", "1e-3"],
        "widths": ["[1,2]", "[3]"],
        "low": ["-1", "0"],
    }
    assert sweeping.read_resources(["bench-3=1", "GPU=0.5"]) == {"bench-3": 1.0, "GPU": 0.5}
    for bad in ("bench-3", "=1", "bench-3=0", "bench-3=x"):
        with pytest.raises(RangeError, match="give a name and a number"):
            sweeping.read_resources([bad])


def test_what_is_given_twice_counts_twice(notebooks: Path) -> None:
    twice = (
        "--grid",
        "seed=0,1",
        "--grid",
        "other=0,1",
        "--resources",
        "a=1",
        "--resources",
        "b=1",
    )
    given = cli._parser().parse_args(words(notebooks, *twice))
    assert (given.grid, given.resources) == (["seed=0,1", "other=0,1"], ["a=1", "b=1"])


def test_variants_are_chosen_by_the_grid(tmp_path: Path) -> None:
    import nbformat

    path = write_notebook(tmp_path, "06_images", WRITE_SUMMARY, parameters='system = "a"\nseed = 0')
    book = nbformat.read(path, 4)
    book.metadata["pnnlab"] = {"variants": {"system": {"a": {}, "b": {"seed": 5}}}}
    nbformat.write(book, path)

    def names(**grid: Any) -> list[tuple[str, object]]:
        jobs = Sweep("06", grid, tmp_path / "r", notebooks=tmp_path).jobs
        return [(job.name, job.values["seed"]) for job in jobs]

    assert names(seed=[1, 2]) == [
        ("06_images_a", 1),
        ("06_images_b", 1),
        ("06_images_a", 2),
        ("06_images_b", 2),
    ]
    assert names(system=["b"], seed=[3]) == [("06_images_b", 3)]
    with pytest.raises(NotebookError, match="has the variants a, b"):
        names(system=["c"])


@pytest.mark.parametrize(
    ("address", "configured"),
    [("tls://127.0.0.1:1", {}), ("127.0.0.1:1", {"distributed.comm.require-encryption": True})],
    ids=["no files", "TLS alone is allowed"],
)
def test_a_scheduler_whose_tls_files_are_missing_is_refused(
    address: str, configured: dict[str, bool], tmp_path: Path
) -> None:
    sweep = Sweep(sweep_tasks.short, {"seed": [0], "tolerance": [0.1]}, tmp_path, client=address)
    with dask.config.set(configured), pytest.raises(RunError, match=r"distributed\.comm\.tls"):
        sweep.run(progress=False)


def test_workers_and_a_scheduler_exclude_each_other(
    notebooks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--grid", "seed=0", "--workers", "1", "--scheduler", "127.0.0.1:1")
    assert cli.main(words(notebooks, *given)) == cli.BAD_ARGUMENTS
    assert "give one" in capsys.readouterr().err


@pytest.mark.slow
def test_after_ctrl_c_the_same_command_goes_on(
    notebooks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words(notebooks, "--grid", "seed=0..5")
    process = subprocess.Popen(
        [sys.executable, "-m", "pnnlab.cli", *given, "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    results = (notebooks.parent / "r").glob
    wait_until(lambda: bool(list(results(f"*/{RESULT}"))), 400)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    out, err = process.communicate(timeout=120)
    done = {path: path.stat().st_mtime_ns for path in results(f"*/{RESULT}")}
    assert process.returncode == cli.INTERRUPTED
    assert "The same call goes on" in err
    assert "Traceback" not in out + err
    assert 0 < len(done) < 6
    psutil.wait_procs(children, timeout=60)
    assert not any(child.is_running() for child in children)

    assert cli.main([*given, "--workers", "0"]) == cli.OK
    shown = capsys.readouterr().out
    assert "6 of 6 done, 0 failed, 0 left." in shown
    assert len(list(results(f"*/{RESULT}"))) == 6
    assert {path: path.stat().st_mtime_ns for path in done} == done


@pytest.mark.slow
def test_a_notebook_that_fails_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_notebook(tmp_path / "n", "00_tour", "1 / (seed - 1)", WRITE_SUMMARY)
    given = words(tmp_path / "n", "--grid", "seed=1,2", "--workers", "0", "--json")
    assert cli.main(given) == cli.FAILED
    shown = capsys.readouterr()
    assert "{'seed': 1}  FAILED" in shown.err
    assert "ZeroDivisionError" in shown.err
    assert '"done": 1' in shown.out


@pytest.mark.parametrize("text", [cli._sweep.__doc__, README], ids=["help", "README"])
def test_examples_of_the_command_are_accepted(tmp_path: Path, text: str) -> None:
    found = re.findall(r"pnnlab sweep (\S+) --grid ([^\n`]*?)(?= --|`|\n)", text)
    assert found
    for name, grid in found:
        assert Sweep(name, read_grid(shlex.split(grid)), tmp_path).jobs
