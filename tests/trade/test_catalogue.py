"""The catalogue against the alliance's own list, which is copied here word for word and parsed."""

import re

import pytest

from tlog.errors import MalformedError
from tlog.trade.catalogue import CATALOGUE, ROLES, issuing_roles, rules_roles

AGREED = """
`order.placed` (importer), `invoice.issued` / `invoice.credited` (exporter), `invoice.accepted`
(importer), `declaration.lodged` (forwarder, exporter, single window), `declaration.accepted` /
`.rejected` / `.controlled` / `.amended` / `.released` / `.withdrawn` (customs), `goods.exited`
(customs), `booking.confirmed`, `vessel.departed`, `vessel.arrived`, `bl.issued`, `bl.surrendered`
(carrier), `container.gated-in` / `.loaded` / `.discharged` (terminal), `goods.packed`,
`lot.produced`, `readings.batched` (manufacturer, device operator), `goods.delivered` (carrier,
terminal), `cover.attached`, `loss.notified`, `loss.paid` (insurer), `claim.reserved` / `.financed`
/ `.repaid` / `.released` (bank), `payment.settled` (bank), `record.corrected` (same issuer)
"""


def agreed_catalogue() -> dict[str, set[str]]:
    """Read the agreed list: names in backticks, then the roles of all of them in brackets."""
    catalogue: dict[str, set[str]] = {}
    family = ""
    for names, roles in re.findall(r"((?:`[a-z.-]+`[ ,/\n]*)+)\(([a-z ,\n]+)\)", AGREED):
        for name in re.findall(r"`([a-z.-]+)`", names):
            full = f"{family}{name}" if name.startswith(".") else name
            family = full.partition(".")[0]
            catalogue[f"trade.{full}.v1"] = {"-".join(role.split()) for role in roles.split(",")}
    return catalogue


def test_every_agreed_type_has_exactly_the_agreed_roles() -> None:
    agreed = agreed_catalogue()
    assert agreed.pop("trade.record.corrected.v1") == {"same-issuer"}
    assert len(agreed) == 32
    everyone = CATALOGUE["trade.record.corrected.v1"]
    assert {name: set(roles) for name, roles in CATALOGUE.items()} == {
        **agreed,
        "trade.record.corrected.v1": set(ROLES),
    }
    assert everyone == ROLES


def test_roles_are_the_ones_that_the_agreed_list_names() -> None:
    named = set().union(*agreed_catalogue().values()) - {"same-issuer"}
    assert set(ROLES) == named
    assert len(ROLES) == len(set(ROLES)) == 11


def test_rules_roles_is_the_catalogue_the_other_way_round() -> None:
    roles = rules_roles()
    assert list(roles) == list(ROLES)
    assert {(role, name) for role, names in roles.items() for name in names} == {
        (role, name) for name, names in CATALOGUE.items() for role in names
    }
    assert all(len(names) == len(set(names)) for names in roles.values())


def test_rules_roles_gives_a_fresh_table_each_time() -> None:
    rules_roles()["bank"].clear()
    assert "trade.claim.reserved.v1" in rules_roles()["bank"]


def test_no_type_is_a_wildcard_or_reserved() -> None:
    for name in CATALOGUE:
        assert re.fullmatch(r"trade\.[a-z]+\.[a-z-]+\.v[1-9]", name)


@pytest.mark.parametrize(
    ("event_type", "role", "may"),
    [
        ("trade.invoice.issued.v1", "exporter", True),
        ("trade.invoice.issued.v1", "device-operator", False),
        ("trade.declaration.lodged.v1", "customs", False),
        ("trade.claim.financed.v1", "bank", True),
        ("trade.claim.financed.v1", "insurer", False),
    ],
)
def test_a_role_may_issue_only_its_types(event_type: str, role: str, may: bool) -> None:
    assert (role in issuing_roles(event_type)) is may
    assert (event_type in rules_roles()[role]) is may


@pytest.mark.parametrize(
    "event_type", ["invoice.issued", "trade.invoice.issued.v2", "tlog.member.v1", "", "\n" * 9]
)
def test_an_unknown_type_is_refused_by_name(event_type: str) -> None:
    with pytest.raises(MalformedError, match=r"not in the catalogue; types are written trade\.<name>\.v1"):
        issuing_roles(event_type)
