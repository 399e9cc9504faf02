"""Unpacks the files with text in an archive, and the archive of a model.

The formats are .zip, .tar (compressed too) and .rar; a compressed .rar needs a
program of the system, such as unar. A model's archive is refused if it holds a
link, a name that leads outside the folder, or a file that unpacks to hundreds
of times its size.
"""

import collections
import contextlib
import errno
import functools
import lzma
import os
import re
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import rarfile
from absl import logging

from data_prep.base import options
from data_prep.files import storage

_Members = Iterator[tuple[str, str, Callable[[], IO[bytes] | None]]]
# Members whose names end so contain text, as far as a name can say.
_TEXTS = frozenset(
  " .txt .text .csv .tsv .jsonl .ndjson .json .js .html .htm .xhtml .xml .md "
  ".srt .vtt .parquet .arrow .warc .wet .pdf .doc .docx .odt .rtf .epub .xlsx".split(
    " "
  )
)
_OTHER_KIND = "of another kind"
# X writes many files beside them, an English README among them.
_X_TWEETS = re.compile(r"(?:.*/)?data/tweets?(?:-part\d+)?\.js")
_MOST_FILES = 10_000  # in the archive of a model (guess)
_CHUNK = 1 << 20
_FEW_BYTES = 1 << 13  # that damage may cost
_MAX_NAME_BYTES = 1 << 20  # guess: largest extension header of a tar
_DAMAGED = (
  zipfile.BadZipFile,
  tarfile.TarError,
  rarfile.Error,
  zlib.error,
  lzma.LZMAError,
  EOFError,
  ValueError,  # zipfile: an offset before the file, or a name not in UTF-8
  RuntimeError,  # an encrypted member of a zip
  NotImplementedError,  # a compression that zipfile does not know
)


def is_archive(path: str) -> bool:
  """Returns whether a file is an archive, by the suffix of its name."""
  return storage.kind(path) in _READERS


Damage = storage.DamagedFileError | None


def members(path: str, folder: str) -> Iterator[tuple[str, str, Damage]]:
  """Yields each file with text in an archive, in order.

  A copy is removed when the next file is asked for. The copy of a file that is
  damaged ends with the last whole line before the damage. All other members of
  the archive are skipped: links, hidden files, names whose suffix is not a text's
  (such as pictures and nested archives), names that lead outside the folder,
  and in an archive that X (Twitter) gives its users all but the tweets. The log
  says how many members were skipped for which reason.

  Args:
    path: the path of the archive.
    folder: an empty folder for the copies.

  Yields:
    (name, path of an unpacked copy, the damage of the file or None).

  Raises:
    storage.DamagedFileError: when the archive itself is damaged.
    options.InputError: when the archive is suspiciously compressed, when a copy
      has no room on the disk, and when no installed program can unpack a .rar.
  """
  passed_over: collections.Counter[str] = collections.Counter()
  x_tweets = _x_tweets(path)
  with _whole(path):
    for name, problem, opened in _READERS[storage.kind(path)](path):
      problem = problem or _problem(name)
      if not problem and x_tweets and name not in x_tweets:
        problem = "beside the tweets of an archive of X"
      if problem:
        passed_over[problem] += 1
        continue
      copy = os.path.join(folder, f"member{storage.kind(name)}")
      damage = _unpacked(path, opened, copy)
      try:
        yield name, copy, damage
      finally:
        os.unlink(copy)
  if passed_over:
    reasons = ", ".join(f"{n} {reason}" for reason, n in passed_over.items())
    logging.info("%s: passed over: %s", path, reasons)


