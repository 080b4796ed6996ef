"""Registration: the deformation of least energy that brings a source near a target, in the style of scikit-learn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from .attachments import Attachment
from .attachments.base import Loss, check_compatible
from .deformations import Deformation, Path
from .deformations.base import AnyShape
from .errors import RegistrationError
from .optimization import Minimizer, OptimizerFactory, minimize_lbfgs, torch_minimizer
from .shapes import Shape


@dataclass(frozen=True)
class Iteration:
    """One iteration of a fit: the values at its best parameters so far, and the seconds since the start."""

    index: int
    loss: float
    attachment: float
    energy: float
    evaluations: int
    seconds: float


Callback = Callable[[Iteration], object]


class Registration(Generic[AnyShape]):
    """Find the deformation of a source that comes near a target.

    Minimises ``attachment(model(source, parameters).end, target) + regularization * model.energy(source, parameters)``.

    Parameters
    ----------
    model : Deformation
        Such as `LDDMM` or `Rigid`.
    attachment : Attachment
        Such as `Sinkhorn`, `Varifold` or `Landmarks`.
    regularization : float
        Weight of the energy of the deformation, at least 0.
    optimizer : str or callable
        "lbfgs", or a function that builds a PyTorch optimiser from a list of parameters:
        ``lambda parameters: torch.optim.Adam(parameters, lr=0.1)``. What it moves are the
        `coordinates` of the model, in which the energy is well conditioned.
    max_iter : int
        Largest number of iterations.
    progress : bool
        Show a progress bar on the terminal.
    callback : callable, optional
        Called with an `Iteration` after each of them; the fit ends, with its best result so far, once it returns True.

    Attributes
    ----------
    parameters_ : Tensor
        The best parameters met.
    path_ : Path
        The source, moved by them, at times 0, 0.2, ..., 1.
    history_ : list of Iteration
        What happened; `history_[0]` is the start.
    status_ : str
        "finished", "stopped" by the callback, or "interrupted" by Ctrl-C: the best result is kept in all cases.

    Examples
    --------
    >>> import torch
    >>> from shape_analysis import Landmarks, PointCloud, Registration, Rigid
    >>> source = PointCloud(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))
    >>> target = PointCloud(torch.tensor([[5.0, 5.0], [5.0, 7.0], [4.0, 5.0]]))
    >>> fit = Registration(Rigid(), Landmarks(), 0.0).fit(source, target)
    >>> bool((fit.transform(source).points - target.points).abs().max() < 1e-2)
    True
    """

    def __init__(
        self,
        model: Deformation,
        attachment: Attachment,
        regularization: float,
        *,
        optimizer: str | OptimizerFactory = "lbfgs",
        max_iter: int = 50,
        progress: bool = False,
        callback: Callback | None = None,
    ) -> None:
        if not 0 <= regularization < math.inf:
            raise RegistrationError(f"regularization must be a number >= 0, got {regularization!r}.")
        if max_iter < 1:
            raise RegistrationError(f"max_iter must be at least 1, got {max_iter}.")
        self.model = model
        self.attachment = attachment
        self.regularization = regularization
        self.optimizer = optimizer
        self.max_iter = max_iter
        self.progress = progress
        self.callback = callback

    def fit(self, source: AnyShape, target: Shape, initial: Tensor | None = None) -> Registration[AnyShape]:
        """Register the source onto the target.

        Parameters
        ----------
        source, target : Shape
            Of the same dimension, type and device.
        initial : Tensor, optional
            Parameters to start from, such as the `parameters_` of a coarser fit. Default: the identity.

        Raises
        ------
        RegistrationError
            If the loss is not finite at the start.
        """
        check_compatible(source, target)
        minimizer = _minimizer(self.optimizer)
        start = (
            self.model.initial_parameters(source) if initial is None else initial.detach().to(source.points)
        )
        search = _Search(self, source, self.attachment.bind(target))
        search.begin(start)
        with _progress_bar(self.max_iter, self.progress) as report:
            self.status_ = search.run(minimizer, report)
        self.source_ = source
        self.parameters_ = search.best_parameters
        self.history_ = search.history
        with torch.no_grad():
            self.path_: Path[AnyShape] = self.model(
                source, self.parameters_, times=[step / 5 for step in range(6)]
            )
        return self

    def transform(self, shape: AnyShape) -> AnyShape:
        """Any shape (the source, its annotations, a finer mesh of it...), carried by the deformation that was found."""
        if not hasattr(self, "parameters_"):
            raise RegistrationError("This Registration has not been fitted: call fit(source, target) first.")
        with torch.no_grad():
            return self.model.carry(self.source_, self.parameters_, shape).end

    def fit_transform(self, source: AnyShape, target: Shape, initial: Tensor | None = None) -> AnyShape:
        """Fit, then return the moved source."""
        return self.fit(source, target, initial).path_.end


class _Stop(Exception):
    """The callback asked for the end."""


class _Search:
    """One run: evaluates the loss, remembers the best parameters, writes the history."""

    def __init__(self, registration: Registration[AnyShape], source: AnyShape, attachment: Loss) -> None:
        self._registration = registration
        self._source = source
        self._attachment = attachment
        self._to_parameters = registration.model.coordinates(source)
        self._best = (math.inf, math.inf, math.inf)  # loss, attachment, energy
        self._evaluations = 0
        self._started = time.perf_counter()
        self.best_parameters: Tensor = source.points.new_empty(0)
        self.history: list[Iteration] = []

    def begin(self, start: Tensor) -> None:
        """Evaluate the loss once, as the first line of the history."""
        with torch.no_grad():
            value = float(self.objective(start))
        if not math.isfinite(value):
            raise RegistrationError(
                f"The loss is {value} at the start. Check that the source and the target overlap, at the scale of the "
                "kernels, and that the initial parameters are finite."
            )
        self._record()

    def objective(self, parameters: Tensor) -> Tensor:
        """The loss; remembers the parameters if it is the lowest so far."""
        model = self._registration.model
        attachment = self._attachment(model(self._source, parameters).end)
        energy = model.energy(self._source, parameters)
        loss = attachment + self._registration.regularization * energy
        self._evaluations += 1
        if float(loss.detach()) < self._best[0]:
            self._best = (float(loss.detach()), float(attachment.detach()), float(energy.detach()))
            self.best_parameters = parameters.detach().clone()
        return loss

    def run(self, minimizer: Minimizer, report: Callback) -> str:
        """Minimise until the end, a stop or an interruption; the word that says which."""
        start = self.best_parameters

        def shifted(variables: Tensor) -> Tensor:
            return self.objective(start + self._to_parameters(variables))

        def on_iteration() -> None:
            iteration = self._record()
            report(iteration)
            callback = self._registration.callback
            if callback is not None and callback(iteration):
                raise _Stop

        try:
            minimizer(shifted, torch.zeros_like(start), self._registration.max_iter, on_iteration)
        except KeyboardInterrupt:
            return "interrupted"
        except _Stop:
            return "stopped"
        return "finished"

    def _record(self) -> Iteration:
        seconds = time.perf_counter() - self._started
        self.history.append(Iteration(len(self.history), *self._best, self._evaluations, seconds))
        return self.history[-1]


def _minimizer(optimizer: str | OptimizerFactory) -> Minimizer:
    if callable(optimizer):
        return torch_minimizer(optimizer)
    if optimizer == "lbfgs":
        return minimize_lbfgs
    raise RegistrationError(
        f"Unknown optimizer {optimizer!r}: give 'lbfgs', or a function that builds a torch optimiser from a list of "
        "parameters, such as lambda parameters: torch.optim.Adam(parameters, lr=0.1)."
    )


@contextmanager
def _progress_bar(total: int, shown: bool) -> Iterator[Callback]:
    """What to call after each iteration: updates a bar that shows the loss, or does nothing."""
    if not shown:
        yield lambda iteration: None
        return
    columns = (TextColumn("registration"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("loss {task.fields[loss]}")) as bar:
        task = bar.add_task("registration", total=total, loss="")
        yield lambda iteration: bar.update(task, advance=1, loss=f"{iteration.loss:.4g}")
