"""The ComfyUI nodes keep ComfyUI's node contract, and give what the pipeline gives, through a real server."""

import ast
import importlib.util
import inspect
import json
import socket
import sys
import threading
import tomllib
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from server_process import KEYS, ServerProcess

from showo_turbo import ShowoPipeline

FOLDER = Path(__file__).parents[2] / "integrations" / "comfyui"
CORE_NODES = {  # ComfyUI's own: widgets, then connections
    "LoadImage": (["image", "upload"], []),
    "SaveImage": (["filename_prefix"], ["images"]),
    "PreviewImage": ([], ["images"]),
    "PreviewAny": ([], ["source"]),
}


@pytest.fixture(scope="module")
def package() -> types.ModuleType:
    """The folder as ComfyUI loads it: under a name that is its path."""
    name = "custom_nodes/showo_turbo"
    spec = importlib.util.spec_from_file_location(name, FOLDER / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def nodes(package: types.ModuleType, served: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """An instance of each node, with a server in the environment."""
    monkeypatch.setenv("SHOWO_TURBO_URL", f"{served.url}/v1/")
    monkeypatch.setenv("SHOWO_TURBO_API_KEY", KEYS[0])
    mappings = package.NODE_CLASS_MAPPINGS
    return types.SimpleNamespace(**{name.removeprefix("ShowoTurbo"): cls() for name, cls in mappings.items()})


@pytest.fixture(scope="module")
def client(package: types.ModuleType) -> types.ModuleType:
    return sys.modules["custom_nodes/showo_turbo.client"]


def as_tensor(images: list[Image.Image]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.asarray(image).astype(np.float32) / 255) for image in images])


def inputs_of(cls: type) -> dict[str, tuple]:
    kinds = cls.INPUT_TYPES()
    assert set(kinds) <= {"required", "optional"}
    return kinds["required"] | kinds["optional"]


def test_nodes_keep_the_contract(package: types.ModuleType) -> None:
    assert set(package.NODE_CLASS_MAPPINGS) == set(package.NODE_DISPLAY_NAME_MAPPINGS)
    for cls in package.NODE_CLASS_MAPPINGS.values():
        assert cls.CATEGORY == "Showo Turbo"
        assert cls.DESCRIPTION
        assert set(cls.RETURN_TYPES) <= {"IMAGE", "STRING"}
        parameters = inspect.signature(getattr(cls, cls.FUNCTION)).parameters
        inputs = inputs_of(cls)
        assert list(parameters) == ["self", *inputs]
        for name, (kind, *settings) in inputs.items():
            assert kind in ("IMAGE", "MASK", "STRING", "INT", "FLOAT")
            optional = name in cls.INPUT_TYPES()["optional"]
            assert (parameters[name].default is not inspect.Parameter.empty) == optional
            if settings:
                default = settings[0]["default"]
                assert settings[0].get("min", default) <= default <= settings[0].get("max", default)
                assert not optional or parameters[name].default == default


def test_nodes_import_nothing_beyond_comfyui() -> None:
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                assert top in sys.stdlib_module_names or top in ("numpy", "torch", "PIL"), name


def test_the_registry_reads_the_project_file() -> None:
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())
    assert project["project"]["dependencies"] == []
    assert project["tool"]["comfy"]["DisplayName"] == "Showo Turbo"


def test_draw_gives_the_pipelines_images(nodes: types.SimpleNamespace, local_pipe: ShowoPipeline) -> None:
    (images,) = nodes.Draw.draw("two yellow stars", 3, 4, 2)
    expected = local_pipe.text_to_image("two yellow stars", num_images_per_prompt=2, num_inference_steps=4, seed=3)
    assert images.dtype == torch.float32
    assert images.shape == (2, 64, 64, 3)
    assert torch.equal(images, as_tensor(expected.images))


def test_sizes_and_options_reach_the_server(nodes: types.SimpleNamespace, local_pipe: ShowoPipeline) -> None:
    (images,) = nodes.Draw.draw("a red circle", 0, 2, 1, width=96, height=64, options='{"order": "halton"}')
    expected = local_pipe.text_to_image(
        "a red circle", num_inference_steps=2, width=96, height=64, order="halton", seed=0
    )
    assert torch.equal(images, as_tensor(expected.images))


