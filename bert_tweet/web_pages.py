"""Builds self-contained pages of the markup, style and scripts in web/.

A page states the hashes of its scripts and styles: a browser runs nothing else
in it, whatever a text or a label contains.
"""

import base64
import hashlib
import html
import pathlib
import re
from collections.abc import Mapping, Sequence

_FOLDER = pathlib.Path(__file__).parent / "web"


def document(
  name: str,
  *,
  scripts: Sequence[str],
  data: str,
  words: Mapping[str, str] | None = None,
  connect: str = "'none'",
) -> str:
  """Returns a page as HTML.

  Args:
    name: the name of the markup in web/, which has the placeholders {{style}},
      {{script}}, {{data}}, {{policy}} and one for each of `words`.
    scripts: names in web/, in order; they share one scope.
    data: JSON, which the scripts find under the id "data".
    words: name of a placeholder → the text in its place.
    connect: the addresses that the page may fetch from, in CSP's syntax.
  """
  style = _read("style.css")
  script = (
    '"use strict";\n(() => {\n' + "\n".join(map(_read, scripts)) + "\n})();\n"
  )
  places = {
    "style": style,
    "script": script,
    # The text "</script>" in the data would end the script element.
    "data": data.replace("<", "\\u003c"),
    "policy": policy([script], [style], connect),
    **{key: html.escape(text) for key, text in (words or {}).items()},
  }
  return re.sub(r"\{\{(\w+)\}\}", lambda match: places[match[1]], _read(name))


def policy(scripts: Sequence[str], styles: Sequence[str], connect: str) -> str:
  """Returns a Content-Security-Policy for a page with inline content.

  The policy allows the given scripts and styles, images in data: addresses, and
  requests to `connect`; nothing else is loaded.

  Args:
    scripts, styles: the contents of the page's script and style elements.
    connect: the addresses that the page may fetch from, in CSP's syntax.
  """
  return "; ".join(
    [
      "default-src 'none'",
      f"script-src {' '.join(map(_hash, scripts))}",
      f"style-src {' '.join(map(_hash, styles))}",
      "img-src data:",
      f"connect-src {connect}",
      "base-uri 'none'",
      "form-action 'none'",
    ]
  )


def policy_of(page: str) -> str:
  """Returns the Content-Security-Policy that an HTML page states.

  Args:
    page: a result of `document`.
  """
  match = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
  assert match, "document() put it there"
  return match[1]


def _hash(content: str) -> str:
  """Returns the hash of an inline script or style, as CSP writes it.

  It is a SHA-256 in base64, in the form 'sha256-…'.
  """
  digest = hashlib.sha256(content.encode("utf-8")).digest()
  return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _read(name: str) -> str:
  """Returns the content of a file in the folder web/."""
  return (_FOLDER / name).read_text(encoding="utf-8")
