"""What a GPU gives: correctness against the CPU, step times, a fit, memory and a profile, as JSON.

    python -m benchmarks.gpu --out gpu.json                         # at most 6 minutes
    python -m benchmarks.gpu --quick --accelerator cpu --out try.json  # a rehearsal without one

Each section is written as soon as it is done; what fails, is not installed or would come too late
is in the JSON with the reason. Step times are of ours and of scvi-tools' ContrastiveVI in turns,
with the counts of both on the device; beside them ContrastiveVI with counts in the host's memory.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from anndata import AnnData
from torch.profiler import ProfilerActivity, profile

from benchmarks.recorded_steps import RecordedSteps
from benchmarks.training_steps import Step, grouped_counts
from pyro_mgvi import MGVI, TrainingPlan
from pyro_mgvi.data import Minibatch
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.kernels.compiled import compilation
from pyro_mgvi.training.devices.accelerator import fabric
from pyro_mgvi.training.objective import Objective

BUDGET = 345.0  # seconds after which no section begins
GENES, DENSITY = 2000, 0.1
Section = Callable[[argparse.Namespace, torch.device], dict[str, Any]]


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine(_arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Say what this is run on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "device": str(device),
        "name": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


@contextmanager
def same_noise() -> Iterator[None]:
    """Draw the posterior's noise on the CPU from one seed, wherever it is needed."""
    normal, generator = torch.distributions.normal, torch.Generator().manual_seed(0)
    real = normal._standard_normal
    normal._standard_normal = lambda shape, dtype, device: torch.randn(
        shape, dtype=dtype, generator=generator
    ).to(device)
    try:
        yield
    finally:
        normal._standard_normal = real


