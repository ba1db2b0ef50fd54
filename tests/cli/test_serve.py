"""`serve` refuses what cannot work in one line, before a model is loaded."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from showo_turbo.pipelines.pipeline import ShowoPipeline


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShowoPipeline, "from_pretrained", lambda *_, **__: pytest.fail("a model was loaded"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "no-such-model"], "model 'no-such-model' is unknown"),
        (["--model", "tiny", "--model", "tiny"], "model 'tiny' is given several times"),
        (["--api-keys-file", "none.txt"], "API keys file 'none.txt' cannot be read"),
        (["--api-keys-file", "empty.txt"], "API keys file 'empty.txt' has no key"),
        (["--api-key", "short"], "API key number 1 is invalid"),
        (["--port", "70000"], "port is 70000"),
        (["--host", "no-such-host.invalid"], "host 'no-such-host.invalid'"),
        (["--max-queue", "0"], "max_queue is 0"),
        (["--request-timeout", "0"], "request_timeout is 0"),
        (["--dtype", "float8"], "dtype 'float8' is unknown"),
        (["--cors-origin", "example.com"], "--cors-origin 'example.com'"),
    ],
)
def test_a_mistake_is_one_line(here: Path, cli: Callable, arguments: list[str], message: str) -> None:
    (here / "empty.txt").write_text("# no keys\n")
    result = cli("serve", "--port", "0", *arguments)
    assert result.status == 2
    assert message in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert result.out == ""


def test_a_port_in_use_is_one_line(cli: Callable) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = cli("serve", "--port", port)
    assert result.status == 2
    assert f"port {port} cannot be used" in result.err
    assert result.err.count("\n") == 1
