"""Files of tables as people have them: read where that is safe, said what was assumed, refused by name elsewhere."""

import gzip
import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.tables.files import read_file
from analysis.tables.numerals import number
from analysis.tables.read import read_table
from scaling.cli.main import main
from scaling.core.errors import UserError

N = [32400000, 51350539, 81385120, 128986723]
D = [5144032922, 3245665380, 2047876401, 1292122653]
LOSS = [3.577, 3.5044, 3.4956, 3.5094]
PLAIN = "params,tokens,loss\n" + "".join(f"{n},{d},{loss}\n" for n, d, loss in zip(N, D, LOSS, strict=True))
COMMAS = PLAIN.replace(",", ";").replace(".", ",")
SPACED = "".join(f"{n:,}|{d:,}|{loss}\n" for n, d, loss in zip(N, D, LOSS, strict=True))
MARKDOWN = "| params | tokens | loss |\n|:---|---:|---|\n" + "".join(
    f"| {n} | {d} | **{loss}** |\n" for n, d, loss in zip(N, D, LOSS, strict=True)
)
ROWS = [{"params": n, "tokens": d, "loss": loss} for n, d, loss in zip(N, D, LOSS, strict=True)]
READ = {
    "plain": ("t.csv", PLAIN, None),
    "semicolons": ("t.csv", PLAIN.replace(",", ";"), "read as semicolon-separated"),
    "decimal commas": ("t.csv", COMMAS, "read as semicolon-separated, decimal commas (column loss)"),
    "decimal commas and a mark": ("t.csv", COMMAS.encode("utf-8-sig"), "decimal commas"),
    "quoted decimal commas": ("t.csv", PLAIN.replace("3.5", '"3,5').replace("\n", '"\n').replace('s"', "s")
                              .replace("3.4", '"3,4'), "read as decimal commas (column loss)"),
    "Excel's hint": ("t.csv", "sep=;\n" + COMMAS, "semicolon-separated"),
    "tabs": ("t.csv", PLAIN.replace(",", "\t"), "read as tab-separated"),
    "tsv": ("t.tsv", PLAIN.replace(",", "\t"), "read as tab-separated"),
    "text": ("t.txt", PLAIN, None),
    "spaces for separators": ("t.txt", PLAIN.replace(",", "   "), "read as whitespace-separated"),
    "numpy.savetxt": ("t.txt", "# " + PLAIN.replace(",", " "), "read as whitespace-separated, lines beginning with #"),
    "spaces": ("t.csv", PLAIN.replace(",", ", "), None),
    "carriage returns": ("t.csv", PLAIN.replace("\n", "\r\n"), None),
    "old line ends": ("t.csv", PLAIN.replace("\n", "\r"), None),
    "UTF-16": ("t.csv", PLAIN.encode("utf-16"), "read as UTF-16"),
    "UTF-16 without mark": ("t.csv", PLAIN.encode("utf-16-le"), "read as UTF-16"),
    "UTF-16, tabs, decimal commas": ("t.txt", COMMAS.replace(";", "\t").encode("utf-16"),
                                     "read as UTF-16, tab-separated, decimal commas (column loss)"),
    "Latin-1": ("t.csv", ("größe," + PLAIN.replace("\n", "\nö,")[:-2]).encode("latin-1"), "read as Latin-1"),
    "comments": ("t.csv", "# exported\n" + PLAIN + "# end\n", "read as lines beginning with # as comments"),
    "thousands": ("t.csv", "params|tokens|loss\n" + SPACED,
                  "read as bar-separated, commas between thousands (columns params, tokens)"),
    "groups by points": ("t.csv", ("params;tokens;loss\n" + SPACED).replace(",", "'").replace(".", ",")
                         .replace("'", ".").replace("|", ";"), "decimal commas (columns params, tokens, loss)"),
    "groups by spaces": ("t.csv", "params;tokens;loss\n" + SPACED.replace(",", "\u202f").replace("|", ";"),
                         "read as semicolon-separated"),
    "multiples": ("t.csv", "params,tokens,loss\n32.4M,5.144032922B,3.577\n51.350539M,3.24566538e9,3.5044\n"
                  "81.38512 M,2047876.401K,3.4956\n0.128986723G,.001292122653T,3.5094",
                  "K, M, B and T as thousands, millions, billions and trillions (columns params, tokens)"),
    "powers of ten": ("t.csv", "params,tokens,loss\n3.24e7,5.144032922 x 10^9,3.577\n5.1350539E+07,3245665380,3.5044\n"
                      "8.138512×10^7,2047876401,3.4956\n128_986_723,1292122653.0,3.5094", None),
    "Markdown": ("t.md", MARKDOWN, "read as a table of Markdown"),
    "Markdown in a CSV": ("t.csv", MARKDOWN, "read as a table of Markdown"),
    "row numbers": ("t.csv", "".join(f"{i - 1 if i else ''},{line}\n" for i, line in enumerate(PLAIN.split()))  , None),
    "commas at the ends": ("t.csv", PLAIN.replace("\n", ",\n"), None),
    "blank rows": ("t.csv", PLAIN + ",,\n\n , ,\n", "blank rows left out: 2"),
    "ndjson": ("t.ndjson", "\n".join(map(json.dumps, ROWS)), None),
    "lines in .json": ("t.json", "\n".join(map(json.dumps, ROWS)), "read as one row a line"),
    "columns": ("t.json", json.dumps({"params": N, "tokens": D, "loss": LOSS}), None),
    "split": ("t.json", json.dumps({"columns": list(ROWS[0]), "index": [0, 1, 2, 3],
                                    "data": [list(row.values()) for row in ROWS]}), None),
    "nested": ("t.json", json.dumps({"runs": [{"config": {"params": r["params"]}, "tokens": str(r["tokens"]),
                                               "summary": {"loss": r["loss"]}} for r in ROWS]}),
               "read as the rows of 'runs'"),
    "gzip": ("t.csv.gz", gzip.compress(PLAIN.encode()), None),
    "gzip of lines": ("t.jsonl.gz", gzip.compress("\n".join(map(json.dumps, ROWS)).encode()), None),
    "no suffix": ("t", PLAIN.replace(",", "\t"), "read as tab-separated"),
}  # fmt: skip


