"""Reads web archives: the pages of WARC, and the plain texts of WET.

Each record has a header of its own and the length of its content, so that an
archive is read from the first byte to the last, whether each record is a gzip
member, as Common Crawl has it, or the whole archive was packed again.
"""

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from data_prep.files import storage
from data_prep.sources import rows, selections, web_pages
from data_prep.text import cleaning

_MOST_HEADER_LINES = 1000
_LONGEST_HEADER_LINE = 1 << 16
_CHUNK = 1 << 20
_RECORD = re.compile(rb"WARC/\d")
_HTML = ("text/html", "application/xhtml+xml")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_ADDRESS = "warc-target-uri"
_FIRST_PAGES = 100  # in which a header that --keep names must occur
_NO_PAGE = "web record that is no page"
_BROKEN = "web record with a broken answer"

Item = tuple[str, ...] | web_pages.Page | cleaning.Drop


def items(path: str, settings: rows.Options) -> Iterator[Item]:
  """Yields the lines of each text of a WET file, and each `Page` of a WARC.

  Requests, metadata, empty texts and answers without a page (redirects, errors)
  are skipped. A `cleaning.Drop` comes for content of another kind, such as a
  picture, for a page that is too large, for an answer that is damaged, and for a
  page or text whose headers do not meet --keep.

  Args:
    path: the path of an archive, compressed or not.
    settings: the conditions of --keep, and what is done with a damaged record:
      with --bad_rows=leave_out a `rows.BadRow` comes for it, and the next whole
      record follows.

  Raises:
    storage.DamagedFileError: for an archive that is damaged or truncated, with
      --bad_rows=stop alone.
    options.InputError: at the first page if trafilatura is not installed, and
      for a header in --keep that none of the first _FIRST_PAGES pages has.
  """
  with storage.decompressed(path) as file:
    archive = _Archive(file, path, _Conditions(settings.keep, path))
    while True:
      try:
        yield from archive.items()
        return
      except storage.DamagedFileError as error:
        if settings.bad_rows == "stop":
          raise
        yield rows.damaged(error.got, archive.number)
      if not archive.go_on():
        return


class _Conditions:
  """The conditions of --keep on the headers of records.

  Args:
    keep: the expressions; the names of headers count in any case.
    path: the path of the archive, for messages.
  """

  def __init__(self, keep: Sequence[str], path: str) -> None:
    self._conditions = [selections.parsed(text) for text in keep]
    self._path = path
    self._names: dict[str, None] = {}  # a set that keeps the order
    self._pages = 0

  def unmet(self, kind: str, header: Mapping[str, str], content: bytes) -> str:
    """Returns the first condition that a record does not meet; "" for none.

    Args:
      kind, header, content: as in `_item`.

    Raises:
      options.InputError: for a header that none of many pages has.
    """
    if not self._conditions:
      return ""
    fields = {**header, **_of_answer(kind, header, content)}
    self._names |= dict.fromkeys(fields)
    self._pages += 1
    if self._pages == _FIRST_PAGES:
      self.require_names()
    for condition in self._conditions:
      if not condition.holds(fields.get(condition.field.lower())):
        return condition.text
    return ""

  def require_names(self) -> None:
    """Checks that each header in --keep was seen, if there was any page.

    Raises:
      options.InputError: for a header that no page has.
    """
    if 0 < self._pages <= _FIRST_PAGES:
      places = [(name,) for name in self._names]
      for each in self._conditions:
        selections.resolved(each.field.lower(), places, "--keep", self._path)


