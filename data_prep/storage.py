"""The one door to files: find, read by line, write whole, checksum.

Nothing else in data_prep opens a path. A file is written beside its place
under a temporary name and renamed when it is complete, so a name that exists
is a whole file, whenever the writer was stopped.
"""

import contextlib
import glob
import gzip
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from data_prep import options

# A paragraph or a whole article a line stays far below this; a file without
# line breaks does not, and would otherwise be read into memory at once.
MAX_LINE_BYTES = 1 << 20


def matching(patterns: str) -> list[str]:
  """Returns the files that a comma-separated list of globs names, in order.

  Raises:
    options.InputError: for a pattern that matches nothing, or a gs:// path.
  """
  found: list[str] = []
  for pattern in filter(None, (p.strip() for p in patterns.split(","))):
    _local(pattern)
    files = sorted(p for p in glob.glob(pattern) if os.path.isfile(p))
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


def _local(path: str) -> None:
  if "://" in path:
    raise options.InputError(
      "a local path", path, "copy the files to local disk first"
    )


def lines(path: str) -> Iterator[str]:
  """Yields the lines of a UTF-8 file (`.gz` too), without their line breaks.

  Raises:
    options.InputError: when the file is not UTF-8, or a line is longer than
      MAX_LINE_BYTES.
  """
  opener: Any = gzip.open if path.endswith(".gz") else open
  with opener(path, "rb") as file:
    for number in range(1, 1 << 62):
      raw = _bounded_line(file, path, number)
      if not raw:
        return
      if number == 1:
        raw = _without_byte_order_mark(raw, path)
      yield _decoded(raw, path, number).rstrip("\r\n")


def _bounded_line(file: IO[bytes], path: str, number: int) -> bytes:
  try:
    raw = file.readline(MAX_LINE_BYTES + 1)
  except (gzip.BadGzipFile, EOFError) as error:
    raise options.InputError(
      f"a whole gzip file at {path}", str(error), "copy or unpack it again"
    ) from error
  if len(raw) > MAX_LINE_BYTES:
    raise options.InputError(
      f"lines of at most {MAX_LINE_BYTES:,} bytes",
      f"a longer one at {path}:{number}",
      "put one sentence, paragraph or article on a line",
    )
  return raw


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
  _local(path)
  folder = os.path.dirname(path) or "."
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
    os.chmod(temporary, 0o666 & ~_umask())
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)
    raise


def _umask() -> int:
  """mkstemp's 0600 would keep a finished file from everybody else."""
  mask = os.umask(0)
  os.umask(mask)
  return mask


def remove_stale(folder: str, keep: set[str], pattern: str) -> None:
  """Removes files of an earlier run in `folder` that match and are not kept."""
  for path in pathlib.Path(folder).glob(pattern):
    if path.name not in keep:
      path.unlink()


def read_text(path: str) -> str:
  """Returns the content of a small UTF-8 file."""
  return "".join(line + "\n" for line in lines(path))


def sha256(path: str) -> str:
  """Returns the hexadecimal SHA-256 of a file's bytes."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
