"""Archives: their text files and nothing else, and nothing on disk."""

import io
import os
import pathlib
import shutil
import subprocess
import tarfile
import zipfile

import pytest

from data_prep import options, texts

NEWS = "Өнөөдөр цас орлоо.\nХоёр баг тоглов.\n"
WANTED = [("Өнөөдөр цас орлоо.",), ("Хоёр баг тоглов.",)] * 2
OTHER = [
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


def _tar(path: pathlib.Path) -> None:
  mode = "w" if path.suffix in (".tar", ".zst") else f"w:{path.suffix[1:]}"
  with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
    for name in ("/a.txt", "folder/b.txt", *OTHER):
      info = tarfile.TarInfo(name.rstrip("/"))
      content = NEWS.encode() if name.endswith(("/a.txt", "b.txt")) else b"x"
      info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
      info.size = 0 if name.endswith("/") else len(content)
      archive.addfile(info, io.BytesIO(content))
    link = tarfile.TarInfo("link.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive.addfile(link)


@pytest.mark.parametrize(
  "name", ["n.zip", "n.tar", "n.tar.gz", "n.tar.bz2", "n.tar.xz"]
)
def test_every_text_file_is_read_and_nothing_is_written(
  tmp_path: pathlib.Path, name: str
) -> None:
  path = tmp_path / "in" / name
  path.parent.mkdir()
  (_zip if name.endswith("zip") else _tar)(path)
  found = list(texts.items(str(path), texts.Options(documents="line")))
  assert found == WANTED
  assert [p.name for p in tmp_path.rglob("*")] == ["in", name]


@pytest.mark.parametrize("name", ["n.zip", "n.tar", "n.tar.gz", "n.rar"])
def test_a_damaged_archive_is_refused(
  tmp_path: pathlib.Path, name: str
) -> None:
  path = tmp_path / name
  path.write_bytes(b"no archive")
  with pytest.raises(options.InputError, match="expected a whole"):
    list(texts.items(str(path), texts.Options()))


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


def test_a_rar_is_read_or_what_reads_one_is_named(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "n.rar"
  if not shutil.which("rar"):
    pytest.skip("no rar here to make one with")
  (tmp_path / "a.txt").write_text(NEWS, "utf-8")
  subprocess.run(["rar", "a", str(path), "a.txt"], cwd=tmp_path, check=True)
  try:
    found = list(texts.items(str(path), texts.Options(documents="line")))
  except options.InputError as error:
    assert "apt-get install" in str(error)
    assert not any(map(shutil.which, ("unrar", "unar", "7z", "bsdtar")))
  else:
    assert found == WANTED[:2]
    assert not os.path.exists("a.txt")
