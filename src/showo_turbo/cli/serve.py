"""`showo-turbo serve`: models behind an HTTP interface in the shapes of OpenAI's API."""

import signal
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast
from urllib.parse import urlsplit

import typer

from showo_turbo.checkpoints.names import SHIPPED_MODELS, resolve
from showo_turbo.cli.common_options import (
    DEFAULT_DTYPE,
    DEFAULT_MODEL,
    Device,
    Dtype,
    Quantization,
    command_line_option,
    given_options,
    load_pipeline,
    with_options,
)
from showo_turbo.cli.early_checks import check_model
from showo_turbo.cli.page_sidecars import page_sidecar
from showo_turbo.cli.terminal import note, print_result, verbosity, warn
from showo_turbo.errors import InputError
from showo_turbo.extras import install_hint
from showo_turbo.generation.options import add_options
from showo_turbo.serving.limits import LimitOptions
from showo_turbo.validation import check_integer

if TYPE_CHECKING:
    from PIL.Image import Image

_MODEL_HELP = f"A shipped model ({', '.join(SHIPPED_MODELS)}), a folder, or a hub name; may be given several times."


@dataclass(frozen=True)
@add_options(LimitOptions, command_line_option)
class LimitArguments:
    """Hold the limits of a server."""

    def limits(self) -> LimitOptions:
        """Return the limits.

        Raises:
            InputError: if one is out of its range.
        """
        return LimitOptions(**given_options(LimitOptions, self))


@with_options
def serve(
    limits: LimitArguments,
    model: Annotated[list[str], typer.Option(help=_MODEL_HELP)] = [DEFAULT_MODEL],  # noqa: B006
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option(envvar="SHOWO_TURBO_API_KEY", help="Key that clients must send; may be given several times."),
    ] = None,
    api_keys_file: Annotated[Path | None, typer.Option(help="A file with one key on each line.")] = None,
    allow_remote_images: Annotated[
        bool,
        typer.Option("--allow-remote-images", help="Fetch images that clients name by address, from public hosts."),
    ] = False,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="Origin of web pages that may send requests; may be given several times.")
    ] = None,
    with_app: Annotated[bool, typer.Option("--with-app", help="Serve the page of `showo-turbo app` at / too.")] = False,
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Print prompts and questions on standard error.")
    ] = False,
    device: Device = None,
    dtype: Dtype = DEFAULT_DTYPE,
    quantization: Quantization = None,
) -> None:
    """Serve models over HTTP, for clients of OpenAI's API.

    Draws at /v1/images/generations and /v1/images/edits, answers at /v1/chat/completions; /docs describes all.
    """
    chosen, names = limits.limits(), model_names(model)
    require_server()
    from showo_turbo.serving.http.application import create_app
    from showo_turbo.serving.http.keys import ApiKeys, read_keys
    from showo_turbo.serving.http.listener import bind, is_local, listen, url_of
    from showo_turbo.serving.http.metrics import Metrics
    from showo_turbo.serving.http.server import Server
    from showo_turbo.serving.http.streams import file_bytes
    from showo_turbo.serving.worker import Worker

    check_origins(cors_origin or [])
    for path in names.values():
        check_model(path, dtype, quantization)
    keys = ApiKeys([*(api_key or []), *(read_keys(api_keys_file) if api_keys_file else [])])
    check_integer("port", port, 0, 65535)
    bound = bind(host, port)
    if not is_local(bound) and not keys:
        warn(f"everybody who reaches {host} can use the server: --api-key or --api-keys-file lets in those with a key")
    pipes = {name: load_pipeline(path, device, dtype, quantization) for name, path in names.items()}
    for pipe in pipes.values():
        pipe.require_image_tokenizer()
        if with_app:  # fill caches of the model and of the image writer: the first visitor sees the first pass at once
            (image,) = cast("list[Image]", pipe.text_to_image("a", num_inference_steps=2, seed=0).images)
            file_bytes(image, "png", None)
    worker = Worker(pipes, chosen, metrics := Metrics(chosen.max_sequences))
    server = Server(
        worker,
        chosen,
        metrics,
        keys,
        allow_remote_images,
        cors_origin or (),
        only_loopback=is_local(bound),
        logs=not verbosity.quiet,
        log_prompts=log_prompts,
        sidecar=page_sidecar(names, pipes) if with_app else None,
    )
    worker.start()
    try:
        where = f"{', '.join(pipes)}: {url_of(bound)}"
        received = listen(create_app(server), worker, bound, chosen.drain_seconds, lambda: print_result(where))
    finally:
        worker.stop()
    note("all requests are finished")
    if received == signal.SIGINT:
        raise KeyboardInterrupt


def require_server() -> None:
    """Check that the libraries of the server are installed, without importing them.

    Raises:
        InputError: if one is not.
    """
    libraries = ("fastapi", "pydantic", "uvicorn", "python_multipart", "prometheus_client")
    if missing := [library for library in libraries if find_spec(library) is None]:
        raise InputError(f"serve needs {', '.join(missing)}: {install_hint('serve')}")


def check_origins(origins: list[str]) -> None:
    """Check origins of web pages.

    Raises:
        InputError: if one is not a scheme with a host.
    """
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (not parts.scheme or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}"):
            raise InputError(f"--cors-origin {origin!r} is no origin: give one such as https://example.com, or *")


def model_names(models: list[str]) -> dict[str, str]:
    """Return the names that clients use for models, and the models; of a folder, the name is its last part.

    Raises:
        InputError: if a model is unknown, or two have the same name.
    """
    names = []
    for model in models:
        folder = resolve(model)
        names.append(folder.resolve().name if model not in SHIPPED_MODELS and Path(model).is_dir() else model)
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"model {repeated[0]!r} is given several times: give each once")
    return dict(zip(names, models, strict=True))
