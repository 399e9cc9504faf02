"""Builds frozen sets of labelled rows: train, dev and test, with their hashes.

A set is a folder with `train.tsv`, `dev.tsv`, `test.tsv` and:

- `near_duplicates.tsv`: the rows of dev and test that are copies of training
  rows, so that a score without these rows can be computed;
- `left_out.tsv`: the rows that are in no part, each with its reason;
- `manifest.json`: the options, the number of rows of each label, the hashes.

The column `origin` of each row names its source as file:line. If a line of TSV
cannot hold every row, the files are `.jsonl` (`classifier_files`).
"""

import collections
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from data_prep.base import options
from data_prep.classification import (
  classifier_data,
  classifier_files,
  classifier_splits,
  eduge,
  label_names,
  tweets,
)
from data_prep.files import (
  json_files,
  manifest,
  manifest_fields,
  ownership,
  storage,
  tables,
  whole_folders,
)
from data_prep.text import similarity

KIND = "classifier_rows"
PARTS = classifier_files.PARTS
_SHOWN_LABELS = 20


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """The input, the split and the output of a frozen set."""

  input_file: str = options.option(
    "",
    "Files of labelled rows (.csv, .tsv or .jsonl, compressed or not), as "
    "glob patterns separated by commas. Required.",
  )
  output_dir: str = options.option(
    "",
    "Folder for the files train, dev and test with a manifest. Required.",
  )
  source: str = options.option(
    "table",
    "Kind of the input. table: any file, whose columns are chosen by name. "
    "eduge: the CSV of Eduge's news, with the columns news and label. "
    "tweets: dumps of tweets, which are cleaned. ner: JSON lines of text "
    "and labels, where labels are [[start, end, type], …].",
    choices=("table", "eduge", "tweets", "ner"),
  )
  split: str = options.option(
    "hash",
    "How rows are split. hash: by a hash of the text; labels are as "
    "frequent in each part as in the whole, and copies of a text stay in "
    "one part. predecessor: a fifth of the rows is the test part, drawn "
    "by position as for the published scores of Eduge (scikit-learn, "
    "random_state=42).",
    choices=("hash", "predecessor"),
  )
  test_fraction: float = options.option(
    0.1,
    "Share of the rows in the test part, for --split=hash.",
    minimum=0.0,
    maximum=0.9,
  )
  dev_fraction: float = options.option(
    0.1,
    "Share of the rows outside of the test part that go into the dev "
    "part, chosen by a hash of the text.",
    minimum=0.0,
    maximum=0.9,
  )
  near_duplicates: float = options.option(
    classifier_splits.SIMILARITY,
    "Smallest share of common word pairs at which two texts count as "
    "copies. 0 counts equal texts only.",
    minimum=0.0,
    maximum=1.0,
  )
  bad_rows: str = tables.bad_rows_option()

  def check(self) -> None:
    options.require(self, "input_file", "output_dir")
    similarity.check(self.near_duplicates)


def build(
  settings: Options,
  columns: classifier_data.Columns,
  cleaning: tweets.Options | None = None,
) -> dict[str, Any]:
  """Reads, splits and writes a set; returns the counts of its manifest.

  The counts are those of `_counts`, and latin_mongolian for tweets.

  Args:
    settings: what to read and how to split it.
    columns: the columns of --source=table, or the columns of the text and the
      labels of --source=ner.
    cleaning: how tweets are cleaned, for --source=tweets.

  Raises:
    options.InputError: for files that cannot be read or split, and when another
      program writes into the output folder.
  """
  with ownership.owning(settings.output_dir):
    return _build(settings, columns, cleaning or tweets.Options())


