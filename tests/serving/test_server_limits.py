"""The server refuses wrong keys, large requests and full queues; it ends in order when clients leave or it stops."""

import asyncio
import json
import signal
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image
from server_process import KEYS, ServerProcess, start_server

DRAW = "/v1/images/generations"
DOG = {"prompt": "a dog", "model": "random"}
LONG = {"prompt": "a dog", "model": "random", "num_inference_steps": 16, "size": "48x48", "n": 8}


def with_image(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


def error_of(response: httpx.Response) -> dict[str, Any]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    return error


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG file of a large image."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png(size: tuple[int, int] = (32, 32)) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("key", [None, "a", "wrong-key", KEYS[0][:-1], KEYS[0] + "x", "ключ"])
def test_a_wrong_key_is_refused_everywhere(server: ServerProcess, key: str | None) -> None:
    headers = {} if key is None else {"Authorization": f"Bearer {key}".encode()}
    http = server.http(key=None)
    for method, path in (("POST", DRAW), ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/v1/none")):
        response = http.request(method, path, headers=headers)
        assert response.status_code == 401
        assert error_of(response)["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"


def test_the_official_client_knows_the_errors(server: ServerProcess) -> None:
    with pytest.raises(openai.AuthenticationError):
        server.client("wrong-key").models.list()
    with pytest.raises(openai.NotFoundError) as error:
        server.client().images.generate(model="gpt-image-1", prompt="a dog")
    assert error.value.param == "model"
    assert server.client(KEYS[1]).models.list().data


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": "a " * 1500}, "prompt"),
        ({"prompt": "a <|soi|>"}, "prompt"),
        (DOG | {"n": 0}, "n"),
        (DOG | {"n": 11}, "n"),
        (DOG | {"n": "2"}, "n"),
        (DOG | {"num_inference_steps": 17}, "num_inference_steps"),
        (DOG | {"num_inference_steps": 10**30}, "num_inference_steps"),
        (DOG | {"num_inference_steps": True}, "num_inference_steps"),
        (DOG | {"guidance_scale": -1}, "guidance_scale"),
        (DOG | {"schedule": "x" * 500}, None),
        (DOG | {"seed": 2**63}, "seed"),
        (DOG | {"size": "31x32"}, "size"),
        (DOG | {"size": "1000000000x8"}, "size"),
        (DOG | {"size": "1024x1024"}, "size"),
        (DOG | {"size": "²x²"}, "size"),
        (DOG | {"response_format": "url"}, "response_format"),
        (DOG | {"guidence_scale": 2}, "guidence_scale"),
        (DOG | {"partial_images": 4, "stream": True}, "partial_images"),
    ],
)
def test_an_invalid_value_is_named(server: ServerProcess, body: dict[str, Any], param: str | None) -> None:
    response = server.http().post(DRAW, json=body)
    assert response.status_code == 400
    error = error_of(response)
    assert error["type"] == "invalid_request_error"
    assert param is None or error["param"] == param
    assert len(error["message"]) < 400


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"prompt": NaN}', b'{"prompt": "\\ud800"}', b"[" * 100_000, b"9" * 9000],
)
def test_a_body_that_is_no_json_object_is_refused(server: ServerProcess, content: bytes) -> None:
    response = server.http().post(DRAW, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    error_of(response)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "user", "content": "What is it?"}], "messages"),
        ([{"role": "assistant", "content": "a dog"}], "messages"),
        ([{"role": "robot", "content": "What?"}], "messages.0.role"),
        ([{"role": "user", "content": [{"type": "video"}]}], "messages.0.content"),
        (with_image("file:///etc/passwd"), "image_url"),
        (with_image("http://127.0.0.1/a"), "image_url"),
        (with_image("data:image/png,abc"), "image_url"),
        (with_image("data:image/png;base64,@@"), "image_url"),
        (with_image("data:image/png;base64,AAAA"), "image"),
    ],
)
def test_invalid_messages_are_named(server: ServerProcess, messages: list, param: str) -> None:
    response = server.http().post("/v1/chat/completions", json={"messages": messages, "model": "random"})
    assert response.status_code == 400
    assert error_of(response)["param"] == param


def test_large_bodies_and_images_are_refused(server: ServerProcess) -> None:
    http = server.http()
    response = http.post(DRAW, content=b"x" * (2 << 20))
    assert response.status_code == 413

    def chunks() -> Iterator[bytes]:  # without a length
        for _ in range(200):
            yield b"x" * 10_000

    assert http.post(DRAW, content=chunks()).status_code == 413
    for data in (bomb(1000, 1000), bomb(60_000, 60_000), png((1000, 600))):
        response = http.post("/v1/images/edits", files={"image": ("a.png", data)}, data={"prompt": "a dog"})
        assert response.status_code == 413, response.text
        assert error_of(response)["param"] == "image"
    response = http.post("/v1/images/edits", files={"image": ("a.png", bomb(600, 600))}, data={"prompt": "a dog"})
    assert response.status_code == 400


