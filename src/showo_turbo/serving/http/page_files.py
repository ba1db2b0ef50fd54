"""The files of the page, served from memory under a strict content security policy."""

from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Response

FOLDER = "/page/"
INDEX = "index.html"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def page_files() -> dict[str, tuple[bytes, str]]:
    """Return content and type of each file, by path."""
    found = {}
    for file in files("showo_turbo.serving").joinpath("page").iterdir():
        ending = file.name.rpartition(".")[2]
        if ending in _TYPES:
            found[FOLDER + file.name] = (file.read_bytes(), _TYPES[ending])
    return {"/": found.pop(FOLDER + INDEX)} | found


def add_page_files(app: FastAPI) -> None:
    """Add a route for each file."""

    def route(content: bytes, kind: str) -> Any:
        async def send() -> Response:
            return Response(content, media_type=kind, headers=HEADERS)

        return send

    for path, (content, kind) in page_files().items():
        app.get(path, include_in_schema=False)(route(content, kind))
