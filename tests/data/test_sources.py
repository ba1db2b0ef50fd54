"""Each source reads the samples of its files, and reports bad samples with key and reason."""

import io
import json
import random
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from showo_turbo.data.samples import BadSampleError, Turn
from showo_turbo.data.source_files import matching_files
from showo_turbo.data.sources.coco import CocoCaptions
from showo_turbo.data.sources.edit_pairs import EditPairs
from showo_turbo.data.sources.image_folder import ImageFolder
from showo_turbo.data.sources.llava import LlavaDialogues
from showo_turbo.data.sources.parquet import ParquetTexts
from showo_turbo.data.sources.scenes import SceneCaptions, SceneDialogues, SceneEdits, SceneTexts
from showo_turbo.data.sources.source import Source
from showo_turbo.data.sources.webdataset import WebDataset
from showo_turbo.errors import InputError
from showo_turbo.processing.image_files import load_image
from showo_turbo.scenes.edits import scene_edits
from showo_turbo.scenes.pool import training_scenes
from showo_turbo.scenes.scene import Scene, SceneObject
from showo_turbo.scenes.shapes.shape_world import SHAPES


def png(color: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4, 3), color).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Make a folder with a red and a blue image, a truncated image, and a text file with an image's ending."""
    folder = tmp_path / "image_folder"
    folder.mkdir()
    (folder / "red.png").write_bytes(png("red"))
    (folder / "blue.png").write_bytes(png("blue"))
    (folder / "half.png").write_bytes(png("green")[:50])
    (folder / "text.png").write_text("not an image")
    return folder


def color(image: Image.Image) -> str:
    assert image.mode == "RGB"
    return {(255, 0, 0): "red", (0, 0, 255): "blue"}[image.getpixel((0, 0))]


def assert_bad(source: Source, expected: Sequence[tuple[str, str]]) -> None:
    """Check that all samples are bad; `expected` has key and a pattern of the reason of each."""
    assert len(source) == len(expected)
    for index, (key, words) in enumerate(expected):
        with pytest.raises(BadSampleError) as caught:
            source[index]
        assert caught.value.key == key
        assert re.search(words, caught.value.reason), (words, caught.value.reason)


# COCO


def coco_file(folder: Path, annotations: list[dict]) -> Path:
    images = [{"id": 7, "file_name": "red.png"}, {"id": 9, "file_name": "half.png"}, {"id": 11}]
    file = folder / "captions.json"
    file.write_text(json.dumps({"info": {"year": 2017}, "images": images, "annotations": annotations}))
    return file


def test_coco_captions_have_their_images(image_folder: Path, tmp_path: Path) -> None:
    file = coco_file(tmp_path, [{"image_id": 7, "id": 1, "caption": " A red\nplane. "}])
    source = CocoCaptions(file, image_folder)
    assert (len(source), source[0].key) == (1, "captions.json: annotations[0]")
    assert (source[0].text, color(source[0].image)) == ("A red plane.", "red")
    assert CocoCaptions(file)[0].image is None


def test_bad_coco_captions_are_reported(image_folder: Path, tmp_path: Path) -> None:
    annotations = [
        {"image_id": 7, "caption": " \n"},
        {"image_id": 7},
        {"image_id": 8, "caption": "a"},
        {"image_id": [8], "caption": "a"},
        {"image_id": 9, "caption": "a"},
        {"image_id": 11, "caption": "a"},
    ]
    expected = [
        ("captions.json: annotations[0]", "caption is empty"),
        ("captions.json: annotations[1]", "caption is missing"),
        ("captions.json: annotations[2]", "image_id 8 "),
        ("captions.json: annotations[3]", r"image_id \[8\]"),
        ("captions.json: annotations[4]", r"half\.png.*cannot be read"),
        ("captions.json: annotations[5]", "no file_name"),
    ]
    assert_bad(CocoCaptions(coco_file(tmp_path, annotations), image_folder), expected)


# LLaVA


def llava_file(folder: Path, entries: list[dict]) -> Path:
    file = folder / "mix.json"
    file.write_text(json.dumps(entries, indent=1))
    return file


def say(*values: object) -> list[dict]:
    return [{"from": ("human", "gpt")[number % 2], "value": value} for number, value in enumerate(values)]


def test_llava_dialogues_have_no_image_tag_or_newlines(image_folder: Path, tmp_path: Path) -> None:
    conversations = say("<image>\nWhat is this?\nOne word.", "An image.", "Which color?\n<image>", " Red.\n")
    file = llava_file(tmp_path, [{"id": "1", "image": "red.png", "conversations": conversations}])
    sample = LlavaDialogues(file, image_folder)[0]
    assert sample.turns == (Turn("What is this? One word.", "An image."), Turn("Which color?", "Red."))
    assert (sample.key, color(sample.image)) == ("mix.json: [0]", "red")


