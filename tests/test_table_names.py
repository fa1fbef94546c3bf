"""Names of columns: those of the file always serve, those of other tools are known, and a guess is a usable column."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.tables.read import TableOptions, read_table
from scaling.cli.main import main
from scaling.core.errors import UserError
from scaling.core.records import Metric, RunRecord, write_record

SIZE = np.geomspace(1e7, 1e9, 8)
TABLE = pd.DataFrame({"n_params": SIZE, "num_tokens": 20 * SIZE[::-1], "loss": 2 + 400 * SIZE**-0.35})


def saved(tmp_path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("n_params", "params_total"),
        ("n_params", "Parameter Count"),
        ("n_params", "config.n_params"),
        ("n_params", "model/params"),
        ("num_tokens", "tokens_trained"),
        ("num_tokens", "total_tokens"),
        ("loss", "eval/loss"),
        ("loss", "summary.val_loss"),
    ],
)
def test_names_of_other_tools_are_known(tmp_path: Path, role: str, name: str) -> None:
    loaded = read_table(saved(tmp_path, TABLE.rename(columns={role: name})))
    assert loaded.axis(role) == pytest.approx(TABLE[role].to_numpy())
    assert loaded.axis(name) == pytest.approx(TABLE[role].to_numpy())


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("compute_flops", "train_flops"),
        ("achieved_flops", "train_flops"),
        ("flops_budget", "flop_budget"),
        ("budget", "flop_budget"),
    ],
)
def test_a_compute_is_known_where_it_is_one(tmp_path: Path, name: str, role: str) -> None:
    flops = 7 * TABLE["n_params"] * TABLE["num_tokens"]
    loaded = read_table(saved(tmp_path, TABLE.assign(**{name: flops})))
    assert loaded.axis(role) == pytest.approx(flops.to_numpy())
    if name in ("achieved_flops", "budget"):  # FLOP/s, and US dollars
        for other in (flops / 1e5, flops * 0 + 3000):
            loaded = read_table(saved(tmp_path, TABLE.assign(**{name: other})))
            assert f"column '{name}'" not in "; ".join(loaded.column_sources)
            assert loaded.axis(name) == pytest.approx(other.to_numpy())


@pytest.mark.parametrize(
    ("name", "unit"),
    [("params_M", 1e6), ("Params (M)", 1e6), ("model size [B]", 1e9), ("parameters (in millions)", 1e6),
     ("N_B", 1e9), ("params, millions", 1e6)],
)  # fmt: skip
def test_a_unit_in_a_name_is_used_and_said(tmp_path: Path, name: str, unit: float) -> None:
    path = saved(tmp_path, TABLE.assign(n_params=SIZE / unit).rename(columns={"n_params": name}))
    loaded = read_table(path)
    assert loaded.axis("n_params") == pytest.approx(SIZE)
    assert f"n_params: column '{name}' x {unit:g}, parameters" in loaded.column_sources
    with pytest.raises(UserError, match=r"tokens per parameter|has the median"):
        read_table(path, TableOptions(units={"n_params": 1.0}))


def test_a_unit_in_a_name_that_the_numbers_belie_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, TABLE.rename(columns={"n_params": "params_M"}))
    with pytest.raises(UserError, match="give --unit n_params=1 for plain numbers, or --unit n_params=1e6"):
        read_table(path)
    assert read_table(path, TableOptions(units={"n_params": 1.0})).axis("n_params") == pytest.approx(SIZE)


def test_two_columns_for_one_role_are_said(tmp_path: Path) -> None:
    path = saved(tmp_path, TABLE.assign(val_loss=TABLE["loss"] + 1))
    loaded = read_table(path)
    assert loaded.notes == ("loss is 'val_loss'; for 'loss' give --column loss='loss'",)
    assert loaded.axis("loss") == pytest.approx(TABLE["loss"].to_numpy() + 1)
    twins = read_table(saved(tmp_path, TABLE.assign(Loss=1.0)))
    assert twins.notes == ("loss is 'loss'; for 'Loss' give --column loss='Loss'",)
    path = saved(tmp_path, TABLE.assign(val_loss=TABLE["loss"] + 1))
    chosen = read_table(path, TableOptions(columns={"loss": "loss"}))
    assert chosen.notes == ()
    assert chosen.axis("val_loss") == pytest.approx(TABLE["loss"].to_numpy() + 1)


def test_a_guess_is_a_column_of_numbers_without_gaps_and_all_columns_are_listed(tmp_path: Path) -> None:
    table = TABLE.assign(fvd_x=[1.0, *[np.nan] * 7], fvd_y="high", fvd_48=2.0)
    loaded = read_table(saved(tmp_path, table))
    with pytest.raises(UserError) as error:
        loaded.axis("fvd")
    assert "no column 'fvd'; is it 'fvd_48'?; it has fvd_x, fvd_y, fvd_48, n_params, num_tokens, loss" in str(
        error.value
    )
    partial = read_table(saved(tmp_path, table.drop(columns="fvd_48")))
    with pytest.raises(UserError) as error:
        partial.axis("fvd")
    assert "is it" not in str(error.value)


def test_a_message_lists_the_columns_by_the_names_of_the_file(tmp_path: Path) -> None:
    loaded = read_table(saved(tmp_path, TABLE.rename(columns={"loss": "val_bpb", "n_params": "Params"})))
    with pytest.raises(UserError, match=r"no column 'val_bpp'; is it 'val_bpb'.*it has .*Params.*val_bpb"):
        loaded.axis("val_bpp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Runs of ours, whose loss was measured at one time of the flow, too."""
    for i, row in enumerate(TABLE.itertuples()):
        loss = row.loss + 50 / 10 ** (3 * (1 + i % 3) ** 0.3)
        metrics = [Metric(name="val_loss", value=loss), Metric(name="val_loss_t0.938", value=loss / 2)]
        record = RunRecord(
            run_id=f"r{i}", stage="dit", vae_id="v", n_params=int(row.n_params), num_tokens=10**9 * (1 + i % 3),
            train_flops=6 * row.n_params * 10**9 * (1 + i % 3), flop_budget=1e18, metrics=tuple(metrics),
        )  # fmt: skip
        write_record(tmp_path / f"r{i}" / "record.json", record)
        (tmp_path / f"r{i}" / "COMPLETE").touch()
    return tmp_path