class _Archive:
  """Reads the records of an archive one by one.

  Args:
    file: the unpacked archive.
    path: its path, for messages.
    conditions: what the headers of a page or text must meet.

  Attributes:
    number: the number of the record that was read last, from 1.
  """

  def __init__(
    self, file: IO[bytes], path: str, conditions: _Conditions
  ) -> None:
    self._file, self._path = file, path
    self._conditions = conditions
    self._line = b""  # the first line of the next record, if it was read
    self.number = 0

  def items(self) -> Iterator[Item]:
    """Yields the items of the records from here on.

    Raises:
      storage.DamagedFileError: for a damaged record.
    """
    while self._first_line():
      self.number += 1
      start = self._file.tell() - len(self._line)
      item = self._item()
      end = self._file.tell()
      # Of a gzip stream the checksum is only compared at its end.
      damage = None if self._first_line() else storage.damage(self._file)
      if damage and start <= damage.start < end:
        raise damage
      if item is not None:
        yield item
      if damage:
        self.number += 1
        raise damage
    self._conditions.require_names()

  def _first_line(self) -> bytes:
    """Returns the first line of the next record; b"" at the end."""
    while not self._line.strip():
      self._line = self._file.readline(_LONGEST_HEADER_LINE)
      if not self._line or storage.is_cut(self._file, self._line):
        self._line = b""
        break
    return self._line

  def _item(self) -> Item | None:
    """Reads a record; returns its item, or None for a record without one.

    Raises:
      storage.DamagedFileError: for a damaged record.
    """
    header = self._header()
    kind = header.get("warc-type", "").lower()
    length = self._length(header)
    wanted = kind in ("conversion", "response", "resource")
    most = web_pages.LARGEST_PAGE + _LONGEST_HEADER_LINE if wanted else 0
    content = self._file.read(min(length, most))
    left = length - len(content)
    while left and (skipped := self._file.read(min(left, _CHUNK))):
      left -= len(skipped)
    if left:
      raise self._damaged("a record that is cut off")
    item = _item(kind, header, content) if wanted else None
    if item is None or isinstance(item, cleaning.Drop):
      return item
    if unmet := self._conditions.unmet(kind, header, content):
      return cleaning.Drop(f"not {unmet}", header.get(_ADDRESS, "")[:80])
    return item

  def _header(self) -> dict[str, str]:
    """Reads a header; returns name in lower case → value.

    Raises:
      storage.DamagedFileError: for bytes that are not the header of a record.
    """
    first, self._line = self._line, b""
    if not _RECORD.match(first):
      raise self._damaged(repr(first[:40]))
    lines: list[str] = []
    for _ in range(_MOST_HEADER_LINES):
      line = self._file.readline(_LONGEST_HEADER_LINE)
      if line in (b"\r\n", b"\n"):
        return _fields(lines)
      if not line.endswith(b"\n"):
        break
      lines.append(line.decode("utf-8", "replace"))
    raise self._damaged("a header without an end")

  def _length(self, header: Mapping[str, str]) -> int:
    """Returns the length of a record in bytes.

    Raises:
      storage.DamagedFileError: for a record without a length.
    """
    stated = header.get("content-length", "")
    if not re.fullmatch(r"\d{1,15}", stated):
      raise self._damaged(f"Content-Length {stated!r}")
    return int(stated)

  def _damaged(self, got: str) -> storage.DamagedFileError:
    """Returns the error for the record that was read last.

    Args:
      got: the fault in words.
    """
    damage = storage.damage(self._file)
    return damage or storage.DamagedFileError(
      f"a whole record at {self._path}:{self.number}",
      got,
      "copy the archive again",
    )

  def go_on(self) -> bool:
    """Goes to the next record behind damage; returns False if there is none."""
    self._line = b""
    while not _RECORD.match(self._line):
      self._line = self._file.readline(_LONGEST_HEADER_LINE)
      if not self._line and not storage.go_on(self._file):
        return False
    return True


def _item(kind: str, header: Mapping[str, str], content: bytes) -> Item | None:
  """Returns the lines, the `Page` or the Drop of a record.

  The result is None for a conversion without text, and for an HTTP response
  whose status is not 2xx. It is a Drop for a response that is damaged, and for a
  response or resource that is no HTML or is too large.

  Args:
    kind: conversion, response or resource.
    header: name in lower case → value.
    content: the content of the record, or its beginning if it is too large.
  """
  name = header.get(_ADDRESS, "").strip("<>")
  media_type = header.get("content-type", "")
  lowered = media_type.lower()
  if kind == "conversion":
    text = content.decode("utf-8", "replace")
    return rows.full_lines(text) or None
  if kind == "response" and _is_http(header):
    return _answer(name, content)
  if not lowered.startswith(_HTML):
    return cleaning.Drop(_NO_PAGE, name[:80])
  return _page(name, content, media_type)


