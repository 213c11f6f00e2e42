"""Gabor and motion-energy filter banks and optical flow, on plain arrays.

A Gabor filter is a Gaussian window around one spatial frequency. It is applied in the Fourier domain, where
the positive half alone is kept: the real and the imaginary part of the result are the responses of a
quadrature pair, and their squared modulus is the local energy of the complex-cell model (Adelson & Bergen,
1985, J. Opt. Soc. Am. A). The modulus does not depend on the carrier, so the filtered spectrum is moved to
the origin and cropped before it is transformed back: the energy comes out at half the resolution for a
quarter of the work, and nothing is lost, because the band fits into the crop.

Conventions: ``x`` runs to the right and ``y`` downward, in picture widths; spatial frequencies are in cycles
per picture. The orientation of a filter is the direction of its frequency vector, measured from ``x``
towards ``y`` (0 is a vertical grating, pi / 2 a horizontal one). The direction of a motion filter is where
the pattern goes.
"""

from neurorecon.filters.farneback import Farneback
from neurorecon.filters.flow import LucasKanade
from neurorecon.filters.gabor import GaborBank, gabor_bank, squared_modulus
from neurorecon.filters.motion import MotionBank
from neurorecon.filters.pictures import interpolate, luminance, opponent_colors, pool, resize, sample

__all__ = [
    "Farneback",
    "GaborBank",
    "LucasKanade",
    "MotionBank",
    "gabor_bank",
    "interpolate",
    "luminance",
    "opponent_colors",
    "pool",
    "resize",
    "sample",
    "squared_modulus",
]
