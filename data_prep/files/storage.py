"""Finds, reads, writes and hashes files, local or in a bucket.

Other modules read a user's input and write the output through this module.
Paths are local or gs://BUCKET/NAME. A file is written under a temporary name
and renamed when it is complete. So a file that exists is complete, whenever its
writer was stopped.
"""

import bz2
import contextlib
import fnmatch
import glob
import hashlib
import io
import itertools
import lzma
import multiprocessing
import os
import pathlib
import secrets
import shlex
import shutil
import signal
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import zstandard

from data_prep.base import options
from data_prep.files import gcs, open_files

# Longest line in bytes, without the line end. A paragraph or an article is far
# shorter. A file without line breaks is longer, and must not be read into memory
# as a whole.
MAX_LINE_BYTES = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # of UTF-8


# Of zstd --long=31. Memory is taken as the text is unpacked, not at once.
_LONGEST_WINDOW = 1 << 31


class DamagedFileError(options.InputError):
  """Raised where a file is damaged; what was read before is whole.

  Args:
    expected, got, action: as of `options.InputError`.
    row: the number of the line, row or record that cannot be read, from 1; 0 if
      it is unknown.

  Attributes:
    start: the place, in the unpacked file, where the damaged stream of a
      compressed file begins.
  """

  def __init__(
    self, expected: str, got: str, action: str, row: int = 0
  ) -> None:
    super().__init__(expected, got, action)
    self.row = row
    self.start = 0


class _Gzip:
  """Decompressor of gzip by zlib, with the interface of bz2.BZ2Decompressor.

  At damage `decompress` returns what stands before it, and raises when it is
  called again. The bytes behind the damage are then in `behind`.
  """

  def __init__(self) -> None:
    self._inner = zlib.decompressobj(wbits=31)  # gzip's header and checksum
    self._error: zlib.error | None = None
    self.behind = b""

  def __getattr__(self, name: str) -> Any:
    return getattr(self._inner, name)

  @property
  def needs_input(self) -> bool:
    return not self._inner.unconsumed_tail and self._error is None

  def decompress(self, packed: bytes, most: int) -> bytes:
    if self._error is not None:
      raise self._error
    packed = self._inner.unconsumed_tail + packed
    before = self._inner.copy()
    try:
      return self._inner.decompress(packed, most)
    except zlib.error:
      self._inner = before
      return self._before_damage(packed)

  def _before_damage(self, packed: bytes) -> bytes:
    """Returns what the bytes before the damaged one unpack to."""
    unpacked = bytearray()
    for at in range(len(packed)):
      try:
        unpacked += self._inner.decompress(packed[at : at + 1])
      except zlib.error as error:
        self._error, self.behind = error, packed[at:]
        break
    return bytes(unpacked)


class _Zstandard:
  """Decompressor of zstandard, with the interface of bz2.BZ2Decompressor.

  `decompress` ignores the limit `most`: it returns all that can be unpacked.
  """

  needs_input = True

  def __init__(self) -> None:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_LONGEST_WINDOW)
    self._inner = decompressor.decompressobj()

  def __getattr__(self, name: str) -> Any:
    return getattr(self._inner, name)

  def decompress(self, packed: bytes, most: int) -> bytes:
    del most
    return self._inner.decompress(packed)


# Suffix of compressed files → the decompressor of a stream. xz -9 needs 65 MiB
# for its dictionary, a hostile file 4 GiB.
COMPRESSIONS: dict[str, Callable[[], Any]] = {
  ".gz": _Gzip,
  ".bz2": bz2.BZ2Decompressor,
  ".xz": lambda: lzma.LZMADecompressor(memlimit=256 << 20),
  ".zst": _Zstandard,
}
_BEGINNINGS = {
  b"\x1f\x8b": ".gz",
  **{b"BZh%d1AY&SY" % level: ".bz2" for level in range(1, 10)},
  b"\xfd7zXZ\0": ".xz",
  b"\x28\xb5\x2f\xfd": ".zst",
}
_MOST_PEEKED = max(map(len, _BEGINNINGS))
_SHORT = {".tgz": ".tar.gz", ".tbz2": ".tar.bz2", ".txz": ".tar.xz"}
# Four bytes of zstandard can unpack to 128 KB, so this many to 128 MB at most.
_PIECE_BYTES = 1 << 12
# News compresses to a fifth, a bomb to a thousandth; a small file may do either.
HIGHEST_RATIO = 200
_ALWAYS_FREE_BYTES = 256 << 20


