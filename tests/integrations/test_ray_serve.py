"""The Ray Serve application and its arguments, without a cluster. Without Ray these tests are skipped."""

import base64
import io
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from showo_turbo import ShowoPipeline

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


def run(code: str) -> list:
    """Run code in a process of its own and return what it prints."""
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    setup = "import json\nfrom integrations.ray_serve import Arguments, app, build_application\n"
    command = [sys.executable, "-W", "ignore", "-c", setup + code]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_replica_is_the_server(local_pipe: ShowoPipeline) -> None:
    status, body = run(
        """
import asyncio, httpx
application = build_application(Arguments(device="cpu", max_queue="3"))
async def call():
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        assert (await client.get("/ready")).status_code == 200
        return await client.post("/v1/images/generations", json={"prompt": "a red circle", "seed": 0})
answer = asyncio.run(call())
assert application.state.server.worker.limits.max_queue == 3
application.state.server.worker.stop()
print(json.dumps(answer.status_code))
print(json.dumps(answer.json()))
"""
    )
    assert status == 200
    image = Image.open(io.BytesIO(base64.b64decode(body["data"][0]["b64_json"])))
    assert image.tobytes() == local_pipe.text_to_image("a red circle", seed=0).images[0].tobytes()


def test_arguments_shape_the_deployment() -> None:
    (own,) = run(
        """
made = app(Arguments(min_replicas="2", max_replicas="3", num_gpus="0.5", max_sequences="8", drain_seconds="7"))
own = made._bound_deployment
scaling = own._deployment_config.autoscaling_config
print(json.dumps([scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests,
                  own.max_ongoing_requests, own._deployment_config.graceful_shutdown_timeout_s,
                  own.ray_actor_options["num_gpus"]]))
"""
    )
    assert own == [2, 3, 4, 72, 7, 0.5]


def test_mistakes_are_named() -> None:
    messages = run(
        """
for given in ({"max_sequences": "0"}, {"max_queu": "3"}, {"min_replicas": "0"}):
    try:
        app(Arguments(**given))
    except (TypeError, ValueError) as error:
        print(json.dumps(str(error)))
"""
    )
    for message, part in zip(messages, ("max_sequences is 0", "max_queu", "min_replicas"), strict=True):
        assert part in message
