"""Eduge: 75,661 Mongolian news articles in nine classes, as published.

The file is a CSV with the columns `news` and ` label`; the second name begins
with a space. The published scores are for a split by position, of which the
number of test rows of each class was published too.
"""

import collections
from collections.abc import Sequence

from absl import logging

from data_prep.base import options
from data_prep.classification import classifier_data

COLUMNS = classifier_data.Columns("news", "label")
ROWS = 75_661
# The classes in the order of scikit-learn's report, with their rows in the test
# part of `classifier_splits.predecessor`.
SUPPORTS = {
  "байгал орчин": 999,
  "боловсрол": 873,
  "спорт": 2736,
  "технологи": 1102,
  "улс төр": 2647,
  "урлаг соёл": 1457,
  "хууль": 1651,
  "эдийн засаг": 2509,
  "эрүүл мэнд": 1159,
}


def check(
  rows: Sequence[classifier_data.Row], test: Sequence[int], path: str
) -> None:
  """Raises InputError unless each class has its published number of test rows.

  Args:
    rows: all rows, in their order. A file with another number of rows than the
      published one is not compared; this is logged.
    test: positions of the test rows.
    path: the path of the file, for messages.

  Raises:
    options.InputError: when a number differs.
  """
  if len(rows) != ROWS:
    logging.info(
      "%s has %d rows, the published Eduge %d: the rows of each class are not "
      "compared with the published ones",
      path,
      len(rows),
      ROWS,
    )
    return
  counts = collections.Counter(rows[index].label for index in test)
  got = [counts.pop(name, 0) for name in SUPPORTS]
  if got != list(SUPPORTS.values()) or counts:
    unknown = "".join(
      f", {counts[name]} of {name!r}" for name in sorted(counts)
    )
    raise options.InputError(
      f"the published rows of each class in the test part of {path}, "
      f"{', '.join(map(str, SUPPORTS.values()))} of {', '.join(SUPPORTS)}",
      ", ".join(map(str, got)) + unknown,
      "give the file as it was published, its rows in their order, or "
      "--split=hash",
    )
