"""`showo-turbo app`: a page on which images and answers appear pass by pass."""

from pathlib import Path
from typing import Annotated

import typer

from showo_turbo.checkpoints.names import DEFAULT_MODEL, SHIPPED_MODELS
from showo_turbo.cli.common_options import DEFAULT_DTYPE, Device, Dtype, Quantization
from showo_turbo.cli.serve import LimitArguments, serve

_MODEL_HELP = (
    f"A shipped model ({', '.join(SHIPPED_MODELS)}), a folder, or a hub name; may be given several times. A student "
    "NAME-turbo is compared with its teacher NAME."
)


def app(
    model: Annotated[list[str], typer.Option(help=_MODEL_HELP)] = [DEFAULT_MODEL, "clipart"],  # noqa: B006
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 7860,
    api_key: Annotated[
        list[str] | None,
        typer.Option(envvar="SHOWO_TURBO_API_KEY", help="Key that visitors must enter; may be given several times."),
    ] = None,
    api_keys_file: Annotated[Path | None, typer.Option(help="A file with one key on each line.")] = None,
    device: Device = None,
    dtype: Dtype = DEFAULT_DTYPE,
    quantization: Quantization = None,
) -> None:
    """Serve a page that draws, answers and edits before your eyes, and print its address.

    All files come from this machine. `showo-turbo serve --with-app` is the same with all options of the server.
    """
    serve(
        **vars(LimitArguments()),
        model=model,
        host=host,
        port=port,
        api_key=api_key,
        api_keys_file=api_keys_file,
        with_app=True,
        device=device,
        dtype=dtype,
        quantization=quantization,
    )
