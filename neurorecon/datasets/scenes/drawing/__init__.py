"""The renderer: scenes as pictures.

:func:`render` draws one moment of a scene at any size; every family of objects and of places has its
module.
"""

from neurorecon.datasets.scenes.drawing.render import object_map, render

__all__ = ["object_map", "render"]
