"""Ridge decoders as maps: weights, patterns and refits in the dual form, in blocks of features.

With X = U S V', the weights are W = V S (S^2 + alpha)^-1 U' Y. The matrix (voxel, feature) is never held: what is
reported of a voxel is a mean over features, of a whole target or of each of its parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from neurorecon.decoders.ridge import FittedRidge
from neurorecon.decoders.solvers import Backend

#: Values in a block of weights, (voxel, feature): 128 MB in single precision.
BLOCK_VALUES = 2**25

#: Every part of a target has at least so many features in the sample that is tested.
FEWEST = 4

#: Targets of one dimension are mapped feature by feature if they have no more features than this.
FEW_FEATURES = 16

#: First dimensions of a target that are parts of it; rows of an image are none.
_DIMS = ("token", "channel", "frame")


@dataclass(frozen=True)
class Sample:
    """The features of a target that are tested.

    Parameters
    ----------
    columns : int array, shape (feature,)
        Ascending, among the flattened features that are decoded.
    means : array, shape (feature, 1 + part)
        Its columns take the mean over the whole target and over each part: in the sample, parts count by the number of
        their features in the target.
    """

    columns: np.ndarray
    means: np.ndarray

    @classmethod
    def draw(cls, varying: np.ndarray, parts: Mapping[str, slice], size: int, seed: int) -> Sample:
        """Draw features that vary, equally many of each part; all where there are no more than asked for.

        Parameters
        ----------
        varying : bool array, shape (feature,)
        parts : mapping of str to slice
            From :func:`parts_of`.
        size, seed : int
        """
        random = np.random.default_rng(seed)
        pieces = list(parts.values()) or [slice(0, len(varying))]
        each = max(FEWEST, size // len(pieces))
        columns, owners, counts = [], [], np.zeros(len(pieces))
        for number, piece in enumerate(pieces):
            known = piece.start + np.flatnonzero(varying[piece])
            drawn = known if len(known) <= each else np.sort(random.choice(known, each, replace=False))
            columns.append(drawn)
            owners.append(np.full(len(drawn), number))
            counts[number] = len(known)
        owner = np.concatenate(owners)
        own = (owner[:, None] == np.arange(len(pieces))) / np.maximum(1, np.bincount(owner, minlength=len(pieces)))
        whole = (own @ counts / counts.sum())[:, None]
        return cls(np.concatenate(columns), np.concatenate([whole, own], axis=1) if parts else whole)


def parts_of(about: Mapping[str, Any], features: int) -> dict[str, slice]:
    """Return the parts of a target: layers, groups, tokens, channels, or its features if they are few.

    Parameters
    ----------
    about : mapping
        ``dims``, ``shape`` and ``attrs`` of the stored target, as in :attr:`System.targets_`.
    features : int
        Number of flattened features that are decoded: the first ones.
    """
    attrs, shape = about["attrs"], about["shape"]
    for word in ("layer", "group"):
        if f"{word}_boundaries" in attrs:
            ends = [end for end in attrs[f"{word}_boundaries"] if end <= features]
            names = [str(name) for name in attrs.get(f"{word}s", [])] if word == "layer" else []
            names = names if len(names) >= len(ends) - 1 else [f"{word} {number}" for number in range(len(ends) - 1)]
            return {name: slice(*both) for name, both in zip(names, pairwise(ends), strict=False)}
    if len(shape) > 1 and about["dims"][0] in _DIMS:
        width = int(np.prod(shape[1:]))
        return {f"{about['dims'][0]} {n}": slice(n * width, (n + 1) * width) for n in range(shape[0])}
    few = len(shape) == 1 and features <= FEW_FEATURES
    return {f"feature {number}": slice(number, number + 1) for number in range(features)} if few else {}


def ridge_map(
    decoder: FittedRidge, kind: str, deviation: np.ndarray, parts: Mapping[str, slice], device: str = "cpu"
) -> np.ndarray:
    """Return the map of a ridge decoder over all its features, without the matrix of weights.

    Memory: the right singular vectors, and four blocks of 128 MB, whatever the number of features.

    Parameters
    ----------
    decoder : FittedRidge
        Its coordinates may be a memory map.
    kind : {"weights", "haufe"}
    deviation : array, shape (feature,)
        Of the target over training samples; features that do not vary are left out.
    parts : mapping of str to slice
    device : str
        Where blocks are multiplied.

    Returns
    -------
    array, shape (1 + part, selected voxel)
        Means of absolute values over all features, and over those of each part.
    """
    backend = Backend(device)
    s, v = decoder.singular_values_, decoder.voxel_vectors_
    samples = len(decoder.sample_vectors_)
    left = backend.asarray(v if kind == "weights" else v * (s**2 / samples), "float32")
    pieces = list(parts.values()) or [slice(0, len(deviation))]
    varying, step = varies(deviation), max(1, BLOCK_VALUES // max(v.shape))
    sums, counts = np.zeros((len(pieces), len(v))), np.zeros((len(pieces), 1))
    for number, piece in enumerate(pieces):
        for start in range(piece.start, piece.stop, step):
            block = slice(start, min(start + step, piece.stop))
            used = varying[block]
            coordinates = np.asarray(decoder.coordinates_[:, block])[:, used]
            if kind == "weights":
                scale = deviation[block][used]
            else:
                scale = np.sqrt(np.square(coordinates * s[:, None], dtype=np.float64).sum(axis=0) / samples)
            coordinates = coordinates / np.where(scale > 0, scale, np.inf)
            found = backend.to_numpy(left @ backend.asarray(coordinates, "float32"))
            sums[number] += np.abs(found, out=found).sum(axis=1, dtype=np.float64)
            counts[number] += used.sum()
    own = sums / np.maximum(counts, 1)
    whole = sums.sum(axis=0, keepdims=True) / counts.sum()
    return np.concatenate([whole, own]) if parts else whole


def varies(deviation: np.ndarray) -> np.ndarray:
    """Return which features vary over the training samples, by more than rounding."""
    found: np.ndarray = deviation > 1e-6 * max(float(np.max(deviation)), 1e-30)
    return found


@dataclass(frozen=True)
class DualRidge:
    """A ridge decoder of some features, refitted from the factorization of the responses.

    Parameters
    ----------
    u, v : array, shapes (sample, component) and (voxel, component)
        Singular vectors of the centered responses, float32.
    s : array, shape (component,)
        Singular values.
    alphas : array, shape (feature,)
    outputs : array, shape (sample, feature)
        Targets in standard deviations, centered if there is an intercept.
    center : bool
        Whether there is an intercept.
    """

    u: np.ndarray
    v: np.ndarray
    s: np.ndarray
    alphas: np.ndarray
    outputs: np.ndarray
    center: bool

    @classmethod
    def of(cls, decoder: FittedRidge, columns: np.ndarray, outputs: np.ndarray, deviation: np.ndarray) -> DualRidge:
        """Return some columns of a fitted decoder; `outputs` are its training targets, in their units."""
        alphas = np.broadcast_to(decoder.alpha_, len(deviation))[columns]  # type: ignore[attr-defined]
        center = bool(decoder.fit_intercept)  # type: ignore[attr-defined]
        scaled = (outputs - outputs.mean(axis=0) * center) / deviation[columns]
        vectors = decoder.samples_along_components(), decoder.voxel_vectors_
        u, v = (values.astype(np.float32, copy=False) for values in vectors)
        return cls(u, v, decoder.singular_values_, alphas, scaled.astype(np.float32), center)

    def coordinates(self, outputs: np.ndarray) -> np.ndarray:
        """Return the coordinates of decoders fitted to other outputs of the same samples, (component, feature)."""
        shrink = self.s[:, None] / (self.s[:, None] ** 2 + self.alphas)
        return (shrink * (self.u.T @ outputs)).astype(np.float32)

    def strength(self, kind: str, coordinates: np.ndarray) -> np.ndarray:
        """Return absolute weights or patterns, (voxel, feature)."""
        if kind == "weights":
            return np.abs(self.v @ coordinates)
        decoded = self.s[:, None].astype(np.float32) * coordinates
        spread = np.sqrt(np.square(decoded, dtype=np.float64).sum(axis=0) / len(self.u))
        scale = self.s[:, None] / len(self.u) / np.where(spread > 0, spread, np.inf)
        return np.abs(self.v @ (decoded * scale).astype(np.float32))

    def without(self, kind: str, groups: np.ndarray) -> Iterator[np.ndarray]:
        """Yield absolute weights or patterns of decoders that are fitted without one group of samples at a time.

        With M = inverse(K + alpha), the dual weights without a group g are c - M[:, g] inverse(M[g, g]) c[g], where
        c = M Y (block inversion). The intercept is a kernel of infinite variance, orthogonal to U.

        Parameters
        ----------
        kind : {"weights", "haufe"}
        groups : int array, shape (sample,)

        Yields
        ------
        array, shape (voxel, feature)
        """
        found = self.coordinates(self.outputs).astype(np.float64)
        u, samples = self.u.astype(np.float64), len(self.u)
        projected = u.T @ self.outputs
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            own, coordinates = u[rows], np.empty_like(found)
            rest = np.eye(len(rows)) - own @ own.T - (1 / samples if self.center else 0.0)
            for alpha in np.unique(self.alphas):
                these = np.flatnonzero(self.alphas == alpha)
                inner = (own / (self.s**2 + alpha)) @ own.T + rest / alpha
                left = self.outputs[rows][:, these] - own @ projected[:, these]
                dual = (own / (self.s**2 + alpha)) @ projected[:, these] + left / alpha
                change = own.T @ np.linalg.solve(inner, dual)
                coordinates[:, these] = found[:, these] - (self.s / (self.s**2 + alpha))[:, None] * change
            if kind == "weights":
                yield np.abs(self.v @ coordinates.astype(np.float32))
                continue
            kept = np.delete(self.u, rows, axis=0)
            kept = kept - kept.mean(axis=0)
            decoded = kept @ (self.s[:, None] * coordinates).astype(np.float32)
            spread = decoded.std(axis=0)
            inputs = (self.s[:, None] * (kept.T @ decoded) / len(kept)).astype(np.float32)
            yield np.abs(self.v @ (inputs / np.where(spread > 0, spread, np.inf)))


def correlations(decoded: np.ndarray, true: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the correlation of each feature over stimuli, 0 where one of the two is constant.

    Parameters
    ----------
    decoded, true : array, shape (stimulus, feature)
    weights : array, shape (draw, stimulus), optional
        How often each stimulus counts.

    Returns
    -------
    array, shape (feature,), or (draw, feature) with weights
    """
    one, other = (values - values.mean(axis=0, dtype=np.float64) for values in (decoded, true))
    # Rounding is no variance.
    floors = [1e-10 * np.square(values, dtype=np.float64).mean(axis=0) for values in (decoded, true)]
    share = np.full((1, len(one)), 1 / len(one)) if weights is None else weights / weights.sum(axis=1, keepdims=True)
    means = [share @ values for values in (one, other)]
    variances = [share @ values**2 - mean**2 for values, mean in zip((one, other), means, strict=True)]
    product = np.prod([np.where(found > floor, found, 0.0) for found, floor in zip(variances, floors, strict=True)], 0)
    found = (share @ (one * other) - means[0] * means[1]) / np.where(product > 0, np.sqrt(product), np.inf)
    return np.asarray(found[0] if weights is None else found)


