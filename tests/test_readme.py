"""README's example works as it is printed there, and is as short as it claims to be."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return code


def test_bringing_a_device_takes_at_most_thirty_lines():
    assert len(example().strip().splitlines()) <= 30


@pytest.mark.slow
def test_the_example_trains_its_device(capsys):
    exec(compile(example(), "README.md", "exec"), {})
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 10
    accuracy = float(re.search(r"(\d+)% on the device", lines[-1])[1])
    assert accuracy > 70


def test_what_it_links_to_is_there():
    root = Path(__file__).parent.parent
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert len(links) >= 8
    assert [link for link in links if not (root / link).exists()] == []
