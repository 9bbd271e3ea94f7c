import pytest
import torch

from pyro_mgvi.kernels.compiled import compilable, compilation


def test_without_a_compiler_the_plain_code_runs(monkeypatch, caplog):
    attempts = []

    def no_compiler(*args, **kwargs):
        def fail(*args):
            attempts.append(args)
            raise RuntimeError("no compiler")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    function = compilable(plain=lambda x: x + 1)(lambda x: x + 1)
    with compilation(True):
        assert function(torch.tensor(1.0)) == 2
        assert "no compiler" in caplog.text
        assert function(torch.tensor(2.0)) == 3
    assert len(attempts) == 1  # found once, then never tried again


def test_arguments_at_fault_are_no_reason_to_stop_compiling(monkeypatch):
    compiled = []

    def compiler(function, **kwargs):
        def run(*args):
            compiled.append(args)
            return function(*args)

        return run

    monkeypatch.setattr(torch, "compile", compiler)
    function = compilable(plain=lambda x, y: x @ y)(lambda x, y: x @ y)
    one, two = torch.ones(1, 1), torch.ones(2, 2)
    assert function(one, one) == 1 and not compiled  # outside of a compilation
    with compilation(True):
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            function(one, two)
        assert function(one, one) == 1
    assert len(compiled) == 2
