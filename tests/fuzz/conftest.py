"""The bench of all cases, and the table of what became of them."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fuzz.bench import Bench, Shared

OUTCOMES: Counter[tuple[str, str]] = Counter()


@pytest.fixture(scope="session")
def shared_bench(strict):
    shared = Shared(strict)
    yield shared
    shared.temporary.cleanup()


@pytest.fixture
def bench(shared_bench):
    with TemporaryDirectory(dir=shared_bench.folder) as folder:  # far cheaper than tmp_path
        yield Bench(shared_bench, Path(folder))


@pytest.fixture(scope="session")
def outcomes():
    return OUTCOMES


def pytest_terminal_summary(terminalreporter):
    if not OUTCOMES:
        return
    terminalreporter.section("malformed and unusual calls")
    kinds = list(dict.fromkeys(kind for kind, _ in OUTCOMES))
    for kind in (*kinds, None):
        found = Counter()
        for (each, outcome), n in OUTCOMES.items():
            if kind in (each, None):
                found[outcome] += n
        parts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(found.items()))
        terminalreporter.write_line(f"{kind or 'all'} {found.total()}: {parts}")
