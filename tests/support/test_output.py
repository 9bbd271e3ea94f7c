"""What is told is never the end of what it tells of."""

import os
import sys

import pytest

from pyro_mgvi.support.output import lasting_output


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_reader_that_has_gone_is_no_error(monkeypatch, name):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, name, stream)
        with lasting_output():
            for _ in range(3):
                print("heard by nobody" * 1000, file=getattr(sys, name), flush=True)
        assert getattr(sys, name) is stream


def test_what_a_terminal_cannot_show_is_written_as_escapes(monkeypatch, tmp_path):
    with open(tmp_path / "out", "w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        print("first")
        with lasting_output():
            print("Modell für Zürich")
        print("last")
    assert (tmp_path / "out").read_text().splitlines() == [
        "first",
        r"Modell f\xfcr Z\xfcrich",
        "last",
    ]


def test_what_is_no_file_stays_as_it_is(capsys, monkeypatch):
    before = sys.stdout
    with lasting_output():
        assert sys.stdout is before
    monkeypatch.setattr(sys, "stdout", None)  # pythonw
    with lasting_output():
        print("nothing")
