"""`tlog prove`: proofs that a stranger can check again from what is printed."""

from __future__ import annotations

import pytest
from _support.command_line import tlog
from _support.naive_merkle import NaiveTree, path

from tlog.checkpoint import parse_checkpoint
from tlog.cli.prove import prefix_root
from tlog.merkle import EMPTY_ROOT, leaf_hash, verify_consistency, verify_inclusion
from tlog.note import parse_note


def hashes(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


def test_an_inclusion_proof_leads_to_the_signed_root(served) -> None:
    event = served.event()
    (index,) = served.append(event)
    for named in ((index,), ("--source", event["source"], "--id", event["id"])):
        ended = served.run("prove", "inclusion", *named, "--json")
        assert ended.code == 0, ended
        answer = ended.json
        checkpoint = parse_checkpoint(parse_note(answer["checkpoint"].encode())[0])
        assert checkpoint.root_hash.hex() == answer["root_hash"]
        assert answer["leaf_index"] == index
        verify_inclusion(
            bytes.fromhex(answer["leaf_hash"]),
            index,
            answer["tree_size"],
            hashes(answer["proof"]),
            checkpoint.root_hash,
        )


def test_consistency_proofs_hold_between_all_small_sizes(served) -> None:
    served.append(*(served.event() for _ in range(6)))
    newest = served.run("checkpoint", "--json").json
    entries = [line for line in served.run("entries", "--json").out.splitlines() if line]
    assert len(entries) == newest["tree_size"]
    sizes = [(0, 0), (0, 3), (1, 1), (1, 4), (2, 4), (3, 8), (4, 8), (5, 6), (7, newest["tree_size"])]
    for size1, size2 in sizes:
        ended = served.run("prove", "consistency", size1, size2, "--json")
        assert ended.code == 0, ended
        first, second = ended.json["first"], ended.json["second"]
        verify_consistency(
            size1,
            size2,
            hashes(ended.json["proof"]),
            bytes.fromhex(first["root_hash"]),
            bytes.fromhex(second["root_hash"]),
        )
        if size1 == 0:
            assert first["root_hash"] == EMPTY_ROOT.hex()
        if size2 == newest["tree_size"]:
            assert second["root_hash"] == newest["root_hash"]


def test_the_root_of_every_prefix_follows_from_an_inclusion_proof() -> None:
    tree = NaiveTree([bytes([number]) for number in range(40)])
    for tree_size in range(1, len(tree.entries) + 1):
        for leaf_index in range(tree_size):
            proof = path(tree.mth, leaf_index, 0, tree_size)
            leaf = leaf_hash(tree.entries[leaf_index])
            assert prefix_root(leaf, leaf_index, tree_size, proof) == tree.mth(0, leaf_index + 1)


@pytest.mark.parametrize("sizes", [(5, 3), (0, 10**9), (10**9, 10**9), (-1, 3)])
def test_sizes_that_are_not_there_are_a_usage_error(served, sizes: tuple[int, int]) -> None:
    assert served.run("prove", "consistency", *sizes).code == 2


def test_an_index_that_is_not_there_is_a_usage_error(served) -> None:
    assert served.run("prove", "inclusion", 10**9).code == 2


def test_proofs_are_printed_for_people_whole(served) -> None:
    ended = served.run("prove", "inclusion", 0, COLUMNS="20")
    as_json = served.run("prove", "inclusion", 0, "--json").json
    for node in (*as_json["proof"], as_json["root_hash"], as_json["leaf_hash"]):
        assert node in ended.out
    assert "verified" in ended.err


def test_a_server_that_is_down_is_a_remote_error(served) -> None:
    ended = tlog(
        *("prove", "inclusion", 0, "--timeout", "0.3", "--json"),
        env={**served.env, "TLOG_SERVER": "127.0.0.1:1"},
    )
    assert ended.code == 3
    assert ended.error["code"] == "remote"
