"""Data sets on disk, one reader a file, and recipes that name them."""
