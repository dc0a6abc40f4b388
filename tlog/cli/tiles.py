"""`tlog tiles`: read any tiled log, over HTTP or from a folder, and believe only what leads to its root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlog.checkpoint import Checkpoint
from tlog.cli.entry_names import index_name
from tlog.cli.entry_view import entry_cells, entry_json_line
from tlog.cli.event_input import ENTRY_SUFFIX
from tlog.cli.files import make_directory, read_file, safe_file_name, write_file
from tlog.cli.options import JsonOption
from tlog.cli.progress import progress
from tlog.cli.report import Json, plural, remark, say, say_document, say_facts
from tlog.cli.tile_options import (
    DEFAULT_TIMEOUT_S,
    CacheOption,
    LogKeyOption,
    OriginOption,
    PolicyOption,
    SourceArgument,
    TiledLog,
    TimeoutOption,
    open_tiled_log,
)
from tlog.cli.tls_options import TlsCaOption, TlsCertificateOption, TlsKeyOption, client_tls
from tlog.errors import (
    ConfigError,
    ConsistencyUnprovenError,
    NotFoundError,
    OutOfRangeError,
    ProofError,
    SplitViewError,
)

if TYPE_CHECKING:
    from tlog.tile_source.base import TileCache
    from tlog.tile_source.verified import VerifiedTiles

tiles = typer.Typer(help="Check, prove and fetch from a tiled log (C2SP tlog-tiles).", no_args_is_help=True)

NoEntriesOption = Annotated[
    bool, typer.Option("--no-entries", help="The log has no entry bundles, or they are not of interest.")
]


@tiles.command()
def check(
    *,
    place: SourceArgument,
    log_key: LogKeyOption = None,
    origin: OriginOption = None,
    policy: PolicyOption = None,
    no_entries: NoEntriesOption = False,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a whole tiled log: every tile and every entry must lead to the signed root."""
    tls = client_tls(tls_ca, tls_cert, tls_key)
    with open_tiled_log(
        place, log_key=log_key, origin=origin, policy=policy, timeout_s=timeout_s, tls=tls
    ) as log:
        size = log.checkpoint.tree_size
        try:
            with progress("checked", size, quiet=as_json) as bar:
                checked = log.tiles().check_all(entries=not no_entries, progress=bar.advance)
        except NotFoundError as error:
            if "tile/entries/" in str(error):
                error.add_note("a log without entry bundles is checked with --no-entries")
            raise
    if as_json:
        say_document(
            {
                "source": place,
                **_checkpoint_document(log),
                "hash_tiles": checked.hash_tiles,
                "entry_bundles": None if no_entries else checked.entry_bundles,
                "entries": None if no_entries else checked.entries,
                "entry_bytes": None if no_entries else checked.entry_bytes,
            }
        )
        return
    say_facts(
        {
            "source": place,
            **_checkpoint_facts(log.checkpoint),
            "hash tiles": f"{checked.hash_tiles:,}",
            "entries": "not checked"
            if no_entries
            else f"{checked.entries:,} in {plural(checked.entry_bundles, 'bundle')}, "
            f"{checked.entry_bytes:,} bytes",
        }
    )
    say("checked: the checkpoint is signed, and every one of these leads to its root")


