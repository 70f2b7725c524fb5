"""What the tests of the programs share."""

import multiprocessing

import pytest


@pytest.fixture(autouse=True)
def no_process_left():
    yield
    left = multiprocessing.active_children()
    for process in left:
        process.kill()
    assert not left
