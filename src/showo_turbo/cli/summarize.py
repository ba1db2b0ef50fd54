"""`showo-turbo summarize`: the scores of result folders in one JSON file of lm-eval's format."""

from pathlib import Path
from typing import Annotated

import typer

from showo_turbo.cli.common_options import Overwrite
from showo_turbo.cli.output_files import check_outputs
from showo_turbo.files import write_json


def summarize(
    folders: Annotated[list[Path], typer.Argument(help="Folders of `evaluate BENCHMARK -o`, of one model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file.")] = Path("summary.json"),
    overwrite: Overwrite = False,
) -> None:
    """Write the scores of result folders as lm-eval writes those of tasks.

    \b
    Example:
      showo-turbo summarize results/pope results/mme -o summary.json
    """
    from showo_turbo.evaluation.summary import summarize as summary

    check_outputs([output], overwrite)
    content = summary(folders)
    write_json(output, content)
    typer.echo(f"{output}: {', '.join(content['results'])}")
