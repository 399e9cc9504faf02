"""Finds and reads the rows of a classification run.

They are the rows for training, for validation, for evaluation, and for
prediction.
"""

import collections
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from absl import logging

from albert_mn.tasks import labelled_rows
from data_prep.base import options
from data_prep.classification import (
  classifier_data,
  classifier_sets,
  classifier_splits,
  label_names,
  near_duplicates,
)
from data_prep.files import manifest, storage, tables

CSV, EDUGE, NER = "csv", "eduge", "ner"
TASKS = (CSV, labelled_rows.TWEETS, EDUGE, NER)

# When validation is useful but not required, a tenth of the training rows is
# taken for it, if there are at least this many training rows (guess).
FEWEST_TO_SPARE = 200


@dataclasses.dataclass(frozen=True)
class Files(classifier_data.Columns):
  """Command-line options: the files of labelled rows, and their columns."""

  task_name: str = options.option(
    CSV,
    "Kind of the rows. csv: any .csv, .tsv or .jsonl file, with columns "
    "found by name. tweetmn: texts with the labels 0 and 1. eduge: "
    "Mongolian news, as the published CSV in --train_file, or as a set of "
    "create_classifier_data in --data_dir. ner: named entities, as JSON "
    "lines of text and labels in --train_file, or as a set in --data_dir.",
    choices=TASKS,
  )
  data_dir: str = options.option(
    "",
    "Folder with train.tsv and, optionally, validation.tsv, dev.tsv to "
    "evaluate on and test.tsv to predict (.csv and .jsonl files too). In "
    "a set of create_classifier_data, the dev part is for validation and "
    "the test part for evaluation.",
  )
  train_file: str = options.option(
    "",
    "File of training rows. By default the train file in --data_dir.",
  )
  eval_file: str = options.option(
    "",
    "File of rows to evaluate on. By default the dev file in --data_dir "
    "or, without such a file, a tenth of the training rows, held out by "
    "the hash of the text.",
  )
  validation_file: str = options.option(
    "",
    "File of rows that decide which weights are kept, and on which "
    "--calibrate fits. By default the validation file in --data_dir or, "
    "without such a file, a tenth of the training rows if validation is "
    "needed.",
  )
  predict_file: str = options.option(
    "",
    "File of rows to predict, with or without labels. By default the test "
    "file in --data_dir.",
  )


F = TypeVar("F", bound=Files)


def settle(files: F, output_dir: str) -> F:
  """Returns the options with the columns of the task or the data set filled in.

  A data set is a folder that create_classifier_data wrote. If --data_dir is a
  data set, the options of its files are filled in too. The published file of a
  task (eduge, ner) in --train_file is first split into a data set in
  `output_dir`/rows, unless --eval_file is given.

  Args:
    files: the options from the flags.
    output_dir: the output folder of the run.

  Raises:
    options.InputError: when the published file is missing or bad.
  """
  published = files.task_name in (EDUGE, NER) and not files.eval_file
  if published and files.train_file:
    files = _frozen(files, os.path.join(output_dir, "rows"))
  if files.task_name in (EDUGE, NER):
    columns = classifier_sets.source_columns(files.task_name, files)
    files = dataclasses.replace(files, **dataclasses.asdict(columns))
  if files.data_dir and _is_set(files.data_dir):
    return _settled_set(files)
  return files


def cleaning(files: Files) -> dict[str, Any]:
  """Returns the options with which the texts in --data_dir were cleaned.

  The result is option → value. It is {} if the texts were not cleaned, and if
  --data_dir is not a data set of create_classifier_data.
  """
  if not (files.data_dir and _is_set(files.data_dir)):
    return {}
  settings = classifier_sets.cleaning_of(files.data_dir)
  return dataclasses.asdict(settings) if settings else {}


def _is_set(folder: str) -> bool:
  """Returns whether a folder is a data set of create_classifier_data."""
  described = manifest.find(folder)
  return bool(described and described["kind"] == classifier_sets.KIND)


