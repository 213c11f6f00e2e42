"""``neurorecon systems``: list the reconstruction systems, their parameters, and the targets and weights they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, VerboseOption, run_command

if TYPE_CHECKING:
    from neurorecon.systems.base import System


def systems(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A system. Default: all.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """List the reconstruction systems: what they reconstruct, their parameters, the targets and weights they need."""

    def work(output: Output) -> None:
        from neurorecon.errors import UnknownNameError
        from neurorecon.registry import SYSTEMS

        known = SYSTEMS.names()
        if name is not None and name not in known:
            raise UnknownNameError("system", name, known)
        output.extra["systems"] = found = [_facts(one, SYSTEMS.load(one)) for one in ([name] if name else known)]
        for facts in found:
            output.say(f"{facts['name']}: {facts['summary']}")
            for key in ("reconstructs", "targets", "weights"):
                output.say(f"  {key + ':':<14}{'; '.join(_words(item) for item in facts[key]) or 'none'}")
            for key, default in facts["parameters"].items():
                output.say(f"  {'--set':<14}{key}={'' if default is None else default}")

    run_command("systems", as_json, quiet, verbose, work)


def _facts(name: str, kind: type[System]) -> dict[str, Any]:
    """Return what a system is and needs, JSON types."""
    import inspect

    from neurorecon.hub import items, missing_from, search
    from neurorecon.provenance import to_json_types
    from neurorecon.registry import FEATURES

    signature = inspect.signature(kind)
    specs = kind().targets
    roles = set(kind.networks) | {
        entry.role for entry in items("weights") if entry.origin == "published" and name in entry.systems
    }
    for spec in specs.values():
        role = getattr(FEATURES.load(spec.source), "role", None) if spec.source in FEATURES.names() else None
        roles |= set() if role is None else {role}
    weights = []
    for entry in items("weights"):
        if entry.role in roles:
            place = search(entry.name)
            here = place is not None and not missing_from(entry, place)
            weights.append({"name": entry.name, "origin": entry.origin, "role": entry.role, "here": here})
    return {
        "name": name,
        "summary": (inspect.getdoc(kind) or "").partition("\n")[0],
        "reconstructs": list(kind.kinds),
        "parameters": {
            key: None if part.default is part.empty else _shown(part.default)
            for key, part in signature.parameters.items()
        },
        "targets": [
            {"name": key, "source": spec.source, "roi": to_json_types(spec.roi), "required": spec.required}
            for key, spec in specs.items()
        ],
        "weights": weights,
    }


def _shown(default: Any) -> Any:
    return default if isinstance(default, str | int | float | bool | list | type(None)) else repr(default)


def _words(item: Any) -> str:
    """Return an entry of a list in words."""
    if isinstance(item, str):
        return f"{item}s"
    if "origin" in item:
        return f"{item['name']} ({item['origin']}{'' if item['here'] else ', not on this machine'})"
    roi = "" if item["roi"] is None else f", from {item['roi']}"
    return f"{item['name']}{'' if item['name'] == item['source'] else ' = ' + item['source']}{roi}"
