"""Logs how far the training of a tokenizer is."""

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator

import sentencepiece
from absl import logging

_SECONDS = 10.0  # between two lines

# SentencePiece's own line about a round of training, and its other lines.
_ROUND = re.compile(rb"EM sub_iter=\d+ size=(\d+)")
_CHATTER = re.compile(
  rb"[IW]0000 00:00:|WARNING: All log messages before|  \w+: |\w+ \{|\}"
)
_END = b"\0\n"  # no line of a log


def told(sentences: Iterable[str], total: int, what: str) -> Iterator[str]:
  """Yields the sentences unchanged, and logs how many have been yielded.

  A line such as "7,000 of 9,000 sentences counted, 3 s left" is logged at most
  every ten seconds.

  Args:
    sentences: the sentences.
    total: the number of sentences.
    what: the text after the numbers, such as "sentences counted".
  """
  began = said = time.monotonic()
  for number, sentence in enumerate(sentences, start=1):
    yield sentence
    if number % 1000 == 0 and time.monotonic() - said > _SECONDS:
      said = time.monotonic()
      left = (said - began) * (total - number) / number
      logging.info(
        "%s of %s %s, %.0f s left", f"{number:,}", f"{total:,}", what, left
      )


@contextlib.contextmanager
def logged(size: int) -> Iterator[None]:
  """Logs, inside the context, the rounds of SentencePiece's training.

  SentencePiece writes its progress to standard error only, so that this
  function reads standard error meanwhile. A round is logged at most every ten
  seconds, and SentencePiece's other lines are dropped. Lines that other code
  writes to standard error appear as usual. After the context SentencePiece
  writes errors only.

  Args:
    size: the number of pieces that the model will have.
  """
  sys.stderr.flush()
  kept = os.dup(2)
  reading, writing = os.pipe()
  os.dup2(writing, 2)
  reader = threading.Thread(target=_read, args=(reading, kept, size))
  reader.start()
  try:
    yield
  finally:
    sys.stderr.flush()
    os.dup2(kept, 2)
    # Not closed for the end: a process that was started meanwhile may hold a copy.
    os.write(writing, _END)
    reader.join()
    os.close(writing)
    os.close(kept)
    sentencepiece.set_min_log_level(2)


def _read(reading: int, kept: int, size: int) -> None:
  """Reads standard error: logs SentencePiece's rounds, passes on other lines.

  Args:
    reading: the file descriptor to read from, until its end; then it is closed.
    kept: the file descriptor of the real standard error.
    size: the number of pieces that the model will have.
  """
  said = time.monotonic()
  with open(reading, "rb") as lines:
    for line in lines:
      if line.endswith(_END):
        os.write(kept, line.removesuffix(_END))
        return
      if match := _ROUND.search(line):
        if time.monotonic() - said > _SECONDS:
          said = time.monotonic()
          logging.info(
            "training: %s candidates left, %s wanted",
            f"{int(match[1]):,}",
            f"{size:,}",
          )
      elif not _CHATTER.match(line):
        os.write(kept, line)
