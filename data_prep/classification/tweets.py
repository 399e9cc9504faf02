"""Reads tweets from several kinds of dumps, and cleans them.

    clean("RT-д баярлалааааа!!!!! @bold https://t.co/x")  # "RT-д баярлалаа!!! @ http"

The dumps are the predecessor's TSV (text and label), and CSV or JSON lines of
Twitter's API 1.1 (`full_text`, `user.screen_name`) and 2 (`text`, `author_id`)
and of snscrape (`content`, `user.username`). The label is `label`, or else the
author. Retweets are left out, since they are another person's words.

This module is in data_prep, not in bert_tweet: rows for training (data_prep),
for evaluation (albert_mn) and typed texts (bert_tweet) must be cleaned alike,
and imports go from bert_tweet towards data_prep only.
"""

import dataclasses
import html
import html.entities
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_prep.base import options
from data_prep.classification import classifier_data
from data_prep.files import tables
from data_prep.text import alignment, latin_script, normalization

RETWEET = "retweet"
ANOTHER_AUTHOR = "another author"
NOTHING_LEFT = "nothing but links and mentions"
# The prefix of a text in Latin letters with --latin_mongolian=mark.
MARK = "[латин]"

_TEXTS = ("full_text", "text", "content", "rawContent", "renderedContent")
_AUTHORS = (
  "author",
  "username",
  "screen_name",
  "user_screen_name",
  "author_id",
)
_KEYS = (
  *_TEXTS,
  *_AUTHORS,
  "label",
  "user",
  "user.screen_name",
  "user.username",
  "extended_tweet",
  "retweeted_status",
  "retweetedTweet",
  "referenced_tweets",
  "data",
)


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """The tweets to use, and the treatment of Mongolian in Latin letters."""

  latin_mongolian: str = options.option(
    "keep",
    "What to do with Mongolian in Latin letters, for --source=tweets. "
    f"keep: leave as written. mark: put {MARK} ahead. transliterate: write "
    "in Cyrillic, which is right for about five words in six.",
    choices=("keep", "mark", "transliterate"),
  )
  authors: str = options.option(
    "",
    "Authors whose tweets are used, separated by commas, for "
    "--source=tweets. By default the tweets of all authors are used.",
  )


# A row, or a bad row, or the reason why the tweet is left out.
Result = classifier_data.Row | tables.Bad | str


def stream(path: str, settings: Options) -> Iterator[tuple[int, Result]]:
  """Yields (line number, result) of each tweet in a dump.

  A result is the cleaned tweet as a row, a `Bad` for a bad row, or the reason
  why the tweet is left out.

  Args:
    path: .csv, .tsv or .jsonl, compressed or not.
    settings: how the tweets are chosen and cleaned.

  Raises:
    options.InputError: for another kind of file, or a file without rows.
  """
  names = tables.header(path)
  if names is None or (
    any(name in names for name in _TEXTS) and "label" not in names
  ):
    yield from _dump(path, settings)
    return
  columns = classifier_data.tweet_columns(path)
  for line, row in classifier_data.stream(path, columns, labelled=True):
    if isinstance(row, tables.Bad):
      yield line, row
    else:
      yield line, _row(line, row.text, row.label, settings)


def _dump(path: str, settings: Options) -> Iterator[tuple[int, Result]]:
  """Yields (line number, result) of each tweet dumped by Twitter or snscrape.

  A result is the same as in `stream`. A line of API 2 may hold several tweets.
  """
  wanted = [tables.Wanted(name, "", required=False) for name in _KEYS]
  for line, cells in tables.cells(path, wanted):
    if isinstance(cells, tables.Bad):
      yield line, cells
      continue
    values = dict(zip(_KEYS, cells, strict=True))
    # API 2 gives pages: {"data": [tweets]}.
    data = values["data"]
    for tweet in data if isinstance(data, list) else [data or values]:
      yield line, _tweet(line, tweet, settings)


