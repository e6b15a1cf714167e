"""Finding notebooks, giving them parameters, running them and collecting what they say."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from small_notebooks import WRITE_SUMMARY, write_notebook

from pnnlab.errors import NotebookError, RangeError, RunError
from pnnlab.results import Row, Summary
from pnnlab.results.notebooks import (
    Notebook,
    assign,
    choose,
    list_notebooks,
    notebooks_folder,
    read_variants,
)
from pnnlab.results.running import Outcome, prepare_out, run_notebooks

# --- finding ---


def test_notebooks_are_found_by_number_in_order(tmp_path: Path) -> None:
    for name in ("03_fit", "00_tour", "01_meet"):
        write_notebook(tmp_path / "notebooks", name)
    (tmp_path / "notebooks" / "scratch.ipynb").write_text("{}", encoding="utf-8")
    folder = notebooks_folder(tmp_path / "notebooks")
    assert [path.stem for path in list_notebooks(folder)] == ["00_tour", "01_meet", "03_fit"]


def test_the_current_folder_is_looked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pnnlab

    # As if installed somewhere without notebooks beside it.
    monkeypatch.setattr(pnnlab, "__file__", str(tmp_path / "site-packages/pnnlab/__init__.py"))
    write_notebook(tmp_path / "clone" / "notebooks", "00_tour")
    for where in ("clone", "clone/notebooks"):
        monkeypatch.chdir(tmp_path / where)
        assert notebooks_folder() == tmp_path / "clone" / "notebooks"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotebookError, match=r"No notebook .*--notebooks DIR"):
        notebooks_folder()


def test_a_checkout_has_its_own_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pnnlab

    write_notebook(tmp_path / "notebooks", "00_tour")
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(pnnlab, "__file__", str(tmp_path / "pnnlab" / "__init__.py"))
    assert notebooks_folder() == tmp_path / "notebooks"


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [write_notebook(tmp_path, name) for name in ("00_tour", "01_meet", "03_fit")]


@pytest.mark.parametrize(
    ("wanted", "stems"),
    [
        ([], ["00_tour", "01_meet", "03_fit"]),
        (["3"], ["03_fit"]),
        (["03", "0"], ["03_fit", "00_tour"]),
        (["03_fit", "3", "notebooks/03_fit.ipynb"], ["03_fit"]),
    ],
)
def test_notebooks_are_chosen_by_number_or_name(
    paths: list[Path], wanted: list[str], stems: list[str]
) -> None:
    chosen = choose(paths, wanted)
    assert [one.name for one in chosen] == stems
    assert [one.path.stem for one in chosen] == stems


@pytest.mark.parametrize("name", ["7", "fit", "03_fi", "03_fit_", "03_fit_a", "", "-1"])
def test_an_unknown_notebook_lists_those_there_are(paths: list[Path], name: str) -> None:
    with pytest.raises(NotebookError, match="00_tour, 01_meet, 03_fit"):
        choose(paths, ["00", name])


# --- variants ---


@pytest.fixture
def varied(tmp_path: Path) -> list[Path]:
    """A notebook with three variants, and one without, whose name begins alike."""
    cell = 'scale = "quick"\nout = "results"\nsystem = "b"\nseed = 0\nmethods = ["x"]'
    made: dict[str, Any] = {"a": {}, "b": {}, "c": {"methods": ["x", "y"]}}
    first = write_notebook(tmp_path, "06_images", WRITE_SUMMARY, parameters=cell)
    notebook: Any = nbformat.read(first, as_version=4)
    notebook.metadata["pnnlab"] = {"variants": {"system": made}}
    nbformat.write(notebook, first)
    return [first, write_notebook(tmp_path, "07_other")]


@pytest.mark.parametrize(
    ("wanted", "given", "names"),
    [
        ([], {}, ["06_images_a", "06_images_b", "06_images_c", "07_other"]),
        (["6"], {}, ["06_images_a", "06_images_b", "06_images_c"]),
        (["06_images_c", "06_images.ipynb"], {}, ["06_images_c", "06_images_a", "06_images_b"]),
        (["06_images_b"], {}, ["06_images_b"]),
        (["06_images"], {"system": "c"}, ["06_images_c"]),
        ([], {"system": "c", "methods": '["z"]'}, ["06_images_c", "07_other"]),
    ],
)
def test_a_notebook_stands_for_its_variants(
    varied: list[Path], wanted: list[str], given: dict[str, str], names: list[str]
) -> None:
    chosen = choose(varied, wanted, list(given.items()))
    assert [one.name for one in chosen] == names
    assert {one.path for one in chosen if one.variant} == {varied[0]}


@pytest.mark.parametrize(
    ("wanted", "system", "message"),
    [
        (["06_images"], "d", "system of 06_images is 'd'; give one of a, b, c"),
        (["06_images_d"], "a", "no notebook '06_images_d'"),
        (["06_images_b"], "a", "no notebook '06_images_b'"),
    ],
)
def test_a_variant_that_is_not_there_is_refused(
    varied: list[Path], wanted: list[str], system: str, message: str
) -> None:
    with pytest.raises(NotebookError, match=message):
        choose(varied, wanted, [("system", system)])


def test_a_variant_has_values_of_its_own_which_others_may_replace(varied: list[Path]) -> None:
    _, second, third = choose(varied, ["06"])
    assert second.parameters["system"] == "b"
    assert third.parameters == {
        "scale": "quick",
        "out": "results",
        "system": "c",
        "seed": 0,
        "methods": ["x", "y"],
    }
    assert assign([third], [], Path("/out")) == (
        {"system": "c", "methods": ["x", "y"], "out": "/out"},
    )
    given = [("system", "c"), ("methods", '["z"]')]
    [values] = assign(choose(varied, ["06"], given), given, Path("/out"))
    assert values == {"system": "c", "methods": ["z"], "out": "/out"}


def test_each_variant_is_run_into_a_file_of_its_own(varied: list[Path], tmp_path: Path) -> None:
    chosen = choose(varied, ["06_images_c", "06_images_a"])
    out = prepare_out(tmp_path / "out", tmp_path)
    found = list(run_notebooks(chosen, assign(chosen, [], out), out))
    assert [(one.name, one.status) for one in found] == [
        ("06_images_c", "ok"),
        ("06_images_a", "ok"),
    ]
    executed: Any = nbformat.read(out / "06_images_c.ipynb", as_version=4)
    assert 'system = "c"' in executed.cells[2].source
    assert (out / "06_images_a.ipynb").is_file()
    assert not (out / "06_images.ipynb").exists()


# --- parameter cells ---


def test_parameters_are_the_literals_of_the_tagged_cell(tmp_path: Path) -> None:
    source = (
        '# a comment\nscale = "quick"  # "smoke": n=3\nrate: float = 1e-3\n'
        "sizes = [1,\n         2]\nfolder = make()\nseed = -1"
    )
    path = write_notebook(tmp_path, "00_a", "other = 1", parameters=source)
    [notebook] = read_variants(path)
    known = dict(notebook.parameters)
    assert known.pop("folder") is not None
    assert known == {"scale": "quick", "rate": 1e-3, "sizes": [1, 2], "seed": -1}
    assert notebook.name == "00_a"
    assert notebook.parameters_cell == 1


def test_a_notebook_may_have_no_parameters(tmp_path: Path) -> None:
    path = write_notebook(tmp_path, "00_a", "x = 1", parameters=None)
    assert read_variants(path) == (Notebook(tmp_path / "00_a.ipynb", {}, None),)


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"worksheets": []}', '{"cells": [1]}'])
def test_a_file_that_is_no_notebook_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "00_a.ipynb"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(NotebookError, match=r"00_a\.ipynb is not a notebook"):
        read_variants(path)


def test_a_notebook_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="cannot be read"):
        read_variants(tmp_path / "00_a.ipynb")


def test_a_broken_parameter_cell_is_named(tmp_path: Path) -> None:
    path = write_notebook(tmp_path, "00_a", parameters="seed = 0\nscale =")
    with pytest.raises(NotebookError, match="line 2"):
        read_variants(path)


# --- parameters ---


def notebook(**parameters: object) -> Notebook:
    return Notebook(Path("/lab/03_fit.ipynb"), parameters, 1)


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [
        (0, "7", 7),
        (0, "-7", -7),
        (0, "1e3", 1000),
        (0.5, "2", 2.0),
        (0.5, "1e-3", 1e-3),
        (True, "false", False),
        (True, "False", False),
        ("a", "b", "b"),
        ("a", "3", "3"),
        ("a", "'3'", "3"),
        ("a", "C:/x y", "C:/x y"),
        ([1], "[2, 3]", [2, 3]),
        ((1,), "(2, 3)", [2, 3]),
        ({}, "{'a': 1}", {"a": 1}),
        (None, "none", None),
        (None, "0.5", 0.5),
        (None, "free text", "free text"),
    ],
)
def test_a_value_is_read_as_what_the_default_is(default: object, text: str, value: object) -> None:
    [values] = assign([notebook(p=default)], [("p", text)], Path("/out"))
    assert values == {"p": value}
    assert type(values["p"]) is type(value)


@pytest.mark.parametrize(
    ("default", "text", "want"),
    [
        (0, "abc", "a whole number"),
        (0, "2.5", "a whole number"),
        (0, "true", "a whole number"),
        (0.5, "nan", "a number"),
        (0.5, "fast", "a number"),
        (True, "1", "true or false"),
        ([1], "1", "a list"),
        ({}, "[]", "a dictionary"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(default: object, text: str, want: str) -> None:
    with pytest.raises(
        NotebookError, match=rf"'p' of 03_fit is {want}.*not '{text}'".replace("[", r"\[")
    ):
        assign([notebook(p=default)], [("p", text)], Path("/out"))


def test_each_notebook_gets_what_it_has() -> None:
    first, second = notebook(scale="quick", out="results"), notebook(scale="quick", seed=0)
    given = [("seed", "1"), ("scale", "paper"), ("scale", "smoke")]
    assert assign([first, second], given, Path("/out")) == (
        {"scale": "smoke", "out": "/out"},
        {"scale": "smoke", "seed": 1},
    )


def test_an_unknown_parameter_lists_the_known() -> None:
    with pytest.raises(NotebookError, match=r"'sede'; they have: scale, seed\.$"):
        assign([notebook(scale="quick", out="r"), notebook(seed=0)], [("sede", "1")], Path("/out"))


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(RangeError, match="smoke, quick, paper"):
        assign([notebook(scale="quick")], [("scale", "huge")], Path("/out"))


def test_the_folder_of_results_has_its_own_option() -> None:
    with pytest.raises(NotebookError, match="--out DIR"):
        assign([notebook(out="results")], [("out", "/elsewhere")], Path("/out"))


# --- the folder of results ---


def test_the_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    out = prepare_out(tmp_path / "a" / "b", tmp_path)
    assert out.is_dir()
    assert list(out.iterdir()) == []


def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("in the way", encoding="utf-8")
    for out in ("results", "results/below"):
        with pytest.raises(RunError, match=r"cannot be written .*--out DIR"):
            prepare_out(tmp_path / out, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(RunError, match=r"Permission denied.*--out DIR"):
        prepare_out(tmp_path / "locked", tmp_path)


def test_the_notebooks_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(RunError, match="overwrite"):
        prepare_out(tmp_path / "link", tmp_path)


# --- running ---

MEMORY_MB = 200
TELL = f"""\
import json, os, sys
block = bytearray({MEMORY_MB} * 10**6)
for page in range(0, len(block), 4096):
    block[page] = 1
