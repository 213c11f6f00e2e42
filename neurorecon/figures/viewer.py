"""Interactive surface maps: one HTML file that needs neither a network nor WebGL.

The page contains its own small renderer, which uses the method of :mod:`neurorecon.figures.paint`. It therefore
works in any browser and offline, and it shows the values at each vertex.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.figures.mesh import HEMISPHERES, border_chains, check_values, load_mesh, nearest_source
from neurorecon.figures.style import band_colors, band_label, color_map, default_colormap, nice_limits, quantity_note
from neurorecon.figures.surface import Outlines, PerHemisphere, check_outlines, spread_note
from neurorecon.provenance import to_json

SURFACES = ("inflated", "pial", "flat")

#: Keys of the options of a map.
OPTIONS = ("label", "quantity", "cmap", "vmin", "vmax", "categories")


def interactive(
    maps: Mapping[str, PerHemisphere],
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    mesh: str = "fsaverage5",
    outlines: Outlines | None = None,
    title: str = "Maps",
    note: str | None = None,
    radius: float = 3.0,
    simulated: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Create an HTML page with interactive surface maps: choose a map, rotate the brain, read values.

    Parameters
    ----------
    maps : mapping of str to mapping of {"left", "right"} to array, shape (vertex,)
        Values of each map, NaN where there is no voxel. The page opens with the first map.
    options : mapping of str to mapping, optional
        Options of single maps: ``label`` (quantity and unit), ``quantity`` (``"encoding"``, ``"decoding"``,
        ``"haufe"``), ``cmap``, ``vmin``, ``vmax``, or ``categories`` (names of bands, for maps of band indices).
    mesh : str
        Template surface, one of :data:`neurorecon.figures.mesh.MESHES`.
    outlines : mapping of str to mapping of {"left", "right"} to bool array, optional
        ROIs. Their borders are drawn, and pointing at a vertex shows the names of its ROIs.
    title, note : str, optional
        Heading of the page, and a sentence below the map.
    radius : float
        For display, values are spread to vertices without a voxel up to this distance (mm along the pial surface).
    simulated : bool
        Whether to show a notice that the data are simulated.
    provenance : mapping, optional
        Provenance record, shown on request and read by :func:`neurorecon.figures.read_provenance`.

    Returns
    -------
    str
        Self-contained HTML. Its content security policy blocks all network requests.

    Raises
    ------
    InputError
        If there is no map, or values do not fit the mesh.
    UnknownNameError
        If `options` names an unknown map or option.
    """
    if not maps:
        raise InputError(
            "there is no map to show", given="an empty mapping", expected="{'joint R2': {'left': ..., 'right': ...}}"
        )
    for name in options or {}:
        if name not in maps:
            raise UnknownNameError("map", name, maps)
    checked = {name: check_values(values, mesh) for name, values in maps.items()}
    rois = check_outlines(outlines, mesh)
    scene = {
        "hemispheres": {side: _hemisphere(mesh, side, checked, rois, radius) for side in HEMISPHERES},
        "maps": [_map(name, values, (options or {}).get(name, {})) for name, values in checked.items()],
        "rois": list(rois),
        "radius": radius if radius > 0 else 0.5,
    }
    simulated = simulated or bool((provenance or {}).get("simulated"))
    return render(
        "interactive.html",
        title=title,
        note=" ".join(text for text in (note, spread_note(radius)) if text),
        simulated=simulated,
        scene=scene,
        provenance=to_json(provenance, indent=2) if provenance else None,
        record=script_json(to_json(provenance)) if provenance else None,
    )


