"""Banded ridge regression: kernels of bands, the search for their weights, nested cross-validation."""