def voxel_drops(
    inputs: np.ndarray, weights: np.ndarray, decoded: np.ndarray, true: np.ndarray, means: np.ndarray
) -> np.ndarray:
    """Return what the score loses if one voxel at a time is replaced by its mean, for a linear decoder.

    Parameters
    ----------
    inputs : array, shape (stimulus, voxel)
        Test responses, centered on the training mean.
    weights : array, shape (voxel, feature)
    decoded, true : array, shape (stimulus, feature)
    means : array, shape (feature, 1 + part)
        As in :class:`Sample`.

    Returns
    -------
    array, shape (1 + part, voxel)
    """
    x, y, t = (values - values.mean(axis=0) for values in (inputs, decoded, true))
    norm = np.linalg.norm(t, axis=0)
    t = t / np.where(norm > 0, norm, np.inf)
    squares = (y**2).sum(axis=0)
    together = (y * t).sum(axis=0)
    left = squares - 2 * weights * (x.T @ y) + weights**2 * (x**2).sum(axis=0)[:, None]
    without = (together - weights * (x.T @ t)) / np.sqrt(np.where(left > 1e-10 * squares, left, np.inf))
    full = together / np.sqrt(np.where(squares > 0, squares, np.inf))
    return np.asarray(((full - without) @ means).T)
