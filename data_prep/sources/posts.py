"""Reads the posts of a person or channel as X, Telegram and Facebook export them.

Each post is a document. Exports are JSON: X writes `tweets.js`, an array behind
`window.YTD.tweets.part0 =`; Telegram `result.json`, with arrays under
`messages`; Facebook arrays of posts, and comments and messages under keys.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from data_prep.base import options
from data_prep.files import contents, tables
from data_prep.sources import json_arrays, rows
from data_prep.text import cleaning

_KEYS = "(?:messages|comments_v2|group_posts_v2|group_comments_v2|posts_v2)"
_RETWEET = re.compile(r"RT @\w+:")
_SHORT_LINK = re.compile(r"(?<!\s)\s*https?://t\.co/\w+")
# Parts of a message of Telegram that are no words of the author.
_NO_WORDS = ("link", "email", "phone", "bot_command", "mention", "custom_emoji")
_NO_POST = "no post with text"


def is_post(row: Any) -> bool:
  """Returns whether an item of a JSON array is a post of X or Facebook."""
  match row:
    case {"tweet": {"full_text": str()}} | {"timestamp": _, "data": [*_]}:
      return True
    case {"timestamp": _, "attachments": [*_]}:  # Facebook: a post of pictures
      return True
  return False


def documents(path: str, kind: str, bad_rows: str) -> Iterator[rows.Document]:
  """Yields each post as a tuple of its lines, or a Drop with the reason.

  The reasons are a retweet, no text, and an item that is not JSON.

  Args:
    path: the path of an export.
    kind: the kind of its content: contents.JSON_ARRAY, JSON_DOCUMENT or
      JAVASCRIPT.
    bad_rows: the value of --bad_rows.

  Raises:
    options.InputError: for JSON without an array of posts, and with
      bad_rows="stop" at an item that is not JSON.
  """
  key = _KEYS if kind == contents.JSON_DOCUMENT else ""
  is_empty = True
  for number, item in json_arrays.items(path, key):
    is_empty = False
    if isinstance(item, tables.Bad):
      yield rows.left_out(item, path, number, bad_rows)
      continue
    text = _text(item)
    if _RETWEET.match(text):
      yield cleaning.Drop("retweet", text[:80])
    elif lines := rows.full_lines(text):
      yield lines
    else:
      yield cleaning.Drop(_NO_POST)
  if is_empty and kind != contents.JSON_ARRAY:
    raise options.InputError(
      f"posts in {path}",
      f"{kind} that is no export of X, Telegram or Facebook",
      "write one object a line: jq -c '.[]'",
    )


def _text(item: Any) -> str:
  """Returns the text of a post; "" for a post without text or another value.

  Args:
    item: an item of an exported JSON array.
  """
  match item:
    case {"tweet": {"full_text": str(text)}}:
      return _SHORT_LINK.sub("", rows.plain(text))
    case {"type": "message", "text": text}:
      return _of_telegram(text)
    case {"sender_name": _, "content": str(text)}:
      return _of_facebook(text)
    case {"data": [*parts]}:
      return "\n".join(_of_facebook(text) for text in _posted(parts))
  return ""


def _of_telegram(text: Any) -> str:
  """Returns the words of a Telegram message; "" if `text` is of another type.

  Parts that are no words are left out: links, mentions, e-mail addresses, phone
  numbers, commands to bots, and custom emoji.

  Args:
    text: a string, which is returned unchanged, or a list of strings and of
      parts with a type.
  """
  if isinstance(text, str):
    return text
  parts = text if isinstance(text, list) else []
  return "".join(
    part if isinstance(part, str) else str(part.get("text", ""))
    for part in parts
    if isinstance(part, str)
    or (isinstance(part, Mapping) and part.get("type") not in _NO_WORDS)
  )


def _posted(parts: list[Any]) -> Iterator[str]:
  """Yields the texts of posts and comments in Facebook's data about a post.

  Args:
    parts: the items of the list `data` of a post; items without text are
      skipped.
  """
  for part in parts:
    match part:
      case {"post": str(text)} | {"comment": {"comment": str(text)}}:
        yield text


def _of_facebook(text: str) -> str:
  """Decodes a text of Facebook, which writes each byte of UTF-8 as a character.

  A text in another form is returned unchanged.
  """
  try:
    return text.encode("latin-1").decode("utf-8")
  except UnicodeError:
    return text
