"""Zip archives that are broken, and those that are made to deceive."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from app import zips
from pruning.contract.errors import SecateurError, UnreadableFile, UnsafeFile
from tests.app.files import archive

PLAIN = archive({"a": b"first", "b/c": bytes(5000)}, zipfile.ZIP_DEFLATED)


def read(content: bytes, folder: Path) -> dict[str, int]:
    """Check everything of an archive; the sizes of its members."""
    path = folder / "archive.zip"
    path.write_bytes(content)
    with zips.opened(path) as opened:
        opened.check_bytes()
        return {name: member.file_size for name, member in opened.members.items()}


def two(first: bytes, second: bytes) -> bytes:
    """An archive of two members, one of which gets another name of the same length afterwards."""
    return archive({"aaaa": b"1", "bbbb": b"2"}).replace(b"aaaa", first).replace(b"bbbb", second)


def linked(mode: int) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        info = zipfile.ZipInfo("link")
        info.create_system = 3
        info.external_attr = mode << 16
        made.writestr(info, "/etc/passwd")
    return target.getvalue()


def overlapping() -> bytes:
    """Two entries of the directory that share one member's bytes."""
    content = archive({"aaaa": bytes(100), "bbbb": bytes(100)})
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    return content[: second + 42] + struct.pack("<L", 0) + content[second + 46 :]


def bomb(size: int) -> bytes:
    """A small member that announces `size` bytes."""
    content = bytearray(archive({"zeros": bytes(1000)}, zipfile.ZIP_DEFLATED))
    struct.pack_into("<L", content, content.index(b"PK\x01\x02") + 24, size)
    return bytes(content)


def announcing(count: int, directory: int) -> bytes:
    """An end record that announces more than there is."""
    at = PLAIN.rindex(b"PK\x05\x06")
    return PLAIN[: at + 8] + struct.pack("<2HL", count & 0xFFFF, count & 0xFFFF, directory) + PLAIN[at + 16 :]


def test_a_sound_archive_is_read(tmp_path: Path) -> None:
    assert read(PLAIN, tmp_path) == {"a": 5, "b/c": 5000}


def test_head_reads_no_further(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    path.write_bytes(PLAIN)
    with zips.opened(path) as opened:
        assert opened.head("a", 3) == b"fir"
        assert opened.head("a", 100) == b"first"


def test_zip64_is_read(tmp_path: Path) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made, made.open("a", "w", force_zip64=True) as member:
        member.write(b"first")
    assert read(target.getvalue(), tmp_path) == {"a": 5}


UNSAFE = {
    "twice": two(b"aaaa", b"aaaa"),
    "absolute": two(b"/aaa", b"bbbb"),
    "parent": two(b"../a", b"bbbb"),
    "parent inside": two(b"a/..", b"bbbb"),
    "backslash": two(b"a\\.a", b"bbbb"),
    "drive": two(b"c:aa", b"bbbb"),
    "control": two(b"a\x07aa", b"bbbb"),
    "NUL": two(b"a\x00aa", b"bbbb"),
    "symlink": linked(0o120777),
    "device": linked(0o020666),
    "overlap": overlapping(),
    "something before": b"#!/bin/sh\n" + PLAIN,
    "ratio": bomb(257 * 2**20),
    "many announced": announcing(20_000, 100),
    "huge directory": announcing(2, 2**30),
    "too many": archive({str(i): b"" for i in range(zips.MAX_MEMBERS + 1)}),
    "other name inside": PLAIN.replace(b"b/c", b"b/d", 1),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeFile):
        read(UNSAFE[name], tmp_path)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


UNREADABLE = {
    "truncated": PLAIN[:-30],
    "only a head": PLAIN[:10],
    "not a zip": b"PK\x03\x04" + b"text" * 100,
    "more after it": PLAIN + b"x" * 10,
    "fewer listed": announcing(3, struct.unpack_from("<L", PLAIN, PLAIN.rindex(b"PK\x05\x06") + 12)[0]),
    "flipped value": flipped(PLAIN, PLAIN.index(b"a") + 3),
    "announces another size": bomb(2**20),
    "bzip2": archive({"a": b"first" * 100}, zipfile.ZIP_BZIP2),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile):
        read(UNREADABLE[name], tmp_path)


def test_no_flipped_bit_and_no_cut_is_anything_but_a_refusal(tmp_path: Path) -> None:
    for at in range(len(PLAIN)):
        for content in (flipped(PLAIN, at), PLAIN[:at]):
            try:
                sizes = read(content, tmp_path)
            except SecateurError as error:
                assert error.status == 422  # noqa: PT017
            else:
                # A flip in a date or an attribute changes nothing that is read.
                assert sorted(sizes.values()) == [5, 5000], at
