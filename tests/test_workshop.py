"""The instructor's guide and the glossary: what they say is in the notebooks and their results."""

import re
from pathlib import Path
from statistics import fmean

import nbformat
import numpy as np
import pytest

from pnnlab.results import Summary
from pnnlab.results.notebooks import list_notebooks

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "WORKSHOP.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "GLOSSARY.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^## (.+)$", GLOSSARY, re.MULTILINE)
NOTEBOOKS = {
    path.stem[:2]: nbformat.read(path, as_version=4) for path in list_notebooks(ROOT / "notebooks")
}


def prose(number):
    cells = NOTEBOOKS[number].cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def printed(number):
    cells = [cell for cell in NOTEBOOKS[number].cells if cell.cell_type == "code"]
    return "\n".join(output.get("text", "") for cell in cells for output in cell.outputs)


def test_terms_are_headings_that_every_page_makes_the_same_address_of():
    assert TERMS
    assert all(re.fullmatch(r"[a-z -]+", term) for term in TERMS)
    assert len(set(TERMS)) == len(TERMS)


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_links_to_the_glossary_name_one_of_its_terms(number):
    linked = re.findall(r"\]\(\.\./GLOSSARY\.md#([^)]*)\)", prose(number))
    assert linked
    assert prose(number).count("GLOSSARY") == len(linked)
    assert set(linked) <= {term.replace(" ", "-") for term in TERMS}


def test_every_term_is_linked_from_a_notebook_or_is_trivial():
    linked = set(re.findall(r"GLOSSARY\.md#([^)]*)\)", "".join(map(prose, NOTEBOOKS))))
    assert {term.replace(" ", "-") for term in TERMS} - linked <= {"system"}


@pytest.mark.parametrize("number", ["03", "05"])
def test_a_checkpoint_asks_five_questions_with_folded_answers(number):
    (cell,) = [c for c in NOTEBOOKS[number].cells if c.source.startswith("## Checkpoint")]
    assert cell.source.count("**Question ") == 5
    assert cell.source.count("<details><summary>Answer</summary>\n\n") == 5
    headings = re.findall(r"^###? (.+)$", "".join(map(prose, NOTEBOOKS)), re.MULTILINE)
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", cell.source))
    assert named - {"Read it line by line"} <= set(headings)


def test_the_guide_names_sections_that_are_there():
    headings = re.findall(r"^###? (.+)$", "\n".join(map(prose, NOTEBOOKS)), re.MULTILINE)
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", GUIDE)) - {"Kernel", "Reading"}
    assert named <= set(headings)


def test_the_guide_counts_the_exercises():
    rows = re.findall(r"^\| (\d\d) .*\| (\d) \|$", GUIDE, re.MULTILINE)
    assert dict(rows) == {
        number: str(
            sum(
                cell.cell_type == "code" and "solution" in cell.metadata.get("tags", [])
                for cell in notebook.cells
            )
        )
        for number, notebook in NOTEBOOKS.items()
    }


def test_what_to_expect_is_what_is_stored():
    rows = re.findall(r"^\| (\d\d) \| [^|]+ \| ([\d., ]+) \|$", GUIDE, re.MULTILINE)
    assert {number for number, _ in rows} == {"04", "06", "07", "08", "09"}
    for number, figures in rows:
        for figure in figures.split(", "):
            assert f"{figure}%" in printed(number)


def test_the_spread_over_units_is_that_of_the_trainings():
    found = {}
    for row in Summary.read(ROOT / "notebooks" / "methods.json").rows:
        found.setdefault((f"{row.system}, {row.task}", row.method), []).append(row.used)
    methods = ("PAT", "noise-aware", "in silico")
    table = re.findall(r"^\| (\w+, [\w-]+) \| (.+) \|$", GUIDE, re.MULTILINE)
    assert len(table) == 4
    for pair, line in table:
        for method, cell in zip(methods, line.split(" | "), strict=True):
            own = found[pair, method]
            mean, low, high = (100 * value for value in (fmean(own), min(own), max(own)))
            assert cell == f"{mean:.1f} ({low:.1f} to {high:.1f})"


def test_links_of_the_guide_exist():
    links = re.findall(r"\]\(([^)]+)\)", GUIDE)
    assert links
    assert all((ROOT / link).exists() for link in links)


@pytest.mark.parametrize("start", ["power = 1.1", "rng = np.random"])
def test_two_cells_need_no_torch(start, capsys):
    (cell,) = [c for c in NOTEBOOKS["04"].cells if c.source.startswith(start)]
    exec(compile(cell.source, "cell", "exec"), {"np": np})
    assert capsys.readouterr().out == cell.outputs[0].text


def test_what_the_guide_says_of_the_layer_in_numpy():
    (cell,) = [c for c in NOTEBOOKS["04"].cells if c.source.startswith("rng = np.random")]
    changes = {"1 - np.tanh(x @ W) ** 2": "1", "y = device_layer(": "y = np.tanh(inputs @ W) #"}
    assert f"`{next(iter(changes))}`" in GUIDE
    lost = {}
    for old, new in changes.items():
        assert old in cell.source
        given = {"np": np}
        exec(compile(cell.source.replace(old, new), "cell", "exec"), given)
        y = given["device_layer"](given["inputs"], given["W"])
        lost[new] = float(np.mean((y - given["wanted"]) ** 2)), given["losses"][-1]
    (worse_twin, _), (in_silico, on_its_twin) = lost.values()
    assert worse_twin < 2e-4
    assert on_its_twin < 1e-4
    assert in_silico > 10 * 1e-4
