"""Customs declarations and notifications against the rows and messages they come from."""

import gzip
import hashlib
import json
import re
from collections import defaultdict

import pytest
from _support.example_data import DATA, csv_rows

from examples.alliance.customs_hmrc import NOTIFICATIONS
from examples.alliance.event_fields import EventFields


def test_every_korean_declaration_is_lodged_with_its_row_and_then_accepted(events: list[EventFields]) -> None:
    rows = {
        row["Declaration ID"]: row
        for row in csv_rows("customs/kcs-import-declarations/import_declarations.csv.gz")
    }
    course = defaultdict(list)
    for event in sorted(events, key=lambda event: event.instant):
        if event.source.endswith("/kr-import"):
            course[event.data["declaration"]].append(event)
    assert set(course) == set(rows)
    for number, row in rows.items():
        lodged, *decisions = course[number]
        assert lodged.time.startswith(row["Date"])
        assert lodged.time.endswith("+09:00")
        assert (lodged.data["importer"], lodged.data["hs6"]) == (row["Importer ID"], row["HS6 Code"])
        assert lodged.data.get("seller", "") == row["Seller ID"]
        expected = ["accepted"]
        expected += ["controlled"] if row["Fraud"] == "1" else []
        expected += ["released"] if row["Critical Fraud"] != "2" else []
        assert [event.type.split(".")[2] for event in decisions] == expected
        assert decisions[0].data["answers"] == {"source": lodged.source, "id": lodged.id}
    assert sum(row["Critical Fraud"] == "2" for row in rows.values()) > 10


@pytest.fixture(scope="module")
def messages() -> dict[str, dict[str, str]]:
    lines = gzip.decompress((DATA / "customs/hmrc-cds/messages.jsonl.gz").read_bytes()).decode().splitlines()
    return {message["file"]: message for message in map(json.loads, lines)}


def test_every_uk_event_commits_to_its_message(
    events: list[EventFields], messages: dict[str, dict[str, str]]
) -> None:
    found = [event for event in events if event.source.endswith("/gb-cds")]
    for event in found:
        message = messages[event.data["file"]]
        assert event.data["xml_sha256"] == hashlib.sha256(message["xml"].encode()).hexdigest()
        assert event.data["function_code"] == message["function_code"]
        assert event.data["lrn"] == message["lrn"]
        assert event.subject == f"declaration:{event.data['mrn']}"


def test_a_uk_notification_has_its_own_reference_as_id_and_its_own_issue_time(
    events: list[EventFields], messages: dict[str, dict[str, str]]
) -> None:
    notified = [event for event in events if event.source.endswith("customs/gb-cds")]
    assert len(notified) == 208
    for event in notified:
        message = messages[event.data["file"]]
        assert re.fullmatch(r"[0-9a-f]{32}", event.id)
        assert message["xml"].index(event.id) < message["xml"].index(message["mrn"])
        assert message["mrn"] == event.data["mrn"]
        assert re.sub(r"[-T:]", "", event.time[:19]) == message["issue_datetime"][:14]
        assert event.time[19:] == ("+00:00" if message["issue_datetime"].endswith("Z") else "+01:00")
    references = {
        re.search(r"FunctionalReferenceID>\s*([0-9a-f]{32})", message["xml"])[1]
        for message in messages.values()
        if message["message"] == "Response" and message["function_code"] in NOTIFICATIONS
    }
    assert {event.id for event in notified} == references


def test_the_function_code_counts_and_not_the_file_name(events: list[EventFields]) -> None:
    (event,) = (e for e in events if e.data.get("file") == "TT_EX038a/Example_Notifications/02_DMSRCV_2_.xml")
    assert event.type == "trade.goods.exited.v1"
    assert event.time == "2023-09-08T13:00:30+01:00"


def test_a_uk_declaration_is_lodged_before_customs_answers(events: list[EventFields]) -> None:
    notified = defaultdict(list)
    for event in events:
        if event.source.endswith("customs/gb-cds"):
            notified[event.subject].append(event.instant)
    lodged = [event for event in events if event.source.endswith("single-window/gb-cds")]
    assert len(lodged) == 74
    assert sum(event.subject in notified for event in lodged) > 70
    for event in lodged:
        assert all(event.instant < instant for instant in notified[event.subject])
        assert event.data["synthetic"] == ["time"]
