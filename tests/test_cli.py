"""The command line as a user meets it: what it prints, where, and its exit status."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import psutil
import pytest
from browser import free_port
from records import wait_until
from served import listening
from small_notebooks import WRITE_SUMMARY, write_notebook

import pnnlab
from pnnlab import cli, doctor
from pnnlab.doctor import Finding
from pnnlab.results import Row, Summary
from pnnlab.results.running import Outcome
from pnnlab.results.tables import BEGIN, END


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "notebooks"
    write_notebook(folder, "00_tour", WRITE_SUMMARY)
    write_notebook(folder, "01_fails", "print('to nobody')\n1 / 0")
    return folder


def run(folder: Path, *words: str) -> int:
    return cli.main(["run", "--notebooks", str(folder), "--out", str(folder.parent / "r"), *words])


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        (ASCII, []),
        (ASCII, ["--json"]),
        ({"PYTHONIOENCODING": "gbk"}, []),
        ({"PYTHONIOENCODING": "latin-1"}, ["--json"]),
    ],
    ids=str,
)
def test_output_goes_into_a_file_of_any_encoding(
    folder: Path, locale: dict[str, str], words: list[str]
) -> None:
    (folder.parent / "ü→θ").touch()  # the name of no folder that results could go to
    command = [sys.executable, "-m", "pnnlab.cli", "doctor", "--notebooks", str(folder), *words]
    done = subprocess.run(
        [*command, "--out", "ü→θ"],
        capture_output=True,
        cwd=folder.parent,
        env=os.environ | locale,
        check=False,
    )
    assert (done.returncode, done.stderr) == (cli.FAILED, b"")
    assert "choose another folder" in done.stdout.decode(locale.get("PYTHONIOENCODING", "ascii"))


# --- run ---


def test_one_fails_and_the_others_are_told_about(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "1", "0", "-p", "scale", "smoke") == cli.FAILED
    shown = capsys.readouterr()
    assert shown.out.startswith("| nb | system |")
    assert "| 00 | toy " in shown.out
    assert "Scale: smoke" in shown.out
    lines = [line.split() for line in shown.err.splitlines()]
    assert ["01_fails", "FAILED"] in [line[:2] for line in lines]
    assert ["00_tour", "ok"] in [line[:2] for line in lines]
    assert "01_fails failed at cell 3" in shown.err
    assert "ZeroDivisionError: division by zero" in shown.err
    assert "%|" not in shown.err  # bars are for terminals


def test_json_is_the_only_thing_on_standard_output(folder: Path) -> None:
    # In a process of its own, so that whatever a library writes to the real stdout counts too.
    words = ["run", "--json", "--notebooks", str(folder), "--out", str(folder.parent / "r")]
    done = subprocess.run(
        [sys.executable, "-m", "pnnlab.cli", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == cli.FAILED
    document = json.loads(done.stdout)
    assert list(document) == ["notebooks", "rows"]
    first, second = document["notebooks"]
    assert list(first) == ["name", "status", "seconds", "peak_memory_mb", "error"]
    assert (first["name"], first["status"], first["error"]) == ("00_tour", "ok", None)
    assert first["seconds"] > 0
    assert first["peak_memory_mb"] > 0
    assert (second["name"], second["status"]) == ("01_fails", "failed")
    assert "ZeroDivisionError" in second["error"]
    [row] = document["rows"]
    assert (row["notebook"], row["system"], row["accuracy"]) == ("00_tour", "toy", 0.9)
    assert row["twin"] is None


def no_run(*_: object, **__: object) -> None:
    raise AssertionError("a notebook was run")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["7"], "no notebook '7'.*00_tour, 01_fails"),
        (["-p", "sede", "1"], "'sede'; they have: scale, seed"),
        (["-p", "scale", "huge"], "smoke, quick, paper"),
        (["-p", "seed", "abc"], "a whole number"),
        (["-p", "out", "/elsewhere"], "--out DIR"),
        (["--out", "/dev/null/results"], "cannot be written .*--out DIR"),
        (["--notebooks", "/no/such/folder"], "No notebook .*--notebooks DIR"),
        (["--", "--port", "1"], "Only `pnnlab lab`"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(
    folder: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pnnlab.results.running.run_notebooks", no_run)
    assert run(folder, *words) == cli.BAD_ARGUMENTS
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert line.startswith("pnnlab: ")
    assert re.search(message, line)
    assert not (folder.parent / "r").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("-1e-7", -1e-7), ("-2", -2.0), ("-.5E3", -500.0), ("-1_000.5", -1000.5)),
        *(("1e-7", 1e-7), ("+3e2", 300.0), ("-0x10", -16.0)),
    ],
)
def test_a_value_may_be_any_number(
    folder: Path, text: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, object]] = []

    def run_notebooks(
        _: object, values: list[dict[str, object]], *__: object, **___: object
    ) -> Any:
        given.extend(values)
        return [Outcome("00_tour", "ok")]

    monkeypatch.setattr("pnnlab.results.running.run_notebooks", run_notebooks)
    parameters = 'delay_s = 0.0\nname = "a"\nseed = 0\nscale = "quick"'
    write_notebook(folder, "00_tour", parameters=parameters)
    words = ["-p", "delay_s", text, "-p", "name", "-pi", "-p", "seed", "-4", "-p", "scale", "smoke"]
    assert run(folder, "0", *words, "--json") == cli.OK
    assert given == [{"delay_s": value, "name": "-pi", "seed": -4, "scale": "smoke"}]


@pytest.mark.parametrize(
    "words",
    [
        *(["run", "--jsn"], ["rum"], [], ["run", "-p", "seed"], ["run", "-p", "seed", "--json"]),
        ["run", "-p", "seed", "-p", "scale", "smoke"],
    ],
)
def test_what_is_no_command_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == cli.BAD_ARGUMENTS
    assert "usage: pnnlab" in capsys.readouterr().err


LONG = """\
import os, pathlib, time
mark = pathlib.Path(os.environ["PNNLAB_TEST_MARK"])
mark.with_suffix(".part").write_text(str(os.getpid()))
try:
    mark.with_suffix(".part").rename(mark)
    time.sleep(300)
