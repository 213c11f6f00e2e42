"""Parameters that a subclass passes on to its parent, spelled out for scikit-learn."""

from __future__ import annotations

import inspect


def whole_signature(cls: type) -> inspect.Signature:
    """Return the signature of ``__init__`` with ``**training`` spelled out: there scikit-learn looks for parameters."""
    first = list(inspect.signature(vars(cls)["__init__"], follow_wrapped=False).parameters.values())
    own = [item for item in first if item.kind is not item.VAR_KEYWORD]
    if len(own) == len(first):
        return inspect.Signature(own)
    parent = next(kind for kind in cls.__mro__[1:] if "__init__" in vars(kind))
    before = inspect.signature(vars(parent)["__init__"]).parameters
    passed = [item for name, item in before.items() if name not in {mine.name for mine in own}]
    return inspect.Signature([*own, *(item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in passed)])
