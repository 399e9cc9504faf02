"""Finds label names that a person would read as the same name."""

import collections
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence

from absl import logging

# The variation selectors of traditional Mongolian, and those of all scripts.
_VARIATION_SELECTORS = frozenset(
  map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10)))
)


def spelling(name: str) -> str:
  """Returns a key that is equal for names that a person reads as the same.

  Two names with the same key differ by upper and lower case, by white space (a
  no-break space too), by invisible characters (a zero-width space), or by how a
  letter is encoded (й as one code point or as и and a breve).
  """
  folded = unicodedata.normalize(
    "NFD", unicodedata.normalize("NFD", name).casefold()
  )
  return "".join(letter for letter in folded if not _is_blank(letter))


def look(name: str) -> str:
  """Returns a name as a reader sees it: in NFC, with single spaces.

  Invisible characters, and white space at the ends, are removed.
  """
  composed = unicodedata.normalize("NFC", name)
  seen = (c for c in composed if c.isspace() or not _is_blank(c))
  return " ".join("".join(seen).split())


def _is_blank(letter: str) -> bool:
  """Returns whether a character is white space or invisible."""
  # Cc and Cf are control and format characters, which are not seen either.
  return (
    letter.isspace()
    or unicodedata.category(letter) in ("Cc", "Cf")
    or letter in _VARIATION_SELECTORS
  )


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
  """Returns the groups of different names with the same `spelling`.

  A group has two names or more. The groups, and the names in each, are sorted.
  """
  groups = collections.defaultdict(set)
  for name in names:
    groups[spelling(name)].add(name)
  return sorted(tuple(sorted(g)) for g in groups.values() if len(g) > 1)


def shown(name: str) -> str:
  """Returns a name in single quotes, where invisible characters are escaped.

  Combining marks are escaped too: и with a breve would look like й.
  """
  return "'" + "".join(map(_escaped, name)) + "'"


def _escaped(letter: str) -> str:
  """Returns a character, as its escape if it is invisible or a mark."""
  # The categories Mn, Mc and Me are marks.
  if letter.isprintable() and unicodedata.category(letter)[0] != "M":
    return letter
  return letter.encode("unicode_escape").decode("ascii")


def warn_of_alike(counts: Mapping[str, int]) -> None:
  """Logs a warning for each group of labels with the same `spelling`.

  Args:
    counts: label → its number of rows.
  """
  for group in alike(counts):
    logging.warning(
      "labels that differ by case, white space or the encoding of a letter "
      "alone: %s; they stay %d different labels: if they mean one, write them "
      "alike in the rows",
      ", ".join(f"{shown(name)} ({counts[name]:,} rows)" for name in group),
      len(group),
    )


def distinct(names: Sequence[str], taken: Collection[str] = ()) -> list[str]:
  """Returns the names in order, each in one line; a repeated one is numbered.

  Runs of white space become one space, as tab-separated files have it. A name
  that is then in `taken`, or equals an earlier name, becomes "text (2)"; every
  other name stays as it is.

    distinct(["спорт", "text", "цаг  агаар"], {"text"})
    # ["спорт", "text (2)", "цаг агаар"]
  """
  lines = [" ".join(name.split()) for name in names]
  used = {*taken, *lines}
  seen = set(taken)
  unique_names = []
  for line in lines:
    number, unique = 1, line
    while unique in seen or (number > 1 and unique in used):
      number += 1
      unique = f"{line} ({number})"
    seen.add(unique)
    unique_names.append(unique)
  return unique_names