def saved(tmp_path: Path, name: str, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


@pytest.mark.parametrize("kind", READ)
def test_a_file_that_can_be_read_in_one_way_is_read_and_says_how(tmp_path: Path, kind: str) -> None:
    name, content, note = READ[kind]
    table = read_table(saved(tmp_path, name, content))
    for column, values in (("n_params", N), ("num_tokens", D), ("loss", LOSS)):
        assert table.axis(column).tolist() == values, column
    assert table.notes == () if note is None else note in "; ".join(table.notes)
    assert table.excluded == ()


REFUSED = {
    "a comma of two meanings": (
        "t.csv", 'params,tokens,loss\n32400000,5144032922,"3,577"\n51350539,3245665380,"3,504"\n',
        "column 'loss' holds '3,577' in row 1, which may be 3577 or 3.577; write plain numbers, such as 1234.5"),
    "a point of two meanings": (
        "t.csv", "params;tokens;loss\n32.400;5144032922;3,57\n51.350;3245665380;3,504\n",
        "column 'params' holds '32.400' in row 1, which may be 32400 or 32.400; write plain numbers"),
    "two decimal marks": ("t.csv", "params;tokens;loss\n32400000;5144032922;3,57\n51350539;3245665380;3.50\n",
                          "column 'loss' mixes decimal commas with points"),
    "commas without quotes": ("t.csv", COMMAS.replace(";", ","),
                              "line 2 has 4 cells, the header 3; numbers with commas need quotes"),
    "a long row": ("t.csv", PLAIN + "1,2,3,4,5\n", "line 6 has 5 cells, the header 3"),
    "a short row": ("t.csv", PLAIN + "1,2\n", "line 6 has 2 cells, the header 3"),
    "an open quote": ("t.csv", PLAIN + '"1,2,3\n', "line 7: unexpected end of data"),
    "two separators": ("t.csv", "a;params,tokens\n1;2,3\n", "its cells may be separated by comma or semicolon"),
    "no header": ("t.csv", PLAIN.split("\n", 1)[1], "its first line holds numbers; put the names of the columns there"),
    "one name twice": ("t.csv", PLAIN.replace("params", "loss"), "2 columns are called 'loss'; rename all but one"),
    "bytes": ("t.csv", bytes(range(256)), "it holds binary data, no text"),
    "a broken archive": ("t.csv.gz", gzip.compress(PLAIN.encode())[:-9], "cannot be read as csv"),
    "a broken line": ("t.jsonl", '{"a": 1}\n{"a": \n', "cannot be read as jsonl: line 2: Expecting value"),
    "a list of numbers": ("t.json", "[1, 2]", "it is a list of something else than objects"),
    "prose about a table": ("t.md", MARKDOWN + "\nSee above.\n", "line 8 is no row of the table"),
    "only blank rows": ("t.csv", "params,tokens,loss\n,,\n", "holds no rows"),
    "no zip": ("t.xlsx", b"PK", "cannot be read as xlsx"),
    "another kind": ("t.docx", b"PK", "unknown kind of table; give .csv, .tsv"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_can_be_read_in_two_ways_or_none_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    name, content, message = REFUSED[kind]
    path = saved(tmp_path, name, content)
    with pytest.raises(UserError) as error:
        [read_table(path).axis(column) for column in ("n_params", "num_tokens", "loss")]
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_another_column_tells_what_a_comma_is(tmp_path: Path) -> None:
    """3,577 is 3.577 beside 5144032922,0 and 3577 beside 3.5."""
    decimal = saved(tmp_path, "a.csv", "params;tokens;loss\n32400000,0;5144032922;3,577\n51350539,0;3245665380;3,504\n")
    assert read_table(decimal).axis("loss").tolist() == [3.577, 3.504]
    points = saved(tmp_path, "b.csv", 'params,tokens,steps,loss\n32400000,5144032922,"3,577",3.5\n')
    assert read_file(points).table["steps"].tolist() == [3577]


def test_a_column_that_nobody_needs_stops_nothing(tmp_path: Path) -> None:
    lines = PLAIN.split()
    text = "\n".join(
        [f"betas;{lines[0].replace(',', ';')}", *(f"0,999;{line.replace(',', ';')}" for line in lines[1:])]
    )
    assert len(read_table(saved(tmp_path, "t.csv", text.replace("0,999", "1,234").replace(".", "."))).runs) == 4


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("-2.5e-3", -0.0025), ("1.234,5", 1234.5), ("1,234.5", 1234.5), ("0,123", 0.123), ("3,24E+07", 3.24e7),
     ("1 000 000", 1e6), ("32.4M", 32.4e6), ("1.3 T", 1.3e12), ("1,234", None), ("1,23,4", None), ("1.2.3", None),
     ("M", None), ("", None), ("1..2", None), (",", None), ("12 34", None), ("3 apples", None), ("\u22121.5", -1.5)],
)  # fmt: skip
def test_a_number_is_read_or_it_is_none(text: str, value: float | None) -> None:
    assert number(text) == value


def test_names_that_look_like_numbers_stay_names(tmp_path: Path) -> None:
    lines = PLAIN.split()
    text = "\n".join([f"run,{lines[0]}", *(f"0{i}M,{line}" for i, line in enumerate(lines[1:]))])
    assert read_table(saved(tmp_path, "t.csv", text)).run_ids == ("00M", "01M", "02M", "03M")


def test_the_same_numbers_come_out_to_the_last_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).lognormal(size=500)
    pd.DataFrame({"x": values}).to_csv(tmp_path / "t.csv", index=False)
    assert read_file(tmp_path / "t.csv").table["x"].tolist() == values.tolist()


