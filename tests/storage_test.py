"""Tests of files: found in order, read by line, written whole or not at all."""

import bz2
import gzip
import lzma
import os
import pathlib
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard

from data_prep.base import options
from data_prep.files import external_sort, manifest, storage
from tests import disk_faults, running


def test_files_are_found_in_order_and_once(tmp_path: pathlib.Path) -> None:
  for name in ("b.txt", "a.txt", "c.csv"):
    (tmp_path / name).write_text(name)
  paths = storage.matching(f"{tmp_path}/c.*, {tmp_path}/*.txt,{tmp_path}/a.*")
  assert [os.path.basename(path) for path in paths] == [
    "c.csv",
    "a.txt",
    "b.txt",
  ]
  with pytest.raises(options.InputError, match="no file at"):
    storage.matching(f"{tmp_path}/a.txt,{tmp_path}/d*")
  with pytest.raises(options.InputError, match="expected a local path or gs"):
    storage.matching("https://example.com/corpus.txt")


def test_a_file_in_several_spellings_is_read_once_as_the_first_says(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.chdir(tmp_path)
  (tmp_path / "a.txt").write_text("сайн байна уу\n", "utf-8")
  spellings = f"./a.txt,a.txt,{tmp_path}/*.txt,.//a.txt"
  assert storage.matching(spellings) == ["./a.txt"]


def test_a_file_that_many_globs_name_is_read_once_where_the_first_names_it(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  names = [f"{number}.txt" for number in range(200)]
  compared = 0

  class Path(str):
    __slots__ = ()

    def __eq__(self, path: object) -> bool:
      nonlocal compared
      compared += 1
      return str.__eq__(self, path)

    __hash__ = str.__hash__

  monkeypatch.setattr(storage, "_find", lambda _: list(map(Path, names)))
  assert storage.matching("a*,b*,a*") == names
  # Once for each further glob and file; one list searched for each: 60,000.
  assert compared < 1000


# Files are read by the megabyte; these are longer.
MANY = "".join(f"мөр {number}\r\n" for number in range(90_000)).encode()


def test_lines_are_whole_wherever_a_block_ends(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.txt"
  path.write_bytes(MANY + "сүүлчийн".encode())
  assert len(MANY) > storage.MAX_LINE_BYTES
  assert list(storage.lines(str(path))) == [
    *(f"мөр {number}" for number in range(90_000)),
    "сүүлчийн",
  ]


@pytest.mark.parametrize(
  ("bad", "message"),
  [
    (b"\xf1\n", "byte 0xf1 on line 90001"),
    (b"a" * (storage.MAX_LINE_BYTES + 1), "a longer one at .*a.txt:90001"),
  ],
)
def test_a_bad_line_is_named_wherever_it_stands(
  tmp_path: pathlib.Path, bad: bytes, message: str
) -> None:
  path = tmp_path / "a.txt"
  path.write_bytes(MANY + bad)
  with pytest.raises(options.InputError, match=message):
    list(storage.lines(str(path)))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize(
  "before", [b"", b"\xef\xbb\xbf", "мөр\n".encode(), MANY]
)
def test_a_line_of_exactly_the_limit_is_read_and_a_longer_one_refused(
  tmp_path: pathlib.Path,
  before: bytes,
  pack: Callable[[bytes], bytes],
  end: bytes,
) -> None:
  """The line end and the byte order mark do not count."""
  most, number = storage.MAX_LINE_BYTES, before.count(b"\n") + 1
  ending = {gzip.compress: ".gz", zstandard.compress: ".zst"}.get(pack, "")
  path = tmp_path / f"a.txt{ending}"
  for size in (most - 1, most):
    for after in (b"", b"uu") if end else (b"",):
      path.write_bytes(pack(before + b"a" * size + end + after))
      lines = list(storage.lines(str(path)))
      assert lines[number - 1 :] == [
        "a" * size,
        *([after.decode()] if after else []),
      ]
  path.write_bytes(pack(before + b"a" * (most + 1) + end))
  _refused(path, f"a longer one at .*:{number}")


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
  ".gz": gzip.compress,
  ".bz2": bz2.compress,
  ".xz": lzma.compress,
  ".zst": zstandard.compress,
}


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_compressed_file_reads_as_its_text(
  tmp_path: pathlib.Path, ending: str
) -> None:
  path = tmp_path / f"a.txt{ending}"
  content = "\ufeffсайн\r\nбайна\n\nуу".encode()
  path.write_bytes(COMPRESS[ending](content))
  assert list(storage.lines(str(path))) == ["сайн", "байна", "", "уу"]


TEXT = "\n".join(map(str, range(9000))).encode()


def _refused(path: pathlib.Path, message: str) -> None:
  with pytest.raises(options.InputError, match=message):
    list(storage.lines(str(path)))


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_compressed_file_is_refused_wherever_it_was_cut(
  tmp_path: pathlib.Path, ending: str
) -> None:
  path = tmp_path / f"a.txt{ending}"
  packed = COMPRESS[ending](TEXT)
  for end in (0, 1, 3, 20, len(packed) // 2, len(packed) - 5, len(packed) - 1):
    path.write_bytes(packed[:end])
    _refused(path, f"expected a whole {ending} file")
  path.write_bytes("сайн".encode())
  _refused(path, "expected a whole")


@pytest.mark.parametrize("ending", COMPRESS)
def test_streams_laid_end_to_end_are_one_file_and_each_must_be_whole(
  tmp_path: pathlib.Path, ending: str
) -> None:
  path = tmp_path / f"a.txt{ending}"
  first, second = COMPRESS[ending](TEXT + b"\n"), COMPRESS[ending](b"uu")
  path.write_bytes(first + second + bytes(20_000))  # zeros pad streams of .xz
  assert list(storage.lines(str(path))) == [*map(str, range(9000)), "uu"]
  for damaged in (
    second[:3],
    second[:-1],
    b"\xa5" + second[1:],
    second[:2] + b"\xa5" * 9,
  ):
    path.write_bytes(first + damaged)
    _refused(path, f"expected a whole {ending} file")


def test_an_xz_file_that_asks_for_a_huge_dictionary_is_refused(
  tmp_path: pathlib.Path,
) -> None:
  packed = bytearray(lzma.compress(b"text"))
  # A block's header (.xz format 1.2, 3.1): its size, flags, the filter LZMA2,
  # the length of its properties, these: 40 is a dictionary of 4 GiB.
  assert packed[12:16] == b"\x02\x00\x21\x01"
  packed[16] = 40
  packed[20:24] = zlib.crc32(packed[12:20]).to_bytes(4, "little")
  path = tmp_path / "a.txt.xz"
  path.write_bytes(packed)
  _refused(path, "[Mm]emory")


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_bomb_takes_little_memory_and_is_refused(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
  monkeypatch.setattr(storage, "_ALWAYS_FREE_BYTES", 24 << 20)
  path = tmp_path / f"a.txt{ending}"
  path.write_bytes(COMPRESS[ending](b"\n" * (1 << 20)) * 32)
  tracemalloc.start()
  read = 0
  with (
    pytest.raises(options.InputError, match="made to fill a disk"),
    storage.decompressed(str(path)) as file,
  ):
    while piece := file.read(1 << 16):
      read += len(piece)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert 20 << 20 < read <= 24 << 20
  # xz has a dictionary of 8 MB; 4 KB of zstandard are unpacked at once.
  assert peak < (64 if ending == ".zst" else 16) << 20, f"{peak:,} bytes"


def test_a_file_appears_when_its_block_ends_well(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "folder" / "a.txt"
  with storage.writing(str(path)) as file:
    file.write("сайн")
    assert not path.exists()
  assert path.read_text("utf-8") == "сайн"
  assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
  mask = os.umask(0)
  os.umask(mask)
  return mask


def test_a_failed_block_leaves_the_old_file_and_nothing_else(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.txt"
  path.write_text("old")
  with pytest.raises(KeyboardInterrupt), storage.writing(str(path)) as file:
    file.write("new")
    raise KeyboardInterrupt
  assert path.read_text() == "old"
  assert os.listdir(tmp_path) == ["a.txt"]


@pytest.fixture
def artefact(tmp_path: pathlib.Path) -> pathlib.Path:
  (tmp_path / "data.txt").write_text("сайн")
  manifest.write(
    str(tmp_path),
    "corpus",
    parameters={"min_words": 5},
    files=["data.txt"],
    counts={"documents": 1},
    inputs={"raw.txt": "0" * 64},
  )
  return tmp_path


def test_a_manifest_says_what_its_artefact_is(artefact: pathlib.Path) -> None:
  content = manifest.check(str(artefact), "corpus")
  assert content["files"]["data.txt"]["bytes"] == 8
  assert content["files"]["data.txt"]["sha256"] == storage.sha256(
    str(artefact / "data.txt")
  )
  assert manifest.identity(str(artefact)) == storage.sha256(
    str(artefact / "manifest.json")
  )


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("data.txt", "сай", "of 8 bytes; got 6 bytes"),
    ("data.txt", None, "got no such file"),
    ("manifest.json", None, "expected a finished corpus"),
    ("manifest.json", "{", "expected a JSON object"),
    ("manifest.json", '{"format_version": 99}', "got 99"),
  ],
)
def test_an_artefact_that_is_not_whole_is_refused(
  artefact: pathlib.Path, name: str, content: str | None, message: str
) -> None:
  if content is None:
    (artefact / name).unlink()
  else:
    (artefact / name).write_text(content)
  with pytest.raises(options.InputError, match=message):
    manifest.check(str(artefact), "corpus")


def test_an_artefact_of_another_kind_is_refused(artefact: pathlib.Path) -> None:
  with pytest.raises(
    options.InputError, match=r"a tokenizer in .* got a corpus"
  ):
    manifest.check(str(artefact), "tokenizer")


def test_the_umask_decides_who_reads_a_file_and_stays_as_it_is(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  before = os.umask(0o027)
  try:
    with monkeypatch.context() as patched:
      patched.delattr(os, "umask")  # another thread's files would get it
      with storage.writing(f"{tmp_path}/a.txt") as file:
        file.write("сайн")
  finally:
    os.umask(before)
  assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_a_full_disk_names_the_file_that_it_does_not_take(
  tmp_path: pathlib.Path,
) -> None:
  def too_much() -> None:
    with storage.writing(f"{tmp_path}/large.txt") as file:
      for _ in range(1 << 10):
        file.write("a" * (1 << 10))

  with (
    disk_faults.full(1 << 16),
    pytest.raises(OSError, match="too large") as refused,
  ):
    too_much()
  assert refused.value.filename == f"{tmp_path}/large.txt"
  entries = ((key, bytes(1 << 10)) for key in range(1 << 10))
  with (
    disk_faults.full(1 << 12),
    pytest.raises(OSError, match="too large") as refused,
  ):
    list(external_sort.ordered(entries, str(tmp_path), 1 << 17))
  assert str(refused.value.filename).startswith(f"{tmp_path}/sort-")
  assert not list(tmp_path.iterdir())


_WRITE = """
import sys, time
from data_prep.files import storage
with storage.writing(sys.argv[1]) as file:
  with storage.writing(sys.argv[1] + "2"):
    pass
  file.write("half")
  print("ready", flush=True)
  time.sleep(60)
"""


def test_sigterm_leaves_no_hidden_file(tmp_path: pathlib.Path) -> None:
  with subprocess.Popen(
    [sys.executable, "-c", _WRITE, str(tmp_path / "a.txt")],
    cwd=running.ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait(20) == options.TERMINATED
    assert process.stderr
    assert not process.stderr.read()
  assert [path.name for path in tmp_path.iterdir()] == ["a.txt2"]


@pytest.mark.parametrize(
  ("name", "ours"),
  [
    ("corpus-00000-of-00001.txt", True),
    ("corpus-12345-of-100000.txt", True),
    ("corpus-mine.txt", False),
    ("corpus-00001-of-00001.txt", False),
    ("corpus-0-of-1.txt", False),
    ("corpus-000000-of-00001.txt", False),
    ("corpus-00000-of-00001-of-00001.txt", False),
    ("corpus-00000-of-00001.txt.bak", False),
    ("my-corpus-00000-of-00001.txt", False),
    ("00000-of-00001.txt", False),
    ("corpus-٠٠٠٠٠-of-00001.txt", False),
  ],
)
def test_a_name_that_we_do_not_give_is_no_shard(name: str, ours: bool) -> None:
  assert storage.is_shard(name, "corpus", ".txt") == ours
  assert storage.shard("corpus", 0, 1, ".txt") == "corpus-00000-of-00001.txt"
