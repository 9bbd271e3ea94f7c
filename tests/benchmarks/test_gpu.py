"""The script for a GPU runs to its end without one, so that no time of a GPU is lost to a slip."""

import json
from argparse import Namespace

import pytest

from benchmarks import gpu


def rehearse(path, monkeypatch, sections, budget=1e9):
    monkeypatch.setattr(gpu, "SECTIONS", sections)
    arguments = Namespace(accelerator="cpu", quick=True, budget=budget, out=path)
    gpu.run(arguments)
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of scvi-tools
def test_every_section_runs(tmp_path, monkeypatch):
    found = rehearse(tmp_path / "gpu.json", monkeypatch, gpu.SECTIONS)
    assert set(found) == {*gpu.SECTIONS, "seconds"}
    assert not [name for name in gpu.SECTIONS if isinstance(found[name], str)]
    assert found["correctness"]["relative difference of the loss"] == 0
    assert found["steps"]["128 cells a group"]["ms"]["ours"] > 0


def test_what_fails_or_comes_too_late_is_said(tmp_path, monkeypatch):
    def broken(arguments, device):
        raise ValueError("no such thing")

    sections = {"machine": gpu.machine, "broken": broken}
    found = rehearse(tmp_path / "gpu.json", monkeypatch, sections)
    assert found["machine"]["device"] == "cpu" and "no such thing" in found["broken"]
    late = rehearse(tmp_path / "gpu.json", monkeypatch, sections, budget=-1.0)
    assert late["machine"].startswith("left out")
