"""A zip archive from a stranger: what it declares is checked before a member is read, then every byte by its CRC-32.

Nothing is extracted. The end record is read before `zipfile` may read the directory, whose size it announces.
"""

from __future__ import annotations

import itertools
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pruning.contract.errors import UnreadableFile, UnsafeFile

SIGNATURE = b"PK\x03\x04"
MAX_MEMBERS = 10_000
MAX_DIRECTORY_BYTES = 4 * 2**20
MAX_UNPACKED_BYTES = 32 * 2**30
RATIO_FROM_BYTES = 256 * 2**20
MAX_RATIO = 200
MAX_NAME = 512
CHUNK = 2**20

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCAL = struct.Struct("<4s5H3L2H")
_UTF8_NAME = 0x800
_ENCRYPTED = 0x1
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    ValueError,
)


@dataclass(frozen=True)
class Archive:
    """An archive whose directory was found sound: its members by name, in the order of their place in the file."""

    file: zipfile.ZipFile
    members: dict[str, zipfile.ZipInfo]

    def head(self, name: str, size: int) -> bytes:
        """The first `size` bytes of a member, or all if it has fewer. Raises `UnreadableFile`."""
        with _unreadable(name), self.file.open(self.members[name]) as stream:
            return stream.read(size)

    def check_bytes(self) -> None:
        """Read every member to its end, keeping nothing. Raises `UnreadableFile` where size or CRC-32 do not match."""
        for name, member in self.members.items():
            size = 0
            with _unreadable(name), self.file.open(member) as stream:
                while piece := stream.read(CHUNK):
                    size += len(piece)
            if size != member.file_size:
                raise UnreadableFile(f"member {name!r} has {size} bytes, not the {member.file_size} that it announces")


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The archive at `path`, its directory checked.

    Raises `UnreadableFile` for what is broken, `UnsafeFile` for what is made to deceive: names that leave the folder or
    come twice, links, members that overlap, more members or bytes than allowed.
    """
    with path.open("rb") as raw:
        size = path.stat().st_size
        declared = _count_members(raw, size)
        with _unreadable("the archive"):
            file = zipfile.ZipFile(raw)
        with file:
            members = file.infolist()
            if len(members) != declared:
                raise UnreadableFile(f"the archive announces {declared} members and lists {len(members)}")
            for member in members:
                _check_member(member)
            _check_sizes(members, size)
            ordered = sorted(members, key=lambda member: member.header_offset)
            _check_places(raw, ordered, file.start_dir)
            yield Archive(file, {member.filename: member for member in ordered})


def _count_members(raw: BinaryIO, size: int) -> int:
    """How many members the end record announces; it has to fit before anything of that size is read."""
    tail_at = max(0, size - _END.size - 0xFFFF)
    raw.seek(tail_at)
    tail = raw.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise UnreadableFile("the archive has no end record: the file was cut short")
    _, _, _, _, count, directory, _, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise UnreadableFile("the archive's comment does not end where the file ends")
    locator_at = tail_at + at - _LOCATOR.size
    if locator_at >= _END_64.size:
        raw.seek(locator_at - _END_64.size)
        before = raw.read(_END_64.size + _LOCATOR.size)
        if before[_END_64.size :].startswith(b"PK\x06\x07"):
            signature, _, _, _, _, _, _, count, directory, _ = _END_64.unpack(before[: _END_64.size])
            if signature != b"PK\x06\x06":
                raise UnreadableFile("the archive's zip64 record is not where it should be")
    if count > MAX_MEMBERS or directory > MAX_DIRECTORY_BYTES:
        raise UnsafeFile(f"the archive announces {count} members: at most {MAX_MEMBERS} are read")
    return int(count)


def _check_member(member: zipfile.ZipInfo) -> None:
    check_name(member.orig_filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnsafeFile(f"member {member.filename!r} is a link or a device: only files are read")
    if member.flag_bits & _ENCRYPTED:
        raise UnreadableFile(f"member {member.filename!r} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableFile(f"member {member.filename!r} is compressed by method {member.compress_type}: use deflate")
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
        raise UnreadableFile(f"member {member.filename!r} is stored as it is, yet announces two sizes")


def check_name(name: str) -> None:
    """Raises `UnsafeFile` for a member's name that is not a plain relative path."""
    plain = 0 < len(name) <= MAX_NAME and name.isprintable() and not any(sign in name for sign in "\\:")
    if not plain or name.startswith("/") or ".." in name.split("/"):
        raise UnsafeFile(f"member name {name[:80]!r} is not a plain relative path")


def _check_sizes(members: list[zipfile.ZipInfo], size: int) -> None:
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UnsafeFile(f"member {twice!r} is there twice")
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES:
        raise UnsafeFile(f"the archive unpacks to {unpacked} bytes: at most {MAX_UNPACKED_BYTES} are read")
    if unpacked > RATIO_FROM_BYTES and unpacked > MAX_RATIO * size:
        raise UnsafeFile(f"the archive's {size} bytes unpack to {unpacked}: more than {MAX_RATIO} times as many")


def _check_places(raw: BinaryIO, ordered: list[zipfile.ZipInfo], directory_at: int) -> None:
    """Each member lies between its own header and the next; its two headers give one name."""
    starts = [member.header_offset for member in ordered] + [directory_at]
    if starts[0] != 0:
        raise UnsafeFile("something lies in front of the archive's first member")
    for member, (start, end) in zip(ordered, itertools.pairwise(starts), strict=True):
        raw.seek(start)
        header = raw.read(_LOCAL.size)
        if len(header) < _LOCAL.size or not header.startswith(SIGNATURE):
            raise UnreadableFile(f"member {member.filename!r} has no header where the directory says")
        *_, flags, _, _, _, _, _, _, name_size, extra_size = _LOCAL.unpack(header)
        name = raw.read(name_size).decode("utf-8" if flags & _UTF8_NAME else "cp437", errors="replace")
        if name != member.orig_filename:
            raise UnsafeFile(f"member {member.filename!r} is called {name[:80]!r} in its own header")
        if start + _LOCAL.size + name_size + extra_size + member.compress_size > end:
            raise UnsafeFile(f"member {member.filename!r} overlaps what comes after it")


@contextmanager
def _unreadable(what: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise UnreadableFile(f"{what} cannot be read: {str(error)[:200] or type(error).__name__}") from error
