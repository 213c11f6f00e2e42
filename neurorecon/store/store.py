"""Read a store: responses by subject, ROI, split and time; targets by stimulus; everything lazy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.store import schema, selection
from neurorecon.store.backend import open_for_reading
from neurorecon.store.tables import Tables, text_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray


def open_store(location: str | Path, *, snapshot: str | None = None) -> Store:
    """Open a store for reading.

    Parameters
    ----------
    location : path or URL
        An Icechunk store (a folder, ``s3://``, ``gs://``, ``az://``) or a plain ``.zarr`` hierarchy (a folder or
        any URL that fsspec reads).
    snapshot : str, optional
        Id of an older state, as figures carry it. Icechunk only.

    Returns
    -------
    Store

    Raises
    ------
    MissingFileError, StoreError, UnknownNameError
        Where there is no store, it cannot be read, or the snapshot does not exist.
    """
    root, found = open_for_reading(str(location), snapshot)
    return Store(str(location), root, found)


class Store(Tables):
    """A feature store, read-only. Made by :func:`open_store`.

    Attributes
    ----------
    location : str
        Where it was opened.
    snapshot : str or None
        Id of the state that is open; None for plain Zarr.
    """

    def responses(
        self,
        subject: str,
        roi: str | Iterable[str] | None = None,
        split: str | None = None,
        *,
        task: str | None = None,
        time: slice | tuple[float, float] | None = None,
        average: Literal["stimulus"] | None = None,
        delays: Sequence[int] = (),
    ) -> xarray.DataArray:
        """Return responses, lazily.

        Parameters
        ----------
        subject : str
            Name of the subject.
        roi : str or list of str, optional
            A name (``"V1"``), a union (``"V1+V2"``), a hemisphere (``"lh.MT"``), a group of the recipe
            (``"early"``), or a list of these. All voxels where left out.
        split, task : str, optional
            Which samples. All where left out.
        time : slice, optional
            Onset in seconds from the start of each run, start included, stop excluded.
        average : {"stimulus"}, optional
            Average the repeats of each stimulus.
        delays : sequence of int
            For time series: give each sample the volumes so many samples later in its run, side by side along
            voxel. Samples whose run ends before are left out.

        Returns
        -------
        DataArray, dims (sample, voxel), float32, dask
            With the sample and voxel tables as coordinates.
        """
        samples = self.samples(subject)
        positions = selection.select_samples(samples, split, task, time)
        where = self._voxel_positions(subject, roi)
        steps: Sequence[int] = delays or (0,)
        if delays:
            positions, shifted = selection.delayed_positions(samples, positions, delays, self.series(subject))
        else:
            shifted = positions[None]
        table = samples.iloc[positions].reset_index(drop=True)
        weights = None
        if average is not None:
            if average != "stimulus":
                raise UnknownNameError("way to average", average, ["stimulus"])
            weights, table = selection.average_by_stimulus(table)
        blocks = [self._block(subject, rows, where, weights) for rows in shifted]
        return self._labeled(subject, blocks, steps if delays else None, table, where, task)

    def _block(self, subject: str, rows: np.ndarray, where: np.ndarray, weights: Any) -> Any:
        path = f"{subject}/responses"
        array = self._node(path)
        part, columns = selection.contiguous(rows), selection.contiguous(where)
        blocks = selection.reading_blocks(array.chunks, part, columns)
        if weights is not None:
            blocks = (blocks[0], array.chunks[1])
        lazy = self._lazy(path, blocks)
        # A slice is taken while a block is read, scattered places after it: slices come first.
        values = lazy[part][:, columns] if isinstance(part, slice) else lazy[:, columns][part]
        if weights is None:
            return values
        # One block then holds all samples of up to 1,024 voxels: 120 MB for 30,000 trials.
        whole = values.rechunk({0: -1})
        return whole.map_blocks(
            lambda block: (weights @ block).astype(np.float32),
            dtype=np.float32,
            chunks=((weights.shape[0],), whole.chunks[1]),
        )

    def _labeled(
        self,
        subject: str,
        blocks: list[Any],
        steps: Sequence[int] | None,
        table: pd.DataFrame,
        where: np.ndarray,
        task: str | None,
    ) -> xarray.DataArray:
        import dask.array
        import xarray

        voxels = self.voxels(subject).iloc[where]
        coordinates: dict[str, Any] = {name: ("sample", _plain(table[name])) for name in table}
        copies = len(blocks)
        coordinates["voxel"] = ("voxel", np.tile(where, copies))
        for name in voxels:
            coordinates[name] = ("voxel", np.tile(_plain(voxels[name]), copies))
        if steps is not None:
            coordinates["delay"] = ("voxel", np.repeat(np.asarray(steps), len(where)))
        repeated = self._repeated_tasks(subject)
        if len(repeated) == 1 or task in repeated:
            for name in ("noise_ceiling", "ncsnr"):
                values = self._ceiling(name, subject, None, task)
                if values is not None:
                    coordinates[name] = ("voxel", np.tile(values[where], copies))
        data = blocks[0] if copies == 1 else dask.array.concatenate(blocks, axis=1)
        return xarray.DataArray(
            data,
            dims=("sample", "voxel"),
            coords=coordinates,
            name="responses",
            attrs={"subject": subject, "units": self.description["units"], "store": self.name},
        )

    def targets(self, name: str, split: str | None = None, stimuli: Sequence[str] | None = None) -> xarray.DataArray:
        """Return a target, lazily, one row a stimulus.

        Parameters
        ----------
        name : str
            One of :attr:`targets_available`.
        split : str, optional
            Only stimuli of this split.
        stimuli : sequence of str, optional
            These stimuli, in this order (repeats allowed).

        Returns
        -------
        DataArray, dims (stimulus, feature) or (stimulus, ..., feature), float32, dask
        """
        import xarray

        if name not in self.targets_available:
            raise UnknownNameError(
                "target",
                name,
                self.targets_available,
                todo=f"compute it: neurorecon features --target {name}",
            )
        group: Any = self._root[f"{schema.TARGETS}/{name}"]
        ids = text_of(group["stimulus"])
        if stimuli is None:
            rows = np.arange(len(ids)) if split is None else self._rows_of_split(ids, split)
        else:
            rows = _positions(ids, stimuli, f"target {name!r}")
        values = self._lazy(f"{schema.TARGETS}/{name}/values")[selection.contiguous(rows)]
        array = group["values"]
        dims = ("stimulus", *array.metadata.dimension_names[1:])
        coordinates: dict[str, Any] = {"stimulus": ("stimulus", ids[rows])}
        if "feature" in group and "feature" in dims:
            coordinates["feature"] = ("feature", text_of(group["feature"]))
        made_by = {key: value for key, value in group.attrs.items() if key != "complete"}
        return xarray.DataArray(values, dims=dims, coords=coordinates, name=name, attrs=made_by)

    def pairs(
        self,
        subject: str,
        target: str,
        roi: str | Iterable[str] | None = None,
        split: str | None = None,
        *,
        task: str | None = None,
        time: slice | tuple[float, float] | None = None,
        average: Literal["stimulus"] | None = "stimulus",
        delays: Sequence[int] = (),
    ) -> tuple[xarray.DataArray, xarray.DataArray]:
        """Return responses and the target of their stimuli, row by row the same.

        Samples whose stimulus has no such target (a picture has no motion) are left out. Parameters are those of
        :meth:`responses` and :meth:`targets`.

        Returns
        -------
        responses : DataArray, dims (sample, voxel)
        target : DataArray, dims (sample, feature) or (sample, ..., feature)
        """
        responses = self.responses(subject, roi, split, task=task, time=time, average=average, delays=delays)
        have = set(self.target_stimuli(target).tolist())
        ids = responses["stimulus"].values
        kept = np.array([identifier in have for identifier in ids.tolist()])
        if not kept.any():
            raise InputError(
                f"none of these samples has the target {target!r}",
                given=f"subject={subject!r}, split={split!r}, task={task!r}",
                expected="stimuli for which the target was computed",
                todo="select the task whose stimuli have it, e.g. the films for motion",
            )
        responses = responses.isel(sample=selection.contiguous(np.flatnonzero(kept)))
        values = self.targets(target, stimuli=ids[kept].tolist()).rename(stimulus="sample")
        coordinate = values.coords["sample"].values
        return responses, values.drop_vars("sample").assign_coords(stimulus=("sample", coordinate))

    def target_stimuli(self, name: str) -> np.ndarray:
        """Return the ids of the stimuli that have a target."""
        if name not in self.targets_available:
            self.targets(name)  # raises, with the names that exist
        group: Any = self._root[f"{schema.TARGETS}/{name}"]
        return text_of(group["stimulus"])

    def images(self, stimuli: Sequence[str] | None = None, split: str | None = None) -> xarray.DataArray:
        """Return pictures, lazily; for a film its middle frame.

        Returns
        -------
        DataArray, dims (stimulus, y, x, rgb), uint8, dask
        """
        return self._pictures("images", self.stimuli["id"].to_numpy(str), stimuli, split)

    def frames(self, stimuli: Sequence[str] | None = None, split: str | None = None) -> xarray.DataArray:
        """Return films, lazily.

        Returns
        -------
        DataArray, dims (stimulus, frame, y, x, rgb), uint8, dask
        """
        group: Any = self._root[schema.STIMULI]
        ids = text_of(group["film"]) if "film" in group else np.array([], dtype=str)
        return self._pictures("frames", ids, stimuli, split)

    def unmask(self, values: np.ndarray, subject: str, roi: str | Iterable[str] | None = None) -> Any:
        """Put values back into the brain.

        Parameters
        ----------
        values : array, shape (voxel,) or (map, voxel)
            In the order of the subject's voxels, or of those of `roi`.
        subject : str
            Name of the subject.
        roi : str or list of str, optional
            The selection that `values` belong to.

        Returns
        -------
        nibabel.Nifti1Image, nilearn.surface.SurfaceImage or nibabel.Cifti2Image
            As the subject's space is.
        """
        return self.space(subject).unmask(np.asarray(values), self.voxels(subject, roi))

    def _lazy(self, path: str, blocks: tuple[int, ...] | None = None) -> Any:
        import dask.array

        array = self._node(path)
        blocks = array.chunks if blocks is None else blocks
        name = f"{self.location}:{self.snapshot}:{path}:{'x'.join(map(str, blocks))}"
        return dask.array.from_array(array, chunks=blocks, name=name)

    def _rows_of_split(self, ids: np.ndarray, split: str) -> np.ndarray:
        known = [name for name in self.stimuli["split"].unique() if name]
        if split not in known:
            raise UnknownNameError("split", split, known)
        members = self.stimuli.set_index("id")["split"].loc[ids.tolist()] == split
        return np.flatnonzero(members.to_numpy())

    def _pictures(
        self, array: str, ids: np.ndarray, stimuli: Sequence[str] | None, split: str | None
    ) -> xarray.DataArray:
        import xarray

        group: Any = self._root[schema.STIMULI]
        if array not in group:
            raise InputError(
                f"this store holds no {'pictures' if array == 'images' else 'films'}",
                given=self.location,
                expected="a data set that brings its stimuli",
                todo="see store.stimuli for what is known of them",
            )
        if stimuli is not None:
            rows = _positions(ids, stimuli, array)
        else:
            rows = np.arange(len(ids)) if split is None else self._rows_of_split(ids, split)
        dims = ("stimulus", *group[array].metadata.dimension_names[1:])
        values = self._lazy(f"{schema.STIMULI}/{array}")[selection.contiguous(rows)]
        return xarray.DataArray(values, dims=dims, coords={"stimulus": ("stimulus", ids[rows])}, name=array)


def _positions(ids: np.ndarray, wanted: Sequence[str], where: str) -> np.ndarray:
    place = {identifier: number for number, identifier in enumerate(ids.tolist())}
    missing = [identifier for identifier in wanted if identifier not in place]
    if missing:
        raise InputError(
            f"{where}: {len(missing)} of these stimuli are not there",
            given=", ".join(map(str, missing[:5])),
            expected=f"ids such as {', '.join(ids[:3].tolist())}",
            todo="see store.stimuli for all of them",
        )
    return np.array([place[identifier] for identifier in wanted], dtype=int)


def _plain(column: pd.Series) -> np.ndarray:
    """Return a column as numbers or fixed-width text, which is what xarray coordinates take everywhere."""
    return column.to_numpy() if column.dtype.kind in "biuf" else column.to_numpy().astype(str)