@pytest.mark.parametrize("verb", [("fit", "--law", "power"), ("forecast", "--flops", "1e20", "--method", "law")])
def test_the_loss_of_our_runs_is_asked_for_by_either_name(folder: Path, capsys, verb: tuple[str, ...]) -> None:
    outputs = []
    for metric in ("loss", "val_loss"):
        assert main([verb[0], str(folder), *verb[1:], "--metric", metric, "--bootstrap", "100", "--json"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


def test_an_axis_is_asked_for_by_its_name_in_the_file(tmp_path: Path, capsys) -> None:
    path = saved(tmp_path, TABLE.rename(columns={"n_params": "Size in all"}))
    options = ("--column", "n_params=Size in all", "--law", "power-floor", "--bootstrap", "0", "--json")
    outputs = []
    for axis in ("n_params", "Size in all"):
        assert main(["fit", str(path), *options, "--against", axis]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("value", ["0.5", "0.50", ".5", "5e-1"])
def test_rows_are_chosen_by_number(tmp_path: Path, value: str) -> None:
    path = saved(tmp_path, TABLE.assign(share=[0.5, 0.25] * 4, batch=[1000000, 7] * 4, lr=["0.50", "x"] * 4))
    assert len(read_table(path, TableOptions(where={"share": value})).runs) == 4
    assert len(read_table(path, TableOptions(where={"batch": "1e6", "share": value})).runs) == 4
    assert len(read_table(path, TableOptions(where={"lr": value})).runs) == 4


def test_a_text_is_chosen_as_it_is_written(tmp_path: Path) -> None:
    """Two ids of which numbers would make one."""
    path = saved(tmp_path, TABLE.assign(commit=["1e2", "100"] * 4, run=list("abcdefgh")))
    assert read_table(path, TableOptions(where={"run": "c"})).run_ids == ("c",)
    table = pd.read_csv(path).astype({"commit": str}).assign(commit=["1e2", "x100"] * 4)
    assert len(read_table(saved(tmp_path, table), TableOptions(where={"commit": "1e2"})).runs) == 4


def test_rows_are_chosen_by_role_where_the_file_has_another_name(tmp_path: Path) -> None:
    path = saved(tmp_path, TABLE.rename(columns={"n_params": "Params"}))
    assert len(read_table(path, TableOptions(where={"n_params": "1e7"})).runs) == 1


def test_a_column_that_is_not_there_is_refused_with_the_columns_that_are(tmp_path: Path) -> None:
    path = saved(tmp_path, TABLE.assign(kind="a"))
    with pytest.raises(UserError, match=r"no column 'kinds'; is it 'kind'.; it has n_params, num_tokens, loss, kind"):
        read_table(path, TableOptions(where={"kinds": "a"}))