def correctness(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Compare loss and gradients of a step, and latents, with the CPU's."""
    adata = grouped_counts(512, 200 if arguments.quick else GENES, 3, DENSITY)
    found = []
    for place in ("cpu", str(device)):
        mgvi = MGVI.from_anndata(adata, "group", seed=0).to(place)
        setup = mgvi.training_setup(adata, TrainingPlan(batch_size=256))
        objective = Objective(setup.model, setup.guide, setup.elbo).eval()  # without drop-out
        batch = next(setup.minibatches(0))
        with local(), same_noise():
            loss = sum(objective(*batch).values()) / len(setup.data)
        loss.backward()
        gradients = {k: p.grad.cpu() for k, p in objective.named_parameters() if p.grad is not None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is not trained
            latents = mgvi.latents(adata, foreign="encode")
        found.append((float(loss.detach()), gradients, latents))
    (loss, gradients, latents), (there, gradients_there, latents_there) = found
    apart = {
        k: float((g - gradients_there[k]).norm() / g.norm().clamp(min=1e-12))
        for k, g in gradients.items()
    }
    worst = max(apart, key=apart.__getitem__)
    return {
        "loss on the CPU": loss,
        "relative difference of the loss": abs(there / loss - 1),
        "largest relative difference of a gradient": {worst: apart[worst]},
        "largest difference of a latent": max(
            float(np.abs(latents[k].to_numpy() - latents_there[k].to_numpy()).max())
            for k in latents
        ),
    }


@contextmanager
def local() -> Iterator[None]:
    """Run modules as training does."""
    with pyro.settings.context(module_local_params=True), pyro.validation_enabled(False):
        yield


def our_steps(
    adata: AnnData, size: int, device: torch.device, recorded: bool = True, compiled: bool = False
) -> Callable[[], dict[str, torch.Tensor]]:
    """Return a function that takes a training step as ``fit`` does, minibatch included."""
    mgvi = MGVI.from_anndata(adata, "group", seed=0).to(str(device))
    setup = mgvi.training_setup(adata, TrainingPlan(batch_size=size, validation_fraction=0.0))
    objective = Objective(setup.model, setup.guide, setup.elbo).train()
    on_gpu = device.type == "cuda"
    adam = torch.optim.Adam(objective.parameters(), lr=1e-4, fused=True, capturable=on_gpu)
    batches = (b for epoch in count() for b in setup.minibatches(epoch, keep_sparse=not on_gpu))

    def plain(batch: Minibatch) -> dict[str, torch.Tensor]:
        terms: dict[str, torch.Tensor] = objective(*batch)
        adam.zero_grad()
        loss: Any = sum(terms.values()) / len(setup.data)
        loss.backward()
        adam.step()
        return {name: term.detach() for name, term in terms.items()}

    take = RecordedSteps(plain, device) if recorded else plain

    def step() -> dict[str, torch.Tensor]:
        with local(), compilation(compiled):
            return take(next(batches))

    return step


def their_steps(adata: AnnData, size: int, device: torch.device, resident: bool) -> Step:
    """Return a function that takes a training step of ContrastiveVI, minibatch included."""
    from scvi.external import ContrastiveVI

    ContrastiveVI.setup_anndata(adata)
    module = ContrastiveVI(adata, use_observed_lib_size=False).module.to(device).train()
    adam = torch.optim.Adam(module.parameters(), lr=1e-4, eps=0.01, weight_decay=1e-6)
    x_ng = torch.from_numpy(adata.X.toarray().astype(np.float32))
    x_ng = x_ng.to(device) if resident else x_ng
    groups = adata.obs["group"].to_numpy()
    rows = {
        name: torch.from_numpy(np.flatnonzero(groups == group)).to(x_ng.device)
        for name, group in (("background", "g0"), ("target", "g1"))
    }

    def step() -> None:
        tensors = {}
        for name, candidates in rows.items():
            order = torch.randperm(len(candidates), device=candidates.device)[: size // 2]
            x = x_ng[candidates[order]].to(device)
            zero = torch.zeros(len(x), 1, device=device)
            tensors[name] = {"X": x, "batch": zero.long(), "labels": zero}
        loss = module(tensors, loss_kwargs={"kl_weight": 1.0})[-1].loss
        adam.zero_grad()
        loss.backward()
        adam.step()

    return step


def steps(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Time steps in turns, at 128 and 1,024 cells of each of two groups."""
    found: dict[str, Any] = {}
    in_a_turn, turns = (2, 2) if arguments.quick else (20, 15)
    for per_group in (128,) if arguments.quick else (128, 1024):
        size = 2 * per_group
        adata = grouped_counts(4 * size, GENES, 2, DENSITY)
        kinds: dict[str, Callable[[], object]] = {
            "ours": our_steps(adata, size, device),
            "ours, compiled": our_steps(adata, size, device, compiled=True),
            "ours, no CUDA graph": our_steps(adata, size, device, recorded=False),
        }
        reason = None
        try:
            kinds["ContrastiveVI"] = their_steps(adata, size, device, resident=True)
            kinds["ContrastiveVI, counts on the host"] = their_steps(adata, size, device, False)
        except ImportError as error:
            reason = f"left out: {error}"
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        peak: dict[str, float] = {}
        for turn in range(2 + turns):
            for name, step in kinds.items():
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                synchronize(device)
                start = time.perf_counter()
                for _ in range(in_a_turn):
                    step()
                synchronize(device)
                if turn >= 2:
                    seconds[name].append((time.perf_counter() - start) / in_a_turn)
                if device.type == "cuda":
                    peak[name] = torch.cuda.max_memory_allocated(device) / 1e6
        medians = {name: float(np.median(each)) for name, each in seconds.items()}
        row: dict[str, Any] = {"ms": {k: 1e3 * v for k, v in medians.items()}}
        row["cells per second"] = {k: size / v for k, v in medians.items()}
        row["peak MB, counts of all included"] = peak or "no GPU"
        row["times ContrastiveVI's cells per second"] = reason or {
            name: medians["ContrastiveVI"] / seconds for name, seconds in medians.items()
        }
        found[f"{per_group} cells a group"] = row
    return found


def graphs(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Compare steps recorded as CUDA graphs with steps taken one by one: equal losses."""
    adata, losses = grouped_counts(1000, GENES, 3, DENSITY), []
    for recorded in (False, True):
        step = our_steps(adata, 128, device, recorded)
        torch.manual_seed(0)
        losses.append([float(sum(step().values())) for _ in range(10 if arguments.quick else 60)])
    plain, found = map(np.array, losses)
    return {"largest relative difference of a loss": float(np.abs(found / plain - 1).max())}


def fits(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Fit by the defaults, there and on the CPU, by held-out loss and seconds: seeds in pairs."""
    adata = clear_recipe(seed=0, n_cells=300 if arguments.quick else 3000)
    epochs = 3 if arguments.quick else None
    found: dict[str, Any] = {}
    for place, seed in product((str(device), "cpu"), range(3)):
        mgvi = MGVI.from_anndata(adata, "group", seed=seed)
        synchronize(device)
        start = time.perf_counter()
        mgvi.fit(adata, max_epochs=epochs, accelerator=place, progress=False)
        synchronize(device)
        print(f"fit on {place}, seed {seed}: {time.perf_counter() - start:.1f} s", flush=True)
        found[f"{place}, seed {seed}"] = {
            "seconds": time.perf_counter() - start,
            "epochs": len(mgvi.history),
            "held-out loss": float(mgvi.history["validation"].min()),
        }
    return found


def profiled(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Profile steps: the operations that take most, and how busy the device is."""
    adata = grouped_counts(1024, GENES, 2, DENSITY)
    step, n = our_steps(adata, 256, device, recorded=False), 2 if arguments.quick else 10
    for _ in range(5):
        step()
    synchronize(device)
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with warnings.catch_warnings(), profile(activities=activities) as trace:
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        for _ in range(n):
            step()
        synchronize(device)
        wall = time.perf_counter() - start
    events = trace.key_averages()
    on_gpu = device.type == "cuda"

    def own(event: Any) -> float:
        return event.self_device_time_total if on_gpu else event.self_cpu_time_total

    top = sorted(events, key=own, reverse=True)[:20]
    return {
        "ms a step, profiled": 1e3 * wall / n,
        "share of the time that operations take": sum(map(own, events)) / (1e6 * wall),
        "launches a step": sum(e.count for e in events if e.key == "cudaLaunchKernel") / n,
        "waits a step": sum(e.count for e in events if "Synchronize" in e.key) / n,
        "ms a step by operation": {event.key: own(event) / 1e3 / n for event in top},
    }


SECTIONS: dict[str, Section] = {
    "machine": machine,
    "correctness": correctness,
    "graphs": graphs,
    "steps": steps,
    "profile": profiled,
    "fits": fits,
}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run section after section, and write what there is after each."""
    start, found = time.perf_counter(), {}
    device = fabric(arguments.accelerator).device
    for name, section in SECTIONS.items():
        passed = time.perf_counter() - start
        try:
            found[name] = f"left out: {passed:.0f} s had passed"
            if passed <= arguments.budget:
                found[name] = section(arguments, device)
        except Exception as error:  # the other sections are worth having
            found[name] = f"failed: {error!r}"
        found["seconds"] = time.perf_counter() - start
        arguments.out.write_text(json.dumps(found, indent=1))
        print(f"{name}: {json.dumps(found[name], indent=1)}", flush=True)
    return found


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: every section, tiny")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
