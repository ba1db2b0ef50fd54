"""Take pictures of every state of the page, and the animation of the README: `python tests/app/pictures.py FOLDER`."""

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from page_server import CHROMIUM, PageServer
from PIL import Image
from playwright.sync_api import expect, sync_playwright

WIDTHS = {1440: 900, 390: 844}
MODELS = ["--model", "clipart-turbo", "--model", "clipart"]
PROMPT = "a dog left of a bicycle"
DRAWN = re.compile(r"passes in")

expect.set_options(timeout=40_000)


def draw(page: Any, prompt: str = PROMPT, seed: int = 8686) -> None:
    page.fill("#draw-prompt", prompt)
    page.fill("#draw-seed", str(seed))
    page.click("#draw-go")
    expect(page.locator("#draw-player .status")).to_have_text(DRAWN)


def ask(page: Any, question: str) -> None:
    turns = page.locator(".turn").count()
    page.fill("#ask-question", question)
    page.click("#ask-go")
    expect(page.locator(".turn")).to_have_count(turns + 1)
    expect(page.locator("#ask-go")).to_have_text("Ask")


def walk(page: Any, url: str, take: Callable[[str], None]) -> None:
    """Go through all states that need no trouble with the server."""
    take("draw-first-visit")
    draw(page)
    page.locator("#draw-player .scrubber").fill("2")
    take("draw-step")
    page.locator("#draw-player .scrubber").fill("4")
    draw(page, "three red apples", 4)
    take("draw-finished")
    page.fill("#draw-prompt", "a dragon in the rain")
    take("draw-unknown-words")
    page.fill("#draw-prompt", "a red <|soi|>")
    page.click("#draw-go")
    expect(page.locator("#draw-error [role=alert]")).to_be_visible()
    take("draw-error")
    page.fill("#draw-prompt", PROMPT)
    page.click("#draw-compare")
    expect(page.locator("#compare [role=status]")).to_contain_text("can be compared")
    take("draw-compare")
    with busy(url):
        page.click("#draw-go")
        expect(page.locator("#draw-player .status")).to_contain_text("queue")
        take("draw-queue")
    page.click("#draw-go")
    page.fill("#draw-num_inference_steps", "64")
    page.click("#draw-go")
    expect(page.locator("#draw-player .status")).to_have_text(re.compile(r"Pass \d"))
    page.click("#draw-go")
    expect(page.locator("#draw-player .status")).to_contain_text("Cancelled")
    take("draw-cancelled")
    page.fill("#draw-num_inference_steps", "4")
    page.locator("#gallery-list .tile").last.click()
    page.click("nav a[href='#ask']")
    take("ask-first-visit")
    page.locator("#ask-pictures .tile").last.click()
    ask(page, "Describe the image.")
    ask(page, "Where is the dog?")
    take("ask-answers")
    page.fill("#ask-question", "Describe the image.")
    page.click("#race-go")
    expect(page.locator("#race-lanes [role=status]")).to_be_visible()
    take("ask-race")
    page.click("nav a[href='#edit']")
    take("edit-first-visit")
    page.locator("#edit-pictures .tile").last.click()
    page.locator("canvas.mask").scroll_into_view_if_needed()
    box = page.locator("canvas.mask").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.62, box["y"] + box["height"] * 0.62)
    page.mouse.down()
    for across, down in ((0.9, 0.62), (0.9, 0.8), (0.62, 0.8)):
        page.mouse.move(box["x"] + box["width"] * across, box["y"] + box["height"] * down, steps=6)
    page.mouse.up()
    page.fill("#edit-prompt", "a bicycle in the top right, a dog in the bottom left and a pizza in the bottom right")
    take("edit-mask")
    page.click("#edit-go")
    expect(page.locator("#edit-player .status")).to_contain_text("Repainted in")
    take("edit-repainted")
    page.locator("label", has_text="Extend").click()
    page.click("#edit-go")
    expect(page.locator("#edit-player .status")).to_contain_text("Extended in")
    take("edit-extended")
    page.locator("label", has_text="Vary").click()
    take("edit-vary")
    page.click("nav a[href='#how']")
    expect(page.locator("#how-go")).to_have_text("Run it")
    page.fill("#how-prompt", "a blue car above a yellow umbrella")
    page.click("#how-go")
    expect(page.locator("#how-student canvas").last).to_be_visible()
    expect(page.locator("#how-go")).to_have_text("Run it")
    page.wait_for_timeout(3500)  # a replay
    take("how")


