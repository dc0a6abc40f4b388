"""Policies. Sentences in quotation marks are verbatim from C2SP tlog-policy, which capitalises few words."""

from dataclasses import replace

import pytest
from _support.mutations import damaged
from _support.signers import (
    CT_CHECKPOINT,
    CT_LOG_VKEY,
    CT_WITNESS_VKEYS,
    GO_SUM_DATABASE_CHECKPOINT,
    GO_SUM_DATABASE_VKEY,
    cosigner,
    ml_dsa_cosigner,
    seed,
    signer,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.cosignature import CosignatureVerifier, CosignerSigner, MlDsaCosignatureVerifier
from tlog.ed25519 import PrivateKey
from tlog.errors import MalformedError, PolicyError, SignatureError, VerificationError
from tlog.note import Signature, Signer, Verifier, add_signatures, format_note, parse_note, sign_note
from tlog.policy import (
    MAX_POLICY_BYTES,
    Policy,
    PolicyGroup,
    PolicyLog,
    PolicyWitness,
    build_log_policy,
    build_policy,
    format_policy,
    open_checkpoint,
    parse_policy,
)
from tlog.vkey import format_vkey

ORIGIN = "example.com/log"
LOG = signer(ORIGIN, 1)
CHECKPOINT = Checkpoint(ORIGIN, 7, bytes(range(32)))
TEXT = format_checkpoint(CHECKPOINT)
X1, X2, X3, Y1, Y2, Y3 = WITNESSES = [
    cosigner(f"witness.example/{name}", number)
    for number, name in enumerate(["x1", "x2", "x3", "y1", "y2", "y3"], start=101)
]


Q = ml_dsa_cosigner("witness.example/q")


def cosigned(*witnesses: CosignerSigner, by: Signer = LOG, text: str = TEXT) -> bytes:
    return add_signatures(
        sign_note(text, [by]), [witness.cosign(text, 1_700_000_000) for witness in witnesses]
    )


def policy_of(*lines: str) -> Policy:
    return parse_policy("".join(f"{line}\n" for line in lines).encode())


LOG_LINE = f"log {LOG.vkey}"
X1_LINE = f"witness X1 {X1.vkey}"
X2_LINE = f"witness X2 {X2.vkey}"
X3_LINE = f"witness X3 {X3.vkey}"

# tlog-policy, "Example policy", with keys.
EXAMPLE = f"""\
log {LOG.vkey}

witness X1 {X1.vkey}
witness X2 {X2.vkey}
witness X3 {X3.vkey}
group X-witnesses 2 X1 X2 X3

witness Y1 {Y1.vkey}
witness Y2 {Y2.vkey}
witness Y3 {Y3.vkey}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
""".encode()


# ---- the quorum


def test_the_example_asks_for_two_of_x_and_one_of_y_in_every_combination() -> None:
    """It is required that there are valid cosignatures "from at least two of the `X-witnesses`, and from at
    least one of the `Y-witnesses`, and this rule is represented by the group `X-and-Y`."
    """
    policy = parse_policy(EXAMPLE)
    accepted = 0
    for chosen in range(2**6):
        witnesses = [witness for bit, witness in enumerate(WITNESSES) if chosen >> bit & 1]
        data = cosigned(*witnesses)
        if sum(witness in (X1, X2, X3) for witness in witnesses) >= 2 and set(witnesses) & {Y1, Y2, Y3}:
            assert open_checkpoint(data, policy) == CHECKPOINT
            accepted += 1
        else:
            with pytest.raises(PolicyError, match="lacks cosignatures"):
                open_checkpoint(data, policy)
    assert accepted == 4 * 7


def test_a_policy_error_names_which_group_has_how_many_of_how_many() -> None:
    with pytest.raises(PolicyError) as refusal:
        open_checkpoint(cosigned(X2), parse_policy(EXAMPLE))
    message = str(refusal.value)
    assert "origin 'example.com/log' and size 7" in message
    assert "group 'X-and-Y' has 0 of the 2 it needs (out of 2)" in message
    assert "group 'X-witnesses' has 1 of the 2 it needs (out of 3)" in message
    assert "group 'Y-witnesses' has 0 of the 1 it needs (out of 3)" in message
    assert "witness 'X1' has not cosigned" in message
    assert "witness 'X2' has not cosigned" not in message


@pytest.mark.parametrize("threshold", ["all", "any", "1", "2", "3"])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_group_counts_when_at_least_k_of_its_members_do(threshold: str, count: int) -> None:
    """ "The `any` variant is a shorthand for k = 1, and the `all` variant is a shorthand for k = n." """
    policy = policy_of(LOG_LINE, X1_LINE, X2_LINE, X3_LINE, f"group g {threshold} X1 X2 X3", "quorum g")
    needed = {"all": 3, "any": 1}.get(threshold) or int(threshold)
    assert policy.groups == (PolicyGroup(name=b"g", threshold=needed, members=(b"X1", b"X2", b"X3")),)
    data = cosigned(*[X3, X1, X2][:count])
    if count >= needed:
        assert open_checkpoint(data, policy) == CHECKPOINT
    else:
        with pytest.raises(PolicyError, match=rf"has {count} of the {needed} it needs \(out of 3\)"):
            open_checkpoint(data, policy)


def test_a_witness_can_be_the_quorum() -> None:
    """ "In the simplest case, the name refers to a witness, and it means that a cosignature from that witness
    is required for a checkpoint to be considered valid."
    """
    policy = policy_of(LOG_LINE, X1_LINE, X2_LINE, "quorum X2")
    assert open_checkpoint(cosigned(X2), policy) == CHECKPOINT
    for data in (cosigned(), cosigned(X1), cosigned(Y1)):
        with pytest.raises(PolicyError, match="witness 'X2' has not cosigned"):
            open_checkpoint(data, policy)


def test_quorum_none_asks_for_no_cosignature() -> None:
    """ "To not require any cosignatures at all, one can use the predefined name `none`" """
    policy = policy_of(LOG_LINE, X1_LINE, "quorum none")
    assert policy.quorum is None
    assert open_checkpoint(cosigned(), policy) == CHECKPOINT
    assert open_checkpoint(cosigned(X1, Y1), policy) == CHECKPOINT


def test_the_name_in_the_policy_is_not_the_name_of_the_key() -> None:
    """Names "are used only for defining the quorum and group membership; they have no meaning outside of the
    policy file itself."
    """
    # The policy calls each witness by the key name of the other one.
    policy = policy_of(
        LOG_LINE, f"witness {X2.name} {X1.vkey}", f"witness {X1.name} {X2.vkey}", f"quorum {X2.name}"
    )
    assert open_checkpoint(cosigned(X1), policy) == CHECKPOINT
    with pytest.raises(PolicyError):
        open_checkpoint(cosigned(X2), policy)


def test_two_witnesses_whose_keys_have_one_name_are_two_witnesses() -> None:
    one, two = cosigner("witness.example", 201), cosigner("witness.example", 202)
    policy = policy_of(
        LOG_LINE, f"witness a {one.vkey}", f"witness b {two.vkey}", "group g all a b", "quorum g"
    )
    assert open_checkpoint(cosigned(one, two), policy) == CHECKPOINT
    with pytest.raises(PolicyError, match="witness 'b' has not cosigned"):
        open_checkpoint(cosigned(one), policy)


def test_one_witness_that_cosigns_twice_counts_once() -> None:
    policy = policy_of(LOG_LINE, X1_LINE, X2_LINE, "group g all X1 X2", "quorum g")
    twice = [X1.cosign(TEXT, 5), X1.cosign(TEXT, 6)]
    with pytest.raises(PolicyError, match="has 1 of the 2"):
        open_checkpoint(add_signatures(cosigned(), twice), policy)


def test_a_bad_cosignature_by_a_known_witness_rejects_the_checkpoint_even_where_it_is_not_needed() -> None:
    policy = policy_of(LOG_LINE, X1_LINE, X2_LINE, "group g any X1 X2", "quorum g")
    bad = Signature(X2.name, X2.key_id, bytes(72))
    with pytest.raises(SignatureError, match=r"witness\.example/x2"):
        open_checkpoint(add_signatures(cosigned(X1), [bad]), policy)
    not_needed = policy_of(LOG_LINE, X2_LINE, "quorum none")
    with pytest.raises(SignatureError, match=r"witness\.example/x2"):
        open_checkpoint(add_signatures(cosigned(X1), [bad]), not_needed)
    # To a policy that does not know the key, the same line means nothing.
    unknown = policy_of(LOG_LINE, X1_LINE, "quorum X1")
    assert open_checkpoint(add_signatures(cosigned(X1), [bad]), unknown) == CHECKPOINT


def test_a_cosignature_for_another_checkpoint_does_not_count() -> None:
    other = TEXT.replace("7\n", "8\n", 1)
    moved = add_signatures(cosigned(), [X1.cosign(other, 5)])
    with pytest.raises(SignatureError):
        open_checkpoint(moved, policy_of(LOG_LINE, X1_LINE, "quorum X1"))


def test_a_note_signature_by_a_witness_key_is_no_cosignature() -> None:
    plain = Signer(name=X1.name, private_key=X1.private_key)
    data = sign_note(TEXT, [LOG, plain])
    with pytest.raises(PolicyError, match="witness 'X1' has not cosigned"):
        open_checkpoint(data, policy_of(LOG_LINE, X1_LINE, "quorum X1"))


def test_the_quorum_is_judged_however_deeply_groups_are_nested() -> None:
    depth = 5000
    lines = [LOG_LINE, X1_LINE, "group g0 any X1"]
    lines += [f"group g{level} any g{level - 1}" for level in range(1, depth)]
    policy = policy_of(*lines, f"quorum g{depth - 1}")
    assert open_checkpoint(cosigned(X1), policy) == CHECKPOINT
    with pytest.raises(PolicyError) as refusal:
        open_checkpoint(cosigned(), policy)
    assert len(str(refusal.value)) < 1500


# ---- the logs


def test_a_published_checkpoint_meets_a_policy_of_its_log_and_witnesses() -> None:
    policy = build_policy([CT_LOG_VKEY], CT_WITNESS_VKEYS, 4)
    checkpoint = open_checkpoint(CT_CHECKPOINT, policy)
    assert checkpoint.tree_size == 1432088532
    assert parse_policy(format_policy(policy)) == policy
    text, signatures = parse_note(CT_CHECKPOINT)
    with pytest.raises(PolicyError, match="has 3 of the 4 it needs"):
        open_checkpoint(format_note(text, signatures[:-1]), policy)


def test_all_listed_logs_are_accepted() -> None:
    """ "When the policy is used for verifying a proof, all of the listed logs are accepted." """
    other = signer("other.example/log", 2)
    policy = policy_of(LOG_LINE, f"log {other.vkey} https://other.example/", "quorum none")
    text = format_checkpoint(Checkpoint("other.example/log", 9, bytes(32)))
    assert open_checkpoint(cosigned(), policy) == CHECKPOINT
    assert open_checkpoint(sign_note(text, [other]), policy).origin == "other.example/log"


def test_a_log_may_have_several_keys() -> None:
    next_key = signer(ORIGIN, 2)
    policy = policy_of(LOG_LINE, f"log {next_key.vkey}", "quorum none")
    assert open_checkpoint(cosigned(by=next_key), policy) == CHECKPOINT
    assert open_checkpoint(sign_note(TEXT, [LOG, next_key]), policy) == CHECKPOINT


def test_the_key_name_of_a_log_is_its_origin() -> None:
    """The log's vkey includes a "key name". "This name MUST correspond to the log's origin line, representing
    the identity of the log."
    """
    # The Go checksum database signs under another name than its origin, so no such policy can accept it.
    with pytest.raises(PolicyError, match=r"origin 'go\.sum database tree', which the policy does not list"):
        open_checkpoint(GO_SUM_DATABASE_CHECKPOINT, build_policy([GO_SUM_DATABASE_VKEY]))


def test_a_log_of_the_policy_cannot_sign_for_another_one() -> None:
    other = signer("other.example/log", 2)
    policy = policy_of(LOG_LINE, f"log {other.vkey}", "quorum none")
    with pytest.raises(SignatureError, match=f"not signed by the log itself: .* {LOG.key_id.hex()}"):
        open_checkpoint(cosigned(by=other), policy)


def test_cosignatures_without_the_signature_of_the_log_are_not_enough() -> None:
    policy = policy_of(LOG_LINE, X1_LINE, "quorum X1")
    with pytest.raises(SignatureError, match="not signed by the log itself"):
        open_checkpoint(format_note(TEXT, [X1.cosign(TEXT, 5)]), policy)


def test_a_checkpoint_of_an_unlisted_origin_is_a_policy_error_that_names_both() -> None:
    other = signer("other.example/log", 2)
    text = format_checkpoint(Checkpoint("other.example/log", 9, bytes(32)))
    with pytest.raises(PolicyError, match=r"'other\.example/log'.*it accepts 'example\.com/log'"):
        open_checkpoint(sign_note(text, [other]), policy_of(LOG_LINE, "quorum none"))


def test_a_checkpoint_signed_by_nobody_known_is_a_signature_error() -> None:
    mallory = signer(ORIGIN, 66)
    with pytest.raises(SignatureError, match="none of the 1 keys"):
        open_checkpoint(cosigned(by=mallory), policy_of(LOG_LINE, "quorum none"))


def test_a_policy_without_logs_can_be_read_but_trusts_no_checkpoint() -> None:
    """ "An application where the appropriate log(s) are known from other context may accept a policy with an
    empty set of logs."
    """
    for policy in (policy_of("quorum none"), policy_of(X1_LINE, "quorum X1")):
        assert policy.logs == ()
        with pytest.raises(PolicyError, match="this policy lists no log"):
            open_checkpoint(cosigned(X1), policy)


def test_a_log_that_signs_with_a_cosignature_key_is_accepted() -> None:
    log = cosigner(ORIGIN, 3)
    policy = policy_of(f"log {log.vkey}", "quorum none")
    assert isinstance(policy.logs[0].verifier, CosignatureVerifier)
    data = format_note(TEXT, [log.cosign(TEXT, 5)])
    assert open_checkpoint(data, policy) == CHECKPOINT
    with pytest.raises(SignatureError):
        open_checkpoint(cosigned(), policy)


@pytest.mark.parametrize(
    "data", [b"", b"text\n", sign_note("no checkpoint\n", [LOG]), sign_note(TEXT + "\n", [LOG])]
)
def test_a_note_that_is_no_checkpoint_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        open_checkpoint(data, policy_of(LOG_LINE, "quorum none"))


# ---- reading the file


def test_the_example_of_the_specification_is_parsed() -> None:
    assert parse_policy(EXAMPLE) == Policy(
        logs=(PolicyLog(verifier=Verifier.from_vkey(LOG.vkey)),),
        witnesses=tuple(
            PolicyWitness(name=name, verifier=CosignatureVerifier.from_vkey(witness.vkey))
            for name, witness in zip([b"X1", b"X2", b"X3", b"Y1", b"Y2", b"Y3"], WITNESSES, strict=True)
        ),
        groups=(
            PolicyGroup(name=b"X-witnesses", threshold=2, members=(b"X1", b"X2", b"X3")),
            PolicyGroup(name=b"Y-witnesses", threshold=1, members=(b"Y1", b"Y2", b"Y3")),
            PolicyGroup(name=b"X-and-Y", threshold=2, members=(b"X-witnesses", b"Y-witnesses")),
        ),
        quorum=b"X-and-Y",
    )


def test_spaces_tabs_empty_lines_and_comments_mean_nothing() -> None:
    """ "Leading and trailing whitespace is allowed. Empty lines (whitespace only) and comment lines (lines
    starting with "#", possibly preceded by whitespace) are allowed and ignored."
    """
    noisy = b"# comment\n\n \t \n\t#\xff\xfe quorum none\n" + EXAMPLE.replace(b" ", b" \t ").replace(
        b"\n", b"\t \n\t"
    )
    assert parse_policy(noisy) == parse_policy(EXAMPLE)


def test_only_the_newline_at_the_very_end_may_be_missing() -> None:
    assert parse_policy(EXAMPLE.removesuffix(b"\n")) == parse_policy(EXAMPLE)


def test_a_comment_is_a_whole_line() -> None:
    with pytest.raises(MalformedError, match="line 1"):
        parse_policy(b"quorum none # no cosignatures\n")
    with pytest.raises(MalformedError, match=r"line 1 .*: not one of"):
        parse_policy(f"log {LOG.vkey} https://example.com #main\nquorum none\n".encode())
    assert policy_of(f"witness #1 {X1.vkey}", "quorum #1").quorum == b"#1"


@pytest.mark.parametrize("octet", [*range(0x09), *range(0x0B, 0x20), 0x7F])
def test_other_control_characters_are_refused_everywhere(octet: int) -> None:
    """ "The only allowed control characters are tab and newline, which means that the allowed octet values
    are 0x09 (tab), 0x0A (newline), 0x20-0x7E, and 0x80-0xFF."
    """
    for data in (b"# %c\nquorum none\n", b"quorum%cnone\n", b"quorum none%c\n", b"%cquorum none\n"):
        with pytest.raises(MalformedError, match=f"line 1 .* octet 0x{octet:02x}"):
            parse_policy(data % octet)


def test_names_and_urls_are_octets() -> None:
    """ "In particular, names must be handled as opaque octet strings, e.g., the name 0x4B (ASCII "K") is
    different from the name 0xE2 0x84 0xAA (a Kelvin sign encoded using UTF-8)."
    """
    k, kelvin, broken = b"K", b"\xe2\x84\xaa", b"\xff\x80"
    url = b"https://b\xfccher.example/\xff"
    data = b"".join(
        b"witness %b %b %b\n" % (name, witness.vkey.encode(), url)
        for name, witness in [(k, X1), (kelvin, X2), (broken, X3)]
    )
    policy = parse_policy(b"log %b\n%bquorum %b\n" % (LOG.vkey.encode(), data, kelvin))
    assert [witness.name for witness in policy.witnesses] == [k, kelvin, broken]
    assert {witness.url for witness in policy.witnesses} == {url}
    assert open_checkpoint(cosigned(X2), policy) == CHECKPOINT
    with pytest.raises(PolicyError, match=r"xe2.*x84.*xaa"):
        open_checkpoint(cosigned(X1, X3), policy)
    assert parse_policy(format_policy(policy)) == policy


def test_a_non_breaking_space_does_not_separate_items() -> None:
    with pytest.raises(MalformedError, match="line 1"):
        parse_policy("quorum\u00a0none\n".encode())
    with pytest.raises(MalformedError, match="line 1"):
        parse_policy(b"quorum\x85none\n")


def test_urls_are_optional() -> None:
    policy = policy_of(
        f"{LOG_LINE} https://example.com/log/", f"{X1_LINE} https://witness.example/", "quorum X1"
    )
    assert policy.logs[0].url == b"https://example.com/log/"
    assert policy.witnesses[0].url == b"https://witness.example/"
    assert policy_of(LOG_LINE, X1_LINE, "quorum X1").logs[0].url is None


@pytest.mark.parametrize(
    "lines",
    [
        ["log"],
        [f"log {LOG.vkey} https://a https://b"],
        ["witness X1"],
        ["witness"],
        [f"witness X1 {X1.vkey} https://a https://b"],
        [X1_LINE, "group g any"],
        [X1_LINE, "group g"],
        [X1_LINE, "group"],
        ["quorum"],
        ["quorum none none"],
        ["Quorum none"],
        ["QUORUM none"],
        ["logs " + LOG.vkey],
        ["quorum=none"],
        ["include other.policy"],
        ["\ufeffquorum none"],
    ],
)
def test_a_line_of_another_form_is_refused_by_number(lines: list[str]) -> None:
    with pytest.raises(MalformedError, match=f"line {len(lines)} of the policy: not one of"):
        policy_of(*lines, "quorum none")


def test_a_policy_has_exactly_one_quorum_line() -> None:
    """ "A policy file must include exactly one quorum line." """
    for data in (b"", b"\n", b"# quorum none\n", LOG_LINE.encode()):
        with pytest.raises(MalformedError, match="no quorum line"):
            parse_policy(data)
    for second in ("none", "X1"):
        for first in ("none", "X1"):
            with pytest.raises(MalformedError, match=r"line 3 .*second quorum line"):
                policy_of(X1_LINE, f"quorum {first}", f"quorum {second}")


def test_the_quorum_is_defined_on_a_line_before() -> None:
    """ "Similarly, the quorum line must specify a witness or group defined earlier." """
    for lines in (["quorum X1", X1_LINE], ["quorum X1"], [X1_LINE, "quorum x1"], [X1_LINE, "quorum NONE"]):
        with pytest.raises(MalformedError, match="is not defined on a line before"):
            policy_of(*lines)
    assert policy_of(X1_LINE, "quorum X1", LOG_LINE, X2_LINE).quorum == b"X1"


def test_a_group_refers_only_to_names_on_lines_before() -> None:
    """ "Like for the quorum definition, a group definition can only refer to names defined on preceding
    lines. (This also rules out circular group definitions)."
    """
    for lines in (
        ["group g any X1", X1_LINE],
        ["group g any g"],
        [X1_LINE, "group g any X1 g"],
        [X1_LINE, "group g any h", "group h any X1"],
        [X1_LINE, "group g any none"],
        [X1_LINE, "group g any x1"],
        [X1_LINE, f"group g any {X1.name}"],
    ):
        with pytest.raises(MalformedError, match="is not defined on a line before"):
            policy_of(*lines, "quorum none")


def test_none_names_neither_a_witness_nor_a_group() -> None:
    """ "The special name `none` is predefined; it can be used when defining the quorum, but it is invalid as
    a group member."
    """
    for lines in ([f"witness none {X1.vkey}"], [X1_LINE, "group none any X1"]):
        with pytest.raises(MalformedError, match="`none` is predefined"):
            policy_of(*lines, "quorum none")


def test_keywords_are_names_like_any_other() -> None:
    policy = policy_of(
        LOG_LINE,
        f"witness all {X1.vkey}",
        f"witness 2 {X2.vkey}",
        f"witness log {X3.vkey}",
        "group any 2 all 2 log",
        "quorum any",
    )
    assert open_checkpoint(cosigned(X1, X3), policy) == CHECKPOINT


def test_witnesses_and_groups_share_their_names() -> None:
    """ "Witnesses and groups share a single namespace." """
    for lines in (
        [X1_LINE, f"witness X1 {X2.vkey}"],
        [X1_LINE, X2_LINE, "group X1 any X2"],
        [X1_LINE, "group X2 any X1", X2_LINE],
        [X1_LINE, X2_LINE, "group g any X1", "group g any X2"],
    ):
        with pytest.raises(MalformedError, match="is defined already"):
            policy_of(*lines, "quorum none")


def test_a_name_is_a_member_at_most_once_in_the_whole_policy() -> None:
    """ "Each defined name can be listed as a group member at most once. This ensures that each witness can
    contribute to a group, or to the quorum in particular, in only one way."
    """
    for lines in (
        ["group g any X1 X1"],
        ["group g any X1", "group h any X1"],
        ["group g any X1", "group h any g", "group i all g X2"],
        ["group g any X1 X2", "group h any g X2"],
    ):
        with pytest.raises(MalformedError, match="is a member already"):
            policy_of(X1_LINE, X2_LINE, *lines, "quorum none")


@pytest.mark.parametrize(
    "threshold", ["0", "3", "-1", "+1", "01", "1.0", "²", "one", "ALL", "Any", "1_0", "9" * 100]
)
def test_a_threshold_is_all_any_or_a_decimal_from_1_to_n(threshold: str) -> None:
    """ "If k is given numerically, it must be written in decimal, and it is required that 1 <= k <= n." """
    with pytest.raises(MalformedError, match=r"line 3 .* threshold"):
        policy_of(X1_LINE, X2_LINE, f"group g {threshold} X1 X2", "quorum g")


def test_duplicate_logs_are_judged_by_the_public_key() -> None:
    """ "Two vkeys are considered *duplicate* if they wrap the same underlying public key, even if they differ
    by key name and key id."

    "Duplicate logs, i.e., multiple log lines with the same public key, are not allowed."
    """
    for twin in (
        signer(ORIGIN, 1),
        signer("other.example", 1),
        cosigner(ORIGIN, 1),
        cosigner("other.example", 1),
    ):
        with pytest.raises(MalformedError, match=r"line 2 .*earlier log line has the public key"):
            policy_of(LOG_LINE, f"log {twin.vkey}", "quorum none")
    line = f"log {ml_dsa_cosigner(ORIGIN, 1).vkey}"
    with pytest.raises(MalformedError, match=r"line 2 .*earlier log line has the public key"):
        policy_of(line, f"log {ml_dsa_cosigner('other.example', 1).vkey}", "quorum none")
    # Made from one seed, but other keys all the same.
    assert len(policy_of(line, LOG_LINE, "quorum none").logs) == 2


def test_duplicate_witnesses_are_judged_by_the_public_key() -> None:
    """ "Duplicate witnesses, i.e., multiple witness lines with the same public key, are not allowed."

    tlog-cosignature: "The Ed25519 signed message format doesn't commit to the cosigner name, so the same
    public key can't be used across multiple cosigners."
    """
    for twin in (X1, cosigner("other.example", 101)):
        with pytest.raises(MalformedError, match=r"line 2 .*earlier witness line has the public key"):
            policy_of(X1_LINE, f"witness X2 {twin.vkey}", "quorum none")
    for post_quantum in (Q, ml_dsa_cosigner("other.example")):
        with pytest.raises(MalformedError, match=r"line 2 .*earlier witness line has the public key"):
            policy_of(f"witness Q {Q.vkey}", f"witness X2 {post_quantum.vkey}", "quorum none")


@pytest.mark.parametrize("key_type", [0x00, 0x02, 0x03, 0x05, 0x07, 0xFF])
def test_a_key_type_that_cannot_be_verified_is_an_error_that_names_it(key_type: int) -> None:
    vkey = format_vkey("example.com/x", key_type, bytes(range(1, 33)))
    with pytest.raises(MalformedError, match=f"line 2 .* type 0x{key_type:02x} .*cannot be verified"):
        policy_of(LOG_LINE, f"log {vkey}", "quorum none")
    with pytest.raises(MalformedError, match=f"line 2 .* type 0x{key_type:02x} .*0x04 .*0x06 .*is needed"):
        policy_of(LOG_LINE, f"witness x {vkey}", "quorum none")


def test_an_ml_dsa_key_of_a_wrong_length_is_refused() -> None:
    for length in (0, 32, 1311, 1313):
        vkey = format_vkey("example.com/x", 0x06, bytes(length))
        for line in (f"log {vkey}", f"witness x {vkey}"):
            with pytest.raises(MalformedError, match=f"line 2 .*holds {length} bytes of ML-DSA-44"):
                policy_of(LOG_LINE, line, "quorum none")


def test_a_witness_may_have_an_ml_dsa_key() -> None:
    policy = policy_of(
        LOG_LINE, X1_LINE, f"witness Q {Q.vkey} https://q.example/", "group g all X1 Q", "quorum g"
    )
    assert policy.witnesses[1].verifier == MlDsaCosignatureVerifier.from_vkey(Q.vkey)
    assert open_checkpoint(cosigned(X1, Q), policy) == CHECKPOINT
    for lacking, signed in (("Q", cosigned(X1)), ("X1", cosigned(Q))):
        with pytest.raises(PolicyError, match=f"witness '{lacking}' has not cosigned"):
            open_checkpoint(signed, policy)
    bad = Signature(Q.name, Q.key_id, Q.cosign(TEXT.replace("7", "8", 1), 5).signature)
    with pytest.raises(SignatureError, match=r"witness\.example/q"):
        open_checkpoint(add_signatures(cosigned(X1), [bad]), policy)
    assert parse_policy(format_policy(policy)) == policy


def test_a_log_may_have_an_ml_dsa_key() -> None:
    """tlog-cosignature: "The ML-DSA version SHOULD be used for new deployments." """
    log = ml_dsa_cosigner(ORIGIN, 3)
    policy = policy_of(f"log {log.vkey}", "quorum none")
    assert open_checkpoint(format_note(TEXT, [log.cosign(TEXT, 5)]), policy) == CHECKPOINT
    with pytest.raises(SignatureError, match="none of the 1 keys"):
        open_checkpoint(cosigned(), policy)


def test_a_witness_key_is_of_the_cosignature_type() -> None:
    """ "Log and witness keys must use a signature type approprate respective function" """
    with pytest.raises(MalformedError, match=r"type 0x01 \(Ed25519 note signature\), where 0x04"):
        policy_of(f"witness X1 {LOG.vkey}", "quorum none")


@pytest.mark.parametrize(
    "vkey", [LOG.vkey[:-1], LOG.vkey.replace("log", "lag"), LOG.skey, "example.com/log", "+", "é"]
)
def test_a_mistyped_vkey_is_refused_by_line_and_never_skipped(vkey: str) -> None:
    for line in (f"log {vkey}", f"witness X1 {vkey}"):
        with pytest.raises(MalformedError, match="line 2 of the policy"):
            policy_of(X2_LINE, line, "quorum none")
    with pytest.raises(MalformedError, match="not UTF-8"):
        parse_policy(b"log \xff+%b\nquorum none\n" % LOG.vkey.encode())


def test_32_logs_witnesses_and_groups_are_accepted() -> None:
    """ "It is strongly recommended that an implementation supports at least up to 32 logs, 32 witnesses, and
    32 groups."
    """
    witnesses = [cosigner(f"witness.example/{number}", 1000 + number) for number in range(32)]
    lines = [f"log {signer(f'log.example/{number}', 2000 + number).vkey}" for number in range(31)]
    lines += [LOG_LINE, *(f"witness w{number} {witness.vkey}" for number, witness in enumerate(witnesses))]
    lines += [f"group g{number} any w{number}" for number in range(31)]
    lines += [f"group top all {' '.join(f'g{number}' for number in range(31))} w31", "quorum top"]
    policy = policy_of(*lines)
    assert (len(policy.logs), len(policy.witnesses), len(policy.groups)) == (32, 32, 32)
    assert open_checkpoint(cosigned(*witnesses), policy) == CHECKPOINT
    for left_out in range(32):
        with pytest.raises(PolicyError, match="has 31 of the 32"):
            open_checkpoint(cosigned(*witnesses[:left_out], *witnesses[left_out + 1 :]), policy)


def test_a_policy_above_one_mebibyte_is_refused() -> None:
    data = b"quorum none\n#" + b"x" * (MAX_POLICY_BYTES - 13)
    assert len(data) == 2**20
    parse_policy(data)
    with pytest.raises(MalformedError, match="1048577 bytes"):
        parse_policy(data + b"x")


# ---- writing one


@pytest.mark.parametrize(
    "policy",
    [
        parse_policy(EXAMPLE),
        policy_of("quorum none"),
        policy_of(f"{LOG_LINE} https://a", X1_LINE, f"{X2_LINE} https://b", "group g 1 X1", "quorum X2"),
    ],
)
def test_a_formatted_policy_is_parsed_again(policy: Policy) -> None:
    assert parse_policy(format_policy(policy)) == policy
    assert format_policy(parse_policy(format_policy(policy))) == format_policy(policy)


def test_a_policy_that_cannot_be_written_is_refused() -> None:
    good = parse_policy(EXAMPLE)
    for bad in (
        replace(good, quorum=b"nobody"),
        replace(good, quorum=b"none"),
        replace(good, quorum=b"X1\nquorum none"),
        replace(good, groups=()),
        replace(good, groups=good.groups[::-1]),
        replace(good, logs=good.logs * 2),
        replace(good, logs=(replace(good.logs[0], url=b"https://a\nquorum none"),)),
        replace(good, logs=(replace(good.logs[0], url=b""),)),
        replace(good, logs=(replace(good.logs[0], url=b"a b"),)),
        replace(good, witnesses=(replace(good.witnesses[0], name=b"a b"), *good.witnesses[1:])),
    ):
        with pytest.raises(MalformedError):
            format_policy(bad)


def test_a_simple_policy_is_built() -> None:
    policy = build_policy([LOG.vkey], [X1.vkey, X2.vkey, X3.vkey], 2)
    assert open_checkpoint(cosigned(X1, X3), policy) == CHECKPOINT
    with pytest.raises(PolicyError, match="has 1 of the 2 it needs"):
        open_checkpoint(cosigned(X3), policy)
    assert parse_policy(format_policy(policy)) == policy
    assert format_policy(build_policy([LOG.vkey])).decode() == f"log {LOG.vkey}\nquorum none\n"
    assert open_checkpoint(cosigned(), build_policy([LOG.vkey], [X1.vkey])) == CHECKPOINT
    with pytest.raises(PolicyError, match="lists no log"):
        open_checkpoint(cosigned(), build_policy([]))


def test_a_log_that_is_not_named_like_its_key_is_trusted_for_its_origin_only() -> None:
    origin = "an origin with spaces"
    policy = build_log_policy([Verifier.from_vkey(LOG.vkey)], origin)
    named = replace(CHECKPOINT, origin=origin)
    assert open_checkpoint(sign_note(format_checkpoint(named), [LOG]), policy) == named
    with pytest.raises(PolicyError, match="does not list"):
        open_checkpoint(cosigned(), policy)
    with pytest.raises(SignatureError):
        open_checkpoint(sign_note(format_checkpoint(named), [signer("else", 99)]), policy)
    with pytest.raises(MalformedError, match="cannot be written"):
        format_policy(policy)
    usual = build_log_policy([Verifier.from_vkey(LOG.vkey)], LOG.name)
    assert usual == build_policy([LOG.vkey])


@pytest.mark.parametrize(
    ("logs", "witnesses", "threshold"),
    [
        ([LOG.vkey], [], 1),
        ([LOG.vkey], [X1.vkey], 2),
        ([LOG.vkey], [X1.vkey], -1),
        ([LOG.vkey], [X1.vkey, X1.vkey], 1),
        ([LOG.vkey, LOG.vkey], [], 0),
        ([f"{LOG.vkey} https://example.com"], [], 0),
        ([f"{LOG.vkey}\nquorum none"], [X1.vkey], 1),
        (["\ud800"], [], 0),
        ([X1.vkey + " "], [], 0),
    ],
)
def test_a_simple_policy_that_makes_no_sense_is_refused(
    logs: list[str], witnesses: list[str], threshold: int
) -> None:
    with pytest.raises(MalformedError):
        build_policy(logs, witnesses, threshold)


# ---- anything


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200) | damaged(EXAMPLE))
def test_any_bytes_are_a_policy_that_formats_and_parses_again_or_malformed(data: bytes) -> None:
    try:
        policy = parse_policy(data)
    except MalformedError:
        return
    assert parse_policy(format_policy(policy)) == policy


words = st.sampled_from(
    ["log", "witness", "group", "quorum", "none", "a", "b", "g", "any", "all", "1", "2", "#"]
)
vkeys = st.sampled_from([LOG.vkey, X1.vkey, X2.vkey])


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(words | vkeys, max_size=5), max_size=8))
def test_any_lines_of_right_words_are_a_policy_or_malformed(lines: list[list[str]]) -> None:
    try:
        policy = policy_of(*(" ".join(line) for line in lines))
    except MalformedError:
        return
    assert parse_policy(format_policy(policy)) == policy


@settings(deadline=None, max_examples=150)
@given(damaged(cosigned(X1, X2, Y1)))
def test_a_damaged_checkpoint_is_accepted_only_where_nothing_signed_was_touched(data: bytes) -> None:
    try:
        checkpoint = open_checkpoint(data, parse_policy(EXAMPLE))
    except (MalformedError, VerificationError):
        return
    assert checkpoint == CHECKPOINT


def test_the_keys_of_these_tests_are_the_ones_they_seem() -> None:
    assert PrivateKey(seed(101)).public_key == X1.public_key
    assert len({witness.public_key for witness in WITNESSES} | {LOG.public_key}) == 7