def _frozen(files: F, folder: str) -> F:
  """Splits --train_file into a data set in `folder`; returns options for it.

  In these options --data_dir is the folder, and --train_file is "".
  """
  classifier_sets.build(
    classifier_sets.Options(
      input_file=files.train_file, output_dir=folder, source=files.task_name
    ),
    files,
  )
  return dataclasses.replace(files, train_file="", data_dir=folder)


def _settled_set(files: F) -> F:
  """Returns the options, completed from the data set in --data_dir.

  label_type becomes the label type of the data set. Three options are filled
  only if they are empty: text_pair_column, eval_file (the test part) and
  validation_file (the dev part). A file stays "" if the data set lacks the
  part.
  """
  columns = classifier_sets.columns_of(files.data_dir)
  return dataclasses.replace(
    files,
    label_type=columns.label_type,
    text_pair_column=files.text_pair_column or columns.text_pair_column,
    eval_file=files.eval_file or _in_data_dir(files, "test"),
    validation_file=files.validation_file or _in_data_dir(files, "dev"),
  )


def labelled(
  files: Files, trains: bool, validates: bool, blends: bool = False
) -> labelled_rows.Rows:
  """Reads and checks the rows for training, validation and evaluation.

  Without a file of evaluation rows, a tenth of the training rows is held out;
  without a file of validation rows, a tenth of the rest is taken for them if
  `validates` or `blends` says so. Copies of one text are held out together.
  Logged warnings name copies between files, and labels with a single row.

  Args:
    files: the options, as `settle` returns them.
    trains: whether training rows are required.
    validates: whether validation rows are required.
    blends: whether validation rows are wanted to fit a blend. Without a file
      they are then taken from the training rows, if there are at least 200.

  Raises:
    options.InputError: for rows that are bad or missing.
  """
  train_file = files.train_file or _in_data_dir(files, "train")
  eval_file = files.eval_file or _in_data_dir(files, "dev")
  if not train_file and (trains or not eval_file):
    raise options.InputError(
      "training rows" if trains else "rows to evaluate on",
      f"no train.tsv in {files.data_dir!r}" if files.data_dir else "none",
      "give --data_dir, or --train_file and --eval_file",
    )
  train = _read(files, train_file) if train_file else []
  if eval_file:
    held_out = _read(files, eval_file)
    _warn_of_copies(train, held_out, "evaluation")
    copied = _copied(files, eval_file, train, held_out)
  else:
    train, held_out = _split(files, train, files.label_type == "class")
    copied = set()
  path = files.validation_file or _in_data_dir(files, "validation")
  if path:
    validation = _read(files, path)
    _warn_of_copies(train, validation, "validation")
    validation_from_train = False
  else:
    validation_from_train = validates or (
      blends and len(train) >= FEWEST_TO_SPARE
    )
    train, validation = (
      _split(files, train, False) if validation_from_train else (train, [])
    )
  if files.label_type == "class":
    _warn_of_rare_labels(train)
  label_names.warn_of_alike(
    classifier_data.label_counts(
      [*train, *validation, *held_out], files.label_type
    )
  )
  return labelled_rows.Rows(
    train, validation, held_out, copied, validation_from_train
  )


def _copied(
  files: Files,
  eval_file: str,
  train: Sequence[classifier_data.Row],
  held_out: Sequence[classifier_data.Row],
) -> set[int] | None:
  """Returns the line numbers of held-out rows that nearly copy training rows.

  A set of create_classifier_data lists these lines. For other files the near
  copies are searched for; the result is None if there are no training rows.
  """
  if files.data_dir and _is_set(files.data_dir):
    for part in ("dev", "test"):
      if eval_file == _in_data_dir(files, part):
        return classifier_sets.copied_lines(files.data_dir, part)
  if not train:
    return None
  copies = classifier_splits.copied(train, held_out)
  return {held_out[index].line for index in copies}


