"""Shipped sets of assumptions, with the figures that were published from them: presets/*.yaml."""

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from analysis.estimate.assumptions import Assumption
from analysis.estimate.published import Published
from scaling.core.errors import UserError
from scaling.core.specs import Spec, load_yaml, parse_spec


class Preset(Spec):
    """What one source assumes and prints."""

    title: str
    assumptions: dict[str, Assumption]
    published: dict[str, Published]
    """EstimateStep -> the figures that are printed for it."""


def load_preset(name: str) -> Preset:
    """Raises UserError, with the nearest known name, where there is no such preset."""
    shipped = {
        Path(entry.name).stem: Path(str(entry)) for entry in files("analysis.estimate").joinpath("presets").iterdir()
    }
    if name not in shipped:
        close_names = get_close_matches(name, shipped, n=1)
        hint = f"did you mean '{close_names[0]}'?" if close_names else f"shipped ones: {', '.join(sorted(shipped))}"
        raise UserError(f"no preset '{name}'; {hint}")
    return parse_spec(Preset, load_yaml(shipped[name]), f"preset {name}")
