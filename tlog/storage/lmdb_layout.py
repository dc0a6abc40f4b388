"""How a log's rows are spelled in LMDB: the tables, their keys, and what is not an entry, a tile or a note.

Table           key                             value
entries         leaf index                      the entry
tiles           level (1 byte), tile index      the stored hash tile (tlog.integrate)
identities      identity (32 bytes)             leaf index
business_keys   key (16 bytes), leaf index      nothing
governance      leaf index                      nothing
meta            a name                          format, origin, vkey, committed, committed_size, published,
                                                governance_head, previous_size; frozen, restored and
                                                marked are there or not

Numbers are 8 bytes, big-endian, so that LMDB's order of keys is their order.

The governance head (count of rows, last leaf index, its leaf hash) is for a row that gets lost later: each
governance entry names the one before it, so a hole shows, but without its last entries the list would look
whole, and the membership be an older one.
"""

from __future__ import annotations

import struct
from typing import Final

FORMAT: Final = b"tlog-store/1"
"""Names the tables and their encoding; a store with another name is refused."""

ENTRIES: Final = b"entries"
TILES: Final = b"tiles"
IDENTITIES: Final = b"identities"
BUSINESS_KEYS: Final = b"business_keys"
GOVERNANCE: Final = b"governance"
META: Final = b"meta"
TABLES: Final = (ENTRIES, TILES, IDENTITIES, BUSINESS_KEYS, GOVERNANCE, META)

NUMBER: Final = struct.Struct(">Q")
TILE_KEY: Final = struct.Struct(">BQ")
GOVERNANCE_HEAD: Final = struct.Struct(">QQ32s")
NO_VALUE: Final = b""

PREVIOUS_SIZE: Final = b"previous_size"
FROZEN: Final = b"frozen"
RESTORED: Final = b"restored"
MARKED: Final = b"marked"
