"""`tlog restore`: a log's store out of a backup, brought up to what the log signed last."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlog.cli.options import JsonOption, load_policy
from tlog.cli.progress import progress
from tlog.cli.report import Json, plural, remark, say, say_document, say_facts
from tlog.cli.tile_options import (
    DEFAULT_TIMEOUT_S,
    POLICY_NAME,
    STORE_NAME,
    LogKeyOption,
    OriginOption,
    PolicyOption,
    TimeoutOption,
    Trust,
    open_source,
    open_store,
    open_trust,
    store_directory,
)
from tlog.cli.times import shown_time
from tlog.cli.tls_options import TlsCaOption, TlsCertificateOption, TlsKeyOption, client_tls
from tlog.errors import ConfigError, StorageError, TlogError

if TYPE_CHECKING:
    from tlog.backup.copy import Copy
    from tlog.backup.newest import Known
    from tlog.backup.restore import Plan
    from tlog.tile_source.trust import LogKeys
    from tlog.tls import ClientTls


def restore(
    *,
    place: Annotated[
        str,
        typer.Argument(
            metavar="BACKUP_DIR",
            help="A backup; or an export, a mirror's URL, or the directory of an older copy of the log.",
        ),
    ],
    log_dir: Annotated[
        Path, typer.Argument(metavar="LOG_DIR", help="The log's directory; the store is made below it.")
    ],
    catch_up_from: Annotated[
        list[str] | None,
        typer.Option(
            "--catch-up-from",
            metavar="URL|DIR",
            help="Mirror to take the entries from that the backup lacks; may be repeated.",
            show_default=False,
        ),
    ] = None,
    nodes: Annotated[
        list[str] | None,
        typer.Option(
            "--node",
            metavar="HOST:PORT",
            help="Member's node to ask what the log signed last; may be repeated.",
            show_default=False,
        ),
    ] = None,
    mark: Annotated[
        Path | None,
        typer.Option("--high-water-mark", metavar="FILE", help="The log's mark: what was committed last."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Verify everything, say what would be restored, write nothing.")
    ] = False,
    replace: Annotated[
        str | None,
        typer.Option(
            "--replace",
            metavar="ORIGIN",
            help="Replace the store that is there, of the log with this origin; it is kept beside it.",
            show_default=False,
        ),
    ] = None,
    log_key: LogKeyOption = None,
    origin: OriginOption = None,
    policy: PolicyOption = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a log's store from a backup, and replay what is missing from a member's mirror.

    All of it is verified before anything is written. The policy in LOG_DIR says whom to believe, and which
    witnesses are asked what the log signed last. The server signs again when that is what the store holds.
    """
    from tlog.backup.newest import ask_around
    from tlog.backup.restore import plan_restore, require_free, restore_store
    from tlog.policy import build_policy
    from tlog.tile_source.trust import LogKeys

    target = log_dir / STORE_NAME
    if not dry_run:
        if not log_dir.is_dir():
            raise ConfigError(f"{log_dir} is not a directory: make it first, with the log's keys in it")
        require_free(target, replace=replace is not None)
    if policy is None and log_key is None and (log_dir / POLICY_NAME).is_file():
        policy = log_dir / POLICY_NAME
    trust = open_trust(place, log_key=log_key, origin=origin, policy=policy)
    tls = client_tls(tls_ca, tls_cert, tls_key)
    with ExitStack() as stack:
        copy = stack.enter_context(_open_copy(place, trust, timeout_s=timeout_s, tls=tls))
        own = copy.newest.checkpoint.origin
        keys = LogKeys.of(log for log in trust.logs if log[0] == own)
        if replace is not None and replace != own:
            raise ConfigError(f"--replace names {replace}, and {place} is a copy of {own}")
        mirrors = [
            stack.enter_context(open_source(mirror, trust, timeout_s=timeout_s, tls=tls))
            for mirror in catch_up_from or ()
        ]
        heard = ask_around(
            keys,
            build_policy([]) if policy is None or log_key is not None else load_policy(policy),
            nodes or (),
            timeout_s=timeout_s,
            tls=tls,
        )
        for who, why in heard.silent:
            remark(f"note: {who} did not say what the log signed last: {why}")
        known = [*heard.known, *_known_here(log_dir, place, mark, keys)]
        plan = plan_restore(
            copy, keys, mirrors, known, lambda label, total: progress(label, total, quiet=as_json)
        )
        for who, why in plan.not_taken:
            remark(f"note: nothing was taken from {who}: {why}")
        kept: Path | None = None
        if not dry_run:
            kept = restore_store(
                plan,
                target,
                opens=trust.open,
                replace=replace is not None,
                show=lambda label, total: progress(label, total, quiet=as_json),
            )
    silent = [who for who, _ in heard.silent]
    if as_json:
        say_document(_document(plan, log_dir, silent, kept, written=not dry_run))
    else:
        _say(plan, log_dir, kept, written=not dry_run)