del block
print(json.dumps(dict(cwd=os.getcwd(), python=sys.executable, scale=scale, seed=seed, out=out)))"""
FAIL = """\
def divide():
    return 1 / 0


one = 1
two = 2
divide()"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab") / "notebooks"
    write_notebook(folder, "00_good", TELL, WRITE_SUMMARY)
    write_notebook(folder, "01_fails", "'before'", FAIL, "'after'")
    write_notebook(folder, "02_dies", "import os\nos._exit(7)")
    write_notebook(folder, "03_damages", "open(out + '/03.summary.json', 'w').write('oops')")
    write_notebook(folder, "04_plain", "x = 1", parameters=None)
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out") / "odd {name} é"


@pytest.fixture(scope="module")
def outcomes(
    folder: Path, out: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome]:
    """What came of running all of them, on a machine with somebody else's kernel and results."""
    foreign = tmp_path_factory.mktemp("jupyter")
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "Not ours"}
    (foreign / "kernels" / "python3").mkdir(parents=True)
    (foreign / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    row = Row(system="s", task="t", method="m", accuracy=0.1)
    Summary("04_plain", "quick", {}, 1.0, (row,)).write(out)
    notebooks = choose(list_notebooks(folder))
    values = assign(notebooks, [("scale", "smoke"), ("seed", "5")], prepare_out(out, folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(foreign))
        found = list(run_notebooks(notebooks, values, out))
    assert [outcome.name for outcome in found] == [path.stem for path in list_notebooks(folder)]
    return {outcome.name: outcome for outcome in found}


def test_a_good_notebook_is_run_with_its_parameters(
    outcomes: dict[str, Outcome], folder: Path, out: Path
) -> None:
    good = outcomes["00_good"]
    assert (good.status, good.error) == ("ok", None)
    executed: Any = nbformat.read(out / "00_good.ipynb", as_version=4)
    told = json.loads(next(c for c in executed.cells if "getcwd" in c.source).outputs[0].text)
    assert told == {
        "cwd": str(folder),
        "python": sys.executable,
        "scale": "smoke",
        "seed": 5,
        "out": str(out),
    }


def test_its_summary_is_collected(outcomes: dict[str, Outcome], out: Path) -> None:
    [summary] = outcomes["00_good"].summaries
    assert (summary.notebook, summary.scale, summary.rows[0].seed) == ("00_good", "smoke", 5)
    assert Summary.read(out / "00_good.summary.json") == summary


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux keeps the peak")
def test_peak_memory_is_seen_even_after_it_was_given_back(outcomes: dict[str, Outcome]) -> None:
    good, plain = outcomes["00_good"].peak_memory_mb, outcomes["04_plain"].peak_memory_mb
    assert good is not None
    assert plain is not None
    assert 10 < plain < 200
    assert good > plain + 0.9 * MEMORY_MB


def test_a_failing_cell_is_shown(outcomes: dict[str, Outcome], out: Path) -> None:
    failed = outcomes["01_fails"]
    assert failed.status == "failed"
    error = str(failed.error)
    # The fourth cell of the notebook as written; In [4] of the executed one, with its injection.
    assert error.startswith(f"01_fails failed at cell 4 (In [4] of {out / '01_fails.ipynb'}):")
    assert "    def divide():\n        return 1 / 0\n" in error
    assert "    …\n" in error
    assert error.endswith("ZeroDivisionError: division by zero")
    assert "\x1b" not in error


def test_what_was_done_before_it_failed_is_kept(outcomes: dict[str, Outcome], out: Path) -> None:
    assert outcomes["01_fails"].status == "failed"
    text = (out / "01_fails.ipynb").read_text(encoding="utf-8")
    assert "'before'" in text
    assert "ZeroDivisionError" in text


def test_a_kernel_that_dies_says_what_may_help(outcomes: dict[str, Outcome]) -> None:
    died = outcomes["02_dies"]
    assert died.status == "failed"
    assert "died in cell 3" in str(died.error)
    assert "memory" in str(died.error)


def test_a_damaged_summary_fails_its_notebook(outcomes: dict[str, Outcome]) -> None:
    damaged = outcomes["03_damages"]
    assert damaged.status == "failed"
    assert "03.summary.json is not a summary" in str(damaged.error)


def test_a_stale_summary_is_not_collected(outcomes: dict[str, Outcome], out: Path) -> None:
    assert (out / "04_plain.summary.json").is_file()
    assert outcomes["04_plain"] == Outcome(
        "04_plain",
        "ok",
        outcomes["04_plain"].seconds,
        outcomes["04_plain"].peak_memory_mb,
    )


def test_no_kernel_is_left_behind(outcomes: dict[str, Outcome]) -> None:
    assert len(outcomes) == 5
    children = psutil.Process().children()  # not theirs: other tests may serve JupyterLab
    assert [child for child in children if "ipykernel" in " ".join(child.cmdline())] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_fails_the_notebook_with_advice(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "04_plain.ipynb").symlink_to("/dev/full")
    [notebook] = read_variants(folder / "04_plain.ipynb")
    [outcome] = run_notebooks([notebook], [{}], tmp_path)
    assert outcome.status == "failed"
    assert "No space left" in str(outcome.error)
    assert "--out DIR" in str(outcome.error)


def test_after_ctrl_c_the_rest_is_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import papermill

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", interrupted)
    notebooks = choose(list_notebooks(folder)[:3])
    found = list(run_notebooks(notebooks, [{}] * 3, tmp_path))
    assert [outcome.status for outcome in found] == ["interrupted", "not run", "not run"]
