"""What the voxels of each simulated area respond to.

The shares are those of the variance of a voxel's signal in films. They are made up, in the order of size that
the papers report:

- V1-V3 follow local contrast energy (Kay et al., 2008, Nature) and, less so, luminance and color (Johnson,
  Hawken & Shapley, 2001, Nature Neurosci.); hV4 follows color more (Brouwer & Heeger, 2009, J. Neurosci.).
- V3A, MT and MST follow motion energy (Tootell et al., 1995, J. Neurosci.; Tootell et al., 1997; Huk et al.,
  2002; Nishimoto et al., 2011, Current Biology) and respond to contrast that does not move, but weakly.
- LO prefers objects of any kind to texture (Malach et al., 1995, PNAS); FFA and OFA faces (Kanwisher et al.,
  1997; Gauthier et al., 2000); EBA bodies of people and of animals (Downing et al., 2001, Science).
- PPA, OPA and RSC prefer buildings and rooms and code the layout of the scene (Epstein & Kanwisher, 1998;
  Dilks et al., 2013; Park et al., 2011, J. Neurosci.: openness).
- VWFA has no words to see here and prefers tools and faces a little (Vogel, Petersen & Schlaggar, 2012); IPS is a
  mixture of everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: Parts of a voxel's signal, in the order of rows of all arrays of components.
COMPONENTS = ("gabor", "color", "category", "layout", "motion")

#: Properties of the layout of a scene, the labels ``layout:*``.
LAYOUT = ("indoor", "openness", "horizon", "clutter")


@dataclass(frozen=True)
class Tuning:
    """What an area's voxels respond to, on average.

    Parameters
    ----------
    shares : dict of str to float
        Of the signal's variance, by component; they sum to 1.
    snr : float
        Median over voxels of the standard deviation of the signal over that of the noise, in one trial.
    prefers : dict of str to float
        Mean weights of categories; those left out have 0.
    layout : dict of str to float
        Mean weights of the properties of the layout.
    coarseness : float
        Preferred spatial period relative to that of V1 at the same eccentricity.
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
