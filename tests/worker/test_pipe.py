"""Lines: whole, checked, capped; output: only its end is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pruning.contract.progress import Failed, Produced, Progress
from worker.pipe import BadLine, Reader, Tail, write


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    try:
        os.close(writing)
    except OSError:
        return


def test_lines_come_whole_whatever_pieces_they_come_in(ends: tuple[int, int]) -> None:
    reader = Reader(ends[0])
    line = Progress(phase="recover", completed=3, total=9, detail={"loss": 0.25})
    data = line.model_dump_json().encode() + b"\n"
    assert reader.read() == []
    os.write(ends[1], data[:10])
    assert reader.read() == []
    os.write(ends[1], data[10:] + data + data[:1])
    assert reader.read() == [line, line]
    os.write(ends[1], data[1:])
    assert reader.read() == [line]
    os.close(ends[1])
    assert reader.read() == []
    assert reader.closed


def test_what_write_sends_is_what_read_gives(ends: tuple[int, int]) -> None:
    reader = Reader(ends[0])
    lines = [
        Produced(kind="model", format="keras", filename="é.keras", path="model.keras"),
        Failed(error={"code": "x", "detail": "\n"}),
    ]
    for line in lines:
        write(ends[1], line)
    assert reader.read() == lines


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"garbage\n", "outside the contract"),
        (b'{"type":"progress"}\n', "phase"),
        (b'{"type":"progress","phase":"load","surprise":1}\n', "surprise"),
        (b'{"type":"unknown"}\n', "type|tag"),
        (b'{"type":"artifact","kind":"model","format":"keras","filename":"m","path":"../../etc/passwd"}\n', "path"),
        (b'{"type":"progress","phase":"load","detail":{"loss":NaN}}\n', "."),
        (b"\x80\x04cos\nsystem\n", "outside the contract"),
        (b"x" * 101, "more than 100 bytes"),
        (b"y" * 101 + b"\n", "101 bytes"),
    ],
)
def test_a_line_outside_the_contract_is_refused(ends: tuple[int, int], data: bytes, match: str) -> None:
    reader = Reader(ends[0], max_line_bytes=100)
    os.write(ends[1], data)
    with pytest.raises(BadLine, match=match):
        reader.read()


def test_half_a_line_at_the_end_is_refused(ends: tuple[int, int]) -> None:
    reader = Reader(ends[0])
    os.write(ends[1], b'{"type":')
    os.close(ends[1])
    reader.read()
    with pytest.raises(BadLine, match="has no end"):
        reader.read()


def test_only_the_end_of_the_output_is_kept(ends: tuple[int, int]) -> None:
    tail = Tail(ends[0], keep_bytes=10)
    for number in range(100):
        os.write(ends[1], f"line {number:04}\n".encode())
        tail.read()
    tail.read()
    assert tail.text() == "line 0099\n"
    os.close(ends[1])
    tail.read()
    assert tail.closed
