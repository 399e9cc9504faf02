"""Tests that archives give their text files alone, and leave no file."""

import io
import pathlib
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Mapping

import pytest
import zstandard

from data_prep.base import options
from data_prep.files import archives
from data_prep.sources import texts

NEWS = "Өнөөдөр цас орлоо.\nХоёр баг тоглов.\n"
WANTED = [("Өнөөдөр цас орлоо.",), ("Хоёр баг тоглов.",)] * 2
OTHER = [
  "/etc/evil.txt",
  "C:\\\\evil.txt",
  "b/../../evil.txt",
  "../../evil.txt",
  "evil.jpg",
  "__MACOSX/._a.txt",
  ".hidden.txt",
  "b.zip",
  "folder/",
]


def _zip(path: pathlib.Path) -> None:
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name in ("a.txt", "folder/b.txt"):
      archive.writestr(name, NEWS)
    for name in OTHER:
      archive.writestr(name, "x")
    link = zipfile.ZipInfo("link.txt")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    archive.writestr(link, "/etc/passwd")


def _tar(path: pathlib.Path) -> None:
  mode = {".tar": "w", ".zst": "w", ".tgz": "w:gz"}.get(
    path.suffix, f"w:{path.suffix[1:]}"
  )
  with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
    for name in ("./a.txt", "folder/b.txt", *OTHER):
      info = tarfile.TarInfo(name.rstrip("/"))
      content = NEWS.encode() if name.endswith(("/a.txt", "b.txt")) else b"x"
      info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
      info.size = 0 if name.endswith("/") else len(content)
      archive.addfile(info, io.BytesIO(content))
    link = tarfile.TarInfo("link.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive.addfile(link)
  if path.suffix == ".zst":
    path.write_bytes(zstandard.compress(path.read_bytes()))


def _packed(name: str) -> bytes:
  """Returns an archive of the format that a name asks for by its suffix."""
  if name.endswith(".rar"):
    files = {"a.txt": NEWS.encode(), "folder/b.txt": NEWS.encode()}
    extras = dict.fromkeys((n for n in OTHER if n[-1] != "/"), b"x")
    return _rar5({**files, **extras})
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, name)
    (_zip if name.endswith(".zip") else _tar)(path)
    return path.read_bytes()


def _rar5(
  files: Mapping[str, bytes], method: int = 0, end: bytes | None = None
) -> bytes:
  """Returns files as a .rar in the format RAR 5.0; method 0 stores them."""
  blocks = [_block5(1, 0, b"\0")]
  for name, content in files.items():
    about = b"".join(map(_number5, (4, len(content), 0o100644)))
    about += _crc(content)[:4] + _number5(method << 7) + _number5(1)
    about += _number5(len(name)) + name.encode()
    blocks.append(_block5(2, 2, about, content))
  end = _block5(5, 0, b"\0") if end is None else end
  return b"".join([b"Rar!\x1a\x07\x01\x00", *blocks, end])


def _block5(kind: int, flags: int, about: bytes, data: bytes = b"") -> bytes:
  size = _number5(len(data)) if flags & 2 else b""
  header = _number5(kind) + _number5(flags) + size + about
  header = _number5(len(header)) + header
  return _crc(header) + header + data


def _number5(number: int) -> bytes:
  """Returns a number as RAR 5.0 writes it: 7 bits a byte, the lowest first.

  All bytes but the last have their highest bit set.
  """
  low = []
  while number > 127:
    low.append(number & 127 | 128)
    number >>= 7
  return bytes([*low, number])


def _rar4(files: Mapping[str, bytes], end: bool = True) -> bytes:
  """Returns stored files as a .rar of RAR 2.9 to 4 (their technote.txt)."""
  blocks = [_block4(0x73, 0, bytes(6))]
  for name, content in files.items():
    about = struct.pack("<IIB", len(content), len(content), 3) + _crc(content)
    about += struct.pack("<IBBHI", 0x21 << 16, 29, 0x30, len(name), 0o100644)
    blocks.append(_block4(0x74, 0x8000, about + name.encode(), content))
  if end:
    blocks.append(_block4(0x7B, 0x4000, b""))
  return b"Rar!\x1a\x07\x00" + b"".join(blocks)


def _block4(kind: int, flags: int, about: bytes, data: bytes = b"") -> bytes:
  header = struct.pack("<BHH", kind, flags, 7 + len(about)) + about
  return _crc(header)[:2] + header + data


def _crc(content: bytes) -> bytes:
  return zlib.crc32(content).to_bytes(4, "little")


def _read(path: pathlib.Path) -> list[object]:
  return list(texts.items(str(path), texts.Options(documents="line")))


FORMATS = [
  "n.zip",
  "n.tar",
  "n.tar.gz",
  "n.tar.bz2",
  "n.tar.xz",
  "n.tar.zst",
  "n.tgz",
  "n.rar",
]


