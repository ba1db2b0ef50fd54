"""Conventions of the source that a linter does not check; CONTRIBUTING.md explains them."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "showo_turbo"
FILES = sorted(SOURCE.rglob("*.py"))

# fmt: off
NO_VERBS = {
    "a", "all", "an", "as", "at", "by", "each", "everything", "for", "how", "ids", "in", "it", "no", "not", "of", "one",
    "so", "some", "that", "the", "this", "those", "what", "when", "where", "whether", "which", "who", "with",
}
# fmt: on


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Yield functions and methods, but not properties, whose docstrings may be noun phrases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            decorators = {ast.unparse(one).split(".")[-1] for one in node.decorator_list}
            if not decorators & {"property", "cached_property"}:
                yield node


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_docstrings_of_functions_start_with_a_verb(file: Path) -> None:
    for function in functions(ast.parse(file.read_text())):
        docstring = ast.get_docstring(function)
        if docstring is None or docstring.startswith("("):  # the shapes of a forward function
            continue
        first = re.match(r"\W*(\w+)", docstring)
        assert docstring[0].isalpha(), f"{function.name}: {docstring.splitlines()[0]}"
        assert first[1].lower() not in NO_VERBS, f"{function.name}: {docstring.splitlines()[0]}"


def test_every_file_has_a_name_of_its_own() -> None:
    files = defaultdict(list)
    for file in FILES:
        if file.name != "__init__.py":
            files[file.name].append(file)
    assert not {name: found for name, found in files.items() if len(found) > 1}


def test_every_class_has_a_name_of_its_own() -> None:
    classes = defaultdict(list)
    for file in FILES:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(file)
    assert not {name: found for name, found in classes.items() if len(found) > 1}
