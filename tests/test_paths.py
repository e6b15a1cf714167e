"""Wherever a path is taken, ~ is the home folder."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from runners import toy_training
from small_notebooks import write_notebook
from toy import Toy

from pnnlab import characterize, cli, doctor, runs, tasks, twins
from pnnlab.errors import DataError, PnnlabError, RunError
from pnnlab.instruments.recording import Recorder, Replay, recording_dataset
from pnnlab.results import Row, Summary
from pnnlab.results.gathering import Results
from pnnlab.results.notebooks import notebooks_folder
from pnnlab.results.rows import write
from pnnlab.results.running import prepare_out
from pnnlab.results.tables import BEGIN, END
from pnnlab.storage import user_path
from pnnlab.tasks.speech import read_vowdata
from pnnlab.twins.neural import Mlp, NeuralTwin
from pnnlab.views import Comparison, PastRuns

ROW = Row(system="s", task="digits", method="m", seed=0, split="test", n_test=10, accuracy=0.5)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(elsewhere)
    yield home
    assert not list(elsewhere.iterdir()), "a folder called ~ was made"


@pytest.mark.parametrize("path", ["~/a", Path("~/a")])
def test_the_home_folder_is_meant(home: Path, path: str | Path) -> None:
    assert user_path(path) == home / "a"
    assert user_path("a/~") == Path("a/~")


def test_nobody_has_no_home_folder() -> None:
    with pytest.raises(PnnlabError, match=r"without ~"):
        user_path("~nobody-of-this-name/a")


def test_runs(home: Path) -> None:
    run = runs.Run.open("~/runs/one", toy_training())
    next(steps := run.records())
    steps.close()
    assert (home / "runs" / "one" / "journal.sqlite").exists()
    assert runs.Run.open("~/runs/one", toy_training()).folder == run.folder
    assert len(runs.read_journal("~/runs/one")) == 1
    assert runs.read_run("~/runs/one").provenance["pnnlab"]
    assert runs.read_run(Path("~/runs/one")).events == ()
    assert [info.folder for info in runs.list_runs("~/runs")] == [run.folder]
    assert PastRuns("~/runs").root == home / "runs"
    Comparison({"one": "~/runs/one"}).close()


def test_data_sets_and_twins(home: Path) -> None:
    dataset = characterize.collect(Toy(), 10, seed=0, path="~/made/toy.nc")
    assert characterize.load("~/made/toy.nc").sizes == dataset.sizes
    assert characterize.save(dataset, "~/other.nc") == home / "other.nc"
    twin = NeuralTwin(Toy(), Mlp())
    assert twins.save(twin, "~/twin.pt") == home / "twin.pt"
    twins.load("~/twin.pt")


def test_recordings(home: Path) -> None:
    with Recorder(Toy(), "~/toy.sqlite") as recorder:
        recorder(torch.rand(3, 6), torch.rand(36))
    assert Replay("~/toy.sqlite").path == home / "toy.sqlite"
    assert recording_dataset("~/toy.sqlite").sizes["shot"] == 3


@pytest.mark.parametrize(
    "read", [tasks.wright_vowels, tasks.hillenbrand, read_vowdata], ids=lambda f: f.__name__
)
def test_files_of_tasks(home: Path, read: Callable[[str], object]) -> None:
    (home / "file").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"file (is|holds no)"):
        read("~/file")


def test_the_folder_of_data(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PNNLAB_DATA", "~/data")
    (home / "data").mkdir()
    (home / "data" / "vowdata.dat").touch()
    assert tasks.HILLENBRAND_FILE.find() == home / "data" / "vowdata.dat"
    values = [finding[1] for finding in doctor._data()]
    assert str(home / "data" / "vowdata.dat") in values


def test_summaries_and_results(home: Path) -> None:
    path = Summary("00_tour", "smoke", {}, 1.0, (ROW,)).write("~/out")
    assert path == home / "out" / "00_tour.summary.json"
    assert Summary.read("~/out/00_tour.summary.json").rows == (ROW,)
    write("~/results.json", Results("smoke").text())
    assert Results.read("~/results.json").scale == "smoke"


def test_the_command_line(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_notebook(home / "notebooks", "00_tour")
    folder = ["--notebooks", "~/notebooks"]
    assert notebooks_folder("~/notebooks") == home / "notebooks"
    assert prepare_out("~/out", home / "notebooks") == home / "out"
    Summary("00_tour", "smoke", {}, 1.0, (ROW,)).write(home / "out")
    (home / "README.md").write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    words = ["--scale", "smoke", "--json", "~/r.json", "--readme", "~/README.md", "~/out"]
    assert cli.main(["results", *folder, *words]) == cli.OK
    assert json.loads((home / "r.json").read_text(encoding="utf-8"))["scale"] == "smoke"
    assert "digits" in (home / "README.md").read_text(encoding="utf-8")
    capsys.readouterr()
    monkeypatch.setattr(doctor, "_instruments", lambda _: ())
    assert cli.main(["doctor", *folder, "--out", "~/out", "--json"]) == cli.OK
    values = [finding["value"] for finding in json.loads(capsys.readouterr().out)["findings"]]
    assert {str(home / "out"), f"1 in {home / 'notebooks'}"} <= set(values)
    assert cli.main(["lab", "--app", "~/none.ipynb"]) == cli.BAD_ARGUMENTS
    assert str(home / "none.ipynb") in capsys.readouterr().err


def test_a_run_that_is_not_there_is_looked_for_at_home(home: Path) -> None:
    with pytest.raises(RunError, match=str(home)):
        runs.read_journal("~/none")
