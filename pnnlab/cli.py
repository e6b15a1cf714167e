"""The ``pnnlab`` command: run the notebooks, open them, examine a machine, serve a bench."""

import argparse
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pnnlab
from pnnlab.errors import PnnlabError
from pnnlab.storage import user_path

if TYPE_CHECKING:
    from pnnlab.results.running import Outcome

# Everything slow (papermill, torch, pyvisa) is imported by the command that needs it, so that
# `pnnlab --help` answers at once.

# 1: a notebook failed, or something needed is missing; 130: stopped by Ctrl-C or SIGTERM.
OK, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130
APP = Path(__file__).parent / "app" / "lab.ipynb"
MARK = "\0"  # in no argument of a process


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of the process, and give the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # ✓ must not fail in any encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    if argv is None:  # this process is the command, and a notebook that it runs can clean up
        signal.signal(signal.SIGTERM, _interrupt)
    words = list(sys.argv[1:] if argv is None else argv)
    # Split here: argparse treats what follows "--" differently from one Python to the next.
    cut = words.index("--") if "--" in words else len(words)
    arguments = _parser().parse_args(_with_marks(words[:cut]))
    arguments.rest = words[cut + 1 :]
    try:
        if arguments.rest and arguments.command is not _lab:
            raise PnnlabError("Only `pnnlab lab` takes arguments after `--`; leave them out.")
        status = int(arguments.command(arguments))
        sys.stdout.flush()
        return status
    except PnnlabError as error:
        print(f"pnnlab: {error}", file=sys.stderr)
        return BAD_ARGUMENTS
    except KeyboardInterrupt:
        print("pnnlab: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _interrupt(*_: object) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def _with_marks(words: list[str]) -> list[str]:
    # The values after `-p NAME`: argparse would take one such as -1e-7 for an option.
    marked = list(words)
    for place, (flag, value) in enumerate(zip(words, words[2:], strict=False), start=2):
        if flag == "-p" and re.match("-(?!-|[ph]$)", value):
            marked[place] = MARK + value
    return marked


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pnnlab",
        description="A lab in a notebook: train physical systems with backpropagation.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pnnlab {pnnlab.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., int], summary: str, **options: Any) -> Any:
        """Add a command that its function's docstring describes; give what adds its arguments."""
        description, example, rest = (run.__doc__ or "").partition("Example")
        options |= {"description": description, "epilog": example + rest, "allow_abbrev": False}
        made = commands.add_parser(name, help=summary, **options)
        made.set_defaults(command=run)
        return made.add_argument

    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--notebooks", metavar="DIR", help="folder of the notebooks (default: the project's)"
    )
    out = argparse.ArgumentParser(add_help=False, parents=[shared])
    out.add_argument(
        "--out", default="results", metavar="DIR", help="folder of the results (%(default)s)"
    )
    out.add_argument("--json", action="store_true", help="print one JSON document instead")

    add = command("run", _run, "run notebooks and show the results table", parents=[out])
    add("names", nargs="*", metavar="NN", help="number or name, such as 03")
    text = "set a parameter of the notebooks that have it; scale is smoke, quick or paper"
    pair = {"nargs": 2, "metavar": ("NAME", "VALUE")}
    add("-p", dest="parameters", action="append", default=[], help=text, **pair)

    text = "copy the notebooks for a class: without their solutions and outputs"
    add = command("students", _students, text, parents=[shared])
    add("--out", default="students", metavar="DIR", help="folder of the copies (%(default)s)")

    text = "run a notebook with every combination of some values, each once"
    add = command("sweep", _sweep, text, parents=[out])
    add("name", metavar="NOTEBOOK", help="number or name, such as 06_images")
    text = "values of a parameter of the notebook, such as seed=0..9 or unit=0,1"
    add("--grid", nargs="+", action="extend", required=True, metavar="NAME=VALUES", help=text)
    add("--scale", metavar="SCALE", help="smoke, quick or paper (default: the notebook's)")
    text = "on this machine, heard by no other (default: one a core; 0: one task after the other)"
    add("--workers", type=int, metavar="N", help=text)
    text = "of Dask's scheduler with workers of your own, such as tls://10.0.0.1:8786"
    add("--scheduler", metavar="ADDRESS", help=text)
    text = "what each task takes, such as bench-3=1: those run one at a time where the bench is"
    add("--resources", nargs="+", action="extend", default=[], metavar="NAME=NUMBER", help=text)

    text = "gather summaries into notebooks/results.json and show the table"
    add = command("results", _results, text, parents=[shared])
    add("folders", nargs="*", metavar="FOLDER", help="default: results and notebooks/results")
    add("--scale", default="paper", metavar="SCALE", help="take these alone (%(default)s)")
    text = "file of the results (default: the project's results.json)"
    add("--json", metavar="FILE", help=text)
    add("--readme", metavar="FILE", help="write the table between its markers")
    text = (
        "write nothing, and exit with 1 if a file is not what it would be; folders are gathered "
        "only if they are named"
    )
    add("--check", action="store_true", help=text)

    text = "open the notebooks in JupyterLab, or the lab as an app"
    add = command("lab", _lab, text, parents=[shared])
    text = (
        "serve what a notebook shows as an app, without its code: one kernel for all pages, in "
        "this folder (default: device, training, inference and past runs of a simulated board)"
    )
    add("--app", nargs="?", const=str(APP), metavar="NOTEBOOK", help=text)

    text = "say what is there, what is missing and how to get it"
    add = command("doctor", _doctor, text, parents=[out])
    text = "a VISA address to ask too; one that ends with SOCKET is never found by itself"
    add("--instrument", action="append", default=[], metavar="ADDRESS", help=text)

    text = "serve a generator, a simulated device and an oscilloscope"
    add = command("virtual-bench", _virtual_bench, text)
    for name, choices, text in (
        ("--system", ("circuit", "plate", "cable"), "the device between them"),
        ("--generator", ("keysight", "tektronix"), "its make"),
        ("--oscilloscope", ("keysight", "rigol"), "its make"),
    ):
        add(name, choices=choices, default=choices[0], help=f"{text} (%(default)s)")
    add("--unit", type=int, default=0, metavar="N", help="which fabricated copy (%(default)s)")
    text = "where to listen (%(default)s: nobody but this machine reaches it)"
    add("--host", default="127.0.0.1", help=text)
    text = "the generator's port; the oscilloscope has the next (0: any that are free)"
    add("--port", type=int, default=0, help=text)
    add("--no-noise", action="store_true", help="neither noise nor drift")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    """Run notebooks, all of them or those named, and show the results table.

    Example: pnnlab run 03 04 -p scale smoke -p seed 1
    """
    from pnnlab.results import notebooks, results_table

    folder = notebooks.notebooks_folder(arguments.notebooks)
    given = [(name, value.removeprefix(MARK)) for name, value in arguments.parameters]
    chosen = notebooks.choose(notebooks.list_notebooks(folder), arguments.names, given)
    out = user_path(arguments.out).absolute()
    values = notebooks.assign(chosen, given, out)
    from tqdm import tqdm  # and papermill: refusals come at once

    from pnnlab.results.running import BAR, prepare_out, run_notebooks

    out = prepare_out(out, folder)
    outcomes: list[Outcome] = []
    bars, width = sys.stderr.isatty(), max(len(notebook.name) for notebook in chosen)
    look = {"desc": "notebooks", "bar_format": BAR, "dynamic_ncols": True, "file": sys.stderr}
    with tqdm(total=len(chosen), disable=not bars, **look) as bar:
        for outcome in run_notebooks(chosen, values, out, tick=bar.refresh if bars else None):
            outcomes.append(outcome)
            tqdm.write(_line(outcome, width), file=sys.stderr)
            bar.update(outcome.status in ("ok", "failed"))
    summaries = [summary for one in outcomes for summary in one.summaries]
    if arguments.json:
        shown = ("name", "status", "seconds", "peak_memory_mb", "error")
        listed = [{key: getattr(one, key) for key in shown} for one in outcomes]
        rows = [{"notebook": one.notebook, **asdict(row)} for one in summaries for row in one.rows]
        print(json.dumps({"notebooks": listed, "rows": rows}, indent=1))
    else:
        print(results_table(summaries))
    return _verdict(outcomes, out)


def _line(outcome: "Outcome", width: int) -> str:
    status = "FAILED" if outcome.status == "failed" else outcome.status
    line = f"{outcome.name.ljust(width)}  {status:<11}"
    if outcome.seconds is not None:
        line += f"  {outcome.seconds:8.1f} s"
    if outcome.peak_memory_mb is not None:
        line += f"  {outcome.peak_memory_mb:7.0f} MB"
    if outcome.status == "ok" and not outcome.summaries:
        line += "  (wrote no summary)"
    return line.rstrip() + (f"\n\n{outcome.error}\n" if outcome.error else "")


def _verdict(outcomes: Sequence["Outcome"], out: Path) -> int:
    def named(status: str) -> str:
        return ", ".join(one.name for one in outcomes if one.status == status)

    failed, waiting = named("failed"), named("not run")
    if stopped := named("interrupted"):
        done = f"Stopped in {stopped}. Done: {named('ok') or 'nothing'}."
        rest = [f"Failed: {failed}."] * bool(failed) + [f"Not run: {waiting}."] * bool(waiting)
        print(done, *rest, f"The results so far are in {out}.", file=sys.stderr)
        return INTERRUPTED
    if failed:
        print(f"Failed: {failed}. The notebooks as run are in {out}.", file=sys.stderr)
        return FAILED
    return OK


def _students(arguments: argparse.Namespace) -> int:
    """Copy the notebooks with an empty cell in place of each solution.

    Open them with `pnnlab lab --notebooks students`, and run them with `pnnlab run` likewise.

    Example: pnnlab students --out students
    """
    from pnnlab.results.notebooks import list_notebooks, notebooks_folder, write_students

    paths = list_notebooks(notebooks_folder(arguments.notebooks))
    folder = user_path(arguments.out)
    write_students(paths, folder)
    print(f"{len(paths)} notebooks without solutions are in {folder}.")
    return OK


def _sweep(arguments: argparse.Namespace) -> int:
    """Run a notebook with every combination of some values, and show the results table.

    What is done is not done again: the same command goes on after Ctrl-C or a crash, each task from
    its own checkpoint. A task that fails three times is reported, and the others go on.

    Example: pnnlab sweep 06_images --grid seed=0..9 unit=0,1 --scale paper --workers 2
    """
    from pnnlab.results.sweeping import Sweep, read_grid, read_resources

    if arguments.scheduler and arguments.workers is not None:
        raise PnnlabError("--workers are of this machine; a --scheduler has its own: give one.")
    sweep = Sweep(
        arguments.name,
        read_grid(arguments.grid) | ({"scale": [arguments.scale]} if arguments.scale else {}),
        arguments.out,
        arguments.scheduler,
        arguments.workers,
        read_resources(arguments.resources),
        arguments.notebooks,
    )
    try:
        sweep.run(progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        print(f"Stopped: {sweep.summary()}", file=sys.stderr)
        return INTERRUPTED
    for one in sweep.failed.values():
        print(f"\n{dict(one.values)}  FAILED\n{one.error}", file=sys.stderr)
    if arguments.json:
        failed = [{"values": dict(one.values), "error": one.error} for one in sweep.failed.values()]
        rows = [asdict(row) for row in sweep.rows]
        print(json.dumps({"done": len(sweep.done), "failed": failed, "rows": rows}, indent=1))
    else:
        print(sweep)
    return FAILED if sweep.failed else OK


def _results(arguments: argparse.Namespace) -> int:
    """Gather the summaries below folders into one file and show the table.

    What is in the file stays, unless a repeat of it is gathered later, whatever the clocks say:
    folders count in the order in which they are named. A notebook keeps one summary in a folder:
    gather between two runs of it, or give each run its own --out.

    Example: pnnlab results results --readme README.md
    """
    from pnnlab.results.gathering import FILE, update
    from pnnlab.results.notebooks import notebooks_folder
    from pnnlab.results.rows import read_text, write
    from pnnlab.results.tables import with_section

    notebooks = notebooks_folder(arguments.notebooks)
    file = user_path(arguments.json or notebooks / FILE)
    usual = [] if arguments.check else [Path("results"), notebooks / "results"]
    folders = arguments.folders or [folder for folder in usual if folder.is_dir()]
    table, done = update(file, folders, notebooks, arguments.scale)
    if not arguments.check:
        print(done, file=sys.stderr)
    if not table.trainings:
        print("Nothing to show; name the folder that `pnnlab run` wrote to.", file=sys.stderr)
        return FAILED

    texts = {file: table.text()}
    if arguments.readme:
        readme = user_path(arguments.readme)
        texts[readme] = with_section(read_text(readme), table.markdown())
    stale = [path for path in texts if not path.exists() or read_text(path) != texts[path]]
    if arguments.check:
        for path in stale:
            print(f"{path} is not what `pnnlab results` writes.", file=sys.stderr)
        return FAILED if stale else OK
    for path in stale:
        write(path, texts[path])
    print(table.markdown())
    return OK


def _lab(arguments: argparse.Namespace) -> int:
    """Open the notebooks in JupyterLab, or with --app one page with the whole lab.

    What follows -- is passed on to JupyterLab, or to Voila.

    Examples: pnnlab lab -- --no-browser --port 8890; pnnlab lab --app -- --port 8891
    """
    # The server is this process: a signal that ends the command ends the server, and kernels end
    # with the process that started them.
    if arguments.app is None:
        from jupyterlab.labapp import LabApp

        from pnnlab.results.notebooks import notebooks_folder

        folder = notebooks_folder(arguments.notebooks)
        tour = "/00_tour.ipynb" if (folder / "00_tour.ipynb").is_file() else ""
        page = f"--LabApp.default_url=/lab/tree/{folder.name}{tour}"
        LabApp.launch_instance([f"--ServerApp.root_dir={folder.parent}", page, *arguments.rest])
        return OK
    notebook = user_path(arguments.app)
    if not notebook.is_file():
        raise PnnlabError(f"no notebook {notebook}: give --app the path of one, or nothing.")
    from pnnlab.demos.serving import AppServer

    # Where Voila finds the page of the app, which loads nothing from outside.
    places = (str(APP.parent), os.environ.get("JUPYTER_PATH", ""))
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, places))
    options = [
        "--template=pnnlab",
        "--VoilaConfiguration.multi_kernel_manager_class=pnnlab.demos.serving.OneKernel",
        # Its button opens notebooks as apps; here it would load half of JupyterLab for nothing.
        "--VoilaConfiguration.extension_denylist=@voila-dashboards/jupyterlab-preview",
    ]
    AppServer.launch_instance([str(notebook.resolve()), *options, *arguments.rest])
    return OK