def most_unpacked(packed: int) -> int:
  """Returns the number of bytes to which `packed` bytes may unpack at most.

  It is 200 times `packed`, or 256 MB if that is more.
  """
  return max(_ALWAYS_FREE_BYTES, HIGHEST_RATIO * packed)


class _Unpacked(io.RawIOBase):
  """A file of the unpacked bytes of one or several compressed streams.

  The class replaces the file classes of the libraries, which hide damage: bz2
  and lzma take a damaged second stream for the end of the file, zstandard takes
  a truncated stream for a whole one, gzip takes an empty file for an empty
  text. lzma may also take any amount of memory.

  The file ends where it is damaged, so that a buffered reader gives all that
  stands before the damage. Who has read to the end looks at `damage`.

  Args:
    raw: the open file of compressed bytes.
    path: the path of this file, for messages.
    start: function without arguments that makes the decompressor of a stream.

  Attributes:
    damage: the damage at which the file ends; None before, and for a whole file.
  """

  def __init__(
    self, raw: IO[bytes], path: str, start: Callable[[], Any]
  ) -> None:
    self._raw, self._path, self._start = raw, path, start
    self._stream: Any = None
    self._left = memoryview(b"")
    self._behind = b""  # read from the file, for the next stream
    self._taken = self._given = 0
    self._passed = self._stream_start = 0  # unpacked bytes
    self._ended = False
    self.damage: DamagedFileError | None = None

  def readable(self) -> bool:
    return True

  def readinto(self, buffer: Any) -> int:
    if self._ended:
      return 0
    try:
      self._left = self._left or memoryview(self._next(len(buffer)))
    except _DAMAGED as error:
      return self._end(error)
    except OSError as error:
      # bz2 raises OSErrors without an errno for a file that is not bz2.
      if error.errno is not None:
        raise
      return self._end(error)
    part = self._left[: len(buffer)]
    buffer[: len(part)], self._left = part, self._left[len(part) :]
    self._passed += len(part)
    return len(part)

  def tell(self) -> int:
    return self._passed

  def _end(self, error: Exception) -> int:
    """Ends the file at damage; returns 0, the number of bytes that follow."""
    self._ended, self.damage = True, self._refused(error)
    self.damage.start = self._stream_start
    return 0

  def go_on(self) -> bool:
    """Goes on at the next gzip stream behind the damage, and forgets the damage.

    Returns False, and ends the file, if no further stream begins.
    """
    self.damage = None
    behind = getattr(self._stream, "behind", b"")
    while (at := behind.find(_GZIP_STREAM)) < 0:
      read = self._read()
      if not read:
        return False
      behind = behind[1 - len(_GZIP_STREAM) :] + read
    self._stream, self._behind, self._ended = None, behind[at:], False
    return True

  def _next(self, most: int) -> bytes:
    """Returns the next unpacked bytes; b"" at the end of the last stream.

    Args:
      most: the largest number of bytes to return; zstandard may exceed it.

    Raises:
      EOFError: for a truncated stream, and for an empty file.
      options.InputError: for a decompression bomb.
    """
    unpacked = b""
    while not unpacked:
      if self._stream is None or self._stream.eof:
        packed = self._beginning()
        if not packed and self._stream:
          self._ended = True
          return b""
        self._stream, self._stream_start = self._start(), self._passed
      else:
        packed = self._read() if self._stream.needs_input else b""
        if not packed and self._stream.needs_input:
          raise EOFError("it ends too early")
      unpacked = self._stream.decompress(packed, most)
    self._given += len(unpacked)
    if self._given > most_unpacked(self._taken):
      raise options.InputError(
        f"text in {self._path}",
        f"more than {self._given >> 20} MB from {self._taken:,} bytes",
        "leave it out: it is made to fill a disk",
      )
    return unpacked

  def _beginning(self) -> bytes:
    """Returns the first compressed bytes of the next stream; skips zero bytes.

    The result is b"" if the file has no further stream.
    """
    packed = self._stream.unused_data if self._stream else self._behind
    self._behind = b""
    while not (packed := packed.lstrip(b"\0")):
      packed = self._read()
      if not packed:
        break
    return packed

  def _read(self) -> bytes:
    """Returns the next compressed bytes; b"" at the end of the file."""
    packed = self._raw.read(_PIECE_BYTES)
    self._taken += len(packed)
    return packed

  def _refused(self, error: Exception) -> DamagedFileError:
    """Returns the DamagedFileError for a damaged file.

    Args:
      error: the decompressor's exception.
    """
    return DamagedFileError(
      f"a whole {_endings(self._path)[1]} file at {self._path}",
      str(error),
      "copy or compress it again",
    )


