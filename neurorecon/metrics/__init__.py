"""Metrics of reconstructions: variants that differ have names that differ.

:data:`METRICS` lists them by the names that papers use; other packages add theirs through the entry-point group
``neurorecon.metrics``. The functions here work on plain arrays.
"""

from __future__ import annotations

import warnings
from typing import Any

from neurorecon.metrics.base import FORMER_NAMES, Metric, Summary, load_metric, summarize
from neurorecon.metrics.identification import (
    n_way_probability,
    similarity_matrix,
    top_k_probability,
    two_way,
    two_way_among_reconstructions,
    two_way_half_ties,
)
from neurorecon.metrics.image import mse, pixcorr, psnr, ssim_gray2d, ssim_gray_columns, ssim_rgb7
from neurorecon.registry import METRICS

__all__ = [
    "METRICS",
    "Metric",
    "Summary",
    "load_metric",
    "mse",
    "n_way_probability",
    "pixcorr",
    "psnr",
    "similarity_matrix",
    "ssim_gray2d",
    "ssim_gray_columns",
    "ssim_rgb7",
    "summarize",
    "top_k_probability",
    "two_way",
    "two_way_among_reconstructions",
    "two_way_half_ties",
]


def __getattr__(name: str) -> Any:
    if name not in FORMER_NAMES:
        raise AttributeError(f"module 'neurorecon.metrics' has no attribute {name!r}")
    found = {**FORMER_NAMES, "n_way_identification": "n_way_probability"}[name]
    warnings.warn(f"neurorecon.metrics.{name} is called {found} now", DeprecationWarning, stacklevel=2)
    return globals()[found]
