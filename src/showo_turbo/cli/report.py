"""`showo-turbo report`: tables, plots and images of results that `evaluate` has written."""

from pathlib import Path
from typing import Annotated

import typer

from showo_turbo.cli.common_options import Overwrite, with_options
from showo_turbo.cli.output_files import check_outputs
from showo_turbo.cli.terminal import note, quiet_transformers
from showo_turbo.errors import InputError
from showo_turbo.extras import require_module
from showo_turbo.files import atomic_files
from showo_turbo.validation import check_integer

_ENDINGS = (".html", ".md")


@with_options
def report(
    results: Annotated[
        list[Path],
        typer.Argument(help="Output folders of evaluate BENCHMARK; the first of a benchmark is the reference."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="An .html or .md file; Markdown is printed if left out.")
    ] = None,
    prompts: Annotated[int, typer.Option(help="Prompts on each sheet of images of an .html file.")] = 8,
    overwrite: Overwrite = False,
) -> None:
    """Put results of benchmarks side by side: the paper's tables, plots, images by steps, the hardest prompts.

    Differences have paired bootstrap intervals; those inside the noise are marked. Results of other data, splits,
    numbers of images or judges get tables of their own.
    """
    check_integer("prompts", prompts, 1)
    if output is not None:
        if output.suffix.lower() not in _ENDINGS:
            raise InputError(f"output {str(output)!r} must end in {' or '.join(_ENDINGS)}")
        check_outputs([output], overwrite)
        if output.suffix.lower() == ".html":
            require_module("matplotlib.figure", "a report with plots", extra="evaluate")
    quiet_transformers()
    from showo_turbo.evaluation.benchmark_results import read_result
    from showo_turbo.evaluation.report_page import html_report
    from showo_turbo.evaluation.report_tables import markdown_report
    from showo_turbo.evaluation.result_groups import group_results

    groups = group_results([read_result(folder) for folder in results])
    if output is None:
        typer.echo(markdown_report(groups), nl=False)
        return
    is_page = output.suffix.lower() == ".html"
    text = html_report(groups, prompts) if is_page else markdown_report(groups)
    atomic_files({output: text.encode(errors="backslashreplace")})
    note(f"wrote {output}")
