r"""Measures how well, and how fast, letters of legacy fonts are repaired.

    python -m benchmarks.legacy_letters --broken_file=secret_history.txt \
      --clean_file='verne.txt,bible.txt' --foreign_file=ukrainian.txt

For broken files, the program prints the share of repaired words that occur in
the clean files, and the most frequent words that were not repaired, so that a
reader can judge them. In clean files no word should be changed. The program
then replaces ө and ү there by є, ї or v, and counts how many words the repair
restores, in single words and in whole lines. In foreign files є and ї are
right; the program counts the words that the repair changes.
"""

import collections
import dataclasses
import os
import re
import time
from collections.abc import Sequence

from data_prep.base import options
from data_prep.files import storage
from data_prep.text import legacy_letters, normalization

_WORD = re.compile(r"[^\W\d_]+")
_CYRILLIC = re.compile("[а-яА-ЯёЁөӨүҮ]")
_LEGACY = re.compile("[єїѳvЄЇѲVY]")
_BROKEN = {
  kind: str.maketrans("өүӨҮ", kind) for kind in ("єїЄЇ", "єvЄY", "ѳvѲV")
}


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the broken, clean and foreign text files."""

  broken_file: str = options.option(
    "",
    "Text files with letters of legacy fonts, as glob patterns separated "
    "by commas. Required.",
  )
  clean_file: str = options.option(
    "",
    "Text files with ө and ү, as glob patterns separated by commas. Required.",
  )
  foreign_file: str = options.option(
    "",
    "Text files in other languages, as glob patterns separated by commas.",
  )

  def check(self) -> None:
    options.require(self, "broken_file", "clean_file")


def main(settings: Options) -> None:
  """Prints the figures of the repair for each file, and its speed."""
  vocabulary: set[str] = set()
  everything: list[str] = []
  for path in storage.matching(settings.clean_file):
    lines = list(storage.lines(path))
    everything += lines
    vocabulary.update(_words([line.lower() for line in lines]))
    _print_clean(os.path.basename(path), lines)
  for path in storage.matching(settings.broken_file):
    lines = list(storage.lines(path))
    everything += lines
    _print_broken(os.path.basename(path), lines, vocabulary)
  if settings.foreign_file:
    for path in storage.matching(settings.foreign_file):
      _print_foreign(os.path.basename(path), list(storage.lines(path)))
  _print_speed(everything)


def _words(lines: Sequence[str]) -> list[str]:
  """Returns the words of lines, in order."""
  return [word for line in lines for word in _WORD.findall(line)]


def _repaired(lines: Sequence[str]) -> list[str]:
  """Returns the words of lines, in order, with legacy letters repaired."""
  return _words([legacy_letters.repair(line) for line in lines])


def _print_clean(name: str, lines: Sequence[str]) -> None:
  """Prints how many words of a clean file the repair changes.

  Then, for each set of letters of a legacy font, ө and ү are replaced by these
  letters. Printed are the number of words which that changes, and the shares of
  them that the repair restores when it is given each word alone, and whole
  lines.
  """
  words = _words(lines)
  pairs = zip(words, _repaired(lines), strict=True)
  touched = [word for word, repaired in pairs if word != repaired]
  print(
    f"clean    {name}: {len(touched)} of {len(words):,} words touched"
    f" {touched[:12] or ''}"
  )
  for kind, letters in _BROKEN.items():
    broken = [line.translate(letters) for line in lines]
    hurt = [old != new for old, new in zip(words, _words(broken), strict=True)]
    shares = [
      sum(
        was_hurt and word.lower() == now.lower()
        for was_hurt, word, now in zip(hurt, words, repaired, strict=True)
      )
      / max(1, sum(hurt))
      for repaired in (_repaired(_words(broken)), _repaired(broken))
    ]
    print(
      f"         {kind[:2]} for ө, ү: of {sum(hurt):,} words "
      f"{shares[0]:.2%} come back alone, {shares[1]:.2%} in their lines"
    )


def _print_broken(
  name: str, lines: Sequence[str], vocabulary: set[str]
) -> None:
  """Prints the share of a broken file's words that the repair changes.

  Args:
    name: the name of the file.
    lines: its lines.
    vocabulary: the lower-cased words of the clean files.
  """
  pairs = [
    (word, repaired)
    for word, repaired in zip(_words(lines), _repaired(lines), strict=True)
    if _LEGACY.search(word) and _CYRILLIC.search(word)
  ]
  good = [repaired for word, repaired in pairs if word != repaired]
  known = sum(word.lower() in vocabulary for word in good)
  left = collections.Counter(w for w, repaired in pairs if w == repaired)
  print(
    f"broken   {name}: {len(good) / max(1, len(pairs)):.2%} of "
    f"{len(pairs):,} words repaired, {known / max(1, len(good)):.2%} of these "
    f"stand in the clean files\n         left: {dict(left.most_common(12))}"
  )


def _print_foreign(name: str, lines: Sequence[str]) -> None:
  """Prints how many words of a file in another language the repair changes.

  The first twelve of them are printed too. Only words with a letter of a legacy
  font count, each once. The repair should change none.
  """
  words = sorted({word for word in _words(lines) if _LEGACY.search(word)})
  taken = [word for word in words if legacy_letters.repair(word) != word]
  print(
    f"foreign  {name}: {len(taken)} of {len(words):,} different words taken for "
    f"Mongolian: {taken[:12]}"
  )


def _print_speed(lines: Sequence[str]) -> None:
  """Prints the MB per CPU second of normalisation without and with repair."""
  size = sum(len(line.encode()) for line in lines) / 1e6
  for repair in (False, True):
    began = time.process_time()
    for line in lines:
      normalization.normalize(line, repair)
    rate = size / (time.process_time() - began)
    print(f"speed    normalised{', repaired' * repair}: {rate:.1f} MB/s")


if __name__ == "__main__":
  options.run(main, Options)
