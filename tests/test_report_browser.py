"""The reviewers' page opened from a disk in a real browser."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from analysis.report.data import ReportData
from analysis.report.page import build_report
from analysis.report.page_figures import draw_tuning
from scaling.core.records import Trial, Tuning
from tests.report_page import ATTACK, CHROMIUM, FRAMES, TRIALS, full_data


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    return build_report(folder / "report", full_data(folder))


class Tab:
    """A page opened from the disk, with all that it asked for and complained of."""

    def __init__(self, browser: Any, index: Path, **settings: Any) -> None:
        # High enough for every row, because clips out of sight wait until they are scrolled to.
        settings = {"reduced_motion": "reduce", "viewport": {"width": 1280, "height": 1600}, **settings}
        self.page = browser.new_context(**settings).new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.goto(index.as_uri())
        self.page.wait_for_selector("body[data-moment]")

    def press(self, key: str, settled: str) -> None:
        self.page.keyboard.press(key)
        self.page.wait_for_selector(f"body[{settled}]")

    def numbers(self) -> list[int]:
        """The number that each clip of the comparison shows, read from the pixels of a screenshot."""
        return [self._read(video) for video in self.page.query_selector_all("#grid video")]

    @staticmethod
    def _read(video: Any) -> int:
        with av.open(io.BytesIO(video.screenshot())) as picture:
            image = next(picture.decode(video=0)).to_ndarray(format="gray")
        row = image[image.shape[0] // 2]
        return sum((row[int((bit + 0.5) * len(row) / 8)] > 128) << bit for bit in range(5))


def test_asks_no_network_and_runs_no_caption(browser: Any, full_page: Path) -> None:
    tab = Tab(browser, full_page)
    assert [url for url in tab.requests if not url.startswith(("blob:", "data:"))] == [full_page.as_uri()]
    assert tab.complaints == []
    assert tab.page.evaluate("window.pwned") is None
    assert tab.page.query_selector("#grid img, #grid b") is None
    assert ATTACK.replace("\u2028", "") in tab.page.text_content("#grid").replace("\u2028", "")


def test_all_clips_show_the_same_frame(browser: Any, full_page: Path) -> None:
    tab = Tab(browser, full_page)
    assert tab.numbers() == [0 + 2] * 5
    for frame in (1, 2, 3):
        tab.press("ArrowRight", f'data-frame="{frame}"')
        assert tab.numbers() == [frame + 2] * 5
    tab.press("[", 'data-moment="1"')
    assert tab.numbers() == [3 + 1] * 5
    tab.press("[", 'data-moment="0"')
    for frame in (2, 1, 0, FRAMES - 1):
        tab.press("ArrowLeft", f'data-frame="{frame}"')
    assert tab.numbers() == [FRAMES - 1] * 5


def test_plays_in_lock_step(browser: Any, full_page: Path) -> None:
    tab = Tab(browser, full_page, reduced_motion="no-preference")
    tab.page.wait_for_selector(", ".join(f'body[data-frame="{frame}"]' for frame in range(4, FRAMES)))
    times = "Array.from(document.querySelectorAll('#grid video'), (video) => Math.floor(8 * video.currentTime))"
    tab.page.keyboard.press(" ")
    frame = int(tab.page.input_value("#frame"))
    tab.page.wait_for_selector(f'body[data-frame="{frame}"]')
    assert tab.page.evaluate(times) == [frame] * 5
    assert tab.numbers() == [frame + 2] * 5


def test_trials_are_shown_where_there_were_some(browser: Any, full_page: Path, tmp_path: Path) -> None:
    assert Tab(browser, full_page).page.query_selector("#tuning") is None
    trials = [Trial(run_id=f"t{i}", rates={"muon_lr": rate}, val_loss=loss) for i, (rate, loss) in enumerate(TRIALS)]
    tuning = Tuning(asked={"size": "w64d2", "multiple": 1}, trials=tuple(trials), chosen=trials[1])
    data = full_data(tmp_path).replace(tuning=draw_tuning(tmp_path / "figures", tuning))
    tab = Tab(browser, build_report(tmp_path / "report", data))
    assert tab.page.evaluate("document.querySelector('#trials img').naturalWidth") > 0
    caption = tab.page.text_content("#trials figcaption")
    assert caption.startswith(
        "muon_lr 0.02. The lowest loss (0.7000) of 3 trials of w64d2 at the base compute, of which 1"
    )
    assert tab.complaints == []


def test_reduced_motion_does_not_play(browser: Any, full_page: Path) -> None:
    assert Tab(browser, full_page).page.text_content("#play") == "Play"
    assert Tab(browser, full_page, reduced_motion="no-preference").page.text_content("#play") == "Pause"


def test_missing_is_said_never_zero(browser: Any, full_page: Path) -> None:
    tab = Tab(browser, full_page)
    assert tab.page.text_content(".hole") == "node n3 died"
    header = tab.page.query_selector_all(".column")[2].text_content()
    assert header.endswith("FVDnot measured")
    assert "The VAE was not measured." in tab.page.text_content("#vae")


def test_page_with_only_a_title(browser: Any, tmp_path: Path) -> None:
    tab = Tab(browser, build_report(tmp_path, ReportData(title="Nothing yet", missing={"comparison": "not run yet"})))
    assert tab.complaints == []
    assert tab.page.text_content("#comparison-missing") == "not run yet"
    assert not tab.page.is_visible("#controls")


def test_table_sorts_with_unknown_last(browser: Any, full_page: Path) -> None:
    tab = Tab(browser, full_page)
    button = tab.page.get_by_role("button", name="FVD")
    order = "Array.from(document.querySelectorAll('tbody th'), (cell) => cell.textContent)"
    button.click()
    assert tab.page.evaluate(order) == ["dit-4x", "dit-base", "dit-32x"]
    button.click()
    assert tab.page.evaluate(order) == ["dit-base", "dit-4x", "dit-32x"]


def test_forecast_in_words(browser: Any, full_page: Path) -> None:
    words = Tab(browser, full_page).page.inner_text("#forecast")
    assert "between 0.6600 and 0.6800 with 95\u00a0% probability" in words
    assert "measured 0.6680, inside the interval; the forecast was 0.30\u00a0% too high." in words


def test_narrow_and_zoomed_pages_do_not_overflow(browser: Any, full_page: Path) -> None:
    for width in (400, 640):
        tab = Tab(browser, full_page, viewport={"width": width, "height": 450})
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_control_has_a_name(browser: Any, full_page: Path) -> None:
    tab = Tab(browser, full_page)
    unnamed = """Array.from(document.querySelectorAll('button, input, select, video, img'), (node) =>
        node.getAttribute('aria-label') || node.alt || node.textContent || node.closest('label')?.textContent)
        .filter((name) => !name || !name.trim()).length"""
    assert tab.page.evaluate(unnamed) == 0