def _build(
  settings: Options, columns: classifier_data.Columns, cleaning: tweets.Options
) -> dict[str, Any]:
  """Reads, splits and writes a set; returns the counts of its manifest.

  This process must be the owner of the output folder.

  Args:
    settings: what to read and how to split it.
    columns: the columns that the user named.
    cleaning: how tweets are cleaned.
  """
  columns = source_columns(settings.source, columns)
  storage.require_writable(settings.output_dir)
  paths = storage.matching(settings.input_file)
  _refuse_overwriting(settings.output_dir, paths)
  read = _read(settings, columns, cleaning, paths)
  if settings.source == "eduge" and settings.split == "predecessor":
    _, test = classifier_splits.predecessor(len(read.rows))
    eduge.check(read.rows, test.tolist(), settings.input_file)
  groups = classifier_splits.copies(read.rows, settings.near_duplicates)
  parts = _parts(settings, columns, read, groups)
  copies = {
    name: _copies(read.rows, parts, name, groups, settings.near_duplicates)
    for name in ("dev", "test")
  }
  counts = _counts(columns, read, parts, copies)
  if settings.source == "tweets":
    latin = sum(tweets.is_latin(row.text) for row in read.rows)
    counts["latin_mongolian"] = latin
  is_ours = classifier_files.names().__contains__
  with whole_folders.replacing(settings.output_dir, is_ours) as folder:
    manifest.write(
      folder,
      KIND,
      parameters=_parameters(settings, columns, cleaning),
      files=classifier_files.write(folder, columns, read, parts, copies),
      counts=counts,
      inputs=manifest.hashes(paths),
    )
  _log(settings.output_dir, counts)
  return counts


def _refuse_overwriting(folder: str, paths: Sequence[str]) -> None:
  """Raises InputError if an output file would overwrite an input file."""
  for path in paths:
    same = os.path.abspath(os.path.dirname(path)) == os.path.abspath(folder)
    if same and os.path.basename(path) in classifier_files.names():
      raise options.InputError(
        "an --output_dir whose files are not the input",
        path,
        "give another folder",
      )


def source_columns(
  source: str, columns: classifier_data.Columns
) -> classifier_data.Columns:
  """Returns the columns to read from a source.

  Args:
    source: the value of --source.
    columns: the columns that the user named: the result for the source "table".
      For "ner", their text and label column are used.
  """
  if source == "eduge":
    return eduge.COLUMNS
  if source == "tweets":
    return classifier_data.Columns()
  if source == "ner":
    name, default = columns.label_column, classifier_data.Columns().label_column
    return classifier_data.Columns(
      columns.text_column,
      "labels" if name == default else name,
      label_type="entities",
    )
  return columns


def columns_of(folder: str) -> classifier_data.Columns:
  """Returns the columns of a finished set's files, as its manifest states them.

  Raises:
    options.InputError: when the folder is no finished set.
  """
  columns = (
    manifest_fields.Parameters.of(
      manifest.check(folder, KIND)["parameters"]
    ).columns
    or {}
  )
  return json_files.made(
    classifier_data.Columns, columns, f"the columns of the manifest in {folder}"
  )


def cleaning_of(folder: str) -> tweets.Options | None:
  """Returns the options with which a set's tweets were cleaned.

  The result is None for a set that was not made from tweets.

  Raises:
    options.InputError: when the folder is no finished set.
  """
  values = manifest_fields.Parameters.of(
    manifest.check(folder, KIND)["parameters"]
  ).cleaning
  if not values:
    return None
  origin = f"cleaning in the manifest of {folder}"
  return json_files.made(tweets.Options, values, origin)


def copied_lines(folder: str, part: str) -> set[int]:
  """Returns the lines of a part's file whose rows copy training rows.

  The first line of the file is 1; in a .tsv it is the header.

  Args:
    folder: the finished set.
    part: "dev" or "test".
  """
  wanted = [tables.Wanted(name, "") for name in ("part", "line")]
  path = os.path.join(folder, classifier_files.COPIES)
  if storage.read_text(path).count("\n") < 2:
    return set()
  lines = set()
  for _, cells in tables.cells(path, wanted):
    assert not isinstance(cells, tables.Bad), "we wrote it"
    if cells[0] == part:
      lines.add(int(cells[1]))
  return lines


