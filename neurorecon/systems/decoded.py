"""Decoded targets: the seam of every system, which analyses change before images are generated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.files import write_json
from neurorecon.io.tensors import load, save
from neurorecon.models.load import noise_like

if TYPE_CHECKING:
    import xarray

#: Version of the layout of saved systems and decoded targets.
FORMAT = 1

#: Name of the entry that holds the measured responses, (stimulus, voxel), of systems that generate from them too.
RESPONSES = "responses"


class MissingTargetError(InputError, KeyError):
    """Raised if generation needs a target that was not decoded or was dropped."""

    def __str__(self) -> str:
        return str(self.args[0])


class Decoded(Mapping[str, "xarray.DataArray"]):
    """Decoded targets, by name; immutable: every change returns a new object.

    Each value is a float32 array with dimensions (stimulus, ...), in the shape and units of the stored target, with the
    coordinate ``stimulus`` and the attributes of the stored target. All values have the same stimuli in the same order.
    A missing target is a missing key.

    Parameters
    ----------
    arrays : mapping of str to DataArray
        The targets, dims (stimulus, ...).
    stimuli : sequence of str, optional
        Ids; needed if there is no target.
    training : mapping of str to (mean, deviation), optional
        Of each target over the training samples, in the shape of one stimulus; :meth:`noise` uses them.
    reliability : mapping of str to array, optional
        How well each feature of a target is decoded: the correlation of what was decoded from left-out training
        samples with the target, in the shape of one stimulus. Systems that select features use it.

    Raises
    ------
    InputError
        If targets have different stimuli.
    """

    def __init__(
        self,
        arrays: Mapping[str, xarray.DataArray],
        stimuli: ArrayLike | None = None,
        training: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
        reliability: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        names = None if stimuli is None else np.asarray(stimuli).astype(str)
        for name, array in arrays.items():
            found = np.asarray(array["stimulus"].values).astype(str) if "stimulus" in array.coords else None
            if found is None or array.dims[0] != "stimulus":
                raise InputError(
                    f"the decoded target {name!r} has no stimuli",
                    given=f"dims {array.dims}",
                    expected="dims (stimulus, ...) with the coordinate stimulus",
                    todo="name the first dimension stimulus, and give its coordinate",
                )
            if names is not None and not np.array_equal(names, found):
                raise InputError(
                    f"the decoded target {name!r} belongs to other stimuli",
                    given=f"{len(found)} stimuli: {', '.join(found[:3])} ...",
                    expected=f"{len(names)} stimuli: {', '.join(names[:3])} ...",
                    todo="decode all targets from the same responses",
                )
            names = found
        if names is None:
            raise InputError("nothing was decoded", expected="targets, or stimuli=", todo="use Decoded.empty(stimuli)")
        self._arrays = {name: array.astype(np.float32, copy=False) for name, array in arrays.items()}
        self._stimuli = names
        self.training = dict(training or {})
        self.reliability = dict(reliability or {})

    @classmethod
    def empty(cls, stimuli: ArrayLike) -> Decoded:
        """Return stimuli without targets, for unconditional generation."""
        return cls({}, stimuli)

    @property
    def stimuli(self) -> np.ndarray:
        """Ids, shape (stimulus,)."""
        return self._stimuli

    def __getitem__(self, name: str) -> xarray.DataArray:
        if name not in self._arrays:
            raise MissingTargetError(
                f"the target {name!r} is missing",
                given=f"decoded targets: {', '.join(self._arrays) or '(none)'}",
                expected=name,
                todo="decode it, or set it with decoded.with_(...)",
            )
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        parts = [f"{name} {tuple(array.shape[1:])}" for name, array in self._arrays.items()]
        return f"Decoded({', '.join(parts) or 'no targets'}; {len(self._stimuli)} stimuli)"

    def drop(self, *names: str) -> Decoded:
        """Return the targets without those named."""
        for name in names:
            self[name]
        return self._with({name: array for name, array in self.items() if name not in names})

    def with_(self, **arrays: Any) -> Decoded:
        """Replace or add targets.

        Parameters
        ----------
        **arrays : array or DataArray, shape (stimulus, ...)
            An array has the dimensions of the target that it replaces; a new target is a DataArray.
        """
        import xarray

        found = dict(self.items())
        for name, array in arrays.items():
            if not isinstance(array, xarray.DataArray):
                before = self[name]
                if np.shape(array) != before.shape:
                    raise InputError(
                        f"this array cannot replace the target {name!r}",
                        given=f"shape {np.shape(array)}",
                        expected=f"{before.shape}, (stimulus, ...)",
                        todo="give one row for each stimulus, in the shape of the target",
                    )
                array = before.copy(data=np.asarray(array, dtype=np.float32))
            found[name] = array
        return self._with(found)

    def permute(self, name: str, order: ArrayLike) -> Decoded:
        """Exchange one target between stimuli: stimulus i gets the target of stimulus ``order[i]``."""
        return self.with_(**{name: self[name].values[np.asarray(order)]})

    def noise(self, name: str, seed: int) -> Decoded:
        """Replace one target by normal noise with the mean and deviation of each feature over the training samples."""
        mean, deviation = self.training[name]
        shape = self[name].shape[1:]
        drawn = np.stack([noise_like(shape, seed, str(stimulus)) for stimulus in self._stimuli])
        return self.with_(**{name: mean + deviation * drawn})

    def take(self, stimuli: ArrayLike) -> Decoded:
        """Return some stimuli, by id or by index."""
        chosen = np.asarray(stimuli)
        if chosen.dtype.kind not in "iu":
            place = {name: number for number, name in enumerate(self._stimuli.tolist())}
            missing = [name for name in chosen.astype(str).tolist() if name not in place]
            if missing:
                raise UnknownNameError("stimulus", missing[0], self._stimuli[:10].tolist())
            chosen = np.array([place[name] for name in chosen.astype(str).tolist()], dtype=int)
        arrays = {name: array.isel(stimulus=chosen) for name, array in self.items()}
        return Decoded(arrays, self._stimuli[chosen], self.training, self.reliability)

    def relabeled(self, stimuli: ArrayLike) -> Decoded:
        """Return the targets as those of other stimuli: noise of generation is keyed by these ids."""
        names = np.asarray(stimuli).astype(str)
        arrays = {name: array.assign_coords(stimulus=("stimulus", names)) for name, array in self.items()}
        return Decoded(arrays, names, self.training, self.reliability)

    def _with(self, arrays: Mapping[str, xarray.DataArray]) -> Decoded:
        return Decoded(arrays, self._stimuli, self.training, self.reliability)

    def save(self, folder: str | Path) -> Path:
        """Save the decoded targets in a folder that :meth:`load` reads, without pickle."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        arrays = {f"target.{name}": array.values for name, array in self.items()}
        for name, moments in self.training.items():
            arrays |= {f"mean.{name}": moments[0], f"deviation.{name}": moments[1]}
        arrays |= {f"reliability.{name}": values for name, values in self.reliability.items()}
        save(place / "decoded.safetensors", arrays)
        about = {name: {"dims": list(array.dims), "attrs": array.attrs} for name, array in self.items()}
        write_json(place / "decoded.json", {"format": FORMAT, "stimuli": self._stimuli.tolist(), "targets": about})
        return place

    @classmethod
    def load(cls, folder: str | Path) -> Decoded:
        """Load decoded targets that :meth:`save` wrote."""
        import xarray

        about = read_json(Path(folder) / "decoded.json", "decoded.save(folder)")
        arrays = load(Path(folder) / "decoded.safetensors")[0]
        coordinates = {"stimulus": np.array(about["stimuli"], dtype=str)}
        found = {
            name: xarray.DataArray(
                arrays[f"target.{name}"], dims=kept["dims"], coords=coordinates, attrs=kept["attrs"], name=name
            )
            for name, kept in about["targets"].items()
        }
        names = [name.removeprefix("mean.") for name in arrays if name.startswith("mean.")]
        training = {name: (arrays[f"mean.{name}"], arrays[f"deviation.{name}"]) for name in names}
        start = "reliability."
        reliability = {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}
        return cls(found, about["stimuli"], training, reliability)


