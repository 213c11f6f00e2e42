"""Miniature trees of data sets: laid out as their distributors do, small enough for tests and a first try."""
