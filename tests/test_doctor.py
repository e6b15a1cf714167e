"""What the doctor says of installations that lack something."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from small_notebooks import write_notebook

from pnnlab import doctor
from pnnlab.doctor import Finding, examine, healthy, report
from pnnlab.errors import InstrumentError
from pnnlab.instruments import link, sound
from pnnlab.instruments.link import Resource
from pnnlab.tasks import FASHION_FILES, HILLENBRAND_FILE, MNIST_FILES, WRIGHT_FILE
from pnnlab.tasks.task import DataFiles


@pytest.fixture(autouse=True)
def bench(monkeypatch: pytest.MonkeyPatch) -> list[Resource]:
    """A bench of our choice; the real one is searched with broadcasts on the network."""
    resources: list[Resource] = []
    monkeypatch.setattr(link, "list_resources", lambda: tuple(resources))
    monkeypatch.delenv("PNNLAB_DATA", raising=False)
    return resources


@pytest.fixture
def notebooks(tmp_path: Path) -> Path:
    write_notebook(tmp_path / "notebooks", "00_tour")
    return tmp_path / "notebooks"


def named(findings: Sequence[Finding], name: str, section: str | None = None) -> Finding:
    [finding] = [f for f in findings if f.name == name and section in (None, f.section)]
    return finding


def test_this_installation_is_healthy(notebooks: Path, tmp_path: Path) -> None:
    findings = examine(tmp_path / "results", notebooks)
    assert [finding for finding in findings if finding.state == "broken"] == []
    assert healthy(findings)
    assert not (tmp_path / "results").exists(), "looking must not make anything"
    assert named(findings, "torch").value == importlib.metadata.version("torch")
    assert named(findings, "notebooks").value == f"1 in {notebooks}"
    assert {finding.section for finding in findings} == {
        *("Versions", "Machine", "GPU", "Instruments", "Sound", "Data", "Folders"),
    }


def test_whatever_is_missing_says_what_it_is_for(notebooks: Path, tmp_path: Path) -> None:
    findings = examine(tmp_path / "results", notebooks)
    assert all(finding.advice for finding in findings if finding.state != "ok")
    assert all(finding.advice is None for finding in findings if finding.state == "ok")


def test_a_missing_package_is_told_with_the_version_to_get(
    notebooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "plotly":
            raise importlib.metadata.PackageNotFoundError(name)
        return "6.30.1" if name == "ipykernel" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda _: ["plotly>=6.0", "ipykernel>=7.1", "new-to-us>=2", "for-tests; extra == 'test'"],
    )
    findings = examine(tmp_path / "results", notebooks)
    assert not healthy(findings)
    plotly = named(findings, "plotly")
    assert (plotly.value, plotly.state) == ("not installed", "broken")
    assert "pip install 'plotly>=6.0'" in str(plotly.advice)
    assert named(findings, "ipykernel").value == "6.30.1, but >=7.1 is needed"
    assert named(findings, "ipykernel").state == "broken"
    assert "pip install 'new-to-us>=2'" in str(named(findings, "new-to-us").advice)
    assert "for-tests" not in {finding.name for finding in findings}


def test_a_checkout_that_was_never_installed_is_looked_over_all_the_same(
    notebooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert healthy(examine(tmp_path / "results", notebooks))


def test_instruments_are_listed_with_their_answers(
    notebooks: Path, tmp_path: Path, bench: list[Resource]
) -> None:
    bench += [Resource("USB0::1::INSTR", identity="Maker,42"), Resource("GPIB0::2", error="no")]
    findings = examine(tmp_path / "results", notebooks)
    assert named(findings, "USB0::1::INSTR").value == "Maker,42"
    assert named(findings, "GPIB0::2").value == "no"
    assert named(findings, "GPIB0::2").state == "absent"
    assert healthy(findings)


def test_sound_devices_are_listed_and_where_there_are_none_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> tuple[str, ...]:
        raise InstrumentError("Sound needs one more package.")

    for listed, value in (
        (lambda: ("Built-in (1 in, 2 out)",), "Built-in (1 in, 2 out)"),
        (lambda: (), "none found"),
        (broken, "not known"),
    ):
        monkeypatch.setattr(sound, "list_devices", listed)
        [row] = doctor._sound()
        assert row[1] == value


def test_an_instrument_that_is_named_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(names: Sequence[str] = ()) -> tuple[Resource, ...]:
        return tuple(Resource(name, identity="Bench") for name in names)

    monkeypatch.setattr(link, "list_resources", listed)
    findings = doctor.examine(instruments=["TCPIP::127.0.0.1::5025::SOCKET"])
    assert [found.value for found in findings if found.name.endswith("SOCKET")] == ["Bench"]


@pytest.mark.parametrize("error", [InstrumentError("no library; install one"), ImportError("gone")])
def test_a_broken_visa_is_told_and_is_not_fatal(
    notebooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken() -> None:
        raise error

    monkeypatch.setattr(link, "list_resources", broken)
    findings = examine(tmp_path / "results", notebooks)
    assert str(error) in str(named(findings, "VISA").advice)
    assert healthy(findings)


FILES = [f"{part}-ubyte" for part in ("train-images-idx3", "train-labels-idx1")]
FILES += [f"{part}-ubyte" for part in ("t10k-images-idx3", "t10k-labels-idx1")]


def put(folder: Path, ending: str = "") -> Path:
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / f"{name}{ending}").touch()
    return folder


@pytest.mark.parametrize("place", ["MNIST/raw", "mnist", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_mnist_is_found_where_the_task_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notebooks: Path, place: str, ending: str
) -> None:
    folder = put(tmp_path / "data" / place, ending)
    monkeypatch.setenv("PNNLAB_DATA", str(tmp_path / "data"))
    finding = named(examine(tmp_path / "results", notebooks), "MNIST")
    assert finding == Finding("Data", "MNIST", str(folder))
    assert MNIST_FILES.find() == folder


@pytest.mark.parametrize("place", ["FashionMNIST/raw", "fashion-mnist"])
def test_fashion_mnist_is_no_mnist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notebooks: Path, place: str
) -> None:
    folder = put(tmp_path / "data" / place)
    monkeypatch.setenv("PNNLAB_DATA", str(tmp_path / "data"))
    findings = examine(tmp_path / "results", notebooks)
    assert named(findings, "Fashion-MNIST").value == str(folder)
    assert named(findings, "MNIST").state == "absent"
    assert FASHION_FILES.find() == folder


@pytest.mark.parametrize(
    ("name", "place", "files"),
    [
        ("the paper's vowels", "wright2022-vowels/vowels_wright2022.npz", WRIGHT_FILE),
        ("the paper's vowels", "vowels_wright2022.npz", WRIGHT_FILE),
        ("Hillenbrand's vowels", "hillenbrand/vowdata.dat", HILLENBRAND_FILE),
        ("Hillenbrand's vowels", "vowdata.dat", HILLENBRAND_FILE),
    ],
)
def test_recorded_vowels_are_found_where_the_tasks_find_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    notebooks: Path,
    name: str,
    place: str,
    files: DataFiles,
) -> None:
    monkeypatch.setenv("PNNLAB_DATA", str(tmp_path / "data"))
    missing = named(examine(tmp_path / "results", notebooks), name)
    assert missing.state == "absent"
    assert missing.value == f"PNNLAB_DATA={tmp_path / 'data'} is no folder"
    assert f"put {Path(place).name} into the folder that PNNLAB_DATA names" in str(missing.advice)
    assert files.find() is None
    file = tmp_path / "data" / place
    file.parent.mkdir(parents=True)
    file.touch()
    assert named(examine(tmp_path / "results", notebooks), name).value == str(file)
    assert files.find() == file


def test_a_set_with_a_file_missing_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notebooks: Path
) -> None:
    (put(tmp_path / "data" / "mnist") / FILES[2]).unlink()
    monkeypatch.setenv("PNNLAB_DATA", str(tmp_path / "data"))
    finding = named(examine(tmp_path / "results", notebooks), "MNIST")
    assert finding.state == "absent"
    assert finding.value == f"not in {tmp_path / 'data'}"
    assert "into a folder MNIST/raw and set PNNLAB_DATA" in str(finding.advice)


def test_a_data_folder_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notebooks: Path
) -> None:
    monkeypatch.setenv("PNNLAB_DATA", str(tmp_path / "nowhere"))
    finding = named(examine(tmp_path / "results", notebooks), "MNIST")
    assert finding.value == f"PNNLAB_DATA={tmp_path / 'nowhere'} is no folder"


def test_without_data_the_embedded_sets_are_there(notebooks: Path, tmp_path: Path) -> None:
    findings = examine(tmp_path / "results", notebooks)
    assert named(findings, "MNIST, 5 000 images").state == "ok"
    assert named(findings, "digits 8×8").state == "ok"
    assert named(findings, "vowels").state == "ok"
    assert "FashionMNIST/raw" in str(named(findings, "Fashion-MNIST").advice)
    assert "PNNLAB_DATA" in str(named(findings, "MNIST").advice)


def test_folders_that_do_not_serve_are_broken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    findings = examine(tmp_path / "file" / "results", tmp_path / "nowhere")
    assert named(findings, "notebooks").state == "broken"
    assert "--notebooks DIR" in str(named(findings, "notebooks").advice)
    assert named(findings, "results").state == "broken"
    assert "--out DIR" in str(named(findings, "results").advice)


def test_the_report_has_a_line_for_each_and_a_verdict() -> None:
    fine = Finding("A", "one", "1.0")
    missing = Finding("A", "other", "none", "absent", "would be nice: get it")
    broken = Finding("B", "third", "gone", "broken", "needed: get it")
    assert report([fine, missing]).splitlines() == [
        "A",
        "  ✓ one    1.0",
        "  · other  none",
        "           → would be nice: get it",
        "",
        "Everything needed is there.",
    ]
    assert report([fine, broken]).splitlines()[-1].startswith("1 thing to fix")


def test_looking_at_widgets_and_figures_does_not_load_them() -> None:
    code = (
        "import sys\nfrom pnnlab import doctor\nfrom pnnlab.instruments import link\n"
        "link.list_resources = tuple\ndoctor.examine()\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    assert not loaded & {"IPython", "anywidget", "ipywidgets", "matplotlib", "plotly", "papermill"}