def _unpacked(
  path: str, opened: Callable[[], IO[bytes] | None], copy: str
) -> Damage:
  """Unpacks a file of an archive; returns its damage, None for a whole file.

  Of a damaged file the whole lines before the damage are written.

  Args:
    path: the path of the archive.
    opened: returns the file in the archive.
    copy: the path to write.
  """
  room = storage.free_bytes(os.path.dirname(copy)) or sys.maxsize
  try:
    with open(copy, "wb") as write, _whole(path), _content(opened) as file:
      _copied(file, write, room, path)
  except storage.DamagedFileError as damage:
    _cut_behind_last_line(copy)
    return damage
  return None


def _cut_behind_last_line(path: str) -> None:
  """Cuts off what stands behind the last line break of a file."""
  with open(path, "rb+") as file:
    end = file.seek(0, os.SEEK_END)
    behind = 0  # the place behind the last line break
    while end and not behind:
      start = max(0, end - _CHUNK)
      file.seek(start)
      if within := file.read(end - start).rfind(b"\n") + 1:
        behind = start + within
      end = start
    file.truncate(behind)


def _x_tweets(path: str) -> set[str]:
  """Returns the names of the files of tweets in an archive of X (Twitter).

  X gives such an archive to a user who asks for it. The result is empty for any
  other archive.
  """
  if storage.kind(path) != ".zip":
    return set()
  with _whole(path), storage.reading(path) as raw, zipfile.ZipFile(raw) as file:
    return set(filter(_X_TWEETS.fullmatch, file.namelist()))


@contextlib.contextmanager
def _whole(path: str) -> Iterator[None]:
  """Turns errors from a damaged archive in the context into an InputError.

  The error of a .rar that no installed program can unpack becomes an InputError
  too. OSErrors of the system, such as of a full disk, pass unchanged.
  """
  try:
    yield
  except rarfile.RarCannotExec as error:
    raise options.InputError(
      f"a program that unpacks {path}",
      "none of unrar, unar and 7z",
      "apt-get install unar, or repack it as .zip",
    ) from error
  except (*_DAMAGED, OSError) as error:
    # bz2's OSErrors have no errno; EINVAL means an offset before the file.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
      raise
    raise storage.DamagedFileError(
      f"a whole, open archive at {path}",
      str(error) or type(error).__name__,
      "copy it again",
    ) from error


def _problem(name: str) -> str:
  """Returns why a member with the given name is skipped; "" if it is read."""
  parts = _parts(name)
  if _leads_outside(parts):
    return "with a name that leads outside"
  if _is_hidden(parts):
    return "hidden"
  return "" if storage.kind(name) in _TEXTS else _OTHER_KIND


def _parts(name: str) -> list[str]:
  r"""Returns the parts of a member's path, divided at / and \."""
  return name.replace("\\", "/").split("/")


def _leads_outside(parts: list[str]) -> bool:
  """Returns whether a path leads out of the folder of unpacked files.

  Such a path is absolute, begins with a drive such as C:, or contains "..".
  """
  return not parts[0] or parts[0].endswith(":") or ".." in parts


def _is_hidden(parts: list[str]) -> bool:
  """Returns whether a file, or a folder of its path, is hidden.

  A hidden name begins with a dot, or with __MACOSX as macOS's extra files do.
  """
  return any(p.startswith((".", "__MACOSX")) and p != "." for p in parts)


def unpack(path: str, folder: str) -> None:
  """Unpacks a model's archive into an empty folder; skips hidden files.

  Args:
    path: the archive.
    folder: the target; the caller removes it after an error.

  Raises:
    options.InputError: when the archive is damaged, would fill the disk, or
      holds a link, a name that leads outside, or more than _MOST_FILES files.
    OSError: when two files have the same name, and for other errors of the
      disk.
  """
  most = storage.most_unpacked(storage.size(path) or 0)
  room = min(most, storage.free_bytes(folder) or most)
  with _whole(path):
    for parts, opened in _of_model(path):
      target = os.path.join(folder, *parts)
      os.makedirs(os.path.dirname(target), exist_ok=True)
      with (
        options.naming(target),
        opened() as file,
        open(target, "xb") as write,
      ):
        room -= _copied(file, write, room, path)


