"""A server that the integrations talk to."""

from collections.abc import Iterator

import pytest
from server_process import MODEL, ServerProcess, start_server

from showo_turbo import ShowoPipeline


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serve one model with keys."""
    one = start_server(tmp_path_factory.mktemp("served"), "--model", MODEL)
    yield one
    one.process.kill()
    one.process.communicate()
    assert "Traceback" not in one.log.read_text()


@pytest.fixture(scope="session")
def local_pipe() -> ShowoPipeline:
    """The model that is served, in this process."""
    return ShowoPipeline.from_pretrained(MODEL, device="cpu")
