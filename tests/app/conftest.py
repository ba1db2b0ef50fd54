"""The page in Debian's Chromium, with a server as users start it."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from page_server import CHROMIUM, PageServer

AXE = Path(os.environ.get("AXE_CORE", ".venv/axe/node_modules/axe-core/axe.min.js"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.app)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    library = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: make test-app installs it")
    with library.sync_playwright() as playwright:
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a test pattern, allowed
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *camera])
        yield started
        started.close()


@pytest.fixture(scope="session")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve teacher and student with two sequences at a time, so that a queue forms soon."""
    folder = tmp_path_factory.mktemp("page")
    models = ["--model", "tiny-turbo", "--model", "tiny"]
    server = PageServer(folder, "serve", "--with-app", *models, "--max-sequences", "2")
    yield server.url
    server.stop()


@pytest.fixture
def visit(browser: Any, page_url: str) -> Iterator[Callable[..., Any]]:
    """Open the page as a visitor of its own; an error in its scripts or a request to elsewhere fails the test."""
    problems: list[str] = []
    with ExitStack() as contexts:

        def open_page(url: str = page_url, view: str = "draw", waits: bool = True, **options: Any) -> Any:
            context = browser.new_context(**({"viewport": {"width": 1440, "height": 900}} | options))
            contexts.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda request: record(request.url, url))
            page.goto(f"{url}/#{view}")
            if waits:
                page.locator(f"#view-{view}").wait_for()
            return page

        def record(requested: str, url: str) -> None:
            if not requested.startswith((url, "data:", "blob:")):
                problems.append(f"a request to {requested}")

        yield open_page
    assert not problems


@pytest.fixture(scope="session")
def axe() -> str:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make test-app installs it")
    return AXE.read_text()