def test_edit_redraws_where_the_mask_is_one(nodes: types.SimpleNamespace, local_pipe: ShowoPipeline) -> None:
    drawn = local_pipe.text_to_image("a green square", seed=1).images[0]
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    (edited,) = nodes.Edit.edit(as_tensor([drawn]), "a red circle", 5, 0, 2, mask)
    white = Image.fromarray((mask[0].numpy() * 255).astype(np.uint8))
    expected = local_pipe.inpaint(drawn, white, "a red circle", num_images_per_prompt=2, seed=5)
    assert edited.shape == (2, 64, 64, 3)
    assert torch.equal(edited, as_tensor(expected.images))


def test_each_image_has_its_mask_or_all_have_one(nodes: types.SimpleNamespace) -> None:
    images = torch.rand(2, 64, 64, 3)
    halves = torch.zeros(2, 128, 128)  # of another size
    halves[0, :64], halves[1, :, 64:] = 1, 1
    (edited,) = nodes.Edit.edit(images, "a red circle", 0, 1, 1, halves)
    for number in range(2):
        (alone,) = nodes.Edit.edit(images[number : number + 1], "a red circle", 0, 1, 1, halves[number])
        assert torch.equal(edited[number], alone[0])
    (shared,) = nodes.Edit.edit(images, "a red circle", 0, 1, 1, halves[:1])
    assert torch.equal(shared[0], edited[0])
    assert not torch.equal(shared[1], edited[1])
    with pytest.raises(RuntimeError, match="3 masks and 2 images: give one"):
        nodes.Edit.edit(images, "a red circle", 0, 1, 1, torch.ones(3, 64, 64))


def test_edit_without_a_mask_varies(nodes: types.SimpleNamespace, local_pipe: ShowoPipeline) -> None:
    drawn = local_pipe.text_to_image("a green square", seed=1).images[0]
    (edited,) = nodes.Edit.edit(as_tensor([drawn]), "a red circle", 5, 0, 1, strength=0.4)
    assert torch.equal(edited, as_tensor(local_pipe.vary(drawn, "a red circle", strength=0.4, seed=5).images))


