"""For those who write readers, extractors or decoders of their own: contracts, as checks that say what was expected.

In a test module::

    import pytest
    from neurorecon.testing import reader_checks

    @pytest.mark.parametrize("check", reader_checks(), ids=str)
    def test_contract(check):
        check(MyReader("testdata"))

or all at once, ``check_reader(MyReader("testdata"))``. Extractors of targets have ``extractor_checks`` and
``check_extractor`` in the same way, decoders ``decoder_checks`` and ``check_decoder``.
"""

from neurorecon.testing.contract import ContractError
from neurorecon.testing.decoders import DecoderCheck, check_decoder, decoder_checks
from neurorecon.testing.examples import Examples
from neurorecon.testing.extractors import ExtractorCheck, check_extractor, extractor_checks
from neurorecon.testing.problems import Problem
from neurorecon.testing.readers import ReaderCheck, check_reader, reader_checks

__all__ = [
    "ContractError",
    "DecoderCheck",
    "Examples",
    "ExtractorCheck",
    "Problem",
    "ReaderCheck",
    "check_decoder",
    "check_extractor",
    "check_reader",
    "decoder_checks",
    "extractor_checks",
    "reader_checks",
]
