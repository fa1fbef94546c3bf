"""Draws the study `transfer`: the best learning rate of each width, with the width transfer and without it.

scaling run transfer --out demo
python -m benchmarks.transfer_figure demo docs/transfer.png
"""

import argparse
from pathlib import Path

import pandas
import seaborn

from scaling.core.store import read_document


def table_of(study: Path) -> pandas.DataFrame:
    """One row a run of the study's study.json: width, factor, parametrization, val_loss."""
    rows = read_document(study)["rows"]
    return pandas.DataFrame(
        {
            "width": [int(row["size"].removeprefix("w").partition("d")[0]) for row in rows],
            "factor": [float(row["axes"]["factor"].removesuffix("x")) for row in rows],
            "parametrization": [f"{row['axes']['transfer']} width transfer" for row in rows],
            "val_loss": [row["val_loss"] for row in rows],
        }
    )


def draw(table: pandas.DataFrame, path: Path) -> None:
    """Loss against the factor, one line a width; the two parametrizations side by side."""
    grid = seaborn.relplot(
        table, x="factor", y="val_loss", hue="width", col="parametrization", kind="line", marker="o", palette="crest"
    )
    grid.set(xscale="log", xlabel="factor on the learning rates", ylabel="validation loss")
    factors = sorted(set(table["factor"]))
    grid.set(xticks=factors, xticklabels=[f"{factor:g}" for factor in factors])
    for axis in grid.axes.flat:
        axis.minorticks_off()
    grid.set_titles("{col_name}")
    grid.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer_figure", description="draws the study")
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder of the study")
    parser.add_argument("png", type=Path, metavar="PNG")
    args = parser.parse_args()
    draw(table_of(args.out / "study.json"), args.png)


if __name__ == "__main__":
    main()
