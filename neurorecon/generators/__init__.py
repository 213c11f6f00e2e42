"""Decoded targets to pixels. Nothing is here yet: linear reconstruction needs no generator."""
