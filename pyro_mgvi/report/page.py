"""From a fit to one HTML file: the sections and the explorer, put into ``static/page.html``."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from anndata import AnnData
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from tqdm.auto import tqdm

import pyro_mgvi
from pyro_mgvi.analysis.cross_fit import CrossFit, cross_fit, shuffled_fit
from pyro_mgvi.analysis.diagnosis import ACTIVE, Diagnosis, diagnose
from pyro_mgvi.analysis.metrics import active_units
from pyro_mgvi.data.checks import annotated
from pyro_mgvi.data.modalities import is_mudata
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.report.blocks import Section
from pyro_mgvi.report.explorer import explorer
from pyro_mgvi.report.findings import findings
from pyro_mgvi.report.probes import probes
from pyro_mgvi.report.rankings import Rankings
from pyro_mgvi.report.result import Result
from pyro_mgvi.report.sections import discovery, inputs, latents, model, programs, samples
from pyro_mgvi.support.files.endings import Kind, misnamed
from pyro_mgvi.support.files.whole_files import written_whole
from pyro_mgvi.support.optional import require
from pyro_mgvi.support.values import flag, path_of, whole_number
from pyro_mgvi.training.program import Program, check_model

TITLE = "Shared and group-specific variation"


def write_report(
    path: str | Path,
    adata: AnnData,
    mgvi: Program | None = None,
    labels: Sequence[str] | None = None,
    diagnosed: bool = False,
    title: str = TITLE,
    max_epochs: int | None = None,
    progress: bool = True,
) -> None:
    """Write the report of a fit as one HTML file, whole or not at all.

    Parameters
    ----------
    path
        The file to write.
    adata, mgvi, labels, diagnosed, title, max_epochs, progress
        As for :func:`render`.

    Raises
    ------
    SettingsError
        If the file cannot be written, or is not named like a page.
    DataError
        If the fit is incomplete or does not fit the model.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> from tempfile import TemporaryDirectory
    >>> adata = clear_recipe(seed=0, n_cells=60, n_shared_genes=30, n_program_genes=10)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> _ = mgvi.fit(adata, max_epochs=2, progress=False)
    >>> mgvi.write_latents(adata)
    >>> with TemporaryDirectory() as folder:
    ...     write_report(Path(folder) / "report.html", adata, mgvi, progress=False)
    """
    path = path_of("path", path)
    if reason := misnamed(path, Kind.PAGE):
        raise SettingsError(f"cannot write {path}: {reason}")
    if not path.parent.is_dir():
        raise SettingsError(f"cannot write {path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise SettingsError(f"cannot write {path}: it is a folder")
    text = render(adata, mgvi, labels, diagnosed, title, max_epochs, progress)
    try:
        with written_whole(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error}") from error


def render(
    adata: AnnData,
    mgvi: Program | None = None,
    labels: Sequence[str] | None = None,
    diagnosed: bool = False,
    title: str = TITLE,
    max_epochs: int | None = None,
    progress: bool = True,
) -> str:
    """Return the report of a fit as HTML that needs no other file and asks for none.

    It opens with the findings in plain words. With plotly (``pyro-mgvi[report]``) its cells can be
    explored: coloured, selected and compared; without it there are pictures. Cells are laid out by
    UMAP where scanpy is installed, and by their principal components otherwise.

    Parameters
    ----------
    adata
        Cells with the latents in ``obsm``; what ``pyro-mgvi fit`` wrote. Stays as it is. A MuData
        where the fit is of several modalities, which the sections then tell apart.
    mgvi
        The trained :class:`~pyro_mgvi.MGVI`; genes, refits and predictive checks need it.
    labels
        Columns of ``obs`` to colour by and to probe for, the most important first; by default
        up to four that are not numeric and have 2 to 24 levels. Pictures tell 32 levels apart and
        call the rarest of more "other"; probes tell all of them. Cells without a label are grey
        and in no probe.
    diagnosed
        Refit four times on halves of the cells, to say whether latents are more than noise
        (:func:`~pyro_mgvi.diagnose`) and to give genes q-values.
    title
        Heading of the page.
    max_epochs
        Of the refits, instead of those of the model's own plan.
    progress
        Show a progress bar.

    Raises
    ------
    DataError
        If the fit is incomplete or does not fit the model.
    SettingsError
        If ``diagnosed`` without a model.
    """
    if not is_mudata(adata):
        annotated(adata)
    if mgvi is not None:
        check_model(mgvi)
    if max_epochs is not None:
        max_epochs = whole_number("max_epochs", max_epochs, least=1)
    diagnosed = flag("diagnosed", diagnosed)
    if not isinstance(title, str):
        raise SettingsError(f"title must be a text, not {title!r}")
    if diagnosed and mgvi is None:
        raise SettingsError("diagnostics refit the model: name it (--model)")
    result = Result.read(adata, mgvi, labels)
    refits: CrossFit | None = None
    found: Diagnosis | None = None
    if diagnosed and mgvi is not None and result.data is not None:
        refits = cross_fit(mgvi, result.data, None, max_epochs, progress)
        null = shuffled_fit(mgvi, result.data, None, max_epochs, progress)
        column = result.first_label
        label = None if column is None else result.adata.obs[column].iloc[result.data.cells]
        found = diagnose(mgvi, result.data, label, refits=refits, shuffled=null, progress=progress)
    rankings, read = Rankings.of(result, refits, progress), tuple(probes(result))
    library = plotly_script()
    steps: tuple[Callable[[Result], Section | None], ...] = (
        partial(findings, rankings=rankings, probes=read, found=found),
        inputs.data,
        inputs.settings,
        inputs.training,
        latents.latents,
        discovery.who_shares_what,
        partial(programs.programs_of, rankings=rankings, tested=diagnosed),
        partial(model.genes, rankings=rankings, tested=diagnosed),
        samples.samples,
        partial(latents.diagnostics, probes=read, found=found),
        partial(model.predictive, progress=progress),
    )
    made = (step(result) for step in tqdm(steps, desc="report", disable=not progress))
    first, *rest = (section for section in made if section is not None)
    drawn = None if library is None else explorer(result, rankings)
    environment = Environment(
        loader=FunctionLoader(static), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html").render(
        title=title,
        tiles=_tiles(result),
        findings=first,
        sections=rest,
        explorer=drawn,
        library=library,
        static=static,
        version=pyro_mgvi.__version__,
        date=datetime.date.today().isoformat(),
    )


def static(name: str) -> Markup:
    """Return a file of the package for the page: a template, a style sheet or a script."""
    return Markup(files(__package__).joinpath("static", name).read_text(encoding="utf-8"))


def plotly_script() -> Markup | None:
    """Return the script that plotly brings, or None if plotly is not installed."""
    if find_spec("plotly") is None:
        return None
    script = require("plotly.offline", "report").get_plotlyjs()
    return Markup(script.replace("</script", "<\\/script").replace("<!--", "<\\!--"))


def _tiles(result: Result) -> list[tuple[str, str]]:
    several = result.modalities
    features = [(f"{result.n_genes:,}", "genes")]
    if several is not None:
        features = [
            (f"{n:,}", f"features of {name}") for name, n in zip(several.names, several.sizes)
        ]
    tiles = [
        (f"{result.adata.n_obs:,}", "cells"),
        *features,
        (str(len(result.groups)), "groups"),
    ]
    private = []
    for copy, _, values in result.copies():
        used = active_units(values, ACTIVE)
        if copy.shared:
            tiles.append((f"{used} of {copy.dim}", f"dimensions of {copy.key} in use"))
        else:
            private.append(used > 0)
    if private:
        tiles.append((f"{sum(private)} of {len(private)}", "private latents in use"))
    return tiles
