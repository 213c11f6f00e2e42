"""The embedded data set: procedural scenes and films, and a simulated brain that looks at them.

Everything here is computed from a seed and labelled as simulated. The pictures are described by
:mod:`~neurorecon.datasets.scenes.scene`, drawn by :mod:`~neurorecon.datasets.scenes.drawing`, told in words
by :mod:`~neurorecon.datasets.scenes.captions` and set in motion by :mod:`~neurorecon.datasets.scenes.films`.
"""
