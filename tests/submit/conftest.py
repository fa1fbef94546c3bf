"""The imitated SLURM, a clock and an output folder, for the tests of submitting."""

import pytest

from tests.imitation.handle import Imitation
from tests.submit.launching import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    imitation = Imitation(tmp_path / "slurm", seed=7)
    for key, value in imitation.environment.items():
        monkeypatch.setenv(key, value)
    return imitation


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"
