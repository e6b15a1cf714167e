"""What is stored in the notebooks: complete, lean, and checked by nbval for real.

Nothing runs here. Each rule is a function that lists the faults of one notebook; the last test
breaks a sound notebook in every way that a rule forbids, and sees the rule find it.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from pnnlab.results.notebooks import choose

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

KNOWN_TAGS = {
    "nbval-check-output",
    "nbval-ignore-output",
    "nbval-skip",
    "parameters",
    "solution",
}
FEWEST_CHECKED = 3
LARGEST_OUTPUT = 150_000  # bytes
LARGEST_NOTEBOOK = 210_000  # bytes
LONGEST_CELL = 25  # lines of code
NOT_COMPARED = {"image/jpeg", "image/png", "application/vnd.jupyter.widget-view+json"}
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.~/+])/(?:home|Users|root|tmp|var|usr|opt|mnt|srv|private|work|workspace)/\w"
    r"|\b[A-Z]:\\\\?\w"
)

Rule = Callable[[NotebookNode], Iterator[str]]


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def first_line(cell: NotebookNode) -> str:
    return cell.source.strip().partition("\n")[0]


def texts(output: NotebookNode) -> Iterator[str]:
    """Text that a reader, or nbval, sees of an output; pictures are left out."""
    yield output.get("text", "")
    yield from output.get("traceback", [])
    for kind, value in output.get("data", {}).items():
        if not kind.startswith("image/"):
            yield value if isinstance(value, str) else json.dumps(value)


def is_compared(output: NotebookNode) -> bool:
    """Whether nbval finds something in this output that can differ."""
    if output.output_type == "stream":
        return bool(output.text.strip())
    data = {key: value for key, value in output.get("data", {}).items() if key not in NOT_COMPARED}
    only_a_figure = data.keys() == {"text/plain"} and data["text/plain"].startswith("<Figure")
    return bool(data) and not only_a_figure


def one_cell_of_literal_parameters(notebook: NotebookNode) -> Iterator[str]:
    tagged = [cell for cell in code_cells(notebook) if "parameters" in tags(cell)]
    if len(tagged) != 1:
        yield f"{len(tagged)} code cells are tagged parameters; it must be one"
        return
    values = {}
    for statement in ast.parse(tagged[0].source).body:
        try:
            assert isinstance(statement, ast.Assign)
            (target,) = statement.targets
            assert isinstance(target, ast.Name)
            values[target.id] = ast.literal_eval(statement.value)
        except (AssertionError, ValueError):
            yield f"not `name = literal`, so papermill cannot set it: {ast.unparse(statement)}"
    for name in sorted({"out", "scale", "seed"} - values.keys()):
        yield f"no parameter {name}"
    if values.get("scale", "quick") != "quick":
        yield f"stored with scale = {values['scale']!r}; store it with 'quick'"


def run_from_top_to_bottom(notebook: NotebookNode) -> Iterator[str]:
    for cell in code_cells(notebook):
        if cell.execution_count is None and "nbval-skip" not in tags(cell):
            yield f"not executed: {first_line(cell)}"
    counts = [cell.execution_count for cell in code_cells(notebook) if cell.execution_count]
    if counts != list(range(1, len(counts) + 1)):
        yield f"not executed in order in a fresh kernel: counts are {counts}"


def no_errors(notebook: NotebookNode) -> Iterator[str]:
    """An error on purpose is caught and printed: papermill would stop at it."""
    for cell in code_cells(notebook):
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"ends in an error: {first_line(cell)}"


def checked_outputs_exist(notebook: NotebookNode) -> Iterator[str]:
    checked = [cell for cell in code_cells(notebook) if "nbval-check-output" in tags(cell)]
    if len(checked) < FEWEST_CHECKED:
        yield f"{len(checked)} cells are tagged nbval-check-output; at least {FEWEST_CHECKED} must"
    for cell in checked:
        if not any(is_compared(output) for output in cell.outputs):
            yield f"checked, but holds nothing that nbval compares: {first_line(cell)}"


def known_lower_case_tags(notebook: NotebookNode) -> Iterator[str]:
    for cell in notebook.cells:
        for tag in sorted(set(tags(cell)) - KNOWN_TAGS):
            yield f"tag {tag!r} is none of {', '.join(sorted(KNOWN_TAGS))}: {first_line(cell)}"
        if re.search(r"^#\s*(NBVAL_|PYTEST_VALIDATE_)", cell.source, re.MULTILINE):
            yield f"a comment instructs nbval; use a tag: {first_line(cell)}"


def no_widget_state(notebook: NotebookNode) -> Iterator[str]:
    if "widgets" in notebook.metadata:
        yield "widget state is stored"


def lean(notebook: NotebookNode) -> Iterator[str]:
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if (size := len(json.dumps(output))) > LARGEST_OUTPUT:
                yield f"an output of {size} bytes, above {LARGEST_OUTPUT}: {first_line(cell)}"
    if (size := len(nbformat.writes(notebook).encode())) > LARGEST_NOTEBOOK:
        yield f"{size} bytes, above {LARGEST_NOTEBOOK}"


def short_cells(notebook: NotebookNode) -> Iterator[str]:
    """What is longer is machinery, and belongs in the package, or is two steps."""
    for cell in code_cells(notebook):
        if (lines := len(cell.source.splitlines())) > LONGEST_CELL:
            yield f"a cell of {lines} lines, above {LONGEST_CELL}: {first_line(cell)}"


def no_absolute_paths(notebook: NotebookNode) -> Iterator[str]:
    for cell in notebook.cells:
        shown = [text for output in cell.get("outputs", []) for text in texts(output)]
        for text in (cell.source, *shown):
            if found := ABSOLUTE_PATH.search(text):
                yield f"absolute path near {text[found.start() :][:40]!r}: {first_line(cell)}"


def every_exercise_has_its_solution(notebook: NotebookNode) -> Iterator[str]:
    """A heading that begins with "Exercise" waits for a solution before the next one."""
    waiting = None
    for cell in notebook.cells:
        heading = re.search(r"^#+\s+exercise\b.*", cell.source, re.IGNORECASE | re.MULTILINE)
        if cell.cell_type == "markdown" and heading:
            if waiting:
                yield f"no cell tagged solution after {waiting}"
            waiting = heading[0]
        elif cell.cell_type == "code" and "solution" in tags(cell):
            waiting = None
            if "nbval-skip" in tags(cell):
                yield f"a solution that nobody runs: {first_line(cell)}"
    if waiting:
        yield f"no cell tagged solution after {waiting}"


def opens_anywhere(notebook: NotebookNode) -> Iterator[str]:
    name = notebook.metadata.get("kernelspec", {}).get("name")
    if name != "python3":
        yield f"its kernel is {name!r}, which others do not have; store it with python3"


def variants_are_of_parameters(notebook: NotebookNode) -> Iterator[str]:
    """Variants, which `pnnlab run` runs in turn, differ in parameters, and one is stored."""
    variants = notebook.metadata.get("pnnlab", {}).get("variants", {})
    if len(variants) > 1:
        yield f"variants by {', '.join(variants)}; one parameter makes them"
    (cell, *_) = [cell for cell in code_cells(notebook) if "parameters" in tags(cell)] or [None]
    defaults = {}
    for line in ast.parse(cell.source).body if cell else []:
        name, _, value = ast.unparse(line).partition(" = ")
        defaults[name] = value
    for name, values in variants.items():
        if defaults.get(name) not in map(repr, values):
            yield f"stored with {name} = {defaults.get(name)}, which is no variant"
        for value, others in values.items():
            if unknown := sorted({name, *others} - defaults.keys()):
                yield f"variant {value} sets {', '.join(unknown)}, no parameters"


def runs_named_after_every_parameter(notebook: NotebookNode) -> Iterator[str]:
    """A run's folder is named after all that makes a training another one."""
    keepers = [
        function
        for cell in code_cells(notebook)
        if "Run." in cell.source
        for function in ast.walk(ast.parse(cell.source))
        if isinstance(function, ast.FunctionDef)
    ]
    named = {
        key.value
        for keeper in keepers
        if "Run.open" in ast.unparse(keeper)
        for part in ast.walk(keeper)
        if isinstance(part, ast.Dict)
        for key in part.keys
        if isinstance(key, ast.Constant)
    }
    if not named:
        if any(re.search(r"\bRun\.", cell.source) for cell in code_cells(notebook)):
            yield "a run without parameters; open it with Run.open(…, parameters=…)"
        return
    (cell,) = [cell for cell in code_cells(notebook) if "parameters" in tags(cell)]
    for statement in ast.parse(cell.source).body:
        name = ast.unparse(statement).split(" = ")[0]
        # Of several, such as methods, each training has one; all runs of a scale lie in its folder.
        if not {name, name.removesuffix("s")} & {*named, "out", "scale"}:
            yield f"runs that differ in {name!r} share a folder; give it to Run.open"


