"""The cortex of a simulated subject: visual areas, population receptive fields, tuning of voxels.

Centers are in millimeters in the MNI305 space of the fsaverage surfaces, given for the left hemisphere and mirrored
for the right one. Published coordinates in MNI152 differ from it by 1 to 4 mm here, and Talairach coordinates by up to
8 mm; they were converted, and are accurate to about the same extent. If a paper gives no coordinates, the center is
that of the area in the probabilistic atlas of Wang et al. (2015, Cerebral Cortex) on fsaverage.

Sizes of population receptive fields are ``intercept + slope * eccentricity``, in degrees, rounded from the
figures of Dumoulin & Wandell (2008, NeuroImage; V1-V3), Amano, Wandell & Dumoulin (2009, J. Neurophysiol.;
LO, MT and MST as TO-1 and TO-2), Kay et al. (2013, J. Neurophysiol.; V1 to LO), Wandell & Winawer (2015,
Trends Cogn. Sci.; V1 to hV4, IPS) and Kay, Weiner & Grill-Spector (2015, Current Biology; FFA).

Shares are of the variance of a voxel's signal for videos. Their values are invented, but their order follows the
literature:

- V1-V3 follow local contrast energy (Kay et al., 2008, Nature) and, less so, luminance and color (Johnson,
  Hawken & Shapley, 2001, Nature Neurosci.); hV4 follows color more (Brouwer & Heeger, 2009, J. Neurosci.).
- V3A, MT and MST follow motion energy (Tootell et al., 1995, J. Neurosci.; Tootell et al., 1997; Huk et al.,
  2002; Nishimoto et al., 2011, Current Biology) and respond weakly to static contrast.
- LO prefers objects of any kind to texture (Malach et al., 1995, PNAS); FFA and OFA faces (Kanwisher et al.,
  1997; Gauthier et al., 2000); EBA bodies of people and of animals (Downing et al., 2001, Science).
- PPA, OPA and RSC prefer buildings and rooms and encode the layout of the scene (Epstein & Kanwisher, 1998;
  Dilks et al., 2013; Park et al., 2011, J. Neurosci.: openness).
- VWFA slightly prefers tools and faces, because the scenes contain no words (Vogel, Petersen & Schlaggar, 2012); IPS
  is a mixture of everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd

from neurorecon.errors import InputError

#: Width of the images in degrees of visual angle, as for the videos of Nishimoto et al. (2011, Current Biology).
FIELD_OF_VIEW = 20.0

#: Eccentricity in degrees up to which V1, V2 and V3 are mapped: the corners of the images.
LARGEST_ECCENTRICITY = 14.0

Point = tuple[float, float, float]


@dataclass(frozen=True)
class SimulatedROI:
    """A visual area: discs around centers on the sphere of fsaverage5.

    Parameters
    ----------
    name : str
        Name in the literature.
    source : str
        Sources of its location.
    centers : tuple of (float, float, float)
        Centers in the left hemisphere, in mm. Empty for V1-V3, whose maps are in :data:`EARLY`.
    radius : float
        Radius of each disc, in mm on the sphere with a radius of 100 mm.
    size : (float, float)
        Intercept (degrees) and slope (degrees per degree) of receptive field size.
    eccentricity : (float, float, float)
        Eccentricity at the center (degrees), its growth per cm (e-foldings), and the direction of growth: degrees from
        rightward toward upward, in a lateral view of the left hemisphere.
    angle : (float, float)
        Growth of the polar angle from the upper to the lower vertical meridian (degrees per cm), and its
        direction.
    scatter : float
        Random part of the position: standard deviation of log eccentricity.
    right : float
        Radius in the right hemisphere relative to the left one; 0 for areas of the left hemisphere only.
    """

    name: str
    source: str
    centers: tuple[Point, ...] = ()
    radius: float = 0.0
    size: tuple[float, float] = (2.0, 0.5)
    eccentricity: tuple[float, float, float] = (2.0, 0.0, 0.0)
    angle: tuple[float, float] = (0.0, 0.0)
    scatter: float = 0.15
    right: float = 1.0


_EARLY = "Benson et al. (2014, PLoS Comput. Biol.)"

ROIS: tuple[SimulatedROI, ...] = (
    SimulatedROI("V1", _EARLY, size=(0.45, 0.11), scatter=0.05),
    SimulatedROI("V2", _EARLY, size=(0.55, 0.17), scatter=0.06),
    SimulatedROI("V3", _EARLY, size=(0.70, 0.25), scatter=0.08),
    SimulatedROI(
        "hV4",
        "Winawer et al. (2010, J. Vision); Wang et al. (2015)",
        centers=((-30, -78, -12), (-35, -78, -13)),
        radius=12.5,
        size=(0.9, 0.40),
        eccentricity=(2.0, 0.96, -55),
        angle=(75, -140),
    ),
    SimulatedROI(
        "V3A",
        "Tootell et al. (1997, J. Neurosci.); Wang et al. (2015)",
        centers=((-18, -88, 21),),
        radius=15.0,
        size=(1.2, 0.40),
        eccentricity=(3.5, 0.73, 25),
        angle=(55, -58),
    ),
    SimulatedROI(
        "V3B",
        "Smith et al. (1998, J. Neurosci.); Wang et al. (2015)",
        centers=((-32, -86, 15),),
        radius=12.0,
        size=(1.2, 0.42),
        eccentricity=(2.5, 1.2, -140),
        angle=(65, -80),
    ),
    SimulatedROI(
        "MT",
        "Watson et al. (1993, Cereb. Cortex); Dumoulin et al. (2000, Cereb. Cortex); Kolster et al. (2010)",
        centers=((-45, -73, 3),),
        radius=15.0,
        size=(1.6, 0.50),
        eccentricity=(3.0, 1.0, 85),
        angle=(60, 0),
    ),
    SimulatedROI(
        "MST",
        "Huk, Dougherty & Heeger (2002, J. Neurosci.); Kolster et al. (2010, J. Neurosci.)",
        centers=((-46, -64, 5),),
        radius=14.0,
        size=(3.0, 0.70),
        eccentricity=(4.0, 0.9, 40),
        angle=(60, 165),
    ),
    SimulatedROI(
        "LO",
        "Malach et al. (1995, PNAS); Larsson & Heeger (2006, J. Neurosci.); Wang et al. (2015)",
        centers=((-30, -87, 4), (-38, -84, 2), (-41, -81, -8)),
        radius=13.0,
        size=(1.5, 0.60),
        eccentricity=(2.0, 1.0, 135),
        angle=(65, 40),
    ),
    SimulatedROI(
        "OFA",
        "Gauthier et al. (2000, J. Cogn. Neurosci.); Pitcher et al. (2007, Current Biology)",
        centers=((-44, -76, -14),),
        radius=13.0,
        size=(1.8, 0.45),
        eccentricity=(1.5, 0.0, 0.0),
        scatter=0.4,
        right=1.1,
    ),
    SimulatedROI(
        "FFA",
        "Kanwisher, McDermott & Chun (1997, J. Neurosci.); Weiner & Grill-Spector (2010, NeuroImage)",
        centers=((-40, -62, -17), (-40, -51, -19)),
        radius=12.0,
        size=(2.5, 0.45),
        eccentricity=(2.0, 0.0, 0.0),
        scatter=0.4,
        right=1.15,
    ),
    SimulatedROI(
        "PPA",
        "Epstein & Kanwisher (1998, Nature); Arcaro et al. (2009, J. Neurosci.)",
        centers=((-29, -54, -8), (-28, -45, -10)),
        radius=13.0,
        size=(3.0, 0.60),
        eccentricity=(5.0, 0.0, 0.0),
        scatter=0.4,
    ),
    SimulatedROI(
        "OPA",
        "Nakamura et al. (2000, Brain Res.); Dilks et al. (2013, J. Neurosci.)",
        centers=((-36, -79, 22),),
        radius=13.5,
        size=(2.5, 0.55),
        eccentricity=(4.0, 0.0, 0.0),
        scatter=0.4,
    ),
    SimulatedROI(
        "RSC",
        "Maguire (2001, Scand. J. Psychol.); Epstein, Parker & Feiler (2007, J. Neurosci.)",
        centers=((-16, -57, 11),),
        radius=14.0,
        size=(3.5, 0.60),
        eccentricity=(5.0, 0.0, 0.0),
        scatter=0.4,
    ),
    SimulatedROI(
        "EBA",
        "Downing et al. (2001, Science); Weiner & Grill-Spector (2011, NeuroImage)",
        centers=((-50, -68, 15), (-52, -65, -9)),
        radius=15.0,
        size=(2.5, 0.55),
        eccentricity=(3.0, 0.0, 0.0),
        scatter=0.4,
        right=1.1,
    ),
    SimulatedROI(
        "VWFA",
        "Cohen et al. (2002, Brain); Dehaene & Cohen (2011, Trends Cogn. Sci.)",
        centers=((-47, -57, -14),),
        radius=11.5,
        size=(1.8, 0.45),
        eccentricity=(1.0, 0.0, 0.0),
        scatter=0.4,
        right=0.0,
    ),
    SimulatedROI(
        "IPS",
        "Swisher et al. (2007, J. Neurosci.); IPS0-IPS3 of Wang et al. (2015)",
        centers=((-26, -77, 25), (-22, -68, 36), (-18, -67, 48), (-22, -63, 55)),
        radius=15.0,
        size=(2.5, 0.60),
        eccentricity=(4.0, 0.4, 60),
        angle=(40, -30),
    ),
)

#: Pairs of areas from functional localizers whose discs may overlap.
OVERLAPPING = (frozenset({"EBA", "LO"}), frozenset({"FFA", "VWFA"}))


#: ROIs by eccentricity, of the areas with a retinotopic map up to hV4: names and upper limits in degrees are those of
#: NSD's ``prf-eccrois`` (Allen et al., 2022, Nature Neurosci.).
ECCENTRICITIES = {"ecc0pt5": 0.5, "ecc1": 1.0, "ecc2": 2.0, "ecc4": 4.0, "ecc4+": np.inf}

RETINOTOPIC = ("V1", "V2", "V3", "hV4")


@dataclass(frozen=True)
class EarlyLayout:
    """The map of V1, V2 and V3 in one hemisphere, ``z = exp(w) - foveal`` (Schwartz, 1977, Biol. Cybern.).

    The modulus of ``z`` is the eccentricity. Its argument runs through V1 from the lower to the upper vertical
    meridian, and on through V2 and V3, where the polar angle reverses, as in the wedge-dipole model of
    Balasubramanian, Polimeni & Schwartz (2002, Neural Networks). ``w`` is a polynomial of the position on the sphere,
    unrolled into a plane around `center`. Its coefficients were fitted to the group atlas of Benson et al. (2014, PLoS
    Comput. Biol.): within 12 degrees, Dice coefficients are .89 and .92 (V1), .81 and .84 (V2), .66 and .76 (V3; left
    and right), and the correlation of eccentricities is .97 to .99.

    Parameters
    ----------
    center : (float, float, float)
        Unit vector on the sphere.
    foveal : float
        Eccentricity in degrees below which magnification levels off.
    borders : (float, float, float)
        Argument of ``z`` at the outer borders of V1, V2 and V3, in radians.
    real, imaginary : tuple of float
        Coefficients of 1, v, v^2, u, u v, u^2, where u points right and v up in a view from outside, in units of
        30 mm.
    """

    center: Point
    foveal: float
    borders: tuple[float, float, float]
    real: tuple[float, ...]
    imaginary: tuple[float, ...]


EARLY: dict[str, EarlyLayout] = {
    "left": EarlyLayout(
        center=(0.393, -0.731, -0.558),
        foveal=0.85,
        borders=(1.00, 1.65, 2.20),
        real=(2.239, 0.387, 0.294, 1.291, -0.232, 0.006),
        imaginary=(0.016, -1.481, 0.064, -0.188, -0.032, -0.282),
    ),
    "right": EarlyLayout(
        center=(-0.639, -0.574, -0.511),
        foveal=1.15,
        borders=(1.00, 1.55, 1.95),
        real=(2.209, 0.624, 0.302, -1.200, 0.195, 0.127),
        imaginary=(-0.016, -1.222, 0.044, -0.246, 0.105, -0.108),
    ),
}

MESH = "fsaverage5"

HEMISPHERES = ("left", "right")

#: Radius of the sphere of fsaverage, mm.
_RADIUS = 100.0

#: Variation between subjects: shift of ROIs (mm), and standard deviation of their log radius.
_SHIFT = 2.0

_SPREAD = 0.08


@dataclass(frozen=True)
class Hemisphere:
    """Surfaces of one hemisphere of fsaverage5.

    Parameters
    ----------
    sphere : array, shape (vertex, 3)
        Unit vectors.
    middle : array, shape (vertex, 3)
        Midway between the white and the pial surface, in mm.
    cortex : bool array, shape (vertex,)
        False on the medial wall, where the two surfaces coincide.
    """

    sphere: np.ndarray
    middle: np.ndarray
    cortex: np.ndarray


@dataclass(frozen=True)
class Cortex:
    """The voxels of one subject.

    Parameters
    ----------
    voxels : DataFrame
        One row per voxel: ``hemisphere``, ``vertex``, ``depth`` (above 0 only if there are more voxels than
        vertices), ``roi`` (the visual area whose model the voxel follows; "" outside), ``prf_x``, ``prf_y`` (degrees,
        rightward and downward), ``prf_size`` (degrees), ``x``, ``y``, ``z`` (mm).
    rois : dict of str to bool array, shape (voxel,)
        Membership. ROIs of functional localizers may overlap, and those by eccentricity consist of voxels of others.
    """

    voxels: pd.DataFrame
    rois: dict[str, np.ndarray]


@lru_cache(maxsize=1)
def load_hemispheres() -> dict[str, Hemisphere]:
    """Load both hemispheres of fsaverage5 from the files that ship with nilearn."""
    from nilearn.datasets import load_fsaverage

    meshes = load_fsaverage(MESH)
    result = {}
    for name in HEMISPHERES:
        pial, white, sphere = (
            np.asarray(meshes[kind].parts[name].coordinates, dtype=float) for kind in ("pial", "white_matter", "sphere")
        )
        unit = sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
        # Coordinates in the files are rounded to a thousandth of a millimeter.
        cortex = np.linalg.norm(pial - white, axis=1) > 0.05
        result[name] = Hemisphere(sphere=unit, middle=(pial + white) / 2, cortex=cortex)
    return result


def build_cortex(seed: int, subject: int, voxels: int, outside: float = 0.1) -> Cortex:
    """Draw the ROIs of a subject at random and sample voxels from them.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    subject : int
        Number of the subject. ROIs vary in location and size between subjects.
    voxels : int
        Number of voxels. They have different vertices as long as there are enough, and several cortical depths
        otherwise.
    outside : float
        Share of voxels outside all visual areas.

    Returns
    -------
    Cortex

    Raises
    ------
    InputError
        If there are too few voxels for all ROIs.
    """
    if voxels < 2 * len(ROIS):
        raise InputError(
            "too few voxels",
            given=voxels,
            expected=f"{2 * len(ROIS)} or more, so that every ROI has voxels",
        )
    random = np.random.default_rng(np.random.SeedSequence([seed, subject, 0xC0]))
    table = pd.concat([_draw_hemisphere(random, name) for name in HEMISPHERES], ignore_index=True)
    visual = np.flatnonzero(table["roi"] != "")
    other = np.flatnonzero((table["roi"] == "") & table.pop("far"))
    # About 2,500 voxels fill the ROIs of fsaverage5 once.
    inside = min(round(voxels * (1.0 - outside)), len(visual) * max(1, round(voxels / 2500)))
    # Sample each ROI in proportion to its size, so that a small sample has voxels in every ROI.
    names = table["roi"].to_numpy(dtype=str)[visual]
    parts = [
        _sample(random, visual[names == name], number) for name, number in zip(*_divide(names, inside), strict=True)
    ]
    parts.append(_sample(random, other, voxels - inside))
    rows, depths = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.lexsort((depths, rows))
    table = table.iloc[rows[order]].reset_index(drop=True)
    table.insert(2, "depth", depths[order])
    rois = {roi.name: table.pop(f"in {roi.name}").to_numpy(dtype=bool) for roi in ROIS}
    eccentricity = np.hypot(table["prf_x"], table["prf_y"]).to_numpy()
    mapped, inner = table["roi"].isin(RETINOTOPIC).to_numpy(), -1.0
    for name, outer in ECCENTRICITIES.items():
        rois[name] = mapped & (inner < eccentricity) & (eccentricity <= outer)
        inner = outer
    return Cortex(voxels=table, rois=rois)


def _divide(names: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide `number` among ROIs in proportion to their vertices, at least one each (largest remainders)."""
    rois, counts = np.unique(names, return_counts=True)
    exact = counts * number / counts.sum()
    shares = np.maximum(np.floor(exact).astype(int), 1)
    for index in np.argsort(shares - exact, kind="stable")[: max(0, number - shares.sum())]:
        shares[index] += 1
    while shares.sum() > number:
        shares[shares.argmax()] -= 1
    return rois, shares


