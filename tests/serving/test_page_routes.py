"""Routes of the page, over real HTTP."""

import json
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from server_process import ServerProcess, start_server

from showo_turbo.generation.options import DecodingOptions, SamplingOptions
from showo_turbo.serving.http.page_files import page_files

IMAGE_EVENTS = ["accepted", *["pass"] * 4]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = start_server(tmp_path_factory.mktemp("page"), "--with-app", "--model", "tiny-turbo", "--model", "tiny")
    yield server
    server.stop()


def events(response: httpx.Response) -> list[tuple[str, dict]]:
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in response.text.strip().split("\n\n")]
    return [(block.get("event", "error"), json.loads(block["data"])) for block in blocks]


def draw(client: httpx.Client, **body: object) -> list[tuple[str, dict]]:
    return events(client.post("/app/draw", json={"prompt": "a red circle", "seed": 1, **body}).raise_for_status())


def test_files_are_open_and_everything_else_needs_a_key(page: ServerProcess) -> None:
    client = page.http(key=None)
    for path, (content, kind) in page_files().items():
        response = client.get(path)
        assert (response.content, response.headers["content-type"]) == (content, kind)
        assert response.headers["content-security-policy"].startswith("default-src 'self'; img-src 'self' data: blob:")
    assert client.get("/page/../serve.py").status_code in (401, 404)
    assert client.get("/app/info").status_code == 401
    assert client.post("/app/draw", json={"prompt": "a"}).status_code == 401


def test_files_name_no_other_site() -> None:
    for content, _ in page_files().values():
        addresses = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in addresses
        assert "https://" not in addresses


def test_options_are_described_from_their_declarations(page: ServerProcess) -> None:
    info = page.http().get("/app/info").json()
    assert info["pairs"] == [{"teacher": "tiny", "student": "tiny-turbo"}]
    student, teacher = info["models"]
    assert [one["name"] for one in student["sampling"]] == [one.name for one in fields(SamplingOptions)]
    assert [one["name"] for one in student["decoding"]] == [one.name for one in fields(DecodingOptions)]
    steps = [next(one for one in model["sampling"] if one["name"] == "num_inference_steps") for model in info["models"]]
    assert [(one["type"], one["minimum"], one["maximum"], one["default"]) for one in steps] == [
        ("integer", 1, 64, 4),
        ("integer", 1, 64, 16),
    ]
    assert "circle" in teacher["world"]["words"]


def test_every_pass_of_an_image_is_reported_and_ends_as_the_api_does(page: ServerProcess) -> None:
    client = page.http()
    found = draw(client)
    assert [name for name, _ in found if name != "queue"] == IMAGE_EVENTS
    passes = [data for name, data in found if name == "pass"]
    settled = [data["levels"][0].count("2") for data in passes]
    assert settled == sorted(settled)
    assert settled[-1] == 64
    assert all(before["seconds"] < after["seconds"] for before, after in pairwise(passes))
    answer = client.post("/v1/images/generations", json={"prompt": "a red circle", "seed": 1}).json()
    assert passes[-1]["images"] == [f"data:image/png;base64,{answer['data'][0]['b64_json']}"]


def test_an_edit_by_codes_keeps_the_others(page: ServerProcess) -> None:
    client = page.http()
    codes = draw(client)[-1][1]["codes"][0]
    mask = [[int(row < 4) for _ in range(8)] for row in range(8)]
    body = {"prompt": "a blue star", "codes": codes, "seed": 2}
    painted = events(client.post("/app/edit", json=body | {"mask": mask}))[-1][1]["codes"][0]
    assert painted[4:] == codes[4:]
    assert painted[:4] != codes[:4]
    wide = events(client.post("/app/edit", json=body | {"direction": ["left"]}))[-1][1]["codes"][0]
    assert [row[4:] for row in wide] == codes
    wider = events(client.post("/app/edit", json=body | {"codes": wide, "direction": ["up"]}))[-1][1]
    assert (wider["grid"], wider["codes"][0][4:]) == ([12, 12], wide)
    varied = events(client.post("/app/edit", json=body | {"strength": 0.5}))[-1][1]["codes"][0]
    assert 0 < sum(a != b for old, new in zip(codes, varied, strict=True) for a, b in zip(old, new, strict=True)) <= 32


def test_every_pass_of_an_answer_is_reported(page: ServerProcess) -> None:
    client = page.http()
    url = draw(client)[-1][1]["images"][0]
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Describe the image."}]
    texts = {}
    for decoding in ("jacobi", "autoregressive"):
        body = {"messages": [{"role": "user", "content": content}], "decoding": decoding, "seed": 0}
        found = [data for name, data in events(client.post("/app/ask", json=body)) if name == "pass"]
        assert [data["done"] for data in found] == [False] * (len(found) - 1) + [True]
        assert "".join(found[-1]["tokens"]).strip() == found[-1]["text"]
        assert found[-1]["ended"]
        texts[decoding] = found[-1]["text"]
        if decoding == "autoregressive":
            assert [data["settled"] for data in found] == list(range(1, len(found) + 1))
    assert texts["jacobi"] == texts["autoregressive"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("draw", {"prompt": "a", "size": "40x40"}, "choose a multiple of 8 pixels"),
        ("draw", {"prompt": "a", "num_inference_steps": 65}, "choose 1 to 64"),
        ("edit", {"prompt": "a", "strength": 0.5}, "image is missing or given twice"),
        ("edit", {"prompt": "a", "codes": [[1] * 8] * 8}, "no edit is given"),
        ("edit", {"prompt": "a", "codes": [[1] * 8, [1] * 7], "strength": 0.5}, "codes is no grid"),
        ("edit", {"prompt": "a", "codes": [[9999] * 8] * 8, "strength": 0.5}, "codes must be codebook indices"),
        ("edit", {"prompt": "a", "codes": [[-1] * 8] * 8, "strength": 0.5}, "codes has numbers out of range"),
        ("edit", {"prompt": "a", "codes": [[5] * 8] * 300, "strength": 0.5}, "windows: choose at most 16"),
        ("edit", {"prompt": "a", "codes": [[1] * 8] * 8, "mask": [[0] * 8] * 8}, "mask is empty"),
        ("edit", {"prompt": "a", "codes": [[1] * 8] * 8, "direction": "sideways"}, "direction is 'sideways'"),
        ("edit", {"prompt": "a", "image": "data:image/png;base64,aaaa", "strength": 0.5}, "cannot be read as an image"),
        ("ask", {"messages": [{"role": "user", "content": "What is it?"}]}, "messages hold no image"),
    ],
)
def test_errors_are_in_words(page: ServerProcess, path: str, body: dict, message: str) -> None:
    response = page.http().post(f"/app/{path}", json=body)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_without_the_option_there_is_no_page(tmp_path: Path) -> None:
    server = start_server(tmp_path, "--model", "tiny-turbo")
    assert [server.http().get(path).status_code for path in ("/", "/app/info")] == [404, 404]
    server.stop()