@pytest.mark.parametrize("name", FORMATS)
def test_every_text_file_is_read_and_nothing_is_written(
  tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
  path = tmp_path / "in" / name
  path.parent.mkdir()
  path.write_bytes(_packed(name))
  with caplog.at_level("INFO", logger="absl"):
    assert _read(path) == WANTED
  assert [p.name for p in tmp_path.rglob("*")] == ["in", name]
  assert "4 with a name that leads outside, 2 of another kind" in caplog.text
  assert "2 hidden" in caplog.text
  assert ("1 a link" in caplog.text) == (not name.endswith(".rar"))


@pytest.mark.parametrize("name", FORMATS)
def test_an_archive_is_refused_wherever_it_was_cut(
  tmp_path: pathlib.Path, name: str
) -> None:
  path = tmp_path / name
  packed = _packed(name)
  # tarfile pads to 10 KB; 1024 and 2048 lie between two members.
  whole = packed.rstrip(b"\0") if name == "n.tar" else packed
  for end in (0, 1, 1024, 2048, len(whole) // 2, len(whole) - 1):
    path.write_bytes(packed[: min(end, len(whole) - 1)])
    with pytest.raises(options.InputError, match="expected a whole"):
      _read(path)
  path.write_bytes(b"no archive" * 100)
  with pytest.raises(options.InputError, match="expected a whole"):
    _read(path)


@pytest.mark.parametrize("name", FORMATS)
def test_a_byte_changed_anywhere_gives_no_other_error(
  tmp_path: pathlib.Path, name: str
) -> None:
  path = tmp_path / name
  packed = _packed(name)
  refused = 0
  for place in range(0, min(len(packed), 1100), 7):
    changed = bytearray(packed)
    changed[place] ^= 0x95
    path.write_bytes(changed)
    try:
      _read(path)
    except options.InputError:
      refused += 1
  assert refused


def test_a_tar_with_a_damaged_header_is_not_taken_for_a_shorter_one(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "n.tar"
  path.write_bytes(_packed("n.tar").replace(b"folder/b.txt", b"folder/c.txt"))
  with pytest.raises(options.InputError, match="a header is damaged"):
    _read(path)


def test_a_tar_with_a_name_of_gigabytes_is_refused(
  tmp_path: pathlib.Path,
) -> None:
  info = tarfile.TarInfo("a.txt")
  info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2 << 30
  path = tmp_path / "n.tar"
  path.write_bytes(info.tobuf() + bytes(1 << 16))
  with pytest.raises(options.InputError, match="a name of 2,147,483,648 bytes"):
    _read(path)


def _changed(packed: bytes, place: int, value: int) -> bytes:
  """Returns a zip with a byte set in both headers of its first member.

  APPNOTE 4.3 has the places of the bytes.
  """
  changed = bytearray(packed)
  changed[place] = changed[changed.index(b"PK\1\2") + place + 2] = value
  return bytes(changed)


@pytest.mark.parametrize(
  ("packed", "message"),
  [
    (_changed(_packed("n.zip"), 6, 1), "is encrypted"),
    (_changed(_packed("n.zip"), 8, 9), "compression method is not supported"),
    (_changed(_packed("n.zip"), 7, 8).replace(b"a.txt", b"\xff.txt"), "utf-8"),
    (_packed("n.zip").replace(b"PK\1\2", b"PK\1\3"), "[Bb]ad magic"),
  ],
  ids=["encrypted", "unknown method", "name not UTF-8", "broken directory"],
)
def test_an_odd_zip_is_refused_in_one_line(
  tmp_path: pathlib.Path, packed: bytes, message: str
) -> None:
  path = tmp_path / "n.zip"
  path.write_bytes(packed)
  with pytest.raises(options.InputError, match=message) as refused:
    _read(path)
  assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
  ("name", "mode", "message"),
  [
    ("", 0o100644, "a name that leads outside"),
    ("a", 0o120777, "a link or a device"),
    ("a", 0o010644, "a link or a device"),
    ("a", 0o020644, "a link or a device"),
  ],
  ids=["no name", "link", "pipe", "device"],
)
def test_a_zipped_model_holds_plain_files_with_names(
  tmp_path: pathlib.Path, name: str, mode: int, message: str
) -> None:
  path = tmp_path / "model.zip"
  entry = zipfile.ZipInfo("a")
  entry.filename, entry.create_system = name, 3
  entry.external_attr = mode << 16
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr(entry, "x")
  (tmp_path / "model").mkdir()
  with pytest.raises(options.InputError, match=message):
    archives.unpack(str(path), str(tmp_path / "model"))
  assert not list((tmp_path / "model").iterdir())


def test_a_bomb_is_refused_before_it_bursts(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "bomb.zip"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("a.txt", "\n" * (8 << 20))
  with pytest.raises(options.InputError, match="made to fill a disk"):
    list(texts.items(str(path), texts.Options()))


def test_a_member_in_another_encoding_is_named(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "n.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("old.txt", "Сайн уу".encode("cp1251"))
  with pytest.raises(options.InputError, match=r"n\.zip:old\.txt.*byte 0xd1"):
    list(texts.items(str(path), texts.Options()))


def test_an_old_rar_is_read_and_refused_without_its_end(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "n.rar"
  files = {"a.txt": NEWS.encode(), "b.jpg": b"x"}
  path.write_bytes(_rar4(files))
  assert _read(path) == WANTED[:2]
  for packed in (_rar4(files, end=False), _rar5(files, end=b"")):
    path.write_bytes(packed)
    with pytest.raises(options.InputError, match="expected a whole"):
      _read(path)


def test_a_compressed_rar_names_what_reads_one(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  # bsdtar alone does not do: rarfile orders its options as it refuses them.
  bsdtar = tmp_path / "bsdtar"
  bsdtar.write_text("#!/bin/sh\nexit 0\n")
  bsdtar.chmod(0o755)
  monkeypatch.setenv("PATH", str(tmp_path))
  path = tmp_path / "n.rar"
  path.write_bytes(_rar5({"a.txt": b"packed"}, method=3))
  with pytest.raises(options.InputError, match="apt-get install unar"):
    _read(path)
