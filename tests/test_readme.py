"""What README shows works: its sweep loads, its commands exist, its links and pictures are there."""

import re
from pathlib import Path

import pytest

from scaling.cli.main import VERBS
from sweeps.load import load_sweep
from sweeps.planning.plan import plan

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_sweep_in_readme_can_be_planned(tmp_path):
    (tmp_path / "my_videos").mkdir()
    (tmp_path / "my_videos" / "a.mp4").write_bytes(b"hashed, not opened")
    path = tmp_path / "mine.yaml"
    path.write_text(re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1])
    assert len(plan(load_sweep(str(path))).runs) == 10


def test_every_verb_is_listed_and_every_listed_verb_exists():
    cells = re.findall(r"^\| (`scaling [^|]*)\|", README, re.MULTILINE)
    assert set(re.findall(r"`scaling (\w+)", " ".join(cells))) == VERBS.keys()


def test_make_targets_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`?make (\w+)", README)) <= set(targets)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "benchmarks/README.md",
        *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")),
    ],
)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https:)([^)#]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_every_module_in_the_tree_exists():
    tree, package, found = re.search(r"    scaling/  .*?\n\n", README, re.DOTALL)[0], "", 0
    for indent, name in re.findall(r"^( {4}| {6})([a-z_]+(?:\.py|/))", tree, re.MULTILINE):
        package = name if len(indent) == 4 else package
        path = ROOT / name if len(indent) == 4 else ROOT / package / name
        assert path.exists(), path
        found += 1
    assert found > 20