def _tweet(line: int, tweet: Any, settings: Options) -> Result:
  """Returns the row of a tweet, a `Bad`, or the reason to leave the tweet out.

  Args:
    line: the number of the tweet's line.
    tweet: the value in the dump, which should be an object.
    settings: how tweets are chosen and cleaned.
  """
  if not isinstance(tweet, Mapping):
    return tables.Bad("a tweet", repr(tweet)[:60], "mend or remove the row")
  text = _text(tweet)
  if text is None:
    return tables.Bad(
      f"a text under {', '.join(_TEXTS)}", "none", "mend or remove the row"
    )
  if _is_retweet(tweet):
    return RETWEET
  label = tweet.get("label")
  label = _author(tweet) if label in (None, "") else str(label).strip()
  if not label:
    return tables.Bad(
      "a label or an author", "neither", "mend or remove the row"
    )
  return _row(line, text, label, settings)


def _text(tweet: Mapping[str, Any]) -> str | None:
  """Returns the text of a tweet; None if it has no text.

  An extended tweet also has a truncated text; its whole text is returned.
  """
  whole = tweet.get("extended_tweet")
  if isinstance(whole, Mapping):
    tweet = {**tweet, **whole}
  texts = (tweet.get(name) for name in _TEXTS)
  return next((t for t in texts if isinstance(t, str) and t.strip()), None)


def _author(tweet: Mapping[str, Any]) -> str:
  """Returns the name of a tweet's author, else the author's number, else ""."""
  user = tweet.get("user")
  names = [user] if isinstance(user, str) else []
  for holder, keys in (
    (user if isinstance(user, Mapping) else {}, ("screen_name", "username")),
    (tweet, ("user.screen_name", "user.username", *_AUTHORS)),
  ):
    names += [str(holder[key]) for key in keys if holder.get(key)]
  return next((name.strip().lstrip("@") for name in names if name.strip()), "")


def _is_retweet(tweet: Mapping[str, Any]) -> bool:
  """Returns whether the fields of a dump say that a tweet is a retweet."""
  if tweet.get("retweeted_status") or tweet.get("retweetedTweet"):
    return True
  references = tweet.get("referenced_tweets")
  return "retweeted" in str(references) if references else False


def _row(line: int, text: str, label: str, settings: Options) -> Result:
  """Cleans a tweet; returns it as a row, or the reason to leave it out.

  Args:
    line: the number of the tweet's line.
    text: the text of the tweet.
    label: the label of the row, such as the author.
    settings: how tweets are chosen and cleaned.
  """
  if re.match(r"RT @\w+", text):
    return RETWEET
  authors = [name.strip() for name in settings.authors.split(",")]
  if settings.authors and label not in authors:
    return ANOTHER_AUTHOR
  cleaned = clean(text, settings.latin_mongolian)
  if not cleaned.replace("http", "").replace("@", "").strip():
    return NOTHING_LEFT
  return classifier_data.Row(line, cleaned, label)


_LINK = re.compile(r"(?:https?://|www\.|pic\.twitter\.com/)\S+", re.IGNORECASE)
_MENTION = re.compile(r"(?<![\w@])@\w+")
# Variation selectors and skin colours of emoji.
_VARIANT = re.compile("[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]")
# Long vowels have two letters, no word has three; Roman numbers do.
_LETTERS = re.compile(r"([^\W\d_IVXLCM])\1{2,}")
_REPEATED = re.compile(r"([^\s\d.]{1,4}?)\1{3,}|(\.)\.{3,}")


def clean(text: str, latin_mongolian: str = "keep") -> str:
  """Returns the text of a tweet as a model should read it.

  HTML's escapes are resolved. Links and mentions become `http` and `@`: that
  there is one is useful, but a name would give the author away. The text is
  normalised (`normalization.normalize`). A letter that is repeated three times
  or more is kept twice (баярлалааааа); signs, emoji and syllables that are
  repeated four times or more are kept three times (!!!!!, хахахаха). Upper case
  stays.

  Args:
    text: the tweet's text as its author wrote it.
    latin_mongolian: "keep", "mark" or "transliterate", which decides the form
      of Mongolian in Latin letters.
  """
  return traced(text, latin_mongolian).text


