"""`showo-turbo distill`: a Show-o teacher to a Show-o Turbo student, in stages."""

from typing import Annotated

import typer


def distill(
    settings: Annotated[
        list[str] | None, typer.Argument(help="key=value settings; config=FILE reads a YAML file first.")
    ] = None,
) -> None:
    """Distil a teacher's image and text trajectories into a student that takes fewer steps (hours)."""
    from showo_turbo.config_reader import read_config
    from showo_turbo.distillation.config import DistillationConfig
    from showo_turbo.distillation.stages import distill as run_stages

    student = run_stages(read_config(DistillationConfig, settings or []))
    typer.echo(f"student: {student}")
