"""Decodes pages of HTML and XHTML, and refuses those that parsers choke on."""

import re

# A tag with as many attributes is none of a book's; libxml2 compares each
# attribute with all before it.
_MOST_ATTRIBUTES = 1000
_LONG_TAG = re.compile(rf"<[a-zA-Z][^<>]{{{4 * _MOST_ATTRIBUTES},}}")
_QUOTED = re.compile(r"\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z)")
_ENCODING = re.compile(
  rb"<\?xml[^>]*encoding\s*=\s*[\"']([\w.:-]+)|<meta[^>]*charset\s*=\s*"
  rb"[\"']?([\w.:-]+)",
  re.IGNORECASE,
)
_DECLARATIONS = re.compile(
  r"\s*(<\?xml[^>]*>)?\s*(<!DOCTYPE[^>\[]*\[.*?\]\s*>)?", re.DOTALL
)


def decoded(page: bytes, stated: str = "") -> str:
  """Returns the text of a page, without XML declaration and internal DTD.

  A document type without declarations in brackets stays. The encoding is that
  of the byte order mark; without a mark, the stated encoding; without that, the
  encoding that the page declares, or else UTF-8.

  Args:
    page: the bytes of a page.
    stated: the encoding that a server stated, or "".

  Raises:
    ValueError: for bytes that are not text, and for a tag with so many
      attributes that a parser would take minutes.
    LookupError: for an encoding that is unknown.
  """
  declared = _ENCODING.search(page[:1024])
  encoding = (declared[1] or declared[2]).decode() if declared else "utf-8"
  if page.startswith((b"\xff\xfe", b"\xfe\xff")):
    encoding = "utf-16"
  elif page.startswith(b"\xef\xbb\xbf"):
    encoding = "utf-8"
  elif stated:
    encoding = stated
  text = page.decode(encoding).removeprefix("\ufeff")
  if "\0" in text:
    raise ValueError("a page holds the byte 0x00")
  text = _DECLARATIONS.sub("", text, count=1)
  for tag in _LONG_TAG.finditer(text):
    if len(_QUOTED.sub("", tag[0]).split()) > _MOST_ATTRIBUTES:
      raise ValueError(f"a tag has more than {_MOST_ATTRIBUTES:,} attributes")
  return text
