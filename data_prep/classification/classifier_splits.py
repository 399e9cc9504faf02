"""Splits rows into training and held-out rows: by content hash, or by position.

    train, held_out = classifier_splits.split(rows)

The split by hash depends neither on the order of the rows nor on a seed. Copies
of a text, near copies too, stay on one side. The split by position is that of
the published scores of Eduge.
"""

import collections
import hashlib
import math
import re
from collections.abc import Sequence

import numpy as np

from data_prep.base import options
from data_prep.classification import classifier_data, near_duplicates

# Salt of the hashes. It is constant, so that the split depends neither on the
# seed nor on the order of the rows.
_SALT = b"albert-mn held-out rows"

# Two texts are copies if they share at least this part of their word pairs:
# about one word in ten differs then. Of 23,378 headlines, 165 are such copies.
SIMILARITY = 0.6


def split(
  rows: Sequence[classifier_data.Row], fraction: float = 0.1
) -> tuple[list[classifier_data.Row], list[classifier_data.Row]]:
  """Returns (training rows, held-out rows), chosen by the hash of the text.

  About the same fraction of each label's rows is held out. Copies of a text are
  either all held out or all training rows. The order of the rows does not
  matter.

  Args:
    rows: rows with one label each.
    fraction: wanted share of each label's rows to hold out. At least one text
      of each label is held out.

  Returns:
    the training and the held-out rows, each in their given order.

  Raises:
    options.InputError: for a label with a single text, which cannot be both
      held out and trained on.
  """
  groups = copies(rows)
  labels = [row.label for row in rows]
  _check_divisible(labels, groups)
  held_out = by_hash(rows, labels, groups, fraction, every_label=True)
  return (
    [row for index, row in enumerate(rows) if index not in held_out],
    [row for index, row in enumerate(rows) if index in held_out],
  )


# The placeholders of `tweets.clean` for a link and a mention: texts that differ
# in their links alone are copies.
_PLACEHOLDER = re.compile(r"(?<!\S)(?:http|@)(?!\S)")


def content(row: classifier_data.Row) -> str:
  """Returns the text of a row that is compared to find copies.

  It is the text of the row, or the two texts of a pair, without the
  placeholders of links and mentions.
  """
  text = f"{row.text} {row.text_pair}" if row.text_pair else row.text
  return _PLACEHOLDER.sub("", text) or text


def copies(
  rows: Sequence[classifier_data.Row], similarity: float = SIMILARITY
) -> list[list[int]]:
  """Returns groups of rows that are copies of each other, as row indices.

  Every row is in one group; a row without a copy is alone in its group.

  Args:
    rows: the rows.
    similarity: the smallest share of common word pairs of near copies; 0 for
      equal texts only.
  """
  return near_duplicates.clusters(list(map(content, rows)), similarity)


def copied(
  train: Sequence[classifier_data.Row],
  held_out: Sequence[classifier_data.Row],
  similarity: float = SIMILARITY,
) -> dict[int, near_duplicates.Copy]:
  """Returns the held-out rows that are copies of training rows.

  Args:
    train, held_out: the rows.
    similarity: the smallest similarity of a near copy; 0 for equal texts only.

  Returns:
    index of a held-out row → the copy: index of the training row, similarity.
  """
  return near_duplicates.between(
    list(map(content, train)), list(map(content, held_out)), similarity
  )


def strata(rows: Sequence[classifier_data.Row], label_type: str) -> list[str]:
  """Returns the stratum of each row, as a name.

  A split keeps the share of each stratum. The stratum of a row is its label, or
  of several labels the rarest. Rows of numbers or entities are all in the same
  stratum.
  """
  if label_type == "class":
    return [row.label for row in rows]
  if label_type != "multi_label":
    return [""] * len(rows)
  count = collections.Counter(name for row in rows for name in row.labels)
  return [
    min(row.labels, key=lambda name: (count[name], name), default="")
    for row in rows
  ]


def by_hash(
  rows: Sequence[classifier_data.Row],
  strata: Sequence[str],
  groups: Sequence[list[int]],
  fraction: float,
  every_label: bool = False,
) -> set[int]:
  """Chooses the rows to hold out: in each stratum, groups with lowest hashes.

  Args:
    rows: all rows.
    strata: the stratum of each row. A group with several strata belongs to the
      most frequent of them.
    groups: indices of the rows to choose from; a group stays together.
    fraction: wanted share of each stratum's rows to hold out; groups that do
      not fit make it smaller or larger.
    every_label: True: at least one group of each stratum is held out. False:
      the same, unless this takes more than twice the fraction (and more than 20
      rows), as with thousands of labels of a few rows; a small stratum then
      gives a row only with the probability that keeps the mean.

  Returns:
    the indices of the chosen rows. A stratum with a single group gives none.
  """
  by_stratum = _by_stratum(strata, groups)
  sizes = {name: sum(map(len, by_stratum[name])) for name in by_stratum}
  least = sum(max(1, round(fraction * size)) for size in sizes.values())
  each = every_label or least <= max(2 * fraction * sum(sizes.values()), 20)
  held_out: set[int] = set()
  for name, members in by_stratum.items():
    share = fraction * sizes[name]
    wanted = max(1, round(share)) if each else _by_chance(name, share)
    if wanted:
      held_out.update(_lowest_hashes(rows, members, wanted))
  return held_out


