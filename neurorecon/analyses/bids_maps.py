"""Brain maps of a folder of results as a BIDS derivative, one file a map, with a JSON sidecar.

Names follow BEP041 (statistical maps) as far as it stands, such as
``sub-01_task-images_hemi-L_space-fsaverage_stat-r2_desc-encoding_statmap.shape.gii``; volumes end in ``.nii.gz``, and
grayordinates in ``.dscalar.nii``. The label of ``stat`` is the name of the map, that of ``desc`` the kind of result.
Labels hold letters and digits only, so the sidecar has the name in full.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

import neurorecon
from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.files import damaged, remove_leftovers, replacing, write_json
from neurorecon.io.grid import FSAVERAGE
from neurorecon.io.volumes import image_values, open_image

#: Version of BIDS that the names were checked against.
BIDS_VERSION = "1.10.0"

#: Endings of the brain images of a result; those of surfaces come in pairs.
IMAGES = ("_maps.nii.gz", "_maps.dscalar.nii", "_maps.lh.func.gii", "_maps.rh.func.gii")

#: Density of an fsaverage mesh in the words of BIDS, by its vertices.
DENSITIES = {163842: "164k", 40962: "41k", 10242: "10k", 2562: "3k"}


@dataclass(frozen=True)
class Map:
    """A map in a brain image.

    Parameters
    ----------
    name : str
        E.g. ``"r2"``.
    entities : mapping of str to str
        Entities of its space, e.g. ``{"hemi": "L", "space": "fsaverage"}``.
    suffix : str
        Ending of its file.
    image : object
        The nibabel image of this map alone.
    """

    name: str
    entities: Mapping[str, str]
    suffix: str
    image: Any


def export_maps(results: str | Path, out: str | Path) -> list[Path]:
    """Export all brain maps of a folder of results to a new BIDS derivative.

    Parameters
    ----------
    results : path
        A folder that :func:`neurorecon.write` wrote.
    out : path
        The folder to write; it must not exist, or be empty.

    Returns
    -------
    list of Path
        The files. The folder appears only once it is complete.

    Raises
    ------
    MissingFileError, InputError
        If there are no brain maps, a file was changed since it was written, or the folder holds something.
    """
    folder, target = Path(results), Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(
            "the maps cannot be exported to this location",
            given=f"{target}, which {'holds files' if target.is_dir() else 'is a file'}",
            expected="a folder that is empty or does not exist yet",
            todo="choose another name",
        )
    found = list(_manifests(folder))
    if not any(images for _, images in found):
        raise MissingFileError(
            "the folder holds no brain maps",
            given=f"{len(found)} results in {folder}" if found else f"no results in {folder}",
            expected="the folder of neurorecon maps, classify or partition, of voxels with positions",
            todo="name such a folder, e.g. neurorecon export --bids results/maps_NAME OUT",
        )
    remove_leftovers(target)
    with replacing(target) as part:
        part.mkdir()
        write_json(part / "dataset_description.json", _description(folder, [record for record, _ in found]))
        for record, images in found:
            for path in images:
                for one in read_maps(path):
                    _write(part, record, path, one)
    return sorted(path for path in target.rglob("*") if path.is_file())


def _manifests(folder: Path) -> Iterator[tuple[dict[str, Any], list[Path]]]:
    """Yield the record of each result, and its brain images, compared with their sha256."""
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            files, _ = record["files"], record["settings"]["subject"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # another JSON file
        images = [path.parent / name for name in files if name.endswith(IMAGES)]
        for image in images:
            if not image.is_file() or sha256(image.read_bytes()).hexdigest() != files[image.name]:
                raise InputError(
                    f"{image} is not the file that was written",
                    given="another sha256" if image.is_file() else "no such file",
                    expected=f"sha256 {files[image.name][:12]}..., as in {path.name}",
                    todo="run the command that made it again",
                )
        yield record, sorted(images)


def read_maps(path: Path) -> Iterator[Map]:
    """Yield the maps of a brain image that :func:`neurorecon.write` wrote.

    Parameters
    ----------
    path : path
        A NIfTI, dscalar or func GIFTI file.

    Raises
    ------
    InputError
        If the file cannot be read, or does not name its maps.
    """
    import nibabel

    image: Any = open_image(path)
    if path.name.endswith(".func.gii"):
        side = "L" if path.name.endswith(".lh.func.gii") else "R"
        for array in image.darrays:
            number = len(array.data)
            entities = {"hemi": side}
            if number in FSAVERAGE:
                density = {"den": DENSITIES[number]} if number in DENSITIES else {}
                entities |= {"space": "fsaverage", **density}
            array.intent = nibabel.nifti1.intent_codes["NIFTI_INTENT_SHAPE"]
            yield Map(array.meta["Name"], entities, ".shape.gii", nibabel.gifti.GiftiImage(darrays=[array]))
        return
    values = image_values(image, path)
    if path.name.endswith(".dscalar.nii"):
        axis, models = image.header.get_axis(0), image.header.get_axis(1)
        space = {"space": "fsLR"} if 32492 in models.nvertices.values() else {}
        for row, name in enumerate(axis.name):
            scalar = nibabel.cifti2.ScalarAxis([str(name)])
            single = nibabel.Cifti2Image(values[row : row + 1].astype(np.float32), (scalar, models))
            yield Map(str(name), space, ".dscalar.nii", single)
        return
    names = _names_of(image, path)
    volumes = values.reshape(*values.shape[:3], -1)
    if volumes.shape[3] != len(names):
        raise damaged(path, ValueError(f"{volumes.shape[3]} volumes, {len(names)} names of maps"))
    for number, name in enumerate(names):
        yield Map(name, {}, ".nii.gz", nibabel.Nifti1Image(volumes[..., number].astype(np.float32), image.affine))


def _names_of(image: Any, path: Path) -> list[str]:
    """Return the names of the maps in a NIfTI file, from the record in its header."""
    for extension in image.header.extensions:
        try:
            names = json.loads(extension.get_content())["maps"]
        except (ValueError, KeyError, TypeError):
            continue
        return [str(name) for name in names]
    raise InputError(
        f"{path} does not name its maps",
        given="no record with names in its header",
        expected="a file that this version of neurorecon wrote",
        todo="run the command that made it again",
    )


def label(text: str) -> str:
    """Return a name as a BIDS label: letters and digits, each word but the first with a capital.

    Examples
    --------
    >>> label("clip_image r2 (normalized)")
    'clipImageR2Normalized'
    """
    first, *others = re.findall(r"[A-Za-z0-9]+", text) or ["map"]
    return first + "".join(word[0].upper() + word[1:] for word in others)


def _write(folder: Path, record: Mapping[str, Any], source: Path, found: Map) -> None:
    """Write a map and its sidecar."""
    settings = record["settings"]
    subject = label(str(settings["subject"]).removeprefix("sub-"))
    task = label(settings["task"]) if settings.get("task") else ""
    kind = label(str(settings.get("kind", "result")))
    parts = {"sub": subject, "task": task, **found.entities, "stat": label(found.name), "desc": kind}
    stem = "_".join(f"{key}-{value}" for key, value in parts.items() if value) + "_statmap"
    path = folder / f"sub-{subject}" / "func" / f"{stem}{found.suffix}"
    if path.exists():
        raise InputError(
            "two maps would have the same name",
            given=f"{found.name!r} of {source.name} as {path.name}",
            expected="names that differ in letters and digits, and one result for each subject, task and kind",
            todo="export the results one folder at a time",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    found.image.to_filename(str(path))
    sidecar = {
        "MapName": found.name,
        "Description": f"{found.name} of neurorecon {settings.get('kind', 'result')}",
        "TaskName": settings.get("task"),
        "Sources": [source.name],
        "SimulatedData": record.get("simulated"),
        "GeneratedBy": _generated_by(record),
        "neurorecon": {key: value for key, value in record.items() if key != "files"},
    }
    write_json(path.with_name(f"{stem}.json"), sidecar)


def _generated_by(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    versions = record.get("versions") or {}
    return [{"Name": "neurorecon", "Version": versions.get("neurorecon", neurorecon.__version__),
             "Description": record.get("command")}]  # fmt: skip


def _description(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return dataset_description.json."""
    simulated = any(record.get("simulated") for record in records)
    return {
        "Name": f"Brain maps of {folder.name}{' (SIMULATED data)' if simulated else ''}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": _generated_by(records[0]),
    }
