"""Tests that damage costs itself: what stands before and beside it is read."""

import bz2
import gzip
import io
import json
import lzma
import os
import pathlib
import signal
import tarfile
import zipfile
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from data_prep.base import options
from data_prep.corpus import corpora, corpus_options, preparation, unfinished
from data_prep.sources import downloads, rows, texts
from data_prep.text import cleaning
from tests import running

_COUNT = 3000
_ROWS = [
  f"Энэ бол {n} дугаар мөр, {n * n % 997} гэсэн тоотой." for n in range(_COUNT)
]
_LINES = "".join(
  json.dumps({"text": row}, ensure_ascii=False) + "\n" for row in _ROWS
).encode()
_PACKERS: dict[str, Callable[[bytes], bytes]] = {
  ".gz": gzip.compress,
  ".bz2": bz2.compress,
  ".xz": lzma.compress,
  ".zst": zstandard.compress,
}


def _items(path: pathlib.Path, **settings: object) -> list[object]:
  values = {"bad_rows": "leave_out"} | settings
  return list(texts.items(str(path), texts.Options(**values)))  # type: ignore[arg-type]


def _read(
  path: pathlib.Path, **settings: object
) -> tuple[list[str], list[str]]:
  """Returns the lines that were read, and `row: reason` of all that was not."""
  read: list[str] = []
  bad: list[str] = []
  for item in _items(path, **settings):
    if isinstance(item, rows.BadRow):
      bad.append(f"{item.row}: {item.example}")
    else:
      assert isinstance(item, tuple)
      read += item
  return read, bad


def _stopped(path: pathlib.Path) -> str:
  with pytest.raises(options.InputError) as caught:
    _items(path, bad_rows="stop")
  assert "\n" not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize("ending", _PACKERS)
