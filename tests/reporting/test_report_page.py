"""Does the page of a run work in a real browser, opened from disk: seen, heard, walked by mouse and
by keyboard?
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from report_run import CLASSES, CLUSTERS, FIXED, NAMES, VIDEOS, data, served

pytest.importorskip("selenium", reason="Selenium is not installed")

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

import seehear
from browser import browser_path, complaints, open_browser, prefer, requests, resize
from seehear.library import search_like
from seehear.runs.folder import Run
from seehear.runs.names import checked_ticks, read_names, read_ticks, write_names

pytestmark = pytest.mark.skipif(
    browser_path() is None, reason="no Chromium with its driver is installed"
)

VIEWS = ("health", "clusters", "matrix", "map", "find", "names")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    driver = open_browser(tmp_path_factory.mktemp("browser") / "profile", 1280, 900)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with 40 clusters and 2,600 rows, made by the benchmark."""
    path = Path(__file__).parents[2] / "benchmarks" / "report.py"
    spec = importlib.util.spec_from_file_location("report_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)  # benchmarks share a module
        spec.loader.exec_module(benchmark)
    run = benchmark.simulate(
        tmp_path_factory.mktemp("sim"), rows=2600, clusters=40, width=8, files=1, seconds=4
    )
    seehear.report(run, previews=12, workers=1)
    return Path(run / "report")


@pytest.fixture
def page(browser: Chrome, shown: Path) -> Iterator[Chrome]:
    """The browser with nothing open; at the end, nothing was complained of and nobody else was
    asked for anything.
    """
    resize(browser, 1280, 900)
    prefer(browser)
    browser.get("about:blank")
    requests(browser)
    complaints(browser)
    yield browser
    asked = requests(browser)
    assert any(url.endswith("/page.css") for url in asked)
    assert [
        url for url in asked if not url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:"))
    ] == []
    assert complaints(browser) == []


def visit(driver: Chrome, report: Path, view: str = "") -> None:
    """Open a view from disk; from another page, since a change of what follows # loads nothing."""
    driver.get("about:blank")
    driver.get((report / "index.html").as_uri() + (f"#{view}" if view else ""))


def until(check: Callable[[], Any], seconds: float = 15) -> Any:
    """Wait until something holds, and give it back."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(
            StaleElementReferenceException
        ):  # the page has drawn it anew meanwhile
            if found := check():
                return found
        time.sleep(0.03)
    raise AssertionError("waited in vain")


def one(driver: Chrome, selector: str) -> WebElement:
    return until(lambda: driver.find_elements(By.CSS_SELECTOR, selector))[0]


def many(driver: Chrome, selector: str) -> list[WebElement]:
    return driver.find_elements(By.CSS_SELECTOR, selector)


def press(driver: Chrome, *keys: str) -> None:
    ActionChains(driver).send_keys(*keys).perform()


def video(driver: Chrome) -> dict[str, Any]:
    """What the one video on the page does; empty where there is none."""
    return driver.execute_script(
        "const v = document.querySelector('video'); return v ? {muted: v.muted, at: "
        "v.currentTime, paused: v.paused, "
        "sound: v.webkitAudioDecodedByteCount, picture: v.webkitVideoDecodedByteCount, loop: "
        "v.loop, "
        "seconds: v.duration} : {}"
    )


def test_the_page_opens_from_disk_and_every_tab_by_mouse_and_keys(page, shown):
    visit(page, shown / "run" / "report")
    assert page.title == "run · seehear report"
    found = data(shown / "run" / "report", "report")["health"]["verdict"]
    until(lambda: one(page, ".verdict h2").text == found["title"])
    assert len(many(page, "svg.chart")) == 9
    ranks = [entry["rankme"] for entry in Run.open(shown / "run").read_log()]
    chart = page.find_element(By.XPATH, "//figure[h3='RankMe']")
    cells = [cell.get_attribute("textContent") for cell in chart.find_elements(By.XPATH, ".//td")]
    assert cells == [f"{rank[name]:.0f}" for rank in ranks for name in ("video", "audio")]
    assert all(text.text.startswith("Good: ") for text in many(page, "figcaption.good"))
    tabs = many(page, "[role=tab]")
    titles = ["Health", "Clusters", "Video meets audio", "Map", "Find", "Names"]
    assert [tab.text for tab in tabs] == titles
    for tab, view in zip(tabs, VIEWS, strict=True):
        tab.click()
        until(lambda tab=tab: tab.get_attribute("aria-selected") == "true")
        assert page.current_url.endswith(f"#{view}")
        until(lambda: one(page, "#panel > *").is_displayed())
    tabs[-1].send_keys(Keys.ARROW_RIGHT)
    until(lambda: page.current_url.endswith("#health"))
    page.switch_to.active_element.send_keys(Keys.END)
    until(lambda: page.current_url.endswith("#names"))
    assert page.switch_to.active_element.text == "Names"


def test_a_run_in_alternating_order_shows_both_students(page, shown, tmp_path):
    how = {**FIXED, "rounds": 3, "cluster.num_clusters": (3, 5), "train.order": "alternating"}
    run = seehear.pretrain(shown / "index", tmp_path / "run", preset="debug", settings=how)
    report = Path(seehear.report(run.path, previews=4, workers=1).path).parent
    visit(page, report)
    assert len(many(page, "svg.chart")) == 9
    labels = [chart.get_attribute("aria-label") for chart in many(page, "svg.chart")]
    for title in ("Loss", "Pseudo-label accuracy", "RankMe", "Largest cluster", "Cluster sizes"):
        (label,) = [label for label in labels if label.startswith(title)]
        assert "video" in label
        assert "audio" in label
    largest = page.find_element(By.XPATH, "//figure[h3='Largest cluster']")
    assert "from one in the root of K (58% of 3, 45% of 5)" in largest.text
    assert not largest.find_elements(By.CSS_SELECTOR, ".guide")  # each number has its own
    opening = data(report, "report")["opening"]
    other = "5" if opening == "joint_3" else "3"
    visit(page, report, "clusters")
    assert chosen(page) == ["Joint", opening.removeprefix("joint_")]
    choose(page, "Video")
    until(lambda: page.current_url.endswith("#clusters/" + opening.replace("joint", "video")))
    choose(page, other)
    until(lambda: page.current_url.endswith(f"#clusters/video_{other}"))
    title = until(lambda: one(page, ".card h3").text)
    assert re.fullmatch(rf"Video \d of {other}", title)
    visit_tab(page, "matrix")
    until(lambda: chosen(page) == [other])  # what was looked at last
    choose(page, opening.removeprefix("joint_"))
    visit_tab(page, "names")
    until(lambda: chosen(page) == ["Video", opening.removeprefix("joint_")])
    visit(page, report, "map/video")
    colour = Select(one(page, ".tools select"))
    colour.select_by_visible_text("Video (3) label by round")  # the first round has those of audio
    slider = one(page, ".tools input[type=range]")
    assert slider.get_attribute("max") == "1"
    assert until(lambda: one(page, ".map-legend").text)


def chosen(driver: Chrome) -> list[str]:
    """The texts of the buttons that are chosen."""
    return [node.text for node in many(driver, ".choice input:checked + span")]


def choose(driver: Chrome, text: str) -> None:
    """Click the button of that text."""
    driver.find_element(By.XPATH, f"//span[.='{text}']/preceding-sibling::input").click()


def visit_tab(driver: Chrome, view: str) -> None:
    one(driver, f"#tab-{view}").click()
    until(lambda: one(driver, "#panel > *").is_displayed())


def test_previews_move_on_hover_and_sound_on_a_click(page, shown):
    visit(page, shown / "run" / "report", "clusters/video")
    tile = one(page, ".card .tile")
    assert page.execute_script("return document.querySelectorAll('video').length") == 0
    ActionChains(page).move_to_element(tile).perform()
    until(lambda: video(page).get("at", 0) > 0.2)
    now = video(page)
    assert (now["muted"], now["paused"], now["loop"]) == (True, False, True)
    assert 1.8 <= now["seconds"] <= 2.2
    tile.click()
    assert until(lambda: video(page)["sound"]) > 0
    assert video(page)["picture"] > 0
    assert video(page)["muted"] is False
    assert tile.get_attribute("aria-pressed") == "true"
    ActionChains(page).move_to_element(one(page, "h1")).perform()
    assert video(page)["muted"] is False  # who asked for sound keeps it
    press(page, Keys.ESCAPE)
    until(lambda: video(page) == {})
    for picture in many(page, ".card:first-child img"):
        assert picture.get_attribute("naturalWidth") != "0"


def test_previews_by_keyboard_alone(page, shown):
    visit(page, shown / "run" / "report", "clusters/audio")
    one(page, ".card h3 a")
    page.execute_script("document.querySelector('input[type=search]').focus()")
    press(page, Keys.TAB, Keys.TAB)
    assert page.switch_to.active_element.get_attribute("class") == "tile moving"
    until(lambda: video(page).get("at", 0) > 0.1)
    first = page.switch_to.active_element.get_attribute("data-row")
    press(page, Keys.ARROW_RIGHT)
    assert page.switch_to.active_element.get_attribute("data-row") != first
    press(page, Keys.ENTER)
    until(lambda: video(page).get("muted") is False)
    assert page.execute_script("return document.querySelectorAll('video').length") == 1
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert page.execute_script(outline) != "none"
    press(page, Keys.ENTER)
    until(lambda: video(page) == {})


def test_who_wants_less_motion_gets_none_unasked(page, shown):
    prefer(page, motion="reduce")
    visit(page, shown / "run" / "report", "clusters")
    tile = one(page, ".card .tile")
    ActionChains(page).move_to_element(tile).perform()
    time.sleep(0.2)
    assert video(page) == {}
    tile.click()
    until(lambda: video(page).get("at", 0) > 0)


def test_order_and_filter(page, shown):
    report = shown / "run" / "report"
    visit(page, report, "clusters/video")
    cards = next(s for s in data(report, "report")["spaces"] if s["name"] == "video")["cards"]

    def order() -> list[int]:
        return [int(card.get_attribute("data-cluster")) for card in many(page, ".card")]

    until(order)
    assert order() == [
        c["cluster"] for c in sorted(cards, key=lambda c: (-c["size"], c["cluster"]))
    ]
    keys = {
        "compactness": lambda c: c["compactness"],
        "purity": lambda c: -c["purity"],
        "number": lambda c: 0,
    }
    for value, key in keys.items():
        page.execute_script(
            "const s = document.querySelector('select'); s.value = arguments[0]; "
            "s.dispatchEvent(new Event('change'))",
            value,
        )
        assert order() == [
            c["cluster"] for c in sorted(cards, key=lambda c: (key(c), c["cluster"]))
        ], value
    search = one(page, "input[type=search]")
    search.send_keys("video 3")
    assert order() == [3]
    search.clear()
    search.send_keys("ROW")
    names = sorted(CLASSES)
    assert order() == [
        c["cluster"] for c in cards if any("row" in names[k] for k, _ in c["classes"])
    ]
    search.send_keys(" nothing like it")
    assert order() == []
    until(lambda: "0 clusters of" in one(page, ".count").text)
    search.clear()
    search.send_keys(" ")


def test_a_cluster_opens_to_its_members(page, shown):
    report = shown / "run" / "report"
    visit(page, report, "clusters/video")
    card = one(page, ".card")
    cluster = card.get_attribute("data-cluster")
    card.find_element(By.CSS_SELECTOR, "h3 a").click()
    wanted = data(report, f"members/video-{cluster}")
    until(lambda: len(many(page, ".members .segment")) == len(wanted["row"]))
    texts = [node.get_attribute("textContent") for node in many(page, ".members bdi.file")]
    assert texts == wanted["path"]
    assert page.switch_to.active_element.tag_name == "h2"
    options = many(page, ".members select")[1].find_elements(By.TAG_NAME, "option")
    options[-1].click()
    chosen = int(options[-1].get_attribute("value"))
    assert len(many(page, ".members .segment")) == wanted["class"].count(chosen)
    press(page, Keys.ESCAPE)
    until(lambda: page.current_url.endswith("#clusters/video"))
    page.back()
    until(lambda: many(page, ".members .segment"))


def test_long_lists_come_in_pages(page, simulated):
    visit(page, simulated, "clusters/video")
    until(lambda: len(many(page, ".card")) == 24)
    until(lambda: "40 clusters" in one(page, ".count").text)
    one(page, ".pager button:last-child").click()
    until(lambda: len(many(page, ".card")) == 16)
    until(lambda: one(page, ".pager button:last-child").get_attribute("disabled"))
    until(lambda: one(page, ".pager .where").text == "Page 2 of 2")
    one(page, ".card h3 a").click()
    until(lambda: len(many(page, ".members .segment")) == 48)
    rows = [tile.get_attribute("data-row") for tile in many(page, ".members .tile")]
    one(page, ".members .pager button:last-child").click()
    until(lambda: "Page 2" in one(page, ".where").text)
    others = [tile.get_attribute("data-row") for tile in many(page, ".members .tile")]
    assert not set(rows) & set(others)
    assert page.current_url.endswith("/1")
    until(lambda: "12 of 2,600 segments have a preview" in one(page, "#foot").text)
    assert any(tile.text == "No preview" for tile in many(page, ".members .tile"))


def test_the_matrix_by_mouse_and_keyboard(page, shown):
    report = shown / "run" / "report"
    visit(page, report, "matrix")
    found = data(report, "meetings")[0]
    canvas = one(page, "canvas.matrix")
    table = pq.read_table(shown / "run" / "clusters" / "labels.parquet")
    video_N, audio_N = table["video"].to_numpy(), table["audio"].to_numpy()

    def opened() -> tuple[int, int, int]:
        v, a = map(int, page.current_url.split("/")[-2:])
        both = int(((video_N == v) & (audio_N == a)).sum())
        until(lambda: len(many(page, ".cell-side .segment")) == both)
        return v, a, both

    r, c, _ = max(found["cells"], key=lambda cell: cell[2])
    width, height = canvas.size["width"], canvas.size["height"]
    # 108 pixels of labels at the left, 74 above, 2 of border
    cell = (width - 110) / len(found["columns"])
    x, y = 108 + (c + 0.5) * cell - width / 2, 74 + (r + 0.5) * cell - height / 2
    ActionChains(page).move_to_element_with_offset(canvas, round(x), round(y)).click().perform()
    until(lambda: many(page, ".cell-side .segment"))
    v, a, both = opened()
    assert (v, a) == (found["rows"][r], found["columns"][c])
    until(lambda: f"{both} segment" in one(page, ".tip").text)
    one(page, ".close").click()
    until(lambda: not many(page, ".cell-side .segment"))
    page.execute_script("document.querySelector('canvas.matrix').focus()")
    press(page, Keys.HOME, *[Keys.ARROW_UP] * 9)
    press(page, Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ENTER)
    until(
        lambda: (
            page.current_url.count("/") > 4 and page.current_url.endswith(f"/{found['columns'][2]}")
        )
    )
    v, a, _ = opened()
    assert (v, a) == (found["rows"][1], found["columns"][2])
    press(page, Keys.ESCAPE)
    assert page.switch_to.active_element == canvas
    until(lambda: page.current_url.endswith("#matrix/0"))


def test_the_map_by_mouse_and_keyboard(page, shown):
    import base64

    report = shown / "run" / "report"
    visit(page, report, "map")
    until(lambda: many(page, ".key-button"))
    packed = data(report, "map")["positions"]["video"]
    xy = np.frombuffer(base64.b64decode(packed), "<u2").reshape(-1, 2).astype(float)
    canvas = one(page, "canvas.map")
    width, height = canvas.size["width"], canvas.size["height"]
    low, high = xy.min(axis=0), xy.max(axis=0)
    scale = min((width - 32) / (high - low)[0], (height - 32) / (high - low)[1])
    lonely = max(range(VIDEOS), key=lambda i: np.sort(((xy - xy[i]) ** 2).sum(axis=1))[1])
    offset = (xy[lonely] - (low + high) / 2) * scale * [1, -1]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    ActionChains(page).move_to_element_with_offset(
        canvas, round(offset[0]), round(offset[1])
    ).perform()
    until(lambda: one(page, ".map-card .tile").get_attribute("data-row") == str(lonely))
    until(lambda: video(page).get("at", 0) > 0.1)
    ActionChains(page).click().perform()
    until(lambda: video(page)["muted"] is False)
    page.execute_script("document.querySelector('canvas.map').focus()")
    press(page, Keys.ARROW_LEFT if offset[0] > 0 else Keys.ARROW_RIGHT)
    until(lambda: one(page, ".map-card .tile").get_attribute("data-row") != str(lonely))
    press(page, Keys.ENTER)
    until(lambda: video(page).get("muted") is False)
    press(page, Keys.ESCAPE)
    until(lambda: video(page) == {})


def test_the_map_in_other_colours(page, shown):
    visit(page, shown / "run" / "report", "map/audio")
    until(lambda: len(many(page, ".key-button")) == len(CLASSES))
    for value, count in (("cluster video", CLUSTERS), ("round audio", None)):
        page.execute_script(
            "const s = document.querySelector('.tools select'); s.value = arguments[0]; "
            "s.dispatchEvent(new Event('change'))",
            value,
        )
        until(lambda count=count: count is None or len(many(page, ".key-button")) == count)
    slider = one(page, "input[type=range]")
    slider.send_keys(Keys.HOME)
    until(lambda: "Round 1" in one(page, ".tools").text)
    labels = pq.read_table(shown / "run" / "rounds" / "000" / "labels.parquet")["audio"].to_numpy()
    until(lambda: len(many(page, ".key-button")) == len(set(labels.tolist())))
    one(page, ".key-button").click()
    until(lambda: one(page, ".key-button").get_attribute("aria-pressed") == "true")


def test_names_are_downloaded_from_disk(page, shown, tmp_path):
    visit(page, shown / "run" / "report", "names/video")
    first = one(page, ".naming input")
    first.click()
    press(page, "rain <b>", Keys.ENTER, "\u05e9\u05dc\u05d5\u05dd")
    until(lambda: "2 names" in one(page, ".save-bar").text)
    labels = [node.get_attribute("aria-label") for node in many(page, ".naming input")[:2]]
    numbers = [label.rsplit(" ", 1)[1] for label in labels]
    allow = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.execute_cdp_cmd("Browser.setDownloadBehavior", allow)
    one(page, ".save-bar button.main").click()
    until(lambda: (tmp_path / "names.json").exists() and (tmp_path / "names.json").stat().st_size)
    saved = json.loads((tmp_path / "names.json").read_text(encoding="utf-8"))
    assert saved == {
        "format": 1,
        "names": {"video": {numbers[0]: "rain <b>", numbers[1]: "\u05e9\u05dc\u05d5\u05dd"}},
    }
    page.get((shown / "run" / "report" / "index.html").as_uri() + f"#clusters/video/{numbers[0]}")
    page.refresh()
    until(lambda: one(page, "h2 bdi").text == "rain <b>")  # what was typed is kept
    page.execute_script("localStorage.clear()")


def test_names_are_saved_to_the_run_when_it_is_served(page, shown):
    run = shown / "run"
    with served(run / "report", run) as server:
        page.get(f"{server.address}#clusters/audio/1")
        field = one(page, ".name-input")
        field.send_keys("dog")
        until(lambda: one(page, "h2 bdi").text == "dog")
        many(page, "[role=tab]")[-1].click()
        one(page, ".save-bar button.main").click()
        until(lambda: "Saved to" in one(page, ".save-bar").text)
        assert read_names(run) == {"audio": {1: "dog"}}
        page.get("about:blank")
        page.get(f"{server.address}#names/audio")
        until(
            lambda: "dog" in [node.get_attribute("value") for node in many(page, ".naming input")]
        )
        tile = one(page, ".tile")
        tile.click()
        until(lambda: video(page).get("sound", 0) > 0)
        page.get("about:blank")
        (run / "names.json").unlink(missing_ok=True)


def test_what_another_browser_saved_meanwhile_stays_beside_what_is_saved_here(page, shown):
    run = shown / "run"
    write_names(run, {"audio": {0: "cat", 1: "cow"}}, {"cow": {2: True}})
    with served(run / "report", run) as server:
        page.get(f"{server.address}#clusters/audio/1")
        one(page, ".name-input").send_keys("bell")
        until(lambda: one(page, "h2 bdi").text == "cowbell")
        write_names(
            run, {"audio": {0: "kitten", 1: "cow"}, "video": {1: "sun"}}, {"sun": {5: False}}
        )
        many(page, "[role=tab]")[-1].click()
        one(page, ".save-bar button.main").click()
        until(lambda: "Saved to" in one(page, ".save-bar").text)
        wanted = {"audio": {0: "kitten", 1: "cowbell"}, "video": {1: "sun"}}
        assert (read_names(run), read_ticks(run)) == (wanted, {"sun": {5: False}})
        (told,) = complaints(page)  # the first answer, which this page goes by
        assert "409 (Conflict)" in told
        page.get("about:blank")
        (run / "names.json").unlink()


def found(driver: Chrome) -> list[int]:
    """The rows that are shown as found, in their order."""
    return [int(tile.get_attribute("data-row")) for tile in many(driver, "#panel .grid .tile")]


def test_find_by_name_by_example_and_all_of_a_file(page, shown):
    report = shown / "run" / "report"
    visit(page, report, "find")
    until(lambda: len(found(page)) == VIDEOS)
    one(page, "#panel input[type=search]").send_keys(CLASSES[1])
    until(lambda: 0 < len(found(page)) < VIDEOS)
    columns = data(report, "map")["segments"]
    classes = np.frombuffer(base64.b64decode(columns["class"]), "<i4")
    assert {int(classes[row]) for row in found(page)} == {sorted(CLASSES).index(CLASSES[1])}
    visit(page, report, "clusters/video/1")
    tile = until(lambda: many(page, ".members .segment"))[0]
    row = int(tile.find_element(By.CSS_SELECTOR, ".tile").get_attribute("data-row"))
    similar, same = tile.find_elements(By.CSS_SELECTOR, ".ways a")
    address = same.get_attribute("href")
    similar.click()
    until(lambda: len(found(page)) == VIDEOS)
    assert found(page)[0] == row
    assert one(page, ".mark-button").get_attribute("aria-pressed") == "true"
    page.get("about:blank")
    page.get(address)
    until(lambda: found(page) == [row])
    assert one(page, "#panel h2").text == columns["path"][row]


def test_ticks_and_crosses_move_what_is_found_and_are_kept_with_the_names(page, shown, tmp_path):
    visit(page, shown / "run" / "report", "find/like/3")
    until(lambda: found(page)[:1] == [3])
    last = found(page)[-1]
    many(page, ".mark-button")[-2].click()  # the least like it is meant, too
    until(lambda: last in found(page)[:2])
    crossed = found(page)[2]
    many(page, ".mark-button")[5].click()
    until(lambda: found(page).index(crossed) > 2)
    called = one(page, ".tools input[type=text]")
    called.send_keys("<b>rain</b>", Keys.TAB)
    until(lambda: "3 ticks" in one(page, ".save-bar").text)
    page.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    one(page, ".save-bar button.main").click()
    path = tmp_path / "names.json"
    until(lambda: path.exists() and path.stat().st_size)
    kept = {"<b>rain</b>": {3: True, last: True, crossed: False}}
    assert checked_ticks(json.loads(path.read_text(encoding="utf-8"))) == kept
    assert one(page, ".chips .chip bdi").text == "<b>rain</b>"
    assert many(page, "#content b") == []
    page.execute_script("localStorage.clear()")


def test_a_served_page_searches_the_whole_run(page, shown):
    run = shown / "run"
    with served(run / "report", run) as server:
        page.get(f"{server.address}#find/like/5")
        until(lambda: "in the whole run" in one(page, "#panel .count").text, 60)
        expected = search_like(run, [5], top=VIDEOS, device="cpu")["row"].to_pylist()
        assert found(page) == expected
        many(page, ".mark-button")[5].click()  # not the third
        expected = search_like(run, [5], [expected[2]], top=VIDEOS, device="cpu")
        until(lambda: found(page) == expected["row"].to_pylist(), 30)
        page.get("about:blank")


def test_one_file_needs_nothing_beside_it(browser, shown, tmp_path):
    seehear.report(
        shown / "run",
        classes=shown / "classes.csv",
        out=tmp_path / "made" / "page",
        single_file=True,
        workers=1,
    )
    alone = tmp_path / "alone" / "page.html"
    alone.parent.mkdir()
    (tmp_path / "made" / "page.html").rename(alone)
    browser.get("about:blank")
    requests(browser)
    complaints(browser)
    browser.get(alone.as_uri() + "#clusters/video/1")
    tile = until(lambda: many(browser, ".members .tile"))[0]
    tile.click()
    until(lambda: video(browser).get("sound", 0) > 0)
    browser.get("about:blank")
    browser.get(alone.as_uri() + "#find/like/3")
    until(lambda: found(browser)[:1] == [3])
    browser.execute_script(
        "window.hacked = 0; eval2 = document.createElement('script'); "
        "eval2.textContent = 'window.hacked = 1'; document.head.append(eval2)"
    )
    assert browser.execute_script("return window.hacked") == 0
    asked = [url for url in requests(browser) if not url.startswith(("data:", "blob:", "about:"))]
    assert {url.partition("#")[0] for url in asked} == {alone.as_uri()}
    assert all("Content Security Policy" in text for text in complaints(browser))


def test_hostile_names_stay_text(page, shown):
    report = shown / "run" / "report"
    seen: set[str] = set()
    for k in range(CLUSTERS):
        visit(page, report, f"clusters/video/{k}")
        until(lambda: many(page, ".members .segment"))
        texts = (
            "return [...document.querySelectorAll('bdi.file, bdi.chip')].map((node) => "
            "node.textContent)"
        )
        seen |= set(page.execute_script(texts))
        assert (
            many(page, "#content script, #content b, #content img[onerror], #content [onfocus]")
            == []
        )
    assert set(NAMES) | set(CLASSES) <= seen
    for view in VIEWS:
        visit(page, report, view)
        one(page, "#panel > *")
    assert page.execute_script("return typeof window.hacked") == "undefined"
    assert {script.get_attribute("src")[:5] for script in many(page, "script")} == {"file:"}


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, shown, scheme):
    axe_core = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    source = next(Path(axe_core.__path__[0]).glob("axe*.js")).read_text(encoding="utf-8")
    prefer(page, scheme=scheme)
    views = (
        (*VIEWS, "clusters/video/0", "matrix/0/0/0")
        if scheme == "light"
        else ("health", "clusters", "map", "find/like/3", "names")
    )
    # nothing else depends on colours
    rules = {} if scheme == "light" else {"runOnly": ["color-contrast"]}
    for view in views:
        visit(page, shown / "run" / "report", view)
        one(page, "#panel > *")
        if view.startswith("map"):
            until(lambda: many(page, ".key-button"))
            page.execute_script("document.querySelector('canvas.map').focus()")
            press(page, Keys.ARROW_LEFT)
        page.execute_script(source)
        found = page.execute_async_script("axe.run(arguments[0]).then(arguments[1])", rules)
        serious = [
            (v["id"], v["nodes"][0]["html"], v["nodes"][0].get("failureSummary"))
            for v in found["violations"]
            if v["impact"] in ("serious", "critical")
        ]
        assert serious == [], view
        assert len(found["passes"]) > (10 if scheme == "light" else 0)


def test_the_theme_follows_the_system_until_it_is_chosen(page, shown):
    background = "return getComputedStyle(document.body).backgroundColor"
    prefer(page, scheme="dark")
    visit(page, shown / "run" / "report")
    dark = page.execute_script(background)
    prefer(page, scheme="light")
    light = page.execute_script(background)
    assert dark != light
    button = one(page, "#theme")
    button.click()
    button.click()
    assert button.text == "Theme: dark"
    assert page.execute_script(background) == dark
    page.refresh()
    assert page.execute_script(background) == dark
    page.execute_script("localStorage.clear()")


def test_nothing_is_wider_than_a_phone(page, shown, simulated):
    resize(page, 390, 844)
    for report, views in (
        (shown / "run" / "report", (*VIEWS, "clusters/video/0")),
        (simulated, ("matrix", "map")),
    ):
        for view in views:
            visit(page, report, view)
            one(page, "#panel > *")
            assert page.execute_script("return document.documentElement.scrollWidth") <= 390, view


def test_an_unfinished_run_shows_its_health_and_says_what_is_missing(page, shown, tmp_path):
    import shutil

    shutil.copytree(
        shown / "run",
        tmp_path / "run",
        ignore=shutil.ignore_patterns("clusters", "report", "features"),
    )
    seehear.report(tmp_path / "run")
    visit(page, tmp_path / "run" / "report")
    assert len(many(page, "svg.chart")) == 9
    for view in VIEWS[1:]:
        visit(page, tmp_path / "run" / "report", view)
        until(lambda: "Not there yet" in one(page, "#panel").text)
