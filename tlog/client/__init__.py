"""The client that verifies everything it is told: LogClient for calls, Batcher for streams of entries."""

from tlog.client.append_reply import Appended
from tlog.client.batcher import Appender, Batcher
from tlog.client.log_client import LogClient
from tlog.client.proven_entries import ProvenEntry
from tlog.client.retry import RetryPolicy
from tlog.client.scrutiny import ReceiptFolder
from tlog.client.trusted_log import TrustedLog, VerifiedCheckpoint

__all__ = [
    "Appended",
    "Appender",
    "Batcher",
    "LogClient",
    "ProvenEntry",
    "ReceiptFolder",
    "RetryPolicy",
    "TrustedLog",
    "VerifiedCheckpoint",
]
