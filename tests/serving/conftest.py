"""Fixtures of the tests of serving."""

from server_process import server, tiny_turbo

__all__ = ["server", "tiny_turbo"]
