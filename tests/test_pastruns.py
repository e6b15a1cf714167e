"""Run folders seen again, and trainings beside each other, without a browser."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hands import click, message, share
from records import EVALUATED, Scripted, record, wait_until
from runners import STEPS
from test_dashboard import made
from test_sealed import finished, seen

from pnnlab.background import Session
from pnnlab.errors import RunError
from pnnlab.runs import Run, RunInfo, read_journal
from pnnlab.views import trainings
from pnnlab.views.style import LINE_COLORS, Picture, line_style
from pnnlab.views.trainings import (
    Comparison,
    PastRuns,
    Recorded,
    RecordedRun,
    comparison_plots,
    recorded,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    whole = Run.open(root / "whole", made(), description="all <of> it")
    assert len(list(whole.records())) == 6
    half = Run.open(root / "deep" / "half", made())
    records = half.records()
    for _ in range(4):
        next(records)
    records.close()
    (root / "broken").mkdir()
    (root / "broken" / "journal.sqlite").write_text("no journal", encoding="utf-8")
    return root


# --- a folder that is read again ---------------------------------------------------


def test_a_run_folder_is_watched_like_a_session(root: Path) -> None:
    kept = RecordedRun(root / "whole")
    assert kept.status == "finished"
    assert kept.latest is not None
    assert kept.latest.step == 6
    assert [r.step for r in kept.evaluations] == [2, 4, 6]
    assert len(kept.curves().step) == 6
    kept.read()
    assert len(kept.curves().step) == 6
    assert RecordedRun(root / "deep" / "half").status == "unfinished"
    with pytest.raises(RunError, match="no run in"):
        RecordedRun(root / "nowhere")


def test_what_is_written_since_is_read_and_what_is_taken_anew_replaces(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = [record(s) for s in range(1, 6)]
    monkeypatch.setattr(
        trainings, "read_journal", lambda _, after=0: [r for r in journal if r.step > after]
    )
    monkeypatch.setattr(trainings, "read_run", lambda folder: RunInfo(folder=folder))
    kept = RecordedRun(root)
    assert len(kept.curves().step) == 5
    journal.append(record(6))
    kept.read()
    assert len(kept.curves().step) == 6
    journal[3:] = [record(4, loss=7.0), record(5, loss=7.0), record(6, loss=7.0)]
    kept.read()  # resumed from step 3
    np.testing.assert_allclose(kept.curves().loss, [2, 1, 2 / 3, 7, 7, 7])
    journal[:] = journal[:2]
    kept.read()
    assert kept.latest == journal[-1]


# --- comparison -------------------------------------------------------------------------


def test_trainings_are_drawn_over_steps_passes_or_time() -> None:
    runs = {
        "one": Recorded([record(s, **EVALUATED) for s in (10, 20)]),
        "digital": Recorded([record(30, **EVALUATED, clamped=(), device_passes=0)]),
    }
    line_styles = {"one": line_style(0), "digital": line_style(1)}
    accuracy, loss = comparison_plots(runs, "steps", line_styles)
    assert [line.label for line in accuracy.lines] == ["one", "digital"]
    assert accuracy.lines[0].style.dash != accuracy.lines[1].style.dash, "not by colour alone"
    assert accuracy.lines[0].x.tolist() == [10, 20]
    assert accuracy.lines[0].y.tolist() == pytest.approx([91.2, 91.2])
    assert loss.lines[0].y.tolist() == [0.31, 0.31]
    assert loss.x_limits == (0, 30)
    passes, _ = comparison_plots(runs, "passes", line_styles)
    assert [line.label for line in passes.lines] == ["one"]
    assert passes.lines[0].x.tolist() == [12_010, 12_020]
    time, _ = comparison_plots(runs, "time", line_styles)
    assert time.x_label == "training time (s)"
    assert time.lines[0].x.tolist() == [5, 10]
    hours = {"long": Recorded([record(100, seconds=7.2e4, **EVALUATED)])}
    time, _ = comparison_plots(hours, "time", {"long": line_style(0)})
    assert (time.x_label, time.lines[0].x.tolist()) == ("training time (h)", [20])
    assert comparison_plots({}, "steps", {})[0].note == "no training is chosen"


def test_trainings_that_differ_in_their_seed_are_one_line_with_an_interval(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = {
        f"seed {n}": [
            record(step, **EVALUATED | {"device_metric": metric}, device_passes=step + n)
            for step, metric in zip((10, 20, 30), metrics, strict=False)
        ]
        for n, metrics in enumerate([(0.1, 0.8, 0.9), (0.3, 0.8, 0.9), (0.2, 0.8)])
    }
    monkeypatch.setattr(trainings, "read_journal", lambda folder, _=0: journals[folder.name])
    monkeypatch.setattr(trainings, "read_run", lambda folder: RunInfo(folder=folder))
    runs = {"PAT": recorded([root / name for name in journals]), "one": recorded([root / "seed 0"])}
    plot, _ = comparison_plots(runs, "passes", {"PAT": line_style(0), "one": line_style(1)})
    mean, one = plot.lines
    assert mean.x.tolist() == [11, 21]  # as far as all of them go
    assert mean.y.tolist() == pytest.approx([20, 80])
    # Student's t of two degrees of freedom, 4.303, and a deviation of 10 points over √3.
    assert (2 * np.asarray(mean.deviation)).tolist() == pytest.approx([24.84, 0], abs=0.01)
    assert one.deviation is None
    assert one.x.tolist() == [10, 20, 30]


def test_thirty_lines_all_differ() -> None:
    line_styles = [line_style(place) for place in range(30)]
    assert len(set(line_styles)) == 30
    assert all(
        one.color != next_.color and one.dash != next_.dash for one, next_ in pairwise(line_styles)
    )
    assert len(LINE_COLORS) == 6


def test_sessions_runs_folders_and_records_are_compared(root: Path) -> None:
    training = made()
    session = Session(Scripted([record(5, **EVALUATED)])).start()
    session.join()
    view = Comparison(
        {
            "session": session,
            "run": Run.open(root.parent / "run", training),
            "folder": root / "whole",
            "records": read_journal(root / "whole"),
        },
        against="passes",
    )
    rows = {row["key"]: [text for text, _ in row["cells"]] for row in view.table.rows}
    assert rows["session"][:4] == ["session", "Finished", "5 of 100", "91.2 %"]
    assert rows["run"][1:4] == ["Begun", "–", "–"]
    assert rows["folder"][1:] == rows["records"][1:]
    assert rows["folder"][2] == "6 of 6"
    assert "run" in view._message.value, "no passes yet, and so not drawn"
    message(view.table, {"chosen": ["folder"]})
    assert [line["label"] for line in view._grid.panels[0]["lines"]] == ["folder"]
    share(view.against, value="steps")
    assert view._grid.panels[0]["x_label"] == "step"
    picture = view.figure()
    assert isinstance(picture, Picture)
    assert len(picture.figure.axes) == 2
    view.close()


def test_a_running_session_is_followed_in_the_comparison() -> None:
    session = Session(Scripted(record(s, **EVALUATED) for s in range(1, 101)))
    view = Comparison({"it": session})
    assert view.table.rows[0]["cells"][1][0] == "Ready"
    session.start()
    wait_until(lambda: view.table.rows[0]["cells"][1][0] == "Finished", 20)
    assert view.table.rows[0]["cells"][2][0] == "100 of 100"
    view.close()


def test_what_cannot_be_compared_says_so(root: Path) -> None:
    with pytest.raises(RunError, match="nothing to compare"):
        Comparison({})
    with pytest.raises(RunError, match="no run in"):
        Comparison({"a": root / "nowhere"})
    with pytest.raises(RunError, match="list cannot be compared"):
        recorded([1, 2])  # type: ignore[list-item]


# --- past runs ---------------------------------------------------------------------------


def test_the_table_lists_what_the_folder_holds(root: Path) -> None:
    view = PastRuns(root)
    rows = {row["key"]: row for row in view.table.rows}
    assert set(rows) == {"whole", "deep/half", "broken"}
    assert [text for text, _ in rows["whole"]["cells"]][1] == "all <of> it"
    assert rows["deep/half"]["cells"][3] == ["4 of 6", 4]
    assert "cannot be read" in rows["broken"]["note"]
    assert "3 runs in" in view._message.value
    with pytest.raises(RunError, match="no run is open"):
        view.figure()


def test_one_run_opens_its_curves_and_two_a_comparison(root: Path) -> None:
    view = PastRuns(root)
    message(view.table, {"chosen": ["whole"]})
    origin, grid = view._below.children
    assert "pnnlab" in origin.value
    assert "Events" not in origin.value
    assert grid.panels[0]["lines"][0]["n"] == 6
    assert len(view.figure().figure.axes) == 4
    message(view.table, {"chosen": ["whole", "deep/half"]})
    assert view._comparison is not None
    assert set(view._comparison.trainings) == {"whole", "deep/half"}
    assert len(view.figure().figure.axes) == 2
    message(view.table, {"chosen": ["broken"]})
    assert 'role="alert"' in view._below.children[0].value
    message(view.table, {"chosen": []})
    assert view._below.children == ()
    other = PastRuns(root)
    view.close()
    assert view.table.comm is None
    assert other.table.comm is not None, "it closes what is its own, and nothing else"


def test_what_happened_in_a_run_is_told(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", made())
    records = run.records()
    next(records)
    run.training.scale_rate(0.5)
    run.training.note("the <twin> of physical layer 1 was refitted")
    next(records)
    records.close()
    view = PastRuns(tmp_path)
    message(view.table, {"chosen": ["run"]})
    told = view._below.children[0].value
    assert "step 1, " in told
    assert "learning rate × 0.5" in told
    assert "the &lt;twin&gt; of physical layer 1" in told
    assert told.index("twin") < told.index("learning rate"), "the latest first"


def test_reading_again_finds_new_runs(root: Path, tmp_path: Path) -> None:
    view = PastRuns(tmp_path)
    assert "no runs" in view._message.value
    Run.open(tmp_path / "new", made())
    click(view.again)
    assert [row["key"] for row in view.table.rows] == ["new"]
    message(view.table, {"chosen": ["new"]})
    assert len(view._below.children) == 2


def past_runs_show_it(folder: Path) -> None:
    view = PastRuns(folder)
    [row] = view.table.rows
    assert row["note"] == ""
    assert row["cells"][3] == [f"{STEPS} of {STEPS}", STEPS]
    view.table.chosen = [row["key"]]
    _, grid = view._below.children
    assert grid.panels[0]["lines"][0]["n"] == STEPS
    assert len(view.figure().figure.axes) == 4
    view.refresh()
    assert view.table.rows == [row]


def test_past_runs_show_a_finished_run(place: Path) -> None:
    finished(place / "results" / "run")
    assert seen(past_runs_show_it, place / "results")
