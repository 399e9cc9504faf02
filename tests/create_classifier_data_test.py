"""Tests that frozen sets of rows are whole, traceable and reproducible."""

import dataclasses
import hashlib
import json
import logging
import pathlib
import random
from typing import Any

import pytest

from data_prep.base import options
from data_prep.classification import (
  classifier_data,
  classifier_sets,
  classifier_splits,
  eduge,
  tweets,
)
from data_prep.files import manifest, tables
from tests import eduge_rows, running


def _build(
  folder: pathlib.Path, *paths: pathlib.Path, **given: Any
) -> dict[str, list[classifier_data.Row]]:
  """Builds a set of files; returns part → its rows, read back."""
  chosen: list[Any] = []
  for options_ in (classifier_data.Columns, tweets.Options):
    fields = {field.name for field in dataclasses.fields(options_)}
    chosen.append(options_(**{n: given.pop(n) for n in fields & given.keys()}))
  classifier_sets.build(
    classifier_sets.Options(
      input_file=",".join(map(str, paths)), output_dir=str(folder), **given
    ),
    *chosen,
  )
  return {
    part: classifier_data.read_rows(
      str(path), classifier_sets.columns_of(str(folder))
    )
    for part in classifier_sets.PARTS
    for path in folder.glob(f"{part}.*")
  }


def _counts(folder: pathlib.Path) -> dict[str, Any]:
  content = manifest.check(str(folder), classifier_sets.KIND)
  assert manifest.rehash(str(folder))
  return dict(content["counts"])


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  path = tmp_path_factory.mktemp("eduge") / "eduge.csv.gz"
  eduge_rows.write(path, 2000, eduge_rows.labels(2000))
  return path


