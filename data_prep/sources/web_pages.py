"""Takes the main text out of web pages: without menus, links and comments.

trafilatura does it; docs/log.md compares it with Resiliparse.
"""

import dataclasses
import functools
import importlib.util
import logging as py_logging
from collections.abc import Callable, Iterator

from data_prep.base import options
from data_prep.files import storage
from data_prep.sources import markup
from data_prep.text import cleaning

LARGEST_PAGE = 20 << 20
_SHORT = 100  # letters (guess): of a page without a main text
_NO_TEXT = "page without main text"
_NO_PAGE = "page that cannot be decoded"
_TOO_LARGE = "page of more than 20 MB"


@dataclasses.dataclass(frozen=True)
class Page:
  """A web page as it was fetched.

  Attributes:
    name: the address of the page, or the name of its file.
    content: the bytes of the page.
    encoding: the encoding that the server stated, or "".
  """

  name: str
  content: bytes
  encoding: str = ""


def require_extractor() -> None:
  """Raises options.InputError if trafilatura is not installed."""
  if importlib.util.find_spec("trafilatura") is None:
    raise options.InputError(
      "trafilatura, which reads web pages",
      "none",
      "run scripts/setup.sh, or pip install -r requirements-web.txt",
    )


def items(path: str) -> Iterator[Page | cleaning.Drop]:
  """Yields the page of a file, or a Drop if it is too large.

  Raises:
    options.InputError: when trafilatura is not installed, and for a damaged
      compressed file.
  """
  require_extractor()
  with storage.decompressed(path) as file:
    content = file.read(LARGEST_PAGE + 1)
  name = path.rpartition("/")[2]
  yield page(name, content)


def page(name: str, content: bytes, encoding: str = "") -> Page | cleaning.Drop:
  """Returns a `Page`, or a Drop if it has more than LARGEST_PAGE bytes.

  Args:
    name: the address of the page, or the name of its file.
    content: the bytes of the page; of a page that is too large, only the first
      bytes, more than LARGEST_PAGE.
    encoding: the encoding that the server stated, or "".
  """
  if len(content) > LARGEST_PAGE:
    return cleaning.Drop(_TOO_LARGE, name[:80])
  return Page(name, content, encoding)


def main_text(page: Page) -> tuple[str, ...] | cleaning.Drop:
  """Returns the lines of a page's main text, or a Drop.

  The result is a Drop for a page that cannot be decoded or has no main text. A
  line that occurs several times is returned once.
  """
  try:
    text = markup.decoded(page.content, page.encoding)
  except (ValueError, LookupError):
    return cleaning.Drop(_NO_PAGE, page.name[:80])
  if not text.strip():
    return cleaning.Drop(_NO_TEXT, page.name[:80])
  extracted = _extract()(text, False)
  if len(extracted) < _SHORT:
    # Main text in an element called "comments" counts as comments, and comes
    # twice with them.
    extracted = max(extracted, _extract()(text, True), key=len)
  lines = tuple(dict.fromkeys(_lines(extracted)))
  return lines or cleaning.Drop(_NO_TEXT, page.name[:80])


def _lines(extracted: str) -> Iterator[str]:
  """Yields the lines of trafilatura's text that are not blank.

  Each cell of a table is a line; the marks of list items are removed.
  """
  for line in extracted.split("\n"):
    is_row = line.startswith("|")
    for cell in line.split("|") if is_row else [line.removeprefix("- ")]:
      if stripped := cell.strip():
        yield stripped


@functools.cache
def _extract() -> Callable[[str, bool], str]:
  """Returns a function that extracts the main text of a page.

  The function takes the HTML, and whether comments belong to the main text; it
  returns the main text, "" for none.
  """
  # Imported here, since it takes half a second and is needed for pages alone.
  import trafilatura

  # It logs an error for each page without text, which is counted here.
  py_logging.getLogger("trafilatura").setLevel(py_logging.CRITICAL)

  def extract(text: str, with_comments: bool) -> str:
    return trafilatura.extract(text, include_comments=with_comments) or ""

  return extract
