"""`import pnnlab` is light: what is slow, or needs hardware or a screen, loads when it is used."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import pnnlab

HEAVY = ("IPython", "anywidget", "ipywidgets", "numba", "plotly", "pyvisa", "torch")


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_nothing_heavy():
    loaded = modules_after("import pnnlab")
    assert "pnnlab" in loaded
    assert not loaded & set(HEAVY)


def test_the_probe_sees_what_is_loaded():
    assert "plotly" in modules_after("import plotly")


def test_submodules_load_when_they_are_used():
    loaded = modules_after("import pnnlab; pnnlab.systems.Circuit")
    assert {"pnnlab", "torch"} <= loaded
    assert not loaded & {"IPython", "anywidget", "ipywidgets", "plotly", "pyvisa"}


def test_every_module_loads_where_the_locale_knows_ascii_alone():
    code = (
        "import pkgutil, locale, pnnlab\n"
        "assert locale.getpreferredencoding(False) != 'UTF-8'\n"
        "for found in pkgutil.walk_packages(pnnlab.__path__, 'pnnlab.'): __import__(found.name)"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | plain, check=True)


def test_a_misspelt_submodule_is_an_attribute_error():
    with pytest.raises(AttributeError, match="sistems"):
        _ = pnnlab.sistems


def test_every_public_submodule_exists():
    assert not [name for name in pnnlab._SUBMODULES if find_spec(f"pnnlab.{name}") is None]


def test_every_name_of_the_front_door_is_there_and_known_to_type_checkers():
    assert (
        set(pnnlab._HOMES) | {"__version__"}
        == set(pnnlab.__all__)
        == set(dir(pnnlab)) - set(pnnlab._SUBMODULES)
    )
    typed = Path(pnnlab.__file__).read_text(encoding="utf-8")
    for name, home in pnnlab._HOMES.items():
        assert getattr(pnnlab, name).__name__ == name
        assert re.search(rf"from pnnlab\.{home} import .*\b{name}\b", typed)


def test_the_front_door_loads_no_widget_plotting_or_instrument_library():
    loaded = modules_after(
        "import pnnlab as pnn; pnn.device, pnn.fit_twin, pnn.deep_pnn, pnn.train"
    )
    assert not loaded & {"IPython", "anywidget", "ipywidgets", "matplotlib", "plotly", "pyvisa"}


def test_a_checked_answer_does_not_load_what_reads_notebooks():
    assert "nbformat" not in modules_after("from pnnlab.results.notebooks import check_answer")
