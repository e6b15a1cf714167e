"""How soon a button of the dashboard acts, by what the page itself notes."""

import statistics
from pathlib import Path

import pytest
from browser import jupyter_lab, lab_page, needs_chromium
from test_browser import AWAITING, RETURNING, pause, resume, save, start, stop

pytestmark = needs_chromium

PROMPT = 0.3  # seconds


@pytest.mark.parametrize("cells", [AWAITING, RETURNING], ids=["the cell awaits", "it returned"])
def test_a_button_acts_at_once(benchmark, tmp_path: Path, cells: list[str]) -> None:
    folder, own = tmp_path / "notebooks", tmp_path / "own"
    folder.mkdir()
    with jupyter_lab(folder, own) as address, lab_page(address) as lab:
        start(lab, folder, "clicks.ipynb", cells)
        pauses, resumes = zip(*[(pause(lab), resume(lab)) for _ in range(3)], strict=True)
        times = {
            "pause": statistics.median(pauses),
            "resume": statistics.median(resumes),
            "checkpoint": save(lab),
            "stop": stop(lab),
        }
    benchmark.extra_info["seconds"] = {act: round(time, 3) for act, time in times.items()}
    benchmark.pedantic(lambda: None)
    assert max(times.values()) <= PROMPT