def _of_answer(
  kind: str, header: Mapping[str, str], content: bytes
) -> dict[str, str]:
  """Returns name in lower case → value of the HTTP header in a record.

  The result is empty for a record that is no answer of a server.

  Args:
    kind, header, content: as in `_item`.
  """
  if kind != "response" or not _is_http(header):
    return {}
  head = content[: max(0, content.find(b"\r\n\r\n"))].decode("latin-1")
  return _fields(head.split("\r\n")[1:])


def _is_http(header: Mapping[str, str]) -> bool:
  """Returns whether a record holds an HTTP message, by its header."""
  return header.get("content-type", "").lower().startswith("application/http")


def _answer(name: str, content: bytes) -> Item | None:
  """Returns the page in an HTTP response; None if its status is not 2xx.

  The result is a Drop if the response is damaged, is not HTML, or is too large.

  Args:
    name: the address of the page.
    content: the status line, the header and the body.
  """
  head, _, body = content.partition(b"\r\n\r\n")
  status, *lines = head.decode("latin-1").split("\r\n")
  match = re.match(r"HTTP/[\d.]+ (\d{3})", status)
  if match is None:
    return cleaning.Drop(_BROKEN, name[:80])
  if not match[1].startswith("2"):
    return None
  header = _fields(lines)
  media_type = header.get("content-type", "")
  if not media_type.lower().startswith(_HTML):
    return cleaning.Drop(_NO_PAGE, name[:80])
  try:
    # Crawlers may store a body unpacked and leave the header as it was.
    if "chunked" in header.get("transfer-encoding", "").lower():
      body = _without_chunks(body)
    body = _unpacked(body, header.get("content-encoding", "").strip().lower())
  except (ValueError, zlib.error):
    return cleaning.Drop(_BROKEN, name[:80])
  return _page(name, body, media_type)


def _page(name: str, content: bytes, media_type: str) -> Item:
  """Returns a `Page`, or a Drop if it is too large.

  Args:
    name: the address of the page.
    content: the bytes of the page.
    media_type: the type and the encoding of the page, as HTTP states them.

  Raises:
    options.InputError: when trafilatura is not installed.
  """
  web_pages.require_extractor()
  stated = _CHARSET.search(media_type)
  return web_pages.page(name, content, stated[1] if stated else "")


def _without_chunks(body: bytes) -> bytes:
  """Returns the content of a body that was sent in chunks.

  A body without chunks is returned unchanged.

  Raises:
    ValueError: for a chunk that is cut off.
  """
  parts: list[bytes] = []
  at = 0
  while match := re.compile(rb"([\da-fA-F]{1,8})[^\r\n]*\r\n").match(body, at):
    size = int(match[1], 16)
    if not size:
      return b"".join(parts)
    at = match.end() + size
    if at > len(body):
      raise ValueError("a chunk is cut off")
    parts.append(body[match.end() : at])
    at += len(b"\r\n")
  if parts:
    raise ValueError("the last chunk is missing")
  return body


def _unpacked(body: bytes, encoding: str) -> bytes:
  """Decompresses the body of an HTTP response.

  The result has at most LARGEST_PAGE + 1 bytes; further bytes are dropped. A
  body that is not compressed is returned unchanged.

  Args:
    body: the bytes that were sent.
    encoding: the Content-Encoding of the body.

  Raises:
    ValueError: for an encoding that is not known here.
    zlib.error: for damaged bytes.
  """
  if encoding in ("gzip", "x-gzip") and body.startswith(b"\x1f\x8b"):
    unpacker = zlib.decompressobj(wbits=31)
  elif encoding == "deflate" and body[:1] == b"\x78":
    unpacker = zlib.decompressobj()
  elif encoding in ("br", "zstd") and not body.lstrip().startswith(b"<"):
    raise ValueError(f"Content-Encoding: {encoding}")
  else:
    return body
  return unpacker.decompress(body, web_pages.LARGEST_PAGE + 1)


def _fields(lines: list[str]) -> dict[str, str]:
  """Returns the fields of a header's lines: name in lower case → value.

  Of several fields with the same name, the last counts.
  """
  pairs = (line.partition(":") for line in lines)
  return {name.strip().lower(): value.strip() for name, _, value in pairs}