_GZIP_STREAM = b"\x1f\x8b\x08"
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


def is_remote(path: str) -> bool:
  """Returns whether a path is on Google Cloud Storage.

  Raises:
    options.InputError: for a path elsewhere, such as https://.
  """
  if "://" in path and not path.startswith(gcs.SCHEME):
    raise options.InputError(
      "a local path or gs://", path, "copy the files to one of these first"
    )
  return path.startswith(gcs.SCHEME)


def matching(patterns: str) -> list[str]:
  """Returns the paths of files that match a comma-separated list of globs.

  The globs keep their order, and the files of each glob are sorted. `**`
  matches any number of folders. A file that several globs match is returned
  once, among the files of the first of these globs. If a part of a glob is
  itself the name of a file or a folder, that part matches only this name: the
  folder `e[1]`, if it exists, is never taken for `e1`.

  Raises:
    options.InputError: for a pattern that matches nothing, and for an empty
      list.
  """
  paths: dict[str, None] = {}  # a set that keeps the order
  for pattern in divided(patterns):
    files = _find(pattern)
    if not files:
      raise options.InputError(
        "a file or a glob of files", f"no file at {pattern!r}", "mend the path"
      )
    paths |= dict.fromkeys(files)
  if not paths:
    raise options.InputError(
      "at least one input file", "none", "give --input_file"
    )
  spellings: dict[str, str] = {}
  for path in paths:
    whole = path if is_remote(path) else os.path.abspath(path)
    spellings.setdefault(whole, path)
  return list(spellings.values())


def divided(patterns: str) -> list[str]:
  """Returns the entries of a comma-separated list, without white space around.

  Empty entries are skipped. If the whole text is the path of a local file, the
  text is the only entry.
  """
  if os.path.isfile(patterns):
    return [patterns]
  return [p.strip() for p in patterns.split(",") if p.strip()]


def _find(pattern: str) -> list[str]:
  """Returns the files that match a glob, sorted; [] if none does."""
  if "**" in pattern.split("/"):
    return _find_below(pattern)
  if is_remote(pattern):
    return gcs.find(pattern)
  paths = ["/" if pattern.startswith("/") else ""]
  for part in filter(None, pattern.split("/")):
    paths = [path for folder in paths for path in _expanded(folder, part)]
  return sorted(filter(os.path.isfile, paths))


def _find_below(pattern: str) -> list[str]:
  """Returns the files that match a glob with `**`, sorted."""
  parts = pattern.split("/")
  first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
  folder = "/".join(parts[:first])
  # A last `**` stands for all files below.
  wanted = [*parts[first:], *(["*"] if parts[-1] == "**" else [])]
  names = below(folder or ("/" if pattern.startswith("/") else "."))
  start = f"{folder}/" if first else ""
  return [start + name for name in names if _is_match(name.split("/"), wanted)]


def _is_match(name: Sequence[str], wanted: Sequence[str]) -> bool:
  """Returns whether a path matches a glob with `**`.

  As in a shell, a part of a glob matches a hidden name only if this part begins
  with a dot too.

  Args:
    name: the path, divided at the slashes.
    wanted: the glob, divided at the slashes.
  """
  if not name or not wanted:
    return not name and not wanted
  hidden = name[0].startswith(".") and not wanted[0].startswith(".")
  if wanted[0] == "**":
    return _is_match(name, wanted[1:]) or (
      not hidden and _is_match(name[1:], wanted)
    )
  return (
    not hidden
    and fnmatch.fnmatchcase(name[0], wanted[0])
    and _is_match(name[1:], wanted[1:])
  )


