"""Divide the stimuli of a store into training and test stimuli that are hard enough: clusters, distance, categories.

A model that has seen a near neighbor of every test stimulus can score well without generalizing. The kinds of splits
here differ in how far test stimuli are from training stimuli, in the space of a CLIP target, by cosine distance:

- ``random``: five columns, each tests on another fifth of the stimuli.
- ``cluster_k5``: k-means with five clusters; each column tests on one of them, and trains on the others.
- ``tau``: no test stimulus has a training stimulus within the distance tau, and yet the distribution of the test
  stimuli matches that of all stimuli by maximum mean discrepancy (MMD, Gretton et al. 2012).
- ``leave-category``: one column for each category, which tests on it.

The names are those of the splits of LAION-fMRI. Its own code was not available to us: the methods are ours where a
name says less than a method. Near-identical stimuli are never on both sides. What is computed depends on the ids and
the values of the stimuli and on the seed, not on their order.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurorecon.analyses.design import Settings
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.io.tables import read_table
from neurorecon.io.tensors import block_digest
from neurorecon.store import schema
from neurorecon.store.leaks import (
    SAME_STIMULI,
    describe,
    identical_rows,
    row_digests,
    same_sets,
    same_stimuli,
    straddling,
)
from neurorecon.store.splits import check_column, write_columns
from neurorecon.store.store import Store

if TYPE_CHECKING:
    import xarray

#: Columns of the kind ``random``, which test on another part each.
FOLDS = 5

#: Test stimuli below which a split is said to be small.
FEW = 20

#: Rows of a target that are the same in more than this share of the stimuli are so by nature, as categories are.
_SHARE_EQUAL = 0.05

#: Random Fourier features of the Gaussian kernel of the MMD, and random sets behind its null.
_FEATURES, _RANDOM_SETS = 512, 200

#: Quantiles of the distance to the nearest stimulus that are tried as tau, from the farthest on.
_QUANTILES = tuple(step / 20 for step in range(19, -1, -1))

#: Share of the sessions, of each task and subject, that the kind ``session`` holds out: the last ones.
_SESSIONS = 0.2

_KIND = re.compile(r"cluster(?:_k(\d+))?|tau|random|session|leave-category")

KINDS = ("cluster_k5", "tau", "random", "session", "leave-category")


@dataclass(frozen=True, kw_only=True)
class SplitSettings(Settings):
    """How stimuli are divided.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`, ``cluster_kN`` for N clusters, or ``"table"``: the user's own values.
    target : str, optional
        Target whose space stimuli are compared in; by default ``clip_image``, or else the first target of CLIP.
    clusters : int
        Clusters of the kind ``cluster``.
    share : float
        Of ``tau``: the share of the stimuli to test on.
    tau : float, optional
        Of ``tau``: the cosine distance; by default the largest at which the test stimuli still match all stimuli.
    categories : sequence of str, optional
        Of ``leave-category``: by default every category.
    table : path, optional
        Of ``table``: a table with a column ``stimulus`` (or ``id``) and the column `column`.
    column : str, optional
        Of ``table``: its column, and the name of the split column.
    """

    kind: str = "random"
    target: str | None = None
    clusters: int = 5
    share: float = 0.1
    tau: float | None = None
    categories: Iterable[str] | None = None
    table: str | Path | None = None
    column: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.table is not None:
            if self.column is None:
                raise InputError(
                    "a table of splits needs the name of a column",
                    given=str(self.table),
                    expected="the column that holds 'train', 'test' or nothing for each stimulus",
                    todo="name it with --column (in Python, column=)",
                )
            object.__setattr__(self, "kind", "table")
            return
        found = _KIND.fullmatch(self.kind)
        if found is None:
            raise UnknownNameError("kind of split", self.kind, KINDS)
        if self.column is not None:
            raise InputError(
                "only a table has a column",
                given=f"column={self.column!r} without a table",
                expected="--table FILE.csv --column NAME",
                todo="leave it out: columns are named by their kind",
            )
        if found[1] is not None:
            object.__setattr__(self, "clusters", int(found[1]))
        if self.kind.startswith("cluster"):
            object.__setattr__(self, "kind", "cluster")
        for name, valid, expected in (
            ("clusters", self.clusters >= 2, "2 or more"),
            ("share", 0 < self.share <= 0.5, "more than 0, at most 0.5"),
            ("tau", self.tau is None or 0 <= self.tau < 2, "a cosine distance, 0 to 2"),
        ):
            if not valid:
                raise InputError(
                    f"this setting of a split is out of range: {name}",
                    given=f"{name}={getattr(self, name)}",
                    expected=expected,
                    todo="choose another value",
                )


@dataclass(frozen=True)
class Splits:
    """Split columns, and how they were made.

    Parameters
    ----------
    settings : SplitSettings
        What was asked for.
    columns : mapping of str to array of str, shape (stimulus,)
        ``"train"``, ``"test"`` or ``""``, by the name of the column.
    about : mapping of str to dict
        How each was made, as it is stored; JSON types.
    same : mapping of str to list of [id, id]
        Stimuli that are the same, by what they were compared by.
    leaks : mapping of str to dict
        Stimuli that are in both splits of a column, judged by targets.
    warnings : tuple of str
        What makes columns questionable.
    """

    settings: SplitSettings
    columns: Mapping[str, np.ndarray]
    about: Mapping[str, dict[str, Any]]
    same: Mapping[str, list[list[str]]]
    leaks: Mapping[str, dict[str, list[Any]]]
    warnings: tuple[str, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """One row for each column and kind of stimuli: sizes, distances of test to training stimuli, MMD."""
        rows = [
            {"column": name, "stimuli": kind, **about["sizes"][kind], **about["measured"].get(kind, {})}
            for name, about in self.about.items()
            for kind in about["sizes"]
        ]
        return pd.DataFrame(rows)

    def text(self) -> str:
        """Return the table and the warnings as text."""
        lines = [
            f"{'column':<22}{'stimuli':<9}{'train':>7}{'test':>7}{'left out':>10}{'distance':>10}{'tau':>7}{'MMD':>8}"
        ]
        for row in self.table.to_dict("records"):
            numbers = [f"{row[name]:.3f}" if row.get(name) is not None and row[name] == row[name] else "" for name in
                       ("distance", "tau", "mmd")]  # fmt: skip
            lines.append(
                f"{row['column']:<22}{row['stimuli']:<9}{row['train']:>7,}{row['test']:>7,}{row['left_out']:>10,}"
                f"{numbers[0]:>10}{numbers[1]:>7}{numbers[2]:>8}"
            )
        lines += [
            "distance: median cosine distance of a test stimulus to the nearest training stimulus",
            "MMD: maximum mean discrepancy between test and all stimuli",
            *(f"warning: {text}" for text in self.warnings),
        ]
        return "\n".join(lines)


def split(
    store: Store,
    kind: str = "random",
    *,
    target: str | None = None,
    seed: int = 0,
    clusters: int = 5,
    share: float = 0.1,
    tau: float | None = None,
    categories: Iterable[str] | None = None,
    table: str | Path | None = None,
    column: str | None = None,
    replace: bool = False,
) -> Store:
    """Write split columns into a store, in one transaction.

    Parameters
    ----------
    store : Store
        Any store on this machine; plain Zarr and URLs are read-only.
    kind : {"random", "cluster_k5", "tau", "session", "leave-category"}
        ``cluster_kN`` makes N clusters. Columns are ``random_0`` to ``random_4``, ``cluster_k5_0`` to
        ``cluster_k5_4``, ``tau``, ``session``, and ``leave_CATEGORY``.
    target : str, optional
        Target whose space stimuli are compared in; by default ``clip_image``, or else the first target of CLIP.
    seed : int
        Of random numbers.
    clusters, share, tau, categories
        See :class:`SplitSettings`.
    table : path, optional
        A CSV, TSV or Parquet file with a column ``stimulus`` and the column `column` of the user's own values:
        ``train``, ``test`` or nothing. Takes the place of `kind`.
    column : str, optional
        With `table`: its column, and the name of the split column.
    replace : bool
        Replace columns of the same names that were made with other settings.

    Returns
    -------
    Store
        The store reopened; use a column with :meth:`Store.with_split`.

    Raises
    ------
    InputError
        If the stimuli cannot be divided so, or a subject saw no test stimulus. Nothing is written in this case.
    StoreError
        If a column of that name exists and was made with other settings, or the store is read-only.

    Examples
    --------
    >>> hard = neurorecon.split(store, "tau").with_split("tau")  # doctest: +SKIP
    """
    settings = SplitSettings(
        kind=kind, target=target, seed=seed, clusters=clusters, share=share, tau=tau, categories=categories,
        table=table, column=column,
    )  # fmt: skip
    return write_splits(compute_splits(store, settings), store, replace=replace)


def write_splits(splits: Splits, store: Store, *, replace: bool = False) -> Store:
    """Write split columns into the store that they were computed from, and return it reopened.

    Parameters
    ----------
    splits : Splits
        From :func:`compute_splits`.
    store : Store
        The same store.
    replace : bool
        Replace columns of the same names that were made with other settings.
    """
    write_columns(store, splits.columns, splits.about, splits.same, splits.leaks, replace=replace)
    return store.reopened()


def compute_splits(store: Store, settings: SplitSettings) -> Splits:
    """Divide the stimuli of a store; nothing is written.

    Parameters
    ----------
    store : Store
        Open.
    settings : SplitSettings
        How.

    Raises
    ------
    InputError, UnknownNameError
        If the stimuli cannot be divided so.
    """
    stimuli = store.stimuli[["id", "kind", "category"]].astype(str).sort_values("id").reset_index(drop=True)
    shown = set().union(*(store.samples(name)["stimulus"] for name in store.subjects))
    stimuli["shown"] = stimuli["id"].isin(shown)
    target = _target_of(store, settings)
    rows = _read_rows(store, target)
    digests = {} if target is None else _digests_of_rows(store, target)
    same = _same(store)
    together = {**same, **_equal_rows(digests, target)}
    stimuli["set"] = _set_numbers(stimuli["id"].tolist(), [pair for pairs in together.values() for pair in pairs])
    facts: dict[str, dict[str, Any]]
    if settings.kind == "table":
        columns, facts = _of_table(settings, stimuli)
    elif settings.kind == "leave-category":
        columns, facts = _leave_category(settings, stimuli)
    elif settings.kind == "session":
        columns, facts = {"session": _later_sessions(store, stimuli)}, {}
    else:
        columns, facts = _of_kinds(settings, stimuli, rows)
    order = pd.Index(stimuli["id"]).get_indexer(store.stimuli["id"].astype(str))
    about, warnings, leaks = {}, [], {}
    for name, values in columns.items():
        values = np.where(stimuli["shown"], values, "").astype(object)
        check_column(name, stimuli, values)
        _require_subjects(store, name, dict(zip(stimuli["id"], values, strict=True)))
        about[name] = _about(settings, name, stimuli, values, facts.get(name, {}), target, digests, rows)
        splits = dict(zip(stimuli["id"], values, strict=True))
        leaks[name] = {} if target is None else {target: identical_rows(digests, splits)}
        warnings += _warnings(name, about[name], same, leaks[name], splits)
        columns[name] = values[order]
    return Splits(settings, columns, about, same, leaks, tuple(warnings))


# -- what stimuli are compared by -------------------------------------------------------------------------------------


def _target_of(store: Store, settings: SplitSettings) -> str | None:
    known = store.targets_available
    if settings.target is not None:
        store.target_stimuli(settings.target)  # raises, with the names that exist
        return settings.target
    found = next((name for name in ("clip_image", *known) if name in known and name.startswith("clip")), None)
    if found is None and settings.kind in ("cluster", "tau"):
        raise InputError(
            "stimuli are compared in the space of a target of CLIP, and the store has none",
            given=f"{store.location}, targets: {', '.join(known) or 'none'}",
            expected="clip_image, or another target that --target names",
            todo="compute it: neurorecon features --target clip_image",
        )
    return found


def _read_rows(store: Store, target: str | None) -> dict[str, np.ndarray]:
    """Return the row of a target of each stimulus, of length 1: tokens are averaged."""
    if target is None:
        return {}
    found = store.targets(target)
    values = found.mean([str(dim) for dim in found.dims[1:-1]]).to_numpy().astype(np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    ids = found["stimulus"].to_numpy().astype(str).tolist()
    return dict(zip(ids, values / np.where(length > 0, length, 1), strict=True))


def _digests_of_rows(store: Store, target: str) -> dict[str, bytes]:
    array = store._node(f"{schema.TARGETS}/{target}/values")
    return row_digests(array, store.target_stimuli(target).tolist(), int(array.attrs["block_rows"]))


def _same(store: Store) -> dict[str, list[list[str]]]:
    """Return the stimuli that are the same, as an earlier column has found them, or by comparing all."""
    group = store._node(schema.STIMULI)
    known = group.attrs.get(SAME_STIMULI)
    if known is not None:
        return {what: [list(pair) for pair in pairs] for what, pairs in known.items()}
    found, moving = {}, store.stimuli["kind"] == "video"
    for what, ids in (("images", store.stimuli["id"][~moving]), ("frames", store.stimuli["id"][moving])):
        if what in group and len(ids):
            seen = getattr(store, what)(stimuli=ids.tolist())
            found[what] = same_stimuli(functools.partial(_values, seen), ids.tolist())
    return found


def _values(seen: xarray.DataArray, start: int, stop: int) -> np.ndarray:
    return np.asarray(seen[start:stop])


def _equal_rows(digests: Mapping[str, bytes], target: str | None) -> dict[str, list[list[str]]]:
    """Return stimuli with equal rows of a target, as pairs; none where equal rows are common."""
    of: dict[bytes, list[str]] = {}
    for name in sorted(digests):
        of.setdefault(digests[name], []).append(name)
    pairs = [[names[0], other] for names in of.values() for other in names[1:]]
    return {f"target {target}": pairs} if pairs and len(pairs) <= _SHARE_EQUAL * len(digests) else {}


def _set_numbers(ids: Sequence[str], pairs: Sequence[Sequence[str]]) -> np.ndarray:
    """Return a number for the set of the same stimuli that each belongs to, by the place of its first member."""
    place = {name: number for number, name in enumerate(ids)}
    sets = np.arange(len(ids))
    for members in same_sets(pairs):
        sets[[place[name] for name in members]] = place[members[0]]
    return sets


# -- kinds ------------------------------------------------------------------------------------------------------------


def _of_kinds(
    settings: SplitSettings, stimuli: pd.DataFrame, rows: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Divide images and videos separately."""
    columns: dict[str, np.ndarray] = {}
    facts: dict[str, dict[str, Any]] = {}
    for kind, part in stimuli[stimuli["shown"]].groupby("kind"):
        if settings.kind != "random":
            part = part[part["id"].isin(rows.keys())]
            if part.empty:
                continue
        values = np.stack([rows[name] for name in part["id"]]) if settings.kind != "random" else np.empty((0, 0))
        sets = part["set"].to_numpy()
        if settings.kind == "random":
            found = random_folds(part["id"].tolist(), sets, FOLDS, settings.seed)
            tested = {f"random_{fold}": found == fold for fold in range(FOLDS)}
        elif settings.kind == "cluster":
            found = clusters(values, sets, settings.clusters, settings.seed)
            tested = {f"cluster_k{settings.clusters}_{one}": found == one for one in range(settings.clusters)}
        else:
            far, tau = far_and_matched(values, sets, settings.share, settings.tau, settings.seed)
            tested = {"tau": far}
            facts.setdefault("tau", {})[str(kind)] = {"tau": tau}
        for name, mask in tested.items():
            column = columns.setdefault(name, np.full(len(stimuli), "", dtype=object))
            column[part.index] = np.where(mask, "test", "train")
    if not columns:
        raise InputError(
            "no stimulus that was shown has the target",
            given=f"kind={settings.kind!r}",
            expected="a target of the stimuli that subjects saw",
            todo="choose another target with --target",
        )
    return columns, facts


def random_folds(ids: Sequence[str], sets: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each stimulus, int of shape (stimulus,): sets in a random order, cut into equal parts.

    Parameters
    ----------
    ids : sequence of str
        Of the stimuli.
    sets : int array, shape (stimulus,)
        Stimuli of one set stay together.
    folds : int
        How many.
    seed : int
        Of the order, which depends on nothing but the seed and the ids.
    """
    first = {number: name for name, number in reversed(list(zip(ids, sets.tolist(), strict=True)))}
    keys = {number: blake2b(f"{seed}:{name}".encode(), digest_size=8).digest() for number, name in first.items()}
    order = np.array([keys[number] for number in sets.tolist()], dtype=object).argsort(kind="stable")
    place = np.empty(len(ids), dtype=int)
    place[order] = np.arange(len(ids)) * folds // len(ids)
    whole: dict[int, int] = {}
    for row in order.tolist():  # a set that a cut divides belongs to the part in which it begins
        place[row] = whole.setdefault(int(sets[row]), int(place[row]))
    return place


def clusters(values: np.ndarray, sets: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Return the cluster of each stimulus by k-means, from the largest to the smallest.

    Parameters
    ----------
    values : array, shape (stimulus, feature)
        Of length 1.
    sets : int array, shape (stimulus,)
        Stimuli of one set go where most of them are.
    number : int
        Clusters.
    seed : int
        Of k-means.

    Returns
    -------
    int array, shape (stimulus,)
    """
    from sklearn.cluster import KMeans

    distinct = len(np.unique(sets))
    if distinct < 2 * number:
        raise InputError(
            "there are too few stimuli for these clusters",
            given=f"{distinct} different stimuli, {number} clusters",
            expected="two stimuli for each cluster, or more",
            todo="ask for fewer clusters with --clusters",
        )
    found = KMeans(number, n_init=4, random_state=seed).fit_predict(values)
    members = np.zeros((sets.max() + 1, number), dtype=int)
    np.add.at(members, (sets, found), 1)
    found = members.argmax(axis=1)[sets]
    sizes = np.bincount(found, minlength=number)
    if (sizes == 0).any():
        raise InputError(
            "a cluster is empty: stimuli that are the same leave too few different ones",
            given=f"clusters of {', '.join(map(str, sizes))} stimuli",
            expected="stimuli in each cluster",
            todo="ask for fewer clusters with --clusters",
        )
    return np.argsort(np.argsort(-sizes, kind="stable"))[found]


def far_and_matched(
    values: np.ndarray, sets: np.ndarray, share: float, tau: float | None, seed: int
) -> tuple[np.ndarray, float]:
    """Choose test stimuli that are far from all others, and whose distribution matches that of all stimuli.

    Stimuli within tau of each other are linked (single linkage), and what is linked stays together, so that no test
    stimulus has a training stimulus within tau. Linked groups of up to half the size of the test set are then chosen
    greedily, each such that the mean of the chosen stimuli in the space of the kernel comes closest to that of all
    stimuli (kernel herding, Chen, Welling & Smola 2010). The default tau is the largest of the quantiles of the
    distances to the nearest stimulus at which the MMD is within the 95th percentile of random sets of the same size.

    Parameters
    ----------
    values : array, shape (stimulus, feature)
        Of length 1.
    sets : int array, shape (stimulus,)
        Stimuli of one set stay together.
    share : float
        Share of the stimuli to choose.
    tau : float, optional
        Cosine distance.
    seed : int
        Of the random Fourier features, and of the random sets.

    Returns
    -------
    bool array, shape (stimulus,)
        The test stimuli.
    float
        The tau that was used.
    """
    size = round(share * len(values))
    if size < 2:
        raise InputError(
            "there are too few stimuli for this share",
            given=f"{len(values)} stimuli, share={share:g}",
            expected="two test stimuli or more",
            todo="choose a larger --share, or another kind of split",
        )
    mapped = kernel_features(values, seed)
    limit = random_mmd(mapped, size, seed)
    tree = spanning_tree(values)
    # The tree holds the edge from each stimulus to the nearest one.
    nearest = np.minimum.reduceat(*_by_end(tree, len(values)))
    tried = [tau] if tau is not None else sorted({float(np.quantile(nearest, at)) for at in _QUANTILES}, reverse=True)
    for distance in tried:
        chosen = _herd(mapped, _linked(tree, sets, distance), size)
        matched = chosen is not None and mmd(mapped, chosen) <= limit
        if chosen is not None and (matched or tau is not None):
            return chosen, float(distance)
    raise InputError(
        "no test set is both far from all other stimuli and distributed as all stimuli are"
        if tau is None
        else f"too few stimuli are farther than {tau:g} from all others",
        given=f"{len(values)} stimuli, {size} of them to test on; cosine distances to the nearest stimulus: median "
        f"{np.median(nearest):.3f}, largest {nearest.max():.3f}",
        expected="a smaller test set" if tau is None else "a smaller tau, or a smaller test set",
        todo="choose a smaller --share" + ("" if tau is None else " or --tau"),
    )


def kernel_features(values: np.ndarray, seed: int, number: int = _FEATURES) -> np.ndarray:
    """Return random Fourier features of a Gaussian kernel whose width is the median distance of two stimuli.

    Parameters
    ----------
    values : array, shape (stimulus, feature)
    seed : int
    number : int
        Features, half of them cosines (Rahimi & Recht 2007).

    Returns
    -------
    array, shape (stimulus, number)
        Their inner products approximate the kernel, to about 1 / sqrt(number).
    """
    generator = np.random.default_rng(seed)
    one, other = generator.integers(0, len(values), (2, 2000))
    width = np.median(np.linalg.norm(values[one] - values[other], axis=1)[one != other]) or 1.0
    angles = values @ generator.standard_normal((values.shape[1], number // 2)) / width
    return np.asarray(np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(number // 2))


def mmd(mapped: np.ndarray, chosen: np.ndarray) -> float:
    """Return the maximum mean discrepancy between chosen and all stimuli, from their kernel features."""
    return float(np.linalg.norm(mapped[chosen].mean(axis=0) - mapped.mean(axis=0)))


def random_mmd(mapped: np.ndarray, size: int, seed: int) -> float:
    """Return the 95th percentile of the MMD of random sets of a size."""
    generator = np.random.default_rng(seed)
    centered = mapped - mapped.mean(axis=0)
    sets = (generator.choice(len(mapped), size, replace=False) for _ in range(_RANDOM_SETS))
    return float(np.quantile([np.linalg.norm(centered[chosen].mean(axis=0)) for chosen in sets], 0.95))


def spanning_tree(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the minimum spanning tree of stimuli by cosine distance (Prim 1957), in memory for one row of distances.

    Cut at a distance, it holds the groups of single linkage.

    Parameters
    ----------
    values : array, shape (stimulus, feature)
        Of length 1.

    Returns
    -------
    one, other : int arrays, shape (stimulus - 1,)
        Ends of its edges.
    distance : array, shape (stimulus - 1,)
    """
    number = len(values)
    left, rows = np.arange(number), values  # those outside of the tree, and for a while those that have joined it
    distance, parent, outside = np.full(number, np.inf), np.zeros(number, dtype=int), np.ones(number, dtype=bool)
    ends, lengths = np.zeros((2, number - 1), dtype=int), np.zeros(number - 1)
    place = 0
    for edge in range(number - 1):
        outside[place], current = False, left[place]
        if 2 * (number - 1 - edge) < len(left):
            left, rows, distance, parent = left[outside], rows[outside], distance[outside], parent[outside]
            outside = np.ones(len(left), dtype=bool)
        new = np.maximum(1 - rows @ values[current], 0)
        closer = outside & (new < distance)
        distance[closer], parent[closer] = new[closer], current
        place = int(np.where(outside, distance, np.inf).argmin())
        ends[:, edge], lengths[edge] = (parent[place], left[place]), distance[place]
    return ends[0], ends[1], lengths


def _by_end(tree: tuple[np.ndarray, np.ndarray, np.ndarray], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return lengths of edges sorted by their ends, each twice, and where those of each stimulus begin."""
    ends, lengths = np.concatenate(tree[:2]), np.tile(tree[2], 2)
    order = ends.argsort(kind="stable")
    return lengths[order], np.searchsorted(ends[order], np.arange(number))


def _linked(tree: tuple[np.ndarray, np.ndarray, np.ndarray], sets: np.ndarray, tau: float) -> np.ndarray:
    """Return the group of each stimulus whose members are within tau of each other, or in one set."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    near = tree[2] <= tau
    first = np.unique(sets, return_index=True)[1][np.unique(sets, return_inverse=True)[1]]
    rows = np.concatenate([tree[0][near], np.arange(len(sets))])
    columns = np.concatenate([tree[1][near], first])
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(sets), len(sets)))
    return np.asarray(connected_components(graph, directed=False)[1])


def _herd(mapped: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray | None:
    """Choose groups until `size` stimuli are chosen, bool of shape (stimulus,); None if there are too few."""
    sizes = np.bincount(groups)
    sums = np.zeros((len(sizes), mapped.shape[1]))
    np.add.at(sums, groups, mapped)
    free = sizes <= max(1, size // 2)
    if sizes[free].sum() < size:
        return None
    mean, total, taken = mapped.mean(axis=0), np.zeros(mapped.shape[1]), 0
    squares = np.einsum("gf,gf->g", sums, sums)
    towards = sums @ mean
    along = np.zeros(len(sizes))  # inner products with what has been chosen
    chosen = np.zeros(len(sizes), dtype=bool)
    while taken < size:
        count = taken + sizes
        error = (total @ total + 2 * along + squares) / count**2 - 2 * (total @ mean + towards) / count
        best = int(np.where(free & (count <= size + 1), error, np.inf).argmin())
        if not free[best] or count[best] > size + 1:
            break
        free[best], chosen[best] = False, True
        total, taken = total + sums[best], int(count[best])
        along += sums @ sums[best]
    return chosen[groups] if taken >= 0.9 * size else None


def _leave_category(
    settings: SplitSettings, stimuli: pd.DataFrame
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Test on one category; stimuli of other categories that are the same as one of it are left out."""
    shown = stimuli[stimuli["shown"]]
    known = sorted(set(shown["category"]) - {""})
    wanted = known if settings.categories is None else list(settings.categories)
    for name in wanted:
        if name not in known:
            raise UnknownNameError("category", name, known)
    if len(known) < 2 or not wanted:
        raise InputError(
            "there are fewer than two categories, so none can be left out",
            given=f"categories: {', '.join(known) or 'none'}",
            expected="stimuli of two categories or more",
            todo="state categories in the data set's table of stimuli, or use another kind of split",
        )
    columns: dict[str, np.ndarray] = {}
    facts: dict[str, dict[str, Any]] = {}
    for category in wanted:
        own = (stimuli["category"] == category).to_numpy()
        alike = stimuli["set"].isin(set(stimuli["set"][own])).to_numpy() & ~own
        name = f"leave_{re.sub(r'[^A-Za-z0-9.-]+', '_', category).strip('_')}"
        if name in columns:
            raise InputError(
                "two categories have the same name but for their punctuation",
                given=f"{category!r} and {facts[name]['category']!r}, both {name}",
                expected="different names",
                todo="name one of them with --category, or rename them in the data set's table of stimuli",
            )
        columns[name] = np.where(own, "test", np.where(alike, "", "train")).astype(object)
        facts[name] = {"category": category}
    return columns, facts


def _later_sessions(store: Store, stimuli: pd.DataFrame) -> np.ndarray:
    """Test on stimuli that were shown in the last fifth of the sessions alone; train on those never shown there.

    Stimuli that were shown in both, or of which the same one was, are left out.
    """
    parts = []
    for subject in store.subjects:
        samples = store.samples(subject)
        for _, part in samples.groupby("task", sort=False):
            sessions = np.unique(part["session"])
            if len(sessions) > 1:
                held = sessions[-max(1, round(_SESSIONS * len(sessions))) :]
                parts.append(pd.DataFrame({"id": part["stimulus"].astype(str), "late": part["session"].isin(held)}))
    if not parts:
        raise InputError(
            "no task has two sessions, so none can be held out",
            given=f"{', '.join(store.subjects)}: one session in each task",
            expected="a task with two sessions or more",
            todo="use another kind of split",
        )
    late = pd.concat(parts).groupby("id")["late"].agg(["min", "max"])
    of_set = stimuli.assign(low=stimuli["id"].map(late["min"]), high=stimuli["id"].map(late["max"])).groupby("set")
    low, high = of_set["low"].transform("min"), of_set["high"].transform("max")
    return np.where(low == 1, "test", np.where(high == 0, "train", "")).astype(object)


def _of_table(
    settings: SplitSettings, stimuli: pd.DataFrame
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Return the user's own values."""
    name, path = str(settings.column), Path(str(settings.table))
    table = read_table(path)
    ids = next((column for column in ("stimulus", "id") if column in table.frame.columns), None)
    if ids is None:
        raise InputError(
            f"{table.where}: no column holds the ids of the stimuli",
            given=", ".join(map(str, table.frame.columns)),
            expected="a column stimulus or id",
            todo="rename the column",
        )
    table.require([name])
    keys = [str(value) for value in table.names(ids)]
    own = pd.Series(table.frame[name].fillna("").astype(str).str.strip().to_numpy(), index=keys)
    known = set(stimuli["id"])
    unknown, twice = [key for key in keys if key not in known], own.index[own.index.duplicated()].tolist()
    if unknown or twice:
        raise InputError(
            f"{table.where}: " + ("some stimuli are not in the store" if unknown else "stimuli occur twice"),
            given=", ".join((unknown or twice)[:5]),
            expected="each id of store.stimuli at most once",
            todo="correct the ids",
        )
    values = stimuli["id"].map(own).fillna("").to_numpy().astype(object)
    return {name: values}, {name: {"table": path.name}}


# -- what is said about columns ---------------------------------------------------------------------------------------


def _require_subjects(store: Store, name: str, splits: Mapping[str, str]) -> None:
    """Refuse a column in which a subject has nothing to train on, or nothing to test."""
    for subject in store.subjects:
        own = store.samples(subject)["stimulus"].map(splits)
        for needed in ("train", "test"):
            if not (own == needed).any():
                raise InputError(
                    f"{subject} saw no {'test' if needed == 'test' else 'training'} stimulus of the split {name!r}",
                    given=f"{int((own == 'train').sum())} training and {int((own == 'test').sum())} test samples",
                    expected="training and test samples of every subject",
                    todo="use another kind of split or seed, fewer clusters, or name other categories",
                )


def _about(
    settings: SplitSettings,
    name: str,
    stimuli: pd.DataFrame,
    values: np.ndarray,
    facts: Mapping[str, Any],
    target: str | None,
    digests: Mapping[str, bytes],
    rows: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Return how a column was made, JSON types: settings, sizes, and measures of each kind of stimuli."""
    sizes: dict[str, dict[str, int]] = {}
    measured: dict[str, dict[str, float]] = {}
    for kind, part in stimuli[stimuli["shown"]].groupby("kind"):
        own = values[part.index]
        sizes[str(kind)] = {
            "train": int((own == "train").sum()), "test": int((own == "test").sum()),
            "left_out": int((own == "").sum()),
        }  # fmt: skip
        split_rows = [[rows[one] for one in part["id"][own == split] if one in rows] for split in ("train", "test")]
        if all(split_rows):
            measured[str(kind)] = measure(np.stack(split_rows[0]), np.stack(split_rows[1]), settings.seed)
            measured[str(kind)] |= facts.get(kind, {})
    key = {"cluster": ("clusters",), "tau": ("share",), "leave-category": (), "random": (), "session": (), "table": ()}[
        settings.kind
    ]
    return {
        "kind": settings.kind,
        **({} if settings.kind in ("leave-category", "session", "table") else {"seed": settings.seed}),
        **{part: getattr(settings, part) for part in key},
        **{part: facts[part] for part in ("category", "table") if part in facts},
        "target": target,
        "target_digest": None if target is None else block_digest(np.stack([rows[one] for one in sorted(rows)])),
        "sizes": sizes,
        "measured": measured,
    }


def measure(train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, float]:
    """Return how far test stimuli are from training stimuli.

    Parameters
    ----------
    train, test : array, shape (stimulus, feature)
        Of length 1.
    seed : int
        Of the features of the kernel, and of random sets.

    Returns
    -------
    dict
        ``distance``, ``distance_min`` and ``distance_max``: median, smallest and largest cosine distance of a test
        stimulus to the nearest training stimulus; ``mmd`` between the test stimuli and all, and ``mmd_random``, the
        95th percentile of random test sets of the same size.
    """
    nearest = np.concatenate([
        1 - (test[start : start + 256] @ train.T).max(axis=1) for start in range(0, len(test), 256)
    ])  # fmt: skip
    mapped = kernel_features(np.concatenate([test, train]), seed)
    found = {
        "distance": np.median(nearest), "distance_min": nearest.min(), "distance_max": nearest.max(),
        "mmd": mmd(mapped, np.arange(len(test))), "mmd_random": random_mmd(mapped, len(test), seed),
    }  # fmt: skip
    return {name: round(float(value), 4) for name, value in found.items()}


def _warnings(
    name: str,
    about: Mapping[str, Any],
    same: Mapping[str, Sequence[Sequence[str]]],
    of_targets: Mapping[str, Sequence[Any]],
    splits: Mapping[str, str],
) -> list[str]:
    found = [
        f"{name}: only {sizes['test']} test {kind}s, so that scores are uncertain"
        for kind, sizes in about["sizes"].items()
        if 0 < sizes["test"] < FEW
    ]
    found += [
        f"{name}: no {kind} is in {' or '.join(split for split in ('train', 'test') if not sizes[split])}"
        for kind, sizes in about["sizes"].items()
        if not (sizes["test"] and sizes["train"])
    ]
    leaks = {what: straddling(pairs, splits) for what, pairs in same.items()}
    leaks |= {f"target {target}": list(pairs) for target, pairs in of_targets.items()}
    return found + [f"{name}: {describe(pairs, what)}" for what, pairs in leaks.items() if pairs]
