"""Read forms into memory: nothing of a request touches the file system."""

from collections.abc import AsyncGenerator

from fastapi import Request
from starlette.formparsers import MultiPartException, MultiPartParser

from showo_turbo.serving.http.error_bodies import invalid

FORM_FILES = 3
FORM_FIELDS = 64


class _InMemoryParser(MultiPartParser):
    spool_max_size = 1 << 40


async def read_form(raw: bytes, request: Request) -> tuple[dict[str, str], dict[str, list[bytes]]]:
    """Return texts and files of a form, which is held in memory."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield raw
        yield b""

    try:
        parser = _InMemoryParser(
            request.headers, chunks(), max_files=FORM_FILES, max_fields=FORM_FIELDS, max_part_size=1 << 20
        )
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, UnicodeError) as error:
        raise invalid(None, f"the form cannot be read ({str(error)[:100]}): send multipart/form-data") from None
    texts: dict[str, str] = {}
    files: dict[str, list[bytes]] = {}
    for name, value in form.multi_items():
        name = name.removesuffix("[]")
        if isinstance(value, str):
            texts[name] = f"{texts[name]},{value}" if name == "direction" and name in texts else value
        else:
            files.setdefault(name, []).append(await value.read())
    await form.close()
    return texts, files
