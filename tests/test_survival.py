"""The table of benchmarks.survival says what was measured, also where this project does worse."""

from benchmarks.survival import cluster
from benchmarks.survival.faults import FAULTS, TOOLS, FaultResult
from benchmarks.survival.report import BY_DESIGN, FOOTNOTES, markdown
from benchmarks.survival.task import FaultCase
from scaling.core.store import append_jsonl


def result(tool, fault, **measured):
    usual = {
        "finished": True,
        "digest": tool,
        "repeated_updates": 0,
        "copies": 1,
        "starts": 1,
        "not_a_number": False,
        "note": "",
    }
    return FaultResult(tool=tool, fault=fault, **{**usual, **measured})


def table(**ours):
    rows = [result(tool, fault) for tool in TOOLS for fault in FAULTS if (tool, fault) != ("ours", "node")]
    text = markdown([*rows, result("ours", "node", **ours)], 60.0)
    return next(line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| node fails"))


def test_a_cell_gives_the_result():
    assert table() == "same bits, 0 again"
    assert table(digest="else", repeated_updates=3) == "other bits, 3 again"
    assert table(repeated_updates=119, copies=2) == "same bits, 119 again, **2 copies**"
    assert table(finished=False, digest="") == "**does not finish**"
    assert table(not_a_number=True) == "**ends as if all were well**"


def test_a_dash_is_only_for_other_tools_and_is_explained():
    assert all(tool != "ours" and (tool, fault) in FOOTNOTES for tool, fault in BY_DESIGN)


def test_updates_done_again_and_copies_are_counted_from_the_log(tmp_path):
    case = FaultCase(str(tmp_path), "ours", "node", "")
    for job, step, at in [("1.0", 0, 1.0), ("1.0", 1, 2.0), ("1.1", 1, 3.0), ("1.1", 2, 4.0)]:
        append_jsonl(tmp_path / "updates.jsonl", {"job": job, "step": step, "at": at})
    assert (cluster.repeated_updates(case.updates()), cluster.copies(case)) == (1, 1)
    append_jsonl(tmp_path / "updates.jsonl", {"job": "2.0", "step": 2, "at": 3.5})
    append_jsonl(tmp_path / "updates.jsonl", {"job": "2.0", "step": 3, "at": 5.0})
    assert (cluster.repeated_updates(case.updates()), cluster.copies(case)) == (2, 2)
