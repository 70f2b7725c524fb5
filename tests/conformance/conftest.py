import pytest
from harness import binary_digits


@pytest.fixture
def images():
    return binary_digits()
