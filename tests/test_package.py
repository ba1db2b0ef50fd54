"""The package's front: cheap to import, curated."""

import subprocess
import sys

import showo_turbo

HEAVY = ("torch", "transformers", "numpy", "PIL")


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not modules_after("import showo_turbo; showo_turbo.__version__").intersection(HEAVY)


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert not modules_after("import showo_turbo.cli.main").intersection(HEAVY)


def test_importing_the_documented_commands_loads_nothing_heavy() -> None:
    assert not modules_after("import showo_turbo.compat.entry").intersection(HEAVY)


def test_every_public_name_is_there() -> None:
    assert all(getattr(showo_turbo, name) is not None for name in showo_turbo.__all__)
    assert set(showo_turbo.__all__) <= set(dir(showo_turbo))
    assert not hasattr(showo_turbo, "nonsense")


def test_the_module_runs_the_commands() -> None:
    command = [sys.executable, "-m", "showo_turbo", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == (
        f"showo-turbo {showo_turbo.__version__}\n"
    )


def test_loading_a_model_prints_nothing() -> None:
    code = "from showo_turbo import ShowoPipeline; ShowoPipeline.from_pretrained('tiny-turbo', device='cpu')"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (finished.stdout, finished.stderr) == ("", "")