def traced(text: str, latin_mongolian: str = "keep") -> alignment.Traced:
  """Returns a tweet cleaned as by `clean`, with the origin of each letter."""
  cleaned = _unescaped(alignment.Traced.of(text))
  cleaned = cleaned.sub(_LINK, "http").sub(_MENTION, "@").sub(_VARIANT, "")
  cleaned = normalization.traced(cleaned).sub(_LETTERS, r"\1\1")
  cleaned = cleaned.sub(_REPEATED, lambda match: 3 * (match[1] or match[2]))
  if latin_mongolian == "keep" or not is_latin(cleaned.text):
    return cleaned
  if latin_mongolian == "mark":
    return cleaned.edited([(0, 0, f"{MARK} ")])
  return cleaned.edited(_in_cyrillic(cleaned.text))


def _in_cyrillic(text: str) -> Iterator[alignment.Edit]:
  """Yields the edits that write a text's Latin words in Cyrillic.

  Links and hashtags are left as they are. An edit is (begin, end, word).
  """
  spans = [match.span() for match in _NO_WORDS.finditer(text)]
  begins = [0, *(end for _, end in spans)]
  ends = [*(begin for begin, _ in spans), len(text)]
  for begin, end in zip(begins, ends, strict=True):
    for match in latin_script.LATIN_WORD.finditer(text, begin, end):
      yield *match.span(), latin_script.cyrillic_word(match[0])


def _unescaped(text: alignment.Traced) -> alignment.Traced:
  """Returns a text without HTML's escapes, however often it was escaped.

  So cleaned text stays the same when it is cleaned again, which happens to the
  rows of a set at a prediction. The function goes from the end to the
  beginning, so that the text after an "&" has its final form: one pass is
  enough for &amp;amp;lt;.
  """
  if "&" not in text.text:
    return text
  placed: list[_Placed] = []  # the last character first
  for place in range(len(text.text) - 1, -1, -1):
    placed.append((text.text[place], place, place + 1))
    while placed and placed[-1][0] == "&":
      size, meant = _escape("".join(x for x, _, _ in placed[:-_WINDOW:-1]))
      if not size:
        break
      begin, end = placed[-1][1], placed[-size][2]
      del placed[-size:]
      placed += [(letter, begin, end) for letter in reversed(meant)]
  return text.edited(_edits(placed[::-1], len(text.text)))


# A character of the result, and the start and end of the text that it replaces.
_Placed = tuple[str, int, int]


def _edits(placed: Sequence[_Placed], size: int) -> Iterator[alignment.Edit]:
  """Yields the edits that turn a text into the characters of `placed`.

  Args:
    placed: the characters of the result, in order.
    size: number of characters of the text before the edits.
  """
  place = 0
  for (begin, end), group in itertools.groupby(placed, lambda x: x[1:]):
    if place < begin:  # an escape of nothing, such as &#1;
      yield place, begin, ""
    if end > begin + 1:
      yield begin, end, "".join(letter for letter, _, _ in group)
    place = end
  yield place, size, ""


# The escapes that html.unescape knows, with at most 30 digits in a number.
_ESCAPE = re.compile(
  r"&(?:#(?:[0-9]{1,30}(?![0-9])|[xX][0-9a-fA-F]{1,30}(?![0-9a-fA-F]));?"
  r"|(?P<name>[^\t\n\f <&#;]{1,32};?))"
)
_WINDOW = 40  # characters; no escape is longer


def _escape(text: str) -> tuple[int, str]:
  """Returns (length, character) of an HTML escape at the start of a text.

  The length is 0 if the text does not begin with an escape such as `&amp;`. For
  a name without a semicolon, the longest known beginning counts (HTML, section
  13.2.5.73).
  """
  match = _ESCAPE.match(text)
  if match is None:
    return 0, ""
  name = match["name"]
  if name is None:
    return len(match[0]), html.unescape(match[0])
  for size in range(len(name), 1, -1):
    if (meant := html.entities.html5.get(name[:size])) is not None:
      return 1 + size, meant
  return 0, ""


_NO_WORDS = re.compile(r"http\b|#\w+")


def is_latin(text: str) -> bool:
  """Returns whether a cleaned tweet is Mongolian in Latin letters.

  Links and hashtags do not count.
  """
  return latin_script.is_mongolian(_NO_WORDS.sub("", text))