def test_llava_entries_without_an_image_are_dropped(image_folder: Path) -> None:
    conversations = say("Hello?", "Hello.")
    entries = [{"conversations": conversations}, {"image": "blue.png", "conversations": conversations}]
    source = LlavaDialogues(llava_file(image_folder, entries))
    assert (len(source), source.num_dropped, source[0].key) == (1, 1, "mix.json: [1]")
    assert color(source[0].image) == "blue"


def test_a_llava_question_of_1024_characters_is_allowed(image_folder: Path) -> None:
    entry = {"image": "red.png", "conversations": say("<image>\n" + "a" * 1024, "b")}
    assert len(LlavaDialogues(llava_file(image_folder, [entry]))[0].turns[0].question) == 1024


def test_bad_llava_entries_are_reported(image_folder: Path, tmp_path: Path) -> None:
    good = say("a", "b")
    entries = [
        ({"image": "red.png"}, "conversations is empty or missing"),
        ({"image": "red.png", "conversations": say("a", "b", "c")}, "last question has no answer"),
        ({"image": "red.png", "conversations": good[::-1]}, "do not alternate"),
        ({"image": "red.png", "conversations": say("a", None)}, "do not alternate"),
        ({"image": "red.png", "conversations": say("<image>\n", "b")}, "question is empty"),
        ({"image": "red.png", "conversations": say("a", " ")}, "answer is empty"),
        ({"image": "red.png", "conversations": say("a", "b", "a" * 1025, "b")}, "1025 characters"),
        ({"image": "none.png", "conversations": good}, r"none\.png' does not exist"),
        ({"image": "text.png", "conversations": good}, r"text\.png' cannot be read"),
        ({"image": ["red.png"], "conversations": good}, "not the name of a file"),
    ]
    file = llava_file(tmp_path, [entry for entry, _ in entries])
    expected = [(f"mix.json: [{number}]", words) for number, (_, words) in enumerate(entries)]
    assert_bad(LlavaDialogues(file, image_folder), expected)


# A folder of images


def test_image_folders_accept_both_pairs_of_keys_and_lines_without_an_image(image_folder: Path) -> None:
    lines = [{"image": "red.png", "caption": "a"}, {"file_name": "blue.png", "text": "b"}, {"caption": "c"}]
    file = image_folder / "metadata.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    source = ImageFolder(file)
    samples = [source[index] for index in range(len(source))]
    assert [sample.text for sample in samples] == ["a", "b", "c"]
    assert [sample.image and color(sample.image) for sample in samples] == ["red", "blue", None]
    assert samples[1].key == "metadata.jsonl: line 2"


def test_bad_lines_are_reported(image_folder: Path, tmp_path: Path) -> None:
    lines = ["", '{"caption": ', "[1]", '{"caption": "a", "image": "none.png"}', '{"caption": "a", "image": 1}']
    wrong = ["not JSON", "not JSON", "a list where", "does not exist", "not the name of a file"]
    file = tmp_path / "lines.jsonl"
    file.write_text("\n".join(lines))
    expected = [(f"lines.jsonl: line {number}", words) for number, words in enumerate(wrong, 1)]
    assert_bad(ImageFolder(file, image_folder), expected)


# WebDataset


def write_tar(file: Path, members: dict[str, bytes], tar_format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(file, "w", format=tar_format) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{008..011}.tar", ["008", "009", "010", "011"]),
        ("{011..009}.tar", ["011", "010", "009"]),
        ("{8..10}.tar", ["8", "9", "10"]),
        ("{b,a}.tar", ["b", "a"]),
        ("{0..1}-{a,b}.tar", ["0-a", "0-b", "1-a", "1-b"]),
        ("{x,y}?.tar", ["x1", "x2", "y1"]),
        ("{a{0..1},b}.tar", ["a0", "b", "a1"]),
        ("{0..1}{0..1}{x,}.tar", ["00x", "00", "01x", "01", "10x", "10", "11x", "11"]),
        ("{1..2}", ["{1..2}"]),
    ],
)
def test_braces_stand_for_files_in_order(pattern: str, names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / (name if pattern == name else f"{name}.tar")).touch()
    assert [file.name.removesuffix(".tar") for file in matching_files(tmp_path / pattern)] == names


