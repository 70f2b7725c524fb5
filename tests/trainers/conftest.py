"""Fixtures of the tests of the programs."""

import multiprocessing

import pytest


@pytest.fixture(autouse=True)
def no_remaining_process():
    yield
    remaining = multiprocessing.active_children()
    for process in remaining:
        process.kill()
    assert not remaining
