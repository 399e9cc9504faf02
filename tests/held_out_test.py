"""Tests of choosing held-out documents, and of finding their repetitions."""

import dataclasses
import pathlib

import numpy as np
import pytest

from data_prep.base import options
from data_prep.files import documents
from data_prep.pretraining import held_out

SENTENCES = [
  f"Монгол орны {i} дугаар сумын малчид өвөлжилтийн бэлтгэлээ хангав."
  for i in range(400)
]


def _corpus(path: pathlib.Path, texts: list[list[str]]) -> str:
  path.write_text("\n\n".join("\n".join(t) for t in texts), encoding="utf-8")
  return str(path)


def _distinct(count: int) -> list[list[str]]:
  return [SENTENCES[4 * i : 4 * i + 4] for i in range(count)]


def _survey(
  parts: list[documents.Files], eval_fraction: float
) -> held_out.Survey:
  """Returns the survey of a corpus of one portion."""
  return held_out.survey([held_out.measured(0, parts)], eval_fraction, 1)


def _portion(
  parts: list[documents.Files], eval_fraction: float
) -> held_out.Portion:
  (portion,) = _survey(parts, eval_fraction).portions
  return portion


def test_copies_of_a_document_are_held_out_together(
  tmp_path: pathlib.Path,
) -> None:
  texts = _distinct(50) * 3
  parts = documents.weighted(_corpus(tmp_path / "a.txt", texts))
  portion = _portion(parts, 0.1)
  assert portion.held_out.sum() == 3 * 5
  by_copy = portion.held_out.reshape(3, 50)
  assert (by_copy == by_copy[0]).all()
  assert len(set(portion.ids.tolist())) == 150, "each has a number of its own"


def test_numbers_and_choice_do_not_depend_on_order_or_files(
  tmp_path: pathlib.Path,
) -> None:
  texts = _distinct(60)
  whole = documents.weighted(_corpus(tmp_path / "one.txt", texts))
  _corpus(tmp_path / "two-1.txt", texts[30:])
  _corpus(tmp_path / "two-2.txt", texts[:30])
  halves = documents.weighted(str(tmp_path / "two-*.txt"))
  first, second = (_survey(p, 0.2) for p in (whole, halves))
  (undivided,), (halved,) = first.portions, second.portions
  assert np.array_equal(undivided.ids, np.roll(halved.ids, 30))
  assert np.array_equal(undivided.held_out, np.roll(halved.held_out, 30))
  assert first.overview == second.overview


def test_portions_have_the_numbers_and_the_choice_of_the_whole_corpus(
  tmp_path: pathlib.Path,
) -> None:
  """200 documents, of which 20 are there twice, in ten files and portions."""
  texts = [*_distinct(90), *_distinct(20), *_distinct(90)]
  for number in range(10):
    part = texts[20 * number : 20 * number + 20]
    _corpus(tmp_path / f"{number}.txt", part)
  parts = documents.weighted(f"{tmp_path}/[0-4].txt:0.3,{tmp_path}/*.txt")
  whole = _survey(parts, 0.1)
  (portion,) = whole.portions
  files = [
    [dataclasses.replace(p, paths=(path,))] for p in parts for path in p.paths
  ]
  measures = [held_out.measured(*entry) for entry in enumerate(files)]
  divided = held_out.survey(reversed(measures), 0.1, 1)
  assert len(divided.portions) == 10
  for name in ("ids", "held_out"):
    joined = np.concatenate([getattr(p, name) for p in divided.portions])
    assert np.array_equal(joined, getattr(portion, name)), name
  assert divided.overview == whole.overview
  likeness = map(held_out.Likeness.of_portion, divided.portions)
  assert held_out.Likeness.union(likeness) == held_out.Likeness.of_portion(
    portion
  )


