"""From names and settings to extractors."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from neurorecon.errors import InputError
from neurorecon.features.base import Extractor
from neurorecon.features.reading import categories_of, what_is_missing
from neurorecon.registry import FEATURES
from neurorecon.store.store import Store

#: Stands for every target that neurorecon ships and the store allows.
ALL = "all"

#: Settings that are given to all extractors that take them; the others have to be taken by one at least.
COMMON = ("models", "device", "precision")


def load_extractor(name: str, **options: Any) -> Extractor:
    """Return an extractor, to compute a target of stimuli that are in no store.

    Parameters
    ----------
    name : str
        A registered target, e.g. ``"clip_vision"``.
    **options
        Its settings, e.g. ``models="published"``, ``device="cuda"``, ``groups=15``.

    Returns
    -------
    Extractor
        ``load_extractor("clip_vision").transform(pictures)`` gives the features of pictures (uint8, float from 0 to 1,
        or PIL images).

    Raises
    ------
    UnknownNameError
        For a name that is not registered.
    InputError
        For a setting that the extractor does not take.
    """
    return make_extractors([name], options)[0]


def make_extractors(
    targets: Iterable[str | Extractor], options: Mapping[str, Any], categories: list[str] | None = None
) -> list[Extractor]:
    """Return the extractors of some targets.

    Parameters
    ----------
    targets : iterable of str or Extractor
        Names of registered targets; extractors are taken as they are.
    options : mapping
        Settings by name; None stands for a setting's default.
    categories : list of str, optional
        Categories of the store.
    """
    given = {name: value for name, value in options.items() if value is not None}
    loaded = [target if isinstance(target, Extractor) else FEATURES.load(target) for target in targets]
    taken = {id(one): _parameters(one) for one in loaded if not isinstance(one, Extractor)}
    for name in given:
        known = sorted({parameter for parameters in taken.values() for parameter in parameters} - {"categories"})
        if name not in known and name not in COMMON and _ANY not in known:
            raise InputError(
                "none of these targets takes this setting",
                given=f"{name}={given[name]!r}",
                expected=f"one of: {', '.join(known) or '(none)'}",
                todo="leave it out, or check its spelling",
            )
    return [_made(one, given, categories, taken.get(id(one), {})) for one in loaded]


def all_targets(store: Store) -> list[str]:
    """Return the names of the targets that neurorecon ships and that the store allows."""
    return [name for name in FEATURES.builtin if what_is_missing(store, FEATURES.load(name).needs) is None]


def chosen_targets(store: Store, targets: str | Extractor | Iterable[str | Extractor]) -> list[str | Extractor]:
    """Return the targets that a caller means: a name, an extractor, several of them, or ``"all"``."""
    listed = [targets] if isinstance(targets, str | Extractor) else list(targets)
    found: list[str | Extractor] = []
    for target in listed:
        found += all_targets(store) if target == ALL else [target]
    return list(dict.fromkeys(found))


def extractors_for(
    store: Store, targets: str | Extractor | Iterable[str | Extractor], options: Mapping[str, Any]
) -> list[Extractor]:
    """Return the extractors of the targets that a caller means for a store."""
    return make_extractors(chosen_targets(store, targets), options, categories_of(store))


#: Stands in a list of parameters for "any other".
_ANY = "**"


def _parameters(maker: Any) -> dict[str, Any]:
    """Return the parameters of a constructor by name; old ones take nothing but the categories."""
    parameters = inspect.signature(maker).parameters
    return {
        _ANY if parameter.kind is inspect.Parameter.VAR_KEYWORD else name: parameter
        for name, parameter in parameters.items()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)
    }


def _made(maker: Any, given: Mapping[str, Any], categories: list[str] | None, taken: Mapping[str, Any]) -> Extractor:
    if isinstance(maker, Extractor):
        return maker
    wanted = {"categories": categories, **given}
    extractor: Extractor = maker(
        **{name: value for name, value in wanted.items() if name in taken or (_ANY in taken and name != "categories")}
    )
    return extractor
