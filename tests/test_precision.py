"""The precision of products: chosen once for a sweep, by what is faster here, said in every record, never mixed by
mistake."""

import json

import pandas
import pytest
import torch

from analysis.laws.assessment import assess
from analysis.laws.forms import law
from analysis.tables.read import TableOptions, read_table
from scaling.core.errors import UserError
from scaling.core.precision import using_precision
from scaling.core.records import read_record, training_table
from scaling.core.specs import EngineSpec
from scaling.distributed.precision import autocast, current_precision, product_dtype
from scaling.stages.run import run_stage
from slurm.local_precision import choose_precision, chosen_precision, with_chosen_precision
from sweeps.hardware import HardwareSpec
from sweeps.load import load_sweep
from tests.tiny_run import make_run

TOLERANCE = 0.01
"""Largest relative difference between the losses of a run in bfloat16 and in float32 (docs/machines.md)."""


def tiny(**hardware):
    sweep = load_sweep("tiny")
    return sweep.replace(hardware=HardwareSpec(**hardware).on_machine(cores=2, memory=4e9))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "precision"


def test_the_faster_precision_is_measured_once_and_kept(tmp_path, own_cache):
    out, other = tmp_path / "out", tmp_path / "other"
    assert chosen_precision(tiny(), out) is None
    precision = choose_precision(tiny(), out)
    choice = json.loads((out / "precision.json").read_text())
    faster = choice["seconds"]["bf16"] < 0.9 * choice["seconds"]["fp32"]
    assert choice["precision"] == precision == ("bf16" if faster else "fp32")
    assert set(choice["seconds"]) == {"bf16", "fp32"}
    assert all(seconds > 0 for seconds in choice["seconds"].values())
    (cached,) = own_cache.glob("*.json")
    reverse = {"bf16": "fp32", "fp32": "bf16"}[precision]
    cached.write_text(json.dumps({**choice, "precision": reverse}))
    assert choose_precision(tiny(), other) == reverse  # the cache serves a new output folder
    assert choose_precision(tiny(), out) == precision  # which does not change what an earlier one has


def test_a_precision_that_the_sweep_names_is_taken_without_a_measurement(tmp_path, own_cache):
    engine = EngineSpec(precision="fp32")
    assert choose_precision(tiny(engine=engine), tmp_path) == "fp32"
    assert not (tmp_path / "precision.json").exists()
    assert not own_cache.exists()


def test_a_sweep_that_goes_on_elsewhere_keeps_its_precision(tmp_path):
    assert with_chosen_precision(load_sweep("tiny"), tmp_path).hardware.engine.precision is None
    (tmp_path / "precision.json").write_text('{"precision": "bf16", "seconds": {}, "processor": ""}')
    assert with_chosen_precision(load_sweep("tiny"), tmp_path).hardware.engine.precision == "bf16"


def test_all_stages_of_a_sweep_have_its_precision():
    hardware = tiny(engine=EngineSpec(precision="fp32")).hardware
    engines = [hardware.single(alone=False), hardware.training(alone=True), hardware.training_vae()]
    assert {engine.precision for engine in engines} == {"fp32"}


def test_a_broken_choice_is_a_user_error(tmp_path):
    (tmp_path / "precision.json").write_text('{"precision": "fp8", "seconds": {}, "processor": ""}')
    with pytest.raises(UserError, match=r"precision\.json: precision"):
        chosen_precision(tiny(), tmp_path)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_have_the_precision_that_was_asked_for(precision, dtype):
    a = torch.ones(4, 4)
    with using_precision(precision):
        assert (current_precision(), product_dtype()) == (precision, dtype)
        with autocast():
            assert (a @ a).dtype == dtype


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same run in both precisions: its output folders by precision."""
    outs = {}
    for precision in ("bf16", "fp32"):
        outs[precision] = tmp_path_factory.mktemp(precision)
        folder = make_run(
            outs[precision] / "runs",
            optimizer="muon",
            flop_budget=2e9,
            sample_at=(1.0,),
            engine=EngineSpec(precision=precision),
        )
        run_stage(str(folder.path))
    return outs


def records_of(out):
    return [read_record(path) for path in (out / "runs").glob("dit-*/record.json")]


def test_the_losses_of_both_precisions_agree_and_each_record_says_which_it_is(both):
    losses = {}
    for precision, out in both.items():
        (record,) = records_of(out)
        assert (record.precision, record.engine.precision) == (precision, precision)
        assert record.processor
        losses[precision] = record.value("val_loss")
    assert losses["bf16"] != losses["fp32"]  # the setting reaches the products
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=TOLERANCE)


def warnings_of(path, **where):
    table = read_table(path, TableOptions(where=where, metric="loss"))
    return assess(table, law("power", "n_params"), metric="loss", draws=0, seed=0).warnings


def test_a_fit_of_runs_in_both_precisions_says_so(both, tmp_path):
    assert set(training_table([record for out in both.values() for record in records_of(out)])["precision"]) == {
        "bf16",
        "fp32",
    }
    rows = [{"n_params": 1e5 * 2**n, "val_loss": 1 / (1 + n), "precision": ("bf16", "fp32")[n % 2]} for n in range(6)]
    pandas.DataFrame(rows).to_csv(tmp_path / "mixed.csv", index=False)
    assert any("bf16 and fp32 are mixed" in warning for warning in warnings_of(tmp_path / "mixed.csv"))
    assert not any("mixed" in warning for warning in warnings_of(tmp_path / "mixed.csv", precision="fp32"))


def test_a_stage_without_a_precision_computes_in_float32_on_a_cpu(tmp_path):
    folder = make_run(tmp_path, optimizer="adamw", flop_budget=2e8, sample_at=(1.0,))
    run_stage(str(folder.path))
    assert read_record(folder.record_path).precision == ("bf16" if torch.cuda.is_available() else "fp32")
