"""What each choice of the DiT is worth: the shipped one against its alternative, at equal training FLOPs.

    python -m benchmarks.ablation --out ablation

trains models of the demo's data, VAE and latents (made in `--out` if they are not there; the folder of a finished
`scaling demo` serves too) and prints a table of validation losses. Every other setting is the demo's. AdamW on all
weights is tried at several learning rates, because the demo's were found with Muon.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from scaling.core.records import RunRecord, read_record
from scaling.core.stage import DiTFields, Stage
from slurm.local import execute
from slurm.progress import stage_progress
from sweeps.spec import SweepSpec, load_sweep
from sweeps.stages import Common, common_stages, run_stage

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "as shipped: velocity, Muon, shared modulation": {},
    "clean prediction": {"dit": {"prediction": "clean"}},
    "modulation per block": {"dit": {"modulation": "per_block"}},
    "AdamW alone, rate .004": {"optim": {"optimizer": "adamw", "adamw_lr": 0.004}},
    "AdamW alone, rate .008, as beside Muon": {"optim": {"optimizer": "adamw"}},
    "AdamW alone, rate .016": {"optim": {"optimizer": "adamw", "adamw_lr": 0.016}},
    "AdamW alone, rate .032": {"optim": {"optimizer": "adamw", "adamw_lr": 0.032}},
    "tenth of the clips with given frames": {"optim": {"conditioning_frames": 0.1}},
}
"""Name -> part of the run's fields -> what is changed."""

MODELS = ((1, "w64d2"), (4, "w96d3"))
"""(multiple of the base budget, size): near the best size of each budget."""
SEEDS = (0, 1)


def variant_stage(sweep: SweepSpec, common: Common, model: tuple[int, str], changes: dict, seed: int) -> Stage:
    """The demo's run of this budget and size with something changed."""
    usual = run_stage(sweep, common, *model)
    fields = usual.fields_as(DiTFields)
    dit = fields.dit.replace(**changes.get("dit", {}))
    optim = fields.optim.replace(**changes.get("optim", {}))
    if optim.base_width is None:
        optim = optim.replace(base_width=dit.width)
    evaluation = fields.evaluation.replace(prompts=fields.evaluation.prompts[:1], sample_at=(1.0,))
    changed = DiTFields(dit=dit, optim=optim, evaluation=evaluation, flop_budget=fields.flop_budget, seed=seed)
    return Stage(
        slug=f"ablation-{model[1]}", fields=changed, parents=usual.parents, sweep="ablation", compute=usual.compute
    )


def ablate(out: Path) -> list[dict[str, Any]]:
    """Trains what is missing; one row for each variant and model."""
    sweep = load_sweep("demo")
    common, runs = common_stages(sweep), out / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    stages = {
        (name, model, seed): variant_stage(sweep, common, model, changes, seed)
        for model in reversed(MODELS)
        for name, changes in VARIANTS.items()
        for seed in SEEDS
    }
    hardware = sweep.hardware
    needed = [common.data, common.vae, common.latents, *stages.values()]
    with stage_progress("ablation") as watch:
        execute(needed, runs, jobs=hardware.jobs, cores=os.cpu_count() or 1, watch=watch)
    records = {key: read_record(runs / stage.id / "record.json") for key, stage in stages.items()}
    return [
        _row(name, sweep, model, [records[name, model, seed] for seed in SEEDS])
        for model in MODELS
        for name in VARIANTS
    ]


def _row(name: str, sweep: SweepSpec, model: tuple[int, str], records: list[RunRecord]) -> dict[str, Any]:
    losses = [loss for record in records if (loss := record.value("val_loss")) is not None]
    return {
        "variant": name,
        "compute": sweep.label(model[0]),
        "size": model[1],
        "n_params": records[0].n_params,
        "train_flops": records[0].train_flops,
        "val_loss": float(np.mean(losses)),
        "seeds": losses,
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table, with each loss against the first row's of its model."""
    lines = ["| variant | compute | size | N | C | val loss (mean of seeds) | seeds apart | against shipped |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        shipped = next(one for one in rows if one["size"] == row["size"])
        change = row["val_loss"] / shipped["val_loss"] - 1
        lines.append(
            f"| {row['variant']} | {row['compute']} | {row['size']} | {row['n_params']:,} | {row['train_flops']:.3g} "
            f"| {row['val_loss']:.4f} | {max(row['seeds']) - min(row['seeds']):.4f} | {change:+.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation", description="each choice against its alternative"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    args = parser.parse_args()
    rows = ablate(args.out)
    print(json.dumps(rows) if args.json else markdown(rows))


if __name__ == "__main__":
    main()