def _read(
  settings: Options,
  columns: classifier_data.Columns,
  cleaning: tweets.Options,
  paths: Sequence[str],
) -> classifier_files.Read:
  """Reads all rows of the input files.

  Args:
    settings: the options of the set.
    columns: the columns to read.
    cleaning: how tweets are cleaned.
    paths: the paths of the input files.

  Returns:
    the usable rows, and the left-out rows with their reasons.

  Raises:
    options.InputError: for a bad row with --bad_rows=stop, for a left-out row
      with --split=predecessor, without any usable row, and for rows that all
      have the same label.
  """
  read = classifier_files.Read([], [], [])
  for path, name in zip(paths, manifest.labels(paths), strict=True):
    for line, row in _stream(path, settings, columns, cleaning):
      origin = f"{name}:{line}"
      if isinstance(row, classifier_data.Row):
        read.rows.append(row)
        read.origins.append(origin)
      elif isinstance(row, str):
        read.left_out.append((origin, row, row))
      elif settings.bad_rows == "leave_out":
        rule = f"expected {row.expected}"
        read.left_out.append((origin, rule, row.reason))
      else:
        raise row.error(path, line)
  if read.left_out and settings.split == "predecessor":
    raise options.InputError(
      "every row to be used, for --split=predecessor goes by their positions",
      f"{len(read.left_out)} to leave out, the first at "
      f"{read.left_out[0][0]}: {read.left_out[0][2]}",
      "mend it, or give --split=hash",
    )
  if not read.rows:
    raise options.InputError(
      "at least one row to use",
      f"{len(read.left_out)} left out, the first at {read.left_out[0][0]}: "
      f"{read.left_out[0][2]}",
      "check --source, --authors and the columns",
    )
  if columns.label_type == "class":
    classifier_data.check_several_labels(read.rows)
  label_names.warn_of_alike(
    classifier_data.label_counts(read.rows, columns.label_type)
  )
  return read


def _stream(
  path: str,
  settings: Options,
  columns: classifier_data.Columns,
  cleaning: tweets.Options,
) -> Iterator[tuple[int, tweets.Result]]:
  """Yields (line number, result) of each row of a file.

  A result is a row, a `tables.Bad`, or the reason why a tweet is left out.

  Args:
    path: the file.
    settings: the options of the set, with the kind of source.
    columns: the columns to read.
    cleaning: how tweets are cleaned.
  """
  if settings.source == "tweets":
    return tweets.stream(path, cleaning)
  return classifier_data.stream(path, columns, labelled=True)


def _parts(
  settings: Options,
  columns: classifier_data.Columns,
  read: classifier_files.Read,
  groups: Sequence[list[int]],
) -> classifier_files.Parts:
  """Splits the rows; returns part → the indices of its rows, ascending.

  Args:
    settings: the options of the split.
    columns: the columns that were read.
    read: the rows.
    groups: groups of rows that are copies of each other, as row indices; a
      group stays in one part.

  Raises:
    options.InputError: when a part that should have rows is empty.
  """
  rows = read.rows
  strata = classifier_splits.strata(rows, columns.label_type)
  if settings.split == "predecessor":
    test = set(classifier_splits.predecessor(len(rows))[1].tolist())
  else:
    fraction = settings.test_fraction
    test = (
      classifier_splits.by_hash(rows, strata, groups, fraction)
      if fraction
      else set()
    )
  rest = [[i for i in group if i not in test] for group in groups]
  dev = (
    classifier_splits.by_hash(
      rows, strata, [group for group in rest if group], settings.dev_fraction
    )
    if settings.dev_fraction
    else set()
  )
  train = set(range(len(rows))) - test - dev
  parts = dict(zip(PARTS, map(sorted, (train, dev, test)), strict=True))
  for name, share in (
    ("train", 1),
    ("dev", settings.dev_fraction),
    ("test", settings.test_fraction),
  ):
    if share and not parts[name]:
      raise options.InputError(
        f"rows enough for a {name} part",
        f"{len(rows)} with {len(groups)} different texts",
        "give more rows of each label, or --dev_fraction=0 --test_fraction=0",
      )
  return parts


def _copies(
  rows: Sequence[classifier_data.Row],
  parts: classifier_files.Parts,
  name: str,
  groups: Sequence[list[int]],
  similarity: float,
) -> classifier_files.Copies:
  """Returns the rows of a part that are copies of training rows.

  Only groups of copies with rows in both parts are searched: no other group can
  hold such a copy.

  Args:
    rows: all rows.
    parts: part → the indices of its rows.
    name: the part.
    groups: groups of rows that are copies of each other, as row indices.
    similarity: the smallest similarity of a near copy.

  Returns:
    index of the row → (index of the training row, kind of the copy).
  """
  train, part = set(parts["train"]), set(parts[name])
  split_groups = [
    g for g in groups if not train.isdisjoint(g) and not part.isdisjoint(g)
  ]
  known = sorted(i for group in split_groups for i in group if i in train)
  new = sorted(i for group in split_groups for i in group if i in part)
  copies = classifier_splits.copied(
    [rows[i] for i in known], [rows[i] for i in new], similarity
  )
  return {new[at]: (known[copy.original], copy) for at, copy in copies.items()}


