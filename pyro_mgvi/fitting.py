"""Training a model on an AnnData, once or several times, and what that would cost."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from anndata import AnnData

from pyro_mgvi.analysis import Discovery, FitSummary, summary
from pyro_mgvi.analysis.several.agreement import agreement
from pyro_mgvi.analysis.several.trainings import check_several, several_trainings
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import some
from pyro_mgvi.errors import DataWarning, warn
from pyro_mgvi.support.values import flag, whole_number
from pyro_mgvi.training import Trainer, TrainingPlan, TrainingSetup
from pyro_mgvi.training.estimate import estimate
from pyro_mgvi.training.objective import continued
from pyro_mgvi.training.plan import chosen_plan
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search.restart import Known


class Fits(Program):
    """A program that is trained on annotated data."""

    discovery: Discovery | None = None

    def fit(
        self,
        adata: AnnData | GroupedCounts,
        plan: TrainingPlan | None = None,
        *,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        checkpoint: str | Path | None = None,
        resume: bool = True,
        n_trainings: int = 1,
        progress: bool = True,
    ) -> FitSummary:
        """Train, keeping the weights of the best validation epoch, and say what was found.

        Calling it again goes on from these weights: closed dimensions stay closed unless the
        search opens them, and the history goes on; the schedule of steps begins anew.

        Parameters
        ----------
        adata, plan
            Data of known groups and the same genes (or :class:`GroupedCounts`); how to train.
        max_epochs
            Upper bound of passes over the cells, instead of that of the plan.
        accelerator
            Where to train: ``"cpu"``, ``"gpu"``, ``"cuda:1"`` or ``"auto"``, a GPU if there is one.
            What the model says is then computed there, too, until :meth:`to` moves it.
        checkpoint
            Folder for the state after each epoch: a process that ends, however it ends, is gone
            on with by the same call.
        resume
            Go on from what ``checkpoint`` holds, if it is of the same data, settings and starting
            weights; False refuses a folder that holds something.
        n_trainings
            With 2 or more, so many trainings with different seeds go before: this one starts at the
            directions that most of them hold, and its latents of some groups hold no others, so
            that what they show hangs little on the seed (:attr:`agreement`). It takes
            ``n_trainings + 1`` times as long, for an untrained model only.
        progress
            Show a progress bar.

        Returns
        -------
        Whether it converged, what each latent holds and what to do next; :meth:`summary` says
        the same of a loaded model.

        Raises
        ------
        DataError, SettingsError
            If data or settings are invalid, or no cell owns some latent's copy; with several
            trainings, if the model is trained, or its encoder or decoder cannot start at a
            direction.
        TrainingError
            If a loss is not finite.
        DataWarning
            If cells are of samples that the model does not know.
        TrainingInterrupted
            After a Ctrl-C; the model has its best weights, as a finished training leaves them. Of
            several trainings, these are the weights of the first until the last has begun.
        """
        plan, resume = chosen_plan(plan, max_epochs), flag("resume", resume)
        if (n_trainings := whole_number("n_trainings", n_trainings, least=1)) > 1:
            check_several(self, n_trainings, checkpoint, resume)
        data = self.read(adata, missing_genes=0)  # zeros would be learnt
        if data.sample_code_n is not None and (unknown := data.sample_code_n < 0).any():
            warn(
                f"{unknown.sum():,} cells are of samples that the model does not know "
                f"({some(sorted(set(data.sample_n[unknown])))}): these get no effect, and those of "
                "samples without a cell here shrink; add_samples(adata) learns new ones",
                DataWarning,
            )
        trainer = Trainer(self, data, plan, accelerator, checkpoint, resume=resume)
        trainer.setup.known = self._known(data)
        others = None
        if n_trainings > 1:
            self.model.eval()  # until its own training, which may never come
            self.guide.eval()
            others = several_trainings(trainer, data, n_trainings, accelerator, progress)
            trainer.setup.agreed = others.agreed
        earlier = self.history
        try:
            trainer.run(progress)
        finally:  # a run that Ctrl-C or an error ends keeps its best weights, and its history
            if trainer.history:
                earlier = earlier.iloc[: len(earlier) - trainer.n_resumed]
                self.plan, self.history = plan, continued(earlier, trainer.table())
                self.interrupted, self.agreement = True, pd.DataFrame()
        self.interrupted = False
        if others is not None:
            self.agreement = agreement(self, others)
        return summary(self, data)

    def training_setup(
        self,
        adata: AnnData | GroupedCounts,
        plan: TrainingPlan | None = None,
        *,
        max_epochs: int | None = None,
    ) -> TrainingSetup:
        """Return all that :meth:`fit` trains with, for a loop of your own.

        Parameters
        ----------
        adata, plan, max_epochs
            As for :meth:`fit`.
        """
        self.check_usable()
        data = self.read(adata, missing_genes=0)
        setup = TrainingSetup(self, data, chosen_plan(plan, max_epochs), known=self._known(data))
        setup.train()
        return setup

    def _known(self, data: GroupedCounts) -> Known:
        if self.discovery is None:
            return {}
        if self.discovery.forgotten and not self.trained:
            warn(
                "the directions that were discovered are not saved with a model, and this training "
                "begins without them: make the model anew, with latents=DISCOVER, for the same fit",
                DataWarning,
            )
        return self.discovery.directions(data)

    estimate = estimate
