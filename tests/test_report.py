"""The reviewers' page as a file: what it carries, escapes and refuses."""

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from analysis.report.data import ComparisonColumn, PageClip, Prompt, ReportData
from analysis.report.page import build_report, script_json
from scaling.core.errors import UserError
from tests.report_page import ATTACK, FRACTIONS, full_data, write_clip


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
        PageClip(compute="4x", fraction=1.0, prompt=0)


def test_clip_of_no_cell_is_refused() -> None:
    with pytest.raises(ValidationError, match="no cell"):
        ReportData(title="", clips=(PageClip(compute="4x", fraction=1.0, prompt=0, reason="why"),))


def one_clip(path: Path) -> ReportData:
    return ReportData(
        title="",
        columns=(ComparisonColumn(compute="base", run_id="dit-base"),),
        fractions=(1.0,),
        prompts=(Prompt(text="a ball", seed=0),),
        clips=(PageClip(compute="base", fraction=1.0, prompt=0, path=path),),
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
