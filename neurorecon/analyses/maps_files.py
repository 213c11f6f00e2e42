"""Write maps: tables, brain images, figures, an interactive page, and the record of how they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.analyses.maps import VoxelwiseMap
from neurorecon.analyses.maps_figures import Drawing, draw_maps
from neurorecon.analyses.maps_normalized import rois_with_normalized, voxels_with_normalized
from neurorecon.io.files import replacing, write_bytes, write_json
from neurorecon.provenance import to_json
from neurorecon.store.store import Store

#: Maps that go into the brain image, in this order.
_LABELS = {"r2": "Joint R²", "noise_ceiling": "Noise ceiling (R²)", "p": "p", "q": "q (FDR)"}


def write_maps(
    found: VoxelwiseMap | Sequence[VoxelwiseMap],
    store: Store,
    out: str | Path,
    record: Mapping[str, Any],
    *,
    figures: bool = True,
) -> list[Path]:
    """Write maps into a folder.

    Parameters
    ----------
    found : VoxelwiseMap or sequence of VoxelwiseMap
        From :func:`neurorecon.voxelwise_maps`, e.g. one a subject.
    store : Store
        The store that they were made from.
    out : path
        The folder; made where it does not exist.
    record : mapping
        From :func:`neurorecon.record_of`; goes into every file that can hold it, with the settings of the map.
    figures : bool
        Draw figures and the interactive page too.

    Returns
    -------
    list of Path
        The files: CSV of voxels and of ROIs (with scores over the noise ceiling, where there is one), NIfTI, GIFTI or
        CIFTI as the space is, PNG, SVG and PDF figures, HTML, JSON.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files, drawings = [], []
    for item in [found] if isinstance(found, VoxelwiseMap) else found:
        stem, own = folder / f"{item.subject}_{item.kind}", {**record, "extra": item.settings}
        files += [
            write_bytes(f"{stem}_voxels.csv", voxels_with_normalized(item).to_csv(float_format="%.6g").encode()),
            write_bytes(
                f"{stem}_areas.csv", rois_with_normalized(item).to_csv(index=False, float_format="%.6g").encode()
            ),
            write_json(f"{stem}.json", {**own, "scores": item.scores}),
        ]
        files += write_brain_images(item, store, stem, own)
        drawings.append(Drawing(item, str(stem), own))
    return files + (draw_maps(drawings, store) if figures else [])


def write_brain_images(found: VoxelwiseMap, store: Store, stem: str | Path, record: Mapping[str, Any]) -> list[Path]:
    """Write all maps of a subject as one image of its space, a map each; nothing for arrays without geometry."""
    maps = found.maps
    kind = store.space(found.subject).kind
    if kind == "none":
        return []
    voxels = store.voxels(found.subject).iloc[found.table.index.to_numpy()]
    image = store.space(found.subject).unmask(np.array(list(maps.values())), voxels)
    if kind == "volume":
        image.header["descrip"] = f"neurorecon {found.kind}: {', '.join(maps)}"[:79].encode("ascii", "replace")
        image.header.extensions.append(_comment(record))
        return [_save(image, f"{stem}_maps.nii.gz")]
    if kind == "grayordinates":
        from nibabel import cifti2

        names = cifti2.ScalarAxis(list(maps))
        named = type(image)(image.get_fdata(dtype=np.float32), (names, image.header.get_axis(1)))
        return [_save(named, f"{stem}_maps.dscalar.nii")]
    return [
        _save(_gifti(image.data.parts[side], list(maps), record), f"{stem}_maps.{name}.func.gii")
        for side, name in (("left", "lh"), ("right", "rh"))
    ]


def _comment(record: Mapping[str, Any]) -> Any:
    from nibabel.nifti1 import Nifti1Extension

    return Nifti1Extension("comment", to_json(record).encode())


def _gifti(values: np.ndarray, names: list[str], record: Mapping[str, Any]) -> Any:
    from nibabel import gifti

    arrays = [
        gifti.GiftiDataArray(
            np.ascontiguousarray(column, dtype=np.float32),
            intent="NIFTI_INTENT_NONE",
            datatype="NIFTI_TYPE_FLOAT32",
            meta=gifti.GiftiMetaData({"Name": name}),
        )
        for name, column in zip(names, values.T, strict=True)
    ]
    return gifti.GiftiImage(meta=gifti.GiftiMetaData({"neurorecon": to_json(record)}), darrays=arrays)


def _save(image: Any, path: str) -> Path:
    with replacing(path) as part:
        image.to_filename(str(part))
    return Path(path)