def is_unpacked(path: str, folder: str) -> bool:
  """Returns whether a folder has exactly the files that `unpack` writes.

  Every byte is compared. The result is False if a file is a link.

  Args:
    path: the archive.
    folder: the folder into which it was unpacked.

  Raises:
    options.InputError: as `unpack` does.
  """
  names = set()
  with _whole(path):
    for parts, opened in _of_model(path):
      name = os.path.normpath(os.path.join(*parts))
      names.add(name.replace(os.sep, "/"))
      target = os.path.join(folder, name)
      if storage.leads_elsewhere(folder, name) or not os.path.isfile(target):
        return False
      with opened() as file, open(target, "rb") as kept:
        if not _are_equal(file, kept):
          return False
  return names == set(storage.below(folder))


def _are_equal(first: IO[bytes], second: IO[bytes]) -> bool:
  """Returns whether two files have the same content."""
  while chunk := first.read(_CHUNK):
    if chunk != second.read(len(chunk)):
      return False
  return not second.read(1)


def _of_model(
  path: str,
) -> Iterator[tuple[list[str], Callable[[], IO[bytes]]]]:
  """Yields (parts of the path, opener) of each file in a model's archive.

  The parts are the names between the slashes. The opener is a function without
  arguments that returns the unpacked content as an open file. Hidden files are
  skipped.

  Raises:
    options.InputError: for a link, a name that leads outside, and too many
      files.
  """
  for count, (name, problem, opened) in enumerate(
    _READERS[storage.kind(path)](path)
  ):
    parts = _parts(name)
    if problem or _leads_outside(parts) or count >= _MOST_FILES:
      raise options.InputError(
        f"the files of a model in {path}",
        f"{name[:200]}: {problem or 'a name that leads outside'}"
        if count < _MOST_FILES
        else f"more than {_MOST_FILES:,}",
        "leave it out, or unpack by hand what you trust",
      )
    if not _is_hidden(parts):
      yield parts, functools.partial(_content, opened)


def _content(opened: Callable[[], IO[bytes] | None]) -> IO[bytes]:
  """Calls the opener of a regular file in an archive; returns the open file."""
  file = opened()
  assert file is not None, "it is a file"
  return file


def _copied(file: IO[bytes], write: IO[bytes], room: int, path: str) -> int:
  """Copies an unpacked file of an archive to disk; returns its size in bytes.

  Args:
    file: the open file in the archive.
    write: the open file on the disk.
    room: largest number of bytes to write.
    path: the path of the archive, for messages.

  Raises:
    options.InputError: when the file has more than `room` bytes.
  """
  size = 0
  read = getattr(file, "read1", file.read)  # gives what stands before damage
  while chunk := read(_FEW_BYTES):
    size += len(chunk)
    if size > room:
      raise options.InputError(
        f"a model in {path} for which there is room",
        f"more than {room >> 20:,} MB left to write",
        "free disk; if it is small, leave it out: it is made to fill a disk",
      )
    write.write(chunk)
  return size


_UNIX = 3  # of a zip's create_system


def _zip(path: str) -> _Members:
  """Yields (name, problem, opener) of each member of a .zip, without folders.

  The problem is "" for a regular file, else "a link or a device". The opener is
  a function without arguments that returns the unpacked content as an open
  file.
  """
  with storage.reading(path) as raw, zipfile.ZipFile(raw) as archive:
    for info in archive.infolist():
      if not info.filename.endswith("/"):  # info.is_dir needs a name
        mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
        plain = stat.S_IFMT(mode) in (0, stat.S_IFREG)
        problem = "" if plain else "a link or a device"
        opened = functools.partial(_open, archive, info, path)
        yield info.filename, problem, opened