def parts(
  rows: Sequence[classifier_data.Row], strata: Sequence[str], number: int
) -> list[set[int]]:
  """Divides the rows into parts of similar size (folds), by text hash.

  Copies of a text stay in one part, and each stratum is spread over the parts.
  A stratum with a single group of copies is in no part.

  Args:
    rows: the rows.
    strata: the stratum of each row, the result of `strata`.
    number: number of parts.

  Returns:
    the indices of the rows of each part; empty sets if there are too few texts.
  """
  divided: list[set[int]] = [set() for _ in range(number)]
  for _, groups in sorted(_by_stratum(strata, copies(rows)).items()):
    taken = [0] * number
    for group in _by_hash(rows, groups) if len(groups) > 1 else ():
      place = min(range(number), key=lambda p: (taken[p], len(divided[p])))
      divided[place].update(group)
      taken[place] += len(group)
  return divided


def _by_stratum(
  strata: Sequence[str], groups: Sequence[list[int]]
) -> dict[str, list[list[int]]]:
  """Returns stratum → its groups of rows.

  A group belongs to the most frequent stratum of its rows.
  """
  by_stratum: dict[str, list[list[int]]] = collections.defaultdict(list)
  for group in groups:
    by_stratum[_commonest([strata[index] for index in group])].append(group)
  return by_stratum


def _by_hash(
  rows: Sequence[classifier_data.Row], groups: Sequence[list[int]]
) -> list[list[int]]:
  """Returns groups of rows, sorted by a hash of one text of each group.

  Of the texts of a group, the first in alphabetical order is hashed. The lowest
  hash of all its texts would favour large groups.
  """
  return sorted(
    groups, key=lambda group: _hash(min(content(rows[i]) for i in group))
  )


def _commonest(names: Sequence[str]) -> str:
  """Returns the most frequent name; of several, the first alphabetically."""
  count = collections.Counter(names)
  return min(count, key=lambda name: (-count[name], name))


def _by_chance(name: str, share: float) -> int:
  """Returns `share` rounded up or down at random, with the mean `share`.

  Args:
    name: the random key: the same name and share give the same result.
    share: the number to round.
  """
  chance = int.from_bytes(_hash(name)[:8], "big") / 2**64
  return math.floor(share) + (chance < share % 1)


def _lowest_hashes(
  rows: Sequence[classifier_data.Row],
  groups: Sequence[list[int]],
  wanted: int,
) -> list[int]:
  """Returns about `wanted` row indices, of the groups with the lowest hashes.

  A group that would exceed `wanted` is skipped. If every group exceeds it, the
  smallest group is taken alone. At least one group is never taken, so that the
  result for a single group is [].

  Args:
    rows: all rows.
    groups: groups of copies in a stratum, as row indices.
    wanted: number of rows to take.
  """
  ordered = _by_hash(rows, groups)
  taken: list[int] = []
  number = 0
  for group in ordered:
    if len(taken) + len(group) <= wanted and number < len(groups) - 1:
      taken += group
      number += 1
  if not taken and len(groups) > 1:
    smallest: list[int] = min(ordered, key=len)
    taken += smallest
  return taken


def _hash(text: str) -> bytes:
  """Returns a salted SHA-256 of a text, 32 bytes.

  Letter case and the amount of white space make no difference.
  """
  key = near_duplicates.text_key(text)
  return hashlib.sha256(_SALT + key.encode()).digest()


def _check_divisible(
  labels: Sequence[str], groups: Sequence[list[int]]
) -> None:
  """Raises InputError for a label of which all rows are copies of one text."""
  texts = collections.Counter(
    _commonest([labels[index] for index in group]) for group in groups
  )
  lone = [name for name in sorted(set(labels)) if texts[name] < 2]
  if lone:
    count = labels.count(lone[0])
    times = "once" if count == 1 else f"{count} times, with one text"
    more = f" (and {len(lone) - 1} labels more)" if len(lone) > 1 else ""
    raise options.InputError(
      "at least two texts of every label, to train on one and evaluate on "
      "the other",
      f"label {lone[0]!r} {times}{more}",
      "merge or remove it, or give --eval_file",
    )


def predecessor(count: int) -> tuple[np.ndarray, np.ndarray]:
  """Splits row positions as the authors of Eduge's published scores did.

  The split is that of scikit-learn's `train_test_split(rows, test_size=0.2,
  random_state=42)`: the first fifth, rounded up, of numpy's permutation is the
  test part. Copies of a text may fall into both parts.

  Returns:
    The positions of the training rows and of the test rows, in the order of the
    permutation.
  """
  order = np.random.RandomState(42).permutation(count)
  test = math.ceil(0.2 * count)
  return order[test:], order[:test]
