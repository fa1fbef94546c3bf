"""`scaling demo`: the shipped sweep `demo` on this machine."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from scaling.cli.options import Json
from scaling.cli.printing import print_result


def run(
    *,
    out: Annotated[Path, Parameter(help="output folder")] = Path("demo"),
    tiny: Annotated[bool, Parameter(help="the shortest sweep with every stage: a minute of training")] = False,
    as_json: Json = False,
) -> int:
    """Makes videos, trains a VAE and a ladder of diffusion transformers, predicts the loss of the 32x run, trains it,
    and writes the page that shows base, 4x and 32x compute side by side. What is done already is not done again.

    examples:
      scaling demo
      scaling demo --out demo --json
    """
    from slurm.local_sweep import run_sweep
    from sweeps.load import load_sweep

    command = "scaling demo --tiny" if tiny else "scaling demo"
    sweep = load_sweep("tiny" if tiny else "demo")
    print_result(run_sweep(sweep, out, (f"{command} --out {out.name}",)), as_json=as_json)
    return 0
