"""Requests that are made from the OpenAPI schema: no answer is a server error, and every one comes in time."""

from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from server_process import KEYS, ServerProcess

OWN_LIMITS = {"num_inference_steps": (1, 4), "n": (1, 2), "max_new_tokens": (1, 8), "max_tokens": (1, 8)}


@pytest.fixture(scope="session")
def api_schema(server: ServerProcess) -> Any:
    document = server.http(key=None).get("/openapi.json").json()
    for path in document["paths"].values():
        for operation in path.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                properties = content["schema"]["properties"]
                properties["model"] = {"type": "string", "enum": ["random", "none"]}
                properties["size"] = {"type": "string", "enum": ["auto", "32x32", "40x32", "1x1", "x"]}
                for name, (minimum, maximum) in OWN_LIMITS.items():
                    if name in properties:
                        properties[name] = {"type": "integer", "minimum": minimum, "maximum": maximum}
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=server.url)
    return schema


def check_all(schema: Any, examples: int) -> None:
    """Send generated requests to every operation, valid and invalid ones."""
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 8
    for operation in operations:
        for mode in schemathesis.GenerationMode:

            @settings(
                max_examples=examples, deadline=None, derandomize=True, phases=[Phase.generate], database=None,
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def run(case: Any) -> None:
                response = case.call(headers={"Authorization": f"Bearer {KEYS[0]}"}, timeout=60)
                assert response.status_code < 500, response.text
                if response.status_code >= 400 and case.method != "HEAD":
                    assert set(response.json()["error"]) == {"message", "type", "param", "code"}

            with suppress(Unsatisfiable):  # operations without fields have no invalid requests
                run()


def test_no_request_is_a_server_error(api_schema: Any) -> None:
    check_all(api_schema, 5)


@pytest.mark.slow
def test_no_request_of_many_is_a_server_error(api_schema: Any) -> None:
    check_all(api_schema, 200)
