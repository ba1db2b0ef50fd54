"""The table of faults in the documentation names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "how-to" / "training-faults.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| fault |", "| --- |"))
]
TESTS = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_row_names_tests_that_exist() -> None:
    assert len(ROWS) > 20
    for row in ROWS:
        named = TESTS.findall(row)
        assert named, row
        for path, name in named:
            assert f"def {name}(" in (ROOT / path).read_text(), name


def test_every_injected_fault_has_a_row() -> None:
    table = "\n".join(ROWS)
    found = [
        name
        for path in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    ]
    own = re.findall(r"def (test_\w+)", Path(__file__).read_text())
    assert {name for name in found if name not in own and f"::{name}`" not in table} == set()
