"""Reads the spoken lines of subtitles: SubRip (.srt) and WebVTT (.vtt).

The two subtitles on the left give the line on the right:

1
00:00:01,000 --> 00:00:02,500
<i>- Сайн байна уу,</i>         "Сайн байна уу, дүү минь."

2
00:00:02,500 --> 00:00:04,000
дүү минь.
"""

import html
import re
from collections.abc import Iterable, Iterator

from data_prep.files import documents

_TIMES = re.compile(r"(\d+:)?\d\d:\d\d[.,]\d{3}\s+-->\s")
_NUMBER = re.compile(r"\d+")
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|<[\d:.]+>|\{\\[^{}]*\}")
# A sound or a name: (инээв), [хөгжим], ♪.
_NOT_SPOKEN = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|[♪♫#*]+")
_DASH = re.compile(r"[-–—]\s*")
_END = re.compile(r"[.!?…:][\"»”’')]*$")


def spoken(lines: Iterable[str]) -> Iterator[tuple[str, ...]]:
  """Yields one document, a tuple with a line for each sentence or speaker.

  A sentence that goes on in the next subtitle becomes one line. A line that is
  shown again in the next subtitle, as in captions that roll, is read once.
  Text in brackets, such as sounds, is left out, and so are a dash before a line
  and markup. A file without spoken lines yields nothing.

  Args:
    lines: the lines of a file in either format.
  """
  sentences: list[str] = []
  open_line = ""
  before: list[str] = []
  for block in documents.split(lines):
    shown = _shown(block)
    for line in shown:
      if line in before:
        continue
      text = _DASH.sub("", line, count=1) if _DASH.match(line) else line
      if open_line and (_END.search(open_line) or text != line):
        sentences.append(open_line)
        open_line = text
      else:
        open_line = f"{open_line} {text}".strip()
    before = shown or before
  if open_line:
    sentences.append(open_line)
  if sentences:
    yield tuple(sentences)


def _shown(block: Iterable[str]) -> list[str]:
  """Returns the lines of a subtitle without times, markup and bracketed text.

  The result is [] for a block without times, such as a header or a note.

  Args:
    block: lines between two blank lines.
  """
  lines = list(block)
  times = [i for i, line in enumerate(lines) if _TIMES.match(line)]
  if not times:
    return []
  shown = []
  for at, line in enumerate(lines[times[0] + 1 :], start=times[0] + 1):
    # A file may lack the blank line in front of the next number and its times.
    if at in times or (at + 1 in times and _NUMBER.fullmatch(line)):
      continue
    text = html.unescape(_MARKUP.sub("", line))
    text = " ".join(_NOT_SPOKEN.sub(" ", text).split())
    if text.strip("-–— "):
      shown.append(text)
  return shown