def as_images(values: Any, stimuli: ArrayLike) -> xarray.DataArray:
    """Return images or videos as :meth:`System.generate` returns them: float32, clipped to [0, 1], with their stimuli.

    Parameters
    ----------
    values : array, shape (stimulus, [frame,] y, x, rgb)
        0 is black, 1 white.
    stimuli : sequence of str
        Ids.
    """
    import xarray

    clipped = np.clip(np.asarray(values), 0.0, 1.0).astype(np.float32)
    dims = ("stimulus", "y", "x", "rgb") if clipped.ndim == 4 else ("stimulus", "frame", "y", "x", "rgb")
    return xarray.DataArray(clipped, dims=dims, coords={"stimulus": ("stimulus", np.asarray(stimuli).astype(str))})


def read_json(file: Path, written_by: str) -> dict[str, Any]:
    """Read the JSON file that describes a folder, and check its format version."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = int(found["format"])
    except OSError as error:
        raise MissingFileError(
            f"{file.name} is missing", given=str(file.parent), expected=str(file), todo=f"write it with {written_by}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file.name} is damaged", given=str(file), expected="the file as it was written", todo="write it again"
        ) from error
    if version > FORMAT:
        raise InputError(
            "this folder was written by a newer version of neurorecon",
            given=f"format {version}",
            expected=f"format {FORMAT} or older",
            todo="update neurorecon",
        )
    return found
