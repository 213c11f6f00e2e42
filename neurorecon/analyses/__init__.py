"""Analyses: maps, reconstructions and their statistics, from a store to arrays and files."""
