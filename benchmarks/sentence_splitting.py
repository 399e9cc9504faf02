r"""Measures how well sentences are split, compared with punkt of NLTK.

    NLTK_DATA=nltk_data python -m benchmarks.sentence_splitting \
      --train_file='sample/pretrain/*.txt'

The program prints precision, recall and F1 of the sentence boundaries inside
paragraphs, for data_prep.text.sentences, for the English model of punkt, and
for punkt trained on Mongolian text. The English model, punkt_tab, is part of
the data of NLTK, in the folder that the environment variable NLTK_DATA names.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence

from nltk.tokenize import punkt

from data_prep.base import options
from data_prep.files import documents, storage
from data_prep.text import sentences

Split = Callable[[str], Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the gold sentences, and the text to train punkt on."""

  gold_file: str = options.option(
    "tests/gold/*.txt",
    "Text files with a sentence in each line and # before notes, as glob "
    "patterns separated by commas.",
  )
  train_file: str = options.option(
    "",
    "Mongolian text files to train punkt on, as glob patterns separated "
    "by commas. Required.",
  )

  def check(self) -> None:
    options.require(self, "gold_file", "train_file")


def main(settings: Options) -> None:
  """Prints the scores of each splitter for each gold file, and its speed."""
  splitters: dict[str, Split | None] = {
    "data_prep.text.sentences": sentences.split,
    "punkt, English": _english_punkt(),
    "punkt, Mongolian": _trained_punkt(settings.train_file),
  }
  golds = {path: _gold(path) for path in storage.matching(settings.gold_file)}
  for name, split in splitters.items():
    if split is None:
      print(f"{name:20} not there: NLTK_DATA names no folder with punkt_tab")
      continue
    for path, gold in golds.items():
      print(f"{name:20} {path}: {_scores(split, gold)}")
    everything = [" ".join(parts) for gold in golds.values() for parts in gold]
    print(f"{name:20} {_speed(split, everything):.1f} MB/s")


def _english_punkt() -> Split | None:
  """Returns the English splitter of punkt; None if NLTK_DATA lacks it."""
  try:
    return punkt.PunktTokenizer("english").tokenize
  except LookupError:
    return None


def _trained_punkt(patterns: str) -> Split:
  """Returns a splitter of punkt, trained on the files of a list of globs."""
  text = "\n".join(
    line for path in storage.matching(patterns) for line in storage.lines(path)
  )
  return punkt.PunktSentenceTokenizer(text).tokenize


def _gold(path: str) -> list[Sequence[str]]:
  """Returns the paragraphs of a gold file, each as its sentences."""
  lines = (line for line in storage.lines(path) if not line.startswith("#"))
  return list(documents.split(lines))


def _scores(split: Split, gold: Iterable[Sequence[str]]) -> str:
  """Returns precision, recall and F1 of a splitter's boundaries, as text.

  Args:
    split: the splitter.
    gold: paragraphs, each as its sentences.
  """
  pairs = [(_ends(split(" ".join(parts))), _ends(parts)) for parts in gold]
  right = sum(len(ours & theirs) for ours, theirs in pairs)
  predicted, wanted = (sum(map(len, ends)) for ends in zip(*pairs, strict=True))
  return (
    f"precision {right / predicted:.3f}, recall {right / wanted:.3f}, "
    f"F1 {2 * right / (predicted + wanted):.3f} of {wanted} boundaries"
  )


def _ends(parts: Sequence[str]) -> set[int]:
  """Returns the number of characters before each sentence boundary.

  White space is not counted, because splitters treat it differently.

  Args:
    parts: the sentences of the paragraph.
  """
  ends, position = set(), 0
  for part in parts[:-1]:
    position += len("".join(part.split()))
    ends.add(position)
  return ends


def _speed(split: Split, paragraphs: Sequence[str]) -> float:
  """Returns how many MB of UTF-8 text are split per CPU second."""
  began = time.process_time()
  for _ in range(10):
    for paragraph in paragraphs:
      split(paragraph)
  size = 10 * sum(len(paragraph.encode()) for paragraph in paragraphs) / 1e6
  return size / (time.process_time() - began)


if __name__ == "__main__":
  options.run(main, Options)
