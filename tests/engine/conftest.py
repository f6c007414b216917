"""What several rooms are tested with."""

import pytest
from precision_nets import maker


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Gives reference, variant, fp32 artefact and artefact of a net in a precision."""
    return maker(tmp_path_factory.mktemp("coverage"))
