"""Put functions of one's own in the place of C functions that one loaded library calls. Linux, 64 bits.

A library calls libc through a table of addresses (its GOT), filled by the loader. Here entries of that
table are overwritten: nothing is compiled, nobody has to be allowed to trace, and every other library goes
on calling libc. What was put in stays for the life of the process.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

_DYNAMIC_SEGMENT = 2
_STRING_TABLE, _SYMBOL_TABLE = 5, 6
_RELOCATIONS = ((23, 2), (7, 8))
"""Where the relocations of calls and of data are, and how many bytes of them: pairs of dynamic tags."""
_RELOCATION = struct.Struct("<QQq")
_SYMBOL_BYTES = 24


def replace_calls(library: Path, replacements: Mapping[str, int]) -> set[str]:
    """Let a loaded library call these addresses by these names; returns the names that it calls."""
    base = _base_of(library)
    found = set()
    for name, slot in _slots(base):
        if name in replacements:
            _make_writable(slot)
            ctypes.c_uint64.from_address(slot).value = replacements[name]
            found.add(name)
    return found


def _base_of(library: Path) -> int:
    wanted = str(library.resolve())
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(wanted):
            return int(line.split("-")[0], 16)
    raise AssertionError(f"{library} is not loaded")


def _slots(base: int) -> Iterator[tuple[str, int]]:
    """Go through what the loader filled in: the name of a symbol, and where its address is kept."""
    dynamic = _dynamic(base)
    strings, symbols = dynamic[_STRING_TABLE], dynamic[_SYMBOL_TABLE]
    for where, how_much in _RELOCATIONS:
        data = ctypes.string_at(dynamic[where], dynamic[how_much]) if where in dynamic else b""
        for offset, info, _ in _RELOCATION.iter_unpack(data):
            symbol = info >> 32
            if symbol:
                (name_at,) = struct.unpack("<I", ctypes.string_at(symbols + symbol * _SYMBOL_BYTES, 4))
                yield ctypes.string_at(strings + name_at).decode(), base + offset


def _dynamic(base: int) -> dict[int, int]:
    header = ctypes.string_at(base, 64)
    (headers_at,) = struct.unpack_from("<Q", header, 32)
    entry_bytes, count = struct.unpack_from("<HH", header, 54)
    for number in range(count):
        segment = ctypes.string_at(base + headers_at + number * entry_bytes, entry_bytes)
        kind, _, _, address, _, _, size, _ = struct.unpack("<IIQQQQQQ", segment)
        if kind == _DYNAMIC_SEGMENT:
            pairs = dict(struct.iter_unpack("<QQ", ctypes.string_at(base + address, size)))
            tables = {_STRING_TABLE, _SYMBOL_TABLE, *(where for where, _ in _RELOCATIONS)}
            # glibc has made addresses of the offsets of these, other loaders leave them as they are.
            return {
                tag: value + base if tag in tables and value < base else value for tag, value in pairs.items()
            }
    raise AssertionError("a loaded library has a dynamic segment")


def _make_writable(address: int) -> None:
    """Take the protection away that the loader puts on the table once it is filled."""
    page = address & -mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    length = address + 8 - page
    assert libc.mprotect(page, length, mmap.PROT_READ | mmap.PROT_WRITE) == 0, ctypes.get_errno()
