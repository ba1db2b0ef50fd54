"""A loader gives the samples of the stream, logs and errors included, for any number of workers."""

import gc
import io
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from number_sources import Defect, LongTexts, Numbers, ProcessIds
from PIL import Image
from safetensors.torch import save_file

from showo_turbo.data import CaptionSample, DialogueSample, SourceConfig, TextSample, open_stream
from showo_turbo.data.bad_samples import BadSamples
from showo_turbo.data.loader import SampleLoader
from showo_turbo.data.samples import Sample
from showo_turbo.data.stream import MixedStream, WeightedSource
from showo_turbo.errors import InputError


def refuse_multiples_of_seven(sample: Sample) -> None:
    if int(sample.text) % 7 == 0:
        raise InputError(f"{sample.text} is a multiple of seven")


def make_stream(log: Path | None = None, rank: int = 0, world_size: int = 1) -> MixedStream:
    sources = [
        WeightedSource("a", Numbers(30, frozenset({1, 2, 3, 20}))),
        WeightedSource("b", Numbers(19, frozenset(range(9))), 2.0),
    ]
    check = lambda sample: refuse_multiples_of_seven(sample)  # noqa: E731 -- cannot be pickled, as a check with a model
    bad_samples = BadSamples(log)
    return MixedStream(sources, 3, rank=rank, world_size=world_size, bad_samples=bad_samples, check=check)


def stream_of(source: Numbers) -> MixedStream:
    return MixedStream([WeightedSource("a", source)], 0)


