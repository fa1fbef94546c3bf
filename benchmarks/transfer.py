"""Does one learning rate serve all widths? The best rate of each width, with the width transfer and without it.

    python -m benchmarks.transfer --out ablation --plot docs/transfer.png

trains models of three widths for the same number of updates on the demo's latents (made in `--out` if they are not
there), at AdamW rates a factor of two apart; Muon's rate moves with them. docs/models.md has the result.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.ablation import variant_stage
from scaling.accounting import flops
from scaling.core.records import read_record
from slurm.local import execute
from slurm.progress import stage_progress
from sweeps.spec import SweepSpec, load_sweep
from sweeps.stages import common_stages

SIZES = ("w32d2", "w64d2", "w128d2")
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the demo's learning rates."""
UPDATES = 250
GRID = (5, 4, 4)
"""Tokens of the demo's clips."""


def sweep_rates(out: Path) -> list[dict[str, Any]]:
    """Trains what is missing; one row for each width, factor and parametrisation."""
    sweep = load_sweep("demo")
    common, runs = common_stages(sweep), out / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    cases = [(size, factor, transfer) for size in reversed(SIZES) for factor in FACTORS for transfer in (True, False)]
    stages = {}
    for size, factor, transfer in cases:
        rates = {"muon_lr": sweep.optim.muon_lr * factor, "adamw_lr": sweep.optim.adamw_lr * factor}
        changes = {"optim": rates if transfer else {**rates, "base_width": None}}
        priced = sweep.replace(base_flops=_budget(sweep, size))
        stages[size, factor, transfer] = variant_stage(priced, common, (1, size), changes, 0)
    needed = {stage.id: stage for stage in [common.data, common.vae, common.latents, *stages.values()]}
    with stage_progress("learning rates") as watch:
        execute(list(needed.values()), runs, jobs=sweep.hardware.jobs, cores=os.cpu_count() or 1, watch=watch)
    return [
        {
            "width": sweep.size(size).width,
            "factor": factor,
            "transfer": transfer,
            "val_loss": read_record(runs / stage.id / "record.json").value("val_loss"),
        }
        for (size, factor, transfer), stage in stages.items()
    ]


def _budget(sweep: SweepSpec, size: str) -> float:
    clips = sweep.optim.batch_tokens // (GRID[0] * GRID[1] * GRID[2])
    dit, channels = sweep.size(size), sweep.vae.latent_channels
    return UPDATES * flops.dit_training(dit, channels, [GRID] * clips, sweep.text.max_tokens)


def markdown(rows: list[dict[str, Any]]) -> str:
    """Loss by factor for every width and parametrisation."""
    lines = [f"| width | transfer | {' | '.join(f'{factor:g}x' for factor in FACTORS)} |", "|---" * 7 + "|"]
    for width in sorted({row["width"] for row in rows}):
        for transfer in (True, False):
            losses = {
                row["factor"]: row["val_loss"] for row in rows if (row["width"], row["transfer"]) == (width, transfer)
            }
            best = min(losses.values())
            cells = [f"**{loss:.4f}**" if loss == best else f"{loss:.4f}" for _, loss in sorted(losses.items())]
            lines.append(f"| {width} | {'yes' if transfer else 'no'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Loss against the factor, one line a width; the two parametrisations side by side."""
    import pandas
    import seaborn

    table = pandas.DataFrame(rows)
    table["parametrisation"] = table["transfer"].map({True: "with width transfer", False: "without"})
    grid = seaborn.relplot(
        table, x="factor", y="val_loss", hue="width", col="parametrisation", kind="line", marker="o", palette="crest"
    )
    grid.set(xscale="log", xlabel="factor on the learning rates", ylabel="validation loss")
    grid.set(xticks=FACTORS, xticklabels=[f"{factor:g}" for factor in FACTORS])
    for axis in grid.axes.flat:
        axis.minorticks_off()
    grid.set_titles("{col_name}")
    grid.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description="the best rate of each width")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    args = parser.parse_args()
    rows = sweep_rates(args.out)
    if args.plot:
        plot(rows, args.plot)
    print(json.dumps(rows) if args.json else markdown(rows))


if __name__ == "__main__":
    main()
