"""A trained network: predictions and scores, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.neural.hooks import Hooks
from neurorecon.decoders.neural.names import named_values, plain
from neurorecon.decoders.neural.rows import Standard, rows_of_targets, survey
from neurorecon.decoders.neural.settings import device_and_precision, torch_dtype
from neurorecon.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from neurorecon.decoders.neural.training import Scaler


class FittedNetwork(Hooks):
    """What :class:`neurorecon.decoders.NeuralDecoder` does once it is fitted; see there for the attributes."""

    batch_size: int
    random_state: int
    input_shape_: tuple[int, ...]
    target_shape_: Any
    weights_: dict[str, NDArray]
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
        return plain(found)

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
                # A network that draws when it predicts draws the same each time.
                seed_torch([self.random_state, start], device)
                with nullcontext() if half is None else torch.autocast(device.type, dtype=half):
                    outputs = self.forward(network, scaler.inputs(x[rows]), None)
                named = named_values(self.to_predictions(in_full(outputs, torch_dtype(precision))))
                # What is no target has no units to go back to.
                found = {name: scaler.back(name, named[name]).cpu().numpy() for name in shapes if name in named}
            yield rows, found

    def score(self, X: ArrayLike, y: Any) -> float:
        """Return the mean R2 over targets, as scikit-learn's regressors do.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.
        y : array, shape (sample, ...), or dict of str to array
            Targets; also on disk, read batch by batch. Of several, those that are predicted count, each alike.

        Returns
        -------
        float
            Mean R2, in which a target that does not vary counts 1 where it is met and 0 elsewhere.
            :meth:`score_targets` returns one for each target.
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
        """Return sums of squares of errors and about the mean, by name, each in the shape of a target."""
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
        for batch, predicted in self._predict_batches(x):
            for name in [name for name in predicted if name in targets]:
                values = predicted[name]
                squares = (targets[name].read(batch.start, batch.stop) - values) ** 2
                errors[name] = errors.get(name, np.zeros(values.shape[1:])) + squares.sum(axis=0)
        return {name: (squares, variation[name]) for name, squares in errors.items()}

    @property
    def network_(self) -> nn.Module:
        """The trained network, in evaluation mode; it sees standardized inputs, gives standardized targets."""
        check_is_fitted(self)
        if getattr(self, "_network", None) is None:
            self._network = self._load_network()
        return self._network

    def _load_network(self) -> nn.Module:
        """Return a network with the weights that were trained."""
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
