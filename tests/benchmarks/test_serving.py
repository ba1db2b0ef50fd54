"""The load benchmark measures both servers with the same requests."""

from pathlib import Path

from serving import measure


def test_both_servers_are_measured(random_checkpoint: Path) -> None:
    loads = measure(str(random_checkpoint), 6, [1, 3])
    assert [(one.server, one.concurrency) for one in loads] == [
        ("engine", 1),
        ("one at a time", 1),
        ("engine", 3),
        ("one at a time", 3),
    ]
    for one in loads:
        assert one.per_second > 0
        assert 0 < one.first_token <= one.p99
        assert 0 < one.first_preview <= one.p99
        assert one.p50 <= one.p99