RULES: list[Rule] = [
    checked_outputs_exist,
    every_exercise_has_its_solution,
    known_lower_case_tags,
    lean,
    no_absolute_paths,
    no_errors,
    no_widget_state,
    one_cell_of_literal_parameters,
    opens_anywhere,
    run_from_top_to_bottom,
    runs_named_after_every_parameter,
    short_cells,
    variants_are_of_parameters,
]


def test_there_are_notebooks():
    assert NOTEBOOKS
    badly_named = [p.name for p in NOTEBOOKS if not re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", p.name)]
    assert not badly_named
    numbers = [path.stem.partition("_")[0] for path in NOTEBOOKS]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebook(path, rule):
    assert not list(rule(nbformat.read(path, as_version=4)))


def linked(cell: NotebookNode) -> list[str]:
    """Notebooks that a cell links to."""
    return re.findall(r"\]\(([^)\s]+\.ipynb)\)", cell.source)


def markdown_cells(path: Path) -> list[NotebookNode]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "markdown"]


def test_each_notebook_closes_with_a_link_to_the_next():
    """So every notebook but the first is linked to, and a reader meets them all in their order."""
    for path, following in pairwise(NOTEBOOKS):
        closing = markdown_cells(path)[-1]
        assert closing.source.startswith("**Next:**"), path.name
        assert linked(closing) == [following.name], path.name