finally:
    time.sleep(0.3)
    mark.with_suffix(".clean").touch()"""


@pytest.mark.skipif(os.name == "nt", reason="signals of a POSIX terminal")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_ctrl_c_stops_cleanly_and_says_what_was_done(
    folder: Path, tmp_path: Path, end: signal.Signals
) -> None:
    write_notebook(folder, "02_long", LONG)
    write_notebook(folder, "03_after", "x = 1")
    mark = tmp_path / "mark"
    words = ["run", "0", "2", "3", "--json", "--notebooks", str(folder), "--out", str(tmp_path)]
    # A shell starts what it puts in the background deaf to Ctrl-C, and these tests with it.
    hears = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "pnnlab.cli", *words],
            env={**os.environ, "PNNLAB_TEST_MARK": str(mark)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, hears)
    try:
        deadline = time.monotonic() + 90
        while not mark.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        kernel = psutil.Process(int(mark.read_text(encoding="utf-8")))
        process.send_signal(end)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == cli.INTERRUPTED
    assert not kernel.is_running()
    assert mark.with_suffix(".clean").exists(), "the cell could not clean up"
    assert "Stopped in 02_long. Done: 00_tour. Not run: 03_after." in err
    assert "Traceback" not in err
    statuses = [one["status"] for one in json.loads(out)["notebooks"]]
    assert statuses == ["ok", "interrupted", "not run"]
    assert [row["notebook"] for row in json.loads(out)["rows"]] == ["00_tour"]
    assert "KeyboardInterrupt" in (tmp_path / "02_long.ipynb").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_kernel_ends_with_a_command_that_was_killed(folder: Path, tmp_path: Path) -> None:
    write_notebook(folder, "02_long", LONG)
    mark = tmp_path / "mark"
    words = ["run", "2", "--notebooks", str(folder), "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "pnnlab.cli", *words],
        env={**os.environ, "PNNLAB_TEST_MARK": str(mark)},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(mark.exists, 90)
        kernel = psutil.Process(int(mark.read_text(encoding="utf-8")))
    finally:
        process.kill()
        process.wait(timeout=60)
    wait_until(lambda: not kernel.is_running(), 60)


def test_a_terminal_gets_a_bar_over_notebooks_and_one_over_cells(
    folder: Path, tmp_path: Path
) -> None:
    pty = pytest.importorskip("pty", reason="needs a POSIX terminal")
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    words = ["run", "0", "--notebooks", str(folder), "--out", str(tmp_path / "r")]
    with subprocess.Popen(
        [sys.executable, "-m", "pnnlab.cli", *words], stderr=theirs, stdout=subprocess.DEVNULL
    ) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
        assert process.wait() == cli.OK
    os.close(ours)
    text = shown.decode(errors="replace")
    assert "notebooks" in text
    assert "0/1  00:00 elapsed, ? left" in text
    assert re.search(r"cells of 00_tour .*[1-4]/4", text)
    assert "00_tour  ok" in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError as error:  # how Linux says that the other side was closed
        if error.errno != errno.EIO:
            raise
        return b""


def finished(name: str, *rows: Row, **fields: Any) -> Outcome:
    summaries = (Summary(name, "smoke", {}, 1.0, rows),) if rows else ()
    return Outcome(name, "ok", seconds=1.0, summaries=summaries, **fields)


def test_all_is_well(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row(system="s", task="t", method="m", accuracy=0.5)
    outcomes = [finished("00_tour", row, peak_memory_mb=123.4), finished("01_fails")]
    monkeypatch.setattr("pnnlab.results.running.run_notebooks", lambda *_, **__: iter(outcomes))
    assert run(folder) == cli.OK
    shown = capsys.readouterr()
    assert "123 MB" in shown.err
    assert [line for line in shown.err.splitlines() if "wrote no summary" in line] == [
        "01_fails  ok                1.0 s  (wrote no summary)"
    ]
    assert "50.0" in shown.out


# --- results ---


@pytest.fixture
def measured(folder: Path) -> Path:
    """A folder with one summary at scale paper, and one at another."""
    row = Row(system="s", task="digits", method="PAT", seed=0, accuracy=0.5)
    given = {"scale": "paper", "seed": 0}
    Summary("00_tour", "paper", given, 1.0, (row,)).write(folder.parent / "r")
    Summary("01_fails", "smoke", {}, 1.0, (row,)).write(folder.parent / "r")
    return folder.parent / "r"


def results(folder: Path, *words: object) -> int:
    return cli.main(["results", "--notebooks", str(folder), *map(str, words)])


def test_results_are_gathered_into_the_notebooks_folder_and_shown(
    folder: Path, measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results(folder, measured) == cli.OK
    shown = capsys.readouterr()
    assert "| s, digits " in shown.out
    assert "1 trainings in 2 summaries" in shown.err
    assert "left out: 1 summaries of other scales" in shown.err
    before = (folder / "results.json").read_bytes()
    assert json.loads(before)["lines"][0]["commands"] == ["pnnlab run 00_tour -p scale paper"]
    assert results(folder, measured) == cli.OK
    assert (folder / "results.json").read_bytes() == before


def test_a_repeat_from_a_machine_whose_clock_is_behind_is_taken_and_told_of(
    folder: Path, measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = folder.parent / "other"
    row = Row(system="s", task="digits", method="PAT", seed=0, accuracy=0.75)
    old = {"written": "1999-12-31T00:00:00+00:00"}
    Summary("00_tour", "paper", {"scale": "paper", "seed": 0}, 1.0, (row,), old).write(other)
    assert results(folder, measured) == cli.OK
    assert "Repeats" not in capsys.readouterr().err
    for folders, done in (
        ([other], "took 75.00% (1999-12-31T00:00:00+00:00) in place of 50.00% ("),
        ([measured, other], "left 50.00% ("),
    ):
        assert results(folder, *folders) == cli.OK
        shown = capsys.readouterr()
        assert f"- s, digits, PAT, seed 0: {done}" in shown.err
        assert "the one gathered last counts" in shown.err
        assert "75.0" in shown.out
    assert results(folder, measured, other, "--check") == cli.OK


def test_check_writes_nothing_and_tells_by_its_status(
    folder: Path, measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = folder.parent / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    assert results(folder, "--check") == cli.FAILED  # no results at all
    assert results(folder, measured, "--check") == cli.FAILED
    assert not (folder / "results.json").exists()
    assert results(folder, measured) == cli.OK
    assert results(folder, measured, "--check") == cli.OK
    capsys.readouterr()
    assert results(folder, "--check", "--readme", readme) == cli.FAILED
    assert "README.md is not what" in capsys.readouterr().err
    assert readme.read_text(encoding="utf-8") == f"{BEGIN}\n{END}\n"
    assert results(folder, "--readme", readme) == cli.OK
    assert "| s, digits " in readme.read_text(encoding="utf-8")
    assert results(folder, "--check", "--readme", readme) == cli.OK


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["/no/such/folder"], "not a folder"),
        (["--scale", "huge"], "smoke, quick, paper"),
        (["--readme", "/no/README.md"], "cannot be read"),
        (["--json", "/no/folder/r.json"], "cannot be written"),
    ],
)
def test_results_refuse_what_they_cannot_do(
    folder: Path,
    measured: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert results(folder, measured, *words) == cli.BAD_ARGUMENTS
    assert message in capsys.readouterr().err


def test_scales_have_files_of_their_own(
    folder: Path, measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results(folder, measured) == cli.OK
    assert results(folder, measured, "--scale", "smoke") == cli.BAD_ARGUMENTS
    assert "scale paper" in capsys.readouterr().err
    other = folder.parent / "smoke.json"
    assert results(folder, measured, "--scale", "smoke", "--json", other) == cli.OK
    assert json.loads(other.read_text(encoding="utf-8"))["scale"] == "smoke"


# --- lab ---


def test_lab_opens_the_tour_from_the_projects_root(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    # JupyterLab itself is loaded by the tests below, in a process of its own.
    server = SimpleNamespace(LabApp=SimpleNamespace(launch_instance=asked.append))
    monkeypatch.setitem(sys.modules, "jupyterlab.labapp", server)
    words = ["lab", "--notebooks", str(folder), "--", "--port", "8890"]
    assert cli.main(words) == cli.OK
    (folder / "00_tour.ipynb").unlink()
    assert cli.main(["lab", "--notebooks", str(folder)]) == cli.OK
    root = f"--ServerApp.root_dir={folder.parent}"
    tour = "--LabApp.default_url=/lab/tree/notebooks/00_tour.ipynb"
    assert asked == [
        [root, tour, "--port", "8890"],
        [root, "--LabApp.default_url=/lab/tree/notebooks"],
    ]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=str)
def test_jupyterlab_and_its_kernels_end_with_the_command(
    folder: Path, tmp_path: Path, end: signal.Signals
) -> None:
    port = free_port()
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "RUNTIME")}
    options = [f"--ServerApp.port={port}", "--IdentityProvider.token=mine", "--allow-root"]
    words = ["lab", "--notebooks", str(folder), "--", "--no-browser", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "pnnlab.cli", *words],
        env=os.environ | own,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: listening(port) or process.poll() is not None, 300)
        address = f"http://127.0.0.1:{port}/api/kernels?token=mine"
        build_opener(ProxyHandler({})).open(Request(address, method="POST"), timeout=120).close()
        children = psutil.Process(process.pid).children(recursive=True)
        assert any("ipykernel" in " ".join(child.cmdline()) for child in children)
        time.sleep(3)  # until the kernel watches its parent
        process.send_signal(end)
        process.wait(timeout=60)
        wait_until(lambda: not any(child.is_running() for child in children), 60)
        assert not listening(port)
    finally:
        process.kill()
        process.wait(timeout=60)


def test_lab_starts_the_real_jupyterlab(folder: Path) -> None:
    words = ["lab", "--notebooks", str(folder), "--", "--version"]
    done = subprocess.run(
        [sys.executable, "-m", "pnnlab.cli", *words], capture_output=True, text=True, check=True
    )
    assert done.stdout.split(".")[0].isdecimal()


# --- doctor ---


@pytest.mark.parametrize(("state", "status"), [("ok", cli.OK), ("broken", cli.FAILED)])
def test_doctor_tells_by_its_status(
    state: doctor.State,
    status: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finding = Finding("Versions", "torch", "2.0", state, "do this")
    monkeypatch.setattr(doctor, "examine", lambda *_: (finding,))
    assert cli.main(["doctor"]) == status
    assert "do this" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == status
    document = json.loads(capsys.readouterr().out)
    assert document["healthy"] is (status == cli.OK)
    assert document["findings"][0]["advice"] == "do this"


# --- the command itself ---


def test_a_reader_who_leaves_early_is_no_error() -> None:
    code = (
        "import sys\nfrom pnnlab import cli, doctor\n"
        "doctor.examine = lambda *_: [doctor.Finding('A', 'b', 100_000 * 'c')]\n"
        "sys.exit(cli.main(['doctor']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == cli.FAILED


def test_help_is_quick_because_it_loads_nothing_slow() -> None:
    code = (
        "import sys\nfrom pnnlab.cli import main\ntry:\n    main(['--help'])\n"
        "except SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(command in done.stdout for command in ("run", "results", "lab", "doctor"))
    loaded = set(done.stderr.split())
    assert "argparse" in loaded
    assert not loaded & {"torch", "numpy", "papermill", "pyvisa", "nbformat", "tqdm", "IPython"}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"pnnlab {pnnlab.__version__}\n"
