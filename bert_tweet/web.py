"""Pages in one file each: markup, style, scripts and data of web/, together.

A page says itself, by their hashes, which scripts and styles may run in it:
whatever a text or a label holds, nothing else does.
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
  """Returns a page.

  Args:
    name: of its markup in web/, with the places {{style}}, {{script}},
      {{data}}, {{policy}} and one for each of `words`.
    scripts: names in web/, in order; they share one scope.
    data: JSON, which the scripts find under the id "data".
    words: texts by the name of their place.
    connect: which addresses the page may fetch from, as CSP has it.
  """
  style = _read("style.css")
  script = (
    '"use strict";\n(() => {\n' + "\n".join(map(_read, scripts)) + "\n})();\n"
  )
  places = {
    "style": style,
    "script": script,
    # What ends a script element must not stand in one.
    "data": data.replace("<", "\\u003c"),
    "policy": policy([script], [style], connect),
    **{key: html.escape(text) for key, text in (words or {}).items()},
  }
  return re.sub(r"\{\{(\w+)\}\}", lambda match: places[match[1]], _read(name))


def policy(scripts: Sequence[str], styles: Sequence[str], connect: str) -> str:
  """Returns a Content-Security-Policy for inline scripts and styles."""
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
  """Returns the policy that a page states of itself."""
  match = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
  assert match, "document() put it there"
  return match[1]


def _hash(content: str) -> str:
  digest = hashlib.sha256(content.encode("utf-8")).digest()
  return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _read(name: str) -> str:
  return (_FOLDER / name).read_text(encoding="utf-8")
