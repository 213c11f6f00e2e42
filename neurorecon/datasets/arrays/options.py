"""Options of the reader of arrays."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurorecon.datasets.base import Options

#: Share of the stimuli that is held out where neither a table nor the recipe says which.
TEST_SHARE = 0.1


class ArraysOptions(Options):
    """Options of the reader of arrays; all may be left out.

    Parameters
    ----------
    transpose : bool
        The responses are (voxel, sample) instead of (sample, voxel).
    responses_key, images_key, frames_key : str, optional
        Names of the arrays inside .npz, .h5 or .zarr; by default the array called ``responses`` (``images``,
        ``frames``), or the only one.
    repetition_time : float, optional
        Seconds between the rows, where the samples are the volumes of a time series.
    test_share : float, optional
        Hold out this share of the stimuli, drawn at random.
    test_stimuli : list of str
        Hold out these stimuli.
    seed : int
        Of the draw.
    bad_voxels : {"drop", "keep"}
        Voxels that are not finite somewhere, or constant throughout a session (time series: a run), are dropped, or
        kept with zeros in place of what is not finite.
    rois : list of str, optional
        Columns of the table of voxels that are ROIs; by default all that hold only 0 and 1.
    affine : nested list, shape (4, 4), optional
        Indices i, j, k to millimeters; with `shape`, in place of ``mask.nii.gz``.
    shape : list of int, optional
        Size of the volume, (x, y, z).
    mesh : str, optional
        Surface that ``hemisphere`` and ``vertex`` refer to, ``"fsaverage3"`` to ``"fsaverage7"``.
    image_size : int, optional
        Cut pictures of a folder to squares and scale them to this number of pixels. Needed where their sizes differ.
    frames_per_second : float, optional
        Frame rate of the films.
    title, citation, terms, units : str, optional
        What the store says of the data; before what ``about.toml`` says.
    simulated : bool, optional
        The responses were computed, not measured; every figure says so.
    """

    transpose: bool = False
    responses_key: str | None = None
    images_key: str | None = None
    frames_key: str | None = None
    repetition_time: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    test_share: float | None = Field(default=None, gt=0, lt=1)
    test_stimuli: list[str] = Field(default_factory=list)
    seed: int = Field(default=0, ge=0)
    bad_voxels: Literal["drop", "keep"] = "drop"
    rois: list[str] | None = None
    affine: list[list[float]] | None = None
    shape: list[int] | None = Field(default=None, min_length=3, max_length=3)
    mesh: str | None = None
    image_size: int | None = Field(default=None, ge=8, le=4096)
    frames_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    title: str | None = Field(default=None, min_length=1, pattern=r"^[^\n]*$")
    citation: str | None = Field(default=None, min_length=1)
    terms: str | None = Field(default=None, min_length=1)
    units: str | None = Field(default=None, min_length=1)
    simulated: bool | None = None
