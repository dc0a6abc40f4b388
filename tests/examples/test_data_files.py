"""The committed data: small, with source and licence, cut by the script beside it, refused when damaged."""

import gzip
import re
import runpy
from pathlib import Path

import pytest
from _support.example_data import DATA, DATASETS

from examples.alliance.rows import read_rows


def test_the_committed_data_is_at_most_eight_megabytes() -> None:
    files = [path for path in DATA.rglob("*") if path.is_file()]
    assert 100_000 < sum(path.stat().st_size for path in files) <= 8_000_000


@pytest.mark.parametrize("dataset", sorted(DATASETS))
def test_every_data_folder_says_where_it_is_from_and_under_which_licence(dataset: str) -> None:
    folder = DATA / dataset
    source = (folder / "SOURCE.md").read_text(encoding="utf-8")
    assert re.search(r"\*\*From:\*\* github\.com/\S+ at [0-9a-f]{40}", source)
    assert all(f"**{word}:**" in source for word in ("What", "Licence", "Cut"))
    assert re.search(r"\*\*Authors?:\*\* \S", source)
    (licence,) = folder.glob("LICENSE*")
    assert len(licence.read_text(encoding="utf-8")) > 400
    assert f"`{licence.name}`" in source


def test_no_data_lies_outside_the_folders_with_a_source() -> None:
    assert {path.parent.relative_to(DATA).as_posix() for path in DATA.rglob("*.gz")} == DATASETS


def test_cutting_the_subset_again_gives_the_committed_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = runpy.run_path(str(DATA / "make_subset.py"))
    script["main"](DATA, tmp_path)
    assert capsys.readouterr().out.count("\n") == len(DATASETS)
    for committed in DATA.rglob("*.gz"):
        cut = tmp_path / committed.relative_to(DATA)
        assert gzip.decompress(cut.read_bytes()) == gzip.decompress(committed.read_bytes())


@pytest.mark.parametrize(
    ("name", "rule", "column", "inside", "outside"),
    [
        (
            "customs/kcs-import-declarations/import_declarations",
            "keep_first_weeks",
            1,
            "2020-01-21",
            "2020-01-22",
        ),
        ("shipments/usaid-scms/scms_delivery_history", "keep_deliveries", -2, "2014-06-30", "2014-07-01"),
        ("shipments/usaid-scms/scms_delivery_history", "keep_deliveries", -2, "2013-01-01", "2012-12-31"),
        (
            "iot/uci-steel-energy/steel_industry_data",
            "keep_winter",
            0,
            "30/04/2018 00:00",
            "01/05/2018 00:15",
        ),
    ],
)
def test_the_subset_script_drops_what_lies_outside_its_days(
    name: str, rule: str, column: int, inside: str, outside: str
) -> None:
    script = runpy.run_path(str(DATA / "make_subset.py"))
    header = gzip.decompress((DATA / f"{name}.csv.gz").read_bytes()).decode().partition("\n")[0]
    lines = []
    for value in (inside, outside, inside):
        fields = ["0"] * (header.count(",") + 1)
        fields[column] = value
        lines.append(",".join(fields))
    text = "\n".join([header, *lines]) + "\n"
    assert script["cut"](text, script[rule]) == "\n".join([header, lines[0], lines[2]]) + "\n"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("a,b\n1,2\n3\n", "line 3"),
        ("a,b\n1,2,3\n", "line 2"),
        ('a,b\n"1\n2",3\n', "line 2"),
        ("a,b\n1,2", "cut off"),
        ("a,b\r\n1,2\r\n", "plain newline"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(content.encode()))
    with pytest.raises(ValueError, match=complaint):
        list(read_rows(path))
