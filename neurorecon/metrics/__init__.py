"""Scores of reconstructions: variants that differ have names that differ."""

from neurorecon.metrics.identification import (
    n_way_identification,
    pairwise_identification,
    pairwise_identification_among_reconstructed,
    pairwise_identification_half_ties,
    similarity_matrix,
)
from neurorecon.metrics.image import mean_squared_error, pixel_correlation
from neurorecon.metrics.summary import Summary, summarize

__all__ = [
    "Summary",
    "mean_squared_error",
    "n_way_identification",
    "pairwise_identification",
    "pairwise_identification_among_reconstructed",
    "pairwise_identification_half_ties",
    "pixel_correlation",
    "similarity_matrix",
    "summarize",
]