def test_every_file_that_braces_stand_for_must_exist(tmp_path: Path) -> None:
    (tmp_path / "0.tar").touch()
    with pytest.raises(InputError, match=r"1\.tar' does not exist"):
        matching_files(tmp_path / "{0..1}.tar")
    with pytest.raises(InputError, match="stands for more than 1,000,000 files"):
        matching_files(tmp_path / "{0..9999}{0..99999999}.tar")


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_shards_are_read_in_any_order(tmp_path: Path, tar_format: int) -> None:
    long = "folder/" + "ä" * 150
    first = {"a.png": png("red"), "a.txt": b"a\n", "a.cls": b"1", "b.json": b'{"caption": "b"}', "b.PNG": png("blue")}
    second = {f"{long}.txt": "ü".encode(), f"{long}.png": png("blue"), "readme": b"no sample"}
    write_tar(tmp_path / "00.tar", first, tar_format)
    write_tar(tmp_path / "01.tar", second, tar_format)
    source = WebDataset(tmp_path / "*.tar")
    samples = [source[index] for index in (2, 0, 1)]
    assert [sample.key for sample in samples] == [f"01.tar: {long}", "00.tar: a", "00.tar: b"]
    assert [sample.text for sample in samples] == ["ü", "a", "b"]
    assert [color(sample.image) for sample in samples] == ["blue", "red", "blue"]


def test_bad_members_are_reported(tmp_path: Path) -> None:
    members = {
        "a.png": png("red"),
        "b.txt": b"\xff",
        "c.json": b"{",
        "d.json": b"[]",
        "e.json": b'{"caption": null}',
        "f.txt": b"f",
        "f.png": png("red")[:40],
    }
    wrong = [
        "caption is missing",
        "utf-8",
        "caption cannot be read",
        "not an object",
        "caption is missing",
        "image.*read",
    ]
    source = WebDataset(write_tar(tmp_path / "00.tar", members))
    assert_bad(source, [(f"00.tar: {name}", words) for name, words in zip("abcdef", wrong, strict=True)])


def test_a_sample_without_an_image_is_a_caption_alone(tmp_path: Path) -> None:
    assert WebDataset(write_tar(tmp_path / "00.tar", {"a.txt": b"a"}))[0].image is None


def test_an_incomplete_tar_raises_an_error(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "00.tar", {"a.txt": b"a" * 2000}).read_bytes()
    for name, content in {"cut.tar": whole[:1000], "text.tar": b"no tar at all" * 100}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}.*not a complete, uncompressed tar"):
            WebDataset(tmp_path / name)


def test_a_shard_that_is_truncated_later_gives_bad_samples(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "00.tar", {"a.txt": b"a", "b.txt": b"b" * 2000})
    source = WebDataset(file)
    file.write_bytes(file.read_bytes()[:2000])
    assert source[0].text == "a"
    with pytest.raises(BadSampleError, match=r"00\.tar: sample 1: member cannot be read"):
        source[1]


# Parquet


def write_parquet(file: Path, texts: list, column: str = "content", row_group_size: int = 3) -> Path:
    table = pyarrow.table({"id": range(len(texts)), column: texts})
    pyarrow.parquet.write_table(table, file, row_group_size=row_group_size)
    return file


def test_parquet_rows_are_read_in_any_order(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(17)]
    write_parquet(tmp_path / "0.parquet", texts[:10])
    write_parquet(tmp_path / "1.parquet", texts[10:])
    source = ParquetTexts(tmp_path / "*.parquet", "content")
    order = random.Random(0).sample(range(17), 17)
    assert [source[index].text for index in order] == [texts[index] for index in order]
    assert [source[index].key for index in (5, 14)] == ["0.parquet: row 5", "1.parquet: row 4"]


@pytest.mark.parametrize(
    "kind", [pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), pyarrow.large_string(), pyarrow.string_view()]
)
def test_parquet_texts_of_any_string_type(kind: pyarrow.DataType, tmp_path: Path) -> None:
    texts = ["a", "b", "a", "c", "b", "a", "d"]
    pyarrow.parquet.write_table(
        pyarrow.table({"text": pyarrow.array(texts).cast(kind)}), tmp_path / "0.parquet", row_group_size=3
    )
    source = ParquetTexts(tmp_path / "0.parquet")
    assert [source[index].text for index in range(len(source))] == texts


def test_parquet_dictionaries_of_numbers_are_refused(tmp_path: Path) -> None:
    numbers = pyarrow.array([1, 2, 1]).dictionary_encode()
    pyarrow.parquet.write_table(pyarrow.table({"text": numbers}), tmp_path / "0.parquet")
    with pytest.raises(InputError, match="holds int64, not strings"):
        ParquetTexts(tmp_path / "0.parquet")