@pytest.mark.parametrize(
    ("files", "fields", "param"),
    [
        ({}, {"prompt": "a dog"}, None),
        ({"image": b"no image"}, {"prompt": "a dog"}, "image"),
        ({"image": png()}, {}, "prompt"),
        ({"image": png()}, {"prompt": "a dog", "strength": "2"}, "strength"),
        ({"image": png()}, {"prompt": "a dog", "strength": "x"}, "strength"),
        ({"image": png()}, {"prompt": "a dog", "direction": "north"}, "direction"),
        ({"image": png()}, {"prompt": "a dog", "direction": "left", "strength": "0.5"}, "strength"),
        ({"image": png()}, {"prompt": "a dog", "direction": ",".join(["left"] * 40)}, "direction"),
        ({"image": png(), "mask": png((16, 16))}, {"prompt": "a dog"}, "mask"),
        ({"image": png(), "other": png()}, {"prompt": "a dog"}, "mask"),
        ({"image": png((100, 1))}, {"prompt": "a dog"}, "image"),
    ],
)
def test_invalid_edits_are_named(server: ServerProcess, files: dict, fields: dict, param: str | None) -> None:
    sent = {name: (f"../../{name}", data) for name, data in files.items()}
    response = server.http().post("/v1/images/edits", files=sent or {"a": b""}, data=fields | {"model": "random"})
    assert response.status_code == 400, response.text
    assert param is None or error_of(response)["param"] == param


def test_web_pages_and_other_names_are_refused(server: ServerProcess) -> None:
    http = server.http()
    assert http.post(DRAW, json=DOG, headers={"Origin": "https://evil.example"}).status_code == 403
    assert http.post(DRAW, json=DOG, headers={"Host": "evil.example"}).status_code == 403
    assert http.get("/health", headers={"Host": "evil.example:80"}).status_code == 403
    assert http.post(DRAW, json=DOG, headers={"Origin": server.url}).status_code == 200
    assert "access-control-allow-origin" not in http.options(DRAW, headers={"Origin": server.url}).headers


def test_a_full_queue_refuses_and_loses_none(server: ServerProcess) -> None:
    """Some of many requests are refused at once and told when to come back; all others are answered."""

    def draw(seed: int) -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEYS[seed % 2]}"}
        return httpx.post(
            server.url + DRAW, json=DOG | {"seed": seed, "n": 8}, headers=headers, timeout=120, trust_env=False
        )

    with ThreadPoolExecutor(40) as pool:
        responses = list(pool.map(draw, range(40)))
    refused = [response for response in responses if response.status_code == 429]
    answered = [response for response in responses if response.status_code == 200]
    assert refused
    assert len(refused) + len(answered) == len(responses)
    assert len(answered) >= 24
    for response in refused:
        assert error_of(response)["code"] == "queue_full"
        assert 1 <= int(response.headers["retry-after"]) <= 60
    assert server.metric("showo_turbo_requests_running") == 0


def wait_until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_clients_that_leave_free_their_places(server: ServerProcess) -> None:
    """In a stream, while they wait for a response, and before the body is complete."""
    idle = lambda: server.metric("showo_turbo_requests_running") + server.metric("showo_turbo_requests_waiting") == 0  # noqa: E731
    wait_until(idle)
    finished = server.metric("showo_turbo_forward_passes_total")
    stream = server.client().images.generate(
        prompt="a dog", model="random", size="48x48", stream=True, partial_images=3,
        n=8, extra_body={"num_inference_steps": 16},
    )  # fmt: skip
    next(iter(stream))
    stream.response.close()
    wait_until(idle)
    assert server.metric("showo_turbo_forward_passes_total") == finished

    async def leave() -> None:
        async with server.async_client() as client:
            draw = asyncio.create_task(client.images.generate(prompt="a dog", extra_body=LONG))
            await asyncio.to_thread(wait_until, lambda: not idle())
            draw.cancel()
            with pytest.raises(asyncio.CancelledError):
                await draw

    asyncio.run(leave())
    wait_until(idle)
    assert server.metric("showo_turbo_forward_passes_total") == finished
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = (
            f"POST {DRAW} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEYS[0]}\r\nContent-Length: 99\r\n\r\n{{"
        )
        connection.sendall(head.encode())
    assert server.http().post(DRAW, json=DOG).status_code == 200


def test_it_finishes_what_runs_and_refuses_new_work_at_the_end(tmp_path: Path, random_checkpoint: Path) -> None:
    server = start_server(tmp_path, "--model", str(random_checkpoint), "--drain-seconds", "60")
    http, long = server.http(), LONG | {"seed": 0}
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(http.post, DRAW, json=long, timeout=60) for _ in range(2)]
        stream = pool.submit(lambda: http.post(DRAW, json=long | {"stream": True}, timeout=60).text)
        wait_until(lambda: server.metric("showo_turbo_requests_running") == 3)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: http.get("/ready").status_code == 503)
        refused = http.post(DRAW, json=DOG)
        assert refused.status_code == 503
        assert error_of(refused)["code"] == "draining"
        assert http.get("/health").status_code == 200
        assert [one.result().status_code for one in running] == [200, 200]
        assert "image_generation.completed" in stream.result()
    server.clients.close()
    with server.process:
        assert server.process.wait(30) == 0
    assert "all requests are finished" in server.log.read_text()


def test_the_time_to_finish_is_limited_and_ctrl_c_ends_cleanly(tmp_path: Path, random_checkpoint: Path) -> None:
    server = start_server(tmp_path, "--model", str(random_checkpoint), "--drain-seconds", "0", keys=False)
    with ThreadPoolExecutor(2) as pool:
        http = server.http(key=None)
        whole = pool.submit(http.post, DRAW, json=LONG, timeout=60)
        stream = pool.submit(lambda: http.post(DRAW, json=LONG | {"stream": True}, timeout=60).text)
        wait_until(lambda: server.metric("showo_turbo_requests_running") == 2)
        server.process.send_signal(signal.SIGINT)
        assert whole.result().status_code == 503
        last = stream.result().strip().removeprefix("data: ")
        assert json.loads(last)["error"]["code"] == "draining"
    server.clients.close()
    with server.process:
        assert server.process.wait(30) == 130
    log = server.log.read_text()
    assert "Traceback" not in log
