"""A decoder network of several subjects: an input layer for each, and a trunk that all share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.neural.base import NeuralDecoder, device_and_precision
from neurorecon.decoders.neural.mlp import MLPDecoder
from neurorecon.decoders.shared_latents import check_responses, check_same_subjects, check_subjects
from neurorecon.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from torch import nn


class MultiSubjectMLP(MLPDecoder):
    """Decode targets of several subjects, each with an input layer of its own over a perceptron that all share.

    This is the design of MindEye2 (Scotti et al. 2024): voxels of each subject are mapped linearly to a shared latent
    space, and everything after it is learned from all subjects. Subjects may have different voxels and stimuli. A new
    subject with little data gets an input layer for the trunk that the others trained (:meth:`adapt`).

    Parameters
    ----------
    latent : int
        Width of the shared latent space.
    hidden : sequence of int
        Widths of the hidden layers after it. An empty sequence is a linear trunk.
    activation, normalize, residual, dropout, input_dropout, loss, loss_per, temperature
        As in :class:`MLPDecoder`; the latent space is the first hidden layer. `input_dropout` drops voxels.
    **training
        Parameters of :class:`NeuralDecoder`. Responses of each subject are standardized by their own moments, so
        `standardize_inputs` has to be False.

    Attributes
    ----------
    subjects_ : dict of str to dict
        Of each subject, ``mean`` and ``scale`` of its responses, (voxel,), in the order of the input layers.
    weights_, history_, best_epoch_, ...
        Those of :class:`NeuralDecoder`.

    References
    ----------
    Scotti et al. (2024). MindEye2: shared-subject models enable fMRI-to-image with 1 hour of data. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.decoders import MultiSubjectMLP
    >>> generator = np.random.default_rng(0)
    >>> y = {name: generator.standard_normal((60, 3)) for name in ("subj01", "subj02")}
    >>> X = {name: values @ generator.standard_normal((3, 10)) for name, values in y.items()}
    >>> decoder = MultiSubjectMLP(latent=8, hidden=(), max_epochs=20, learning_rate=0.01).fit(X, y)
    >>> decoder.predict("subj02", X["subj02"]).shape
    (60, 3)
    """

    _trunk: Mapping[str, NDArray] | None = None
    _frozen: bool = False

    def __init__(self, latent: int = 1024, hidden: Sequence[int] = (1024,), **parameters: Any) -> None:
        super().__init__(hidden, **{"standardize_inputs": False, **parameters})
        self.latent = latent

    def fit(  # type: ignore[override]
        self,
        X: Mapping[str, ArrayLike],
        y: Mapping[str, ArrayLike],
        groups: Mapping[str, ArrayLike] | None = None,
        *,
        checkpoint: str | Path | None = None,
    ) -> NeuralDecoder:
        """Train the network on all subjects.

        Parameters
        ----------
        X : dict of array, shape (sample, voxel)
            Responses of each subject, e.g. ``{"subj01": ..., "subj02": ...}``.
        y : dict of array, shape (sample, ...)
            Targets of the samples of each subject.
        groups : dict of array, shape (sample,), optional
            Group of each sample, usually its stimulus id. A group is never split between training and validation, also
            between subjects.
        checkpoint : path, optional
            As for :meth:`NeuralDecoder.fit`.

        Returns
        -------
        NeuralDecoder
            The fitted decoder.

        Raises
        ------
        InputError
            If subjects or shapes do not match, or values are not finite.
        """
        if self.standardize_inputs:
            raise InputError(
                "responses are standardized for each subject by itself",
                given="standardize_inputs=True",
                expected="standardize_inputs=False",
                todo="leave it out",
            )
        names = list(check_subjects(X, "responses"))
        check_same_subjects(names, check_subjects(y, "targets"), "targets")
        if groups is not None:
            check_same_subjects(names, check_subjects(groups, "groups"), "groups")
        for name in names:
            if len(np.asarray(X[name])) != len(y[name]):  # type: ignore[arg-type]
                raise InputError(
                    f"responses and targets of {name} have different numbers of samples",
                    given=f"X {len(np.asarray(X[name]))}, y {len(y[name])}",  # type: ignore[arg-type]
                    expected="one row of targets for each sample",
                )
        targets = np.concatenate([np.asarray(y[name]) for name in names])
        labels = None if groups is None else np.concatenate([np.asarray(groups[name]) for name in names])
        return super().fit(X, targets, labels, checkpoint=checkpoint)  # type: ignore[arg-type]

    def adapt(
        self, subject: str, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, *, trunk: bool = False
    ) -> MultiSubjectMLP:
        """Return a decoder of a new subject: an input layer of its own, before the trunk of this decoder.

        Parameters
        ----------
        subject : str
            Its name.
        X : array, shape (sample, voxel)
            Responses.
        y : array, shape (sample, ...)
            Targets.
        groups : array, shape (sample,), optional
            Group of each sample.
        trunk : bool
            Also train the trunk further, as MindEye2 does. By default, only the input layer is trained.

        Returns
        -------
        MultiSubjectMLP
            Another decoder, with this subject alone.
        """
        check_is_fitted(self)
        found: MultiSubjectMLP = clone(self)
        found._trunk = {name: value for name, value in self.weights_.items() if not name.startswith("0.")}
        found._frozen = not trunk
        # The trunk returns targets in units of the samples that it was trained on, which those of a few would not be.
        found.standardize_targets = False
        targets = (np.asarray(y) - self.y_mean_) / self.y_scale_
        found.fit({subject: X}, {subject: targets}, None if groups is None else {subject: groups})
        found.y_mean_, found.y_scale_ = self.y_mean_, self.y_scale_
        found._trunk, found._frozen = None, False
        found.standardize_targets = self.standardize_targets
        return found

    def predict(self, subject: str, X: ArrayLike) -> Any:  # type: ignore[override]
        """Predict the targets of a subject, shape (sample, ...), from its responses, shape (sample, voxel).

        Raises
        ------
        UnknownNameError
            If the subject is unknown.
        """
        return super().predict({subject: X})  # type: ignore[arg-type]

    def score(self, subject: str, X: ArrayLike, y: Any) -> float:  # type: ignore[override]
        """Return what :meth:`NeuralDecoder.score` does, of one subject."""
        return super().score({subject: X}, y)  # type: ignore[arg-type]

    def score_targets(self, subject: str, X: ArrayLike, y: Any) -> Any:  # type: ignore[override]
        """Return what :meth:`NeuralDecoder.score_targets` does, of one subject."""
        return super().score_targets({subject: X}, y)  # type: ignore[arg-type]

    def weight_product(self) -> np.ndarray:
        """Not of this decoder: the product of all layers would mix the input layers of subjects.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError(
            "the weights of several subjects have no common product",
            given=f"input layers of {', '.join(self.subjects_)}",
            expected="a decoder of one subject",
            todo="use gradients({subject: X}, columns), or an MLPDecoder",
        )

    def prepare_inputs(self, X: Any, *, reset: bool) -> NDArray:
        """Return the responses of all subjects, padded to the most voxels, and then the number of the subject."""
        _, precision = device_and_precision(self.device, self.precision)
        dtype = "float64" if precision == "float64" else "float32"
        if reset:
            self.subjects_ = {}
            for name, given in X.items():
                values = check_responses(name, given, dtype)
                scale = values.std(axis=0, dtype=np.float64)
                mean, scale = values.mean(axis=0, dtype=np.float64), np.where(scale > 0, scale, 1.0)
                self.subjects_[name] = {"mean": mean, "scale": scale}
            self.n_features_in_ = max(len(part["mean"]) for part in self.subjects_.values()) + 1
        order, parts = list(self.subjects_), []
        for name, given in X.items():
            if name not in self.subjects_:
                raise UnknownNameError(
                    "subject", name, order, todo="adapt the decoder to a new subject first: adapt(subject, X, y)"
                )
            own = self.subjects_[name]
            values = check_responses(name, given, dtype, len(own["mean"]))
            packed = np.zeros((len(values), self.n_features_in_), dtype=dtype)
            packed[:, : values.shape[1]] = (values - own["mean"]) / own["scale"]
            packed[:, -1] = order.index(name)
            parts.append(packed)
        return np.concatenate(parts)

    def build_network(self, input_shape: tuple[int, ...], target_shape: Any) -> nn.Module:
        """Build the input layers and the trunk; the trunk is that of another decoder if this one adapts it."""
        import torch
        from torch import nn

        from neurorecon.decoders.neural.layers import SubjectInputs

        if self.latent < 1:
            raise InputError("the latent space has no width", given=f"latent={self.latent!r}", expected="1 or more")
        sizes = [len(part["mean"]) for part in self.subjects_.values()]
        inputs = SubjectInputs(sizes, self.latent, self.input_dropout)
        plain: Any = super().build_network((self.latent,), target_shape)
        network = nn.Sequential(inputs, *plain[2:])  # without flattening and the dropout of voxels
        if self._trunk is not None:
            trunk = {name: torch.from_numpy(value) for name, value in self._trunk.items()}
            network.load_state_dict({**network.state_dict(), **trunk})
            # From what no response predicts, so that stopping early is regularization.
            for parameter in inputs.layers.parameters():
                nn.init.zeros_(parameter)
            if self._frozen:
                network[1:].requires_grad_(False)
        return network
