"""README's example works as it is printed there, and is as short as it claims to be."""

import re
from collections import Counter
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from pnnlab.results import Summary
from pnnlab.results.advantage import read_sweep
from pnnlab.results.comparison import Compared
from pnnlab.results.gathering import FILE, Results
from pnnlab.results.tables import with_section
from pnnlab.training.advice import IN_SILICO_DOES, TWIN_IS_WRONG, suggestion

RESULTS = Path(__file__).parent.parent / "notebooks" / FILE
README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return code


def test_bringing_a_device_takes_at_most_twenty_lines():
    assert len(example().strip().splitlines()) <= 20


@pytest.mark.slow
def test_the_example_trains_its_device(capsys):
    exec(compile(example(), "README.md", "exec"), {})
    said = capsys.readouterr().out.strip()
    found = re.fullmatch(r"accuracy ([\d.]+) % on the device, [\d.]+ % on the twin, gap .*", said)
    assert float(found[1]) > 70


def test_its_table_is_that_of_the_results():
    """`make results` writes both."""
    assert with_section(README, Results.read(RESULTS).markdown()) == README


def test_what_it_says_of_the_hybrid_network_is_in_the_results():
    lines = [
        one for one in Results.read(RESULTS).lines if one["system"].startswith("SHG and digital")
    ]
    lines = [one for one in lines if "clamp only" in one["methods"] and "physics" in one["twin"]]
    whole, four = lines[0], next(one for one in lines if ", 4 numbers" in one["system"])
    for line in (whole, four):
        means = {name: line["methods"][name]["accuracy"]["mean"] for name in line["methods"]}
        for name in ("clamp only", "clamp, square", "PAT"):
            assert f" {100 * means[name]:.1f} %" in README
    means = {name: whole["methods"][name]["accuracy"]["mean"] for name in whole["methods"]}
    assert min(means["clamp only"], means["clamp, square"]) > means["PAT"]
    few = [line["pairs"] for line in lines if "numbers a pulse" in line["system"]]
    assert len(few) == 4
    assert {verdict for pairs in few for verdict in pairs.values()} == {"equal"}


def test_what_it_says_of_untrained_devices_is_in_the_results():
    lines = [line for line in Results.read(RESULTS).lines if "untrained" in line["methods"]]
    lines = [line for line in lines if line["task"] == "mnist"]
    linear = [line["linear_baseline"] for line in lines]
    assert f" has {100 * min(linear):.1f} to {100 * max(linear):.1f} %" in README
    assert len(lines) == 3
    for line in lines:
        reached = line["methods"]["untrained"]["accuracy"]["mean"]
        assert f" at {100 * reached:.1f} %" in README
        assert reached < line["linear_baseline"]


def test_what_it_says_of_twelve_methods_is_in_their_trainings():
    rows = Summary.read(RESULTS.parent / "methods.json").rows
    assert len({row.method for row in rows}) == 12
    shown = re.findall(r"^\| (\w+), ([\w ]+?) +\| +([\d.| ]+) \|$", README, re.MULTILINE)
    systems, tasks = {"light": "shg"}, {"5 000 of MNIST": "mnist-5000"}
    for place, task, cells in shown:
        key = (systems.get(place, place), tasks.get(task, task))
        own = tuple(row for row in rows if (row.system, row.task) == key)
        names = ("in silico", "noise-aware", "PAT", "noise-aware, then PAT")
        used = {name: [row.used for row in own if row.method == name] for name in names}
        assert {len(values) for values in used.values()} == {5}
        means = [f"{100 * fmean(values):.1f}" for values in used.values()]
        assert re.split(r"[ |]+", cells) == means
        verdicts, last = (Compared(own).verdicts(name) for name in ("PAT", "noise-aware, then PAT"))
        images = task == "5 000 of MNIST"
        circuit = (place, task) == ("circuit", "5 000 of MNIST")
        assert verdicts["noise-aware"] == ("worse" if circuit else "not known")
        others = {verdicts[name] for name in ("randomised", "sharpness-aware")}
        assert others == {"worse"} if circuit else "better" not in others
        assert (last["PAT"] == "better") is images
        assert (last["noise-aware"] == "better") is (place == "plate")
    assert len(shown) == 4
    linear = [fmean(row.linear_baseline for row in rows if row.task == "digits")]
    lines = [line for line in Results.read(RESULTS).lines if line["task"] == "digits"]
    linear += [line["linear_baseline"] for line in lines if line["linear_baseline"]]
    low, high = 100 * min(linear), 100 * max(linear)
    assert f"A linear classifier reads the digits at {low:.1f} to {high:.1f} %" in README


def test_what_it_says_of_a_longer_search_is_in_its_trainings():
    files = (RESULTS.parent / name for name in ("methods.json", "longer_search.json"))
    rows = [row for file in files for row in Summary.read(file).rows if row.system == "plate"]
    lost = [
        100 * Compared(tuple(rows)).difference(name, f"{name}, longer search").mean
        for name in ("PAT", "noise-aware")
    ]
    said = f"PAT has {lost[0]:.1f} points less on the plate in the mean of five units"
    assert f"{said}, and training with noise {lost[1]:.1f}." in README


def test_what_it_says_of_the_map_is_in_its_table():
    found = read_sweep(RESULTS.parent / "advantage.csv")
    right = [suggestion(one.error) == one.best for one in found]
    made = [one.case.system != "plate" and one.case.unit < 2 for one in found]
    counts = [sum(r for r, m in zip(right, made, strict=True) if m == which) for which in (1, 0)]
    always = [
        max(Counter(one.best for one, m in zip(found, made, strict=True) if m == which).values())
        for which in (1, 0)
    ]
    assert f"in {counts[0]} of the {sum(made)} cases" in README
    assert f"the best constant answer agrees in {always[0]}. It is a hint" in README
    others = f"{counts[1]} of {len(made) - sum(made)}, and the constant answer in {always[1]}."
    assert f"(plates, and other circuits and light) it agrees in {others}" in README


def test_no_other_lines_agree_with_more_of_the_map():
    found = read_sweep(RESULTS.parent / "advantage.csv")
    made = [one for one in found if one.case.system != "plate" and one.case.unit < 2]
    error, best = np.array([one.error for one in made]), np.array([one.best for one in made])
    lines = [0.0, *sorted(error), np.inf]

    def agree(low, high):
        said = np.where(error <= low, "in silico with noise", "PAT")
        return int((np.where(error > high, "a better twin first", said) == best).sum())

    most = max(agree(low, high) for low in lines for high in lines if low <= high)
    assert agree(IN_SILICO_DOES, TWIN_IS_WRONG) == most


def test_the_results_follow_from_their_trainings_and_name_no_machine():
    text = RESULTS.read_text(encoding="utf-8")
    assert Results.read(RESULTS).text() == text
    assert not re.search(r"(?<![\w.~])/(home|Users|root|tmp|work|mnt)\b", text)
    results = Results.read(RESULTS)
    assert results.scale == "paper"
    assert all(re.fullmatch(r"[0-9a-f]{40}(-dirty)?", t.row.commit) for t in results.trainings)


def test_what_it_links_to_is_there():
    root = Path(__file__).parent.parent
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert len(links) >= 8
    assert [link for link in links if not (root / link).exists()] == []
