"""Archives of text files, read member by member; nothing is unpacked.

.zip, .tar (compressed too) and, where the system has a program for it, .rar.
Since no name in the archive becomes a path here, none can lead outside.
"""

import contextlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

import rarfile

from data_prep import options, storage

_ENDINGS = (".zip", ".rar", ".tar", ".tgz", ".tbz2", ".txz")
# A text of news compresses to a fifth; a bomb to a thousandth.
_HIGHEST_RATIO = 200
_TEXTS = (".txt", ".text", "")


def is_archive(path: str) -> bool:
  """Says so by the name."""
  return storage.kind(path) in _ENDINGS


def members(path: str) -> Iterator[tuple[str, IO[bytes]]]:
  """Yields the name and the bytes of each text file, in the archive's order.

  Links, folders, hidden files, nested archives and files of other kinds are
  passed over.

  Raises:
    options.InputError: when it is damaged, packed beyond reason, or a .rar
      where nothing can read one.
  """
  reader = {".zip": _zip, ".rar": _rar}.get(storage.kind(path), _tar)
  try:
    yield from reader(path)
  except (
    zipfile.BadZipFile,
    tarfile.TarError,
    rarfile.Error,
    zlib.error,
    EOFError,
    RuntimeError,  # an encrypted member of a zip
    NotImplementedError,  # a compression that zipfile does not know
  ) as error:
    if isinstance(error, rarfile.RarCannotExec):
      raise options.InputError(
        f"a program that reads {path}",
        "none of unrar, unar, 7z and bsdtar",
        "apt-get install unar, or repack it as .zip",
      ) from error
    raise options.InputError(
      f"a whole, open archive at {path}", str(error), "copy it again"
    ) from error


def _is_text(name: str) -> bool:
  parts = name.replace("\\", "/").split("/")
  hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
  return not hidden and storage.kind(name) in _TEXTS


def _zip(path: str) -> Iterator[tuple[str, IO[bytes]]]:
  with storage.reading(path) as raw, zipfile.ZipFile(raw) as archive:
    for info in archive.infolist():
      if not info.is_dir() and _is_text(info.filename):
        _check_ratio(path, info.filename, info.file_size, info.compress_size)
        with archive.open(info) as file:
          yield info.filename, file


def _rar(path: str) -> Iterator[tuple[str, IO[bytes]]]:
  with contextlib.ExitStack() as stack:
    raw = stack.enter_context(storage.reading(path))
    archive = stack.enter_context(rarfile.RarFile(raw))
    for info in archive.infolist():
      if info.is_file() and _is_text(info.filename):
        _check_ratio(path, info.filename, info.file_size, info.compress_size)
        with archive.open(info) as file:
          yield info.filename, file


def _tar(path: str) -> Iterator[tuple[str, IO[bytes]]]:
  with contextlib.ExitStack() as stack:
    raw = stack.enter_context(storage.decompressed(path))
    # "r|*" reads forward only, as a bucket's objects and .zst can be read.
    archive = stack.enter_context(tarfile.open(fileobj=raw, mode="r|*"))
    for info in archive:
      if info.isfile() and _is_text(info.name):
        file = archive.extractfile(info)
        assert file is not None, "isfile() says that there is content"
        yield info.name, file


def _check_ratio(path: str, name: str, size: int, packed: int) -> None:
  if size > _HIGHEST_RATIO * max(packed, 1 << 10):
    raise options.InputError(
      f"text in {path}",
      f"{name}, which unpacks to {size / max(packed, 1):,.0f} times its size",
      "leave it out: it is made to fill a disk",
    )
