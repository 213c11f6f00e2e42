"""Contract suites for authors of readers, extractors and decoders.

Each suite is a list of checks whose errors say what was expected.

In a test module::

    import pytest
    from neurorecon.testing import reader_checks

    @pytest.mark.parametrize("check", reader_checks(), ids=str)
    def test_contract(check):
        check(MyReader("testdata"))

or all at once, ``check_reader(MyReader("testdata"))``. Likewise, use ``extractor_checks`` and ``check_extractor`` for
extractors, ``decoder_checks`` and ``check_decoder`` for decoders, ``generator_checks`` and ``check_generator`` for
generators, ``system_checks`` and ``check_system`` for systems.

All names are imported lazily, so that commands that only list miniatures are fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurorecon.testing.contract import ContractError
    from neurorecon.testing.decoders import DecoderCheck, Problem, check_decoder, decoder_checks
    from neurorecon.testing.extractors import Examples, ExtractorCheck, check_extractor, extractor_checks
    from neurorecon.testing.generators import GeneratorCheck, check_generator, generator_checks
    from neurorecon.testing.readers import ReaderCheck, check_reader, reader_checks
    from neurorecon.testing.systems import SystemCheck, check_system, system_checks

_PUBLIC = {
    "ContractError": "neurorecon.testing.contract",
    "DecoderCheck": "neurorecon.testing.decoders",
    "check_decoder": "neurorecon.testing.decoders",
    "decoder_checks": "neurorecon.testing.decoders",
    "Examples": "neurorecon.testing.extractors",
    "ExtractorCheck": "neurorecon.testing.extractors",
    "check_extractor": "neurorecon.testing.extractors",
    "extractor_checks": "neurorecon.testing.extractors",
    "GeneratorCheck": "neurorecon.testing.generators",
    "check_generator": "neurorecon.testing.generators",
    "generator_checks": "neurorecon.testing.generators",
    "Problem": "neurorecon.testing.decoders",
    "ReaderCheck": "neurorecon.testing.readers",
    "check_reader": "neurorecon.testing.readers",
    "reader_checks": "neurorecon.testing.readers",
    "SystemCheck": "neurorecon.testing.systems",
    "check_system": "neurorecon.testing.systems",
    "system_checks": "neurorecon.testing.systems",
}

__all__ = [
    "ContractError",
    "DecoderCheck",
    "Examples",
    "ExtractorCheck",
    "GeneratorCheck",
    "Problem",
    "ReaderCheck",
    "SystemCheck",
    "check_decoder",
    "check_extractor",
    "check_generator",
    "check_reader",
    "check_system",
    "decoder_checks",
    "extractor_checks",
    "generator_checks",
    "reader_checks",
    "system_checks",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'neurorecon.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
