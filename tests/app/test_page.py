"""A walk through the page: draw, ask, edit, compare; cancel, errors, a server that goes away; phone, dark, keyboard."""

import base64
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from page_server import PageServer
from PIL import Image

expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=20_000)

Visit = Callable[..., Any]
PHONE = {"viewport": {"width": 390, "height": 844}}


def draw(page: Any, prompt: str = "a red circle and a blue star", seed: int = 1) -> None:
    page.fill("#draw-prompt", prompt)
    page.fill("#draw-seed", str(seed))
    page.click("#draw-go")
    expect(page.locator("#draw-player .player-controls")).to_be_visible()
    expect(page.locator("#draw-go")).to_have_text("Draw")


def picture_of(page: Any, player: str = "#draw-player") -> bytes:
    """Return the pixels of a player's first canvas."""
    page.wait_for_timeout(250)  # a fade
    url = page.locator(f"{player} .canvases canvas").first.evaluate("(canvas) => canvas.toDataURL()")
    return Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB").tobytes()


def test_a_picture_changes_from_step_to_step(visit: Visit) -> None:
    page = visit()
    draw(page)
    scrubber = page.locator("#draw-player .scrubber")
    states = []
    for step in range(5):
        scrubber.fill(str(step))
        states.append(picture_of(page))
        settled = page.locator("#draw-player .facts dd").nth(2).inner_text()
        assert settled.endswith("/ 64")
        assert step > 0 or settled == "0 / 64"
    assert len(set(states)) == 5
    assert settled == "64 / 64"
    expect(page.locator("#draw-player .status")).to_contain_text("4 passes in")
    expect(page.locator("#gallery-list .tile")).to_have_count(1)


def test_the_same_seed_gives_the_same_picture_and_settings_are_taken_over(visit: Visit) -> None:
    page = visit()
    draw(page, seed=7)
    page.locator("#draw-num_inference_steps").fill("3")
    draw(page, "a purple star in the top left", seed=8)
    page.locator("#gallery-list .tile").nth(1).click()
    page.get_by_role("button", name="Same settings").click()
    assert page.input_value("#draw-prompt") == "a red circle and a blue star"
    assert page.input_value("#draw-seed") == "7"
    assert page.input_value("#draw-num_inference_steps") == "4"
    page.click("#draw-go")
    expect(page.locator("#gallery-list .tile")).to_have_count(3)
    first, last = (page.locator("#gallery-list img").nth(number).get_attribute("src") for number in (0, 2))
    assert first == last


def test_a_download_has_the_sidecar_that_draws_it_again(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    draw(page, seed=5)
    files = []
    page.on("download", lambda download: files.append(download))
    page.get_by_role("button", name="Download").first.click()
    expect(page.locator("#draw-error")).to_be_empty()
    for _ in range(50):
        page.wait_for_timeout(100)
        if len(files) == 2:
            break
    names = {Path(one.suggested_filename).suffix: one.path() for one in files}
    sidecar = json.loads(names[".json"].read_text())
    assert (sidecar["task"], sidecar["seed"], sidecar["model"]) == ("text_to_image", 5, "tiny-turbo")
    with Image.open(names[".png"]) as image:
        assert image.size == (64, 64)


def test_several_pictures_and_another_size(visit: Visit) -> None:
    page = visit()
    page.select_option("#draw-number", "2")
    page.select_option("#draw-size", "128x64")
    draw(page)
    expect(page.locator("#draw-player .canvases canvas")).to_have_count(2)
    expect(page.locator("#draw-player .facts dd").nth(2)).to_have_text("128 / 128")
    expect(page.locator("#gallery-list .tile")).to_have_count(2)


def test_an_answer_settles_in_passes_and_a_race_is_run(visit: Visit) -> None:
    page = visit()
    draw(page)
    page.get_by_role("button", name="Use for a question").first.click()
    expect(page.locator("#view-ask")).to_be_visible()
    page.fill("#ask-question", "Describe the image.")
    page.click("#ask-go")
    expect(page.locator("#ask-go")).to_have_text("Cancel")
    expect(page.locator("#ask-go")).to_have_text("Ask")
    answer = page.locator(".turn .tokens").first
    expect(answer).to_contain_text("star")
    assert answer.locator(".run").count() >= 2
    expect(page.locator(".turn .token-facts").first).to_have_text(re.compile(r"tokens in \d+ passes · .* tokens/s"))
    page.locator(".turn .scrubber").first.fill("1")
    expect(answer.locator(".guess")).to_have_count(1)
    page.fill("#ask-question", "What color is the background?")
    page.click("#race-go")
    result = page.locator("#race-lanes [role=status]")
    expect(result).to_contain_text("The same answer")
    page.click("#ask-go")
    expect(page.locator(".turn")).to_have_count(2)


def test_a_question_is_about_a_picture_of_the_camera_or_a_pasted_one(visit: Visit) -> None:
    page = visit(view="ask")
    page.click("#ask-camera")
    expect(page.locator("dialog.camera video")).to_be_visible()
    page.wait_for_function("() => document.querySelector('dialog.camera video').videoWidth > 0")
    page.get_by_role("button", name="Take the picture").click()
    expect(page.locator("#ask-pictures .tile")).to_have_count(1)
    page.evaluate(
        """async () => {
            const canvas = new OffscreenCanvas(64, 64);
            canvas.getContext("2d").fillRect(0, 0, 64, 64);
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([await canvas.convertToBlob()], "pasted.png", { type: "image/png" }));
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
        }"""
    )
    expect(page.locator("#ask-pictures .tile")).to_have_count(2)
    page.fill("#ask-question", "What color is the background?")
    page.click("#ask-go")
    expect(page.locator(".turn .tokens").first).to_contain_text("black")


def test_a_picture_is_repainted_extended_varied_and_all_is_undone(visit: Visit) -> None:
    page = visit()
    draw(page)
    page.get_by_role("button", name="Edit", exact=True).click()
    before = picture_of(page, "#edit-player")
    page.click("#edit-go")
    expect(page.locator("#edit-error")).to_contain_text("Nothing is painted yet")
    box = page.locator("canvas.mask").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.3, steps=3)
    page.mouse.up()
    page.fill("#edit-prompt", "a red circle and a green cross")
    page.click("#edit-go")
    status = page.locator("#edit-player .status")
    expect(status).to_contain_text("Repainted in")
    assert picture_of(page, "#edit-player") != before
    page.locator("label", has_text="Extend").click()
    page.locator(".side.up").click()
    page.click("#edit-go")
    expect(status).to_contain_text("Extended in")
    expect(page.locator("#edit-player .facts dd").nth(2)).to_have_text("96 / 96")
    page.locator("label", has_text="Vary").click()
    page.locator("#edit-strength").fill("0.4")
    page.click("#edit-go")
    expect(status).to_contain_text("Varied in")
    for _ in range(3):
        page.click("#edit-undo")
    assert picture_of(page, "#edit-player") == before
    expect(page.locator("#edit-undo")).to_be_disabled()