def _expanded(folder: str, part: str) -> list[str]:
  """Returns the paths of the names in a local folder that match a glob.

  A glob without wildcards, or one that is itself a name in the folder, gives
  the path of this name alone, whether or not the path exists.

  Args:
    folder: the path of the folder; "" for the current folder.
    part: the glob for a single name, without slashes.
  """
  exact = os.path.join(folder, part)
  if not glob.has_magic(part) or os.path.lexists(exact):
    return [exact]
  try:
    entries = os.listdir(folder or ".")
  except OSError:  # no folder, or no permission
    return []
  return [os.path.join(folder, name) for name in gcs.matched(entries, part)]


@contextlib.contextmanager
def reading(path: str) -> Iterator[IO[bytes]]:
  """Yields a file's bytes as a file object, without unpacking them.

  Raises:
    OSError: when a local file cannot be opened.
    options.InputError: when an object in a bucket cannot be read.
  """
  if is_remote(path):
    with gcs.reading(path) as file, open_files.noted(path, file):
      yield file
  else:
    with open(path, "rb") as file, open_files.noted(path, file):
      yield file


@contextlib.contextmanager
def decompressed(path: str) -> Iterator[IO[bytes]]:
  """Yields a file object of a file's content, unpacked if it is compressed.

  A file is compressed if its suffix is .gz, .bz2, .xz or .zst, or if its first
  bytes are those of such a file. A damaged one ends where the damage begins.

  Raises:
    OSError, options.InputError: as `reading` does.
    options.InputError: from the reads, for a decompression bomb.
    DamagedFileError: at the end of the block, also in place of an error of the
      block, if the damage of a file was reached.
  """
  with reading(path) as raw:
    assert isinstance(raw, io.BufferedReader), "as `reading` opens files"
    suffix = _endings(path)[1] or compression(raw.peek(_MOST_PEEKED))
    start = COMPRESSIONS.get(suffix)
    if start is None:
      yield raw
      return
    unpacked = _Unpacked(raw, path, start)
    try:
      yield io.BufferedReader(unpacked, 1 << 16)
    except Exception as error:
      if unpacked.damage and unpacked.damage is not error:
        raise unpacked.damage from error
      raise
    if unpacked.damage:
      raise unpacked.damage


def damage(file: IO[bytes]) -> DamagedFileError | None:
  """Returns the damage at which a file of `decompressed` ended, if it did."""
  raw = getattr(file, "raw", None)
  return raw.damage if isinstance(raw, _Unpacked) else None


def go_on(file: IO[bytes]) -> bool:
  """Goes on behind the damage at which a file of `decompressed` ended.

  The damage counts as told: `decompressed` does not raise it. Returns False if
  there is no damage, or no further gzip stream behind it.
  """
  raw = getattr(file, "raw", None)
  return isinstance(raw, _Unpacked) and bool(raw.damage) and raw.go_on()


def compression(head: bytes) -> str:
  """Returns the suffix of a file's compression, such as ".gz", by its bytes.

  The result is "" for a file that is not compressed.

  Args:
    head: the first bytes of a file.
  """
  matches = (s for b, s in _BEGINNINGS.items() if head.startswith(b))
  return next(matches, "")


def kind(path: str) -> str:
  """Returns the suffix of a file's name, without the suffix of a compression.

  The suffix is in lower case: ".txt" for `a.TXT.gz`, ".tar" for `a.tgz`, "" for
  a name without a suffix.
  """
  return _endings(path)[0]


def _endings(path: str) -> tuple[str, str]:
  """Returns (suffix of the file, suffix of its compression), in lower case.

  For `a.tgz` the result is (".tar", ".gz"); a missing suffix is "".
  """
  stem, ending = os.path.splitext(path.lower())
  stem, ending = os.path.splitext(stem + _SHORT.get(ending, ending))
  if ending in COMPRESSIONS:
    return os.path.splitext(stem)[1], ending
  return ending, ""


def lines(path: str) -> Iterator[str]:
  r"""Yields the lines of a UTF-8 file, compressed or not, without line breaks.

  A line ends with "\n" or "\r\n". A byte order mark is left out. The file is
  opened when the first line is asked for.

  Raises:
    options.InputError: when the file is not UTF-8, when a line is longer than
      MAX_LINE_BYTES (1 MiB), and as `decompressed` does.
    OSError: when a local file cannot be opened.
  """

  def blocks() -> Iterator[list[str]]:
    with decompressed(path) as file:
      yield from _blocks(file, path)

  return itertools.chain.from_iterable(blocks())


