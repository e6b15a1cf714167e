"""Exercises: answers are checked, and the student's edition holds no solution and still runs."""

import ast
import builtins
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from pnnlab import cli
from pnnlab.errors import NotebookError
from pnnlab.results.notebooks import (
    TO_WRITE_IN,
    check_answer,
    list_notebooks,
    read_variants,
    without_solutions,
    write_students,
)

NOTEBOOKS = list_notebooks(Path(__file__).parent.parent / "notebooks")
EXERCISE = re.compile(r"^(?:\*\*\d+\.\*\*|#+ Exercise$)", re.MULTILINE)
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def tagged(cell, tag):
    return tag in cell.metadata.get("tags", [])


def is_check(cell):
    return cell.cell_type == "code" and "check_answer(" in cell.source


def names(cells, context):
    """Names that code cells load or store; what a function has of its own counts, too."""
    found = set()
    for cell in cells:
        source = re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.MULTILINE)
        code = compile(source, "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(code):
            if isinstance(node, ast.Name) and isinstance(node.ctx, context):
                found.add(node.id)
            elif context is ast.Store and isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif context is ast.Store and isinstance(node, ast.arg):
                found.add(node.arg)
            elif context is ast.Store and isinstance(node, ast.alias):
                found.add(node.asname or node.name.partition(".")[0])
    return found


def test_an_answer_is_right_wrong_or_missing(capsys):
    check_answer(lambda: 1 + 1 == 2, "Add.")
    check_answer(lambda: 1 + 1 == 3, "Add.")
    check_answer(lambda: nowhere == 2, "Add.")  # noqa: F821
    assert capsys.readouterr().out.splitlines() == [
        "Right.",
        "Not yet. Add.",
        "Not answered yet: assign nowhere in the cell above, then run this one again.",
    ]


@each_notebook
def test_every_exercise_has_hint_solution_check_and_conclusion(path):
    cells = read(path).cells
    asked = [n for n, cell in enumerate(cells) if cell.cell_type == "markdown"]
    asked = [n for n in asked if EXERCISE.search(cells[n].source)]
    assert asked
    assert sum(tagged(cell, "solution") for cell in cells) == 2 * len(asked)
    for n in asked:
        question, solution, check, conclusion = cells[n : n + 4]
        assert "<details><summary>Hint</summary>\n\n" in question.source
        assert solution.cell_type == "code"
        assert tagged(solution, "solution")
        assert is_check(check)
        assert check.outputs[0].text == "Right.\n"
        assert conclusion.cell_type == "markdown"
        assert tagged(conclusion, "solution")
        assert len(re.findall(r"[.:](?:\s|$)", conclusion.source)) >= 2


@each_notebook
def test_a_check_waits_for_what_only_the_answer_assigns(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    others = names([cell for cell in cells if not tagged(cell, "solution")], ast.Store)
    for check in filter(is_check, cells):
        assert names([check], ast.Load) - others - set(dir(builtins)) - {"check_answer"}


@each_notebook
def test_nothing_after_a_solution_needs_it(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    rest = [cell for cell in cells if not tagged(cell, "solution")]
    solutions = [cell for cell in cells if tagged(cell, "solution")]
    only = names(solutions, ast.Store) - names(rest, ast.Store)
    assert not only & names([cell for cell in rest if not is_check(cell)], ast.Load)


@each_notebook
def test_a_students_notebook_is_valid_and_holds_no_solution(path):
    whole, students = read(path), without_solutions(read(path))
    nbformat.validate(students)
    assert [cell.id for cell in students.cells] == [cell.id for cell in whole.cells]
    code = [cell.source for cell in students.cells if cell.cell_type == "code"]
    for cell in whole.cells:
        if cell.cell_type == "code" and tagged(cell, "solution"):
            assert cell.source not in code
    assert code.count(TO_WRITE_IN) == len(code) - len(
        [cell for cell in whole.cells if cell.cell_type == "code" and cell.source in code]
    )
    assert all(not cell.get("outputs") for cell in students.cells)


def test_the_command_writes_all_of_them_once(tmp_path, capsys):
    folder = tmp_path / "class"
    assert cli.main(["students", "--out", str(folder)]) == cli.OK
    assert f"{len(NOTEBOOKS)} notebooks" in capsys.readouterr().out
    assert [path.name for path in list_notebooks(folder)] == [path.name for path in NOTEBOOKS]
    for path in NOTEBOOKS:
        (mine, *_), (theirs, *_) = read_variants(path), read_variants(folder / path.name)
        assert mine.parameters == theirs.parameters
    (folder / NOTEBOOKS[0].name).write_text("answers", encoding="utf-8")
    (folder / NOTEBOOKS[1].name).unlink()
    assert cli.main(["students", "--out", str(folder)]) == cli.BAD_ARGUMENTS
    assert "perhaps with answers" in capsys.readouterr().err
    assert (folder / NOTEBOOKS[0].name).read_text(encoding="utf-8") == "answers"
    assert not (folder / NOTEBOOKS[1].name).exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotebookError, match="cannot be written"):
        write_students(NOTEBOOKS, tmp_path / "file" / "class")


@pytest.mark.slow
def test_a_students_notebook_runs_before_it_is_answered(tmp_path):
    (path,) = [path for path in NOTEBOOKS if path.stem.startswith("02_")]
    students = without_solutions(read(path))
    (cell,) = [cell for cell in students.cells if tagged(cell, "parameters")]
    cell.source += '\nscale = "smoke"'
    NotebookClient(students, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    said = [cell.outputs[0].text for cell in students.cells if is_check(cell)]
    assert len(said) == 2
    assert all(text.startswith("Not answered yet: assign ") for text in said)
