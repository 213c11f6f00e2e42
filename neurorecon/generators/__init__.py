"""Generators: networks that turn decoded targets into images."""
