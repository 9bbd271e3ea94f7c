"""A bar is for what takes long, and only if it has a name."""

import pytest

from pyro_mgvi.support import progress
from pyro_mgvi.support.progress import progress_bar


@pytest.mark.parametrize(
    "delay, what, shown", [(0.0, "encoding", True), (60.0, "encoding", False), (0.0, None, False)]
)
def test_a_bar_is_shown_where_it_is_wanted(monkeypatch, capsys, delay, what, shown):
    monkeypatch.setattr(progress, "DELAY", delay)
    with progress_bar(20, what, "cell") as bar:
        bar.update(5)
    said = capsys.readouterr().err
    assert ("encoding" in said and "20" in said) is shown
    assert bool(said.strip()) is shown
