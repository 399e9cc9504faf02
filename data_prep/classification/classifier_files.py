"""Writes the files of a frozen set: the rows, the copies, the left-out rows.

The files of rows keep each text unchanged. A cell may therefore begin with = +
- or @: import such a file into a spreadsheet as text. The other two files,
near_duplicates.tsv and left_out.tsv, are escaped for spreadsheets.

The files of rows are `.jsonl` if a line of TSV cannot hold every row: with
several labels, entities, or a tab or line break in a text.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from data_prep.base import shown_text
from data_prep.classification import classifier_data, near_duplicates
from data_prep.files import manifest, storage

PARTS = ("train", "dev", "test")
COPIES = "near_duplicates.tsv"
LEFT_OUT = "left_out.tsv"

# Part → the indices of its rows.
Parts = dict[str, list[int]]
# Index of a row → (index of the training row that it copies, the copy's kind).
Copies = Mapping[int, tuple[int, near_duplicates.Copy]]


@dataclasses.dataclass(frozen=True)
class Read:
  """The rows of the input of a set, usable ones and left-out ones.

  Attributes:
    rows: all usable rows, in their order.
    origins: file:line of each usable row.
    left_out: (file:line, rule, reason) of each row that is not usable.
  """

  rows: list[classifier_data.Row]
  origins: list[str]
  left_out: list[tuple[str, str, str]]


def names() -> set[str]:
  """Returns every name that a file of a frozen set may have."""
  parts = {name + suffix for name in PARTS for suffix in (".tsv", ".jsonl")}
  return {*parts, COPIES, LEFT_OUT, manifest.NAME}


def write(
  folder: str,
  columns: classifier_data.Columns,
  read: Read,
  parts: Parts,
  copies: Mapping[str, Copies],
) -> list[str]:
  """Writes all files but the manifest to an empty folder; returns the names.

  Args:
    folder: the folder.
    columns: the columns that were read.
    read: the rows.
    parts: part → the indices of its rows.
    copies: part → its rows that copy training rows.
  """
  suffix = _suffix(read, columns)
  files = _write_parts(folder, suffix, columns, read, parts)
  files.append(_write_copies(folder, suffix, read, parts, copies))
  files.append(_write_left_out(folder, read))
  return files


def _suffix(read: Read, columns: classifier_data.Columns) -> str:
  """Returns ".tsv" if every row fits on a line of TSV, else ".jsonl".

  Rows with several labels or entities do not fit, nor does a text or label with
  a tab or a line break.
  """
  if columns.label_type in ("multi_label", "entities"):
    return ".jsonl"
  cells = (c for r in read.rows for c in (r.text, r.text_pair, r.label))
  parted = any("\t" in c or "\n" in c or "\r" in c for c in cells)
  return ".jsonl" if parted else ".tsv"


def written(columns: classifier_data.Columns) -> classifier_data.Columns:
  """Returns the columns of the files that `write` writes.

  Args:
    columns: the columns that were read, which may have other names.
  """
  label = {"multi_label": "labels", "entities": "entities"}
  return classifier_data.Columns(
    label_column=label.get(columns.label_type, "label"),
    text_pair_column="text_pair" if columns.text_pair_column else "",
    label_type=columns.label_type,
  )


def _write_parts(
  folder: str,
  suffix: str,
  columns: classifier_data.Columns,
  read: Read,
  parts: Parts,
) -> list[str]:
  """Writes the files train, dev and test; returns their names.

  A part without rows has no file.
  """
  chosen = written(columns)
  names = [chosen.text_column, chosen.label_column]
  names += [chosen.text_pair_column] if chosen.text_pair_column else []
  files = []
  for name, part in parts.items():
    if not part:
      continue
    files.append(name + suffix)
    with storage.writing(os.path.join(folder, files[-1])) as file:
      if suffix == ".tsv":
        file.write("\t".join([*names, "origin"]) + "\n")
      for index in part:
        row = dataclasses.asdict(read.rows[index])
        cells = {key: row[key] for key in names}
        cells["origin"] = read.origins[index]
        file.write(_line(cells, suffix) + "\n")
  return files


def _line(cells: Mapping[str, Any], suffix: str) -> str:
  """Returns a row as a line of TSV or JSON, without the line break.

  Args:
    cells: name of the column → cell.
    suffix: ".tsv" or ".jsonl".
  """
  if suffix == ".tsv":
    return "\t".join(cells.values())
  return json.dumps(cells, ensure_ascii=False)


def _write_copies(
  folder: str,
  suffix: str,
  read: Read,
  parts: Parts,
  copies: Mapping[str, Copies],
) -> str:
  """Writes near_duplicates.tsv: a line for each copy of a training row.

  A line has the part, line, origin, kind and similarity of the copy, and line
  and origin of the training row.

  Args:
    folder: the folder of the set.
    suffix: the suffix of the files of rows, ".tsv" or ".jsonl".
    read: the rows.
    parts: part → the indices of its rows.
    copies: part → its rows that copy training rows.

  Returns:
    the name of the file.
  """
  header = 1 if suffix == ".tsv" else 0
  lines = {
    index: number
    for part in parts.values()
    for number, index in enumerate(part, start=1 + header)
  }
  with storage.writing(os.path.join(folder, COPIES)) as file:
    file.write(
      "part\tline\torigin\tkind\tsimilarity\ttrain_line\ttrain_origin\n"
    )
    for name, part_copies in copies.items():
      for index, (train_index, copy) in part_copies.items():
        kind = "exact" if copy.exact else "near"
        cells = (
          name,
          lines[index],
          read.origins[index],
          kind,
          f"{copy.similarity:.2f}",
          lines[train_index],
          read.origins[train_index],
        )
        shown = (shown_text.cell(str(cell)) for cell in cells)
        file.write("\t".join(shown) + "\n")
  return COPIES


def _write_left_out(folder: str, read: Read) -> str:
  """Writes left_out.tsv, a line for each left-out row; returns this name."""
  with storage.writing(os.path.join(folder, LEFT_OUT)) as file:
    file.write("origin\treason\n")
    file.writelines(
      f"{shown_text.cell(origin)}\t{shown_text.cell(reason)}\n"
      for origin, _, reason in read.left_out
    )
  return LEFT_OUT
