"""What the processes of one server tell each other: nothing is lost, and nothing else is understood."""

from __future__ import annotations

import pytest
from _support.alliance import ORIGIN, Alliance, key
from hypothesis import given
from hypothesis import strategies as st

from server.config import parse_config
from server.link import MAX_FRAME_BYTES
from server.status import STATUS_OF, status_code, status_details, status_message
from server.wire import (
    Call,
    Count,
    Counted,
    End,
    Exchange,
    Exchanged,
    Failed,
    FailedElsewhereError,
    Failure,
    FromMain,
    FromWorker,
    HandedEntry,
    HandedEvent,
    Listening,
    Published,
    Ready,
    RefuseAll,
    Sample,
    Stop,
    Taken,
    Welcome,
    decode_from_main,
    decode_from_worker,
    encode_message,
    error_of,
    failure_of,
    hand_over,
    outcome_of,
)
from tlog.envelope import MAX_ENTRY_BYTES
from tlog.errors import (
    BatchRefusedError,
    ConflictError,
    CorruptionError,
    MalformedError,
    NotFoundError,
    OutOfRangeError,
    PushbackError,
    RefusalReason,
    RefusedError,
    StateUnknownError,
    StorageError,
    StoreInUseError,
    TlogError,
)
from tlog.event import MAX_REFS
from tlog.gossip.grpc_service import OffendingMessageError
from tlog.membership import Registry
from tlog.validate import admit, verify_entries

ALLIANCE = Alliance()
CONFIG = parse_config('[log]\nstore_path = "store"\nkey_path = "log.key"\n[server]\nworkers = 3\n')
REFUSED = BatchRefusedError({
    3: RefusedError(RefusalReason.SOURCE_ID_CONFLICT, "entry 7 has it", existing_leaf_index=7),
    999: RefusedError(RefusalReason.BAD_SIGNATURE, "the signature \N{SNOWMAN} does not verify"),
})  # fmt: skip

FROM_MAIN: list[FromMain] = [
    Welcome(CONFIG, ORIGIN, 65_535, b"note", "", True),
    Taken(0, (), (), None, b"note", 0.25),
    Taken(2**63 - 1, (5, 6, 5), (False, False, True), (5, 7), b"note\xff", 1e-6),
    Failed(4, True, failure_of(REFUSED)),
    Failed(4, False, failure_of(PushbackError("later", retry_after_s=1.5))),
    Exchanged(5, b"\x00" * 10),
    Published(b"note"),
    RefuseAll("restored"),
    Ready(False),
    Count(9),
    Stop(),
    End(),
]
FROM_WORKER: list[FromWorker] = [
    Listening(),
    hand_over(7, verify_entries(ALLIANCE.entries(0, 3), ORIGIN)),
    Call(8, ()),
    Exchange(3, "ipv4:127.0.0.1:1", b"request"),
    Counted(1, (Sample("f", "f_total", (("code", "OK"),), 2.0),)),
]


@pytest.mark.parametrize("message", FROM_MAIN, ids=lambda message: type(message).__name__)
def test_what_the_main_process_says_arrives_as_it_was_said(message: FromMain) -> None:
    data = encode_message(message)
    assert decode_from_main(data) == message
    with pytest.raises(MalformedError):
        decode_from_worker(data)


@pytest.mark.parametrize("message", FROM_WORKER, ids=lambda message: type(message).__name__)
def test_what_a_worker_says_arrives_as_it_was_said(message: FromWorker) -> None:
    data = encode_message(message)
    assert decode_from_worker(data) == message
    with pytest.raises(MalformedError):
        decode_from_main(data)


