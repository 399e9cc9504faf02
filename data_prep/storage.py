"""The one door to files: find, read by line, write whole, checksum.

Paths are local or gs://BUCKET/NAME; nothing else in this project opens what a
user names. A file is written under a temporary name and put in its place when
it is complete, so a name that exists is a whole file, whenever the writer was
stopped.
"""

import bz2
import contextlib
import glob
import gzip
import hashlib
import io
import lzma
import os
import pathlib
import posixpath
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

import zstandard

from data_prep import gcs, options

# A paragraph or a whole article a line stays far below this; a file without
# line breaks does not, and would otherwise be read into memory at once.
MAX_LINE_BYTES = 1 << 20


class _Zstandard(io.RawIOBase):
  """Frames of Zstandard, one after another.

  zstandard's own reader takes a cut file for a whole one.
  """

  def __init__(self, raw: IO[bytes]):
    self._raw, self._left = raw, b""
    self._frame: Any = None

  def readable(self) -> bool:
    return True

  def readinto(self, buffer: Any) -> int:
    while not self._left:
      packed = self._raw.read(1 << 16)
      if not packed:
        if self._frame is not None:
          raise EOFError("it ends within a frame")
        return 0
      self._left = self._unpacked(packed)
    part = self._left[: len(buffer)]
    buffer[: len(part)], self._left = part, self._left[len(part) :]
    return len(part)

  def _unpacked(self, packed: bytes) -> bytes:
    parts = []
    while packed:
      self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
      parts.append(self._frame.decompress(packed))
      packed = self._frame.unused_data
      if self._frame.eof:
        self._frame = None
    return b"".join(parts)


def _zstandard(raw: IO[bytes], mode: str) -> IO[bytes]:
  return io.BufferedReader(_Zstandard(raw), 1 << 16)


# The endings of compressed files, with what opens a stream of their bytes.
COMPRESSIONS: dict[str, Any] = {
  ".gz": gzip.open,
  ".bz2": bz2.open,
  ".xz": lzma.open,
  ".zst": _zstandard,
}
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


def is_remote(path: str) -> bool:
  """Says whether a path is on Google Cloud Storage.

  Raises:
    options.InputError: for a path elsewhere, such as https://.
  """
  if "://" in path and not path.startswith(gcs.SCHEME):
    raise options.InputError(
      "a local path or gs://", path, "copy the files to one of these first"
    )
  return path.startswith(gcs.SCHEME)


def matching(patterns: str) -> list[str]:
  """Returns the files that a comma-separated list of globs names, in order.

  Raises:
    options.InputError: for a pattern that matches nothing.
  """
  found: list[str] = []
  for pattern in filter(None, (p.strip() for p in patterns.split(","))):
    files = _find(pattern)
    if not files:
      raise options.InputError(
        "a file or a glob of files", f"no file at {pattern!r}", "mend the path"
      )
    found += [file for file in files if file not in found]
  if not found:
    raise options.InputError(
      "at least one input file", "none", "give --input_file"
    )
  return found


def _find(pattern: str) -> list[str]:
  if is_remote(pattern):
    return gcs.find(pattern)
  return sorted(p for p in glob.glob(pattern) if os.path.isfile(p))


@contextlib.contextmanager
def reading(path: str) -> Iterator[IO[bytes]]:
  """Gives a file's bytes, as they are."""
  if is_remote(path):
    with gcs.reading(path) as file:
      yield file
  else:
    with open(path, "rb") as file:
      yield file


@contextlib.contextmanager
def decompressed(path: str) -> Iterator[IO[bytes]]:
  """Gives what is in a file, by its ending: .gz, .bz2, .xz, .zst or as it is.

  Raises:
    options.InputError: when it is damaged or cut.
  """
  with reading(path) as raw:
    opener = COMPRESSIONS.get(os.path.splitext(path)[1].lower())
    if opener is None:
      yield raw
      return
    try:
      with opener(raw, "rb") as file:
        yield file
    except (*_DAMAGED, OSError) as error:
      # gzip and bz2 raise OSErrors without a number for what is no such file.
      if isinstance(error, OSError) and error.errno is not None:
        raise
      raise options.InputError(
        f"a whole {os.path.splitext(path)[1]} file at {path}",
        str(error),
        "copy or compress it again",
      ) from error


def kind(path: str) -> str:
  """The name's ending, in front of that of a compression."""
  stem, ending = os.path.splitext(path.lower())
  return os.path.splitext(stem)[1] if ending in COMPRESSIONS else ending