def _split(
  files: Files, rows: list[classifier_data.Row], every_label: bool
) -> tuple[list[classifier_data.Row], list[classifier_data.Row]]:
  """Divides rows into two parts of about nine tenths and one tenth.

  Copies of a text are in the same part.

  Args:
    files: the options, for the kind of labels.
    rows: the rows to split.
    every_label: whether every label must occur in both parts.

  Returns:
    the larger and the smaller part.

  Raises:
    options.InputError: when a part would be empty, or a label is too rare.
  """
  if every_label:
    classifier_data.check_several_labels(rows)
    return classifier_splits.split(rows)
  strata = classifier_splits.strata(rows, files.label_type)
  groups = classifier_splits.copies(rows)
  held_out = classifier_splits.by_hash(rows, strata, groups, 0.1)
  parts: tuple[list[classifier_data.Row], list[classifier_data.Row]] = ([], [])
  for index, row in enumerate(rows):
    parts[index in held_out].append(row)
  if not all(parts):
    raise options.InputError(
      "at least two different texts, to train on one and judge by the other",
      f"{len(rows)} rows",
      "give more rows, or --eval_file and --validation_file",
    )
  return parts


def _in_data_dir(files: Files, name: str) -> str:
  """Returns the path of `name`.tsv, .csv or .jsonl in --data_dir.

  Returns "" if --data_dir has no such file, or is not given.
  """
  for suffix in (".tsv", ".csv", ".jsonl"):
    path = os.path.join(files.data_dir, name + suffix)
    if files.data_dir and storage.exists(path):
      return path
  return ""


def _read(files: Files, path: str) -> list[classifier_data.Row]:
  """Reads the rows of a file, by the columns of its data set or the options.

  Raises:
    options.InputError: for a missing file, a missing column or a bad row.
  """
  if files.task_name == labelled_rows.TWEETS:
    return classifier_data.read_tweets(path)
  return classifier_data.read_rows(path, _columns(files, path))


def _columns(files: Files, path: str) -> classifier_data.Columns:
  """Returns the columns of a file, from its data set or from the options.

  Only a file in --data_dir can belong to a data set.
  """
  folder = os.path.normpath(os.path.dirname(path))
  own = files.data_dir and folder == os.path.normpath(files.data_dir)
  if own and _is_set(files.data_dir):
    return classifier_sets.columns_of(files.data_dir)
  return files


def _warn_of_rare_labels(train: Sequence[classifier_data.Row]) -> None:
  """Logs a warning that names the labels with a single training row."""
  counts = collections.Counter(row.label for row in train)
  once = sorted(name for name, count in counts.items() if count == 1)
  if once:
    shown = ", ".join(map(repr, once[:10])) + (" …" if len(once) > 10 else "")
    logging.warning(
      "%d labels with a single training row, hardly learnable: %s",
      len(once),
      shown,
    )


def _warn_of_copies(
  train: Sequence[classifier_data.Row],
  evaluated: Sequence[classifier_data.Row],
  purpose: str,
) -> None:
  """Logs a warning on evaluation or validation texts that are training texts.

  The warning has their number. Nothing is logged if there are none.

  Args:
    train: the training rows.
    evaluated: the rows to compare with them.
    purpose: "evaluation" or "validation", for the message.
  """
  seen = set(map(_key, train))
  copies = sum(_key(row) in seen for row in evaluated)
  if copies:
    logging.warning(
      "%d of %d %s texts are also training texts: the score is too high",
      copies,
      len(evaluated),
      purpose,
    )


def _key(row: classifier_data.Row) -> tuple[str, str]:
  """Returns keys of a row's two texts, by which copies are recognised.

  Copies of a text have equal keys.
  """
  key = near_duplicates.text_key
  return key(row.text), key(row.text_pair)


def to_predict(
  files: Files,
) -> Iterator[tuple[int, classifier_data.Row | tables.Bad]]:
  """Yields (line number, row) for each row of the file to predict.

  An unreadable row is yielded as a tables.Bad. The file is read one row at a
  time.

  Raises:
    options.InputError: for a missing file or column, when this function is
      called.
  """
  path = files.predict_file or _in_data_dir(files, "test")
  if not path:
    raise options.InputError(
      "rows to predict",
      "none",
      "give --predict_file, or test.tsv in --data_dir",
    )
  columns = _columns(files, path)
  if files.task_name == labelled_rows.TWEETS:
    columns = classifier_data.tweet_columns(path, labelled=False)
  return classifier_data.stream(path, columns)