def test_a_portion_ends_with_the_file_that_fills_it(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  for name, size in {"a": 5, "b": 6, "c": 1, "d": 30}.items():
    (tmp_path / name).write_text("a" * size)
  monkeypatch.setattr(documents, "_BYTES_A_PORTION", 10)
  parts = documents.weighted(f"{tmp_path}/a:2,{tmp_path}/[b-d]")
  portions = [
    [(pathlib.Path(f.paths[0]).name, f.weight) for f in files]
    for files in documents.portions(parts)
  ]
  assert portions == [[("a", 2.0), ("b", 1.0)], [("c", 1.0), ("d", 1.0)]]


def test_versions_of_a_document_are_held_out_together(
  tmp_path: pathlib.Path,
) -> None:
  """There are 60 articles in four versions, which differ in one sentence."""
  texts = [
    [f"{version} дахь засвар.", *text]
    for version in range(4)
    for text in _distinct(60)
  ]
  parts = documents.weighted(_corpus(tmp_path / "a.txt", texts))
  portion = _portion(parts, 0.1)
  by_version = portion.held_out.reshape(4, 60)
  assert portion.clustered
  assert (by_version == by_version[0]).all()
  assert by_version[0].sum() == 6


def test_a_sentence_of_every_article_does_not_hold_all_of_them_out(
  tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  texts = [[SENTENCES[0], f"{i} дугаар бүлэг."] for i in range(50)]
  parts = documents.weighted(_corpus(tmp_path / "a.txt", texts))
  portion = _portion(parts, 0.1)
  assert portion.held_out.sum() == 5
  assert not portion.clustered
  assert "sentences in common" in caplog.text


def test_what_repeats_held_out_documents_is_recognised() -> None:
  old = documents.Document(tuple(SENTENCES[:4]))
  likeness = held_out.Likeness.of([old])
  mended = documents.Document(("Засвар.", *SENTENCES[1:4], SENTENCES[9]))
  assert likeness.without(mended) is None
  quoting = documents.Document((SENTENCES[0], *SENTENCES[10:13]))
  assert likeness.without(quoting) == quoting
  short = documents.Document(("Тийм.", "Үгүй."))
  assert likeness.without(short) == short
  lines = documents.Document((SENTENCES[2], SENTENCES[20]), isolated=True)
  kept = likeness.without(lines)
  assert kept is not None
  assert kept.sentences == (SENTENCES[20],)


def test_a_corpus_of_one_document_holds_nothing_out(
  tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  parts = documents.weighted(_corpus(tmp_path / "a.txt", _distinct(1) * 4))
  assert not _portion(parts, 0.5).held_out.any()
  assert "nothing can be held out" in caplog.text


def test_weights_follow_a_colon_and_each_file_is_read_once(
  tmp_path: pathlib.Path,
) -> None:
  for name in ("wiki", "news"):
    _corpus(tmp_path / f"{name}.txt", _distinct(2))
  corpora = documents.weighted(
    f"{tmp_path}/wiki.txt:2.5, {tmp_path}/*.txt,{tmp_path}/news.txt:3"
  )
  names = [[pathlib.Path(p).name for p in f.paths] for f in corpora]
  assert names == [["wiki.txt"], ["news.txt"], []]
  assert [f.weight for f in corpora] == [2.5, 1.0, 3.0]


@pytest.mark.parametrize(
  "weight", ["0", "0.0", "-1", "nan", "NaN", "inf", "-inf", "1e999", "1e7"]
)
def test_a_weight_that_is_no_positive_finite_number_is_refused(
  weight: str, tmp_path: pathlib.Path
) -> None:
  _corpus(tmp_path / "wiki.txt", _distinct(2))
  with pytest.raises(options.InputError, match="weights above 0"):
    documents.weighted(f"{tmp_path}/wiki.txt:{weight}")
  (files,) = documents.weighted(f"{tmp_path}/wiki.txt:1e-3")
  assert files.weight == 0.001


def test_isolated_lines_come_in_groups_whatever_parts_them(
  tmp_path: pathlib.Path,
) -> None:
  path = _corpus(tmp_path / "a.txt", [[line] for line in SENTENCES[:250]])
  groups = list(documents.read(documents.weighted(path, isolated=True)))
  assert [len(d.sentences) for d in groups] == [100, 100, 50]
  assert all(d.isolated for d in groups)
