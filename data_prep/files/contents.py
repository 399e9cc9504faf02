"""Recognises the kind of a file by its first bytes, whatever its name is.

A file is plain text if no other kind is recognised. Only Markdown is recognised
by its name, because any text is valid Markdown. Whether a file is a table is
judged by its name elsewhere (`tables.is_table`): a comma makes no table.
"""

import contextlib
import itertools
import re
from collections.abc import Sequence

from data_prep.base import options
from data_prep.files import storage

TEXT = "plain text"
BINARY = "binary data"
JSON_LINES = "JSON lines"
JSON_ARRAY = "a JSON array"
JSON_DOCUMENT = "one JSON document"
JAVASCRIPT = "JavaScript data"
SUBRIP, WEBVTT = "SubRip subtitles", "WebVTT subtitles"
OFFICE = "an office document"
HTML = "an HTML page"
WEB_ARCHIVE = "a WARC or WET archive of web pages"
PARQUET = "Parquet"
ARROW = "Arrow"
NUMBERED = "numbered sentences, as the Leipzig corpora have them"
WIKIEXTRACTOR = "<doc> elements, as wikiextractor writes them"
ARCHIVES = ("a tar archive", "a zip archive", "a rar archive")
_TAR, _ZIP, _RAR = ARCHIVES
_COMPRESSED = "a compressed file"
_E_BOOK, _DUMP = "an e-book", "an XML dump of MediaWiki"

_HEAD_BYTES = 1 << 16
_NUMBERED_LINES = 3  # fewer could be a list in running text

_DEFAULT_ACTION = "export the text to a .txt file, or its rows to .jsonl"
_UNPACK = "give its name the ending .zip, .tar or .rar, or unpack it"
_ONE_A_LINE = "write one object a line: jq -c '.[]'"

# What to do about each kind that is not read as text.
_ACTIONS = {
  JSON_LINES: "convert it with data_prep.build_corpus",
  NUMBERED: "convert it with data_prep.build_corpus",
  WIKIEXTRACTOR: "convert it with data_prep.build_corpus",
  _TAR: _UNPACK,
  _ZIP: _UNPACK,
  _RAR: _UNPACK,
  _E_BOOK: "read it with data_prep.build_corpus --source=epub",
  _DUMP: "read it with data_prep.build_corpus --source=wikipedia",
  HTML: "convert it with data_prep.build_corpus",
  WEB_ARCHIVE: "convert it with data_prep.build_corpus",
  JSON_ARRAY: "convert it with data_prep.build_corpus",
  JSON_DOCUMENT: _ONE_A_LINE,
  JAVASCRIPT: "convert it with data_prep.build_corpus",
  PARQUET: "convert it with data_prep.build_corpus",
  ARROW: "convert it with data_prep.build_corpus",
  SUBRIP: "convert it with data_prep.build_corpus",
  WEBVTT: "convert it with data_prep.build_corpus",
  OFFICE: "convert it with data_prep.build_corpus",
  "Markdown": "convert it, e.g. pandoc --to=plain",
  _COMPRESSED: "decompress it once: it is compressed twice",
}

