import pytest
from harness import images_for


@pytest.fixture
def images(request):
    """The images for the model that is the parameter `name` of the test."""
    return images_for(request.node.callspec.params["name"])
