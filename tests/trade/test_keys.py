"""Business keys: one key, one spelling."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlog.errors import MalformedError
from tlog.event import build_event, parse_event
from tlog.trade.keys import SCHEMES, BusinessKey, format_business_key, parse_business_key

AS_ISSUED = sorted(set(SCHEMES) - {"lei", "sscc", "container"})
RAW_VALUES = st.text(min_size=1, max_size=40)


def test_the_schemes_are_the_agreed_ones() -> None:
    assert list(SCHEMES) == [
        *("declaration", "invoice", "bl", "order", "container", "sscc", "lot", "policy", "device", "lei")
    ]


@pytest.mark.parametrize(
    ("scheme", "raw", "key"),
    [
        ("invoice", "INV-2025-0778", "invoice:INV-2025-0778"),
        ("declaration", "223320250000417705", "declaration:223320250000417705"),
        ("declaration", "19GBCKKCQSXV2FGVA8", "declaration:19GBCKKCQSXV2FGVA8"),
        # Kept as issued: letter case and punctuation of the issuer's own number are part of it.
        ("invoice", "inv-2025-0778", "invoice:inv-2025-0778"),
        ("invoice", "RE 2025/07:78", "invoice:RE%202025%2F07%3A78"),
        ("order", "100%", "order:100%25"),
        ("bl", "MEDU~1_2.3-4", "bl:MEDU~1_2.3-4"),
        ("policy", "№ 7/é", "policy:%E2%84%96%207%2F%C3%A9"),
        ("device", "urn:epc:id:giai:0614141.12345400", "device:urn%3Aepc%3Aid%3Agiai%3A0614141.12345400"),
        ("lot", "甲-7", "lot:%E7%94%B2-7"),
        # GLEIF's and well-known companies' own.
        ("lei", "506700GE1G29325QX363", "lei:506700GE1G29325QX363"),
        ("lei", "5493001kjtiigc8y1r12", "lei:5493001KJTIIGC8Y1R12"),
        ("lei", "HWUPKR0MPOU8FGXBT394", "lei:HWUPKR0MPOU8FGXBT394"),
        # The GS1 EPC standard's example, urn:epc:id:sscc:0614141.1234567890.
        ("sscc", "106141412345678908", "sscc:106141412345678908"),
        # The example that goes with ISO 6346, as it is painted on a box.
        ("container", "CSQU 305438 3", "container:CSQU3054383"),
        ("container", "csqu305438-3", "container:CSQU3054383"),
        ("container", "MSKU6011672", "container:MSKU6011672"),
    ],
)
def test_a_raw_value_has_one_key(scheme: str, raw: str, key: str) -> None:
    assert format_business_key(scheme, raw) == key
    assert format_business_key(scheme, parse_business_key(key).value) == key
    assert str(parse_business_key(key)) == key


def test_a_parsed_key_gives_the_value_without_quoting() -> None:
    assert parse_business_key("invoice:RE%202025%2F07") == BusinessKey("invoice", "RE 2025/07")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a business key"),
        ("invoice", "not a business key"),
        ("invoice:", "not a business key"),
        (":7", "not a business key"),
        ("Invoice:7", "not a business key"),
        (" invoice:7", "not a business key"),
        ("invoice:7 ", "not a business key"),
        ("invoice:7\n", "not a business key"),
        ("invoice: 7", "not a business key"),
        ("invoice:a/b", "not a business key"),
        ("invoice:é", "not a business key"),
        ("invoice:%", "not a business key"),
        ("invoice:%2", "not a business key"),
        ("invoice:%2f", "not a business key"),  # lower-case hex
        ("invoice:%41", "write 'invoice:A'"),  # an unreserved character, quoted
        ("invoice:%7E", "write 'invoice:~'"),
        ("invoice:%FF", "not UTF-8"),
        ("invoice:%ED%A0%80", "not UTF-8"),  # a lone surrogate
        ("invoice:%207", "begins or ends with a blank"),
        ("invoice:a%00", "reader would not see"),
        ("invoice:e%CC%81", "normal form C"),
        ("facture:7", "not a scheme"),
        ("lei:5493001kjtiigc8y1r12", "write 'lei:5493001KJTIIGC8Y1R12'"),
        ("container:csqu3054383", "write 'container:CSQU3054383'"),
        ("container:CSQU%203054383", "write 'container:CSQU3054383'"),
    ],
)
def test_another_spelling_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(complaint)):
        parse_business_key(text)


@pytest.mark.parametrize(
    "raw",
    [
        *("", " 7", "7 ", "\u00a07", "a\u00a0b", "a\u2003b", "a\tb", "a\nb", "a\x00", "a\x7f", "a\u0085b"),
        *("a\u200bb", "a\u00adb", "a\u202eb", "\ufeff7", "a\u2028b", "a\ud800b", "e\u0301", "\u212b"),
    ],
)
@pytest.mark.parametrize("scheme", ["invoice", "lot"])
def test_what_a_reader_cannot_see_is_refused(scheme: str, raw: str) -> None:
    with pytest.raises(MalformedError):
        format_business_key(scheme, raw)


@pytest.mark.parametrize(
    ("scheme", "value"),
    [
        ("lei", "506700GE1G29325QX36"),
        ("lei", "506700GE1G29325QX3633"),
        ("lei", "506700GE1G29325QX3AB"),
        ("lei", "506700GE1G29325QX3６３"),  # full-width digits
        ("lei", "506700GE1G29325 X363"),
        ("sscc", "00106141412345678908"),
        ("sscc", "10614141234567890"),
        ("sscc", "1061414123456789OB"),
        ("sscc", "١06141412345678908"),
        ("container", "CSQ3054383"),
        ("container", "CSQA3054383"),
        ("container", "CSQU30543830"),
        ("container", "CSQU305438٣"),
        ("container", "CSQU\u20093054383"),
    ],
)
def test_a_value_outside_its_standard_is_refused(scheme: str, value: str) -> None:
    with pytest.raises(MalformedError, match=f"(?i)is not an? {scheme}"):
        format_business_key(scheme, value)


@pytest.mark.parametrize("lei", ["506700GE1G29325QX363", "5493001KJTIIGC8Y1R12", "HWUPKR0MPOU8FGXBT394"])
def test_an_lei_with_any_one_digit_or_letter_changed_is_refused(lei: str) -> None:
    for place in range(20):
        # A letter for a digit, or the other way round, shifts the rest: that MOD 97-10 need not notice.
        for character in string.digits if lei[place].isdigit() else string.ascii_uppercase:
            if character != lei[place]:
                with pytest.raises(MalformedError):
                    format_business_key("lei", lei[:place] + character + lei[place + 1 :])


def test_an_lei_with_check_digits_that_iso_7064_never_computes_is_refused() -> None:
    # The check digits of this body are 02; 99 gives the same remainder.
    body = next(f"{number:018d}" for number in range(1, 200) if number * 100 % 97 == 96)
    assert format_business_key("lei", f"{body}02") == f"lei:{body}02"
    with pytest.raises(MalformedError, match="check digits 99"):
        format_business_key("lei", f"{body}99")


def test_an_sscc_with_any_one_digit_changed_is_refused() -> None:
    sscc = "106141412345678908"
    for place in range(18):
        for digit in string.digits:
            if digit != sscc[place]:
                with pytest.raises(MalformedError):
                    format_business_key("sscc", sscc[:place] + digit + sscc[place + 1 :])


def test_every_container_number_has_exactly_one_check_digit() -> None:
    for serial in range(300):
        valid = []
        for check in string.digits:
            try:
                valid.append(format_business_key("container", f"TGHU{serial:06d}{check}"))
            except MalformedError as error:
                assert "check digit" in str(error)
        assert len(valid) == 1


def test_a_container_remainder_of_ten_is_written_as_zero() -> None:
    # A, B, C, U are 10, 12, 13, 32, so ABCU is 10 + 12*2 + 13*4 + 32*8 = 342; six digits weigh 16 to 512.
    totals = {
        f"{serial:06d}": 342 + sum(int(d) << i + 4 for i, d in enumerate(f"{serial:06d}"))
        for serial in range(99)
    }
    number = next(f"ABCU{serial}" for serial, total in totals.items() if total % 11 == 10)
    assert format_business_key("container", f"{number}0") == f"container:{number}0"


@given(scheme=st.sampled_from(AS_ISSUED), raw=RAW_VALUES)
def test_formatting_and_parsing_are_inverse(scheme: str, raw: str) -> None:
    try:
        key = format_business_key(scheme, raw)
    except MalformedError:
        return
    assert parse_business_key(key) == BusinessKey(scheme, raw)


@given(
    scheme=st.sampled_from(AS_ISSUED),
    raw=st.text(string.ascii_letters + string.digits + "-/# %é√", min_size=1),
)
def test_an_event_takes_every_key_that_is_formatted(scheme: str, raw: str) -> None:
    try:
        key = format_business_key(scheme, raw)
    except MalformedError:
        return
    payload = build_event(
        id="1",
        source="urn:example:a",
        type="t",
        subject="s",
        time="2025-01-01T00:00:00Z",
        origin="o",
        refs=[key],
    )
    assert parse_event(payload).refs == (key,)


@given(st.text(max_size=60) | st.from_regex(r"[a-z]{1,9}:[A-Za-z0-9%._~-]{1,30}", fullmatch=True))
def test_parsing_arbitrary_text_raises_nothing_but_malformed(text: str) -> None:
    try:
        key = parse_business_key(text)
    except MalformedError:
        return
    assert str(key) == text


@given(scheme=st.sampled_from(sorted(SCHEMES)) | st.text(max_size=8), raw=st.text(max_size=30))
def test_formatting_arbitrary_values_raises_nothing_but_malformed(scheme: str, raw: str) -> None:
    try:
        key = format_business_key(scheme, raw)
    except MalformedError:
        return
    assert key.isascii()
    assert scheme in SCHEMES
