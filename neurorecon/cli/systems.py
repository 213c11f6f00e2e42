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
        output.extra["systems"] = found = [facts_of(one, SYSTEMS.load(one)) for one in ([name] if name else known)]
        for facts in found:
            targets = [
                row["name"]
                + ("" if row["source"] == row["name"] else f" (stored as {row['source']})")
                + ("" if row["roi"] is None else f" from {row['roi']}")
                + ("" if row["required"] else ", optional")
                for row in facts["targets"]
            ]
            weights = [
                f"{row['name']} ({row['origin']}{'' if row['here'] else ', not on this machine'})"
                for row in facts["weights"]
            ]
            parameters = [f"{key}={_short(value)}" for key, value in facts["parameters"].items()]
            output.say(f"{facts['name']}: {facts['summary']}")
            output.say(f"  reconstructs: {' and '.join(kind + 's' for kind in facts['kinds'])}")
            for label, words in (("targets", targets), ("weights", weights), ("parameters", parameters)):
                output.say(f"  {label + ':':<14}{'; '.join(words) or 'none'}")

    run_command("systems", as_json, quiet, verbose, work)


def facts_of(name: str, kind: type[System]) -> dict[str, Any]:
    """Return what a system is and what it needs, JSON types.

    Parameters
    ----------
    name : str
        In the registry.
    kind : type
        Its class. Its targets are those of its default parameters; weights are those of the networks that compute the
        targets, of ``kind.networks``, and of the published weights whose catalog entry names the system.
    """
    import inspect

    from neurorecon.errors import InputError
    from neurorecon.hub import for_role, items, missing_from, search
    from neurorecon.provenance import to_json_types
    from neurorecon.registry import FEATURES

    targets = [
        {"name": key, "source": spec.source, "roi": to_json_types(spec.roi), "required": spec.required}
        for key, spec in kind().targets.items()
    ]
    computed = [row["source"] for row in targets if row["source"] in FEATURES.names()]
    roles = [getattr(FEATURES.load(source), "role", None) for source in computed]
    roles += [*kind.networks, *(entry.role for entry in items("weights") if name in entry.systems)]
    entries = {}
    for role in dict.fromkeys(role for role in roles if role is not None):
        for origin in ("bundled", "published"):
            try:
                entry = for_role(role, origin)
            except InputError:  # some roles have weights of one origin only
                continue
            entries[entry.name] = entry
    weights = []
    for entry in entries.values():
        place = search(entry.name)
        here = place is not None and not missing_from(entry, place)
        weights.append({"name": entry.name, "origin": entry.origin, "role": entry.role, "here": here})
    parameters = {key: part.default for key, part in inspect.signature(kind).parameters.items()}
    return {
        "name": name,
        "summary": (kind.__doc__ or "").partition("\n")[0],
        "kinds": list(kind.kinds),
        "averages": kind.averages,
        "parameters": {
            key: None if value is inspect.Parameter.empty else _plain(value) for key, value in parameters.items()
        },
        "targets": targets,
        "weights": weights,
    }


def _plain(value: Any) -> Any:
    """Return the default of a parameter as a JSON type."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | None) else repr(value)


def _short(value: Any) -> str:
    """Return the default of a parameter in a few characters."""
    if isinstance(value, list):
        shown = value if len(value) <= 4 else [*value[:2], "...", value[-1]]
        return f"[{', '.join(_short(item) for item in shown)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
