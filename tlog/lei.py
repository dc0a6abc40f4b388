"""Legal Entity Identifiers: the one form of ISO 17442, and its check digits."""

from __future__ import annotations

import re
from typing import Final

from tlog.encoding import shown
from tlog.errors import MalformedError

_LEI: Final = re.compile(r"[0-9A-Z]{18}[0-9]{2}")
# These pass the division below as 97, 98 and 02 do, which are the ones that ISO 7064 computes.
_NEVER_COMPUTED: Final = ("00", "01", "99")


def check_lei(lei: str) -> None:
    """Check form and check digits of an LEI (ISO 17442-1; ISO 7064 MOD 97-10 with A to Z as 10 to 35).

    Raises MalformedError.
    """
    if not _LEI.fullmatch(lei):
        raise MalformedError(
            f"{shown(lei)} is not an LEI: write 18 digits or upper-case letters and two check digits"
        )
    remainder = int("".join(str(int(character, 36)) for character in lei)) % 97
    if remainder != 1 or lei[18:] in _NEVER_COMPUTED:
        raise MalformedError(
            f"{lei} is not an LEI: its check digits {lei[18:]} do not hold; look for a typing error"
        )
