"""Torch decoders with the interface of scikit-learn: parameters, hooks, fitting and prediction."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.neural.data import (
    ONLY,
    Batches,
    Rows,
    SampleReader,
    Standard,
    Survey,
    rows_of_targets,
    split_samples,
    survey,
)
from neurorecon.decoders.persistence import Persistent
from neurorecon.decoders.smoother import Moments, check_renorm
from neurorecon.decoders.validation import check_inputs
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.parallel import choose_device

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from neurorecon.decoders.neural.training import Checkpoint, Scaler, Training


def plain(named: Mapping[str, Any]) -> Any:
    """Return the single value, or a dict of several values by name."""
    return named[ONLY] if set(named) == {ONLY} else dict(named)


def named_values(value: Any) -> dict[str, Any]:
    """Return values by name; a single value has the name :data:`ONLY`."""
    return dict(value) if isinstance(value, Mapping) else {ONLY: value}


def whole_signature(cls: type) -> inspect.Signature:
    """Return the signature of ``__init__`` with ``**training`` expanded, as scikit-learn reads parameters from it."""
    first = list(inspect.signature(vars(cls)["__init__"], follow_wrapped=False).parameters.values())
    own = [item for item in first if item.kind is not item.VAR_KEYWORD]
    if len(own) == len(first):
        return inspect.Signature(own)
    parent = next(kind for kind in cls.__mro__[1:] if "__init__" in vars(kind))
    before = inspect.signature(vars(parent)["__init__"]).parameters
    passed = [item for name, item in before.items() if name not in {mine.name for mine in own}]
    return inspect.Signature([*own, *(item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in passed)])


_PRECISIONS = ("auto", "float32", "float64", "bf16", "fp16")

#: Parameters that do not affect results.
_WITHOUT_EFFECT = ("checkpoint_every", "progress")


def check_settings(decoder: NeuralDecoder) -> None:
    """Check the parameters of a decoder, except optimizers and schedules, which are checked when they are built.

    Raises
    ------
    InputError
        If a parameter is invalid.
    """
    for name in ("max_epochs", "batch_size", "patience", "checkpoint_every", "shuffle_window"):
        value = getattr(decoder, name)
        optional = name in ("patience", "shuffle_window") and value is None
        if not optional and (not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1):
            raise InputError(f"{name} must be a positive integer", given=repr(value), expected="1 or more")
    seed = decoder.random_state
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InputError("random_state must be an integer", given=repr(seed), expected="an integer from 0 to 2**32 - 1")
    for name in ("learning_rate", "weight_decay", "momentum", "tolerance", "clip_norm"):
        value = getattr(decoder, name)
        positive = name in ("learning_rate", "clip_norm")
        usable = isinstance(value, int | float | np.number) and np.isfinite(value) and value >= 0
        if not (name == "clip_norm" and value is None) and (not usable or (positive and value == 0)):
            expected = "a finite number above 0" if positive else "a finite number, 0 or more"
            raise InputError(f"{name} is out of range", given=repr(value), expected=expected)


def device_and_precision(device: str, precision: str) -> tuple[str, str]:
    """Return the device, and the precision "float32", "float64", "bf16" or "fp16".

    Raises
    ------
    InputError
        If the device is not available, or does not support the precision.
    """
    import torch

    chosen = choose_device(None if device == "auto" else device)
    if precision not in _PRECISIONS:
        raise UnknownNameError("precision", precision, _PRECISIONS)
    kind = chosen.partition(":")[0]
    if precision == "auto":
        return chosen, "bf16" if kind == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    missing = {"cpu": ("fp16",), "mps": ("float64",)}.get(kind, ())
    if precision in missing:
        raise InputError(
            "this device does not support this precision",
            given=f"device={device!r}, precision={precision!r}",
            expected=f"one of: {', '.join(name for name in _PRECISIONS if name not in missing)}",
        )
    return chosen, precision


def identity_of(decoder: NeuralDecoder, digests: Mapping[str, str], held_out: NDArray[np.int64]) -> dict[str, Any]:
    """Return everything that determines the result of training, in JSON types.

    Parameters
    ----------
    decoder : NeuralDecoder
        Decoder whose class and parameters are included.
    digests : dict of str to str
        Digests of inputs and targets.
    held_out : array of int
        Indices of the validation samples.
    """
    parameters = {name: _said(value) for name, value in decoder.get_params().items() if name not in _WITHOUT_EFFECT}
    return {
        "class": type(decoder).__name__,
        **parameters,
        **{f"digest of {name}": digest for name, digest in digests.items()},
        "validation samples": hashlib.sha256(held_out.astype("<i8").tobytes()).hexdigest(),
    }


def _said(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        return {str(name): _said(item) for name, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [_said(item) for item in value]
    raise InputError(
        "a decoder with this parameter cannot keep checkpoints",
        given=f"a parameter of type {type(value).__name__}",
        expected="numbers, strings, arrays, or lists and dicts of these",
        todo="use a string for this parameter in your decoder, or train without a checkpoint",
    )


def torch_dtype(precision: str) -> torch.dtype:
    """Return the dtype of weights and losses, which never use half precision."""
    import torch

    return torch.float64 if precision == "float64" else torch.float32


class Hooks:
    """Steps of a neural decoder that subclasses can override; only :meth:`build_network` is required."""

    device: str
    precision: str
    renorm: Literal["train", "test"] | None
    optimizer: str
    learning_rate: float
    weight_decay: float
    momentum: float
    schedule: str
    warmup: float

    def build_network(self, input_shape: tuple[int, ...], target_shape: Any) -> nn.Module:
        """Build a new network.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one input.
        target_shape : tuple of int, or dict of str to tuple
            Shape of one target, or of several targets by name, depending on `y`.
        """
        raise NotImplementedError(f"{type(self).__name__} has to override build_network(input_shape, target_shape)")

    def prepare_inputs(self, X: Any, *, reset: bool) -> NDArray:
        """Check inputs and convert them to the precision of the network.

        Parameters
        ----------
        X : array, shape (sample, ...)
            Inputs passed by the user.
        reset : bool
            Whether to store the number of features (in :meth:`fit`) or to check it.

        Returns
        -------
        array, shape (sample, ...)
        """
        _, precision = device_and_precision(self.device, self.precision)
        dtype = "float64" if precision == "float64" else "float32"
        return check_inputs(self, X, dtype, reset=reset)

    def augment(self, inputs: Tensor, targets: Any) -> tuple[Tensor, Any]:
        """Augment a training batch at random. Must not modify its arguments in place. By default, do nothing.

        Parameters
        ----------
        inputs : tensor, shape (sample, ...)
            Standardized.
        targets : tensor, shape (sample, ...), or dict of str to tensor
            Standardized.
        """
        return inputs, targets

    def forward(self, network: nn.Module, inputs: Tensor, targets: Any) -> Any:
        """Apply the network to a batch, and return a tensor or a dict of tensors.

        Parameters
        ----------
        network : Module
            In training or in evaluation mode.
        inputs : tensor, shape (sample, ...)
            Standardized.
        targets : tensor, dict of str to tensor, or None
            Targets in training, e.g. for teacher forcing; None in validation and prediction.
        """
        return network(inputs)

    def compute_loss(self, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of a batch; by default the mean squared error, summed over several targets.

        Parameters
        ----------
        outputs : tensor or dict of str to tensor
            Output of :meth:`forward`, in full precision.
        targets : tensor or dict of str to tensor
            Standardized.
        """
        from neurorecon.decoders.neural.layers import mse

        return sum_over_targets(mse, outputs, targets)

    def validation_score(self, outputs: Any, targets: Any) -> Tensor:
        """Return the score of a held-out batch (higher is better); by default the negative loss."""
        return -self.compute_loss(outputs, targets)

    def to_predictions(self, outputs: Any) -> Any:
        """Return predictions of standardized targets: a tensor, or several in a dict by the names of targets.

        Parameters
        ----------
        outputs : tensor or dict of str to tensor
            Output of :meth:`forward`, in full precision. It may contain auxiliary outputs that are not targets.
        """
        return outputs

    def build_optimizer(self, network: nn.Module) -> Optimizer:
        """Return the optimizer."""
        from neurorecon.decoders.neural.training import named_optimizer

        return named_optimizer(self.optimizer, network, self.learning_rate, self.weight_decay, self.momentum)

    def build_scheduler(self, optimizer: Optimizer, n_steps: int) -> LRScheduler:
        """Return the learning rate schedule, which is stepped after each of `n_steps` batches."""
        from neurorecon.decoders.neural.training import named_schedule

        return named_schedule(self.schedule, optimizer, n_steps, self.warmup)


