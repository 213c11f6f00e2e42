"""The base of neural decoders: from responses to targets by a network that is trained with torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin

from neurorecon.decoders.neural.batches import Batches, Samples, split_samples
from neurorecon.decoders.neural.fitted import FittedNetwork
from neurorecon.decoders.neural.names import plain
from neurorecon.decoders.neural.rows import Rows, Standard, rows_of_targets, survey
from neurorecon.decoders.neural.settings import check_settings, device_and_precision, identity_of, torch_dtype
from neurorecon.decoders.neural.signature import whole_signature
from neurorecon.decoders.persistence import Persistent

if TYPE_CHECKING:
    from neurorecon.decoders.neural.checkpoints import Checkpoint
    from neurorecon.decoders.neural.training import Training


class NeuralDecoder(FittedNetwork, Persistent, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Predict targets from responses by a network; subclasses say which.

    A subclass has to override :meth:`build_network`, and may override :meth:`prepare_inputs`, :meth:`augment`,
    :meth:`forward`, :meth:`compute_loss`, :meth:`validation_score`, :meth:`to_predictions`,
    :meth:`build_optimizer` and :meth:`build_scheduler`. Its ``__init__`` names its own parameters and passes
    the others on as ``**training``; scikit-learn sees them all. Hooks draw random numbers from torch's global
    generator, which is theirs while they run.

    Inputs and targets are standardized with the mean and standard deviation of the training samples; losses
    see standardized numbers, predictions are in the units of the targets. The same data, parameters and seed
    give the same bits on a processor with the same number of threads. Random numbers of the caller stay as they
    are.

    Parameters
    ----------
    max_epochs : int
        Passes through the training samples.
    batch_size : int
        Samples of a batch at most. Batches are of nearly equal size.
    optimizer : {"adamw", "adam", "sgd"}
        See :func:`neurorecon.decoders.neural.schedules.named_optimizer`.
    learning_rate : float
        The highest.
    weight_decay : float
        Of weights, not of biases and gains. With "sgd" and the loss "mse", a network without hidden layers
        converges to ridge regression of the standardized numbers with ``alpha = weight_decay * n_samples *
        n_targets / 2``, as the error is a mean over samples and targets.
    momentum : float
        Of "sgd" (Nesterov's).
    schedule : {"constant", "linear", "cosine", "exponential", "one_cycle"}
        Of the learning rate, see :func:`neurorecon.decoders.neural.schedules.named_schedule`.
    warmup : float
        Share of the training in which the learning rate rises.
    clip_norm : float, optional
        Largest norm of the gradient; longer ones are shortened.
    validation_fraction : float
        Share of the groups (without them, of the samples) that is held out to validate on. 0 for none.
    patience : int, optional
        Training ends after this many epochs without a better validation score. None trains all epochs; the
        best weights are taken in any case, unless there is no validation.
    tolerance : float
        By how much a score has to be better.
    standardize_inputs, standardize_targets : bool
        Whether they are.
    shuffle_window : int, optional
        Samples that are shuffled among each other. By default all, or, where targets lie on disk (dask,
        xarray, Zarr), as many as fit into 128 MB: windows are then gone through in random order.
    random_state : int
        Seed of weights, order of samples, dropout and validation samples.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:<number>"``, ``"mps"``, or ``"auto"`` for the best one of this machine.
    precision : {"auto", "float32", "float64", "bf16", "fp16"}
        The last two compute layers in half precision (accelerate's mixed precision), keeping weights and
        losses in float32. "auto" is float32 on a processor, where half precision is slow, else bf16 where the
        device has it.
    compile : bool or str
        Whether the network is compiled by torch; a string names the backend of :func:`torch.compile`.
    checkpoint_every : int
        Epochs between checkpoints, where :meth:`fit` is given a folder for them.
    progress : bool
        Whether a progress bar is shown.

    Attributes
    ----------
    weights_ : dict of str to array
        Weights and buffers of the network by name, those of the best epoch.
    history_ : dict of str to array, shape (epoch,)
        ``loss`` (mean over training batches), ``learning_rate`` and, with validation, ``validation_score``.
    best_epoch_ : int
        The epoch, from 1 on, of which the weights are.
    validation_rows_ : array of int
        Samples that were validated on.
    x_mean_, x_scale_ : array
        Of the training samples, in the shape of an input.
    y_mean_, y_scale_ : array or dict of str to array
        In the shape of a target.
    input_shape_ : tuple of int
        Shape of an input.
    target_shape_ : tuple of int, or dict of str to tuple
        Shape of a target, or of several.
    n_features_in_ : int
        Length of the first axis of an input: voxels.
    """

    def __init__(
        self,
        *,
        max_epochs: int = 100,
        batch_size: int = 64,
        optimizer: Literal["adamw", "adam", "sgd"] = "adamw",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.9,
        schedule: Literal["constant", "linear", "cosine", "exponential", "one_cycle"] = "constant",
        warmup: float = 0.0,
        clip_norm: float | None = None,
        validation_fraction: float = 0.1,
        patience: int | None = 10,
        tolerance: float = 0.0,
        standardize_inputs: bool = True,
        standardize_targets: bool = True,
        shuffle_window: int | None = None,
        random_state: int = 0,
        device: str = "cpu",
        precision: Literal["auto", "float32", "float64", "bf16", "fp16"] = "auto",
        compile: bool | str = False,
        checkpoint_every: int = 1,
        progress: bool = False,
    ) -> None:
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.schedule = schedule
        self.warmup = warmup
        self.clip_norm = clip_norm
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.tolerance = tolerance
        self.standardize_inputs = standardize_inputs
        self.standardize_targets = standardize_targets
        self.shuffle_window = shuffle_window
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.compile = compile
        self.checkpoint_every = checkpoint_every
        self.progress = progress

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__init__" in vars(cls):
            vars(cls)["__init__"].__signature__ = whole_signature(cls)

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        groups: ArrayLike | None = None,
        *,
        validation: ArrayLike | None = None,
        checkpoint: str | Path | None = None,
    ) -> NeuralDecoder:
        """Train the network.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.
        y : array, shape (sample, ...), or dict of str to array
            Targets of any shape, or several by name; also memory-mapped, dask, xarray and Zarr arrays, which
            are read batch by batch.
        groups : array, shape (sample,), optional
            Labels, usually stimulus ids: samples of one group are either trained or validated on.
        validation : bool array, shape (sample,), or array of int, optional
            Samples to validate on, instead of those drawn at random.
        checkpoint : path, optional
            A folder. Training that was interrupted goes on from there when it is called again with the same
            data and parameters, and ends in the same bits.

        Returns
        -------
        NeuralDecoder
            Itself.

        Raises
        ------
        InputError
            Where shapes do not fit, values are not finite, a parameter is not known, training diverges, or the
            checkpoint belongs to other data or parameters.
        """
        check_settings(self)
        _, precision = device_and_precision(self.device, self.precision)
        dtype = "float64" if precision == "float64" else "float32"
        x = self.prepare_inputs(X, reset=True)
        targets = rows_of_targets(y, dtype, len(x))
        train, held_out = split_samples(len(x), groups, validation, self.validation_fraction, self.random_state)
        chosen = np.zeros(len(x), dtype=bool)
        chosen[train] = True
        inputs = Rows(x, dtype, "inputs")
        surveys = {name: survey(rows, chosen) for name, rows in targets.items()}
        seen = survey(inputs, chosen)
        x_standard = seen.standard(self.standardize_inputs)
        y_standards = {name: found.standard(self.standardize_targets) for name, found in surveys.items()}
        kept = None
        if checkpoint is not None:
            from neurorecon.decoders.neural.checkpoints import Checkpoint

            digests = {"X": seen.digest, **{f"y {name}".strip(): found.digest for name, found in surveys.items()}}
            kept = Checkpoint(checkpoint, identity_of(self, digests, held_out))
        samples = Samples(inputs, targets, self.shuffle_window)
        run = self._train(samples, train, held_out, x_standard, y_standards, kept)
        # All at once: a training that was interrupted leaves nothing half fitted.
        self.input_shape_ = inputs.shape
        self.target_shape_ = plain({name: rows.shape for name, rows in targets.items()})
        self.x_mean_, self.x_scale_ = x_standard.mean, x_standard.scale
        self.y_mean_ = plain({name: standard.mean for name, standard in y_standards.items()})
        self.y_scale_ = plain({name: standard.scale for name, standard in y_standards.items()})
        self.validation_rows_ = held_out
        self.weights_ = {name: value.cpu().numpy().copy() for name, value in run.network.state_dict().items()}
        self.history_ = {name: np.array(values) for name, values in run.history.items() if values}
        self.best_epoch_ = run.best_epoch or run.epochs
        self._network = self._load_network()
        return self

    def _train(
        self,
        samples: Samples,
        train: NDArray[np.int64],
        held_out: NDArray[np.int64],
        x_standard: Standard,
        y_standards: dict[str, Standard],
        checkpoint: Checkpoint | None,
    ) -> Training:
        """Return the training when it has ended."""
        from neurorecon.decoders.neural.training import (
            Scaler,
            Training,
            own_accelerator,
            own_random_numbers,
            seed_torch,
        )

        device, precision = self._place()
        order = Batches(train, self.batch_size, samples.window, self.random_state)
        others = Batches(held_out, self.batch_size, samples.window) if len(held_out) else None
        shapes = plain({name: rows.shape for name, rows in samples.targets.items()})
        with own_random_numbers(device), own_accelerator(device, precision) as accelerator:
            seed_torch([self.random_state], device)
            network = self.build_network(samples.inputs.shape, shapes).to(device=device, dtype=torch_dtype(precision))
            scaler = Scaler(x_standard, y_standards, device, torch_dtype(precision))
            run = Training(self, network, samples, order, others, scaler, accelerator)
            run.run(checkpoint)
        return run

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "weights_")

    def __getstate__(self) -> dict[str, Any]:
        # The network comes back from its weights.
        return {name: value for name, value in super().__getstate__().items() if name != "_network"}
