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


PACKAGES = ("scaling", "sweeps", "slurm", "analysis")


def tree() -> dict[str, set[str]]:
    """Per package, the folders and modules that the tree of README names."""
    named: dict[str, set[str]] = {}
    package = ""
    for line in re.search(r"    scaling/  .*?\n\n", README, re.DOTALL)[0].splitlines():
        if top := re.match(r" {4}([a-z]+)/", line):
            package = top[1]
            named[package] = set()
        else:
            text = re.sub(r" (vae|dit)\.py", "", line)  # of a folder that has a line
            named[package] |= set(re.findall(r"[a-z_]+\.py|[a-z_]+(?=/)", text.partition(": ")[0]))
    return named


def test_every_name_in_the_tree_exists():
    named = tree()
    assert tuple(named) == PACKAGES
    for package, names in named.items():
        for name in names:
            assert (ROOT / package / name).exists() or any((ROOT / package).glob(f"*/{name}")), f"{package}/{name}"


def test_every_module_has_a_line_in_the_tree_or_its_folder_has():
    named = tree()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            first = path.relative_to(ROOT / package).parts[0]
            assert first in named[package] | {"__init__.py"}, f"{package}/{first} has no line in README's tree"


def test_the_reference_of_fields_is_made_from_the_code():
    """`python -m sweeps.field_reference > docs/fields.md` makes it; every field says what it is."""
    from sweeps.field_reference import reference

    assert (ROOT / "docs" / "fields.md").read_text() == reference()
    assert not re.findall(r"^\| `\w+` \| [^|]* \|  \|$", reference(), re.MULTILINE)