@pytest.fixture(autouse=True)
def no_workers_are_left() -> Iterator[None]:
    yield
    gc.collect()  # the traceback of an expected error refers to the loader
    assert multiprocessing.active_children() == []


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    numbers=st.lists(st.integers(0, 30), max_size=6),
    batch_size=st.integers(1, 5),
    world_size=st.sampled_from([1, 2, 3]),
)
def test_batches_are_the_positions_of_the_rank(numbers: list[int], batch_size: int, world_size: int) -> None:
    for rank in range(world_size):
        loader = SampleLoader(make_stream(rank=rank, world_size=world_size), batch_size)
        stream = make_stream(rank=rank, world_size=world_size)
        for number in numbers:
            stream.position = number * batch_size * world_size
            assert loader.batch(number) == stream.take(batch_size)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    numbers=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    batch_size=st.integers(1, 40),
    rank=st.integers(0, 1),
    workers=st.integers(1, 2),
)
def test_workers_change_neither_samples_nor_log(
    numbers: list[int], batch_size: int, rank: int, workers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    streams = [make_stream(folder / f"{name}.jsonl", rank, 2) for name in ("plain", "workers")]
    plain, parallel = SampleLoader(streams[0], batch_size), SampleLoader(streams[1], batch_size, workers)
    for first in numbers:
        for number in range(first, first + 3):
            assert parallel.batch(number) == plain.batch(number)
    parallel.close()
    assert (folder / "workers.jsonl").read_text() == (folder / "plain.jsonl").read_text()
    assert streams[0].bad_samples.counts() == streams[1].bad_samples.counts()


def test_two_ranks_partition_the_stream() -> None:
    loaders = [SampleLoader(make_stream(rank=rank, world_size=2), 3, num_workers=2) for rank in range(2)]
    for number, whole in enumerate([make_stream().take(24)[first : first + 6] for first in range(0, 24, 6)]):
        assert [loader.batch(number) for loader in loaders] == [whole[::2], whole[1::2]]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_other_batch_is_read_ahead(workers: int) -> None:
    whole = SampleLoader(make_stream(), 3)
    loader = SampleLoader(make_stream(), 3, workers, stride=2)
    assert [loader.batch(number) for number in (1, 3, 5, 6, 8)] == [whole.batch(number) for number in (1, 3, 5, 6, 8)]
    if workers:
        assert loader._next_number == 10
    loader.close()


def test_bad_samples_are_logged_once_and_not_read_again_after_a_resume(tmp_path: Path) -> None:
    log = tmp_path / "bad.jsonl"
    first = SampleLoader(make_stream(log), 10, num_workers=2)
    batches = [first.batch(number) for number in range(8)]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    logged = [(line["source"], line["index"]) for line in lines]
    assert len(logged) == len(set(logged))
    assert {line["reason"] for line in lines} >= {"it is bad", "14 is a multiple of seven"}

    resumed = SampleLoader(make_stream(log), 10, num_workers=2)
    assert [resumed.batch(number) for number in range(5, 8)] == batches[5:]
    assert len(log.read_text().splitlines()) == len(lines)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_source_of_bad_samples_raises_the_same_error(workers: int) -> None:
    loader = SampleLoader(stream_of(Numbers(6, bad=frozenset(range(6)))), 2, workers)
    for _ in range(2):
        with pytest.raises(InputError, match=r"^source 'a': 6 samples, all, are bad; number \d: it is bad$"):
            loader.batch(0)


@pytest.mark.parametrize("workers", [0, 1])
def test_other_input_errors_arrive_unchanged(workers: int) -> None:
    with pytest.raises(InputError, match=r"^number 0: the disk is gone$"):
        SampleLoader(stream_of(Numbers(1, unreadable=frozenset({0}))), 2, workers).batch(0)


@pytest.mark.parametrize("workers", [0, 1])
def test_programming_errors_keep_their_type(workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        SampleLoader(stream_of(Defect(3)), 2, workers).batch(0)


def test_samples_are_read_in_worker_processes() -> None:
    loader = SampleLoader(stream_of(ProcessIds(100)), 4, num_workers=2)
    readers = {sample.text for number in range(4) for sample in loader.batch(number)}
    assert len(readers) == 2
    assert str(os.getpid()) not in readers


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_workers_ignore_signals_of_the_terminal(name: str) -> None:
    """Ctrl-C reaches the workers too; the training still takes its step to the end."""
    loader = SampleLoader(stream_of(ProcessIds(5)), 1, 1)
    (first,) = loader.batch(0)
    os.kill(int(first.text), getattr(signal, name))
    for number in range(1, 8):
        assert loader.batch(number)[0].text == first.text
    loader.close()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_batches_of_workers_that_have_ended_are_read_without_them(name: str, caplog: pytest.LogCaptureFixture) -> None:
    loader = SampleLoader(stream_of(ProcessIds(5)), 1, 1)
    (first,) = loader.batch(0)
    os.kill(int(first.text), getattr(signal, name))
    readers = [loader.batch(number)[0].text for number in range(1, 8)]
    assert readers.count(str(os.getpid())) == 1
    assert len(set(readers)) == 2 + (readers[0] == first.text)  # one was read ahead, the last by a new worker
    assert "workers that read data have ended" in caplog.text
    loader.close()


def test_a_worker_may_be_killed_while_it_writes() -> None:
    """The second batch is larger than a pipe: its worker has written a part of it and waits for the reader."""
    loader = SampleLoader(stream_of(LongTexts(9)), 1, 2)
    batches = [loader.batch(0)]
    time.sleep(0.5)
    for process in multiprocessing.active_children():
        process.kill()
    batches += [loader.batch(number) for number in range(1, 6)]
    assert batches == [SampleLoader(stream_of(LongTexts(9)), 1).batch(number) for number in range(6)]
    loader.close()


@pytest.mark.slow
def test_workers_may_be_killed_at_any_moment(caplog: pytest.LogCaptureFixture) -> None:

    def kill_one() -> None:
        for process in multiprocessing.active_children()[:1]:
            process.kill()

    delays = random.Random(0)
    loader = SampleLoader(stream_of(LongTexts(40)), 1, 2)
    plain = SampleLoader(stream_of(LongTexts(40)), 1)
    for number in range(0, 400, 2):
        killing = threading.Timer(delays.uniform(0, 0.01), kill_one)
        killing.start()
        assert [loader.batch(number), loader.batch(number + 1)] == [plain.batch(number), plain.batch(number + 1)]
        killing.join()
    loader.close()
    assert caplog.text.count("workers that read data have ended") > 20


_READ = """
import sys, time
from number_sources import ProcessIds
from showo_turbo.data.loader import SampleLoader
from showo_turbo.data.stream import MixedStream, WeightedSource

if __name__ == "__main__":
    loader = SampleLoader(MixedStream([WeightedSource("ids", ProcessIds(100), 1.0)], seed=0), 4, num_workers=2)
    print(*{int(sample.text) for number in range(4) for sample in loader.batch(number)}, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals of POSIX")
def test_workers_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "read.py").write_text(_READ)
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, "read.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE
    ) as process:
        workers = [int(worker) for worker in process.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(is_running, workers))
        process.kill()
    deadline = time.monotonic() + 30
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline, "workers outlive the process that started them"
        time.sleep(0.1)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_closing_stops_the_workers_and_a_later_batch_starts_new_ones() -> None:
    loader = SampleLoader(make_stream(), 4, num_workers=2)
    assert multiprocessing.active_children() == []
    loader.batch(0)
    assert len(multiprocessing.active_children()) == 2
    loader.close()
    assert multiprocessing.active_children() == []
    assert loader.batch(1) == make_stream().take(8)[4:]


def test_workers_do_not_change_the_global_random_state() -> None:
    state = torch.get_rng_state()
    SampleLoader(make_stream(), 4, num_workers=1).batch(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_kind_of_source_works_in_workers(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3), "red").save(tmp_path / "red.png")
    (tmp_path / "coco.json").write_text(
        json.dumps({"images": [{"id": 1, "file_name": "red.png"}], "annotations": [{"image_id": 1, "caption": "coco"}]})
    )
    (tmp_path / "lines.jsonl").write_text('{"image": "red.png", "caption": "folder"}')
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        archive.add(tmp_path / "red.png", "a.png")
        info = tarfile.TarInfo("a.txt")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"tar"))
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "Red."}]
    (tmp_path / "llava.json").write_text(json.dumps([{"image": "red.png", "conversations": turns}]))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a text", ""]}), tmp_path / "0.parquet")
    codes = torch.arange(40, dtype=torch.int16)[:, None].expand(-1, 64).contiguous()
    save_file({"codes": codes}, tmp_path / "pool.safetensors", {"seed": "1", "image_tokenizer": "none"})
    kinds = {
        CaptionSample: {
            "coco": "coco.json",
            "image_folder": "lines.jsonl",
            "webdataset": "0.tar",
            "scene_captions": "pool.safetensors",
        },
        DialogueSample: {"llava": "llava.json", "scene_dialogues": "pool.safetensors"},
        TextSample: {"parquet": "0.parquet", "scene_texts": "pool.safetensors"},
    }
    for samples, files in kinds.items():
        folders = {"coco": str(tmp_path)}
        configs = [SourceConfig(kind, str(tmp_path / file), images=folders.get(kind)) for kind, file in files.items()]
        plain, parallel = (SampleLoader(open_stream(configs, samples, 0), 20, workers) for workers in (0, 1))
        for one, other in zip(plain.batch(0), parallel.batch(0), strict=True):
            assert comparable(one) == comparable(other)


def comparable(sample: Sample) -> tuple:
    image = getattr(sample, "image", None)
    pixels = image.tolist() if isinstance(image, torch.Tensor) else image and (image.mode, image.size, image.tobytes())
    return sample.key, getattr(sample, "text", None), getattr(sample, "turns", None), pixels