def decoded_lines(file: IO[bytes], name: str) -> Iterator[str]:
  """Yields the lines of UTF-8 bytes, as `lines` does.

  Args:
    file: the bytes.
    name: the name of the file, for messages.
  """
  return itertools.chain.from_iterable(_blocks(file, name))


def read_line(file: IO[bytes], most: int, begun: bytes = b"") -> bytes:
  r"""Reads a line of bytes, but of a line that is too long only the beginning.

  Returns the line with its line end, or the beginning of a line that is too
  long; such a beginning, passed through `without_line_end`, is longer than
  `most`. At the end of the file the result is `begun`.

  Args:
    file: the file, at the place where the reading goes on.
    most: bytes of the longest line allowed. The line end, which is "\n", "\r\n"
      or the end of the file, does not count.
    begun: the beginning of the line, if it has been read already.
  """
  return begun + file.readline(max(0, most - len(begun)) + len(b"\r\n"))


def is_cut(file: IO[bytes], line: bytes) -> bool:
  """Returns whether the damage of a file cut off a line that was read."""
  return not line.endswith(b"\n") and damage(file) is not None


def without_line_end(line: bytes) -> bytes:
  r"""Returns a line without its final "\n", "\r\n" or "\r"."""
  return line.removesuffix(b"\n").removesuffix(b"\r")


def skip_line(file: IO[bytes], begun: bytes) -> None:
  """Reads the rest of a line, so that the file stands at the next line.

  Args:
    file: the file.
    begun: the beginning of the line, which has been read. If it contains the
      end of the line, or is b"", nothing is read.
  """
  while begun and not begun.endswith(b"\n"):
    begun = file.readline(MAX_LINE_BYTES)


def _blocks(file: IO[bytes], name: str) -> Iterator[list[str]]:
  """Yields the lines of UTF-8 bytes in lists of at most about 2 MB.

  The lines are those that `lines` yields. To read single lines would take twice
  as long.

  Args:
    file: the open file.
    name: the name of the file, for messages.

  Raises:
    options.InputError, OSError: as `lines` does.
  """
  number = 1
  while raw := file.read(MAX_LINE_BYTES):
    if number == 1:
      raw = _without_byte_order_mark(raw, name)
    begun = raw.rfind(b"\n") + 1
    last = read_line(file, MAX_LINE_BYTES, raw[begun:])
    if len(without_line_end(last)) > MAX_LINE_BYTES:
      line = number + raw.count(b"\n")
      raise options.InputError(
        f"lines of at most {MAX_LINE_BYTES:,} bytes",
        f"a longer one at {name}:{line}",
        "put one sentence, paragraph or article on a line",
      )
    raw = raw[:begun] + (b"" if is_cut(file, last) else last)
    text_lines = _decoded(raw, name, number).split("\n")
    if not text_lines[-1]:
      del text_lines[-1]  # what follows the last line break is no line
    number += len(text_lines)
    yield (
      [line.rstrip("\r") for line in text_lines] if b"\r" in raw else text_lines
    )


def _without_byte_order_mark(raw: bytes, path: str) -> bytes:
  """Returns the first bytes of a file without the byte order mark of UTF-8.

  Raises:
    options.InputError: for the byte order mark of UTF-16.
  """
  if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
    raise options.InputError(
      f"UTF-8 text in {path}",
      "the byte order mark of UTF-16",
      f"convert it: iconv -f UTF-16 -t UTF-8 {shlex.quote(path)}",
    )
  return raw.removeprefix(BYTE_ORDER_MARK)


def _decoded(raw: bytes, path: str, number: int) -> str:
  """Decodes UTF-8 bytes that hold one or more whole lines of a file.

  Args:
    raw: the bytes.
    path: the path of the file, for messages.
    number: the number in the file of the first of the lines, for messages.

  Returns:
    the text, with its line breaks.

  Raises:
    options.InputError: for bytes that are not UTF-8.
  """
  try:
    return raw.decode("utf-8")
  except UnicodeDecodeError as error:
    line = number + raw.count(b"\n", 0, error.start)
    raise options.InputError(
      f"UTF-8 text in {path}",
      f"byte 0x{raw[error.start]:02x} on line {line}",
      f"convert it, for example: iconv -f CP1251 -t UTF-8 {shlex.quote(path)}",
    ) from error


