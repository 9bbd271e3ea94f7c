"""A device that is not there is refused in one line, whatever it is called."""

import pytest
import torch

from pyro_mgvi import SettingsError
from pyro_mgvi.training import Trainer
from pyro_mgvi.training.devices.accelerator import fabric


@pytest.mark.parametrize("name", ["cpu", "cpu:0", "auto"])
def test_a_device_that_is_there(name):
    assert name == "auto" or fabric(name).device == torch.device("cpu")
    fabric(name)


@pytest.mark.parametrize(
    "name", ["mps", "tpu", "nonsense", "abacus", "", "cuda:", "cuda:999", "CPU", None, 5, ["cpu"]]
)
def test_a_device_that_is_not_there(name):
    with pytest.raises(SettingsError, match=r"^accelerator .* cannot be used here: ") as caught:
        fabric(name)
    message = str(caught.value)
    assert message.startswith(f"accelerator {name!r}") and message.endswith("use 'cpu' or 'auto'")
    assert "\n" not in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["gpu", "cuda", "cuda:0", "cuda:1"])
def test_a_gpu_that_is_not_there(name, mgvi, adata, monkeypatch):
    monkeypatch.setattr(Trainer, "_epoch", None)
    with pytest.raises(SettingsError, match=rf"^accelerator '{name}' cannot be used here"):
        mgvi.fit(adata, max_epochs=1, accelerator=name, progress=False)