@pytest.mark.parametrize("kind", [".jsonl", ".txt", ".json"])
def test_all_whole_rows_before_the_cut_of_a_compressed_file_are_read(
  tmp_path: pathlib.Path, kind: str, ending: str
) -> None:
  content = {
    ".jsonl": _LINES,
    ".txt": "\n".join(_ROWS).encode(),
    ".json": json.dumps([{"text": row} for row in _ROWS]).encode(),
  }[kind]
  path = tmp_path / f"a{kind}{ending}"
  packed = _PACKERS[ending](content)
  path.write_bytes(packed[: len(packed) * 3 // 4])
  read, (damage,) = _read(path, documents="line")
  assert read == _ROWS[: len(read)]
  assert damage.startswith(f"{len(read) + 1}: damaged: ")
  # bzip2 and zstandard give whole blocks only, of 900 and 128 KB.
  assert len(read) > (1500 if ending in (".gz", ".xz") else -1)
  assert f"a whole {ending} file at {path}" in _stopped(path)


def test_a_changed_byte_of_a_gzip_file_costs_what_follows_it(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.jsonl.gz"
  packed = bytearray(gzip.compress(_LINES))
  packed[2000:2010] = b"\xff" * 10
  path.write_bytes(packed)
  read, bad = _read(path)
  assert _ROWS[:50] == read[:50]
  assert bad[-1].split(": ", 1)[1].startswith("damaged: Error -3")


def test_a_damaged_row_group_of_parquet_costs_itself(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.parquet"
  pq.write_table(
    pa.table({"text": _ROWS}),
    path,
    row_group_size=500,
    compression="zstd",
    use_dictionary=False,
    write_page_checksum=True,
  )
  group = pq.ParquetFile(path).metadata.row_group(2).column(0)
  content = bytearray(path.read_bytes())
  middle = group.data_page_offset + group.total_compressed_size // 2
  content[middle : middle + 8] = bytes(8)
  path.write_bytes(content)
  read, (damage,) = _read(path)
  place, reason = damage.split(": ", 1)
  kept = int(place) - 1
  assert 1000 <= kept < 1500
  assert read == _ROWS[:kept] + _ROWS[1500:]
  assert f"{1500 - kept:,} rows with damage" in reason
  assert f"{path}:{place}" in _stopped(path)


def test_a_parquet_file_without_its_end_costs_itself(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.parquet"
  pq.write_table(pa.table({"text": _ROWS}), path)
  path.write_bytes(path.read_bytes()[:-20])
  read, (damage,) = _read(path)
  assert read == []
  assert damage.startswith("1: damaged: ")
  assert f"a whole Parquet file at {path}" in _stopped(path)


def test_record_batches_before_the_cut_of_an_arrow_stream_are_read(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.arrow"
  table = pa.table({"text": _ROWS})
  with pa.ipc.new_stream(str(path), table.schema) as writer:
    writer.write_table(table, max_chunksize=500)
  path.write_bytes(path.read_bytes()[:-9000])
  read, (damage,) = _read(path)
  assert read == _ROWS[:2500]
  assert damage.startswith("2501: expected whole Arrow")


def _record(number: int) -> bytes:
  text = f"{_ROWS[number]}\nХоёр дахь өгүүлбэр энэ байна.\n".encode()
  header = (
    "WARC/1.0\r\nWARC-Type: conversion\r\n"
    f"WARC-Target-URI: https://example.mn/{number}\r\n"
    f"Content-Length: {len(text)}\r\n\r\n"
  )
  return header.encode() + text + b"\r\n\r\n"


def _records_read(path: pathlib.Path) -> tuple[list[int], list[int]]:
  """Returns the indices of the records that were read, the bad numbers."""
  read: list[int] = []
  bad: list[int] = []
  for item in _items(path):
    if isinstance(item, rows.BadRow):
      bad.append(item.row)
    else:
      assert isinstance(item, tuple)
      read.append(_ROWS.index(item[0]))
  return read, bad


@pytest.mark.parametrize("change", ["bytes", "checksum", "cut"])
def test_a_damaged_record_of_an_archive_of_gzip_members_costs_itself(
  tmp_path: pathlib.Path, change: str
) -> None:
  members = [gzip.compress(_record(number)) for number in range(40)]
  bad = bytearray(members[7])
  if change == "bytes":
    bad[30:40] = b"\xff" * 10
  elif change == "checksum":
    bad[-6] ^= 1
  else:
    del bad[60:]
  members[7] = bytes(bad)
  path = tmp_path / "a.warc.wet.gz"
  path.write_bytes(b"".join(members))
  read, numbers = _records_read(path)
  # Where bytes are missing, the record behind them may be lost too.
  assert read[:7] == list(range(7))
  assert set(range(9, 40)) <= set(read)
  assert 7 not in read
  assert numbers[0] == 8
  assert "a whole .gz file" in _stopped(path)


def test_records_behind_a_damaged_one_of_a_plain_archive_are_read(
  tmp_path: pathlib.Path,
) -> None:
  records = [_record(number) for number in range(20)]
  records[4] = records[4].replace(b"Content-Length: ", b"Content-Length: x")
  records[9] = records[9][:-30]  # its length reaches into the next record
  records[-1] = records[-1][:-30]
  path = tmp_path / "a.wet"
  path.write_bytes(b"".join(records))
  read, numbers = _records_read(path)
  assert set(read) >= set(range(20)) - {4, 9, 10, 19}
  assert not set(read) & {4, 19}
  assert numbers[0] == 5
  assert "a whole record at" in _stopped(path)


@pytest.mark.parametrize("by", ["blank_line", "line"])
def test_a_line_that_is_not_utf8_costs_itself(
  tmp_path: pathlib.Path, by: str
) -> None:
  lines = [row.encode() for row in _ROWS[:9]]
  lines[4] = "хэвлэл".encode("cp1251")
  path = tmp_path / "a.txt"
  path.write_bytes(b"\n".join(lines))
  read, bad = _read(path, documents=by)
  assert read == _ROWS[:4] + _ROWS[5:9]
  assert bad == ["5: expected UTF-8 text, got byte 0xf5"]
  assert "byte 0xf5 on line 5" in _stopped(path)


def test_a_file_of_bad_lines_is_left_out_as_a_whole(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.txt"
  path.write_bytes("хэвлэл\n".encode("cp1251") * 30_000)
  read, bad = _read(path, documents="line")
  assert read == []
  assert len(bad) == 10_002
  assert bad[-1].startswith("10001: damaged: 10,000 bad lines")


def test_an_item_of_an_array_that_is_not_utf8_costs_itself(
  tmp_path: pathlib.Path,
) -> None:
  items = [json.dumps({"text": row}, ensure_ascii=False) for row in _ROWS[:9]]
  raw = [item.encode() for item in items]
  raw[3] = raw[3].replace("мөр".encode(), "мөр".encode("cp1251", "replace"))
  path = tmp_path / "a.json"
  path.write_bytes(b"[" + b",\n".join(raw) + b"]")
  read, (bad,) = _read(path)
  assert read == _ROWS[:3] + _ROWS[4:9]
  assert bad == "4: expected UTF-8 text, got byte 0xec"
  assert f"{path}:4" in _stopped(path)


def test_a_broken_file_of_a_zip_costs_itself(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.zip"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for number in range(3):
      part = _ROWS[1000 * number : 1000 * number + 1000]
      archive.writestr(f"{number}.txt", "\n".join(part))
    start = archive.infolist()[1].header_offset
  content = bytearray(path.read_bytes())
  content[start + 2000 : start + 2010] = b"\xff" * 10
  path.write_bytes(content)
  read, bad = _read(path, documents="line")
  assert read[:1000] == _ROWS[:1000]
  assert read[-1000:] == _ROWS[2000:]
  assert bad[-1].startswith("1: 1.txt: damaged: ")
  assert f"a whole, open archive at {path}" in _stopped(path)


def test_the_files_before_the_cut_of_a_tar_are_read(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.tar.gz"
  with tarfile.open(path, "w:gz") as archive:
    for number in range(3):
      part = "\n".join(_ROWS[1000 * number : 1000 * number + 1000]).encode()
      info = tarfile.TarInfo(f"{number}.txt")
      info.size = len(part)
      archive.addfile(info, io.BytesIO(part))
  packed = path.read_bytes()
  path.write_bytes(packed[: len(packed) // 2])
  read, bad = _read(path, documents="line")
  assert len(read) > 1200
  assert read == _ROWS[: len(read)]
  assert bad[0].startswith("1: 1.txt: damaged: ")
  _stopped(path)


def test_zeros_in_the_place_of_a_file_cost_that_file(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.jsonl"
  path.write_bytes(bytes(100_000))
  assert _read(path) == ([], ["1: damaged: binary data"])
  path.write_bytes(b"")
  assert _read(path) == ([], ["1: damaged: none"])


def damaged_folder(folder: pathlib.Path) -> pathlib.Path:
  """Writes whole and damaged files to a new folder; returns the folder."""
  folder.mkdir()
  (folder / "a.txt").write_text("\n\n".join(_ROWS[:300]), "utf-8")
  packed = gzip.compress(_LINES)
  (folder / "b.jsonl.gz").write_bytes(packed[: len(packed) // 2])
  pq.write_table(pa.table({"text": _ROWS[:500]}), folder / "c.parquet")
  whole = (folder / "c.parquet").read_bytes()
  (folder / "d.parquet").write_bytes(whole[: len(whole) // 2])
  members = [gzip.compress(_record(number)) for number in range(900, 940)]
  members[7] = members[7][:60] + bytes(30) + members[7][90:]
  (folder / "e.wet.gz").write_bytes(b"".join(members))
  with zipfile.ZipFile(folder / "f.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("1.txt", "\n\n".join(_ROWS[1000:1500]))
    archive.writestr("2.txt", "\n\n".join(_ROWS[2500:]))
  content = bytearray((folder / "f.zip").read_bytes())
  content[1500:1510] = b"\xff" * 10
  (folder / "f.zip").write_bytes(content)
  raw = "\n\n".join(_ROWS[600:650]).encode() + b"\n\xff\xfe\n"
  (folder / "g.txt").write_bytes(raw + "\n\n".join(_ROWS[650:700]).encode())
  return folder


def _build(
  raw: pathlib.Path, out: pathlib.Path, workers: int = 1
) -> dict[str, str]:
  corpora.build(
    corpus_options.Settings(
      corpus_options.Options(
        input_file=f"{raw}/*",
        output_dir=str(out),
        num_workers=workers,
        num_shards=2,
      ),
      cleaning.Options(),
      texts.Options(bad_rows="leave_out"),
      downloads.Options(),
    )
  )
  return running.digests(out)


def test_a_corpus_counts_and_lists_damage_and_goes_on_after_a_kill(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(preparation, "_LETTERS_A_TASK", 20_000)
  monkeypatch.setattr(unfinished, "_SECONDS_A_PART", 0.0)
  monkeypatch.setattr(unfinished, "_TIMES_THE_WRITING", 0.0)
  raw = damaged_folder(tmp_path / "raw")
  whole = _build(raw, tmp_path / "whole")
  listed = (tmp_path / "whole/bad_rows.tsv").read_text("utf-8").splitlines()
  files = {line.split("\t")[0] for line in listed[1:]}
  assert files == {"b.jsonl.gz", "d.parquet", "e.wet.gz", "f.zip", "g.txt"}
  stats = json.loads((tmp_path / "whole/stats.json").read_text("utf-8"))
  assert stats["dropped: damaged file"] == 4
  assert stats["dropped: bad row"] >= 1
  corpus = "".join(
    p.read_text("utf-8") for p in (tmp_path / "whole").glob("*.txt")
  )
  for row in (0, 1299, 299, 902, 938, 2999, 600, 699):
    assert _ROWS[row] in corpus
  if not (child := os.fork()):
    write = unfinished.Begun._write

    def counted(begun: unfinished.Begun) -> None:
      write(begun)
      if begun._parts == 5:
        os.kill(os.getpid(), signal.SIGKILL)

    unfinished.Begun._write = counted  # type: ignore[method-assign, assignment]
    _build(raw, tmp_path / "killed")
    os._exit(0)
  assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
  assert _build(raw, tmp_path / "killed") == whole


@pytest.mark.slow
def test_a_damaged_corpus_does_not_depend_on_the_workers(
  tmp_path: pathlib.Path,
) -> None:
  raw = damaged_folder(tmp_path / "raw")
  made = [_build(raw, tmp_path / f"out{n}", n) for n in (1, 2, 4)]
  assert made[0] == made[1] == made[2]
