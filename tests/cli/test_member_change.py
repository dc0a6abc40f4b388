"""`tlog member rotate|suspend|resume`: what was signed before stays valid, what comes after does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from _support.command_line import tlog

from tlog.client import LogClient
from tlog.errors import RefusalReason, RefusedError
from tlog.membership import Registry
from tlog.policy import parse_policy
from tlog.validate import verify_entry

ORIGIN = "log.example/alliance"


def both(served) -> tuple[object, ...]:
    return ("--sign", served.governor(1), "--sign", served.governor(2))


def claim(served, member_id: str) -> bytes:
    return json.dumps(served.event(source=f"urn:example:{member_id}")).encode()


def replay(served) -> tuple[int, Registry]:
    """Fold the whole log as an auditor does; whatever is refused at its index ends it."""
    with LogClient(
        served.server.grpc_address, parse_policy(served.policy.read_bytes()), checkpoint_file=None
    ) as client:
        registry, count = Registry.EMPTY, 0
        for _, entry in client.entries():
            verified = verify_entry(entry, ORIGIN)
            registry, _ = registry.fold(verified.event, verified.public_keys, verified.leaf_hash)
            count += 1
        return count, registry


def test_an_entry_under_a_key_that_was_rotated_out_stays_valid_and_the_next_is_refused(
    served, tmp_path: Path
) -> None:
    old = served.admit("rotating", source="urn:example:rotating", role="bank")
    before = served.run("member", "show", "rotating", "--json").json
    receipts = tmp_path / "receipts"
    key = ("--key", served.key("rotating"))
    appended = served.run("append", *key, "--receipts", receipts, "--json", stdin=claim(served, "rotating"))
    assert appended.code == 0, appended
    index = appended.json["entries"][0]["leaf_index"]

    new = served.new_key("rotating-two")
    rotated = served.run(
        "member", "rotate", "rotating", "--key", f"{served.key('rotating-two')}.vkey", *both(served), "--json"
    )
    assert rotated.code == 0, rotated
    assert served.run("member", "show", "rotating", "--json").json == {
        **before,
        "keys": [{"public_key": old, "revoked": True}, {"public_key": new, "revoked": False}],
    }

    refused = served.run("append", *key, "--json", stdin=claim(served, "rotating"))
    assert (refused.code, refused.json["refused"][0]["code"]) == (1, "revoked_key")
    key_two = ("--key", served.key("rotating-two"))
    assert served.run("append", *key_two, stdin=claim(served, "rotating")).code == 0
    (entry,) = receipts.glob("*.entry")
    # Offline, and with the whole log read by an auditor.
    assert tlog("verify", entry, "--policy", served.policy).code == 0
    assert served.run("receipt", index, "--out", tmp_path / "newest").code == 0
    count, registry = replay(served)
    assert count > index
    verified = verify_entry(entry.read_bytes(), ORIGIN)
    with pytest.raises(RefusedError) as caught:
        registry.authorise(verified.event, verified.public_keys)
    assert caught.value.reason is RefusalReason.REVOKED_KEY


def test_a_rotation_revokes_only_what_is_named_and_brings_only_new_keys(served) -> None:
    first = served.admit("many", source="urn:example:many", role="bank")
    second, third = served.new_key("many-two"), served.new_key("many-three")
    assert served.run("member", "add", "many", "--key", second, *both(served)).code == 0
    rotated = served.run(
        "member", "rotate", "many", "--key", third, "--revoke", first, *both(served), "--json"
    )
    assert rotated.code == 0, rotated
    assert served.run("member", "show", "many", "--json").json["keys"] == [
        {"public_key": first, "revoked": True},
        {"public_key": second, "revoked": False},
        {"public_key": third, "revoked": False},
    ]
    for known in (first, second):
        assert served.run("member", "rotate", "many", "--key", known, *both(served)).code == 2
    assert served.run("member", "rotate", "many", *both(served)).code == 2
    assert served.run("member", "rotate", "nobody", "--key", third, "--json").code == 3


def test_a_suspended_member_signs_nothing_until_it_is_resumed(served) -> None:
    served.admit("pausing", source="urn:example:pausing", role="bank")
    before = served.run("member", "show", "pausing", "--json").json
    key = ("--key", served.key("pausing"))
    assert served.run("append", *key, stdin=claim(served, "pausing")).code == 0
    assert served.run("member", "suspend", "pausing", *both(served)).code == 0
    event = claim(served, "pausing")
    refused = served.run("append", *key, "--json", stdin=event)
    assert refused.json["refused"][0]["code"] == "member_not_active"
    assert served.run("member", "suspend", "pausing", *both(served)).code == 2
    assert served.run("member", "resume", "pausing", *both(served)).code == 0
    assert served.run("append", *key, stdin=event).code == 0
    assert served.run("member", "show", "pausing", "--json").json == before
    replay(served)


def test_a_rotation_below_the_threshold_is_written_down_for_the_others(served, tmp_path: Path) -> None:
    served.admit("shared", source="urn:example:shared", role="bank")
    new = served.new_key("shared-two")
    one = ("--sign", served.governor(1))
    assert served.run("member", "rotate", "shared", "--key", new, *one).code == 2
    out = tmp_path / "one.entry"
    assert served.run("member", "rotate", "shared", "--key", new, *one, "--out", out).code == 0
    ended = served.run("governance", "sign", out, "--key", served.governor(2), "--append")
    assert ended.code == 0, ended
    assert new in served.run("member", "show", "shared").out


def test_a_member_comes_from_a_file_as_show_writes_it(served, tmp_path: Path) -> None:
    served.admit("filed", source="urn:example:filed", role="bank")
    state = served.run("member", "show", "filed", "--json").json
    path = tmp_path / "member.json"

    def add(document: object, *more: object):
        path.write_text(json.dumps(document))
        return served.run("member", "add", "filed", "--file", path, *both(served), *more, "--json")

    changed = {**state, "name": "Filed & Sons", "roles": ["bank", "insurer"]}
    assert add(changed).code == 0
    assert served.run("member", "show", "filed", "--json").json == changed
    assert add({**changed, "id": "other"}).code == 2
    assert add({**changed, "more": 1}).code == 2
    assert add(changed, "--name", "X").code == 2
    refused = add({**changed, "keys": []})
    assert refused.code == 2
    assert "leaves out key" in refused.error["message"]
    assert served.run("member", "show", "filed", "--json").json == changed