_SIGNATURES = (
  (b"PAR1", PARQUET),
  (b"WARC/0.", WEB_ARCHIVE),
  (b"WARC/1.", WEB_ARCHIVE),  # bytes that are no text may follow
  (b"ARROW1", ARROW),
  (b"\xff\xff\xff\xff", ARROW),  # the stream format
  (b"Rar!\x1a\x07", _RAR),
  (b"%PDF-", "a PDF document"),
  (b"{\\rtf", "an RTF document"),
  (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of Microsoft Office"),
  (b"SQLite format 3\0", "an SQLite database"),
)
_STRING = rb'"(?:[^"\\]|\\.)*"'
_OBJECT = rb"\{\s*(?:\}|" + _STRING + rb"\s*:)"
# With one of them a page or a part of one begins.
_HTML_TAGS = (
  rb"html|head|body|title|meta|link|style|script|base|frameset|header|main"
  rb"|nav|div|table|center|article|section|h1|p|font"
)
_PATTERNS = tuple(
  (re.compile(rb"\s*(?:" + pattern + rb")", re.IGNORECASE), kind)
  for pattern, kind in (
    (rb"<doc id=", WIKIEXTRACTOR),
    (rb"<mediawiki|<\?xml[^>]*>\s*<mediawiki", _DUMP),
    (
      rb"(?:<\?xml[^>]*>\s*)?(?:(?><!--(?s:.*?)-->)\s*+)*+"
      rb"(?:<!doctype html|<(?:" + _HTML_TAGS + rb")\b[^<>]*>)",
      HTML,
    ),
    (rb"<\?xml|<!doctype", "an XML document"),
    (rb"WEBVTT", WEBVTT),
    (rb"\d+\s*\n\d\d?:\d\d:\d\d[,.]\d{3} +-->", SUBRIP),
    (rb"(?:window\.|var |let |const )[\w.$ ]+=\s*[\[{]", JAVASCRIPT),
    (rb"\[\s*(?:" + _OBJECT + rb"|" + _STRING + rb"\s*[,\]])", JSON_ARRAY),
  )
)
_OFFICE = re.compile(rb"\[Content_Types\]\.xml|application/vnd\.oasis")


def kind(path: str) -> str:
  """Returns the kind of a file's unpacked content, a constant such as TEXT.

  A compressed file that is damaged in its first 64 KB is judged by what stands
  before the damage, and is TEXT if nothing does: its reader will report the
  damage.

  Raises:
    OSError, options.InputError: when the file cannot be opened.
  """
  head = b""
  with (
    contextlib.suppress(storage.DamagedFileError),
    storage.decompressed(path) as file,
  ):
    try:
      head = file.read(_HEAD_BYTES)
    except options.InputError:  # a decompression bomb
      return TEXT
  return of(head, storage.kind(path))


def of(head: bytes, suffix: str = "") -> str:
  """Returns the kind of a content, such as TEXT, judged by its first bytes.

  Args:
    head: the first 64 KB, or all of a shorter content.
    suffix: the suffix of the file's name, such as `.md`.
  """
  head = head.removeprefix(storage.BYTE_ORDER_MARK)
  return _marked(head) or _textual(head, suffix)


def _marked(head: bytes) -> str:
  """Returns the kind of a content with telling first bytes; "" for a text.

  Content with a zero byte is BINARY, unless its first bytes are those of
  another kind.
  """
  for signature, name in _SIGNATURES:
    if head.startswith(signature):
      return name
  if storage.compression(head):
    return _COMPRESSED
  if head.startswith(b"PK\x03\x04"):
    return _zipped(head)
  if head[257:262] == b"ustar":
    return _TAR
  if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16, known to readers
    return TEXT
  return BINARY if b"\0" in head else ""


def _textual(head: bytes, suffix: str) -> str:
  """Returns the kind of a text, such as HTML; TEXT if no other kind fits.

  Args:
    head: the first 64 KB, or all of a shorter text.
    suffix: the suffix of the file's name, such as `.md`.
  """
  for pattern, name in _PATTERNS:
    if pattern.match(head):
      return name
  if re.match(rb"\s*" + _OBJECT, head):
    return _json(head)
  if suffix in (".md", ".markdown"):
    return "Markdown"
  return NUMBERED if _is_numbered(head) else TEXT


def require(path: str, kinds: Sequence[str], wanted: str) -> str:
  """Returns the kind of a file, which must be one of `kinds`.

  Args:
    path: the path of the file.
    kinds: the kinds that the caller reads.
    wanted: these kinds in words, for the message.

  Raises:
    options.InputError: for a file of another kind; for binary data, of which
      damage may have made the file, a storage.DamagedFileError.
  """
  actual = kind(path)
  if actual not in kinds:
    damaged = actual == BINARY
    error = storage.DamagedFileError if damaged else options.InputError
    raise error(
      f"{wanted} in {path}", actual, _ACTIONS.get(actual, _DEFAULT_ACTION)
    )
  return actual


def _zipped(head: bytes) -> str:
  """Returns the kind of a zip file: an e-book, an office document or a zip."""
  if b"mimetypeapplication/epub+zip" in head[:100]:
    return _E_BOOK
  return OFFICE if _OFFICE.search(head[:4096]) else _ZIP


def _json(head: bytes) -> str:
  """Returns JSON_LINES, or JSON_DOCUMENT for an object of several lines.

  An object has several lines if the content has several lines and the first of
  them does not end in "}".

  Args:
    head: the beginning of a content that begins with an object.
  """
  first = head.strip().split(b"\n", 1)[0].strip()
  goes_on = b"\n" in head.strip() and not first.endswith(b"}")
  return JSON_DOCUMENT if goes_on else JSON_LINES


def _is_numbered(head: bytes) -> bool:
  """Returns whether the lines are sentences with rising numbers before them.

  Each line must be a number above that of the line before, a tab, and a text
  that does not begin with a digit, since two numbers are a row of a table.
  Blank lines do not count, nor does the last line of a head of 64 KB, which may
  be cut. The result is False for fewer than three lines.
  """
  whole_lines = head.split(b"\n")[: -1 if len(head) == _HEAD_BYTES else None]
  lines = [line for line in whole_lines if line.strip()]
  matches = [re.match(rb"(\d{1,18})\t\s*[^\s\d]", line) for line in lines]
  if len(lines) < _NUMBERED_LINES or not all(matches):
    return False
  numbers = [int(match[1]) for match in matches if match]
  return all(a < b for a, b in itertools.pairwise(numbers))