def test_teacher_and_student_are_compared(visit: Visit) -> None:
    page = visit()
    page.click("#draw-compare")
    expect(page.locator("#compare [role=status]")).to_contain_text("can be compared", timeout=60_000)
    expect(page.locator("#compare tbody tr")).to_have_count(2)
    times = page.locator("#compare .time").all_inner_texts()
    assert len(times) == 10
    assert all(re.fullmatch(r"[\d.]+ m?s", time) for time in times)


def test_a_drawing_is_cancelled(visit: Visit) -> None:
    page = visit()
    page.fill("#draw-num_inference_steps", "64")
    page.select_option("#draw-size", "128x128")
    page.clock.install()
    page.clock.pause_at(datetime.now() + timedelta(hours=1))  # frames arrive, and only the first one is shown
    page.click("#draw-go")
    expect(page.locator("#draw-player .status")).to_have_text(re.compile("Pass 1 of"))
    page.click("#draw-go")
    expect(page.locator("#draw-player .status")).to_contain_text("Cancelled after")
    page.clock.run_for(5_000)
    expect(page.locator("#draw-player .status")).to_contain_text("Cancelled after")
    page.clock.resume()
    expect(page.locator("#draw-error")).to_be_empty()
    page.fill("#draw-num_inference_steps", "2")
    page.select_option("#draw-size", "64x64")
    draw(page)


def test_two_visitors_get_their_own_pictures_and_one_waits_in_the_queue(visit: Visit) -> None:
    first, second, third = visit(), visit(), visit()
    for page in (first, second):
        page.fill("#draw-num_inference_steps", "64")
        page.select_option("#draw-size", "128x128")
        page.click("#draw-go")
        expect(page.locator("#draw-player .status")).to_have_text(re.compile("Pass [1-9]"))
    third.click("#draw-go")
    expect(third.locator("#draw-player .status")).to_have_text(re.compile("queue"))
    for page in (first, second):
        page.keyboard.press("Escape")
        expect(page.locator("#draw-player .status")).to_contain_text("Cancelled")
    expect(third.locator("#gallery-list .tile")).to_have_count(1)
    expect(first.locator("#gallery-list .tile")).to_have_count(0)
    second.fill("#draw-num_inference_steps", "4")
    second.select_option("#draw-size", "64x64")
    draw(second, "three green squares on a white background")
    expect(second.locator("#gallery-list .tile")).to_have_count(1)
    texts = [page.locator("#gallery-list .tile span").inner_text() for page in (second, third)]
    assert texts == ["three green squares on a white background", "a red circle and a blue star"]


