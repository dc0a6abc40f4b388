"""The options that several commands share, and the one place where they become a client of a log."""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tlog.checkpoint import parse_checkpoint
from tlog.cli.files import make_directory, read_file, safe_file_name, write_file
from tlog.cli.report import remark
from tlog.cli.times import shown_time
from tlog.cli.tls_options import TlsCaOption, TlsCertificateOption, TlsKeyOption, client_tls
from tlog.encoding import parse_hex, shown
from tlog.errors import (
    ConfigError,
    ConsistencyUnprovenError,
    MalformedError,
    SplitViewError,
    StorageError,
    VerificationError,
)
from tlog.freshness import FreshnessRule, require_quorum
from tlog.note import parse_note
from tlog.policy import MAX_POLICY_BYTES, Policy, parse_policy

if TYPE_CHECKING:
    from tlog.client import LogClient
    from tlog.tls import ClientTls

DEFAULT_SERVER = "127.0.0.1:8650"
DEFAULT_TIMEOUT_S = 15.0

JsonOption = Annotated[
    bool, typer.Option("--json", help="Answer as one JSON document on stdout; errors as JSON on stderr.")
]
RequiredPolicyOption = Annotated[
    Path, typer.Option("--policy", envvar="TLOG_POLICY", help="C2SP policy file: which keys are trusted.")
]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="The event's source; together with --id, instead of an index.")
]
IdOption = Annotated[str | None, typer.Option("--id", help="The event's id; together with --source.")]

_LOG = "The log to talk to"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Says which log to talk to, and on what terms to believe it."""

    server: Annotated[
        str,
        typer.Option("--server", envvar="TLOG_SERVER", help="host:port of the log.", rich_help_panel=_LOG),
    ] = DEFAULT_SERVER
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            envvar="TLOG_POLICY",
            help="C2SP policy file: which keys are trusted. `tlog init` writes one.",
            rich_help_panel=_LOG,
        ),
    ] = None
    origin: Annotated[
        str | None,
        typer.Option(
            "--origin",
            envvar="TLOG_ORIGIN",
            help="Origin of the log, where the policy names several.",
            rich_help_panel=_LOG,
        ),
    ] = None
    genesis: Annotated[
        str | None,
        typer.Option(
            "--genesis",
            envvar="TLOG_GENESIS",
            help="Leaf hash of entry 0 (hex), as `tlog init` printed it: the log is held to it.",
            rich_help_panel=_LOG,
        ),
    ] = None
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            envvar="TLOG_STATE",
            help="Directory for the trusted checkpoint; without it ~/.local/state/tlog (XDG).",
            rich_help_panel=_LOG,
            show_default=False,
        ),
    ] = None
    timeout_s: Annotated[
        float,
        typer.Option(
            "--timeout",
            min=0.1,
            max=3_600,
            help="Seconds for one call, retries included.",
            rich_help_panel=_LOG,
        ),
    ] = DEFAULT_TIMEOUT_S
    tls_ca: TlsCaOption = None
    tls_cert: TlsCertificateOption = None
    tls_key: TlsKeyOption = None
    max_age_s: Annotated[
        float | None,
        typer.Option(
            "--max-age",
            metavar="SECONDS",
            help="Fail unless the policy's quorum has cosigned what the log publishes at most so long ago.",
            rich_help_panel=_LOG,
            show_default=False,
        ),
    ] = None

    def __post_init__(self) -> None:
        if not self.server.isascii() or not self.server.isprintable() or ":" not in self.server:
            raise ConfigError(f"--server is {shown(self.server)}, not host:port, such as {DEFAULT_SERVER}")

    def load_policy(self) -> Policy:
        """Read the policy file. Raises ConfigError."""
        if self.policy is None:
            raise ConfigError(
                "nothing says which log key to trust: give --policy FILE, or set TLOG_POLICY "
                "(`tlog init` writes the file `policy`; members get it from the log's operator)"
            )
        return load_policy(self.policy)

    def tls(self) -> ClientTls | None:
        """Read what the log's certificate has to come from, and what it is shown. Raises ConfigError."""
        return client_tls(self.tls_ca, self.tls_cert, self.tls_key)

    @contextmanager
    def connect(self, receipts: Path | None = None) -> Iterator[LogClient]:
        """Open the verifying client; what a failed check leaves behind is kept as files and named.

        What the log proves is held against the `receipts` that are kept in a folder. Raises ConfigError, and
        what the client raises.
        """
        # Imported here: grpc takes longer to load than most commands run.
        from tlog.client import LogClient, ReceiptFolder, RetryPolicy, TrustedLog
        from tlog.grpc_tls import channel_credentials

        policy = self.load_policy()
        tls = self.tls()
        freshness = None if self.max_age_s is None else _ToldFreshness(self.max_age_s, policy)
        origin = TrustedLog.for_origin(policy, self.origin).origin
        state = self.state or default_state_directory()
        make_directory(state, mode=0o700)
        with LogClient(
            self.server,
            policy,
            checkpoint_file=state / f"{safe_file_name(origin)}.checkpoint",
            origin=origin,
            genesis_leaf_hash=self._genesis_leaf_hash(),
            freshness=freshness,
            receipts=None if receipts is None else ReceiptFolder(receipts).find,
            timeout_s=self.timeout_s,
            retry=RetryPolicy(deadline_s=self.timeout_s),
            credentials=None if tls is None else channel_credentials(tls),
        ) as client:
            try:
                yield client
                if freshness is not None:
                    freshness.tell()
            except VerificationError as error:
                trusted = "nothing before" if client.trusted is None else f"size {client.trusted.tree_size}"
                error.add_note(
                    f"checked: {origin} at {self.server}, against {self.policy}; trusted: {trusted} ({state})"
                )
                if isinstance(error, SplitViewError | ConsistencyUnprovenError):
                    for path in _keep_checkpoints(state, origin, error.checkpoints):
                        error.add_note(f"kept: {path}")
                raise

    def _genesis_leaf_hash(self) -> bytes | None:
        if self.genesis is None:
            return None
        try:
            return parse_hex(self.genesis, "--genesis", length=32)
        except MalformedError as error:
            raise ConfigError(f"{error}; `tlog init` printed it, {'0' * 8}… style, 64 digits") from error


