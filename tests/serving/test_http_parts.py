"""Keys, addresses of remote images, messages and parts of answers, each by itself."""

import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from showo_turbo import InputError
from showo_turbo.serving.dialogues import ChatOutput
from showo_turbo.serving.http import remote_images
from showo_turbo.serving.http.chat_messages import read_messages
from showo_turbo.serving.http.error_bodies import ApiError
from showo_turbo.serving.http.gate import is_loopback
from showo_turbo.serving.http.keys import ApiKeys, read_keys
from showo_turbo.serving.http.listener import bind, url_of
from showo_turbo.serving.http.remote_images import fetch_image, is_public
from showo_turbo.serving.reports import AnswerReport, preview_passes


def test_keys_are_read_and_found(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("# of the lab\n\n  first-key-1 \nsecond-key\n")
    keys = ApiKeys(read_keys(file))
    names = {keys.find(f"Bearer {key}") for key in ("first-key-1", "second-key")}
    assert len(names) == 2
    assert None not in names
    assert keys.find("bearer first-key-1") in names
    for wrong in (None, "", "Bearer", "Bearer ", "Basic first-key-1", "first-key-1", "Bearer first-key", "Bearer ключ"):
        assert keys.find(wrong) is None
    assert ApiKeys().find(None) == "anonymous"
    assert not any("first" in str(value) for value in vars(keys).values())


@pytest.mark.parametrize("content", ["", "# no key\n", "short\n", "two words here\n", "ключ-ключ-ключ\n"])
def test_a_bad_keys_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="API key"):
        ApiKeys(read_keys(file))
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="cannot be read"):
            read_keys(path)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "255.255.255.255", "224.0.0.1", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0",
        "fc00::1", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_a_public_address_is_taken(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/a.png", "file:///etc/passwd", "http://", "http://user:pass@example.com/", "gopher://a",
        "http://example.com:22/", "https://example.com:80/", "http://[::1", "http://127.0.0.1/", "http://localhost/",
        "http://0x7f.1/", "http://2130706433/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest/meta-data",
    ],
)  # fmt: skip
def test_an_image_is_fetched_from_public_hosts_only(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("a connection was made"))
    with pytest.raises(ApiError) as error:
        fetch_image(url, 1000)
    assert error.value.status == 400


@dataclass
class Web:
    """Hold a web server on loopback that stands for public hosts."""

    port: int
    resolved: list[str]
    connected: list[tuple[str, int]]


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Resolve *.public.example to a public address, and connect to a server here in its place."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = {"/private": "http://inside.example/", "/loop": "/loop", "/moved": "/image"}.get(self.path)
            self.send_response(302 if target else 404 if self.path == "/none" else 200)
            if target:
                self.send_header("Location", target)
            self.end_headers()
            self.wfile.write(b"x" * (5000 if self.path == "/large" else 10))

        def log_message(self, *_: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    found = Web(http.server_address[1], [], [])

    def resolve(host: str, port: int, **_: Any) -> list:
        found.resolved.append(host)
        address = "8.8.8.8" if host.endswith("public.example") else "192.168.1.7"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def redirect(address: tuple[str, int], timeout: float) -> socket.socket:
        found.connected.append(address)
        connection = socket.socket()
        connection.settimeout(timeout)
        connection.connect(("127.0.0.1", found.port))
        return connection

    monkeypatch.setattr(remote_images.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(remote_images.socket, "create_connection", redirect)
    yield found
    http.shutdown()
    http.server_close()


def test_the_address_that_was_checked_is_connected_to(web: Web) -> None:
    assert fetch_image("http://a.public.example/moved", 100) == b"x" * 10
    assert web.resolved == ["a.public.example"] * 2
    assert web.connected == [("8.8.8.8", 80)] * 2


@pytest.mark.parametrize(
    ("path", "status", "connections"), [("private", 400, 1), ("loop", 400, 4), ("large", 413, 1), ("none", 400, 1)]
)
def test_every_redirect_and_the_size_are_checked(web: Web, path: str, status: int, connections: int) -> None:
    with pytest.raises(ApiError) as error:
        fetch_image(f"http://a.public.example/{path}", 1000)
    assert error.value.status == status
    assert len(web.connected) == connections


def test_a_port_in_use_is_named() -> None:
    first = bind("127.0.0.1", 0)
    first.listen()
    with first, pytest.raises(InputError, match="cannot be used"):
        bind("127.0.0.1", int(url_of(first).rsplit(":", 1)[1]))
    with pytest.raises(InputError, match="cannot be used"):
        bind("no-such-host.invalid", 1)


def test_names_of_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost", "LOCALHOST.", "127.9.9.9")))
    assert not any(map(is_loopback, ("", "0.0.0.0", "localhost.evil.example", "10.0.0.1")))


def message(role: str, content: Any) -> SimpleNamespace:
    parts = content
    if isinstance(content, list):
        parts = [
            SimpleNamespace(type=one.get("type"), text=one.get("text"), image_url=one.get("url")) for one in content
        ]
    return SimpleNamespace(role=role, content=parts)


def test_messages_are_read() -> None:
    image, text = {"type": "image_url", "url": "data:a"}, {"type": "text", "text": "What is it?"}
    read = read_messages(
        [
            message("system", "You are helpful."),
            message("user", "Look."),
            message("user", [image, text]),
            message("assistant", "a dog"),
            message("user", [{"type": "text", "text": "Where?"}, image]),
        ]
    )
    assert read.image_url == "data:a"
    assert [(turn.question, turn.answer) for turn in read.turns] == [("Look. What is it?", "a dog")]
    assert read.question == "Where?"
    assert read.warnings == ["system messages are ignored: the model has no such role"]
    other = {"type": "image_url", "url": "data:b"}
    for wrong in (
        [message("user", [image, other])],
        [message("user", "a"), message("assistant", "b")],
        [message("assistant", "b"), message("user", "a")],
        [message("system", "b")],
    ):
        with pytest.raises(ApiError):
            read_messages(wrong)


def parts_of(texts: list[str], **options: Any) -> tuple[list[str], str | None]:
    """Return the parts that a report makes of settled texts, and the reason of the end."""
    report, parts = AnswerReport(10, streams=True, **options), []
    for number, text in enumerate(texts):
        output = ChatOutput(text, [0] * (number + 1), number, 1, 0)
        event = report(SimpleNamespace(done=number + 1 == len(texts), output=lambda output=output: output))
        parts += [event.delta] if event and event.delta else []
        if event and event.done:
            return parts, event.finish_reason
    return parts, None


def test_parts_of_an_answer_join_to_the_answer() -> None:
    texts = ["a", "a red", "a red ci\N{REPLACEMENT CHARACTER}", "a red circle", "a red circle."]
    assert parts_of(texts) == (["a", " red", " ci", "rcle", "."], "stop")
    assert "".join(parts_of(texts, cleans_up_spaces=True)[0]) == texts[-1]
    assert parts_of(texts, stop=["circle"]) == (["a", " red", " "], "stop")
    assert parts_of(texts, stop=["red c", "zz"]) == (["a", " "], "stop")
    assert parts_of(["no", "no end"], stop=["ended"]) == (["no", " end"], "stop")
    assert parts_of([""]) == ([], "stop")


def test_previews_are_spread_evenly() -> None:
    assert preview_passes(16, 3) == {4, 8, 12}
    assert preview_passes(2, 3) == {1}
    assert preview_passes(1, 3) == set()
    assert preview_passes(8, 0) == set()