def test_errors_are_in_words(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    page.fill("#draw-prompt", "<|soi|>")
    page.click("#draw-go")
    expect(page.locator("#draw-error [role=alert]")).to_contain_text("prompt", ignore_case=True)
    page.fill("#draw-prompt", "a dog")
    expect(page.locator("#draw-world")).to_contain_text("never the word “dog”")
    page.click("nav a[href='#ask']")
    page.click("#ask-go")
    expect(page.locator("#ask-error [role=alert]")).to_contain_text("There is no picture yet")
    (tmp_path / "notes.png").write_text("no picture")
    page.set_input_files("#ask-file", tmp_path / "notes.png")
    expect(page.locator("#ask-error [role=alert]")).to_contain_text("notes.png cannot be read as a picture")
    (tmp_path / "notes.txt").write_text("no picture")
    page.set_input_files("#ask-file", tmp_path / "notes.txt")
    expect(page.locator("#ask-error [role=alert]")).to_contain_text("notes.txt is no picture")
    Image.new("RGB", (300, 200), "white").save(tmp_path / "white.png")
    page.set_input_files("#ask-file", tmp_path / "white.png")
    expect(page.locator("#ask-image")).to_be_visible()
    expect(page.locator("#ask-error")).to_be_empty()
    page.click("#ask-go")
    expect(page.locator(".turn .run").first).to_be_visible()


def test_a_server_goes_away_and_comes_back(visit: Visit, tmp_path: Path) -> None:
    server = PageServer(tmp_path, "app", "--model", "tiny-turbo")
    try:
        page = visit(server.url)
        draw(page)
        server.stop()
        page.click("#draw-go")
        expect(page.locator("#connection")).to_contain_text("The server is not answering")
        expect(page.locator("#draw-error [role=alert]")).to_contain_text("not answering")
        expect(page.locator("#gallery-list .tile")).to_have_count(1)
        server.start()
        expect(page.locator("#connection")).to_contain_text("The server is back", timeout=30_000)
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#gallery-list .tile")).to_have_count(2)
        expect(page.locator("#draw-error")).to_be_empty()
    finally:
        server.stop()


def test_a_key_is_asked_for(visit: Visit, tmp_path: Path) -> None:
    server = PageServer(tmp_path, "app", "--model", "tiny-turbo", "--api-key", "a-key-of-this-test")
    try:
        page = visit(server.url, waits=False)
        expect(page.locator("#key-dialog")).to_be_visible()
        page.fill("#key", "a-key-of-this-test")
        page.keyboard.press("Enter")
        expect(page.locator("#view-draw")).to_be_visible()
        draw(page)
    finally:
        server.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_until_they_are_chosen(visit: Visit, scheme: str) -> None:
    page = visit(color_scheme=scheme)
    grounds = []
    for _ in range(2):
        colour = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        grounds.append(sum(map(int, re.findall(r"\d+", colour)[:3])) > 380)
        page.click("#theme")
    assert grounds == ([True, False] if scheme == "light" else [False, True])


def test_colours_follow_a_change_of_the_system(visit: Visit) -> None:
    page = visit(color_scheme="light")
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("#theme")).to_have_attribute("aria-label", "Light colours")


@pytest.mark.parametrize("view", ["draw", "ask", "edit", "how"])
def test_a_phone_shows_every_page_without_sideways_scrolling(visit: Visit, view: str) -> None:
    page = visit(view=view, **PHONE)
    if view == "draw":
        draw(page)
    if view == "how":
        expect(page.locator("#how-student canvas").first).to_be_visible(timeout=30_000)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("screen", [{}, PHONE], ids=["wide", "phone"])
def test_the_walk_is_done_by_keyboard_alone(visit: Visit, screen: dict[str, Any]) -> None:
    page = visit(**screen)

    def focus(selector: str) -> None:
        for _ in range(60):
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"Tab never reaches {selector}")

    focus(".skip")
    focus("#draw-prompt")
    page.keyboard.press("Control+A")
    page.keyboard.type("a blue circle")
    page.keyboard.press("Enter")
    expect(page.locator("#gallery-list .tile")).to_have_count(1)
    expect(page.locator("#announce")).to_contain_text("Finished: 4 passes")
    focus("#draw-player .scrubber")
    page.keyboard.press("Home")
    expect(page.locator("#draw-player .facts dd").nth(2)).to_have_text("0 / 64")
    focus("#draw-player .actions-bar button:nth-child(3)")
    page.keyboard.press("Enter")
    focus("canvas.mask")
    for key in ("ArrowLeft", " ", "ArrowDown", " "):
        page.keyboard.press(key)
    page.focus("#edit-prompt")
    focus("#edit-go")
    page.keyboard.press("Enter")
    expect(page.locator("#edit-player .status")).to_contain_text("Repainted in")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Visit, axe: str, scheme: str) -> None:
    page = visit(color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    draw(page)
    page.evaluate(axe)
    found = []
    for view in ("draw", "ask", "edit", "how"):
        page.click(f"nav a[href='#{view}']")
        if view == "ask":
            page.locator("#ask-pictures .tile").first.click()
            page.click("#ask-go")
            expect(page.locator(".turn .token-player")).to_be_visible()
        if view == "edit":
            page.locator("#edit-pictures .tile").first.click()
        if view == "how":
            expect(page.locator("#how-student canvas").last).to_be_visible(timeout=30_000)
            expect(page.locator("#how-go")).to_have_text("Run it", timeout=30_000)
        page.wait_for_timeout(700)  # colours settle
        result = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        found += [
            (view, one["id"], one["impact"], [node["html"][:120] for node in one["nodes"]])
            for one in result["violations"]
            if one["impact"] in ("serious", "critical", "moderate")
        ]
    assert not found
