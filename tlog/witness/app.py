"""The composition root of a witness process: configuration in, one running witness out, a graceful end.

SIGHUP reads the logs of the configuration and the certificate anew; the rest holds until the next start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

from tlog.core_dumps import forbid_core_dumps
from tlog.cosignature import CosignerSigner
from tlog.errors import ConfigError, StateUnknownError, TlogError
from tlog.evidence import format_evidence
from tlog.evidence_store import EvidenceStore
from tlog.http_listener import HttpLimits, HttpListener
from tlog.key_file import read_cosigner_key_file
from tlog.passphrase import PassphraseFromDescriptor
from tlog.policy import build_log_policy
from tlog.remote_signer import RemoteCosigner, SignerLine
from tlog.storage.lmdb_witness_store import LmdbWitnessStore
from tlog.tls import ServerTls
from tlog.witness.config import WitnessConfig, load_witness_config, witnessed_logs
from tlog.witness.core import SignedContradiction, WitnessedLog, origin_hash
from tlog.witness.http import witness_application
from tlog.witness.witness import Witness

_LOGGER = logging.getLogger(__name__)

THREADS = 8
"""How many requests are checked at once; one of them writes at a time."""


class WitnessServer:
    """Runs one witness inside an event loop."""

    def __init__(
        self,
        config_path: Path,
        *,
        also_keep_in: Path | None = None,
        on_evidence: Callable[[], None] = lambda: None,
    ) -> None:
        """Read the configuration. Raises ConfigError.

        Evidence is kept in `also_keep_in` as well, where others look for it; `on_evidence` is called when it
        is there, from the thread of a request.
        """
        self._config_path = config_path
        self._also_keep_in = also_keep_in
        self._on_evidence = on_evidence
        self._config = load_witness_config(config_path)
        self._stop = asyncio.Event()
        self._fatal: StateUnknownError | None = None
        self._witness: Witness | None = None
        self._tls: ServerTls | None = None

    def stop(self) -> None:
        """Begin a graceful stop; belongs to the event loop."""
        self._stop.set()

    def reload(self) -> None:
        """Read the configuration's logs and the certificate anew; what cannot be used changes nothing."""
        if self._tls is not None:
            self._tls.reload()
        if self._witness is None:
            return
        try:
            self._witness.set_logs(witnessed_logs(load_witness_config(self._config_path).log))
        except ConfigError as error:
            _LOGGER.error("the logs stay as they were: %s", error)  # noqa: TRY400 - no bug, no traceback
        else:
            _LOGGER.info("this witness now knows %d logs", len(self._witness.logs))

    async def run(self, announce: Callable[[dict[str, str | int | list[str]]], None]) -> None:
        """Serve until `stop`; calls `announce` once, with public facts only, when it serves.

        Raises TlogError when it cannot start, and StateUnknownError when the disk failed it.
        """
        async with AsyncExitStack() as stack:
            await self._start(stack, announce)
            await self._stop.wait()
        if self._fatal is not None:
            raise StateUnknownError(
                f"the witness stopped itself: {self._fatal}; start it again, it goes on from what is durable"
            ) from self._fatal

    async def _start(
        self, stack: AsyncExitStack, announce: Callable[[dict[str, str | int | list[str]]], None]
    ) -> None:
        # Whatever is entered first is closed last.
        config = self._config
        cosigners = read_cosigners(config)
        for cosigner in cosigners:
            if isinstance(cosigner, RemoteCosigner):
                stack.callback(cosigner.close)
        self._tls = ServerTls(config.tls) if config.tls.is_on else None
        store = LmdbWitnessStore.open(Path(config.witness.store_path))
        stack.callback(store.close)
        threads = stack.enter_context(ThreadPoolExecutor(THREADS, "witness"))
        directories = [Path(config.witness.evidence_path)]
        if self._also_keep_in is not None:
            directories.append(self._also_keep_in)
        self._witness = Witness(
            store,
            cosigners,
            witnessed_logs(config.log),
            now_s=lambda: int(time.time()),
            on_evidence=_EvidenceFiles(directories, self._on_evidence).keep,
        )
        listed = {origin_hash(log.origin) for log in self._witness.logs}
        if unlisted := len(set(store.origin_hashes()) - listed):
            _LOGGER.warning(
                "%d logs have a record and are not listed any more: their checkpoints are not cosigned, and "
                "nothing of them is forgotten (`tlog witness show` names them)",
                unlisted,
            )
        application = witness_application(
            self._witness, threads, read_timeout_s=config.http.read_timeout_s, on_fatal=self._fail
        )
        listener = await HttpListener.start(
            application,
            config.http.listen_address,
            config.http.port,
            HttpLimits(
                max_connections=config.http.max_connections,
                idle_timeout_s=config.http.idle_timeout_s,
                stop_timeout_s=config.http.stop_timeout_s,
            ),
            tls=None if self._tls is None else self._tls.http_context(asks_clients=True),
        )
        stack.push_async_callback(listener.stop)
        host = config.http.listen_address
        scheme = "http" if self._tls is None else "https"
        announce(
            {
                "name": cosigners[0].name,
                "vkeys": [cosigner.vkey for cosigner in cosigners],
                "logs": len(self._witness.logs),
                "store": config.witness.store_path,
                "url": f"{scheme}://{f'[{host}]' if ':' in host else host}:{listener.port}/",
                "pid": os.getpid(),
            }
        )

    def _fail(self, error: StateUnknownError) -> None:
        self._fatal = error
        self._stop.set()