def test_a_spreadsheet_of_one_sheet_is_read(tmp_path: Path) -> None:
    pd.DataFrame(ROWS).to_excel(tmp_path / "t.xlsx", index=False)
    assert read_table(tmp_path / "t.xlsx").axis("loss").tolist() == LOSS
    with pd.ExcelWriter(tmp_path / "two.xlsx") as writer:
        for sheet in ("a", "b"):
            pd.DataFrame(ROWS).to_excel(writer, sheet_name=sheet, index=False)
    with pytest.raises(UserError, match="it has the sheets a, b; export one of them as CSV"):
        read_table(tmp_path / "two.xlsx")


def test_whole_numbers_of_any_length_are_read(tmp_path: Path) -> None:
    table = read_file(saved(tmp_path, "t.csv", f"a,b\n{10**30},1\n{'9' * 400},{-(10**17)}\n")).table
    assert table["a"].tolist() == [1e30, np.inf]
    assert table["b"].tolist() == [1, -(10**17)]


@pytest.mark.parametrize("content", [COMMAS.encode(), json.dumps(ROWS).encode(), COMMAS.encode("utf-16")])
def test_a_table_comes_from_the_standard_input(content: bytes, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert main(["fit", "-", "--law", "power", "--against", "n_params", "--bootstrap", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_points"] == 4


def test_what_was_assumed_is_printed(tmp_path: Path, capsys) -> None:
    path = saved(tmp_path, "t.csv", COMMAS)
    arguments = ["fit", str(path), "--law", "power", "--against", "n_params", "--bootstrap", "0"]
    assert main(arguments) == 0
    assert "note: read as semicolon-separated, decimal commas (column loss)" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == ["read as semicolon-separated, decimal commas (column loss)"]


def outcome(path: Path) -> str:
    """What a table's user is told."""
    try:
        return f"{len(read_table(path).runs)} runs"
    except UserError as error:
        return str(error)


def test_mutated_tables_end_in_a_table_or_in_one_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    contents = [(name, text.encode() if isinstance(text, str) else text) for name, text, _ in READ.values()]
    for _ in range(300):
        name, content = contents[rng.integers(len(contents))]
        data = bytearray(content)
        for _ in range(rng.integers(1, 6)):
            at = int(rng.integers(len(data)))
            data[at : at + int(rng.integers(3))] = bytes(rng.choice(list(b",;.\t\"'\n|#0eNaM-\xff\0"), rng.integers(3)))
        path = saved(tmp_path, name, bytes(data))
        assert outcome(path).count("\n") == 0


def test_a_damaged_spreadsheet_is_refused_in_one_line(tmp_path: Path) -> None:
    pd.DataFrame(ROWS).to_excel(tmp_path / "t.xlsx", index=False)
    data = (tmp_path / "t.xlsx").read_bytes()
    with pytest.raises(UserError, match=r"t.xlsx: cannot be read as xlsx: it is damaged: "):
        read_table(saved(tmp_path, "t.xlsx", data[: len(data) // 2]))