@contextlib.contextmanager
def writing(path: str, mode: str = "w", rights: int = 0o666) -> Iterator[Any]:
  r"""Yields a file object to write to; `path` appears when the block succeeds.

  An earlier file at `path` is then replaced; it stays as it was if the block
  fails.

  Args:
    path: the path of the finished file; its folder is made.
    mode: "w" for UTF-8 text with "\n" line ends, "wb" for bytes.
    rights: the permissions of a local file, which the umask reduces.
  """
  remote = is_remote(path)
  folder = tempfile.gettempdir() if remote else os.path.dirname(path) or "."
  os.makedirs(folder, exist_ok=True)
  text: dict[str, Any] = (
    {} if "b" in mode else dict(encoding="utf-8", newline="")
  )
  name = f".{os.path.basename(path)}.{secrets.token_hex(4)}.tmp"
  temporary = os.path.join(folder, name)
  # Only their owner may read tempfile's files; for these the umask decides.
  rights = 0o600 if remote else rights
  with _ending_in_order(), options.naming(path):
    try:
      made = os.O_RDWR | os.O_CREAT | os.O_EXCL
      with os.fdopen(os.open(temporary, made, rights), mode, **text) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
      if remote:
        gcs.upload(temporary, path)
      else:
        os.replace(temporary, path)
    finally:
      with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
  """Makes SIGTERM raise SystemExit(143) in the context.

  So `finally` blocks run and remove temporary files. Nothing changes if the
  program has set a handler of its own, in a worker process, which its parent
  ends, and outside of the main thread.
  """
  if (
    threading.current_thread() is not threading.main_thread()
    or multiprocessing.parent_process()
    or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
  ):
    yield
    return

  def end(*_: object) -> None:
    raise SystemExit(options.TERMINATED)

  signal.signal(signal.SIGTERM, end)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def copy(source: str, target: str) -> None:
  """Copies a file; `target` changes only when the copy is complete.

  Nothing is done if both are the same path.
  """
  if source != target:
    with reading(source) as read, writing(target, "wb") as write:
      shutil.copyfileobj(read, write)


def make_folder(path: str) -> None:
  """Makes a local folder, and the missing folders above it.

  In a bucket no folder needs to be made: only the access is checked.

  Raises:
    OSError: when a local folder cannot be made.
    options.InputError: for a folder in a bucket that cannot be listed.
  """
  if is_remote(path):
    gcs.check(path)
  else:
    os.makedirs(path, exist_ok=True)


def require_writable(folder: str) -> None:
  """Checks that files can be written in a folder, which need not exist yet.

  Raises:
    options.InputError, OSError: when files cannot be written there.
  """
  if is_remote(folder):
    probe = f"{folder}/.writable"
    with writing(probe) as file:
      file.write("")
    remove(probe)
    return
  place = standing(folder)
  try:
    with tempfile.TemporaryFile(dir=place):
      pass
  except OSError as error:
    raise options.InputError(
      f"to write in {folder}",
      f"{os.strerror(error.errno or 0)}: {place}",
      "give another folder, or ask for permission",
    ) from error


def free_bytes(folder: str) -> int | None:
  """Returns the free bytes on a folder's disk; None for a bucket."""
  if is_remote(folder):
    return None
  return shutil.disk_usage(standing(folder)).free


def standing(folder: str) -> str:
  """Returns a local folder if it exists, else the nearest existing parent."""
  place = os.path.abspath(folder)
  while not os.path.exists(place):
    place = os.path.dirname(place)
  return place


def names(folder: str) -> list[str]:
  """Returns the names of the files in a folder, sorted; [] if it is missing.

  Hidden files and subfolders are left out.
  """
  if is_remote(folder):
    entries = gcs.names(folder)
  elif os.path.isdir(place := folder or "."):
    entries = [entry.name for entry in os.scandir(place) if entry.is_file()]
  else:
    entries = []
  return sorted(name for name in entries if not name.startswith("."))