def _map(name: str, values: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> dict[str, Any]:
    for key in options:
        if key not in OPTIONS:
            raise UnknownNameError("option of a map", key, OPTIONS)
    quantity = options.get("quantity")
    entry: dict[str, Any] = {
        "name": name,
        "label": str(options.get("label", name)),
        "quantity": quantity_note(quantity),
        "values": {side: _compact(part) for side, part in values.items()},
    }
    categories: Sequence[str] | None = options.get("categories")
    if categories is not None:
        entry["categories"] = [
            {"name": band_label(key), "color": color} for key, color in band_colors(categories).items()
        ]
        return entry
    shown = np.concatenate([part[np.isfinite(part)] for part in values.values()])
    low, high = np.percentile(shown, [1, 99]) if len(shown) else (0.0, 1.0)
    limits = nice_limits(float(low), float(high), vmin=options.get("vmin"), vmax=options.get("vmax"), quantity=quantity)
    table = color_map(options.get("cmap") or default_colormap(quantity))(np.linspace(0, 1, 256))[:, :3]
    entry["limits"] = limits
    entry["colors"] = _encode((table * 255).round().astype(np.uint8))
    return entry


def _compact(values: np.ndarray) -> dict[str, str]:
    """Keep only the vertices that have a value; most of the cortex has none."""
    vertices = np.flatnonzero(np.isfinite(values))
    return {"vertices": _encode(vertices.astype("<u4")), "values": _encode(values[vertices].astype("<f4"))}


def _hemisphere(
    mesh: str,
    side: str,
    maps: Mapping[str, Mapping[str, np.ndarray]],
    rois: Mapping[str, Mapping[str, np.ndarray]],
    radius: float,
) -> dict[str, Any]:
    measured = np.any([np.isfinite(values[side]) for values in maps.values()], axis=0)
    limit = radius + 9.0 if radius > 0 else 0.0
    if radius > 0:
        nearest, distance = nearest_source(measured, mesh, side, limit)
        distance = np.where(np.isfinite(distance), distance, limit)
    else:
        nearest, distance = np.where(measured, np.arange(len(measured)), -1), np.where(measured, 0.0, 1.0)
    pial = load_mesh(mesh, "pial", side)
    surfaces = {}
    for name in SURFACES:
        surface = load_mesh(mesh, name, side)
        step = float(np.abs(surface.coordinates).max()) / 32000
        surfaces[name] = {
            "step": step,
            "coordinates": _encode((surface.coordinates / step).round().astype("<i2")),
            "faces": None if name == "pial" else _faces(surface.faces, pial.faces),
        }
    return {
        "count": len(measured),
        "faces": _encode(pial.faces.astype("<u4" if len(measured) > 65535 else "<u2")),
        "surfaces": surfaces,
        "sulcal": _encode((np.tanh(pial.sulcal / 0.15) * 127).round().astype(np.int8)),
        "nearest": _encode(nearest.astype("<i4")),
        "distance": _encode(distance.astype("<f4")),
        "rois": [
            {
                "vertices": _encode(np.flatnonzero(member[side]).astype("<u4")),
                "border": _border(member[side], pial.faces),
                # The flat map is cut, so a border may be open there.
                "flat_border": _border(member[side], load_mesh(mesh, "flat", side).faces),
            }
            for member in rois.values()
        ],
    }


def _border(member: np.ndarray, faces: np.ndarray) -> list[str]:
    return [_encode(np.array(chain, dtype="<u4")) for chain in border_chains(member, faces)]


def _faces(faces: np.ndarray, all_faces: np.ndarray) -> str | None:
    """Encode which faces a surface has, one bit per face; None if it has all of them."""
    if len(faces) == len(all_faces):
        return None
    kept = {tuple(face) for face in np.sort(faces, axis=1).tolist()}
    bits = np.array([tuple(face) in kept for face in np.sort(all_faces, axis=1).tolist()])
    return _encode(np.packbits(bits, bitorder="little"))


def _encode(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


# -- pages ------------------------------------------------------------------------------------------------------------


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("neurorecon.figures", "templates"),
        # Names come from data sets and command lines, so they must never become markup.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values: Any) -> str:
    """Render an HTML template of ``figures/templates``, every value escaped.

    Parameters
    ----------
    template : str
        File name.
    **values
        Variables of the template; text is escaped.

    Returns
    -------
    str
        The page.

    Raises
    ------
    jinja2.UndefinedError
        If a variable is missing.
    """
    return _environment().get_template(template).render(**values)


def script_json(text: str) -> Any:
    """Escape JSON text for use in a script element, so that nothing in it can close the element."""
    from markupsafe import Markup

    return Markup(
        text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028")
    )
