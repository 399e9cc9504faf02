"""Tests of the rows that train, validate and are held out, by flags."""

import pathlib

import numpy as np
import pytest

from albert_mn.tasks import task_rows
from data_prep.base import options
from data_prep.classification import classifier_data, classifier_sets
from data_prep.files import tables

FIELDS = {
  "спорт": "бөхийн барилдаан тэмцээн аварга баг тоглогч",
  "улс төр": "их хурал сонгууль засгийн газар сайд гишүүн",
}


def _text(label: str, number: int) -> str:
  rng = np.random.default_rng(number)
  # Far enough from each other to be no copies.
  return " ".join(rng.permutation(FIELDS[label].split() * 2)) + f" {number}"


def _eduge(path: pathlib.Path, count: int = 80) -> None:
  """Writes rows as Eduge was published: columns `news` and ` label`.

  The texts have quoted commas and line breaks.
  """
  rows = ["news, label"]
  for number in range(count):
    label = sorted(FIELDS)[number % 2]
    rows.append(f'"{_text(label, number)},\nмөр",{label}')
  path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _texts(rows: list[classifier_data.Row]) -> set[str]:
  return {row.text for row in rows}


def test_the_published_eduge_file_is_split_once(tmp_path: pathlib.Path) -> None:
  _eduge(tmp_path / "eduge.csv")
  files = task_rows.Files(
    task_name="eduge", train_file=str(tmp_path / "eduge.csv")
  )
  settled = task_rows.settle(files, str(tmp_path / "out"))
  rows = task_rows.labelled(settled, trains=True, validates=True)
  parts = (rows.train, rows.validation, rows.held_out)
  assert [len(part) for part in parts] == pytest.approx([65, 7, 8], abs=2)
  assert sum(map(len, parts)) == len(set.union(*map(_texts, parts))) == 80
  assert rows.copied == classifier_sets.copied_lines(settled.data_dir, "test")
  again = task_rows.settle(
    task_rows.Files(task_name="eduge", data_dir=str(tmp_path / "out/rows")), "x"
  )
  assert task_rows.labelled(again, True, True) == rows


def test_rows_to_predict_of_eduge_are_its_columns(
  tmp_path: pathlib.Path,
) -> None:
  _eduge(tmp_path / "new.csv", 4)
  files = task_rows.settle(
    task_rows.Files(task_name="eduge", predict_file=str(tmp_path / "new.csv")),
    str(tmp_path / "out"),
  )
  rows = [row for _, row in task_rows.to_predict(files)]
  assert len(rows) == 4
  assert not any(isinstance(r, tables.Bad) for r in rows)


def test_a_set_names_the_columns_of_its_own_files_alone(
  tmp_path: pathlib.Path,
) -> None:
  _eduge(tmp_path / "eduge.csv")
  _eduge(tmp_path / "new.csv", 4)
  train, new = str(tmp_path / "eduge.csv"), str(tmp_path / "new.csv")
  files = task_rows.Files(task_name="eduge", train_file=train, predict_file=new)
  settled = task_rows.settle(files, str(tmp_path / "out"))
  assert len(list(task_rows.to_predict(settled))) == 4
  judged = task_rows.Files(
    data_dir=settled.data_dir, eval_file=new, text_column="news"
  )
  rows = task_rows.labelled(task_rows.settle(judged, "x"), True, False)
  assert len(rows.held_out) == 4
  assert len(rows.train) > 50


@pytest.mark.parametrize("key", ["labels", "entities"])
def test_entities_to_judge_by_stand_under_labels_or_where_the_flag_says(
  key: str, tmp_path: pathlib.Path
) -> None:
  path = tmp_path / "new.jsonl"
  path.write_text(f'{{"text": "Баянгол", "{key}": [[0, 7, "LOC"]]}}\n', "utf-8")
  files = task_rows.Files(
    task_name="ner",
    train_file=str(path),
    eval_file=str(path),
    **({} if key == "labels" else {"label_column": key}),
  )
  rows = task_rows.labelled(task_rows.settle(files, "x"), True, False)
  assert rows.held_out[0].entities == ((0, 7, "LOC"),)


def _tsv(path: pathlib.Path, numbers: range) -> None:
  lines = [
    f"{_text(label, number)}\t{label}"
    for number in numbers
    for label in sorted(FIELDS)
  ]
  path.write_text("\n".join(["text\tlabel", *lines]) + "\n", encoding="utf-8")


@pytest.mark.parametrize("validates", [True, False])
def test_validation_rows_come_from_the_training_rows_alone(
  validates: bool, tmp_path: pathlib.Path
) -> None:
  _tsv(tmp_path / "train.tsv", range(60))
  _tsv(tmp_path / "dev.tsv", range(60, 70))
  files = task_rows.Files(data_dir=str(tmp_path))
  rows = task_rows.labelled(files, trains=True, validates=validates)
  assert len(rows.held_out) == 20
  assert rows.copied == set()
  given = _texts(
    classifier_data.read(str(tmp_path / "train.tsv"), "text", "label")
  )
  assert _texts(rows.train) | _texts(rows.validation) == given
  assert not _texts(rows.train) & _texts(rows.validation)
  assert bool(rows.validation) == validates
  _tsv(tmp_path / "validation.tsv", range(80, 90))
  rows = task_rows.labelled(files, trains=True, validates=validates)
  assert (len(rows.train), len(rows.validation)) == (120, 20)


def test_rows_to_evaluate_on_that_are_near_training_rows_are_found(
  tmp_path: pathlib.Path,
) -> None:
  _tsv(tmp_path / "train.tsv", range(60))
  _tsv(tmp_path / "dev.tsv", range(60, 70))
  train, dev = tmp_path / "train.tsv", tmp_path / "dev.tsv"
  copy = train.read_text("utf-8").splitlines()[5]
  dev.write_text(f"{dev.read_text('utf-8')}Ёстой {copy}\n", "utf-8")
  files = task_rows.Files(data_dir=str(tmp_path))
  rows = task_rows.labelled(files, trains=True, validates=False)
  assert rows.copied == {rows.held_out[-1].line}


def test_rows_of_one_text_cannot_be_split(tmp_path: pathlib.Path) -> None:
  (tmp_path / "train.jsonl").write_text(
    '{"text": "нэг", "label": "1"}\n' * 3, encoding="utf-8"
  )
  files = task_rows.Files(data_dir=str(tmp_path), label_type="regression")
  with pytest.raises(options.InputError, match="two different texts"):
    task_rows.labelled(files, trains=True, validates=False)
