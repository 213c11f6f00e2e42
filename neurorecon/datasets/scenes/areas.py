"""Where the visual areas of the simulated brain lie, and how their population receptive fields are laid out.

Centers are in millimeters of the MNI305 space of fsaverage's surfaces, given for the left hemisphere and
mirrored for the right one. Published coordinates in MNI152 differ from it by 1 to 4 mm here, and those in
Talairach's atlas by up to 8 mm; they were moved accordingly and are approximate by as much. Where a paper
gives no coordinates, the center is that of the area in the probabilistic atlas of Wang et al. (2015,
Cerebral Cortex) on fsaverage.

Sizes of population receptive fields are ``intercept + slope * eccentricity``, in degrees, rounded from the
figures of Dumoulin & Wandell (2008, NeuroImage; V1-V3), Amano, Wandell & Dumoulin (2009, J. Neurophysiol.;
LO, MT and MST as TO-1 and TO-2), Kay et al. (2013, J. Neurophysiol.; V1 to LO), Wandell & Winawer (2015,
Trends Cogn. Sci.; V1 to hV4, IPS) and Kay, Weiner & Grill-Spector (2015, Current Biology; FFA).
"""

from __future__ import annotations

from dataclasses import dataclass

#: Width of the pictures in degrees of visual angle, as the films of Nishimoto et al. (2011, Current Biology).
FIELD_OF_VIEW = 20.0