@pytest.mark.parametrize("message", [*FROM_MAIN, *FROM_WORKER], ids=lambda message: type(message).__name__)
def test_a_message_that_is_cut_or_goes_on_is_refused(message: FromMain | FromWorker) -> None:
    data = encode_message(message)
    decode = decode_from_main if message in FROM_MAIN else decode_from_worker
    for wrong in [*(data[:end] for end in range(0, len(data), max(1, len(data) // 50))), data + b"\0"]:
        with pytest.raises(MalformedError):
            decode(wrong)


def test_a_message_with_a_field_too_many_or_a_hash_too_short_is_refused() -> None:
    with pytest.raises(MalformedError):
        decode_from_main(b"\x92\xa4stop\x01")
    (entry,) = hand_over(0, verify_entries([ALLIANCE.entry(0)], ORIGIN)).entries
    short = HandedEntry(
        entry.entry, entry.leaf_hash[:31], entry.event, entry.public_keys, entry.identity, entry.business_keys
    )
    with pytest.raises(MalformedError, match="length"):
        decode_from_worker(encode_message(Call(0, (short,))))


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_and_raise_nothing_else(data: bytes) -> None:
    for decode in (decode_from_main, decode_from_worker):
        try:
            message = decode(data)
        except MalformedError:
            continue
        assert decode(encode_message(message)) == message


@given(st.sampled_from([encode_message(message) for message in FROM_WORKER[:4]]), st.data())
def test_a_changed_message_is_refused_or_another_message(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    changed = data[:at] + draw.draw(st.binary(min_size=1, max_size=3)) + data[at + 1 :]
    try:
        message = decode_from_worker(changed)
    except MalformedError:
        return
    assert decode_from_worker(encode_message(message)) == message


def test_admission_judges_what_was_handed_over_as_it_judges_the_entries_themselves() -> None:
    alliance = Alliance()
    entries = alliance.entries(0, 5)
    later_governance = alliance.add_member("broker", ["exporter"])
    calls = [
        alliance.governance[:-1],
        [*entries, entries[2]],
        [alliance.entry(9, signer=key("stranger")), alliance.entry(3, note="other bytes")],
        [alliance.entry(20, member="broker")],
        [later_governance, alliance.entry(20, member="broker")],
        [alliance.governance[0], alliance.entry(30, event_type="trade.goods.exited.v1")],
    ]
    verified = [verify_entries(call, ORIGIN) for call in calls]
    handed = []
    for number, call in enumerate(verified):
        message = decode_from_worker(encode_message(hand_over(number, call)))
        assert isinstance(message, Call)
        handed.append(message.entries)

    def judged(batches: object) -> object:
        admission = admit(batches, registry=Registry.EMPTY, tree_size=0, find=lambda identity: None)  # type: ignore[arg-type]
        outcomes = [
            {position: (one.reason, one.message) for position, one in outcome.refusals.items()}
            if isinstance(outcome, BatchRefusedError)
            else outcome
            for outcome in admission.outcomes
        ]
        rows = [
            (one.entry, one.leaf_hash, one.identity, one.business_keys, one.public_keys)
            for one in admission.entries
        ]
        return outcomes, rows, admission.registry, admission.governance_indices

    assert judged(handed) == judged(verified)
    assert [len(outcome) for outcome in judged(verified)[0] if isinstance(outcome, dict)] == [2, 1, 1]  # type: ignore[index]


def test_a_governance_entry_that_is_none_is_refused_whatever_was_said_of_it() -> None:
    (entry,) = hand_over(0, verify_entries([ALLIANCE.governance[0]], ORIGIN)).entries
    broken = HandedEntry(
        b"junk", entry.leaf_hash, entry.event, entry.public_keys, entry.identity, entry.business_keys
    )
    admission = admit([[broken]], registry=Registry.EMPTY, tree_size=0, find=lambda identity: None)
    (outcome,) = admission.outcomes
    assert isinstance(outcome, BatchRefusedError)
    assert outcome.refusals[0].reason is RefusalReason.MALFORMED_EVENT


@pytest.mark.parametrize(
    "error",
    [
        REFUSED,
        BatchRefusedError({n: RefusedError(RefusalReason.UNKNOWN_KEY, "x" * 400) for n in range(1_000)}),
        PushbackError("20000 entries wait already", retry_after_s=0.125),
        CorruptionError("this log takes no more entries"),
        StateUnknownError("a commit broke off"),
        StorageError("no space left on device"),
        ConflictError("another checkpoint is committed"),
        StoreInUseError("in use"),
        NotFoundError("no published checkpoint"),
        MalformedError("no"),
        OffendingMessageError("no honest node sends this"),
        OutOfRangeError("size 9"),
        TlogError("something else"),
        StorageError("a message with a byte that is no text: \udcff"),
        RuntimeError("a secret of this process"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_has_the_same_status_on_the_other_side(error: Exception) -> None:
    message = decode_from_main(encode_message(Failed(0, False, failure_of(error))))
    assert isinstance(message, Failed)
    arrived = error_of(message.failure)
    assert status_code(arrived) is status_code(error)
    assert status_message(arrived) == status_message(error).replace("\udcff", "\\udcff")
    assert status_details(arrived) == status_details(error)


@pytest.mark.parametrize("kind", STATUS_OF, ids=lambda kind: kind.__name__)
def test_every_exception_with_a_status_of_its_own_arrives_as_itself(kind: type[Exception]) -> None:
    later = {"retry_after_s": 1.0} if issubclass(kind, PushbackError) else {}
    error = kind("what was wrong", **later)
    message = decode_from_main(encode_message(Failed(0, False, failure_of(error))))
    assert isinstance(message, Failed)
    assert type(error_of(message.failure)) is kind


def test_a_bug_is_told_without_its_text() -> None:
    assert failure_of(KeyError("a secret")) == Failure("", "", 0.0, ())
    assert isinstance(error_of(failure_of(KeyError("a secret"))), FailedElsewhereError)
    assert isinstance(error_of(Failure("SystemExit", "", 0.0, ())), FailedElsewhereError)


def test_an_outcome_arrives_as_it_was() -> None:
    taken = Taken(1, (4, 9), (True, False), (9, 10), b"note", 0.1)
    assert outcome_of(taken).leaf_indices == (4, 9)
    assert outcome_of(taken).already_present == (True, False)
    assert outcome_of(taken).new_range == (9, 10)


@pytest.mark.parametrize(("count", "entry_bytes"), [(1_000, 4 * 2**20 // 1_000), (64, MAX_ENTRY_BYTES)])
def test_the_largest_append_fits_into_a_frame(count: int, entry_bytes: int) -> None:
    longest_text = "x" * entry_bytes
    entry = HandedEntry(
        bytes(entry_bytes),
        bytes(32),
        HandedEvent(longest_text, "", "", "o" * 255),
        (bytes(32),) * 16,
        bytes(32),
        (bytes(16),) * MAX_REFS,
    )
    assert len(encode_message(Call(0, (entry,) * count))) <= MAX_FRAME_BYTES
