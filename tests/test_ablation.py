"""The ablation compares what it says: one change at a time, at equal compute."""

from benchmarks.ablation import MODELS, VARIANTS, markdown, variant_stage
from sweeps.spec import load_sweep
from sweeps.stages import common_stages


def test_each_variant_changes_one_thing_at_equal_compute():
    sweep = load_sweep("demo")
    common = common_stages(sweep)
    for model in MODELS:
        stages = {name: variant_stage(sweep, common, model, changes, 0) for name, changes in VARIANTS.items()}
        shipped = stages.pop("as shipped: velocity, Muon, shared modulation")
        for name, stage in stages.items():
            assert stage.fields["flop_budget"] == shipped.fields["flop_budget"]
            assert stage.parents == shipped.parents
            changed = {
                (part, field)
                for part in ("dit", "optim")
                for field, value in stage.fields[part].items()
                if value != shipped.fields[part][field]
            }
            assert changed == {(part, field) for part, fields in VARIANTS[name].items() for field in fields}


def test_losses_are_told_against_the_first_of_their_model():
    row = {"compute": "base", "n_params": 1, "train_flops": 1.0}
    rows = [
        row | {"variant": "shipped", "size": "a", "val_loss": 0.5, "seeds": [0.4, 0.6]},
        row | {"variant": "other", "size": "a", "val_loss": 0.6, "seeds": [0.6, 0.6]},
    ]
    assert markdown(rows).splitlines()[-1].endswith("| 0.6000 | 0.0000 | +20.0% |")
