"""A Ray Serve application: the server of `showo-turbo serve` as replicas, whose number follows the load.

    serve run integrations.ray_serve:app models=tiny-turbo max_replicas=4 num_gpus=1

    client --> proxy of Ray Serve --+--> replica 1: application, worker, models
                                    +--> replica 2: ...

Decisions:
- A replica is the whole server, so it batches requests by itself. Nothing is shared: the same seed gives the same bytes
  on every replica, and a dialogue that moves to another one is computed afresh.
- A replica takes as many requests as it runs and queues. Beyond that the proxy queues, then refuses with 503.
- Ray ends a replica after it has finished what it runs, within `drain_seconds`.
- Requests in the hands of a replica whose process dies get an error of status 500, which the OpenAI client sends
  again by itself. All others go to the other replicas.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from showo_turbo.serving.limits import LimitOptions


class Arguments(BaseModel):
    """Hold the arguments of the application; further ones are limits of the server, as of `showo-turbo serve`.

    Attributes:
        models: shipped models, folders or hub names, with commas.
        device: device of a replica; a GPU if there is one, if left out.
        dtype: dtype of the transformers.
        quantization: "int8", or none.
        api_keys_file: a file with one key on each line, on every machine.
        min_replicas: smallest number of replicas.
        max_replicas: largest number of replicas.
        num_gpus: GPUs of a replica.
        num_cpus: CPU cores of a replica.
    """

    model_config = ConfigDict(extra="allow")

    models: str = "tiny-turbo"
    device: str | None = None
    dtype: str = "float32"
    quantization: str | None = None
    api_keys_file: str | None = None
    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(4, ge=1)
    num_gpus: float = Field(0, ge=0)
    num_cpus: float = Field(1, ge=0)

    def limits(self) -> LimitOptions:
        """Return the limits of the server.

        Raises:
            InputError: if one is out of its range.
            TypeError: if one is unknown.
        """
        kinds = {one.name: float if one.type is float else int for one in fields(LimitOptions)}
        given: dict[str, Any] = self.model_extra or {}
        return LimitOptions(**{name: kinds.get(name, str)(value) for name, value in given.items()})


def build_application(arguments: Arguments) -> Any:
    """Return the ASGI application of a replica; its models are loaded and its worker runs."""
    from showo_turbo import ShowoPipeline
    from showo_turbo.cli.serve import model_names
    from showo_turbo.serving.http.application import create_app
    from showo_turbo.serving.http.keys import ApiKeys, read_keys
    from showo_turbo.serving.http.metrics import Metrics
    from showo_turbo.serving.http.server import Server
    from showo_turbo.serving.worker import Worker

    limits, keys_file = arguments.limits(), arguments.api_keys_file
    own = {"device": arguments.device, "dtype": arguments.dtype, "quantization": arguments.quantization}
    names = model_names(arguments.models.split(","))
    pipes = {name: ShowoPipeline.from_pretrained(model, **own) for name, model in names.items()}
    metrics = Metrics(limits.max_sequences)
    worker = Worker(pipes, limits, metrics)
    application = create_app(
        Server(worker, limits, metrics, ApiKeys(read_keys(Path(keys_file)) if keys_file else []), logs=False)
    )
    worker.start()
    return application


def app(arguments: Arguments) -> serve.Application:
    """Return the application; `serve run` gives it its arguments.

    Raises:
        InputError: if a limit is out of its range.
        TypeError: if an argument is unknown.
    """
    limits = arguments.limits()

    def build() -> Any:
        return build_application(arguments)

    @serve.deployment(
        name="showo-turbo",
        ray_actor_options={"num_gpus": arguments.num_gpus, "num_cpus": arguments.num_cpus},
        autoscaling_config={
            "min_replicas": arguments.min_replicas,
            "max_replicas": max(arguments.min_replicas, arguments.max_replicas),
            "target_ongoing_requests": max(1, limits.max_sequences // 2),
        },
        max_ongoing_requests=limits.max_sequences + limits.max_queue,
        max_queued_requests=limits.max_queue,
        graceful_shutdown_timeout_s=limits.drain_seconds,
        health_check_period_s=2,
    )
    @serve.ingress(build)
    class Replica:
        def check_health(self) -> None:
            """Raise an error if the worker has stopped, so that the replica is replaced."""
            if not self.app.state.server.worker.alive:  # type: ignore[attr-defined]
                raise RuntimeError("the worker has stopped")

    return Replica.bind()
