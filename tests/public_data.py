"""Public scaling-law data beside the checkout, for the tests that reproduce published numbers from it."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SCALING_DATA", ROOT.parent / "shared" / "scaling-data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no public scaling data at {DATA}; set SCALING_DATA")
