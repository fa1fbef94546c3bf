"""The reviewers' page, built from little and from everything, and opened from a disk in a real browser."""

import argparse
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from pydantic import ValidationError

from analysis.forecast.forecast import Band, Forecast, LawCheck
from analysis.report.data import Clip, Column, Figure, Prediction, Prompt, ReportData
from analysis.report.figures import draw_tuning
from analysis.report.page import build_report, script_json
from scaling.core.errors import UserError
from scaling.core.records import Metric, RunRecord, Trial, Tuning, read_record, write_record
from scaling.core.specs import DiTSpec, EvalSpec, OptimSpec, VAESpec, VAETrainSpec
from scaling.core.stage import DiTFields, Stage, StageFolder, VAEFields
from scaling.core.store import write_document
from sweeps import report_inputs as verb

CHROMIUM = shutil.which("chromium")
COMPUTE = ("base", "4x", "32x")
FRACTIONS = (0.1, 0.3, 1.0)
FRAMES = 17
TRIALS = ((0.01, 0.8), (0.02, 0.7), (0.2, None))
ATTACK = "</script><img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>\u2028<b>bold</b> & 'quotes'"


def write_clip(path: Path, frames: int = FRAMES, codec: str = "libx264", offset: int = 0) -> Path:
    """A 64 x 64 clip at 8 fps whose frame `i` shows the number (i + offset) % 32 as five black or white bars."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(frames):
            bits = [255 * ((i + offset) >> bit & 1) for bit in range(5)]
            image = np.repeat(np.array([*bits, 128, 128, 128], np.uint8), 8)[None, :, None]
            frame = av.VideoFrame.from_ndarray(np.broadcast_to(image, (64, 64, 3)).copy(), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_picture(path: Path) -> Path:
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20"><circle cx="10" cy="10" r="5"/></svg>')
    return path


def full_data(folder: Path) -> ReportData:
    """Three columns, three moments, two prompts; clip (column, moment) starts its count at an offset of its own moment,
    the last cell is missing, the 32x run has no FVD."""
    clips = []
    for compute in COMPUTE:
        for moment, fraction in enumerate(FRACTIONS):
            path = write_clip(folder / f"{compute}-{moment}.mp4", offset=moment)
            clips += [Clip(compute=compute, fraction=fraction, prompt=0, path=path)]
            if compute == "32x":
                clips += [Clip(compute=compute, fraction=fraction, prompt=1, reason="node n3 died")]
            else:
                clips += [Clip(compute=compute, fraction=fraction, prompt=1, path=path)]
    runs = tuple(
        RunRecord(
            run_id=f"dit-{compute}",
            stage="dit",
            compute=compute,
            n_params=n,
            num_tokens=10 * n,
            flop_budget=1e12 * n,
            train_flops=1e12 * n,
            vae_id="vae-1",
            metrics=(
                Metric(name="val_loss", value=0.7 - 0.001 * n, standard_error=0.002, n=256),
                *((Metric(name="fvd", value=900.0 - n, n=48, extractor="i3d_k400"),) if n < 32 else ()),
            ),
        )
        for compute, n in zip(COMPUTE, (1, 4, 32), strict=True)
    )
    return ReportData(
        title="A sweep",
        sweep="demo",
        columns=tuple(Column(compute=compute, run_id=f"dit-{compute}") for compute in COMPUTE),
        fractions=FRACTIONS,
        prompts=(Prompt(text="a ball falls", seed=3), Prompt(text=ATTACK, seed=4)),
        clips=tuple(clips),
        prediction=Prediction(
            target_flops=3.2e13,
            n_params=32,
            num_tokens=320,
            val_loss=0.67,
            low=0.66,
            high=0.68,
            level=0.95,
            measured=0.668,
            relative_error=0.67 / 0.668 - 1,
            inside=True,
        ),
        figures=(Figure(title="Loss", caption="against compute", path=write_picture(folder / "loss.svg")),),
        runs=runs,
    )


# ---- Without a browser


def test_page_carries_everything_and_allows_nothing_else(tmp_path: Path) -> None:
    page = build_report(tmp_path / "report", full_data(tmp_path))
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]
    text = page.read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"(?:src|href|action)\s*=\s*[\"']?(?:https?:)?//", text)
    assert "unsafe-inline" not in text


def test_equal_clips_are_stored_once(tmp_path: Path) -> None:
    text = build_report(tmp_path / "report", full_data(tmp_path)).read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    assert len(data["media"]) == len(FRACTIONS)


def test_json_cannot_leave_its_script_tag() -> None:
    text = script_json({"caption": ATTACK})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text)["caption"] == ATTACK


def test_title_is_escaped(tmp_path: Path) -> None:
    text = build_report(tmp_path, ReportData(title="a <b> $& </title>")).read_text()
    assert "<title>a &lt;b&gt; $&amp; &lt;/title&gt;</title>" in text


def test_clip_needs_a_path_or_a_reason() -> None:
    with pytest.raises(ValidationError, match="either a path or a reason"):
        Clip(compute="4x", fraction=1.0, prompt=0)


def test_clip_of_no_cell_is_refused() -> None:
    with pytest.raises(ValidationError, match="no cell"):
        ReportData(title="", clips=(Clip(compute="4x", fraction=1.0, prompt=0, reason="why"),))


def one_clip(path: Path) -> ReportData:
    return ReportData(
        title="",
        columns=(Column(compute="base", run_id="dit-base"),),
        fractions=(1.0,),
        prompts=(Prompt(text="a ball", seed=0),),
        clips=(Clip(compute="base", fraction=1.0, prompt=0, path=path),),
    )


def test_unreadable_clip_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    with pytest.raises(UserError, match=r"broken\.mp4: cannot be read as a video"):
        build_report(tmp_path, one_clip(broken))
    with pytest.raises(UserError, match=r"absent\.mp4: cannot be read as a video"):
        build_report(tmp_path, one_clip(tmp_path / "absent.mp4"))


def test_clip_that_browsers_do_not_play_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mpeg4 plays in no browser"):
        build_report(tmp_path, one_clip(write_clip(tmp_path / "old.mp4", codec="mpeg4")))


# ---- From an output folder


def write_output(out: Path, runs: int = 2) -> list[str]:
    """An output folder with a VAE and `runs` finished runs of three columns; the others are only named."""
    folder = StageFolder.create(
        out / "runs", Stage(slug="vae", fields=VAEFields(vae=VAESpec(), train=VAETrainSpec()), parents={})
    )
    vae_id = folder.stage().id
    psnr = Metric(name="psnr", value=30.0, n=64)
    write_record(folder.record_path, RunRecord(run_id=vae_id, stage="vae", metrics=(psnr,)))
    measured, rfvd = out / "runs" / "reconstruction", Metric(name="rfvd", value=400.0, n=48)
    write_record(
        measured / "record.json",
        RunRecord(run_id="reconstruction", stage="reconstruction", parents={"vae": vae_id}, metrics=(rfvd,)),
    )
    StageFolder(measured).finish()
    for name in ("original-00.mp4", "decoded-00.mp4"):
        write_clip(folder.path / "reconstructions" / name)
    folder.finish()
    ids = []
    for n, compute in zip((1, 4, 32), COMPUTE, strict=True):
        fields = DiTFields(
            dit=DiTSpec(), optim=OptimSpec(), evaluation=EvalSpec(sample_at=(0.5, 1.0)), flop_budget=1e12 * n
        )
        stage = Stage(slug=f"dit-{compute}", fields=fields, parents={"vae": vae_id}, sweep="demo", compute=compute)
        ids.append(stage.id)
        if len(ids) > runs:
            continue
        folder = StageFolder.create(out / "runs", stage)
        loss = Metric(name="val_loss", value=0.7, standard_error=0.01)
        record = RunRecord(
            run_id=stage.id,
            stage="dit",
            sweep="demo",
            compute=compute,
            vae_id=vae_id,
            n_params=100 * n,
            num_tokens=1000,
            flop_budget=1e12 * n,
            train_flops=1e12 * n,
            metrics=(loss,),
        )
        write_record(folder.record_path, record)
        write_clip(folder.path / "samples" / "at-0.5" / "00.mp4")
        write_clip(folder.path / "samples" / "at-1" / "00.mp4")
        write_document(folder.path / "samples" / "prompts.json", [{"text": "a ball falls", "seed": 0}])
        folder.finish()
        write_record(
            out / "runs" / f"metrics-{compute}" / "record.json",
            RunRecord(
                run_id=f"metrics-{compute}",
                stage="metrics",
                parents={"dit": stage.id},
                metrics=(Metric(name="fvd", value=500.0, n=48),),
            ),
        )
        StageFolder(out / "runs" / f"metrics-{compute}").finish()
    write_document(out / "columns.json", [{"compute": c, "run_id": i} for c, i in zip(COMPUTE, ids, strict=True)])
    return ids


def planted_forecast(run_ids: list[str]) -> Forecast:
    """A forecast on record; its numbers are made up."""
    return Forecast(
        target_flops=3.2e13,
        n_params=900,
        n_params_low=800,
        n_params_high=1000,
        num_tokens=1e3,
        val_loss=0.6,
        low=0.5,
        high=0.7,
        level=0.9,
        noise=0.01,
        a=0.5,
        b=0.5,
        forms=(),
        law=LawCheck(E=0.1, A=1, B=1, alpha=0.3, beta=0.3, status="converged", reason="", n_params=900),
        optima=(),
        band=Band(flops=(1e12, 3.2e13), n_params=(1e5, 6e5), val_loss=(0.7, 0.6), low=(0.68, 0.5), high=(0.72, 0.7)),
        backtest=None,
        refusals=(),
        run_ids=tuple(run_ids),
        vae_id=None,
        seed=0,
    )


def test_collect_joins_runs_metrics_and_clips(tmp_path: Path) -> None:
    ids = write_output(tmp_path)
    write_document(tmp_path / "prediction.json", planted_forecast(ids).to_document())
    write_document(
        tmp_path / "outcome.json", {"measured": 0.61, "relative_error": -0.02, "inside": True, "n_params": 1}
    )
    data = verb.collect(tmp_path, commands=("scaling demo",))
    assert [run.run_id for run in data.runs] == ids[:2]
    assert data.runs[0].value("fvd") == 500.0
    assert data.fractions == (0.5, 1.0)
    assert [clip.reason for clip in data.clips] == [""] * 4 + ["this run has not started"] * 2
    assert data.prediction is not None
    assert (data.prediction.n_params, data.prediction.measured) == (900, 0.61)
    assert [figure.path.suffix for figure in data.figures] == [".svg", ".svg"]
    assert data.vae is not None
    assert len(data.vae.pairs) == 1
    assert [(metric.name, metric.value) for metric in data.vae.run.metrics] == [("psnr", 30.0), ("rfvd", 400.0)]
    assert data.recipe is not None
    assert data.recipe.commands[0] == "scaling demo"


def test_a_run_that_diverged_is_on_the_page_and_in_no_law(tmp_path: Path) -> None:
    ids = write_output(tmp_path)
    record = read_record(tmp_path / "runs" / ids[0] / "record.json")
    diverged = record.replace(run_id="dit-diverged", metrics=(), diverged_at=7)
    write_record(tmp_path / "runs" / "dit-diverged" / "record.json", diverged)
    StageFolder(tmp_path / "runs" / "dit-diverged").finish()
    write_document(tmp_path / "prediction.json", planted_forecast(ids).to_document())
    data = verb.collect(tmp_path)
    assert {run.run_id: run.diverged_at for run in data.runs} == {ids[0]: None, ids[1]: None, "dit-diverged": 7}
    assert len(data.figures) == 2


def test_collect_says_why_something_is_missing(tmp_path: Path) -> None:
    ids = write_output(tmp_path, runs=2)
    (tmp_path / "runs" / ids[1] / "COMPLETE").unlink()
    (tmp_path / "runs" / ids[0] / "samples" / "at-0.5" / "00.mp4").unlink()
    data = verb.collect(tmp_path)
    assert [clip.reason for clip in data.clips] == [
        "no at-0.5/00.mp4",
        "",
        *["this run has not finished"] * 2,
        *["this run has not started"] * 2,
    ]
    assert "prediction.json" in data.missing["prediction"]


def test_columns_of_other_prompts_do_not_compare(tmp_path: Path) -> None:
    ids = write_output(tmp_path)
    write_document(tmp_path / "runs" / ids[1] / "samples" / "prompts.json", [{"text": "a ball falls", "seed": 1}])
    with pytest.raises(UserError, match="different prompts or seeds"):
        verb.collect(tmp_path)


def test_column_may_not_point_outside(tmp_path: Path) -> None:
    write_output(tmp_path)
    write_document(tmp_path / "columns.json", [{"compute": "base", "run_id": "../../etc"}])
    with pytest.raises(UserError, match=r"columns\.json: column 0: run_id"):
        verb.collect(tmp_path)


def test_verb_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_output(tmp_path)
    parser = argparse.ArgumentParser()
    verb.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["report", str(tmp_path), "--json"])
    assert arguments.run(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert Path(result["page"]).is_file()
    assert (result["runs"], result["clips"], result["missing_clips"]) == (2, 4, 2)


def test_folder_without_runs_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder of runs"):
        verb.collect(tmp_path / "nowhere")


# ---- In a browser


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
    said = tab.page.text_content("#trials figcaption")
    assert said.startswith(
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