@tiles.command()
def prove(
    *,
    place: SourceArgument,
    leaf_index: Annotated[
        int | None,
        typer.Argument(metavar="[INDEX]", min=0, help="Leaf index to prove.", show_default=False),
    ] = None,
    entry: Annotated[
        Path | None, typer.Option("--entry", help="File that must be the entry at INDEX, byte for byte.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the receipt (C2SP tlog-proof) of INDEX.")
    ] = None,
    from_checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--from-checkpoint", help="An older signed checkpoint: prove that the log still begins with it."
        ),
    ] = None,
    from_size: Annotated[
        int | None, typer.Option("--from-size", min=0, help="An older tree size, instead of a checkpoint.")
    ] = None,
    log_key: LogKeyOption = None,
    origin: OriginOption = None,
    policy: PolicyOption = None,
    cache: CacheOption = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove a leaf, or an older tree, to be part of the newest one, from tiles alone; verified."""
    if [leaf_index, from_checkpoint, from_size].count(None) != 2:
        raise ConfigError("say what to prove, one thing: INDEX, --from-checkpoint FILE, or --from-size SIZE")
    if leaf_index is None and (entry is not None or out is not None):
        raise ConfigError("--entry and --out go with the INDEX of a leaf")
    tls = client_tls(tls_ca, tls_cert, tls_key)
    with open_tiled_log(
        place, log_key=log_key, origin=origin, policy=policy, timeout_s=timeout_s, tls=tls
    ) as log:
        verified = log.tiles(_open_cache(cache, log))
        if leaf_index is not None:
            _prove_leaf(log, verified, leaf_index, entry, out, as_json=as_json)
        else:
            _prove_prefix(log, verified, from_checkpoint, from_size, as_json=as_json)


@tiles.command()
def fetch(
    *,
    place: SourceArgument,
    start: Annotated[int, typer.Argument(metavar="[START]", min=0, help="First leaf index.")] = 0,
    end: Annotated[
        int | None,
        typer.Argument(
            metavar="[END]",
            min=0,
            help="One past the last; without it the size of the tree.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for `.entry` files.")] = None,
    log_key: LogKeyOption = None,
    origin: OriginOption = None,
    policy: PolicyOption = None,
    cache: CacheOption = None,
    no_entries: Annotated[
        bool, typer.Option("--no-entries", help="Fetch leaf hashes, which need no entry bundles.")
    ] = False,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line (NDJSON).")] = False,
) -> None:
    """Fetch entries or leaf hashes from a tiled log, each verified against the signed root."""
    if out is not None and no_entries:
        raise ConfigError("--out is for entries: leave out --no-entries")
    tls = client_tls(tls_ca, tls_cert, tls_key)
    with open_tiled_log(
        place, log_key=log_key, origin=origin, policy=policy, timeout_s=timeout_s, tls=tls
    ) as log:
        last = log.checkpoint.tree_size if end is None else end
        if start > last:
            raise OutOfRangeError(f"entries [{start}, {last}) are no range: give START before END")
        verified = log.tiles(_open_cache(cache, log))
        if no_entries:
            for index, node in enumerate(verified.leaf_hashes(start, last), start):
                say(
                    f'{{"leaf_index": {index}, "leaf_hash": "{node.hex()}"}}'
                    if as_json
                    else f"{index} {node.hex()}"
                )
            return
        stream = _entries(verified, start, last)
        if out is None:
            for index, data in stream:
                say(entry_json_line(index, data) if as_json else "  ".join(entry_cells(index, data)))
            return
        make_directory(out)
        with progress("fetched", last - start, quiet=as_json) as bar:
            for index, data in stream:
                write_file(out / f"{index_name(index)}{ENTRY_SUFFIX}", data)
                bar.advance()
    if as_json:
        say_document({"written": last - start, "directory": str(out)})
    else:
        say(f"wrote {plural(last - start, 'entry', 'entries')} to {out}")


def _prove_leaf(
    log: TiledLog,
    verified: VerifiedTiles,
    leaf_index: int,
    entry_path: Path | None,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    # Imported here, like whatever only one of the commands needs.
    from tlog.merkle import leaf_hash, verify_inclusion
    from tlog.receipt import Receipt, format_receipt
    from tlog.tiles import MAX_BUNDLED_ENTRY_BYTES

    checkpoint = log.checkpoint
    if leaf_index >= checkpoint.tree_size:
        raise OutOfRangeError(
            f"leaf {leaf_index} is asked for, and the signed tree has {checkpoint.tree_size} leaves"
        )
    leaf = verified.read_node(0, leaf_index)
    if entry_path is not None:
        entry = read_file(entry_path, "the entry", max_bytes=MAX_BUNDLED_ENTRY_BYTES)
        if leaf_hash(entry) != leaf:
            raise ProofError(
                f"{entry_path} is not entry {leaf_index}: it hashes to {leaf_hash(entry).hex()}, and the "
                f"tree has {leaf.hex()} there"
            )
    proof = verified.prove_inclusion(leaf_index)
    verify_inclusion(leaf, leaf_index, checkpoint.tree_size, proof, checkpoint.root_hash)
    if out is not None:
        receipt = Receipt(leaf_index=leaf_index, proof=tuple(proof), checkpoint=log.note)
        write_file(out, format_receipt(receipt))
    if as_json:
        say_document(
            {
                **_checkpoint_document(log),
                "leaf_index": leaf_index,
                "leaf_hash": leaf.hex(),
                "proof": [node.hex() for node in proof],
                "receipt": None if out is None else str(out),
            }
        )
        return
    say_facts(
        {
            **_checkpoint_facts(checkpoint),
            "leaf index": leaf_index,
            "leaf hash": leaf.hex(),
            "receipt": None if out is None else str(out),
        }
    )
    _say_proof(proof)
    remark(f"verified: leaf {leaf_index} leads to this root, which is signed")


def _prove_prefix(
    log: TiledLog,
    verified: VerifiedTiles,
    from_checkpoint: Path | None,
    from_size: int | None,
    *,
    as_json: bool,
) -> None:
    from tlog.merkle import verify_consistency
    from tlog.note import MAX_NOTE_BYTES

    newest = log.checkpoint
    if from_checkpoint is not None:
        old_note = read_file(from_checkpoint, "the checkpoint", max_bytes=MAX_NOTE_BYTES)
        old = log.open_checkpoint(old_note)
        if old.tree_size > newest.tree_size:
            raise ConsistencyUnprovenError(
                f"{from_checkpoint} is of size {old.tree_size}, and the log shows size {newest.tree_size}: "
                "it is behind, or was rolled back; ask again later, and keep both checkpoints",
                checkpoints=(old_note, log.note),
            )
        if verified.root_hash(old.tree_size) != old.root_hash:
            raise SplitViewError(
                f"the log signed two histories: {from_checkpoint} has root {old.root_hash.hex()} for size "
                f"{old.tree_size}, and the tree of size {newest.tree_size} begins with "
                f"{verified.root_hash(old.tree_size).hex()}; keep both checkpoints",
                checkpoints=(old_note, log.note),
            )
    else:
        assert from_size is not None
        old = Checkpoint(newest.origin, from_size, verified.root_hash(from_size))
    proof = verified.prove_consistency(old.tree_size)
    verify_consistency(old.tree_size, newest.tree_size, proof, old.root_hash, newest.root_hash)
    if as_json:
        say_document(
            {
                **_checkpoint_document(log),
                "first": {"tree_size": old.tree_size, "root_hash": old.root_hash.hex()},
                "proof": [node.hex() for node in proof],
            }
        )
        return
    say_facts(
        {
            **_checkpoint_facts(newest),
            "begins with": f"size {old.tree_size:,}, root {old.root_hash.hex()}",
        }
    )
    _say_proof(proof)
    signed = "both are signed" if from_checkpoint is not None else "the larger one is signed"
    remark(f"verified: the larger tree begins with the smaller one; {signed}")


def _entries(verified: VerifiedTiles, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    try:
        yield from verified.entries(start, end)
    except NotFoundError as error:
        error.add_note("from a log without entry bundles, leaf hashes are fetched with --no-entries")
        raise


def _open_cache(directory: Path | None, log: TiledLog) -> TileCache | None:
    if directory is None:
        return None
    from tlog.tile_source.directory import DirectoryTileCache

    return DirectoryTileCache(directory / safe_file_name(log.checkpoint.origin))


def _checkpoint_document(log: TiledLog) -> dict[str, Json]:
    return {
        "origin": log.checkpoint.origin,
        "tree_size": log.checkpoint.tree_size,
        "root_hash": log.checkpoint.root_hash.hex(),
        "checkpoint": log.note.decode("utf-8"),
    }


def _checkpoint_facts(checkpoint: Checkpoint) -> dict[str, str | int | None]:
    return {
        "origin": checkpoint.origin,
        "tree size": checkpoint.tree_size,
        "root hash": checkpoint.root_hash.hex(),
    }


def _say_proof(proof: list[bytes]) -> None:
    say(f"proof  {plural(len(proof), 'hash', 'hashes')}")
    for node in proof:
        say(f"  {node.hex()}")