def read_cosigners(config: WitnessConfig) -> list[CosignerSigner | RemoteCosigner]:
    """Read the witness's keys, which all have one name; one may be held by a signer.

    Raises ConfigError, and SignerAwayError when the signer cannot be asked.
    """
    settings = config.witness
    forbid_core_dumps()
    passphrase = (
        None if settings.key_passphrase_fd < 0 else PassphraseFromDescriptor(settings.key_passphrase_fd)
    )
    cosigners: list[CosignerSigner | RemoteCosigner] = [
        read_cosigner_key_file(Path(path), passphrase) for path in settings.key_paths
    ]
    if settings.signer_socket:
        cosigners.append(RemoteCosigner(SignerLine(Path(settings.signer_socket))))
    if len({cosigner.name for cosigner in cosigners}) > 1:
        names = ", ".join(sorted({cosigner.name for cosigner in cosigners}))
        raise ConfigError(f"the witness's keys have different names, {names}: a witness has one name")
    return cosigners


async def serve(config_path: Path, announce: Callable[[dict[str, str | int | list[str]]], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises TlogError."""
    server = WitnessServer(config_path)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    loop.add_signal_handler(signal.SIGHUP, server.reload)
    await server.run(announce)


class _EvidenceFiles:
    """Keeps what convicts a log; requests in several threads hand it in."""

    def __init__(self, directories: Sequence[Path], told: Callable[[], None]) -> None:
        self._directories = directories
        self._told = told
        self._writing = threading.Lock()

    def keep(self, log: WitnessedLog, evidence: SignedContradiction) -> None:
        """Write evidence to files, and tell of it; a disk that fails changes no answer to the log."""
        # No policy file can list a log whose origin is no key's name: what judges then is its configuration.
        policy = build_log_policy(log.verifiers, log.origin)
        for directory in self._directories:
            try:
                with self._writing:
                    stored = EvidenceStore(directory, policy).add(evidence)
            except TlogError as error:
                _LOGGER.error(  # noqa: TRY400 - no bug, no traceback
                    "THE LOG %s HAS SIGNED AGAINST ITSELF. No file was written (%s), so keep this:\n%s",
                    log.origin,
                    error,
                    format_evidence(evidence).decode(),
                )
            else:
                _LOGGER.error(
                    "THE LOG %s HAS SIGNED AGAINST ITSELF: %s; hand %s to everybody who relies on it",
                    log.origin,
                    stored.verdict.finding,
                    stored.path,
                )
        self._told()