def lines(path: str) -> Iterator[str]:
  """Yields the lines of a UTF-8 file, compressed or not, without line breaks.

  Raises:
    options.InputError: when the file is not UTF-8, or a line is longer than
      MAX_LINE_BYTES.
  """
  with decompressed(path) as file:
    yield from decoded_lines(file, path)


def decoded_lines(file: IO[bytes], name: str) -> Iterator[str]:
  """Yields the lines of UTF-8 bytes; `name` is for the messages of `lines`."""
  for number in range(1, 1 << 62):
    raw = file.readline(MAX_LINE_BYTES + 1)
    if not raw:
      return
    if len(raw) > MAX_LINE_BYTES:
      raise options.InputError(
        f"lines of at most {MAX_LINE_BYTES:,} bytes",
        f"a longer one at {name}:{number}",
        "put one sentence, paragraph or article on a line",
      )
    if number == 1:
      raw = _without_byte_order_mark(raw, name)
    yield _decoded(raw, name, number).rstrip("\r\n")


def _without_byte_order_mark(raw: bytes, path: str) -> bytes:
  if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
    raise options.InputError(
      f"UTF-8 text in {path}",
      "the byte order mark of UTF-16",
      f"convert it: iconv -f UTF-16 -t UTF-8 {path}",
    )
  return raw.removeprefix(b"\xef\xbb\xbf")


def _decoded(raw: bytes, path: str, number: int) -> str:
  try:
    return raw.decode("utf-8")
  except UnicodeDecodeError as error:
    raise options.InputError(
      f"UTF-8 text in {path}",
      f"byte 0x{raw[error.start]:02x} on line {number}",
      f"convert it, for example: iconv -f CP1251 -t UTF-8 {path}",
    ) from error


@contextlib.contextmanager
def writing(path: str, mode: str = "w") -> Iterator[Any]:
  """Gives a file object; `path` appears, whole, when the block ends well.

  Args:
    path: where the finished file goes; its folder is made.
    mode: "w" for UTF-8 text with "\\n" line ends, "wb" for bytes.
  """
  remote = is_remote(path)
  folder = tempfile.gettempdir() if remote else os.path.dirname(path) or "."
  os.makedirs(folder, exist_ok=True)
  text: dict[str, Any] = (
    {} if "b" in mode else dict(encoding="utf-8", newline="")
  )
  handle, temporary = tempfile.mkstemp(
    prefix=f".{os.path.basename(path)}.", suffix=".tmp", dir=folder
  )
  try:
    with os.fdopen(handle, mode, **text) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    if remote:
      gcs.upload(temporary, path)
    else:
      os.chmod(temporary, 0o666 & ~_umask())
      os.replace(temporary, path)
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)


def _umask() -> int:
  """mkstemp's 0600 would keep a finished file from everybody else."""
  mask = os.umask(0)
  os.umask(mask)
  return mask


def copy(source: str, target: str) -> None:
  """Copies a file so that `target` is whole or absent; itself is fine."""
  if source != target:
    with reading(source) as read, writing(target, "wb") as write:
      shutil.copyfileobj(read, write)


def make_folder(path: str) -> None:
  """Makes a local folder; sees that a bucket lets us in, before work begins."""
  if is_remote(path):
    gcs.check(path)
  else:
    os.makedirs(path, exist_ok=True)


def names(folder: str) -> list[str]:
  """Returns the names of the files in a folder, sorted."""
  return [posixpath.basename(path) for path in _find(f"{folder}/*")]


def size(path: str) -> int | None:
  """Returns a file's bytes, or None where there is none."""
  if is_remote(path):
    return gcs.size(path)
  return os.path.getsize(path) if os.path.isfile(path) else None


def exists(path: str) -> bool:
  """Says whether there is a file at a path."""
  return size(path) is not None


def remove(path: str) -> None:
  """Removes a file, if it is there."""
  if is_remote(path):
    gcs.delete(path)
  else:
    pathlib.Path(path).unlink(missing_ok=True)


def remove_stale(folder: str, keep: set[str], pattern: str) -> None:
  """Removes files of an earlier run in `folder` that match and are not kept."""
  for path in _find(f"{folder}/{pattern}"):
    if posixpath.basename(path) not in keep:
      remove(path)


def read_bytes(path: str) -> bytes:
  """Returns the content of a small file."""
  with reading(path) as file:
    return file.read()


def read_text(path: str) -> str:
  """Returns the content of a small UTF-8 file."""
  return "".join(line + "\n" for line in lines(path))


def sha256(path: str) -> str:
  """Returns the hexadecimal SHA-256 of a file's bytes."""
  digest = hashlib.sha256()
  with reading(path) as file:
    while chunk := file.read(1 << 20):
      digest.update(chunk)
  return digest.hexdigest()