def test_bad_parquet_rows_are_reported(tmp_path: Path) -> None:
    source = ParquetTexts(write_parquet(tmp_path / "0.parquet", [None, " \n"], "text"))
    assert_bad(source, [("0.parquet: row 0", "text is empty"), ("0.parquet: row 1", "text is empty")])


def test_invalid_parquet_files_raise_errors(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "0.parquet", ["a"])
    with pytest.raises(InputError, match="no column 'text', but id, content"):
        ParquetTexts(file)
    with pytest.raises(InputError, match=r"'id'.*holds int64, not strings"):
        ParquetTexts(file, "id")
    (tmp_path / "1.parquet").write_text("no parquet")
    with pytest.raises(InputError, match=r"1\.parquet"):
        ParquetTexts(tmp_path / "1.parquet")


def test_a_damaged_row_group_does_not_affect_others(tmp_path: Path) -> None:
    file = tmp_path / "0.parquet"
    table = pyarrow.table({"text": ["first " * 500, "second " * 500]})
    pyarrow.parquet.write_table(table, file, row_group_size=1, compression="snappy", use_dictionary=False)
    first = pyarrow.parquet.ParquetFile(file).metadata.row_group(0).column(0)
    content = bytearray(file.read_bytes())
    content[first.data_page_offset : first.data_page_offset + first.total_compressed_size] = b"\xff" * (
        first.total_compressed_size
    )
    file.write_bytes(content)
    source = ParquetTexts(file)
    assert source[1].text == "second " * 500
    with pytest.raises(BadSampleError, match="row group 0 cannot be read"):
        source[0]


# Editing pairs


def test_editing_pairs_have_two_images(image_folder: Path, tmp_path: Path) -> None:
    names = ["red.png", "blue.png"]
    pair = {"source": names[0], "instruction": "make  it\nred", "target": names[1]}
    bad = [
        {**pair, "target": "missing.png"},
        {**pair, "source": 3},
        {key: value for key, value in pair.items() if key != "target"},
        {**pair, "instruction": " "},
    ]
    (tmp_path / "edits.jsonl").write_text("\n".join(map(json.dumps, [pair, *bad])))
    source = EditPairs(tmp_path / "edits.jsonl", image_folder)
    sample = source[0]
    assert (len(source), sample.key, sample.instruction) == (5, "edits.jsonl: line 1", "make it red")
    for image, name in ((sample.source, names[0]), (sample.target, names[1])):
        assert isinstance(image, Image.Image)
        assert image.tobytes() == load_image(image_folder / name).tobytes()
    for index, message in enumerate(("missing.png", "source is 3", "target is None", "instruction is empty"), start=1):
        with pytest.raises(BadSampleError, match=message):
            source[index]


