"""Options that several commands share, and the pipeline they ask for."""

from typing import TYPE_CHECKING, Annotated

import typer

from showo_turbo.checkpoints.names import DEFAULT_MODEL as DEFAULT_MODEL
from showo_turbo.checkpoints.names import SHIPPED_MODELS, resolve
from showo_turbo.cli.quiet import quiet_transformers

if TYPE_CHECKING:
    from showo_turbo.pipelines.pipeline import ShowoPipeline

_MODEL_HELP = f"A shipped model ({', '.join(SHIPPED_MODELS)}), a folder, or a hub name owner/name."
_DEVICE_HELP = "Where to compute, such as cpu or cuda; the graphics processor if there is one, if left out."

Model = Annotated[str, typer.Option(help=_MODEL_HELP)]
Device = Annotated[str | None, typer.Option(help=_DEVICE_HELP)]
Dtype = Annotated[str, typer.Option(help="Precision the transformer is stored in: float32, bfloat16 or float16.")]
Quantization = Annotated[str | None, typer.Option(help="int8 stores a byte a weight, an approximation; needs torchao.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Decoding = Annotated[str, typer.Option(help="jacobi (in parallel) or autoregressive: the same answer.")]
BlockLength = Annotated[int, typer.Option(help="Guesses per pass of Jacobi decoding.")]
MaxNewTokens = Annotated[int, typer.Option(help="Longest answer, in tokens.")]
Stats = Annotated[bool, typer.Option("--stats", help="Print passes of the transformer and tokens per pass.")]
ImageFile = Annotated[str, typer.Argument(help="A PNG or JPEG file or the like.", show_default=False)]

DEFAULT_DTYPE = "float32"


def load_pipeline(model: str, device: str | None, dtype: str, quantization: str | None = None) -> "ShowoPipeline":
    """The pipeline that the options name, with the libraries below it kept quiet.

    A name that is unknown is refused before anything heavy is imported.

    Raises:
        InputError: as `ShowoPipeline.from_pretrained`.
    """
    resolve(model)
    quiet_transformers()
    from showo_turbo.pipelines.pipeline import ShowoPipeline

    return ShowoPipeline.from_pretrained(model, device=device, dtype=dtype, quantization=quantization)