def _sample(random: np.random.Generator, pool: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample vertices without replacement, starting over at another depth when the pool is exhausted."""
    rows, depths = [], []
    depth = 0
    while number > 0:
        taken = np.sort(random.permutation(pool)[:number])
        rows.append(taken)
        depths.append(np.full(len(taken), depth))
        number -= len(taken)
        depth += 1
    if not rows:
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    return np.concatenate(rows), np.concatenate(depths)


def _draw_hemisphere(random: np.random.Generator, name: str) -> pd.DataFrame:
    """Return a table of all vertices on the cortex, with the columns of :class:`Cortex`."""
    surface = load_hemispheres()[name]
    number = len(surface.sphere)
    roi = np.full(number, "", dtype=object)
    eccentricity, angle, size = np.zeros(number), np.zeros(number), np.zeros(number)
    member = {item.name: np.zeros(number, dtype=bool) for item in ROIS}
    closeness = np.full(number, np.inf)  # distance from the nearest center, in radii

    early = _draw_early(random, surface, EARLY[name])
    for number_of_roi, item in enumerate(ROIS[:3], start=1):
        inside = early["roi"] == number_of_roi
        roi[inside], closeness[inside] = item.name, 0.0
        eccentricity[inside], angle[inside] = early["eccentricity"][inside], early["angle"][inside]
    distances = {}
    for item in ROIS[3:]:
        distance, own_eccentricity, own_angle = _draw_disc(random, surface, item, name)
        distances[item.name] = distance
        nearer = distance < np.minimum(closeness, 1.0)
        roi[nearer], closeness[nearer] = item.name, distance[nearer]
        eccentricity[nearer], angle[nearer] = own_eccentricity[nearer], own_angle[nearer]
    for item in ROIS:
        own = roi == item.name
        member[item.name] |= own
        for pair in OVERLAPPING:
            if item.name in pair:
                (partner,) = pair - {item.name}
                member[item.name] |= (roi == partner) & (distances[item.name] < 1.0)
        number_inside = int(own.sum())
        eccentricity[own] *= np.exp(item.scatter * random.standard_normal(number_inside))
        angle[own] += 60.0 * item.scatter * random.standard_normal(number_inside)
        spread = np.exp(0.15 * random.standard_normal(number_inside))
        size[own] = (item.size[0] + item.size[1] * eccentricity[own]) * spread
    side = 1.0 if name == "left" else -1.0  # the left hemisphere sees the right half of the field
    radians = np.deg2rad(angle)
    visual = roi != ""
    near = np.min(list(distances.values()), axis=0) < 1.6
    table = pd.DataFrame(
        {
            "hemisphere": name,
            "vertex": np.arange(number),
            "roi": roi.astype(str),
            "prf_x": np.where(visual, side * eccentricity * np.sin(radians), np.nan),
            "prf_y": np.where(visual, -eccentricity * np.cos(radians), np.nan),
            "prf_size": np.where(visual, size, np.nan),
            "x": surface.middle[:, 0],
            "y": surface.middle[:, 1],
            "z": surface.middle[:, 2],
            # Voxels outside all visual areas are sampled far from any ROI: early visual cortex beyond the extent of
            # the images and the surroundings of ROIs are excluded.
            "far": ~near & ~early["near"],
            **{f"in {key}": values for key, values in member.items()},
        }
    )
    return table[surface.cortex]


def _draw_early(random: np.random.Generator, surface: Hemisphere, layout: EarlyLayout) -> dict[str, np.ndarray]:
    """Return ROI (1, 2, 3 or 0), eccentricity and polar angle (0 up, 180 down) of each vertex."""
    center = np.asarray(layout.center) / np.linalg.norm(layout.center)
    plane = unroll(surface.sphere, center)
    scale = np.exp(_SPREAD * random.standard_normal())
    moved = (plane - _SHIFT * random.standard_normal(2) * 0.5) / scale
    u, v = moved.T / 30.0
    terms = np.stack([np.ones_like(u), v, v**2, u, u * v, u**2])
    w = np.asarray(layout.real) @ terms + 1j * (np.asarray(layout.imaginary) @ terms)
    close = np.hypot(*plane.T) < 60.0  # the polynomial is not valid elsewhere
    z = np.exp(np.where(close, w, 0.0)) - layout.foveal
    first, second, third = layout.borders
    eccentricity, argument = np.abs(z), np.angle(z)
    turn = np.abs(argument)
    roi = np.select([turn < first, turn < second, turn < third], [1, 2, 3], 0)
    # From the horizontal (0) to the vertical meridian (1) in V1, back in V2, and forth again in V3.
    meridian = np.select(
        [roi == 1, roi == 2, roi == 3],
        [turn / first, (second - turn) / (second - first), (turn - second) / (third - second)],
        0.0,
    )
    return {
        "roi": np.where(close & (eccentricity < LARGEST_ECCENTRICITY), roi, 0),
        "eccentricity": eccentricity,
        "angle": 90.0 - 90.0 * np.sign(argument) * meridian,
        "near": np.hypot(*plane.T) < 55.0,
    }


def _draw_disc(
    random: np.random.Generator, surface: Hemisphere, roi: SimulatedROI, hemisphere: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distance from the nearest center (in radii), eccentricity and polar angle, each (vertex,)."""
    mirror = np.array([1.0 if hemisphere == "left" else -1.0, 1.0, 1.0])
    radius = roi.radius * np.exp(_SPREAD * random.standard_normal())
    # Shift along the surface: the vertex nearest to a shifted coordinate may lie on the other bank of a sulcus.
    shift = _SHIFT / _RADIUS * random.standard_normal(3)
    relative = 1.0 if hemisphere == "left" else roi.right
    vertices = [_nearest(surface, np.asarray(center) * mirror) for center in roi.centers]
    centers = surface.sphere[vertices] + shift
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    angles = np.arccos(np.clip(surface.sphere @ centers.T, -1.0, 1.0))
    distance = angles.min(axis=1) * _RADIUS / (radius * relative) if relative else np.full(len(angles), np.inf)
    middle = centers.mean(axis=0)
    plane = unroll(surface.sphere, middle / np.linalg.norm(middle)) / 10.0  # cm
    at_center, growth, direction = roi.eccentricity
    steps = np.clip(_along(plane, direction, hemisphere) * growth, -2.0, 1.5)
    eccentricity = np.clip(at_center * np.exp(steps), 0.1, LARGEST_ECCENTRICITY)
    growth, direction = roi.angle
    if growth:
        angle = np.clip(90.0 + _along(plane, direction, hemisphere) * growth, 0.0, 180.0)
    else:
        angle = random.uniform(15.0, 165.0, size=len(plane))
    return distance, eccentricity, angle


def _nearest(surface: Hemisphere, target: np.ndarray) -> int:
    squared = ((surface.middle - target) ** 2).sum(axis=1)
    return int(np.argmin(np.where(surface.cortex, squared, np.inf)))


def _along(plane: np.ndarray, degrees: float, hemisphere: str) -> np.ndarray:
    angle = np.deg2rad(degrees if hemisphere == "left" else 180.0 - degrees)
    return plane @ np.array([np.cos(angle), np.sin(angle)])


def unroll(sphere: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Unroll the sphere into a plane around a point, preserving distances from it (azimuthal equidistant).

    Parameters
    ----------
    sphere : array, shape (vertex, 3)
        Unit vectors.
    center : array, shape (3,)
        Unit vector.

    Returns
    -------
    array, shape (vertex, 2)
        Rightward and upward in mm, in a view from outside.
    """
    up = np.array([0.0, 0.0, 1.0])
    vertical = up - center * (up @ center)
    vertical /= np.linalg.norm(vertical)
    horizontal = np.cross(vertical, center)
    inside = np.stack([sphere @ horizontal, sphere @ vertical], axis=1)
    length = np.linalg.norm(inside, axis=1, keepdims=True)
    distance = np.arccos(np.clip(sphere @ center, -1.0, 1.0))[:, None]
    return inside / np.maximum(length, 1e-12) * distance * _RADIUS


#: Components of a voxel's signal, in the order of rows of arrays of components.
COMPONENTS = ("gabor", "color", "category", "layout", "motion")

#: Properties of the layout of a scene, the labels ``layout:*``.
LAYOUT = ("indoor", "openness", "horizon", "clutter")


@dataclass(frozen=True)
class Tuning:
    """The average tuning of the voxels in an ROI.

    Parameters
    ----------
    shares : dict of str to float
        Shares of the signal's variance by component; they sum to 1.
    snr : float
        Median signal-to-noise ratio (of standard deviations) of a single trial.
    prefers : dict of str to float
        Mean weights of categories; 0 for categories that are not listed.
    layout : dict of str to float
        Mean weights of layout properties.
    coarseness : float
        Preferred spatial period relative to V1 at the same eccentricity.
    """

    shares: dict[str, float]
    snr: float
    prefers: dict[str, float] = field(default_factory=dict)
    layout: dict[str, float] = field(default_factory=dict)
    coarseness: float = 1.0


_OBJECTS = {"animal": 0.8, "vehicle": 0.9, "tool": 0.7, "person": 0.6, "face": 0.6, "plant": 0.3}

_SCENES = {"building": 1.0, "room": 0.9, "vehicle": 0.15, "face": -0.3}

_BODIES = {"person": 1.0, "animal": 0.6, "face": 0.15}

TUNING: dict[str, Tuning] = {
    "V1": Tuning({"gabor": 0.80, "color": 0.16, "motion": 0.04}, snr=0.75),
    "V2": Tuning({"gabor": 0.78, "color": 0.17, "motion": 0.05}, snr=0.65, coarseness=1.3),
    "V3": Tuning({"gabor": 0.76, "color": 0.14, "motion": 0.10}, snr=0.60, coarseness=1.6),
    "hV4": Tuning({"gabor": 0.50, "color": 0.35, "category": 0.15}, snr=0.55, prefers=_OBJECTS, coarseness=1.8),
    "V3A": Tuning({"motion": 0.70, "gabor": 0.30}, snr=0.55, coarseness=2.0),
    "V3B": Tuning({"gabor": 0.45, "motion": 0.40, "layout": 0.15}, snr=0.45, layout={"openness": -1.0}, coarseness=2.0),
    "MT": Tuning({"motion": 0.88, "gabor": 0.12}, snr=0.60, coarseness=2.0),
    "MST": Tuning({"motion": 0.90, "gabor": 0.10}, snr=0.50, coarseness=2.5),
    "LO": Tuning({"category": 0.60, "gabor": 0.40}, snr=0.55, prefers=_OBJECTS, coarseness=1.8),
    "OFA": Tuning({"category": 0.80, "gabor": 0.20}, snr=0.50, prefers={"face": 1.0, "person": 0.35}, coarseness=1.8),
    "FFA": Tuning(
        {"category": 0.92, "gabor": 0.08},
        snr=0.60,
        prefers={"face": 1.0, "person": 0.6, "animal": 0.25},
        coarseness=2.0,
    ),
    "PPA": Tuning(
        {"category": 0.68, "layout": 0.24, "gabor": 0.08},
        snr=0.60,
        prefers=_SCENES,
        layout={"indoor": 0.8, "openness": -0.8},
        coarseness=1.5,
    ),
    "OPA": Tuning(
        {"category": 0.52, "layout": 0.33, "gabor": 0.15},
        snr=0.50,
        prefers=_SCENES,
        layout={"indoor": 0.6, "clutter": 0.5, "horizon": 0.3},
        coarseness=1.5,
    ),
    "RSC": Tuning(
        {"category": 0.55, "layout": 0.40, "gabor": 0.05},
        snr=0.45,
        prefers={"building": 0.9, "room": 1.0},
        layout={"openness": 0.7, "indoor": 0.6, "horizon": -0.4},
        coarseness=1.5,
    ),
    "EBA": Tuning({"category": 0.88, "gabor": 0.06, "motion": 0.06}, snr=0.55, prefers=_BODIES, coarseness=2.0),
    "VWFA": Tuning({"category": 0.65, "gabor": 0.35}, snr=0.30, prefers={"tool": 0.6, "face": 0.4}, coarseness=1.5),
    "IPS": Tuning(
        {"motion": 0.35, "gabor": 0.25, "category": 0.25, "layout": 0.15},
        snr=0.28,
        prefers={"tool": 0.8, "vehicle": 0.3},
        layout={"openness": 0.5, "clutter": 0.5},
        coarseness=2.0,
    ),
}