def test_the_predecessors_split_has_its_rows_and_its_copies_marked(
  news: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  parts = _build(tmp_path, news, source="eduge", split="predecessor")
  rows = classifier_data.read_rows(str(news), eduge.COLUMNS)
  train, test = classifier_splits.predecessor(2000)
  assert [row.text for row in parts["test"]] == [
    rows[i].text for i in sorted(test)
  ]
  rest = {rows[i].text for i in train}
  assert rest == {r.text for part in ("train", "dev") for r in parts[part]}
  assert len(parts["dev"]) == pytest.approx(160, abs=2)
  counts = _counts(tmp_path)
  assert counts["rows"]["test"] == 400
  trained = {row.text for row in parts["train"]}
  exact = {row.line for row in parts["test"] if row.text in trained}
  marked = classifier_sets.copied_lines(str(tmp_path), "test")
  assert 0 < len(exact) < len(marked) < 24  # of 40 that were put in
  assert exact < marked
  copies = counts["copies_of_training_rows"]["test"]
  assert copies == {"exact": len(exact), "near": len(marked - exact)}


def test_our_split_has_no_copies_and_each_class_its_share(
  news: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  parts = _build(tmp_path, news, source="eduge")
  counts = _counts(tmp_path)
  for part_counts in counts["labels"].values():
    total = sum(part_counts.values())
    assert part_counts["test"] == pytest.approx(total / 10, abs=4)
    assert part_counts["dev"] == pytest.approx(0.09 * total, abs=4)
  assert set(counts["copies_of_training_rows"]["test"].values()) == {0}
  texts = [{row.text for row in part} for part in parts.values()]
  assert sum(map(len, texts)) == len(set.union(*texts))


def test_rows_say_where_they_came_from(
  news: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  parts = _build(tmp_path, news, source="eduge")
  whole = {
    row.line: row for row in classifier_data.read_rows(str(news), eduge.COLUMNS)
  }
  wanted = [tables.Wanted("origin", "")]
  for name, part in parts.items():
    origins = tables.cells(str(tmp_path / f"{name}.tsv"), wanted)
    for row, (_, cells) in zip(part, origins, strict=True):
      assert not isinstance(cells, tables.Bad)
      file, line = cells[0].split(":")
      assert file == "eduge.csv.gz"
      assert whole.pop(int(line)).text == row.text
  assert not whole


def _lines(path: pathlib.Path) -> list[str]:
  return [str(line) for _, line in tables.lines(str(path))]


def test_the_same_rows_give_the_same_bytes_and_any_order_the_same_parts(
  news: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  first, second = tmp_path / "one", tmp_path / "two"
  parts = _build(first, news, source="eduge")
  _build(second, news, source="eduge")
  assert (first / "manifest.json").read_bytes() == (
    second / "manifest.json"
  ).read_bytes()
  header, *lines = _lines(news)
  random.Random(2).shuffle(lines)
  shuffled = tmp_path / "shuffled.csv"
  shuffled.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
  again = _build(second, shuffled, source="eduge")
  for name, part in parts.items():
    assert {r.text for r in part} == {r.text for r in again[name]}


@pytest.mark.slow
def test_a_file_of_eduges_size_gives_the_published_test_part(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "eduge.csv"
  classes = eduge_rows.labels(eduge.ROWS)
  eduge_rows.write(path, eduge.ROWS, classes)
  folder = tmp_path / "set"
  _build(folder, path, source="eduge", split="predecessor")
  counts = _counts(folder)
  assert sum(counts["rows"].values()) == 75_661
  assert counts["rows"]["test"] == 15_133
  assert [
    part_counts["test"] for part_counts in counts["labels"].values()
  ] == list(eduge.SUPPORTS.values())
  assert list(counts["labels"]) == list(eduge.SUPPORTS)
  _, test = classifier_splits.predecessor(eduge.ROWS)
  classes[test[0]] = "спорт" if classes[test[0]] == "хууль" else "хууль"
  eduge_rows.write(path, eduge.ROWS, classes)
  with pytest.raises(options.InputError) as caught:
    _build(folder, path, source="eduge", split="predecessor")
  assert "999, 873, 2736, 1102" in str(caught.value)
  assert "its rows in their order, or --split=hash" in str(caught.value)


def test_published_rows_of_each_class_are_compared_or_said_not_to_be(
  caplog: pytest.LogCaptureFixture,
) -> None:
  _, test = classifier_splits.predecessor(eduge.ROWS)
  rows = [
    classifier_data.Row(n, "а", name)
    for n, name in enumerate(eduge_rows.labels(eduge.ROWS))
  ]
  caplog.set_level("INFO", logger="absl")
  eduge.check(rows, test.tolist(), "a.csv")
  assert not caplog.text
  rows[test[0]] = dataclasses.replace(rows[test[0]], label="бизнес")
  with pytest.raises(options.InputError, match="1 of 'бизнес': give the file"):
    eduge.check(rows, test.tolist(), "a.csv")
  eduge.check(rows[:-1], test.tolist(), "a.csv")
  assert "a.csv has 75660 rows, the published Eduge 75661" in caplog.text


def _table(path: pathlib.Path, *rows: object) -> pathlib.Path:
  lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
  path.write_text("".join(lines), encoding="utf-8")
  return path


def test_texts_with_tabs_and_line_breaks_survive(
  tmp_path: pathlib.Path,
) -> None:
  texts = ["нэг\tхоёр", 'гурав\n"дөрөв"', "тав", "зургаа"]
  path = _table(
    tmp_path / "a.jsonl",
    *({"text": t, "label": f"x {n % 2} 🙂"} for n, t in enumerate(texts)),
  )
  folder = tmp_path / "set"
  folder.mkdir()
  (folder / "train.tsv").write_text("of an earlier run")
  (folder / "mine.tsv").write_text("mine")
  parts = _build(folder, path, dev_fraction=0.0)
  assert {file.name for file in folder.glob("t*")} == {
    "train.jsonl",
    "test.jsonl",
  }
  assert (folder / "mine.tsv").exists()
  rows = [row for part in parts.values() for row in part]
  assert sorted(row.text for row in rows) == sorted(texts)
  assert {row.label for row in rows} == {"x 0 🙂", "x 1 🙂"}


def test_pairs_several_labels_numbers_and_entities_are_read_back(
  tmp_path: pathlib.Path,
) -> None:
  words = [hashlib.sha256(str(n).encode()).hexdigest()[:12] for n in range(40)]
  kinds: dict[str, list[Any]] = {
    "class": ["x", "y"] * 20,
    "multi_label": [["x"], ["x", "y"], [], ["z"]] * 10,
    "regression": [n / 8 for n in range(40)],
    "entities": [[[0, 4, "PER"]], []] * 20,
  }
  for kind, labels in kinds.items():
    path = _table(
      tmp_path / f"{kind}.jsonl",
      *(
        {"a": word, "b": f"{word} бас", "y": label}
        for word, label in zip(words, labels, strict=True)
      ),
    )
    given = {"text_column": "a", "text_pair_column": "b", "label_column": "y"}
    columns = classifier_data.Columns(**given, label_type=kind)
    expected = classifier_data.read_rows(str(path), columns)
    parts = _build(tmp_path / kind, path, label_type=kind, **given)
    rows = [dataclasses.replace(r, line=0) for p in parts.values() for r in p]
    assert set(rows) == {dataclasses.replace(row, line=0) for row in expected}
    assert len(parts["test"]) == pytest.approx(4, abs=1)


def test_bad_rows_stop_the_work_or_are_written_down(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.tsv"
  path.write_text(
    "text\tlabel\nнэг\tx\nхоёр\n\ty\nгурав\ty\nдөрөв\tx\nтав\ty\n", "utf-8"
  )
  folder = tmp_path / "set"
  with pytest.raises(options.InputError, match=r"a.tsv:3"):
    _build(folder, path)
  assert not folder.exists()
  _build(folder, path, bad_rows="leave_out", dev_fraction=0.0)
  assert (folder / "left_out.tsv").read_text("utf-8") == (
    "origin\treason\n"
    "a.tsv:3\texpected 2 columns, as in the header, got 1\n"
    "a.tsv:4\texpected a text under 'text', got an empty one\n"
  )
  assert sum(_counts(folder)["left_out"].values()) == 2
  with pytest.raises(options.InputError, match=r"a.tsv:3"):
    _build(folder, path, bad_rows="leave_out", split="predecessor")


def test_a_label_with_one_text_trains_and_is_named(
  tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  caplog.set_level("INFO", logger="absl")
  rows = [{"text": f"{n}", "label": "xy"[n % 2]} for n in range(40)]
  path = _table(tmp_path / "a.jsonl", *rows, {"text": "ганц", "label": "ганц"})
  parts = _build(tmp_path / "set", path)
  assert "ганц" in {row.label for row in parts["train"]}
  assert "1 labels without a row in the test part: 'ганц'" in caplog.text


def test_what_is_read_is_not_written_over(tmp_path: pathlib.Path) -> None:
  rows = [{"text": f"{n}", "label": "xy"[n % 2]} for n in range(40)]
  path = _table(tmp_path / "train.jsonl", *rows)
  before = path.read_bytes()
  with pytest.raises(options.InputError, match="give another folder"):
    _build(tmp_path, path)
  assert path.read_bytes() == before


def test_too_few_rows_for_a_part_are_refused(tmp_path: pathlib.Path) -> None:
  path = _table(tmp_path / "a.jsonl", *({"text": t, "label": t} for t in "аб"))
  with pytest.raises(options.InputError, match="rows enough for a dev part"):
    _build(tmp_path / "set", path)


def test_nothing_but_rows_to_leave_out_is_told_with_the_first_reason(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.tsv"
  path.write_text("text\tlabel\nбөх\t0\nцас\t1\n", encoding="utf-8")
  with pytest.raises(options.InputError, match=r"a.tsv:2: another author"):
    _build(tmp_path / "out", path, source="tweets", authors="хэн ч биш")


def test_one_label_alone_is_refused(tmp_path: pathlib.Path) -> None:
  path = _table(
    tmp_path / "a.jsonl", *({"text": t, "label": "x"} for t in "аб")
  )
  with pytest.raises(options.InputError, match="at least two labels"):
    _build(tmp_path / "set", path)


def test_the_program_writes_the_sets_or_says_what_is_wrong(
  programs: running.Programs, tmp_path: pathlib.Path
) -> None:
  given = [
    f"--input_file={running.ROOT}/sample/sib200/*.tsv",
    f"--output_dir={tmp_path}/set",
  ]
  program = ("-m", "data_prep.create_classifier_data", *given)
  assert "name the column with --label_column" in programs.refuse(*program)
  said = programs.succeed(*program, "--label_column=category")
  assert "647 train, 72 dev, 81 test rows" in said


@pytest.mark.parametrize("label_type", ["class", "multi_label", "entities"])
def test_labels_that_differ_by_case_alone_are_warned_of_with_their_counts(
  tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, label_type: str
) -> None:
  """The bug report "Right where it is silently wrong" has Мэдээ and мэдээ."""
  lines = []
  for i in range(40):
    name = "мэдээ" if i % 10 == 0 else "Мэдээ"
    label = {
      "class": name if i % 2 == 0 else "спорт",
      "multi_label": [name, "спорт"][i % 2 :],
      "entities": [[0, 4, name]] if i % 2 == 0 else [],
    }[label_type]
    lines.append(json.dumps({"text": f"үг{i} нэг хоёр", "label": label}))
  path = tmp_path / "rows.jsonl"
  path.write_text("\n".join(lines), "utf-8")
  with caplog.at_level(logging.WARNING):
    _build(tmp_path / "set", path, label_type=label_type)
  assert "'Мэдээ' (16 rows), 'мэдээ' (4 rows)" in caplog.text
  assert "спорт" not in "".join(
    line for line in caplog.text.splitlines() if "differ by case" in line
  )
