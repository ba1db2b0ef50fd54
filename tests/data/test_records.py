"""JSON objects by number equal those of the json module; errors name the file."""

import json
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showo_turbo.data.records import JsonRecords
from showo_turbo.errors import InputError

few = settings(max_examples=60, deadline=None, derandomize=True)
texts = st.text(st.sampled_from('ab"\\[]{},: \nä😀')) | st.sampled_from(["annotations", '"annotations": [', "]}"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.lists(st.dictionaries(texts, values, max_size=3), max_size=5)
styles = st.fixed_dictionaries({"indent": st.none() | st.integers(0, 3), "ensure_ascii": st.booleans()})


@few
@given(records=objects, style=styles)
def test_the_objects_of_an_array_equal_those_of_the_json_module(
    records: list[dict], style: dict, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("json") / "array.json"
    file.write_text(json.dumps(records, **style))
    found = JsonRecords.of_array(file)
    assert [found[index] for index in range(len(found))] == records
    assert list(found.each()) == records


@few
@given(before=st.dictionaries(texts, values, max_size=3), records=objects, style=styles)
def test_the_array_of_a_key_is_found_among_other_keys(
    before: dict, records: list[dict], style: dict, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("json") / "keys.json"
    before.pop("annotations", None)
    file.write_text(json.dumps({**before, "annotations": records, "after": [{"a": 1}]}, **style))
    found = JsonRecords.of_array(file, "annotations")
    assert [found[index] for index in range(len(found))] == records


@few
@given(records=objects)
def test_line_n_is_record_n_minus_1(records: list[dict], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("json") / "lines.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    found = JsonRecords.of_lines(file)
    assert [found[index] for index in range(len(found))] == records


@pytest.mark.parametrize(
    "content",
    ["", "1", "{}", '[{"a": 1}, 2]', '[1, {"a": 1}]', "[[]]", '[{"a": 1} {"b": 2}]', '[{"a": 1}', '[{"a": "', '"'],
)
def test_a_file_without_an_array_of_objects_raises_an_error_with_its_name(content: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    file.write_text(content)
    with pytest.raises(InputError, match=r"broken\.json"):
        JsonRecords.of_array(file)


@pytest.mark.parametrize("content", ['{"b": []}', '{"a": {"annotations": []}}', '{"annotations": {}}', "[]"])
def test_a_missing_key_raises_an_error_with_its_name(content: str, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(InputError, match=r"other\.json.*'annotations'"):
        JsonRecords.of_array(file, "annotations")


def test_a_malformed_line_does_not_affect_other_lines(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text('{"a": 1}\n{"a": nonsense}\n{"a": 3}')
    found = JsonRecords.of_lines(file)
    assert (found[0], found[2], list(found.each())) == ({"a": 1}, {"a": 3}, [{"a": 1}, None, {"a": 3}])
    with pytest.raises(InputError, match="not JSON"):
        found[1]


def test_a_malformed_object_in_an_array_raises_an_error_with_its_position(tmp_path: Path) -> None:
    file = tmp_path / "array.json"
    file.write_text('[{"a": 1}, {"a": nonsense}, {"a": 3}]')
    with pytest.raises(InputError, match=r"array\.json' does not hold an array of objects \(.*near byte 12\)$"):
        JsonRecords.of_array(file)


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "array.json"
    file.write_text('[{"a": 1}]', encoding="utf-8-sig")
    assert JsonRecords.of_array(file)[0] == {"a": 1}


def test_without_ijson_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ijson", None)
    file = tmp_path / "array.json"
    file.write_text("[]")
    with pytest.raises(InputError, match=r"^reading JSON arrays needs ijson: pip install -e '\.\[train\]'"):
        JsonRecords.of_array(file)


def test_memory_does_not_grow_with_the_size_of_the_objects(tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    file.write_text(json.dumps([{"text": "word " * 2000}] * 500))
    tracemalloc.start()
    found = JsonRecords.of_array(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 500
    assert peak < file.stat().st_size / 20