def test_links_between_notebooks_lead_somewhere():
    links = {link for path in NOTEBOOKS for cell in markdown_cells(path) for link in linked(cell)}
    assert links <= {path.name for path in NOTEBOOKS}


def test_notebooks_are_stripped_of_noise():
    """What the commit hook would take out is not in."""
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    hooks = yaml.safe_load(config)["repos"][0]["hooks"]
    (arguments,) = [hook["args"] for hook in hooks if hook["id"] == "nbstripout"]
    command = [sys.executable, "-m", "nbstripout", "--verify", *arguments, *map(str, NOTEBOOKS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `make hooks`, or nbstripout by hand:\n{done.stdout}"


def sound() -> NotebookNode:
    """Build the smallest notebook without a fault."""
    literals = 'scale = "quick"  # how much\nout = "results"\nseed = 0'
    cells = [new_code_cell(literals, metadata={"tags": ["parameters"]}, execution_count=1)]
    for count in (2, 3, 4):
        output = new_output("execute_result", data={"text/plain": f"'{count} devices'"})
        checked = {"tags": ["nbval-check-output"]}
        cells.append(
            new_code_cell("count()", metadata=checked, execution_count=count, outputs=[output])
        )
    cells.append(new_markdown_cell("## Exercise 1\n\nSee https://example.org/home/page."))
    cells.append(new_code_cell("pass", metadata={"tags": ["solution"]}, execution_count=5))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def stream(text: str) -> NotebookNode:
    return new_output("stream", name="stdout", text=text)


FAULTS: list[tuple[Rule, Callable[[NotebookNode], object]]] = [
    (checked_outputs_exist, lambda nb: nb.cells[1].metadata.tags.clear()),
    (checked_outputs_exist, lambda nb: nb.cells[1].outputs.clear()),
    (checked_outputs_exist, lambda nb: nb.cells[1].update(outputs=[stream("\n")])),
    (
        checked_outputs_exist,
        lambda nb: (
            nb.cells[1]
            .outputs[0]
            .update(data={"image/png": "iVBO", "text/plain": "<Figure size 640x480 with 1 Axes>"})
        ),
    ),
    (every_exercise_has_its_solution, lambda nb: nb.cells[5].metadata.tags.clear()),
    (every_exercise_has_its_solution, lambda nb: nb.cells[5].metadata.tags.append("nbval-skip")),
    (every_exercise_has_its_solution, lambda nb: nb.cells.insert(4, nb.cells[4])),
    (known_lower_case_tags, lambda nb: nb.cells[1].metadata.tags.append("NBVAL_SKIP")),
    (known_lower_case_tags, lambda nb: nb.cells[4].metadata.update(tags=["hidden"])),
    (known_lower_case_tags, lambda nb: nb.cells[1].update(source="# NBVAL_SKIP\ncount()")),
    (lean, lambda nb: nb.cells[1].outputs.append(stream("a" * LARGEST_OUTPUT))),
    (lean, lambda nb: nb.cells[1].update(outputs=[stream("a" * 140_000)] * 8)),
    (no_absolute_paths, lambda nb: nb.cells[5].update(source=f"open('/{'home'}/ada/x.npz')")),
    (no_absolute_paths, lambda nb: nb.cells[5].outputs.append(stream("at /tmp/ipykernel_1/2.py"))),
    (no_absolute_paths, lambda nb: nb.cells[4].update(source="see C:" + r"\Users\ada")),
    (no_errors, lambda nb: nb.cells[1].outputs.append(new_output("error", ename="E", evalue="e"))),
    (no_widget_state, lambda nb: nb.metadata.update(widgets={})),
    (one_cell_of_literal_parameters, lambda nb: nb.cells[0].metadata.tags.clear()),
    (one_cell_of_literal_parameters, lambda nb: nb.cells[1].metadata.tags.append("parameters")),
    (one_cell_of_literal_parameters, lambda nb: nb.cells[0].update(source="scale = 'quick'")),
    (
        one_cell_of_literal_parameters,
        lambda nb: nb.cells[0].update(source=nb.cells[0].source.replace("quick", "paper")),
    ),
    (
        one_cell_of_literal_parameters,
        lambda nb: nb.cells[0].update(source=nb.cells[0].source + "\nsteps = 2 * seed"),
    ),
    (
        one_cell_of_literal_parameters,
        lambda nb: nb.cells[0].update(source=nb.cells[0].source + "\nprint(seed)"),
    ),
    (opens_anywhere, lambda nb: nb.metadata.kernelspec.update(name="pnnlab-dev")),
    (run_from_top_to_bottom, lambda nb: nb.cells[2].update(execution_count=None)),
    (run_from_top_to_bottom, lambda nb: nb.cells[2].update(execution_count=7)),
    (short_cells, lambda nb: nb.cells[1].update(source="\n".join(["pass"] * 26))),
    (
        variants_are_of_parameters,
        lambda nb: nb.metadata.update(pnnlab={"variants": {"scale": {"smoke": {}}}}),
    ),
    (
        variants_are_of_parameters,
        lambda nb: nb.metadata.update(pnnlab={"variants": {"scale": {"quick": {"rate": 1}}}}),
    ),
    (
        variants_are_of_parameters,
        lambda nb: nb.metadata.update(
            pnnlab={"variants": {"out": {"results": {}}, "scale": {"quick": {}}}}
        ),
    ),
    (
        runs_named_after_every_parameter,
        lambda nb: nb.cells[2].update(source="run = Run.open('runs', training)"),
    ),
    (
        runs_named_after_every_parameter,
        lambda nb: nb.cells[2].update(
            source="def keep(method):\n    return Run.open(out, it, parameters={'method': method})"
        ),
    ),
]


def test_a_sound_notebook_has_no_faults():
    assert not [fault for rule in RULES for fault in rule(sound())]


@pytest.mark.parametrize(
    ("rule", "spoil"),
    FAULTS,
    ids=[f"{rule.__name__}-{number}" for number, (rule, _) in enumerate(FAULTS)],
)
def test_each_fault_is_found(rule, spoil):
    notebook = sound()
    spoil(notebook)
    assert list(rule(notebook))


def test_sound_variants_have_no_faults():
    notebook = sound()
    notebook.metadata["pnnlab"] = {"variants": {"scale": {"quick": {}, "smoke": {"seed": 1}}}}
    assert not list(variants_are_of_parameters(notebook))


def test_the_images_are_read_by_four_systems():
    (path,) = [path for path in NOTEBOOKS if path.stem.startswith("06_")]
    names = [one.name for one in choose(NOTEBOOKS, ["06"])]
    assert sorted(names) == [
        f"{path.stem}_{system}" for system in ("circuit", "hybrid", "oscillators", "plate")
    ]


def test_no_rule_goes_untried():
    assert {rule for rule, _ in FAULTS} == set(RULES)
