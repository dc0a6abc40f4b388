"""`tlog prove`: proofs by themselves, verified before they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tlog.checkpoint import Checkpoint
from tlog.cli.entry_names import check_entry_name, locate
from tlog.cli.options import IdOption, JsonOption, LogOptions, SourceOption, with_log_options
from tlog.cli.report import plural, remark, say, say_document, say_facts
from tlog.errors import OutOfRangeError
from tlog.merkle import EMPTY_ROOT, CompactRange, leaf_hash

if TYPE_CHECKING:
    from tlog.client import LogClient, VerifiedCheckpoint

prove = typer.Typer(help="Show a proof, verified.", no_args_is_help=True)


@prove.command()
@with_log_options
def inclusion(
    *,
    log: LogOptions,
    leaf_index: Annotated[
        int | None,
        typer.Argument(metavar="[INDEX]", min=0, help="Leaf index of the entry.", show_default=False),
    ] = None,
    source: SourceOption = None,
    event_id: IdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove one entry to be in the newest published tree."""
    check_entry_name(leaf_index, source, event_id)
    with log.connect() as client:
        located = locate(client, leaf_index, source, event_id)
        proven = client.inclusion_proof(located.entry, leaf_index=located.leaf_index)
    checkpoint = proven.checkpoint
    if as_json:
        say_document(
            {
                "origin": checkpoint.checkpoint.origin,
                "leaf_index": proven.leaf_index,
                "leaf_hash": leaf_hash(proven.entry).hex(),
                "tree_size": checkpoint.tree_size,
                "root_hash": checkpoint.root_hash.hex(),
                "proof": [node.hex() for node in proven.proof],
                "checkpoint": checkpoint.note.decode("utf-8"),
            }
        )
        return
    say_facts(
        {
            "origin": checkpoint.checkpoint.origin,
            "leaf index": proven.leaf_index,
            "leaf hash": leaf_hash(proven.entry).hex(),
            "tree size": checkpoint.tree_size,
            "root hash": checkpoint.root_hash.hex(),
        }
    )
    _say_hashes(proven.proof)
    remark(f"verified: leaf {proven.leaf_index} leads to this root, which {log.policy} trusts")


@prove.command()
@with_log_options
def consistency(
    *,
    log: LogOptions,
    size1: Annotated[int, typer.Argument(metavar="M", min=0, help="Smaller tree size.")],
    size2: Annotated[int, typer.Argument(metavar="N", min=0, help="Larger tree size.")],
    as_json: JsonOption = False,
) -> None:
    """Prove the tree of size M to be a prefix of the tree of size N."""
    if size1 > size2:
        raise OutOfRangeError(f"size {size1} is above size {size2}: give the smaller one first")
    with log.connect() as client:
        signed = client.checkpoint()
        first, second = (proven_prefix(client, signed, size) for size in (size1, size2))
        proof = client.consistency_proof(first, second)
    if as_json:
        say_document(
            {
                "origin": first.origin,
                "first": {"tree_size": size1, "root_hash": first.root_hash.hex()},
                "second": {"tree_size": size2, "root_hash": second.root_hash.hex()},
                "proof": [node.hex() for node in proof],
                "signed_tree_size": signed.tree_size,
            }
        )
        return
    say_facts(
        {
            "origin": first.origin,
            "first": f"size {size1}, root {first.root_hash.hex()}",
            "second": f"size {size2}, root {second.root_hash.hex()}",
        }
    )
    _say_hashes(proof)
    remark(
        f"verified; both roots are those of the signed checkpoint of size {signed.tree_size}, which "
        f"{log.policy} trusts, cut off at these sizes"
    )


def proven_prefix(client: LogClient, signed: VerifiedCheckpoint, tree_size: int) -> Checkpoint:
    """Return the (unsigned) checkpoint that a signed one had at an earlier size, derived from proofs only.

    The left siblings on the path of leaf `tree_size` - 1 are the compact range of everything before it, and
    the path ties them to the signed root. Raises OutOfRangeError above the signed size.
    """
    if tree_size > signed.tree_size:
        raise OutOfRangeError(
            f"size {tree_size} is asked for, and the log has published {signed.tree_size}: "
            "ask for a size up to that"
        )
    if tree_size == signed.tree_size:
        return signed.checkpoint
    if tree_size == 0:
        return Checkpoint(signed.checkpoint.origin, 0, EMPTY_ROOT)
    ((index, entry),) = client.entries(tree_size - 1, tree_size)
    proven = client.inclusion_proof(entry, leaf_index=index)
    root_hash = prefix_root(leaf_hash(entry), index, proven.checkpoint.tree_size, proven.proof)
    return Checkpoint(signed.checkpoint.origin, tree_size, root_hash)


def prefix_root(leaf: bytes, leaf_index: int, tree_size: int, proof: Sequence[bytes]) -> bytes:
    """Compute the root of leaves [0, leaf_index] from a verified inclusion proof of the last of them.

    Which hashes of the proof are left siblings follows from the numbers (RFC 9162 section 2.1.3.2).
    """
    left: list[bytes] = []
    position, last = leaf_index, tree_size - 1
    for sibling in proof:
        if position & 1 or position == last:
            left.append(sibling)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        position, last = position >> 1, last >> 1
    before = CompactRange(start=0, end=leaf_index, hashes=tuple(reversed(left)))
    return before.append(leaf).root_hash()


def _say_hashes(proof: Sequence[bytes]) -> None:
    say(f"proof      {plural(len(proof), 'hash', 'hashes')}")
    for node in proof:
        say(f"  {node.hex()}")
