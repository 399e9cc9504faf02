"""Repairs printed text: joins broken lines and words, and corrects spaces.

known = typesetting.words(["Монгол хэл-", "ний толь , УИХ-", "ын тогтоол."])
typesetting.paragraphs(["Монгол хэл-", "ний толь , УИХ-", "ын тогтоол."], known)
# ["Монгол хэлний толь, УИХ-ын тогтоол."]
"""

import re
from collections.abc import Iterable, Sequence, Set

_SOFT_HYPHEN = re.compile("\u00ad\\s*")
_WORD = re.compile(r"[^\W\d_]+(?:[-‐][^\W\d_]+)*")
_BROKEN = re.compile(r"\b(\w+)[-‐](\s+)(\w+)")
_CLOSED = re.compile(r"[.!?…:][\"'»“”’)\]]*$")
# An initial, such as "Ц." before "Дорж", at the end of a line ends no sentence.
_INITIAL = re.compile(r"(?<!\w)[А-ЯӨҮЁA-Z]\.$")
_SPEECH = re.compile(r"[-–—•]\s")
_LONE_CAPITAL = re.compile(r"[«“„\"(]?[А-ЯӨҮЁ]$")
_NO_LETTERS = re.compile(r"[\W\d_]*")
_PAGE_NUMBER = re.compile(r"\W*\d{1,4}\W*")


def words(texts: Iterable[str]) -> frozenset[str]:
  """Returns the different words of a book, in lower case: хэлний, аав-ээж.

  Parts with hyphens between are one word; numbers are no words.

  `paragraphs` uses these words to decide whether a hyphen at the end of a line
  belongs to the word.
  """
  return frozenset(
    word
    for text in texts
    for word in _WORD.findall(_SOFT_HYPHEN.sub("", text).lower())
  )


def paragraphs(blocks: Sequence[str], known: Set[str]) -> list[str]:
  """Joins the blocks of a chapter into paragraphs, and repairs their text.

  Page numbers are dropped. Other blocks without letters are dropped too, and
  end a paragraph. The result is each paragraph as `mended` returns it.

  Args:
    blocks: paragraphs or printed lines, in order. A line break in a block is
      the end of a printed line.
    known: the result of `words` for the whole book.
  """
  width = _width(blocks)
  whole: list[list[str]] = []  # of pieces, since a paragraph may be long
  last = ""  # the block that may go on
  for block in blocks:
    if _NO_LETTERS.fullmatch(block):
      last = last if _PAGE_NUMBER.fullmatch(block) else ""
    elif last and _goes_on(last, block, width):
      glued = _LONE_CAPITAL.match(last) and block[0].islower()
      whole[-1] += ["" if glued else "\n", block]
      last = block
    else:
      whole.append([block])
      last = block
  return [mended("".join(pieces), known) for pieces in whole]


def _width(blocks: Sequence[str]) -> float:
  """Returns the smallest length of a full printed line, in characters.

  The result is infinity if the blocks are whole paragraphs. Blocks are taken
  for printed lines if nearly all have the same length and many begin with a
  lower-case letter; the lines of a verse begin with capitals. The bounds are
  guesses.
  """
  lengths = sorted(map(len, blocks))
  width = lengths[len(lengths) * 9 // 10] if len(lengths) > 3 else 0
  full = sum(length >= 0.75 * width for length in lengths)
  going_on = sum(block[:1].islower() for block in blocks)
  printed = full >= 0.6 * len(blocks) and going_on >= 0.4 * len(blocks)
  return 0.75 * width if 25 <= width <= 120 and printed else float("inf")


def _goes_on(line: str, following: str, width: float) -> bool:
  """Returns whether a paragraph goes on after a line.

  The result is True after an initial, such as "Ц."; after a line without a
  final stop, if the line is full or a lower-case letter follows; and after a
  full line with a final stop, unless direct speech follows.

  Args:
    line: the line.
    following: the next line.
    width: the smallest length of a full line, in characters.
  """
  if _INITIAL.search(line[-9:]):
    return True
  if _CLOSED.search(line[-9:]):
    return len(line) >= width and not _SPEECH.match(following)
  return following[:1].islower() or len(line) >= width


def mended(text: str, known: Set[str]) -> str:
  """Returns a text in one line, with broken words joined and spaces corrected.

  Soft hyphens are removed, and runs of white space become one space.

  Args:
    text: the text; a line break in it is the end of a printed line.
    known: the result of `words`.
  """
  text = _SOFT_HYPHEN.sub("", text)
  text = _BROKEN.sub(lambda match: _unbroken(match, known), text)
  return respaced(" ".join(text.split()))


def _unbroken(match: re.Match[str], known: Set[str]) -> str:
  """Returns a word that was broken at the end of a line, in one piece.

  хэл-/ний becomes хэлний; УИХ-/ын, Улаан-/Үд and 2019-/он keep the hyphen. The
  spelling of the word elsewhere in the book decides; if the word is not there,
  the letters beside the hyphen decide. If the word is not there and no line
  ended at the hyphen, the match is returned unchanged.

  Args:
    match: a match of _BROKEN.
    known: the result of `words`.
  """
  left, space, right = match.groups()
  whole, hyphenated = left + right, f"{left}-{right}"
  if hyphenated.lower() in known:
    return hyphenated
  if whole.lower() in known:
    return whole
  if "\n" not in space:
    return match[0]  # "аж- үйлдвэр": no line ended here
  alike = (
    left.isalpha()
    and right.isalpha()
    and left[-1].isascii() == right[0].isascii()
    and (left.isupper() == right.isupper() or not left[-1].isupper())
    and (right[0].islower() or left.isupper())
  )
  return whole if alike else hyphenated


# “ closes in „Сайн“ and opens in “Сайн”, so the characters beside it decide.
_AFTER_OPENING = re.compile(r"(?<!\S)([«“„(\[]) (?=\S)")
_BEFORE_CLOSING = re.compile(r"(?<=\S) ([»”)\]])(?=\W|$)")
# Not ".mn", ":)", "3 , 4" or "2 : 1".
_BEFORE_STOP = re.compile(
  r"(?<=[\w»”\"')\]…%°])(?<!\d(?= [,.:;] \d)) ([,;:]|[.!?]{1,3}|…)"
  r"(?=$|[\s»”\]])"
)
_LETTER = "[А-Яа-яӨөҮүЁё]"
# Not "Ц.Дорж", "ж.нь", "www.news.mn".
_BEHIND_STOP = re.compile(
  rf"(?<={_LETTER})([,;!?]|(?<=[а-яөүё][а-яөүё])[.:](?=[А-ЯӨҮЁ]))(?={_LETTER})"
)


def respaced(text: str) -> str:
  """Returns a text with correct spaces beside punctuation marks and quotes.

  "Тэр , « Сайн уу ? » гэв.Би ирлээ" becomes "Тэр, «Сайн уу?» гэв. Би ирлээ".
  """
  text = _AFTER_OPENING.sub(r"\1", text)
  text = _BEFORE_STOP.sub(r"\1", text)
  text = _BEFORE_CLOSING.sub(r"\1", text)
  return _BEHIND_STOP.sub(r"\1 ", text)