@contextmanager
def busy(url: str) -> Iterator[None]:
    """Keep the server busy with two other visitors, who leave at the end."""
    body = json.dumps({"prompt": PROMPT, "num_inference_steps": 64, "size": "160x160"})
    others = [HTTPConnection(urlsplit(url).netloc) for _ in range(2)]
    for other in others:
        other.request("POST", "/app/draw", body)
    assert [other.getresponse().status for other in others] == [200, 200]
    yield
    for other in others:
        other.close()


def animation(page: Any, file: Path) -> None:
    """Write an animated picture: an image in four passes, an answer in three, and the race."""
    frames: list[tuple[Image.Image, int]] = []

    def take(milliseconds: int) -> None:
        page.wait_for_timeout(350)
        frames.append((Image.open(BytesIO(page.screenshot())).convert("RGB"), milliseconds))

    draw(page)
    for step in range(5):
        page.locator("#draw-player .scrubber").fill(str(step))
        take(2200 if step == 4 else 900)
    page.get_by_role("button", name="Use for a question").first.click()
    ask(page, "Describe the image.")
    passes = int(page.locator(".turn .scrubber").get_attribute("max"))
    for number in range(passes + 1):
        page.locator(".turn .scrubber").fill(str(number))
        take(2600 if number == passes else 1000)
    page.click("nav a[href='#draw']")
    page.click("#draw-compare")
    expect(page.locator("#compare [role=status]")).to_contain_text("can be compared")
    take(3500)
    first, *others = [frame for frame, _ in frames]
    times = [time for _, time in frames]
    first.save(file, save_all=True, append_images=others, duration=times, loop=0, quality=82, method=6)


def main(folder: Path) -> None:
    """Write all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        server = PageServer(Path(temporary), "serve", "--with-app", *MODELS, "--max-sequences", "2")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def open_page(width: int, height: int, **options: Any) -> Any:
            size = {"width": width, "height": height}
            page = browser.new_context(viewport=size, reduced_motion="reduce", **options).new_page()
            page.set_default_timeout(120_000)
            page.goto(server.url)
            page.locator("#view-draw").wait_for()
            return page

        def camera(page: Any, ending: str) -> Callable[[str], None]:
            def take(name: str) -> None:
                page.evaluate("() => { scrollTo(0, 0); document.activeElement.blur(); }")
                page.wait_for_timeout(450)
                with Image.open(BytesIO(page.screenshot(full_page=True))) as picture:
                    picture.convert("RGB").save(folder / f"{name}-{ending}.webp", quality=84, method=6)

            return take

        try:
            animation(open_page(1180, 740), folder / "app.webp")
            pages = []
            for width, height in WIDTHS.items():
                page = open_page(width, height)
                walk(page, server.url, camera(page, str(width)))
                pages.append(page)
            page = open_page(1440, 900, color_scheme="dark")
            take = camera(page, "dark-1440")
            draw(page)
            page.locator("#draw-player .scrubber").fill("3")
            take("draw-step")
            page.get_by_role("button", name="Use for a question").first.click()
            ask(page, "Describe the image.")
            take("ask-answers")
            page.click("nav a[href='#edit']")
            page.locator("#edit-pictures .tile").last.click()
            take("edit-mask")
            server.stop()
            for page in pages:
                page.click("nav a[href='#draw']")
                page.fill("#draw-prompt", PROMPT)
                page.click("#draw-go")
                expect(page.locator("#connection")).to_contain_text("not answering")
                camera(page, str(page.viewport_size["width"]))("server-away")
        finally:
            server.stop()
            browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
