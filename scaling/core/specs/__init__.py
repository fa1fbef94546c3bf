"""What a run is: frozen, validated values. Nothing here trains, reads a video or imports torch.

A spec holds semantic fields only, so that its hash names the result (see `scaling.core.identity`). Where a run
executes, and on how many threads, is in `EngineSpec`, which is never hashed.
"""

from scaling.core.specs.base import Spec, load_yaml, parse_spec
from scaling.core.specs.data import DataSpec, WorldShape, WorldSpec
from scaling.core.specs.dit import DiTSpec, Prediction
from scaling.core.specs.engine import EngineSpec, Precision
from scaling.core.specs.evaluation import EvalSpec, FVDSpec, Solver
from scaling.core.specs.optim import OptimSpec
from scaling.core.specs.text import TextSpec
from scaling.core.specs.vae import VAESpec, VAEStage, VAETrainSpec

__all__ = [
    "DataSpec",
    "DiTSpec",
    "EngineSpec",
    "EvalSpec",
    "FVDSpec",
    "OptimSpec",
    "Precision",
    "Prediction",
    "Solver",
    "Spec",
    "TextSpec",
    "VAESpec",
    "VAEStage",
    "VAETrainSpec",
    "WorldShape",
    "WorldSpec",
    "load_yaml",
    "parse_spec",
]