@contextmanager
def _open_copy(place: str, trust: Trust, *, timeout_s: float, tls: ClientTls | None) -> Iterator[Copy]:
    from tlog.backup.copy import copy_of_store, copy_of_tiles
    from tlog.tile_source.trust import LogKeys

    keys = LogKeys.of(trust.logs)
    store_path = None if "://" in place else store_directory(place)
    if store_path is not None:
        with open_store(store_path, trust) as store:
            yield copy_of_store(store, place, keys, now_s=int(time.time()))
        return
    with open_source(place, trust, timeout_s=timeout_s, tls=tls) as source:
        yield copy_of_tiles(source, keys, None if "://" in place else Path(place))


def _known_here(log_dir: Path, place: str, mark: Path | None, keys: LogKeys) -> list[Known]:
    """Return what the mark says, and the store that is there already, if it can be read."""
    from tlog.backup.newest import Known
    from tlog.freezing import look_at
    from tlog.storage.high_water_mark import HighWaterMarkFile

    known: list[Known] = []
    if mark is not None:
        with HighWaterMarkFile(mark, keys.logs[0][0]) as file:
            if file.mark is None:
                raise StorageError(f"there is no high-water mark in {mark}: name another file, or none")
            known.append(
                Known(
                    who=f"the high-water mark {mark}",
                    tree_size=file.mark.tree_size,
                    root_hash=file.mark.root_hash,
                    note=None,
                )
            )
    store = store_directory(str(log_dir))
    # Restored from itself, to be brought up to a mirror, it is open already.
    is_copy = store is not None and Path(place).is_dir() and store_directory(place) == store
    if store is not None and not is_copy:
        try:
            _, committed, _ = look_at(store)
            checkpoint = keys.open(committed.note)
        except TlogError as error:
            remark(f"note: the store that is there cannot be read: {error}")
        else:
            known.append(
                Known(
                    who=f"the store in {log_dir}",
                    tree_size=checkpoint.tree_size,
                    root_hash=checkpoint.root_hash,
                    note=committed.note,
                )
            )
    return known


def _document(plan: Plan, log_dir: Path, silent: list[str], kept: Path | None, *, written: bool) -> Json:
    manifest = plan.copy.manifest
    ahead = plan.ahead
    return {
        "written": written,
        "store": str(log_dir / STORE_NAME),
        "replaced_store": None if kept is None else str(kept),
        "origin": plan.newest.checkpoint.origin,
        "log_vkey": plan.newest.vkey,
        "tree_size": plan.tree_size,
        "root_hash": plan.newest.checkpoint.root_hash.hex(),
        "backup_tree_size": plan.copy.newest.checkpoint.tree_size,
        "backup_taken_s": None if manifest is None else manifest.taken_s,
        "frozen": plan.is_frozen,
        "caught_up_from": plan.caught_up_from,
        "missing_entries": plan.missing_entries,
        "newest_known": None
        if ahead is None
        else {"who": ahead.who, "tree_size": ahead.tree_size, "root_hash": ahead.root_hash.hex()},
        "known": [{"who": one.who, "tree_size": one.tree_size} for one in plan.known],
        "silent": silent,
    }


def _say(plan: Plan, log_dir: Path, kept: Path | None, *, written: bool) -> None:
    manifest, checkpoint, backup = plan.copy.manifest, plan.newest.checkpoint, plan.copy.newest.checkpoint
    added = plan.tree_size - backup.tree_size
    taken = ""
    if manifest is not None:
        taken = f", taken {shown_time(manifest.taken_s)} ({age(manifest.taken_s, int(time.time()))})"
    say_facts(
        {
            "store": str(log_dir / STORE_NAME),
            "origin": checkpoint.origin,
            "log key": plan.newest.vkey,
            "tree size": f"{plan.tree_size:,}",
            "root hash": checkpoint.root_hash.hex(),
            "backup": f"{plural(backup.tree_size, 'entry', 'entries')}{taken}",
            "caught up": None
            if plan.caught_up_from is None
            else f"{plural(added, 'entry', 'entries')} from {plan.caught_up_from}",
            "frozen": "yes" if plan.is_frozen else None,
            "kept": None if kept is None else f"the store that was there is {kept}",
        }
    )
    if plan.is_frozen is None:
        remark(
            "note: nothing says whether the log was frozen at this size; if it was, `tlog freeze` it again"
        )
    say("restored and checked" if written else "verified; nothing was written")
    if plan.ahead is None:
        if plan.known:
            say("nobody who answered knows of more than these entries")
        else:
            say("nobody was asked whether these are all: name mirrors, nodes, or the high-water mark")
        return
    say(
        f"GAP: {plan.ahead.who} knows of size {plan.ahead.tree_size:,}: entries [{plan.tree_size}, "
        f"{plan.ahead.tree_size}) are missing, and the server will not sign without them"
    )
    say("do: restore again with --catch-up-from the tiles of somebody who has them: a mirror, an export")


def age(taken_s: int, now_s: int) -> str:
    """Return how old a backup is, in words; by a clock that was set back it is from the future."""
    seconds = now_s - taken_s
    if seconds < 0:
        return f"{-seconds} s ahead of this machine's clock: one of the two is wrong"
    days, rest = divmod(seconds, 86_400)
    hours, minutes = rest // 3600, rest % 3600 // 60
    return f"{days} d {hours} h old" if days else f"{hours} h {minutes} min old"