def test_ask_gives_an_answer_for_each_image(nodes: types.SimpleNamespace, local_pipe: ShowoPipeline) -> None:
    images = local_pipe.text_to_image(["two yellow stars", "a green square"], seed=0).images
    (answers,) = nodes.Ask.ask(as_tensor(images), "How many stars are there?", 16)
    assert nodes.Ask.OUTPUT_IS_LIST == (True,)
    alone = [local_pipe.image_to_text(one, "How many stars are there?", max_new_tokens=16).texts[0] for one in images]
    assert answers == alone


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda nodes: nodes.Draw.draw("x", 0, 0, 1, width=64), "width is 64 and height is 0: give both"),
        (lambda nodes: nodes.Draw.draw("x", 0, 0, 1, width=65, height=64), "65"),
        (lambda nodes: nodes.Draw.draw("x", 0, 0, 1, model="none"), "model 'none' is unknown: choose tiny-turbo"),
        (lambda nodes: nodes.Draw.draw("x", 0, 0, 1, options="[1]"), "options is '.1.': give a JSON object"),
        (lambda nodes: nodes.Draw.draw("x", 0, 0, 1, options='{"stream": true}'), "options has stream"),
        (lambda nodes: nodes.Draw.draw("x", 0, 0, 1, api_key="wrong-key"), "the API key is missing or wrong"),
        (lambda nodes: nodes.Draw.draw("x", 0, 0, 1, server="file:///etc"), "server is 'file:///etc': give an address"),
        (lambda nodes: nodes.Draw.draw("x", 0, 0, 1, server="http://127.0.0.1:1"), "cannot be reached"),
        (
            lambda nodes: nodes.Edit.edit(torch.rand(1, 64, 64, 3), "x", 0, 0, 1, torch.zeros(1, 64, 64)),
            "mask is empty",
        ),
        (lambda nodes: nodes.Ask.ask(torch.rand(1, 64, 64, 3), "", 8), "question"),
    ],
)
def test_mistakes_are_named(nodes: types.SimpleNamespace, call, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        call(nodes)


class Stub(HTTPServer):
    """Answer with a list of (status, headers, body), and record the requests' headers."""

    def __init__(self, answers: list[tuple[int, dict[str, str], bytes]]) -> None:
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                seen.append((self.path, dict(self.headers)))
                self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, body = answers[min(len(seen), len(answers)) - 1]
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def stub() -> Iterator:
    made = []

    def start(*answers: tuple[int, dict[str, str], bytes]) -> Stub:
        made.append(Stub(list(answers)))
        return made[-1]

    yield start
    for one in made:
        one.shutdown()
        one.server_close()


def test_a_busy_server_is_tried_again(client: types.ModuleType, stub) -> None:
    busy = (429, {"Retry-After": "0"}, b"{}")
    server = stub(busy, (503, {"Retry-After": "0"}, b""), (200, {}, b'{"data": []}'))
    assert client.Server(server.url).post_json("/v1", {}) == {"data": []}
    assert len(server.seen) == 3
    never = stub((429, {"Retry-After": "0"}, b'{"error": {"message": "9 requests are waiting"}}'))
    with pytest.raises(RuntimeError, match="9 requests are waiting"):
        client.Server(never.url).post_json("/v1", {})
    assert len(never.seen) == client.TRIES


def test_redirects_are_not_followed(client: types.ModuleType, stub) -> None:
    target = stub((200, {}, b"{}"))
    server = stub((307, {"Location": target.url}, b""))
    with pytest.raises(RuntimeError, match="answered 307: is it the address of a Showo Turbo server"):
        client.Server(server.url, "a-secret-key").post_json("/v1", {})
    assert target.seen == []


def test_the_key_of_the_environment_stays_with_its_server(
    client: types.ModuleType, stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = stub((200, {}, b"{}")), stub((200, {}, b"{}"))
    monkeypatch.setenv("SHOWO_TURBO_URL", own.url)
    monkeypatch.setenv("SHOWO_TURBO_API_KEY", "a-secret-key")
    for url in ("", own.url, f"{own.url}/v1/", other.url):
        client.Server.find(url).post_json("/x", {})
    assert [headers["Authorization"] for _, headers in own.seen] == ["Bearer a-secret-key"] * 3
    assert "Authorization" not in other.seen[0][1]
    assert "a-secret-key" not in repr(client.Server.find())


def test_cancelling_closes_the_connection(client: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    class CancelledError(Exception):
        pass

    def throw() -> None:
        raise CancelledError

    management = types.ModuleType("comfy.model_management")
    management.throw_exception_if_processing_interrupted = throw
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setitem(sys.modules, "comfy.model_management", management)
        with pytest.raises(CancelledError):
            client.Server(f"http://127.0.0.1:{silent.getsockname()[1]}").post_json("/v1", {})
        connection, _ = silent.accept()
        connection.settimeout(5)
        with connection:
            while connection.recv(4096):
                pass  # ends when the client has closed it


def prompt_of(workflow: dict, package: types.ModuleType) -> dict[str, dict]:
    """Return the inputs of each node, by id: connections, and widgets in the order of the node's inputs."""
    links = {number: (str(source), slot, kind) for number, source, slot, _, _, kind in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in CORE_NODES:
            names, connections = CORE_NODES[node["type"]]
        else:
            inputs = inputs_of(package.NODE_CLASS_MAPPINGS[node["type"]])
            names, connections = [], [name for name, (kind, *_) in inputs.items() if kind in ("IMAGE", "MASK")]
            for name, (_, *settings) in inputs.items():
                names += [name] if settings else []
                names += ["control"] if settings and settings[0].get("control_after_generate") else []
        assert [one["name"] for one in node["inputs"]] == connections
        values = dict(zip(names, node["widgets_values"], strict=True))
        assert values.pop("control", "fixed") == "fixed"
        for one in node["inputs"]:
            assert one["type"] in (links[one["link"]][2], "*")
            values[one["name"]] = list(links[one["link"]][:2])
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": values}
    return prompt


@pytest.mark.parametrize("file", sorted((FOLDER / "example_workflows").glob("*.json")), ids=lambda file: file.stem)
def test_example_workflows_run(file: Path, package: types.ModuleType, nodes: types.SimpleNamespace) -> None:
    prompt = prompt_of(json.loads(file.read_text()), package)
    mask = torch.zeros(1, 64, 64)
    mask[:, 16:48, 16:48] = 1
    results: dict[str, tuple] = {
        number: (torch.rand(1, 64, 64, 3), mask) for number, node in prompt.items() if node["class_type"] == "LoadImage"
    }
    ran = 0
    for number, node in prompt.items():
        values = {
            name: results[value[0]][value[1]] if isinstance(value, list) else value
            for name, value in node["inputs"].items()
        }
        if cls := package.NODE_CLASS_MAPPINGS.get(node["class_type"]):
            results[number] = getattr(cls(), cls.FUNCTION)(**values)
            assert len(results[number]) == len(cls.RETURN_TYPES)
            ran += 1
    assert ran >= 1
