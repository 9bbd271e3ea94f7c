"""Deliberate faults: is each of them caught by the tests?

    python -m benchmarks.mutations [--only PART] [--jobs 2]

Each mutation replaces one text of the package in a copy of the checkout, and runs the quick tests that
mirror the file (all quick tests if these do not notice). Printed is what was caught, by which tests.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Mutation(NamedTuple):
    """One fault: in which file which text becomes which, and the tests that should notice."""

    what: str
    file: str
    old: str
    new: str
    tests: str


def _m(what: str, file: str, old: str, new: str, tests: str) -> Mutation:
    return Mutation(what, f"pyro_mgvi/{file}", old, new, tests)


MUTATIONS = (
    # core: penalty, divergence, ownership
    _m("sign of the penalty", "core/elbo.py", "yield name, gap.expand(guide_site[\"fn\"].batch_shape).sum()", "yield name, -gap.expand(guide_site[\"fn\"].batch_shape).sum()", "core model"),
    _m("W2 without the variance", "core/divergence.py", "(posterior.mean - prior.v) ** 2 + posterior.variance", "(posterior.mean - prior.v) ** 2", "core"),
    _m("direction of the KL", "core/divergence.py", "    return kl_divergence(posterior, prior)\n\n\n@divergence.register(dist.Delta)", "    return kl_divergence(prior, posterior)\n\n\n@divergence.register(dist.Delta)", "core"),
    _m("own and foreign prior swapped", "core/divergence.py", "(prior.component1, prior.component0)", "(prior.component0, prior.component1)", "core model"),
    _m("own and foreign weight swapped", "core/elbo.py", "owned * own + (1 - owned) * foreign", "owned * foreign + (1 - owned) * own", "core test_faults.py"),
    _m("scale of a subsampled plate forgotten", "core/elbo.py", "gap = scale_and_mask(gap, guide_site[\"scale\"], guide_site[\"mask\"])", "gap = scale_and_mask(gap, 1.0, guide_site[\"mask\"])", "core model"),
    _m("absent prior not masked", "core/priors.py", "own.expand(member.shape).mask(member)", "own.expand(member.shape).mask(member | True)", "core"),
    _m("membership complemented", "core/latents.py", "[[group in subset for group in groups]", "[[group not in subset for group in groups]", "core"),
    _m("copies of one key are let through", "core/copies.py", "        if twice:\n", "        if False:\n", "core test_faults.py"),
    _m("a slash stays in keys", "core/copies.py core/latents.py", '.replace("/", "_")', "", "core test_faults.py"),
    _m("foreign cells not weighted up", "core/foreign_sampling.py", "stands_for.where(~member_sn, 1.0)", "torch.ones_like(stands_for.where(~member_sn, 1.0))", "core"),
    _m("proper priors keep the Dirac", "core/priors.py", "    return owners_prior(prior.component1)", "    return owners_prior(prior.component0)", "core"),
    # kernels
    _m("ZINB: lgamma of x+theta misses one", "kernels/zinb_terms.py", "torch.lgamma(x_ng + theta) - torch.lgamma(theta)", "torch.lgamma(x_ng + theta + 1) - torch.lgamma(theta)", "likelihoods kernels"),
    _m("ZINB: gradient of theta", "kernels/zinb_terms.py", "d_theta = grad.unsqueeze(0) @ d_theta", "d_theta = 0.5 * grad.unsqueeze(0) @ d_theta", "kernels likelihoods"),
    _m("sparse product without the centre", "kernels/sparse.py", "bias_i - input_g @ w_i", "bias_i", "kernels"),
    _m("Cauchy gradient of half the size", "kernels/log_cauchy.py", "(-2 * grad)", "(-1 * grad)", "kernels"),
    _m("dropout does not scale up", "kernels/dropout.py", "(1 / (1 - rate))", "1.0", "kernels"),
    _m("mixture of simplexes not normalised", "kernels/simplex.py", " - math.log(len(simplexes))", "", "networks likelihoods"),
    # model
    _m("gate missing in the decoder", "model/generative.py", "values[latent.name] * self.member(latent, group_n).unsqueeze(-1)", "values[latent.name]", "model core"),
    _m("offset of another group", "model/generative.py", "group, group_weights = group_n, one_hot(group_n, len(self.latents.groups))", "group, group_weights = group_n, one_hot((group_n + 1) % len(self.latents.groups), len(self.latents.groups))", "model networks"),
    _m("library prior of another batch", "model/generative.py", "self.log_library_b2[batch_n if batch_n is not None else [0] * n]", "self.log_library_b2[(batch_n * 0) if batch_n is not None else [0] * n]", "model core"),
    _m("inactive dimensions stay open in the prior", "model/generative.py", "        if not active_sd.all():\n            closed", "        if False:\n            closed", "model training"),
    _m("size of the plate off", "model/structure.py", 'pyro.plate("cells", n_cells, subsample', 'pyro.plate("cells", n_cells + len(index_n), subsample', "model test_faults.py"),
    _m("a deep copy shares names", "model/structure.py", "self._pyro_name = self._unique_name()  # a copy", "pass  # a copy", "test_faults.py"),
    _m("draws ignore inactive dimensions", "model/posterior.py", "(loc + scale * noise) * self._active(latent.name)", "(loc + scale * noise)", "model test_faults.py"),
    _m("divergence of closed dimensions counts", "model/posterior.py", "return value.where(self._active(name), 0.0)", "return value", "model training"),
    _m("log ratio of foreign copies counts", "model/posterior.py", "ratio.where(self.owned(name), 0.0).sum(0)", "ratio.sum(0)", "criticism extension"),
    _m("hidden genes leak through the total", "model/guide.py", "to_dense(self.input(counts, total_n)) * seen_g", "to_dense(self.input(counts)) * seen_g", "model"),
    _m("encoders see raw counts", "model/guide.py", "torch.log1p(counts_ng * factor_n1) - input_g", "counts_ng - input_g", "model core"),
    _m("kept and left-out copies swapped", "model/decoding.py", "copy.key in self.kept for copy in copies", "copy.key not in self.kept for copy in copies", "analysis"),
    _m("own offset where averaged was asked", "model/decoding.py", "        if self.averaged:\n", "        if False:\n", "analysis"),
    _m("weight of the divergence without genes", "model/own_weight.py", "(initial.n_genes / max(owners, 1.0)) ** 0.5", "(1.0 / max(owners, 1.0)) ** 0.5", "model"),
    # data
    _m("validation cells are trained on", "data/minibatch.py", "return np.flatnonzero(~held_out), np.flatnonzero(held_out)", "return np.arange(len(held_out)), np.flatnonzero(held_out)", "data training"),
    _m("split off by one", "data/minibatch.py", "n_out = min(round(fraction * len(cells)), max(0, len(cells) - 2))", "n_out = min(round(fraction * len(cells)) + 1, max(0, len(cells) - 2))", "data"),
    _m("genes not put in the model's order", "data/reading.py", "x = columns(matrix(adata, source), order)", "x = columns(matrix(adata, source), np.sort(order))", "data"),
    _m("groups coded in order of appearance", "data/matching.py", "return recoded", "return code_n", "data"),
    _m("a view hands out other cells", "data/grouped_counts.py", "cells if self._rows is None else self._rows[cells])\n", "cells)\n", "data test_faults.py"),
    _m("negative counts pass", "data/checks.py", "bad = values < 0\n", "bad = values < -1\n", "data"),
    _m("dispersion upside down", "data/moments.py", "tensor(np.log(np.clip(theta_g, 0.05, 100.0)))", "tensor(-np.log(np.clip(theta_g, 0.05, 100.0)))", "data"),
    _m("group offsets upside down", "data/moments.py", "offset_bg = np.log((totals_bg + PSEUDOCOUNT) / (expected_bg + PSEUDOCOUNT))", "offset_bg = np.log((expected_bg + PSEUDOCOUNT) / (totals_bg + PSEUDOCOUNT))", "data networks"),
    # training
    _m("weights of the last epoch are kept", "training/trainer.py", 'if row[self.monitored] < self.best["loss"]:', "if True:", "training"),
    _m("pruning of everything above the threshold", "training/search/pruning.py", "divergence_sd < threshold", "divergence_sd > threshold", "training"),
    _m("a search without others to compare with", "training/search/pairs.py", "    if others is not None:\n        mean_others", "    if False:\n        mean_others", "training"),
    _m("refits forget the plan", "analysis/cross_fit.py", "chosen_plan(plan, max_epochs, mgvi.plan)", "chosen_plan(plan, max_epochs)", "test_faults.py"),
    _m("a checkpoint of other counts is taken", "training/checkpoint.py", '"counts": _counts(setup),', '"counts": "",', "test_faults.py training"),
    _m("the added group starts at zero offset", "training/add_group.py", "    changed[-1] += torch.as_tensor(shift_g, dtype=offset.dtype)\n", "    changed[-1] = 0.0\n", "training"),
    # analysis
    _m("q-values not monotone", "analysis/efficient_scores.py", "q_g[known] = false_discovery_control(p_values)", "q_g[known] = np.minimum(1.0, p_values * known.sum())", "analysis"),
    _m("one-sided p-value not doubled", "analysis/efficient_scores.py", "np.minimum(1.0, 2 * norm.sf(z_g[known]))", "norm.sf(z_g[known])", "analysis"),
    _m("folds swapped: tested on seen cells", "analysis/cross_fit.py", "np.flatnonzero(fold_n != fold)", "np.flatnonzero(fold_n == fold)", "analysis"),
    _m("Bayes factor upside down", "analysis/ranking.py", "gain_ng = with_all - with_less", "gain_ng = with_less - with_all", "analysis"),
    _m("worth without the divergence", "analysis/diagnosis.py", "with_all - posterior.log_likelihood(values) - kl", "with_all - posterior.log_likelihood(values)", "analysis"),
    _m("foreign latents reported", "analysis/latent_values.py", "owned_sn.unsqueeze(-1), torch.nan if", "torch.ones_like(owned_sn).unsqueeze(-1), torch.nan if", "test_mgvi.py analysis"),
    _m("importance weights not averaged", "criticism/heldout.py", "logsumexp(log_weight, axis=axis) - np.log(log_weight.shape[axis])", "logsumexp(log_weight, axis=axis)", "criticism"),
    _m("a saved model forgets its weights of the divergence", "mgvi.py", "        mgvi.own_weight = saved.own_weight\n", "", "test_saving.py test_faults.py"),
)  # fmt: skip


def run(mutation: Mutation) -> str:
    """Return by which tests a mutation was caught, or an empty text."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        ignored = shutil.ignore_patterns(".git", "__pycache__", "*.ipynb", "notes")
        shutil.copytree(ROOT, copy, ignore=ignored)
        files = [
            file
            for name in mutation.file.split()
            if (file := copy / (name if name.startswith("pyro_mgvi") else f"pyro_mgvi/{name}")).is_file()
        ]
        found = [file for file in files if mutation.old in file.read_text(encoding="utf-8")]
        if not found:
            return "NOT APPLIED: the text is no longer there"
        for file in found:
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace(mutation.old, mutation.new, 1), encoding="utf-8")
        mirrored = [f"tests/{name}" for name in mutation.tests.split()]
        for tests in (mirrored, ["tests"]):
            code = (
                f"import sys, pytest; sys.path.insert(0, {str(copy)!r}); "
                f"sys.exit(pytest.main(['-x', '-q', '-m', 'not slow', '-p', 'no:cacheprovider', "
                f"'-W', 'ignore::pytest.PytestUnraisableExceptionWarning', *{tests!r}]))"
            )
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=copy, capture_output=True, text=True
            )
            failed = [x for x in done.stdout.splitlines() if x.startswith(("FAILED", "ERROR"))]
            if done.returncode == 1 and failed:
                return failed[0].split(" - ")[0].removeprefix("FAILED ")
            if done.returncode not in (0, 1):
                return f"ERROR {done.stdout[-300:]}{done.stderr[-300:]}"
    return ""


def main() -> None:
    """Try all mutations, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="mutations of files whose path holds this")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    chosen = [mutation for mutation in MUTATIONS if arguments.only in mutation.file]
    begin, missed = time.time(), []
    print("| fault | file | caught by |\n|---|---|---|")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for mutation, caught in zip(chosen, pool.map(run, chosen)):
            print(f"| {mutation.what} | `{mutation.file}` | {caught or '**nothing**'} |", flush=True)
            if not caught or caught.startswith(("NOT", "ERROR")):
                missed.append(mutation.what)
    print(f"\n{len(chosen) - len(missed)} of {len(chosen)} caught in {time.time() - begin:.0f} s")
    if missed:
        print("not caught:", "; ".join(missed))


if __name__ == "__main__":
    main()
