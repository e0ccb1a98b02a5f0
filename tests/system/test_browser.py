"""The page in a real browser, from disk and without a network: it sorts, filters, draws and can be read by all."""

import io
import os
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib.image import imread
from tests import page_factory

from weakseg.report import page

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e .[dev]")
pytestmark = pytest.mark.system

AXE = "axe-core@4.10.3"
FLAGS = [
    *("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]
"""WebGL 2 without a GPU, and a browser that looks for nobody on the network."""
WAIT = 120_000
"""Milliseconds until a busy machine has drawn."""
MASK, TRUTH = "v-mask", "v-truth"


@pytest.fixture(scope="module")
def chromium():
    """Debian's Chromium, installed if that may be done here."""
    found = shutil.which("chromium")
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", "--quiet", *command], check=True, capture_output=True)
        found = shutil.which("chromium")
    if not found:
        pytest.skip("no chromium, and no root to install it: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of results that were made up."""
    directory = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        return (directory / page.write_page(page_factory.make(directory))).as_uri()


@pytest.fixture(scope="module")
def desk(chromium, address):
    """The open page on a screen, with all that it said to the console and asked of the network."""
    yield from _open(chromium, address, width=1280, height=900, color_scheme="light")


def _open(chromium, address, width, height, **options):
    context = chromium.new_context(viewport={"width": width, "height": height}, offline=True, **options)
    context.set_default_timeout(WAIT)
    opened = context.new_page()
    opened.said, opened.asked = [], []
    opened.on("console", lambda message: opened.said.append((message.type, message.text)))
    opened.on("pageerror", lambda error: opened.said.append(("error", str(error))))
    opened.on("request", lambda request: opened.asked.append(request.url[:40]))
    opened.goto(address)
    yield opened
    context.close()


def _rows(opened):
    """Methods that the leaderboard shows, from above."""
    return opened.eval_on_selector_all(
        "#board tbody tr:not([hidden]) th", "cells => cells.map(cell => cell.firstChild.textContent.trim())"
    )


def _picture(opened):
    """The viewer's pixels, (rows, columns, 3) in [0, 1]."""
    opened.wait_for_timeout(300)
    return imread(io.BytesIO(opened.locator("#gl").screenshot()))[..., :3]


def _view(opened):
    opened.locator("#viewer").scroll_into_view_if_needed()
    opened.wait_for_selector("#gl[data-shown]")
    return _picture(opened)


def _colour(pixels, name):
    """How many pixels are greener (truth) or pinker (mask) than grey."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    return int(((green > red + 0.1) if name == TRUTH else (red > green + 0.1) & (blue > green)).sum())


def test_leaderboard_filters(desk):
    assert _rows(desk) == ["LayerCAM", "Grad-CAM", "plain intensity", "U-Net, all masks"]
    desk.select_option("[name=supervision]", "masks")
    assert _rows(desk) == ["U-Net, all masks"]
    desk.select_option("[name=point]", "")
    _says(desk, "3 of 12 rows")
    desk.click("#filters [type=reset]")
    _says(desk, "4 of 12 rows")
    desk.fill("[name=search]", "cam")
    _says(desk, "2 of 12 rows")
    assert _rows(desk) == ["LayerCAM", "Grad-CAM"]
    desk.click("#filters [type=reset]")
    _says(desk, "4 of 12 rows")


def _says(opened, count):
    sync_api.expect(opened.locator("#count")).to_have_text(count, timeout=WAIT)


def test_leaderboard_sorts(desk):
    ordered = _rows(desk)
    board = desk.locator("#board")
    heading = board.get_by_role("columnheader", name="Dice ↑")
    for way, rows in (("descending", ordered), ("ascending", ordered[::-1])):
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == way
        assert _rows(desk) == rows
    board.get_by_role("columnheader", name="Method").get_by_role("button").click()
    assert _rows(desk) == sorted(ordered, key=str.lower)
    # Numbers, not their digits; a row without a rank comes last.
    board.get_by_role("columnheader", name="Rank").get_by_role("button").click()
    assert _rows(desk) == ordered


def test_viewer_draws_and_layers_switch(desk):
    both = _view(desk)
    assert both.std() > 0.05
    assert (both.max(axis=-1) > 0.2).mean() > 0.1
    assert min(_colour(both, TRUTH), _colour(both, MASK)) > 500
    for layer, other in ((TRUTH, MASK), (MASK, TRUTH)):
        desk.uncheck(f"#{layer}")
        without = _picture(desk)
        assert _colour(without, layer) < 0.05 * _colour(both, layer)
        assert _colour(without, other) >= _colour(both, other)
        desk.check(f"#{layer}")
    desk.uncheck("#v-image")
    assert _picture(desk).mean() < 0.8 * both.mean()
    desk.check("#v-image")


def test_threshold_and_window_change_the_picture(desk):
    before = _view(desk)
    desk.fill("#v-cut", "254")
    assert _colour(_picture(desk), MASK) == 0
    desk.fill("#v-cut", "128")
    desk.fill("#v-high", "100")
    assert _picture(desk).mean() > before.mean() + 0.02
    desk.fill("#v-high", "255")


def test_methods_cases_and_keys(desk):
    before = _view(desk)
    assert page_factory.HARM in desk.inner_text("#v-said")
    desk.select_option("#v-method", label="U-Net, all masks (slices)")
    desk.wait_for_selector("#gl[data-shown*=unet]")
    assert not np.array_equal(_picture(desk), before)
    desk.focus("#gl")
    desk.keyboard.press("c")
    desk.wait_for_selector("#gl[data-shown*=case-2]")
    place = desk.input_value("#v-z")
    desk.keyboard.press("PageUp")
    assert int(desk.input_value("#v-z")) == int(place) + 1
    desk.keyboard.press("t")
    assert not desk.is_checked(f"#{TRUTH}")
    desk.keyboard.press("t")
    desk.select_option("#v-plane", "0")
    assert not np.array_equal(_picture(desk), before)
    desk.select_option("#v-plane", "3")


def test_dark_mode_follows_the_system_until_somebody_chooses(desk):
    light = _paper(desk, "light")
    desk.emulate_media(color_scheme="dark")
    assert _brightness(_paper(desk, "dark")) < 0.2 < 0.8 < _brightness(light)
    desk.click("#theme")
    assert _paper(desk, "light") == light
    desk.emulate_media(color_scheme="light")


def _paper(opened, theme):
    """The colour behind everything, once the page has a theme."""
    opened.wait_for_selector(f"html[data-theme={theme}]")
    return opened.evaluate("getComputedStyle(document.body).backgroundColor")


def _brightness(colour):
    return np.mean([int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]) / 255


def test_no_word_on_the_console_and_no_request(desk, address):
    _view(desk)
    assert [said for said in desk.said if said[0] in ("error", "warning")] == []
    assert desk.title() == "weakseg: smoke"
    # What it holds itself has addresses too.
    asked = [url for url in desk.asked if not url.startswith(("data:", "blob:"))]
    assert asked == [address[:40]]


def test_phone(chromium, address):
    for phone in _open(chromium, address, width=390, height=844, has_touch=True, is_mobile=True):
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
        assert _view(phone).std() > 0.05
        place = [phone.input_value(f"#v-{axis}") for axis in "xyz"]
        box = phone.locator("#gl").bounding_box()
        finger = phone.context.new_cdp_session(phone)
        for kind, down in (("touchStart", 60), ("touchMove", 75), ("touchMove", 90), ("touchEnd", None)):
            points = [] if down is None else [{"x": box["x"] + box["width"] / 2, "y": box["y"] + down}]
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            phone.wait_for_timeout(200)
        assert [phone.input_value(f"#v-{axis}") for axis in "xyz"] != place


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(desk, tmp_path, scheme):
    if not shutil.which("npm"):
        pytest.skip("no npm to get axe-core with")
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(tmp_path), AXE]
    subprocess.run(command, check=True, capture_output=True)
    if desk.get_attribute("html", "data-theme") != scheme:
        desk.click("#theme")
    _paper(desk, scheme)
    desk.evaluate((tmp_path / "node_modules" / "axe-core" / "axe.min.js").read_text())
    desk.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    found = desk.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    assert found["passes"]
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert not [(one["id"], [node["html"][:200] for node in one["nodes"][:5]]) for one in serious]