def sum_over_targets(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return a loss of one target, or its sum over several.

    Parameters
    ----------
    loss : callable
        Takes two tensors of shape (sample, ...).
    outputs, targets : tensor, or dict of str to tensor
        Outputs without a target of the same name are ignored.
    """
    if not isinstance(outputs, Mapping):
        return loss(outputs, targets)
    return sum(loss(values, targets[name]) for name, values in outputs.items() if name in targets)


class FittedNetwork(Hooks):
    """Methods of a fitted :class:`neurorecon.decoders.NeuralDecoder`; see there for the attributes."""

    batch_size: int
    random_state: int
    input_shape_: tuple[int, ...]
    target_shape_: Any
    weights_: dict[str, NDArray]
    target_mean_: Any
    target_deviation_: Any
    predicted_mean_: Any
    predicted_deviation_: Any
    x_mean_: NDArray
    x_scale_: NDArray
    y_mean_: Any
    y_scale_: Any

    def predict(self, X: ArrayLike) -> Any:
        """Predict targets.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.

        Returns
        -------
        y : array, shape (sample, ...), or dict of str to array
            Predicted targets, in the shape of those fitted.
        """
        check_is_fitted(self)
        x = self.prepare_inputs(X, reset=False)
        found: dict[str, NDArray] = {}
        for rows, predicted in self._predict_batches(x):
            for name, values in predicted.items():
                if name not in found:
                    found[name] = np.empty((len(x), *values.shape[1:]), dtype=values.dtype)
                found[name][rows] = values
        if self.renorm == "test":
            found = {name: self._renormalize(name, values) for name, values in found.items()}
        return plain(found)

    def _renormalize(self, name: str, predicted: NDArray) -> NDArray:
        """Rescale predictions of a target, (sample, ...), to its moments over the training samples."""
        names = ("target_mean_", "target_deviation_", "predicted_mean_", "predicted_deviation_")
        moments = [np.ravel(named_values(getattr(self, key))[name]) for key in names if hasattr(self, key)]
        flat = predicted.reshape(len(predicted), -1)
        return Moments(*moments).apply(flat, slice(None)).reshape(predicted.shape)

    def _predict_batches(self, x: NDArray) -> Iterator[tuple[slice, dict[str, NDArray]]]:
        """Yield samples and their predictions, batch by batch, in the units of the targets."""
        import torch

        from neurorecon.decoders.neural.training import in_full, own_random_numbers, seed_torch

        if x.shape[1:] != tuple(self.input_shape_):
            raise InputError(
                "these inputs have another shape than those that were fitted",
                given=f"(sample, {', '.join(map(str, x.shape[1:]))})",
                expected=f"(sample, {', '.join(map(str, self.input_shape_))})",
            )
        device, precision = self._place()
        if getattr(self, "_network", None) is None:
            self._network = self._load_network()
        network, scaler = self._network.to(device=device, dtype=torch_dtype(precision)), self._scaler(device, precision)
        shapes = named_values(self.target_shape_)
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        for start in range(0, len(x), self.batch_size):
            rows = slice(start, min(start + self.batch_size, len(x)))
            with own_random_numbers(device), torch.no_grad():
                # Networks that use random numbers in prediction get the same ones each time.
                seed_torch([self.random_state, start], device)
                with nullcontext() if half is None else torch.autocast(device.type, dtype=half):
                    outputs = self.forward(network, scaler.inputs(x[rows]), None)
                named = named_values(self.to_predictions(in_full(outputs, torch_dtype(precision))))
                # Auxiliary outputs have no units.
                found = {name: scaler.back(name, named[name]).cpu().numpy() for name in shapes if name in named}
                if hasattr(self, "predicted_mean_"):
                    found = {name: self._renormalize(name, values) for name, values in found.items()}
            yield rows, found

    def gradients(self, X: ArrayLike, columns: ArrayLike, target: str = ONLY) -> Iterator[NDArray]:
        """Yield the derivative of predicted values by the inputs, one predicted value after the other.

        Parameters
        ----------
        X : array, shape (sample, ...)
            Responses at which the derivative is taken.
        columns : int array, shape (value,)
            Which values of the flattened target.
        target : str
            Name of the target if there are several.

        Yields
        ------
        array, shape (sample, ...)
            In units of the target per unit of the inputs. `renorm` by the moments of the predictions themselves
            (``"test"``) is not part of it.
        """
        import torch

        from neurorecon.decoders.neural.training import in_full

        check_is_fitted(self)
        x = self.prepare_inputs(X, reset=False)
        device, precision = self._place()
        network, scaler = self.network_.to(device=device, dtype=torch_dtype(precision)), self._scaler(device, precision)
        scale = np.broadcast_to(np.asarray(self.x_scale_), x.shape[1:])
        gain = np.ones(int(np.prod(named_values(self.target_shape_)[target])))
        if hasattr(self, "predicted_deviation_"):
            wanted, found = (
                np.ravel(named_values(getattr(self, name))[target])
                for name in ("target_deviation_", "predicted_deviation_")
            )
            gain = np.where(found > 0, wanted / np.where(found > 0, found, 1.0), 0.0)
        with torch.enable_grad():
            inputs = scaler.inputs(x).requires_grad_(True)
            outputs = in_full(self.forward(network, inputs, None), torch_dtype(precision))
            values = scaler.back(target, named_values(self.to_predictions(outputs))[target]).flatten(1)
            for column in np.asarray(columns):
                (slopes,) = torch.autograd.grad(values[:, int(column)].sum(), inputs, retain_graph=True)
                yield slopes.cpu().numpy() / scale * gain[column]

    def score(self, X: ArrayLike, y: Any) -> float:
        """Return the mean R2 over targets, as scikit-learn's regressors do.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.
        y : array, shape (sample, ...), or dict of str to array
            Targets; arrays on disk are read in batches. Of several targets, those that are predicted are averaged with
            equal weight.

        Returns
        -------
        float
            Mean R2. Targets that do not vary count as 1 if they are predicted exactly, and as 0 otherwise. Use
            :meth:`score_targets` for the R2 of each target.
        """
        sums = self._errors(X, y)
        means = []
        for errors, variation in sums.values():
            varies = variation > 0
            r2 = np.where(varies, 1 - errors / np.where(varies, variation, 1), np.where(errors > 0, 0.0, 1.0))
            means.append(r2.mean())
        return float(np.mean(means))

    def score_targets(self, X: ArrayLike, y: Any) -> Any:
        """Return R2 of each target, in the shape of a target (or of several); NaN for those that do not vary."""
        found = {}
        for name, (errors, variation) in self._errors(X, y).items():
            varies = variation > 0
            found[name] = np.where(varies, 1 - errors / np.where(varies, variation, 1), np.nan)
        return plain(found)

    def _errors(self, X: ArrayLike, y: Any) -> dict[str, tuple[NDArray, NDArray]]:
        """Return sums of squared errors and of squared deviations from the mean, by name, in the shape of a target."""
        check_is_fitted(self)
        x = self.prepare_inputs(X, reset=False)
        targets = rows_of_targets(y, "float64", len(x))
        expected = named_values(self.target_shape_)
        for name, rows in targets.items():
            if rows.shape != tuple(expected.get(name, ())) or name not in expected:
                raise InputError(
                    "these are other targets than those that were fitted",
                    given=f"{name or 'y'} of shape (sample, {', '.join(map(str, rows.shape))})",
                    expected=f"shapes {self.target_shape_} of a sample",
                )
        variation = {name: survey(rows).squares for name, rows in targets.items()}
        errors: dict[str, NDArray] = {}
        whole = [(slice(0, len(x)), named_values(FittedNetwork.predict(self, X)))] if self.renorm == "test" else None
        for batch, predicted in whole or self._predict_batches(x):
            for name in [name for name in predicted if name in targets]:
                values = predicted[name]
                squares = (targets[name].read(batch.start, batch.stop) - values) ** 2
                errors[name] = errors.get(name, np.zeros(values.shape[1:])) + squares.sum(axis=0)
        return {name: (squares, variation[name]) for name, squares in errors.items()}

    @property
    def network_(self) -> nn.Module:
        """The trained network in evaluation mode, from standardized inputs to standardized targets."""
        check_is_fitted(self)
        if getattr(self, "_network", None) is None:
            self._network = self._load_network()
        return self._network

    def _load_network(self) -> nn.Module:
        """Build the network and load the trained weights."""
        import torch

        from neurorecon.decoders.neural.training import own_random_numbers

        device, precision = self._place()
        with own_random_numbers(torch.device("cpu")):
            shape: Any = self.target_shape_
            network = self.build_network(tuple(self.input_shape_), shape).to(torch_dtype(precision))
        network.load_state_dict({name: torch.tensor(value) for name, value in self.weights_.items()})
        return network.eval().requires_grad_(False).to(device)

    def _place(self) -> tuple[torch.device, str]:
        import torch

        device, precision = device_and_precision(self.device, self.precision)
        return torch.device(device), precision

    def _scaler(self, device: torch.device, precision: str) -> Scaler:
        from neurorecon.decoders.neural.training import Scaler

        means, scales = named_values(self.y_mean_), named_values(self.y_scale_)
        targets = {name: Standard(means[name], scales[name]) for name in means}
        return Scaler(Standard(self.x_mean_, self.x_scale_), targets, device, torch_dtype(precision))


class NeuralDecoder(FittedNetwork, Persistent, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Base class of decoders that predict targets from responses by a neural network.

    Subclasses must override :meth:`build_network`, and may override :meth:`prepare_inputs`, :meth:`augment`,
    :meth:`forward`, :meth:`compute_loss`, :meth:`validation_score`, :meth:`to_predictions`, :meth:`build_optimizer` and
    :meth:`build_scheduler`. The ``__init__`` of a subclass lists its own parameters and passes the others as
    ``**training``; scikit-learn sees all of them. Hooks draw random numbers from torch's global generator, which is
    seeded for them.

    Inputs and targets are standardized by the mean and standard deviation of the training samples. Losses are computed
    on standardized values; predictions are in the units of the targets. On a CPU with the same number of threads, the
    same data, parameters and seed give identical results to the bit. The caller's random state is not changed.

    Parameters
    ----------
    max_epochs : int
        Maximum number of epochs.
    batch_size : int
        Maximum number of samples in a batch. Batches have nearly equal sizes.
    optimizer : {"adamw", "adam", "sgd"}
        Optimizer; see :func:`neurorecon.decoders.neural.training.named_optimizer`.
    learning_rate : float
        Peak learning rate.
    weight_decay : float
        Weight decay of weights, but not of biases and gains. With ``"sgd"`` and the loss ``"mse"``, a network without
        hidden layers converges to ridge regression on standardized data with
        ``alpha = weight_decay * n_samples * n_targets / 2``, as the loss is a mean over samples and targets.
    momentum : float
        Nesterov momentum of ``"sgd"``.
    schedule : {"constant", "linear", "cosine", "exponential", "one_cycle"}
        Learning rate schedule; see :func:`neurorecon.decoders.neural.training.named_schedule`.
    warmup : float
        Fraction of training during which the learning rate increases.
    clip_norm : float, optional
        Maximum norm of the gradient.
    validation_fraction : float
        Fraction of the groups (without groups, of the samples) held out for validation. 0 disables validation.
    patience : int, optional
        Stop after this many epochs without a better validation score. With None, train for all epochs. With
        validation, the best weights are restored in any case.
    tolerance : float
        Minimum improvement that counts as a better score.
    standardize_inputs, standardize_targets : bool
        Whether to standardize inputs and targets.
    renorm : {"train", "test"}, optional
        Rescale predictions, which shrink toward the mean, to the mean and standard deviation of each target in the
        training samples, as :class:`~neurorecon.decoders.RidgeDecoder` does. ``"train"`` standardizes predictions by
        the moments of those of the validation samples, ``"test"`` by their own.
    shuffle_window : int, optional
        Number of samples shuffled together. By default all, or, for targets on disk (dask, xarray, Zarr), as many as
        fit in 128 MB; windows are then visited in random order.
    random_state : int
        Seed of weights, order of samples, dropout, and the choice of validation samples.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:<number>"``, ``"mps"``, or ``"auto"`` for the best available device.
    precision : {"auto", "float32", "float64", "bf16", "fp16"}
        ``"bf16"`` and ``"fp16"`` are mixed precision: layers are computed in half precision, while weights and losses
        stay in float32. ``"auto"`` uses bf16 on GPUs that support it, and float32 otherwise.
    compile : bool or str
        Whether to compile the network; a string is the backend of :func:`torch.compile`.
    checkpoint_every : int
        Number of epochs between checkpoints, if :meth:`fit` is given a folder for them.
    progress : bool
        Whether to show a progress bar.

    Attributes
    ----------
    weights_ : dict of str to array
        Weights and buffers of the network by name, from the best epoch.
    history_ : dict of str to array, shape (epoch,)
        ``loss`` (mean over training batches), ``learning_rate`` and, with validation, ``validation_score``.
    best_epoch_ : int
        Epoch of the weights, starting at 1.
    validation_rows_ : array of int
        Indices of the validation samples.
    x_mean_, x_scale_ : array
        Mean and scale of the inputs, in the shape of an input.
    y_mean_, y_scale_ : array or dict of str to array
        Mean and scale of the targets, in the shape of a target.
    target_mean_, target_deviation_, predicted_mean_, predicted_deviation_ : array or dict of str to array
        Moments of `renorm`, in the shape of a target.
    input_shape_ : tuple of int
        Shape of an input.
    target_shape_ : tuple of int, or dict of str to tuple
        Shape of a target, or of several targets by name.
    n_features_in_ : int
        Length of the first axis of an input: the number of voxels.
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
        renorm: Literal["train", "test"] | None = None,
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
        self.renorm = renorm
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
            Targets of any shape, or several targets by name. Memory-mapped, dask, xarray and Zarr arrays are read in
            batches.
        groups : array, shape (sample,), optional
            Group of each sample, usually its stimulus id. Groups are never split between training and validation.
        validation : bool array, shape (sample,), or array of int, optional
            Mask or indices of the validation samples. By default, they are drawn at random.
        checkpoint : path, optional
            Folder for checkpoints. Calling `fit` again with the same data and parameters resumes interrupted training,
            with identical results to the bit.

        Returns
        -------
        NeuralDecoder
            The fitted decoder.

        Raises
        ------
        InputError
            If shapes do not match, values are not finite, a parameter is invalid, training diverges, or the checkpoint
            belongs to other data or parameters.
        """
        check_settings(self)
        check_renorm(self.renorm)
        _, precision = device_and_precision(self.device, self.precision)
        dtype = "float64" if precision == "float64" else "float32"
        x = self.prepare_inputs(X, reset=True)
        targets = rows_of_targets(y, dtype, len(x))
        train, held_out = split_samples(len(x), groups, validation, self.validation_fraction, self.random_state)
        if self.renorm == "train" and len(held_out) < 2:
            raise InputError(
                "predictions cannot be renormalized, because no samples are held out",
                given=f"validation_fraction={self.validation_fraction!r}, {len(held_out)} validation samples",
                expected="two validation samples or more",
                todo="raise validation_fraction, or set renorm=None",
            )
        chosen = np.zeros(len(x), dtype=bool)
        chosen[train] = True
        inputs = Rows(x, dtype, "inputs")
        surveys = {name: survey(rows, chosen) for name, rows in targets.items()}
        seen = survey(inputs, chosen)
        x_standard = seen.standard(self.standardize_inputs)
        y_standards = {name: found.standard(self.standardize_targets) for name, found in surveys.items()}
        kept = None
        if checkpoint is not None:
            from neurorecon.decoders.neural.training import Checkpoint

            digests = {"X": seen.digest, **{f"y {name}".strip(): found.digest for name, found in surveys.items()}}
            kept = Checkpoint(checkpoint, identity_of(self, digests, held_out))
        samples = SampleReader(inputs, targets, self.shuffle_window)
        run = self._train(samples, train, held_out, x_standard, y_standards, kept)
        # Set all attributes at the end, so that interrupted training leaves no partial fit.
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
        self._measure_moments(x[held_out], surveys)
        return self

    def _measure_moments(self, held_out: NDArray, surveys: Mapping[str, Survey]) -> None:
        """Measure the moments that predictions are rescaled by, and forget those of an earlier fit."""
        for name in ("target_mean_", "target_deviation_", "predicted_mean_", "predicted_deviation_"):
            if hasattr(self, name):
                delattr(self, name)
        if self.renorm is None:
            return
        self.target_mean_ = plain({name: found.mean for name, found in surveys.items()})
        deviations = {name: np.sqrt(found.squares / max(1, found.count)) for name, found in surveys.items()}
        self.target_deviation_ = plain(deviations)
        if self.renorm == "test":
            return
        parts: dict[str, list[NDArray]] = {}
        for _, predicted in self._predict_batches(held_out):
            for name, values in predicted.items():
                parts.setdefault(name, []).append(values)
        whole = {name: np.concatenate(found) for name, found in parts.items()}
        spread = {name: values.std(axis=0, dtype=np.float64) for name, values in whole.items()}
        # Constant predictions differ by rounding errors.
        spread = {name: np.where(found > 1e-6 * deviations[name], found, 0.0) for name, found in spread.items()}
        self.predicted_mean_ = plain({name: values.mean(axis=0, dtype=np.float64) for name, values in whole.items()})
        self.predicted_deviation_ = plain(spread)

    def _train(
        self,
        samples: SampleReader,
        train: NDArray[np.int64],
        held_out: NDArray[np.int64],
        x_standard: Standard,
        y_standards: dict[str, Standard],
        checkpoint: Checkpoint | None,
    ) -> Training:
        """Train the network."""
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
        # The network is rebuilt from its weights.
        return {name: value for name, value in super().__getstate__().items() if name != "_network"}