def _doctor(arguments: argparse.Namespace) -> int:
    """Examine versions, GPU, instruments, data and folders."""
    from pnnlab import doctor

    findings = doctor.examine(arguments.out, arguments.notebooks, arguments.instrument)
    healthy = doctor.healthy(findings)
    if arguments.json:
        listed = [finding._asdict() for finding in findings]
        print(json.dumps({"healthy": healthy, "findings": listed}, indent=1))
    else:
        print(doctor.report(findings))
    return OK if healthy else FAILED


def _virtual_bench(arguments: argparse.Namespace) -> int:
    """Serve a waveform generator and an oscilloscope, with a simulated device between them.

    Their addresses are printed; any VISA library reaches them. Ctrl-C ends it.

    Example: pnnlab virtual-bench --system plate --unit 3 --port 5025
    """
    from pnnlab.systems import Circuit, Plate
    from pnnlab.systems.analog import cable
    from pnnlab.virtual_bench import VirtualBench

    noise = not arguments.no_noise
    if arguments.system == "cable":
        device = cable()
    else:
        fabricated = Plate if arguments.system == "plate" else Circuit
        device = fabricated(arguments.unit, noise=noise, drift=noise).analog_ports()
    with VirtualBench(
        device,
        generator=arguments.generator,
        oscilloscope=arguments.oscilloscope,
        noise=noise,
        host=arguments.host,
        port=arguments.port,
    ) as bench:
        print(f"generator     {bench.generator}\noscilloscope  {bench.oscilloscope}", flush=True)
        print("Ctrl-C ends it.", file=sys.stderr)
        try:
            while True:
                time.sleep(3600)  # on Windows Ctrl-C interrupts no other wait
        except KeyboardInterrupt:
            return OK


if __name__ == "__main__":
    raise SystemExit(main())