#: Eccentricity in degrees up to which V1, V2 and V3 are mapped: the corners of the pictures.
LARGEST_ECCENTRICITY = 14.0

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Area:
    """A visual area: discs around centers on the sphere of fsaverage5.

    Parameters
    ----------
    name : str
        As in the field.
    source : str
        Where its place comes from.
    centers : tuple of (float, float, float)
        Left hemisphere, mm. Empty for V1-V3, which are laid out by :data:`EARLY`.
    radius : float
        Of each disc, mm on the sphere of 100 mm radius.
    size : (float, float)
        Intercept (degrees) and slope (degrees per degree) of receptive field size.
    eccentricity : (float, float, float)
        At the center (degrees), its growth per cm (e-foldings), and the direction in which it grows: degrees,
        in a view of the left hemisphere from outside, from rightward to upward.
    angle : (float, float)
        Growth of the polar angle from the upper to the lower vertical meridian (degrees per cm), and its
        direction.
    scatter : float
        Unordered part of the position: standard deviation of log eccentricity.
    right : float
        Radius in the right hemisphere relative to the left one; 0 for an area of the left hemisphere only.
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

AREAS: tuple[Area, ...] = (
    Area("V1", _EARLY, size=(0.45, 0.11), scatter=0.05),
    Area("V2", _EARLY, size=(0.55, 0.17), scatter=0.06),
    Area("V3", _EARLY, size=(0.70, 0.25), scatter=0.08),
    Area(
        "hV4",
        "Winawer et al. (2010, J. Vision); Wang et al. (2015)",
        centers=((-30, -78, -12), (-35, -78, -13)),
        radius=12.5,
        size=(0.9, 0.40),
        eccentricity=(2.0, 0.96, -55),
        angle=(75, -140),
    ),
    Area(
        "V3A",
        "Tootell et al. (1997, J. Neurosci.); Wang et al. (2015)",
        centers=((-18, -88, 21),),
        radius=15.0,
        size=(1.2, 0.40),
        eccentricity=(3.5, 0.73, 25),
        angle=(55, -58),
    ),
    Area(
        "V3B",
        "Smith et al. (1998, J. Neurosci.); Wang et al. (2015)",
        centers=((-32, -86, 15),),
        radius=12.0,
        size=(1.2, 0.42),
        eccentricity=(2.5, 1.2, -140),
        angle=(65, -80),
    ),
    Area(
        "MT",
        "Watson et al. (1993, Cereb. Cortex); Dumoulin et al. (2000, Cereb. Cortex); Kolster et al. (2010)",
        centers=((-45, -73, 3),),
        radius=15.0,
        size=(1.6, 0.50),
        eccentricity=(3.0, 1.0, 85),
        angle=(60, 0),
    ),
    Area(
        "MST",
        "Huk, Dougherty & Heeger (2002, J. Neurosci.); Kolster et al. (2010, J. Neurosci.)",
        centers=((-46, -64, 5),),
        radius=14.0,
        size=(3.0, 0.70),
        eccentricity=(4.0, 0.9, 40),
        angle=(60, 165),
    ),
    Area(
        "LO",
        "Malach et al. (1995, PNAS); Larsson & Heeger (2006, J. Neurosci.); Wang et al. (2015)",
        centers=((-30, -87, 4), (-38, -84, 2), (-41, -81, -8)),
        radius=13.0,
        size=(1.5, 0.60),
        eccentricity=(2.0, 1.0, 135),
        angle=(65, 40),
    ),
    Area(
        "OFA",
        "Gauthier et al. (2000, J. Cogn. Neurosci.); Pitcher et al. (2007, Current Biology)",
        centers=((-44, -76, -14),),
        radius=13.0,
        size=(1.8, 0.45),
        eccentricity=(1.5, 0.0, 0.0),
        scatter=0.4,
        right=1.1,
    ),
    Area(
        "FFA",
        "Kanwisher, McDermott & Chun (1997, J. Neurosci.); Weiner & Grill-Spector (2010, NeuroImage)",
        centers=((-40, -62, -17), (-40, -51, -19)),
        radius=12.0,
        size=(2.5, 0.45),
        eccentricity=(2.0, 0.0, 0.0),
        scatter=0.4,
        right=1.15,
    ),
    Area(
        "PPA",
        "Epstein & Kanwisher (1998, Nature); Arcaro et al. (2009, J. Neurosci.)",
        centers=((-29, -54, -8), (-28, -45, -10)),
        radius=13.0,
        size=(3.0, 0.60),
        eccentricity=(5.0, 0.0, 0.0),
        scatter=0.4,
    ),
    Area(
        "OPA",
        "Nakamura et al. (2000, Brain Res.); Dilks et al. (2013, J. Neurosci.)",
        centers=((-36, -79, 22),),
        radius=13.5,
        size=(2.5, 0.55),
        eccentricity=(4.0, 0.0, 0.0),
        scatter=0.4,
    ),
    Area(
        "RSC",
        "Maguire (2001, Scand. J. Psychol.); Epstein, Parker & Feiler (2007, J. Neurosci.)",
        centers=((-16, -57, 11),),
        radius=14.0,
        size=(3.5, 0.60),
        eccentricity=(5.0, 0.0, 0.0),
        scatter=0.4,
    ),
    Area(
        "EBA",
        "Downing et al. (2001, Science); Weiner & Grill-Spector (2011, NeuroImage)",
        centers=((-50, -68, 15), (-52, -65, -9)),
        radius=15.0,
        size=(2.5, 0.55),
        eccentricity=(3.0, 0.0, 0.0),
        scatter=0.4,
        right=1.1,
    ),
    Area(
        "VWFA",
        "Cohen et al. (2002, Brain); Dehaene & Cohen (2011, Trends Cogn. Sci.)",
        centers=((-47, -57, -14),),
        radius=11.5,
        size=(1.8, 0.45),
        eccentricity=(1.0, 0.0, 0.0),
        scatter=0.4,
        right=0.0,
    ),
    Area(
        "IPS",
        "Swisher et al. (2007, J. Neurosci.); IPS0-IPS3 of Wang et al. (2015)",
        centers=((-26, -77, 25), (-22, -68, 36), (-18, -67, 48), (-22, -63, 55)),
        radius=15.0,
        size=(2.5, 0.60),
        eccentricity=(4.0, 0.4, 60),
        angle=(40, -30),
    ),
)

#: Areas that functional localizers delineate, whose discs may overlap with one another's.
OVERLAPPING = (frozenset({"EBA", "LO"}), frozenset({"FFA", "VWFA"}))


@dataclass(frozen=True)
class EarlyLayout:
    """The map of V1, V2 and V3 in one hemisphere, ``z = exp(w) - foveal`` (Schwartz, 1977, Biol. Cybern.).

    ``z`` has the eccentricity as its modulus. Its argument runs through V1 from the lower to the upper
    vertical meridian, and on through V2 and V3, in which the polar angle turns back and forth, as in the
    wedge-dipole model of Balasubramanian, Polimeni & Schwartz (2002, Neural Networks). ``w`` is a polynomial of
    the position on the sphere around `center`, unrolled into a plane. Its coefficients were fitted to the group
    atlas of Benson et al. (2014, PLoS Comput. Biol.): within 12 degrees, the areas overlap by .89 and .92 (V1),
    .81 and .84 (V2), .66 and .76 (V3; Dice, left and right), and eccentricities correlate by .97 to .99.

    Parameters
    ----------
    center : (float, float, float)
        Unit vector on the sphere.
    foveal : float
        Degrees; where magnification stops to grow.
    borders : (float, float, float)
        Argument of ``z`` at the outer borders of V1, V2 and V3, radians.
    real, imaginary : tuple of float
        Coefficients of 1, v, v^2, u, u v, u^2, where u points right and v up, seen from outside, in 30 mm.
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
