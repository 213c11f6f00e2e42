"""Benchmarks of full size take longer than a test may."""

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("benchmark"):
            item.add_marker(pytest.mark.timeout(3 * 3600))
