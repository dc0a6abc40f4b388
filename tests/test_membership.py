"""The registry: a fold over governance entries, and the judge of every other entry at its position."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from _support.alliance import TIME, key, log_signer
from _support.cost import assert_no_more_than_linear
from hypothesis import given
from hypothesis import strategies as st

from tlog.errors import RefusalReason, RefusedError
from tlog.event import Event, build_event, parse_event
from tlog.governance import (
    Governance,
    Member,
    MemberKey,
    MemberStatus,
    Restored,
    Rules,
    build_genesis,
    build_governance,
    build_member,
    build_restored,
    build_rules,
)
from tlog.membership import GOVERNANCE_SOURCE, Registry

ORIGIN = "log.example/alliance"
VKEY = log_signer(ORIGIN).vkey
OLD = [f"old governor {number}" for number in range(3)]
NEW = [f"new governor {number}" for number in range(4)]
INVOICE = "trade.invoice.issued.v1"
CLAIM = "trade.claim.reserved.v1"


def public_keys(names: Iterable[str]) -> tuple[bytes, ...]:
    """Return the public keys of named test keys, in the order in which an entry holds them."""
    return tuple(sorted(key(name).public_key for name in names))


def leaf_hash_of(payload: bytes) -> bytes:
    # Stands for the leaf hash of an entry: here no entries are made, only what they say and who signed.
    return hashlib.sha256(payload).digest()


def governance(
    keys: Sequence[str] = OLD, threshold: int = 2, log_vkeys: Sequence[str] = (VKEY,)
) -> Governance:
    return Governance(governance_keys=public_keys(keys), threshold=threshold, log_vkeys=tuple(log_vkeys))


def member(
    member_id: str,
    *,
    sources: Sequence[str] = (),
    roles: Sequence[str] = ("exporter",),
    keys: Sequence[str] | None = None,
    revoked: Sequence[str] = (),
    status: MemberStatus = MemberStatus.ACTIVE,
) -> Member:
    return Member(
        id=member_id,
        name=member_id,
        sources=tuple(sources) or (f"https://{member_id}.example",),
        roles=tuple(roles),
        keys=tuple(
            MemberKey(public_key=key(name).public_key, revoked=name in revoked)
            for name in ((member_id,) if keys is None else keys)
        ),
        status=status,
    )


class Fold:
    """Applies governance to a registry, step by step, as the entries of one log would."""

    def __init__(self, threshold: int = 2) -> None:
        self.registry = Registry.EMPTY
        self.apply(genesis(threshold=threshold), OLD[:threshold])

    @property
    def link(self) -> dict[str, Any]:
        return {"origin": ORIGIN, "time": TIME, "seq": self.registry.seq + 1, "prev": self.registry.prev}

    def apply(self, payload: bytes, signers: Iterable[str] = OLD[:2]) -> Registry:
        before = self.registry
        copy = dataclasses.replace(before)
        self.registry = before.apply(parse_event(payload), public_keys(signers), leaf_hash_of(payload))
        assert before == copy  # a registry never changes
        return self.registry

    def member(self, value: Member, signers: Iterable[str] = OLD[:2]) -> Registry:
        return self.apply(build_member(**self.link, member=value), signers)

    def rules(
        self, roles: dict[str, Sequence[str]], signature_counts: dict[str, int] | None = None
    ) -> Registry:
        rules = Rules(
            roles={role: tuple(types) for role, types in roles.items()},
            signature_counts=signature_counts or {},
        )
        return self.apply(build_rules(**self.link, rules=rules))

    def governance(self, value: Governance, signers: Iterable[str]) -> Registry:
        return self.apply(build_governance(**self.link, governance=value), signers)

    def authorise(self, event: Event, *signers: str) -> str:
        return self.registry.authorise(event, public_keys(signers)).id


def genesis(origin: str = ORIGIN, threshold: int = 2, keys: Sequence[str] = OLD) -> bytes:
    return build_genesis(
        origin=origin,
        time=TIME,
        log_vkeys=[log_signer(origin).vkey],
        governance_keys=public_keys(keys),
        threshold=threshold,
    )


def event(source: str = "https://exporter.example", event_type: str = INVOICE, **changes: Any) -> Event:
    arguments = {"id": "1", "subject": "s", "time": TIME, "origin": ORIGIN, **changes}
    return parse_event(build_event(source=source, type=event_type, **arguments))


def started() -> Fold:
    """Return a log with rules and two members, exporter and carrier, each with a key of its own name."""
    fold = Fold()
    fold.rules({"exporter": [INVOICE], "bank": [CLAIM]})
    fold.member(member("exporter"))
    fold.member(member("carrier", roles=["carrier"]))
    return fold


class Refused:
    """Expects a RefusedError with one reason, and with a message that names a value."""

    def __init__(self, reason: RefusalReason, message: str) -> None:
        self.reason = reason
        self.raises = pytest.raises(RefusedError, match=message)

    def __enter__(self) -> None:
        self.caught = self.raises.__enter__()

    def __exit__(self, *exc: Any) -> bool:
        handled = self.raises.__exit__(*exc)
        assert self.caught.value.reason is self.reason
        return bool(handled)


def governance_refused(message: str) -> Refused:
    return Refused(RefusalReason.GOVERNANCE_REFUSED, f"the governance event is refused: .*{message}")


# --- genesis


def test_the_genesis_starts_the_registry() -> None:
    registry = Fold().registry
    assert (registry.origin, registry.seq, registry.threshold) == (ORIGIN, 0, 2)
    assert registry.governance_keys == public_keys(OLD)
    assert registry.log_vkeys == (VKEY,)
    assert registry.prev == leaf_hash_of(genesis()).hex()
    assert (dict(registry.members), dict(registry.rules.roles)) == ({}, {})
    assert Registry.EMPTY.seq == -1


def test_everything_but_a_genesis_is_refused_first() -> None:
    link: dict[str, Any] = {"origin": ORIGIN, "time": TIME, "seq": 0, "prev": ""}
    for payload in (
        build_rules(**link, rules=Rules(roles={}, signature_counts={})),
        build_member(**link, member=member("exporter")),
        build_governance(**link, governance=governance()),
    ):
        with governance_refused("the log has no genesis yet"):
            Registry.EMPTY.apply(parse_event(payload), public_keys(OLD), leaf_hash_of(payload))
    with governance_refused("the log has no genesis yet"):
        Registry.EMPTY.authorise(event(), public_keys(["exporter"]))
    with governance_refused("the log has no genesis yet"):
        Registry.EMPTY.fold(event(), public_keys(["exporter"]), bytes(32))


def test_a_second_genesis_is_refused() -> None:
    fold = started()
    with governance_refused("the log has a genesis already"):
        fold.apply(genesis(), OLD)


def test_a_genesis_of_another_log_is_refused() -> None:
    with Refused(RefusalReason.WRONG_ORIGIN, "tlogorigin is 'log.example/other', and this log is"):
        started().apply(genesis(origin="log.example/other"), OLD)


def test_a_genesis_with_a_later_seq_or_a_prev_is_refused() -> None:
    for old, new in ((b'"seq":0', b'"seq":1'), (b'"prev":""', b'"prev":"' + b"ab" * 32 + b'"')):
        payload = genesis().replace(old, new)
        with governance_refused("the next governance entry of this log has seq 0 and prev ''"):
            Registry.EMPTY.apply(parse_event(payload), public_keys(OLD), bytes(32))


# --- threshold


@pytest.mark.parametrize("threshold", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_governance_takes_effect_from_the_threshold_on(threshold: int, count: int) -> None:
    fold = Fold(threshold=threshold)
    rules = build_rules(**fold.link, rules=Rules(roles={"a": ("b",)}, signature_counts={}))
    for payload, registry in ((genesis(threshold=threshold), Registry.EMPTY), (rules, fold.registry)):
        signers = public_keys(OLD[:count])
        if count >= threshold:
            assert registry.apply(parse_event(payload), signers, bytes(32)).seq == registry.seq + 1
        else:
            with governance_refused(f"signed by {count} of the 3 governance keys, and needs {threshold}"):
                registry.apply(parse_event(payload), signers, bytes(32))


def test_one_key_counts_once_towards_the_threshold() -> None:
    fold = Fold()
    rules = build_rules(**fold.link, rules=Rules(roles={}, signature_counts={}))
    with governance_refused("signed by 1 of the 3"):
        fold.registry.apply(parse_event(rules), public_keys([OLD[0], OLD[0]]), bytes(32))


@pytest.mark.parametrize("stranger", ["nobody", "exporter", "new governor 0"])
def test_a_signer_who_is_no_governor_is_refused_even_above_the_threshold(stranger: str) -> None:
    fold = started()
    with governance_refused(f"signed by {key(stranger).public_key.hex()}, which is no governance key"):
        fold.member(member("bank"), [*OLD, stranger])
    with governance_refused("which is no governance key"):
        Registry.EMPTY.apply(parse_event(genesis()), public_keys([*OLD, stranger]), bytes(32))


def test_a_member_cannot_issue_governance() -> None:
    fold = started()
    with governance_refused("which is no governance key"):
        fold.member(member("exporter", roles=["bank"]), ["exporter"])


# --- seq and prev


def test_governance_forms_a_chain() -> None:
    fold = started()
    assert fold.registry.seq == 3
    for changes in ({"seq": 3}, {"seq": 5}, {"seq": 0}, {"prev": ""}, {"prev": "ab" * 32}):
        payload = build_member(**{**fold.link, **changes}, member=member("bank"))
        with governance_refused(f"has seq 4 and prev '{fold.registry.prev}': build and sign it anew"):
            fold.apply(payload)
    assert fold.member(member("bank")).seq == 4


def test_a_held_back_entry_is_useless_once_another_took_its_place() -> None:
    fold = started()
    held_back = build_member(**fold.link, member=member("exporter", roles=["exporter", "bank"]))
    fold.member(member("exporter", roles=[]))
    for _ in range(3):
        with governance_refused("build and sign it anew"):
            fold.apply(held_back, OLD)
        fold.rules({})


def test_reordered_entries_are_refused() -> None:
    fold = started()
    first = build_member(**fold.link, member=member("bank"))
    second = build_member(
        **{**fold.link, "seq": fold.registry.seq + 2, "prev": leaf_hash_of(first).hex()},
        member=member("insurer"),
    )
    with governance_refused("build and sign it anew"):
        fold.apply(second)
    fold.apply(first)
    assert fold.apply(second).seq == 5


def test_a_restored_store_is_told_in_its_place_by_the_threshold_and_changes_nobodys_rights() -> None:
    fold = started()
    before = fold.registry
    body = Restored(
        tree_size=3, root_hash=b"\1" * 32, lost_tree_size=5, lost_root_hash=b"\2" * 32, reason="fire"
    )
    payload = build_restored(origin=ORIGIN, time=TIME, seq=before.seq + 1, prev=before.prev, restored=body)
    with governance_refused("needs 2"):
        fold.apply(payload, OLD[:1])
    with governance_refused("which is no governance key"):
        fold.apply(payload, [*OLD[:2], "exporter"])
    assert fold.registry == before
    fold.apply(payload, OLD[:2])
    after = fold.registry
    assert (after.seq, after.prev) == (before.seq + 1, leaf_hash_of(payload).hex())
    assert dataclasses.replace(after, seq=before.seq, prev=before.prev) == before
    with governance_refused("the next governance entry"):
        fold.apply(payload, OLD[:2])


def test_an_applied_entry_cannot_be_applied_again() -> None:
    fold = started()
    payload = build_member(**fold.link, member=member("bank"))
    fold.apply(payload)
    with governance_refused("build and sign it anew"):
        fold.apply(payload)


# --- malformed governance


def test_an_unknown_governance_type_or_field_is_refused() -> None:
    fold = started()
    good = build_member(**fold.link, member=member("bank"))
    for old, new, message in (
        (b"tlog.member.v1", b"tlog.member.v2", "no governance type that is known here"),
        (b'"quota":', b'"extra":1,"quota":', "unknown field `extra`"),
        (b'"data":', b'"refs":"a:b","data":', "has refs"),
        (b'"checks_version":1', b'"checks_version":2', "this release knows 1 only"),
    ):
        payload = (
            good if old in good else build_rules(**fold.link, rules=Rules(roles={}, signature_counts={}))
        )
        with governance_refused(message):
            fold.apply(payload.replace(old, new))


def test_governance_for_another_log_is_refused() -> None:
    fold = started()
    payload = build_member(**{**fold.link, "origin": "log.example/other"}, member=member("bank"))
    with Refused(RefusalReason.WRONG_ORIGIN, "'log.example/other'"):
        fold.apply(payload)


# --- members


def test_the_last_entry_about_a_member_wins_whole() -> None:
    fold = started()
    fold.rules({"exporter": [INVOICE], "bank": [CLAIM]})
    fold.member(member("exporter", sources=["urn:other"], roles=["bank"], keys=["another key"]))
    assert fold.registry.members["exporter"].roles == ("bank",)
    assert fold.authorise(event("urn:other", CLAIM), "another key") == "exporter"
    with Refused(RefusalReason.UNKNOWN_SOURCE, "'https://exporter.example'"):
        fold.authorise(event(), "another key")
    with Refused(RefusalReason.UNKNOWN_KEY, "is no member's"):
        fold.authorise(event("urn:other", CLAIM), "exporter")
    with Refused(RefusalReason.TYPE_NOT_ALLOWED, INVOICE):
        fold.authorise(event("urn:other"), "another key")


def test_what_a_member_gave_up_another_one_may_take() -> None:
    fold = started()
    with governance_refused("overlaps with one of member exporter"):
        fold.member(member("bank", sources=["https://exporter.example/x"], keys=["exporter"]))
    fold.member(member("exporter", sources=["urn:other"], keys=[]))
    fold.member(member("bank", sources=["https://exporter.example/x"], keys=["exporter"]))
    assert fold.registry.members["bank"].sources == ("https://exporter.example/x",)


def test_members_cannot_be_changed_from_outside() -> None:
    registry = started().registry
    with pytest.raises(TypeError):
        registry.members["x"] = member("x")  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        registry.seq = 0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("https://a.example", "https://a.example"),
        ("https://a.example/b", "https://a.example"),
        ("https://a.example", "https://a.example/b"),
        ("https://a.example/b/c/d", "https://a.example/b"),
        ("https://a.example/b", "https://a.example/b/c/d"),
        ("a/b", "a"),
    ],
)
def test_sources_of_two_members_that_overlap_are_refused(mine: str, theirs: str) -> None:
    fold = Fold()
    # Neighbours on both sides in byte order, so that not only the nearest one in a sorted list is looked at.
    fold.member(member("first", sources=[mine, mine + "!", mine + "-", mine + "0", "zzz"]))
    with governance_refused("of member second overlaps with one of member first"):
        fold.member(member("second", sources=["urn:second", theirs]))


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("a/b", "a/bc"),
        ("a/bc", "a/b"),
        ("https://a.example", "https://a.example.org"),
        ("https://a.example", "https://a.example:8443"),
        ("a/b", "a/c"),
        ("a/b/c", "a/b!"),
        ("urn:a:b", "urn:a:b:c"),
        ("A/b", "a/b"),
        ("a/%62", "a/b"),
    ],
)
def test_sources_that_only_look_alike_do_not_overlap(mine: str, theirs: str) -> None:
    fold = Fold()
    fold.member(member("first", sources=[mine]))
    assert set(fold.member(member("second", sources=[theirs])).members) == {"first", "second"}


def test_sources_of_one_member_may_lie_inside_each_other() -> None:
    fold = started()
    fold.member(member("exporter", sources=["urn:a/b", "urn:a", "urn:a/b/c"]))
    for source in ("urn:a", "urn:a/x", "urn:a/b", "urn:a/b/c/d"):
        assert fold.authorise(event(source), "exporter") == "exporter"
    for theirs in ("urn:a/b/x", "urn:a/b/c", "urn:a/q"):
        with governance_refused("overlaps"):
            fold.member(member("second", sources=[theirs]))
    fold.member(member("exporter", sources=["urn:a/b"]))
    assert "second" in fold.member(member("second", sources=["urn:a/c"])).members


SOURCES = st.lists(st.sampled_from(["a", "b", "ab", "a!", "c0"]), min_size=1, max_size=3).map("/".join)


@given(
    st.lists(
        st.tuples(st.sampled_from("xyz"), st.lists(SOURCES, min_size=1, max_size=3, unique=True)), max_size=8
    ),
    SOURCES,
)
def test_sources_are_owned_as_the_definition_says(states: list[tuple[str, list[str]]], probe: str) -> None:
    def covers(registered: str, source: str) -> bool:
        return source == registered or source.startswith(registered + "/")

    fold = Fold()
    owned: dict[str, list[str]] = {}
    for member_id, sources in states:
        others = [source for other, theirs in owned.items() if other != member_id for source in theirs]
        if any(covers(mine, theirs) or covers(theirs, mine) for mine in sources for theirs in others):
            with governance_refused("overlaps"):
                fold.member(member(member_id, sources=sources))
        else:
            fold.member(member(member_id, sources=sources))
            owned[member_id] = sources
    owners = [owner for owner, sources in owned.items() if any(covers(source, probe) for source in sources)]
    fold.rules({"exporter": [INVOICE]})
    if owners:
        assert [fold.authorise(event(probe), owners[0])] == owners
    else:
        with Refused(RefusalReason.UNKNOWN_SOURCE, "no member has registered"):
            fold.authorise(event(probe), "x")


def test_a_key_of_two_members_is_refused() -> None:
    fold = started()
    with governance_refused("is already member exporter's"):
        fold.member(member("bank", keys=["bank", "exporter"]))
    fold.member(member("exporter", revoked=["exporter"]))
    with governance_refused("is already member exporter's"):
        fold.member(member("bank", keys=["exporter"]))


def test_a_governance_key_of_a_member_is_refused_from_both_sides() -> None:
    fold = started()
    with governance_refused("of member bank is a governance key"):
        fold.member(member("bank", keys=["bank", OLD[2]]))
    with governance_refused(f"{key('exporter').public_key.hex()} is a key of member exporter"):
        fold.governance(governance([*OLD, "exporter"]), OLD)
    fold.member(member("exporter", revoked=["exporter"]))
    with governance_refused("is a key of member exporter"):
        fold.governance(governance([*OLD, "exporter"]), OLD)


# --- changes of governance


def changed_governance(fold: Fold) -> Governance:
    return governance(NEW, threshold=3, log_vkeys=[log_signer(ORIGIN, "next log key").vkey])


def test_old_and_new_threshold_together_change_governance() -> None:
    fold = started()
    before = fold.registry
    after = fold.governance(changed_governance(fold), [*OLD[:2], *NEW[:3]])
    assert (after.governance_keys, after.threshold) == (public_keys(NEW), 3)
    assert after.log_vkeys == (log_signer(ORIGIN, "next log key").vkey,)
    assert (after.origin, after.seq, after.members, after.rules) == (ORIGIN, 4, before.members, before.rules)
    with governance_refused("which is no governance key"):
        fold.member(member("bank"), OLD)
    with governance_refused("signed by 2 of the 4 governance keys, and needs 3"):
        fold.member(member("bank"), NEW[:2])
    assert "bank" in fold.member(member("bank"), NEW[1:]).members


@pytest.mark.parametrize(
    ("signers", "message"),
    [
        ([*OLD[:1], *NEW], "signed by 1 of the 3 old governance keys, and needs 2"),
        (NEW, "signed by 0 of the 3 old governance keys, and needs 2"),
        ([*OLD, *NEW[:2]], "signed by 2 of the 4 new governance keys, and needs 3"),
        (OLD, "signed by 0 of the 4 new governance keys, and needs 3"),
        ([*OLD, *NEW, "nobody"], "which is no governance key"),
        ([*OLD, *NEW, "exporter"], "which is no governance key"),
        ([], "signed by 0 of the 3 old governance keys"),
    ],
)
def test_a_change_of_governance_without_both_thresholds_is_refused(signers: list[str], message: str) -> None:
    fold = started()
    with governance_refused(message):
        fold.governance(changed_governance(fold), signers)


def test_a_key_that_stays_counts_for_both_thresholds() -> None:
    fold = Fold()
    with governance_refused("signed by 1 of the 2 new governance keys, and needs 2"):
        fold.governance(governance([OLD[0], NEW[0]], threshold=2), OLD)
    after = fold.governance(governance([OLD[0], NEW[0]], threshold=2), [OLD[0], OLD[1], NEW[0]])
    assert after.governance_keys == public_keys([OLD[0], NEW[0]])
    # The same keys with another threshold: both counts are of the same signers.
    assert fold.governance(governance([OLD[0], NEW[0]], threshold=1), [OLD[0], NEW[0]]).threshold == 1
    with governance_refused("signed by 1 of the 2 new governance keys, and needs 2"):
        fold.governance(governance([OLD[0], NEW[0]], threshold=2), [OLD[0]])


# --- authorising events


def test_an_event_of_a_member_is_authorised() -> None:
    fold = started()
    assert fold.authorise(event(), "exporter") == "exporter"
    assert fold.registry.fold(event(), public_keys(["exporter"]), bytes(32)) == (
        fold.registry,
        fold.registry.members["exporter"],
    )


@pytest.mark.parametrize(
    "source", ["https://exporter.example/", "https://exporter.example/a", "https://exporter.example/a/b//c"]
)
def test_a_source_below_a_registered_one_is_its_owners(source: str) -> None:
    assert started().authorise(event(source), "exporter") == "exporter"


@pytest.mark.parametrize(
    "source",
    [
        "https://exporter.example.org",
        "https://exporter.exampl",
        "https://exporter.example:1",
        "https:",
        "x",
        "/",
        "urn:tlog:x",
    ],
)
def test_a_source_that_nobody_registered_is_refused(source: str) -> None:
    with Refused(RefusalReason.UNKNOWN_SOURCE, "no member has registered the source"):
        started().authorise(event(source), "exporter")


def test_the_longest_registered_source_is_found_below_it() -> None:
    longest = "urn:" + "a/" * 125 + "b"
    assert len(longest) == 255
    fold = started()
    fold.member(member("exporter", sources=[longest]))
    for source in (longest, longest + "/x", longest + "/x" * 20_000):
        assert fold.authorise(event(source), "exporter") == "exporter"


def test_a_source_of_many_segments_costs_no_more_than_another() -> None:
    fold = started()

    def refusing(size: int) -> Callable[[], None]:
        hostile = event("https://" + "a/" * (size // 2))

        def refuse() -> None:
            for _ in range(100):
                with pytest.raises(RefusedError):
                    fold.authorise(hostile, "exporter")

        return refuse

    assert_no_more_than_linear(refusing, 60_000)


def test_an_event_for_another_log_is_refused() -> None:
    with Refused(RefusalReason.WRONG_ORIGIN, "'log.example/other', and this log is 'log.example/alliance'"):
        started().authorise(event(origin="log.example/other"), "exporter")


def test_an_unknown_key_is_refused() -> None:
    with Refused(RefusalReason.UNKNOWN_KEY, f"{key('nobody').public_key.hex()} is no member's"):
        started().authorise(event(), "nobody")


def test_a_governance_key_signs_no_events() -> None:
    with Refused(RefusalReason.UNKNOWN_KEY, "is a governance key, which signs no events"):
        started().authorise(event(), OLD[0])


def test_a_revoked_key_is_refused_from_the_next_entry_on() -> None:
    fold = started()
    before = fold.registry
    fold.member(member("exporter", keys=["exporter", "exporter 2"], revoked=["exporter"]))
    with Refused(
        RefusalReason.REVOKED_KEY, f"{key('exporter').public_key.hex()} of member exporter is revoked"
    ):
        fold.authorise(event(), "exporter")
    assert fold.authorise(event(), "exporter 2") == "exporter"
    # By position: what stood before the revocation is judged by the registry of its own index, for ever.
    assert before.authorise(event(), public_keys(["exporter"])).id == "exporter"
    with Refused(RefusalReason.UNKNOWN_KEY, "is no member's"):
        before.authorise(event(), public_keys(["exporter 2"]))


def test_a_key_of_another_member_is_refused() -> None:
    with Refused(RefusalReason.KEY_OF_ANOTHER_MEMBER, "is member exporter's, and none of the signatures is"):
        started().authorise(event(), "carrier")


def test_a_suspended_member_is_refused_and_may_come_back() -> None:
    fold = started()
    fold.member(member("exporter", status=MemberStatus.SUSPENDED))
    with Refused(RefusalReason.MEMBER_NOT_ACTIVE, "member exporter, who signs with .*, is suspended"):
        fold.authorise(event(), "exporter")
    fold.member(member("exporter"))
    assert fold.authorise(event(), "exporter") == "exporter"


def test_a_type_that_no_role_may_issue_is_refused() -> None:
    fold = started()
    for event_type in (CLAIM, "trade.unheard-of.v1", INVOICE + "x", INVOICE.upper()):
        with Refused(RefusalReason.TYPE_NOT_ALLOWED, r"none of member exporter's roles \(exporter\) issue a"):
            fold.authorise(event(event_type=event_type), "exporter")
    fold.member(member("exporter", roles=[]))
    with Refused(RefusalReason.TYPE_NOT_ALLOWED, r"\(it has none\)"):
        fold.authorise(event(), "exporter")


def test_one_of_several_roles_is_enough() -> None:
    fold = started()
    fold.member(member("exporter", roles=["carrier", "bank", "exporter", "unheard-of"]))
    assert fold.authorise(event(event_type=CLAIM), "exporter") == "exporter"
    assert fold.authorise(event(), "exporter") == "exporter"


def test_without_rules_nobody_may_issue_anything() -> None:
    fold = Fold()
    fold.member(member("exporter"))
    with Refused(RefusalReason.TYPE_NOT_ALLOWED, "roles"):
        fold.authorise(event(), "exporter")


def test_new_rules_replace_the_whole_table_from_the_next_entry_on() -> None:
    fold = started()
    before = fold.registry
    fold.rules({"exporter": [CLAIM]})
    assert fold.authorise(event(event_type=CLAIM), "exporter") == "exporter"
    with Refused(RefusalReason.TYPE_NOT_ALLOWED, INVOICE):
        fold.authorise(event(), "exporter")
    assert before.authorise(event(), public_keys(["exporter"])).id == "exporter"


def test_governance_is_not_authorised_as_an_event() -> None:
    fold = started()
    payload = build_member(**fold.link, member=member("bank"))
    with governance_refused("is issued by no member"):
        fold.authorise(parse_event(payload), *OLD)
    # Whoever signs it, and whatever the rules said: `tlog.*` is the log's own.
    with governance_refused("only urn:tlog:governance issues governance"):
        fold.registry.fold(event(event_type="tlog.member.v1"), public_keys(["exporter"]), bytes(32))
    with governance_refused("no governance type"):
        fold.registry.fold(event(event_type="tlog.other.v1"), public_keys(["exporter"]), bytes(32))
    with governance_refused("no governance type"):
        fold.registry.fold(event(GOVERNANCE_SOURCE), public_keys(["exporter"]), bytes(32))


# --- several signatures


def with_counts(counts: dict[str, int]) -> Fold:
    fold = started()
    fold.rules({"exporter": [INVOICE], "bank": [CLAIM]}, counts)
    fold.member(member("bank", roles=["bank"], keys=["bank", "bank 2"]))
    return fold


def test_an_event_has_exactly_one_signature_unless_the_rules_say_otherwise() -> None:
    fold = with_counts({CLAIM: 2})
    for signers in (["exporter", "carrier"], ["exporter", "carrier", "bank"]):
        with Refused(
            RefusalReason.WRONG_SIGNATURE_COUNT, f"has {len(signers)} signatures, and the rules ask for 1"
        ):
            fold.authorise(event(), *signers)
    with Refused(RefusalReason.WRONG_SIGNATURE_COUNT, "has 0 signatures"):
        fold.authorise(event())


@pytest.mark.parametrize("count", [2, 3])
def test_more_or_fewer_signatures_than_the_type_asks_are_refused(count: int) -> None:
    fold = with_counts({INVOICE: count})
    signers = ["exporter", "carrier", "bank", "bank 2"]
    for number in range(1, 5):
        if number == count:
            assert fold.authorise(event(), *signers[:number]) == "exporter"
        else:
            with Refused(
                RefusalReason.WRONG_SIGNATURE_COUNT, f"has {number} signatures, and the rules ask for {count}"
            ):
                fold.authorise(event(), *signers[:number])


def test_the_issuer_is_the_owner_of_the_source_whoever_else_signs() -> None:
    fold = with_counts({INVOICE: 2, CLAIM: 2})
    # The other signer's role does not decide: carrier may issue nothing, and may sign with the issuer.
    assert fold.authorise(event(), "carrier", "exporter") == "exporter"
    assert fold.authorise(event("https://bank.example", CLAIM), "exporter", "bank") == "bank"
    with Refused(RefusalReason.TYPE_NOT_ALLOWED, "member exporter's roles"):
        fold.authorise(event(event_type=CLAIM), "exporter", "bank")
    with Refused(RefusalReason.KEY_OF_ANOTHER_MEMBER, "is member exporter's"):
        fold.authorise(event(), "carrier", "bank")


def test_every_one_of_several_signers_must_be_an_active_member() -> None:
    fold = with_counts({INVOICE: 2})
    with Refused(RefusalReason.UNKNOWN_KEY, "is no member's"):
        fold.authorise(event(), "exporter", "nobody")
    with Refused(RefusalReason.UNKNOWN_KEY, "is a governance key"):
        fold.authorise(event(), "exporter", OLD[0])
    fold.member(member("carrier", status=MemberStatus.SUSPENDED))
    with Refused(RefusalReason.MEMBER_NOT_ACTIVE, "member carrier"):
        fold.authorise(event(), "exporter", "carrier")
    fold.member(member("carrier", revoked=["carrier"]))
    with Refused(RefusalReason.REVOKED_KEY, "of member carrier is revoked"):
        fold.authorise(event(), "exporter", "carrier")


def test_governance_is_counted_by_its_own_threshold_only() -> None:
    fold = started()
    # Rules cannot name tlog.* types, so nothing can raise or lower what governance needs.
    fold.member(member("bank"), OLD)
    fold.member(member("insurer"), OLD[1:])
    assert {"bank", "insurer"} <= set(fold.registry.members)


# --- size


def test_a_fold_of_many_members_is_not_quadratic() -> None:
    def folding(count: int) -> Callable[[], None]:
        fold = Fold()
        steps = []
        for number in range(count):
            payload = build_member(
                **fold.link, member=member(f"m-{number}", keys=[f"k{number % 7}-{number}"])
            )
            steps.append((parse_event(payload), leaf_hash_of(payload)))
            fold.apply(payload)
        signers = public_keys(OLD[:2])

        def replay() -> None:
            registry = dataclasses.replace(Fold().registry)
            for step, leaf_hash in steps:
                registry = registry.apply(step, signers, leaf_hash)
            assert registry == fold.registry

        return replay

    assert_no_more_than_linear(folding, 800)
