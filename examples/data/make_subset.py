"""Cuts the committed subset out of the full data files, as the SOURCE.md beside each set says.

    python examples/data/make_subset.py FULL_DATA_FOLDER OUT_FOLDER

The full folder has one folder a set, with the names used here; a file may be plain or gzipped. Every cut is a
rule about the record itself (a range of days), so cutting a subset again gives the same subset; that is how a
test holds this script and the committed files together. Lines are copied byte for byte, in their order.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Callable
from pathlib import Path

KCS_LAST_DAY = "2020-01-21"
SCMS_FIRST_DAY, SCMS_LAST_DAY = "2013-01-01", "2014-06-30"
METER_MONTHS = ("01", "02", "03", "04")

Keep = Callable[[dict[str, str]], bool]


def keep_all(record: dict[str, str]) -> bool:
    """Keep every record."""
    return True


def keep_first_weeks(record: dict[str, str]) -> bool:
    """Keep the declarations of the first three weeks of 2020."""
    return record["Date"] <= KCS_LAST_DAY


def keep_deliveries(record: dict[str, str]) -> bool:
    """Keep what was delivered in the 18 months from 2013; all lines of a shipment have one delivery day."""
    return SCMS_FIRST_DAY <= record["delivered_iso"] <= SCMS_LAST_DAY


def keep_winter(record: dict[str, str]) -> bool:
    """Keep the readings of January to April; dates are DD/MM/YYYY."""
    return record["date"][3:5] in METER_MONTHS


CUTS: dict[str, Keep] = {
    "customs/kcs-import-declarations/import_declarations.csv": keep_first_weeks,
    "customs/hmrc-cds/messages.jsonl": keep_all,
    "invoices/uci-online-retail/cross_border_invoice_lines.csv": keep_all,
    "shipments/usaid-scms/scms_delivery_history.csv": keep_deliveries,
    "iot/uci-steel-energy/steel_industry_data.csv": keep_winter,
}


def read_full(folder: Path, name: str) -> str:
    """Read a full file, plain or gzipped. Raises FileNotFoundError when there is neither."""
    plain, zipped = folder / name, folder / f"{name}.gz"
    data = plain.read_bytes() if plain.exists() else gzip.decompress(zipped.read_bytes())
    return data.decode("utf-8")


def cut(text: str, keep: Keep) -> str:
    """Return the header and the records to keep, each line as it was. Requires one line a record."""
    lines = text.removesuffix("\n").split("\n")
    records = csv.DictReader(lines, strict=True)
    kept = [lines[0], *(line for line, record in zip(lines[1:], records, strict=True) if keep(record))]
    return "".join(f"{line}\n" for line in kept)


def main(full: Path, out: Path) -> None:
    """Write every cut as a gzip file without a time stamp."""
    for name, keep in CUTS.items():
        text = read_full(full, name)
        target = out / f"{name}.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        cut_text = text if keep is keep_all else cut(text, keep)
        target.write_bytes(gzip.compress(cut_text.encode("utf-8"), compresslevel=9, mtime=0))
        print(f"{target}: {cut_text.count(chr(10)):,} lines, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