def _counts(
  columns: classifier_data.Columns,
  read: classifier_files.Read,
  parts: classifier_files.Parts,
  copies: Mapping[str, classifier_files.Copies],
) -> dict[str, Any]:
  """Returns the counts for the manifest, nested by name.

  rows: part → number. labels: label → part → number of rows.
  copies_of_training_rows: part → exact and near → number. left_out: rule →
  number.
  """
  labels: dict[str, dict[str, int]] = {}
  for name, part in parts.items():
    for index in part:
      for label in classifier_data.names_of(
        read.rows[index], columns.label_type
      ):
        labels.setdefault(label, dict.fromkeys(PARTS, 0))[name] += 1
  rules = collections.Counter(rule for _, rule, _ in read.left_out)
  return {
    "rows": {name: len(part) for name, part in parts.items()},
    "labels": dict(sorted(labels.items())),
    "copies_of_training_rows": {
      name: {
        "exact": sum(copy.exact for _, copy in part_copies.values()),
        "near": sum(not copy.exact for _, copy in part_copies.values()),
      }
      for name, part_copies in copies.items()
    },
    "left_out": dict(sorted(rules.items())),
  }


def _parameters(
  settings: Options,
  columns: classifier_data.Columns,
  cleaning: tweets.Options,
) -> dict[str, Any]:
  """Returns name → value of the options that decide the content of a set.

  They are the `parameters` of the set's manifest.
  """
  chosen = dataclasses.asdict(settings)
  del chosen["input_file"], chosen["output_dir"]
  if settings.split == "predecessor":
    del chosen["test_fraction"]
  if settings.source == "tweets":
    chosen["cleaning"] = dataclasses.asdict(cleaning)
  else:
    chosen["read"] = _values(columns)
  return {
    **chosen,
    "columns": _values(classifier_files.written(columns)),
  }


def _values(columns: classifier_data.Columns) -> dict[str, str]:
  """Returns name → value of the fields of `Columns`.

  Fields that only a subclass of `Columns` has are left out.
  """
  names = (field.name for field in dataclasses.fields(classifier_data.Columns))
  return {name: getattr(columns, name) for name in names}


def _log(folder: str, counts: Mapping[str, Any]) -> None:
  """Logs the counts: rows by part and label, copies, left-out rows.

  Args:
    folder: the folder of the set.
    counts: the result of `_counts`.
  """
  logging.info(
    "%s: %s rows",
    folder,
    ", ".join(f"{n:,} {name}" for name, n in counts["rows"].items()),
  )
  for label, part_counts in list(counts["labels"].items())[:_SHOWN_LABELS]:
    logging.info("  %s: %s", label, ", ".join(map(str, part_counts.values())))
  hidden = len(counts["labels"]) - _SHOWN_LABELS
  if hidden > 0:
    logging.info("  and %d labels more, see %s", hidden, manifest.NAME)
  untested = [
    n for n, part_counts in counts["labels"].items() if not part_counts["test"]
  ]
  if untested and counts["rows"]["test"]:
    logging.warning(
      "%d labels without a row in the test part: %s",
      len(untested),
      ", ".join(map(repr, untested[:_SHOWN_LABELS])),
    )
  for name, by_kind in counts["copies_of_training_rows"].items():
    logging.info(
      "%s: %d exact and %d near copies of training rows, listed in %s",
      name,
      by_kind["exact"],
      by_kind["near"],
      classifier_files.COPIES,
    )
  if "latin_mongolian" in counts:
    logging.info(
      "%d texts are Mongolian in Latin letters", counts["latin_mongolian"]
    )
  for rule, count in counts["left_out"].items():
    logging.warning(
      "left out, see %s: %d rows: %s", classifier_files.LEFT_OUT, count, rule
    )