class _ToldFreshness:
    """Holds every published checkpoint against --max-age, and tells what came of the last one.

    Raises ConfigError for an age, or a policy, that nothing can be held against.
    """

    def __init__(self, max_age_s: float, policy: Policy) -> None:
        self._rule = FreshnessRule(max_age_s=max_age_s, now_s=time.time)
        require_quorum(policy)
        self._told = ""

    def verify(self, note: bytes, policy: Policy) -> None:
        found = self._rule.measure(note, policy)
        quorum = "" if policy.quorum is None else policy.quorum.decode("utf-8", "backslashreplace")
        self._told = (
            f"fresh: by {shown_time(found.time_s)} all of quorum {shown(quorum)} had cosigned size "
            f"{parse_checkpoint(parse_note(note)[0]).tree_size}, {found.age_s:.0f} s before it was checked; "
            f"at most {self._rule.max_age_s:g} s are allowed"
        )

    def tell(self) -> None:
        if self._told:
            remark(self._told)


Function = TypeVar("Function", bound=Callable[..., object])


def with_log_options(function: Function) -> Function:
    """Give a command every option of LogOptions, in place of its one parameter `log`."""
    signature = inspect.signature(function, eval_str=True)
    # Evaluated against LogOptions' own module, whatever module the command is in.
    hints = inspect.get_annotations(LogOptions, eval_str=True)
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(LogOptions)
    ]
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        if name != "log"
    ]

    @functools.wraps(function)
    def command(**arguments: object) -> object:
        chosen = {option.name: arguments.pop(option.name) for option in options}
        return function(**arguments, log=LogOptions(**chosen))  # type: ignore[arg-type]

    parameters = [*own, *options]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del command.__wrapped__
    return command  # type: ignore[return-value]


def load_policy(path: Path) -> Policy:
    """Read and parse a policy file. Raises ConfigError when there is none, or it is malformed."""
    try:
        return parse_policy(read_file(path, "the policy", max_bytes=MAX_POLICY_BYTES))
    except MalformedError as error:
        raise ConfigError(f"{path}: {error}") from error


def default_state_directory() -> Path:
    """Return where trusted checkpoints are kept: $XDG_STATE_HOME/tlog, else ~/.local/state/tlog.

    Raises ConfigError when there is no home directory either.
    """
    # XDG Base Directory Specification: a relative path in the variable is to be ignored.
    stated = Path(os.environ.get("XDG_STATE_HOME", ""))
    if stated.is_absolute():
        return stated / "tlog"
    try:
        return Path.home() / ".local" / "state" / "tlog"
    except RuntimeError as error:
        raise ConfigError(
            "there is no home directory to keep the trusted checkpoint in: give --state"
        ) from error


def _keep_checkpoints(directory: Path, origin: str, checkpoints: tuple[bytes, ...]) -> Iterator[Path]:
    """Write checkpoints that may contradict each other beside the trusted one: evidence is made of such."""
    for note in checkpoints:
        path = directory / f"{safe_file_name(origin)}.{sha256(note).hexdigest()[:16]}.note"
        try:
            write_file(path, note)
        except StorageError:
            continue
        yield path
