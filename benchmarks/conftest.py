"""Show beside the table of times what each benchmark is about: its `extra_info`, mostly ratios."""

import pytest

NOTES = pytest.StashKey[list[tuple[str, dict[str, object]]]]()


def pytest_configure(config):
    config.stash[NOTES] = []


@pytest.fixture(autouse=True)
def _keep_notes(request):
    uses = "benchmark" in request.fixturenames
    info = request.getfixturevalue("benchmark").extra_info if uses else {}
    yield
    request.config.stash[NOTES].append((request.node.name, info))


def pytest_terminal_summary(terminalreporter, config):
    for name, info in config.stash[NOTES]:
        for label, value in info.items():
            terminalreporter.write_line(f"{name}: {label} = {value}")