def below(folder: str) -> list[str]:
  """Returns the paths of all files in a folder and its subfolders, sorted.

  The paths are relative to the folder, with slashes; hidden files are included.
  The result for a missing folder is [].
  """
  if is_remote(folder):
    return gcs.below(folder)
  paths = (
    os.path.relpath(os.path.join(place, name), folder)
    for place, _, files in os.walk(folder)
    for name in files
  )
  return sorted(name.replace(os.sep, "/") for name in paths)


def move(source: str, target: str) -> None:
  """Moves a file to a path on the same disk or bucket; replaces `target`.

  In a bucket, a process that ends during the move leaves the source, or the
  source and the target.
  """
  if is_remote(target):
    gcs.move(source, target)
  else:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.replace(source, target)


def shard(stem: str, number: int, count: int, ending: str) -> str:
  """Returns the name of a file of a set: corpus-00000-of-00001.txt.

  Args:
    stem: the text in front of the number: `corpus`.
    number: the number of the file, from 0.
    count: the number of files in the set.
    ending: the suffix, with its full stop: `.txt`.
  """
  return f"{stem}-{number:05d}-of-{count:05d}{ending}"


def is_shard(name: str, stem: str, ending: str) -> bool:
  """Returns whether a name is one that `shard` returns for any two numbers.

  Args:
    name: the name.
    stem, ending: as in `shard`.
  """
  numbers = name.removeprefix(f"{stem}-").removesuffix(ending).split("-of-")
  if len(numbers) != 2 or not all(x.isascii() and x.isdigit() for x in numbers):
    return False
  number, count = map(int, numbers)
  return number < count and name == shard(stem, number, count, ending)


def size(path: str) -> int | None:
  """Returns the size of a file in bytes; None if no file has this path."""
  if is_remote(path):
    return gcs.size(path)
  return os.path.getsize(path) if os.path.isfile(path) else None


def version(path: str) -> str:
  """Returns a text that changes when a file changes, without reading the file.

  The text holds the size and the times of the last changes of a local file, or
  the generation of an object in a bucket.

  Raises:
    OSError: when a local file is missing.
    options.InputError: when an object is missing or cannot be read.
  """
  if is_remote(path):
    return gcs.version(path)
  state = os.stat(path)
  return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


def is_special(path: str) -> bool:
  """Returns whether a local path is a device, a pipe or a folder.

  The result is False for a regular file, for a path at which nothing is, and
  for a path in a bucket.
  """
  return (
    not is_remote(path) and os.path.exists(path) and not os.path.isfile(path)
  )


def is_folder(path: str) -> bool:
  """Returns whether a path is a folder; in a bucket, one with objects in it."""
  if is_remote(path):
    return size(path) is None and bool(gcs.below(path))
  return os.path.isdir(path)


def leads_elsewhere(folder: str, name: str) -> bool:
  """Returns whether a file's path in a local folder goes through a link.

  The file itself, or a folder between the given folder and the file, is then a
  symbolic link. The result is False for a folder in a bucket.

  Args:
    folder: the folder, which may itself be a link.
    name: the path of the file, relative to the folder.
  """
  if is_remote(folder):
    return False
  place = os.path.join(os.path.realpath(folder), name)
  return os.path.realpath(place) != place


def exists(path: str) -> bool:
  """Returns whether there is a file at a path; a folder is no file."""
  return size(path) is not None


def remove(path: str) -> None:
  """Removes a file, if it exists."""
  if is_remote(path):
    gcs.delete(path)
  else:
    pathlib.Path(path).unlink(missing_ok=True)


def read_bytes(path: str) -> bytes:
  """Returns the bytes of a small file, without unpacking them."""
  with reading(path) as file:
    return file.read()


def read_text(path: str) -> str:
  r"""Returns the text of a small UTF-8 file, compressed or not.

  Each line, the last one too, ends with "\n".

  Raises:
    options.InputError: as `lines` does.
  """
  return "".join(line + "\n" for line in lines(path))


def sha256(path: str) -> str:
  """Returns the hexadecimal SHA-256 of a file's bytes."""
  digest = hashlib.sha256()
  with reading(path) as file:
    while chunk := file.read(1 << 20):
      digest.update(chunk)
  return digest.hexdigest()
