"""The ``pnnlab`` command: run the notebooks, open them, look around, serve a bench."""

import argparse
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pnnlab
from pnnlab.errors import PnnlabError
from pnnlab.storage import user_path

if TYPE_CHECKING:
    from pnnlab.results import Gathered, Notebook, Outcome
    from pnnlab.systems.analog import AnalogPorts

# Everything slow (papermill, torch, pyvisa) is imported by the command that needs it, so that
# `pnnlab --help` answers at once.

OK, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130
APP = Path(__file__).parent / "app" / "lab.ipynb"
MARK = "\0"  # in no argument of a process


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, those of the process by default.

    Returns
    -------
    int
        0: all well; 1: a notebook failed, or something needed is missing; 2: bad arguments;
        130: stopped by Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # in whatever encoding: ✓ is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    # Split here: argparse treats what follows "--" differently from one Python to the next.
    cut = words.index("--") if "--" in words else len(words)
    arguments = _parser().parse_args(_with_marks(words[:cut]))
    passed_on = words[cut + 1 :]
    try:
        if passed_on and arguments.command is not _lab:
            raise PnnlabError("Only `pnnlab lab` takes arguments after `--`; leave them out.")
        status = int(arguments.command(arguments, passed_on))
        sys.stdout.flush()
        return status
    except PnnlabError as error:
        print(f"pnnlab: {error}", file=sys.stderr)
        return BAD_ARGUMENTS
    except KeyboardInterrupt:
        print("pnnlab: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _with_marks(words: list[str]) -> list[str]:
    """Mark the values after ``-p NAME``: argparse would take one such as -1e-7 for an option."""
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
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument(
        "--notebooks", metavar="DIR", help="folder of the notebooks (default: the project's)"
    )

    run = commands.add_parser(
        "run",
        parents=[folder],
        allow_abbrev=False,
        help="run notebooks and show the results table",
        description="Run notebooks, all of them or those named, and show the results table.",
        epilog="Example: pnnlab run 03 04 -p scale smoke -p seed 1",
    )
    run.add_argument("names", nargs="*", metavar="NN", help="number or name, such as 03")
    run.add_argument(
        "-p",
        dest="parameters",
        action="append",
        nargs=2,
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a parameter of the notebooks that have it; scale is smoke, quick or paper",
    )
    run.add_argument(
        "--out", default="results", metavar="DIR", help="folder of the results (%(default)s)"
    )
    run.add_argument("--json", action="store_true", help="print one JSON document instead")
    run.set_defaults(command=_run)

    results = commands.add_parser(
        "results",
        parents=[folder],
        allow_abbrev=False,
        help="gather summaries into notebooks/results.json and show the table",
        description="Gather the summaries below folders into one file and show the table. What is "
        "in the file stays, unless a repeat of it is gathered later, whatever the clocks say: "
        "folders count in the order in which they are named. A notebook keeps one summary in a "
        "folder: gather between two runs of it, or give each run its own --out.",
        epilog="Example: pnnlab results results --readme README.md",
    )
    results.add_argument(
        "folders", nargs="*", metavar="FOLDER", help="default: results and notebooks/results"
    )
    results.add_argument(
        "--scale", default="paper", metavar="SCALE", help="take these alone (%(default)s)"
    )
    results.add_argument(
        "--json", metavar="FILE", help="file of the results (default: the project's results.json)"
    )
    results.add_argument("--readme", metavar="FILE", help="write the table between its markers")
    results.add_argument(
        "--check",
        action="store_true",
        help="write nothing, and exit with 1 if a file is not what it would be; folders are "
        "gathered only if they are named",
    )
    results.set_defaults(command=_results)

    lab = commands.add_parser(
        "lab",
        parents=[folder],
        allow_abbrev=False,
        help="open the notebooks in JupyterLab, or the lab as an app",
        description="Open the notebooks in JupyterLab, or with --app one page with the whole lab. "
        "What follows -- is passed on to JupyterLab, or to Voila.",
        epilog="Examples: pnnlab lab -- --no-browser --port 8890; pnnlab lab --app -- --port 8891",
    )
    lab.add_argument(
        "--app",
        nargs="?",
        const=str(APP),
        metavar="NOTEBOOK",
        help="serve what a notebook shows as an app, without its code: one kernel for all pages, "
        "in this folder (default: device, training, inference and past runs of a simulated board)",
    )
    lab.set_defaults(command=_lab)

    doctor = commands.add_parser(
        "doctor",
        parents=[folder],
        allow_abbrev=False,
        help="say what is there, what is missing and how to get it",
        description="Look at versions, GPU, instruments, data and folders.",
    )
    doctor.add_argument(
        "--out", default="results", metavar="DIR", help="folder of the results (%(default)s)"
    )
    doctor.add_argument(
        "--instrument",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="a VISA address to ask too; one that ends with SOCKET is never found by itself",
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON document instead")
    doctor.set_defaults(command=_doctor)
    _add_virtual_bench(commands)
    return parser


def _add_virtual_bench(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    bench = commands.add_parser(
        "virtual-bench",
        allow_abbrev=False,
        help="serve a generator, a simulated device and an oscilloscope",
        description="Serve a waveform generator and an oscilloscope, with a simulated device "
        "between them, until Ctrl-C. Their addresses are printed; any VISA library reaches them.",
        epilog="Example: pnnlab virtual-bench --system plate --unit 3 --port 5025",
    )
    makes = {"generator": ("keysight", "tektronix"), "oscilloscope": ("keysight", "rigol")}
    bench.add_argument(
        "--system",
        choices=("circuit", "plate", "cable"),
        default="circuit",
        help="the device between them (%(default)s)",
    )
    bench.add_argument(
        "--unit", type=int, default=0, metavar="N", help="which fabricated copy (%(default)s)"
    )
    bench.add_argument(
        "--host",
        default="127.0.0.1",
        help="where to listen (%(default)s: nobody but this machine reaches it)",
    )
    bench.add_argument(
        "--port",
        type=int,
        default=0,
        help="the generator's port; the oscilloscope has the next (0: any that are free)",
    )
    bench.add_argument("--no-noise", action="store_true", help="neither noise nor drift")
    for name, choices in makes.items():
        bench.add_argument(
            f"--{name}", choices=choices, default=choices[0], help="its make (%(default)s)"
        )
    bench.set_defaults(command=_virtual_bench)


def _run(arguments: argparse.Namespace, _: list[str]) -> int:
    from pnnlab import results

    folder = results.notebooks_folder(arguments.notebooks)
    paths = results.choose(results.list_notebooks(folder), arguments.names)
    notebooks = [results.read_notebook(path) for path in paths]
    out = user_path(arguments.out).absolute()
    given = [(name, value.removeprefix(MARK)) for name, value in arguments.parameters]
    values = results.assign(notebooks, given, out)
    out = results.prepare_out(out, folder)

    outcomes = _run_and_tell(notebooks, values, out)
    if arguments.json:
        print(json.dumps(_as_json(outcomes), indent=1))
    else:
        print(results.results_table(summary for one in outcomes for summary in one.summaries))
    return _verdict(outcomes, out)


def _run_and_tell(
    notebooks: Sequence["Notebook"], values: Sequence[dict[str, object]], out: Path
) -> list["Outcome"]:
    """Run the notebooks with bars on a terminal, and a line for each, on standard error."""
    from tqdm import tqdm

    from pnnlab.results import BAR, run_notebooks

    outcomes: list[Outcome] = []
    bars = sys.stderr.isatty()
    width = max(len(notebook.name) for notebook in notebooks)
    with ExitStack() as stack:
        bar = stack.enter_context(
            tqdm(
                total=len(notebooks),
                desc="notebooks",
                bar_format=BAR,
                disable=not bars,
                dynamic_ncols=True,
                file=sys.stderr,
            )
        )
        for outcome in run_notebooks(notebooks, values, out, tick=bar.refresh if bars else None):
            outcomes.append(outcome)
            tqdm.write(_line(outcome, width), file=sys.stderr)
            bar.update(outcome.status in ("ok", "failed"))
    return outcomes


def _line(outcome: "Outcome", width: int) -> str:
    status = {"ok": "ok", "failed": "FAILED"}.get(outcome.status, outcome.status)
    line = f"{outcome.name.ljust(width)}  {status:<11}"
    if outcome.seconds is not None:
        line += f"  {outcome.seconds:8.1f} s"
    if outcome.peak_memory_mb is not None:
        line += f"  {outcome.peak_memory_mb:7.0f} MB"
    if outcome.status == "ok" and not outcome.summaries:
        line += "  (wrote no summary)"
    line = line.rstrip()
    return f"{line}\n\n{outcome.error}\n" if outcome.error else line


def _as_json(outcomes: Sequence["Outcome"]) -> dict[str, Any]:
    return {
        "notebooks": [
            {
                "name": one.name,
                "status": one.status,
                "seconds": one.seconds,
                "peak_memory_mb": one.peak_memory_mb,
                "error": one.error,
            }
            for one in outcomes
        ],
        "rows": [
            {"notebook": summary.notebook, **asdict(row)}
            for one in outcomes
            for summary in one.summaries
            for row in summary.rows
        ],
    }


def _verdict(outcomes: Sequence["Outcome"], out: Path) -> int:
    """Exit status, with a last word on what was left undone."""

    def named(status: str) -> str:
        return ", ".join(one.name for one in outcomes if one.status == status)

    if named("interrupted"):
        print(
            f"Stopped in {named('interrupted')}. Done: {named('ok') or 'nothing'}. "
            + (f"Failed: {named('failed')}. " if named("failed") else "")
            + (f"Not run: {named('not run')}. " if named("not run") else "")
            + f"What there is lies in {out}.",
            file=sys.stderr,
        )
        return INTERRUPTED
    if named("failed"):
        print(f"Failed: {named('failed')}. The notebooks as run lie in {out}.", file=sys.stderr)
        return FAILED
    return OK


def _results(arguments: argparse.Namespace, _: list[str]) -> int:
    from pnnlab import results
    from pnnlab.results import notebooks_folder

    notebooks = notebooks_folder(arguments.notebooks)
    file = user_path(arguments.json or notebooks / results.FILE)
    table = results.Results.read(file) if file.exists() else results.Results(arguments.scale)
    if table.scale != arguments.scale:
        raise PnnlabError(
            f"{file} holds results of scale {table.scale}; give --scale {table.scale}, or another "
            "file with --json."
        )
    usual = [] if arguments.check else [Path("results"), notebooks / "results"]
    folders = arguments.folders or [folder for folder in usual if folder.is_dir()]
    found = results.gather(folders, notebooks, scale=arguments.scale)
    repeats = table.repeats(found.trainings)
    table = table.merged(found.trainings)
    if not arguments.check:
        print(_told(found, file, repeats), file=sys.stderr)
    if not table.trainings:
        print("Nothing to show; name the folder that `pnnlab run` wrote to.", file=sys.stderr)
        return FAILED

    texts = {file: table.text()}
    if arguments.readme:
        readme = user_path(arguments.readme)
        texts[readme] = results.with_section(results.read_text(readme), table.markdown())
    stale = [
        path for path, text in texts.items() if not path.exists() or results.read_text(path) != text
    ]
    if arguments.check:
        for path in stale:
            print(f"{path} is not what `pnnlab results` writes.", file=sys.stderr)
        return FAILED if stale else OK
    for path in stale:
        results.write(path, texts[path])
    print(table.markdown())
    return OK


def _told(found: "Gathered", file: Path, repeats: Sequence[str]) -> str:
    left_out = (
        f"{found.other_scales} summaries of other scales" if found.other_scales else "",
        f"{found.other_rows} rows of other kinds" if found.other_rows else "",
    )
    told = f"{len(found.trainings)} trainings in {found.summaries} summaries, merged into {file}"
    told += "".join(f"; left out: {text}" for text in left_out if text)
    if repeats:
        rule = (
            "Of repeats the one gathered last counts: folders in the order in which they are "
            "named, in one folder by its clocks, which may differ between machines. To choose "
            f"another, get {file} back with `git checkout` and name the folders in order"
        )
        told = "\n".join((f"{told}. Repeats:", *(f"- {one}." for one in repeats), rule))
    return f"{told}."


def _lab(arguments: argparse.Namespace, passed_on: list[str]) -> int:
    if arguments.app is not None:
        command = _app(user_path(arguments.app), passed_on)
        return _served(subprocess.Popen(command, env=_with_templates()))
    from pnnlab.results import notebooks_folder

    folder = notebooks_folder(arguments.notebooks)
    command = [
        *(sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.parent}"),
        *_opening(folder),
        *passed_on,
    ]
    return _served(subprocess.Popen(command))


def _served(server: "subprocess.Popen[bytes]") -> int:
    with server as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # it heard that too, and JupyterLab asks whether to stop
                continue


def _app(notebook: Path, passed_on: list[str]) -> list[str]:
    if not notebook.is_file():
        raise PnnlabError(f"no notebook {notebook}: give --app the path of one, or nothing.")
    return [
        *(sys.executable, "-m", "voila", str(notebook.resolve()), "--template=pnnlab"),
        "--VoilaConfiguration.multi_kernel_manager_class=pnnlab.demos.serving.OneKernel",
        # Its button opens notebooks as apps; here it would load half of JupyterLab for nothing.
        "--VoilaConfiguration.extension_denylist=@voila-dashboards/jupyterlab-preview",
        # Whoever can reach the port could drive the device; a token of one's own is as good.
        *([] if any("token" in word for word in passed_on) else ["--Voila.auto_token=True"]),
        *passed_on,
    ]


def _with_templates() -> dict[str, str]:
    """Let Voila find the page of the app, which asks for nothing from outside."""
    places = (str(APP.parent), os.environ.get("JUPYTER_PATH", ""))
    return os.environ | {"JUPYTER_PATH": os.pathsep.join(place for place in places if place)}


def _opening(folder: Path) -> list[str]:
    tour = folder / "00_tour.ipynb"
    if not tour.is_file():
        return [f"--LabApp.default_url=/lab/tree/{folder.name}"]
    return [f"--LabApp.default_url=/lab/tree/{folder.name}/{tour.name}"]


def _doctor(arguments: argparse.Namespace, _: list[str]) -> int:
    from pnnlab import doctor

    findings = doctor.examine(arguments.out, arguments.notebooks, arguments.instrument)
    if arguments.json:
        document = {
            "healthy": doctor.healthy(findings),
            "findings": [asdict(finding) for finding in findings],
        }
        print(json.dumps(document, indent=1))
    else:
        print(doctor.report(findings))
    return OK if doctor.healthy(findings) else FAILED


def _virtual_bench(arguments: argparse.Namespace, _: list[str]) -> int:
    from pnnlab.virtual_bench import VirtualBench

    with VirtualBench(
        _device(arguments.system, arguments.unit, noise=not arguments.no_noise),
        generator=arguments.generator,
        oscilloscope=arguments.oscilloscope,
        noise=not arguments.no_noise,
        host=arguments.host,
        port=arguments.port,
    ) as bench:
        print(f"generator     {bench.generator}\noscilloscope  {bench.oscilloscope}", flush=True)
        print("Ctrl-C ends it.", file=sys.stderr)
        try:
            while True:
                time.sleep(3600)  # on Windows, of all that waits only this lets Ctrl-C through
        except KeyboardInterrupt:
            return OK


def _device(name: str, unit: int, *, noise: bool) -> "AnalogPorts":
    from pnnlab.systems.analog import cable

    if name == "cable":
        return cable()
    if name == "plate":
        from pnnlab.systems.plate import Plate

        return Plate(unit, noise=noise, drift=noise).analog_ports()
    from pnnlab.systems.circuit import Circuit

    return Circuit(unit, noise=noise, drift=noise).analog_ports()


if __name__ == "__main__":
    raise SystemExit(main())
