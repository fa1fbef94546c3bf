"""Every kind of stage has a module with the functions that the dispatcher calls."""

import inspect
import subprocess
import sys
from importlib import import_module
from typing import get_args

import pytest

from scaling.core.stage_fields import Fields
from scaling.stages.modules import TRAINING_KINDS, StageModule, TrainingStageModule

KINDS = [member.model_fields["kind"].default for member in get_args(get_args(Fields)[0])]


def signature(function):
    """The parameters and the types of a function, without `self`."""
    described = inspect.signature(function)
    parameters = [(name, part.annotation) for name, part in described.parameters.items() if name != "self"]
    return parameters, described.return_annotation


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_module_of_the_protocol(kind):
    module = import_module(f"scaling.stages.{kind}")
    assert isinstance(module, StageModule)
    assert signature(module.work) == signature(StageModule.work)
    assert isinstance(module, TrainingStageModule) == (kind in TRAINING_KINDS)
    if kind in TRAINING_KINDS:
        assert signature(module.train) == signature(TrainingStageModule.train)


def test_all_kinds_of_the_union_are_known():
    assert set(KINDS) == {"data", "vae", "latents", "reference", "reconstruction", "trunk", "dit", "metrics"}


def test_the_dispatcher_imports_no_torch():
    check = "import sys, scaling.stages.run, scaling.stages.training_ranks; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
