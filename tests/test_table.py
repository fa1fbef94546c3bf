"""Tables of runs: columns and units, recognized and given; a table that cannot be used is refused in one line."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.laws.assessment import table_points
from analysis.laws.forms import CHINCHILLA
from analysis.tables.read import TableOptions, read_table
from scaling.core.errors import UserError
from scaling.core.records import Metric, RunRecord, write_record
from tests.public_data import DATA, needs_data
from tests.test_law import planted


def frame() -> pd.DataFrame:
    runs = planted(noise=0.01)
    return pd.DataFrame({"n_params": runs.axes["n_params"], "num_tokens": runs.axes["num_tokens"], "loss": runs.metric})


def saved(tmp_path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def test_every_kind_of_file_gives_the_same_table(tmp_path: Path) -> None:
    table = frame()
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    table.to_json(tmp_path / "t.json", orient="records", double_precision=15)
    table.to_json(tmp_path / "t.jsonl", orient="records", lines=True, double_precision=15)
    for name in ("t.csv", "t.parquet", "t.json", "t.jsonl"):
        loaded = read_table(tmp_path / name)
        for column in table:
            assert loaded.axis(column) == pytest.approx(table[column].to_numpy(), rel=1e-12)
        assert loaded.runs["run_id"].iloc[2] == "row 3"


def test_columns_are_recognized_or_given_and_their_sources_are_listed(tmp_path: Path) -> None:
    table = frame().rename(columns={"n_params": "Model Size", "num_tokens": "what", "loss": "val_bpb"})
    table["Model Size"] /= 1e6
    reading = TableOptions(columns={"num_tokens": "what"}, units={"n_params": 1e6})
    loaded = read_table(saved(tmp_path, table), reading)
    assert loaded.axis("n_params") == pytest.approx(frame()["n_params"].to_numpy())
    assert loaded.axis("train_flops") == pytest.approx((6 * frame()["n_params"] * frame()["num_tokens"]).to_numpy())
    assert loaded.column_sources == (
        "n_params: column 'Model Size' x 1e+06, parameters",
        "num_tokens: column 'what', tokens",
        "loss: column 'val_bpb'",
        "train_flops: 6 n_params num_tokens, FLOPs",
    )


def test_tokens_come_from_flops(tmp_path: Path) -> None:
    table = frame()
    table["FLOPs"] = 6 * table["n_params"] * table["num_tokens"]
    loaded = read_table(saved(tmp_path, table.drop(columns="num_tokens")))
    assert loaded.axis("num_tokens") == pytest.approx(table["num_tokens"].to_numpy())
    assert "num_tokens: train_flops / (6 n_params), tokens" in loaded.column_sources


def test_rows_are_kept_by_value_and_left_out_by_rank(tmp_path: Path) -> None:
    table = frame().assign(run_id=[f"r{i}" for i in range(36)], kind=np.resize(["a", "b"], 36))
    loaded = read_table(saved(tmp_path, table), TableOptions(where={"kind": "b"}))
    assert len(loaded.runs) == 18
    top = loaded.without_top(2)
    assert [excluded.run for excluded in top.excluded] == table[table["kind"] == "b"].nlargest(2, "loss").sort_index()[
        "run_id"
    ].tolist()
    assert top.excluded[0].reason == "among the 2 highest of loss"
    assert len(top.runs) == 16


@needs_data
@pytest.mark.parametrize(
    ("name", "columns", "rows"),
    [
        ("epoch_chinchilla/svg_extracted_data.csv", ("Model Size", "Training FLOP", "loss"), 245),
        ("cs336/isoflops_curves.json", ("parameters", "compute_budget", "final_loss"), 72),
        ("porian/isoflop_points.csv", ("params", "flops", "tokens", "loss"), 1745),
        ("nanochat/isoflop_optima_by_param_counting.csv", ("eff_params", "flops", "tokens", "val_bpb"), 12),
        ("steplaw/dense_lr_bs_loss.csv", ("N", "D", "loss"), 1911),
    ],
)
def test_public_tables_need_no_options(name: str, columns: tuple[str, ...], rows: int) -> None:
    loaded = read_table(DATA / name)
    assert len(loaded.runs) == rows
    for column in columns:
        assert any(f"column '{column}'" in line for line in loaded.column_sources), column


def changed(**columns: object) -> pd.DataFrame:
    return frame().assign(**columns)


TABLE = frame()
BAD = {
    "another name": (
        TABLE.rename(columns={"n_params": "n_parms"}),
        "no column 'n_params'; if it is 'n_parms', give --column n_params='n_parms'",
    ),
    "no such column": (
        TABLE.drop(columns="loss"),
        "no column 'loss'; name it with --column loss=NAME; it has n_params",
    ),
    "text": (changed(loss=["oops", *TABLE["loss"][1:]]), "column 'loss' holds 'oops' in row 1, expected a number"),
    "a table of strings": (
        TABLE.map(lambda value: f"about {value:.0f}"),
        "column 'n_params' holds 'about 50000' in row 1",
    ),
    "sizes in millions": (
        changed(n_params=TABLE["n_params"] / 1e6),
        "n_params has the median 0.338 parameters; give its unit, such as --unit n_params=1e6 for millions",
    ),
    "tokens in billions": (changed(num_tokens=TABLE["num_tokens"] / 1e9), "num_tokens has the median 0.0084 tokens"),
    "some sizes in thousands": (
        changed(n_params=TABLE["n_params"].where(TABLE.index > 3, TABLE["n_params"] * 1e9)),
        "n_params jumps from 2e+06 to 5e+13; some rows are in another unit, so correct them",
    ),
    "sizes in thousands": (
        changed(n_params=TABLE["n_params"] * 1e6),
        "tokens per parameter; n_params or num_tokens is in",
    ),
    "flops of one step": (
        changed(train_flops=TABLE["n_params"] * TABLE["num_tokens"] / 1e3),
        "train_flops is 0.00017 times 6 N D; one of the three is in another unit",
    ),
    "two VAEs": (
        changed(vae_id=np.resize(["v1", "v2"], 36)),
        "runs of different VAEs do not compare: v1, v2; choose one by --where vae_id=v1",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_table_that_cannot_be_trusted_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    table, message = BAD[kind]
    path = saved(tmp_path, table)
    with pytest.raises(UserError) as error:
        table_points(read_table(path), CHINCHILLA, "loss")
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_row_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    loaded = read_table(saved(tmp_path, pd.concat([TABLE, TABLE.iloc[[4]]])))
    assert [(run.run, run.reason) for run in loaded.excluded] == [("row 37", "the same as row 5")]
    assert len(loaded.runs) == 36


def test_equal_losses_of_repeated_sizes_may_be_other_seeds_and_stay(tmp_path: Path) -> None:
    """Three seeds a size; two losses are equal after rounding. The same where runs have names of their own."""
    seeds = pd.concat([TABLE, TABLE.assign(loss=TABLE["loss"] + 0.01), TABLE.iloc[[4, 6]]])
    loaded = read_table(saved(tmp_path, seeds))
    assert (len(loaded.runs), loaded.excluded) == (74, ())
    assert loaded.notes == ("equal in all columns, and kept as repeated seeds: row 5 and row 73; row 7 and row 74",)
    named = pd.concat([TABLE, TABLE.iloc[[4]]]).assign(run_id=[f"r{i}" for i in range(37)])
    assert read_table(saved(tmp_path, named)).notes[0].endswith("r4 and r36")


def test_rows_without_a_number_are_left_out_by_the_number_of_their_row(tmp_path: Path) -> None:
    table = TABLE.copy()
    table.loc[3, "loss"] = np.nan
    table.loc[8, "n_params"] = np.nan
    table.loc[9] = np.nan
    loaded = read_table(saved(tmp_path, table), TableOptions(axes=("n_params", "num_tokens")))
    assert [(run.run, run.reason) for run in loaded.excluded] == [("row 4", "no loss"), ("row 9", "no n_params")]
    assert (len(loaded.runs), loaded.notes) == (33, ("blank rows left out: 1",))
    with pytest.raises(UserError, match="no run has a value of loss"):
        read_table(saved(tmp_path, TABLE.assign(loss=np.nan)))


def test_a_unit_that_is_given_is_believed(tmp_path: Path) -> None:
    path = saved(tmp_path, changed(n_params=TABLE["n_params"] / 1e6, num_tokens=TABLE["num_tokens"] / 1e6))
    loaded = read_table(path, TableOptions(units={"n_params": 1.0, "num_tokens": 1.0}))
    assert loaded.axis("n_params").max() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "cannot be read as csv"),
        ("t.csv", "n_params,num_tokens,loss\n", "holds no rows"),
        ("t.json", "{", "cannot be read as json"),
        ("t.parquet", "no", "cannot be read as parquet"),
        ("t.xls", "", "unknown kind of table"),
        ("t.csv", None, "no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        read_table(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (
            TableOptions(columns={"size": "n_params"}),
            "--column size=n_params: no such role; choose from run_id, n_params",
        ),
        (TableOptions(columns={"n_params": "n_parms"}), "no column 'n_parms'; is it 'n_params'?"),
        (TableOptions(units={"unique_clips": 10.0}), "--unit unique_clips=10: the table has no unique_clips"),
        (TableOptions(where={"loss": "7"}), "no row has loss = 7; it holds"),
    ],
)
def test_a_reading_that_does_not_fit_the_table_is_refused(tmp_path: Path, reading: TableOptions, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_table(saved(tmp_path, frame()), reading)
    assert message in str(error.value)


def test_a_folder_of_runs_is_a_table_and_a_run_without_a_loss_is_left_out_by_name(tmp_path: Path) -> None:
    for i, row in enumerate(TABLE.itertuples()):
        metrics = () if i == 3 else (Metric(name="val_loss", value=row.loss, standard_error=0.01),)
        record = RunRecord(
            run_id=f"r{i}",
            stage="dit",
            vae_id="v1",
            n_params=int(row.n_params),
            num_tokens=int(row.num_tokens),
            train_flops=7 * row.n_params * row.num_tokens,
            flop_budget=1e12,
            metrics=metrics,
        )
        write_record(tmp_path / f"r{i}" / "record.json", record)
        (tmp_path / f"r{i}" / "COMPLETE").touch()
    loaded = read_table(tmp_path)
    assert [(run.run, run.reason) for run in loaded.excluded] == [("r3", "no loss")]
    assert len(loaded.runs) == 35
    assert loaded.axis("train_flops").max() == pytest.approx(7 * 2e6 * 6e7, rel=1e-6)
    assert (loaded.axis("loss_se") == 0.01).all()