def _rar(path: str) -> _Members:
  """Yields (name, problem, opener) of each member of a .rar, without folders.

  The three values are those of `_zip`.
  """
  with contextlib.ExitStack() as stack:
    raw = stack.enter_context(storage.reading(path))
    blocks: list[Any] = []
    archive = stack.enter_context(
      rarfile.RarFile(raw, errors="strict", info_callback=blocks.append)
    )
    if archive.needs_password() and not archive.infolist():
      raise rarfile.PasswordRequired("its names are encrypted")
    # Before version 2.9 no block said that the archive ends.
    marked = any(getattr(b, "extract_version", 0) >= 29 for b in blocks)
    if marked and blocks[-1].type != rarfile.RAR_BLOCK_ENDARC:
      raise rarfile.BadRarFile("it ends too early")
    if any(i.compress_type != rarfile.RAR_M0 for i in archive.infolist()):
      # rarfile 4.5 orders bsdtar's options as bsdtar refuses them.
      rarfile.tool_setup(bsdtar=False, force=True)
    for info in archive.infolist():
      if not info.is_dir():
        problem = "" if info.is_file() else "a link or a device"
        opened = functools.partial(_open, archive, info, path)
        yield info.filename, problem, opened


def _open(
  archive: zipfile.ZipFile | rarfile.RarFile, info: Any, path: str
) -> IO[bytes]:
  """Opens a member of an archive; returns the file.

  Raises:
    options.InputError: for a member that unpacks to more than HIGHEST_RATIO
      times its packed size, which counts as at least 1 KB.
  """
  if info.file_size > storage.HIGHEST_RATIO * max(info.compress_size, 1 << 10):
    ratio = info.file_size / max(info.compress_size, 1)
    raise options.InputError(
      f"text in {path}",
      f"{info.filename}, which unpacks to {ratio:,.0f} times its size",
      "leave it out: it is made to fill a disk",
    )
  return archive.open(info)


class _TarInfo(tarfile.TarInfo):
  """A tar header; raises ReadError for a damaged header or a very long name.

  tarfile itself would take a damaged header for the end of the archive, and
  would read a name of gigabytes into memory.
  """

  @classmethod
  def frombuf(
    cls, buf: bytes | bytearray, encoding: str, errors: str
  ) -> "_TarInfo":
    try:
      info = super().frombuf(buf, encoding, errors)
    except tarfile.HeaderError as error:
      if len(buf) == tarfile.BLOCKSIZE and not any(buf):
        raise  # a block of zeros is the end
      raise tarfile.ReadError(f"a header is damaged: {error}") from error
    if info.type in _NAMING and info.size > _MAX_NAME_BYTES:
      raise tarfile.ReadError(f"a name of {info.size:,} bytes")
    return info


_NAMING = (
  tarfile.GNUTYPE_LONGNAME,
  tarfile.GNUTYPE_LONGLINK,
  tarfile.SOLARIS_XHDTYPE,
  tarfile.XGLTYPE,
  tarfile.XHDTYPE,
)


def _tar(path: str) -> _Members:
  """Yields (name, problem, opener) of each member of a .tar, without folders.

  The three values are those of `_zip`, but the opener may be called only until
  the next member is asked for: the file is read once, from its beginning to its
  end.
  """
  with contextlib.ExitStack() as stack:
    raw = stack.enter_context(storage.decompressed(path))
    # "r|" reads forward only, as a bucket's objects and .zst can be read.
    archive = stack.enter_context(
      tarfile.open(fileobj=raw, mode="r|", tarinfo=_TarInfo)
    )
    while info := archive.next():
      archive.members.clear()  # type: ignore[attr-defined]  # else it grows
      if not info.isdir():
        problem = "" if info.isfile() else "a link or a device"
        yield info.name, problem, functools.partial(archive.extractfile, info)
    # The compression's checksum stands after the archive's end: read up to it.
    while raw.read(1 << 16):
      pass


_READERS = {".zip": _zip, ".rar": _rar, ".tar": _tar}
