"""Permutation tests of models that are fitted again in each permutation."""