# Scenes


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Make a pool of 40 scenes, each with its number as code."""
    file = tmp_path / "pool.safetensors"
    metadata = {"seed": "3", "image_tokenizer": "none"}
    save_file({"codes": torch.arange(40, dtype=torch.int16)[:, None]}, file, metadata)
    return file


def test_scene_samples_match_their_scenes_and_are_deterministic(pool: Path) -> None:
    scenes = training_scenes(40, 3)
    source = SceneDialogues(pool, draws_per_scene=2, description_share=1.0)
    assert len(source) == 80
    for index in (0, 39, 40, 79):
        sample, scene = source[index], scenes[index % 40]
        assert sample.image.tolist() == [index % 40]
        assert SHAPES.language.described_facts(sample.turns[0].answer) == (list(scene.objects), scene.background)
        assert (sample.key, sample.turns) == (source[index].key, source[index].turns)


def test_a_scene_has_different_captions_in_each_draw(pool: Path) -> None:
    source = SceneCaptions(pool, draws_per_scene=50)
    captions = {source[7 + 40 * draw].text for draw in range(50)}
    assert len(captions) > 5
    assert any("in the" in caption and "background" in caption for caption in captions)
    assert SceneTexts(pool, draws_per_scene=50)[7].text == source[7].text


def test_captions_of_scenes_with_a_number_of_objects(pool: Path) -> None:
    scenes = training_scenes(40, 3)
    fitting = [row for row, scene in enumerate(scenes) if len(scene.objects) == 2]
    source = SceneCaptions(pool, draws_per_scene=3, num_objects=2)
    assert len(source) == 3 * len(fitting) > 0
    assert [source[index].image.tolist() for index in range(len(source))] == [[row] for row in fitting] * 3
    with pytest.raises(InputError, match=r"num_objects is 9: scenes of .* have 1 to 4"):
        SceneCaptions(pool, num_objects=9)


def test_captions_of_scenes_of_two_colors(pool: Path) -> None:
    scenes = training_scenes(40, 3)
    source = SceneCaptions(pool, draws_per_scene=1, two_colors=True)
    for index in range(len(source)):
        first, second = scenes[int(source[index].image.item())].objects
        assert first.noun != second.noun
        assert first.color != second.color
    with pytest.raises(InputError, match="two_colors: .* has no scene of two objects that differ"):
        SceneCaptions(pool, num_objects=1, two_colors=True)


def test_the_fraction_of_descriptions_is_met(pool: Path) -> None:
    source = SceneDialogues(pool, draws_per_scene=50, turns=2, description_share=0.3)
    facts = [SHAPES.language.described_facts(source[i].turns[0].answer)[0] for i in range(len(source))]
    opened_by_description = [len(objects) > 0 for objects in facts]
    assert sum(opened_by_description) / len(source) == pytest.approx(0.3, abs=0.05)
    assert all(len(source[index].turns) == 2 for index in range(len(source)))


def test_questions_of_some_kinds(pool: Path) -> None:
    source = SceneDialogues(pool, draws_per_scene=5, turns=1, description_share=0.0, question_kinds=["count"])
    assert all(source[index].turns[0].question.startswith("How many") for index in range(len(source)))
    relations = SceneDialogues(pool, draws_per_scene=5, turns=1, description_share=0.0, question_kinds=["relation"])
    assert any(not relations[index].turns[0].question.startswith("Is the") for index in range(len(relations)))
    for wrong in ([], ["number"]):
        with pytest.raises(InputError, match=r"question_kinds is .*: choose from count, color"):
            SceneDialogues(pool, question_kinds=wrong)


def test_invalid_pools_and_numbers_raise_errors(pool: Path, tmp_path: Path) -> None:
    for wrong in ({"draws_per_scene": 0}, {"turns": 0}, {"description_share": 1.5}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            SceneDialogues(pool, **wrong)
    (tmp_path / "text.safetensors").write_text("no pool at all")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("text.safetensors", "other.safetensors"):
        with pytest.raises(InputError, match=f"scene pool.*{name}"):
            SceneCaptions(tmp_path / name)


def test_scene_edits_lead_to_scenes_of_the_pool(tmp_path: Path) -> None:
    """Check that two scenes differ in what the instruction says, and that no instruction is held out."""
    codes = torch.arange(900, dtype=torch.int16)[:, None]
    save_file({"codes": codes}, tmp_path / "pool.safetensors", {"seed": "3", "image_tokenizer": "none"})
    source, scenes = SceneEdits(tmp_path / "pool.safetensors", draws_per_scene=2), training_scenes(900, 3)
    kinds = set()
    for index in range(0, len(source), 3):
        sample = source[index]
        before, after = (scenes[int(one)] for one in (sample.source, sample.target))
        edits = list(scene_edits(before, SHAPES, random.Random(0)))
        (edit,) = [one for one in edits if sample.instruction in one.instructions]
        assert edit.target == after
        assert not SHAPES.split.is_held_out(edit.combination)
        kinds.add(edit.combination[1])
        again = source[index]
        assert (sample.instruction, int(sample.target)) == (again.instruction, int(again.target))
    assert kinds == {"recolor", "replace", "remove", "background"}


def test_a_pool_without_pairs_raises_an_error(tmp_path: Path) -> None:
    save_file({"codes": torch.zeros(1, 1)}, tmp_path / "one.safetensors", {"seed": "3", "image_tokenizer": "none"})
    with pytest.raises(InputError, match=r"no two scenes of 'one\.safetensors' differ in one thing"):
        SceneEdits(tmp_path / "one.safetensors")


def test_an_edit_changes_one_thing() -> None:
    circle, star = SceneObject(0, "circle", "blue"), SceneObject(3, "star", "red")
    edits = list(scene_edits(Scene("white", (circle, star)), SHAPES, random.Random(0)))
    by_text = {text: edit.target for edit in edits for text in edit.instructions}
    assert by_text["make the circle red"] == Scene("white", (SceneObject(0, "circle", "red"), star))
    assert by_text["replace the red star with a cross"] == Scene("white", (circle, SceneObject(3, "cross", "red")))
    assert by_text["remove the circle"] == Scene("white", (star,))
    assert by_text["make the background black"] == Scene("black", (circle, star))
    assert "turn the star into a circle" not in by_text  # of which there is one already
    twins = Scene("white", (circle, SceneObject(1, "circle", "red")))
    assert {edit.combination[1] for edit in scene_edits(twins, SHAPES, random.Random(0))} == {"background"}
