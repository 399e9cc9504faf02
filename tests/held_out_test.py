"""Tests of choosing held-out documents, and of finding their repetitions."""

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


def test_copies_of_a_document_are_held_out_together(
  tmp_path: pathlib.Path,
) -> None:
  texts = _distinct(50) * 3
  parts = documents.weighted(_corpus(tmp_path / "a.txt", texts))
  survey = held_out.survey(parts, 0.1, 1)
  assert survey.held_out.sum() == 3 * 5
  by_copy = survey.held_out.reshape(3, 50)
  assert (by_copy == by_copy[0]).all()
  assert len(set(survey.ids.tolist())) == 150, "each has a number of its own"


def test_numbers_and_choice_do_not_depend_on_order_or_files(
  tmp_path: pathlib.Path,
) -> None:
  texts = _distinct(60)
  whole = documents.weighted(_corpus(tmp_path / "one.txt", texts))
  _corpus(tmp_path / "two-1.txt", texts[30:])
  _corpus(tmp_path / "two-2.txt", texts[:30])
  halves = documents.weighted(str(tmp_path / "two-*.txt"))
  first, second = (held_out.survey(p, 0.2, 1) for p in (whole, halves))
  assert np.array_equal(first.ids, np.roll(second.ids, 30))
  assert np.array_equal(first.held_out, np.roll(second.held_out, 30))
  assert {d.content() for d in first.sample.documents} == {
    d.content() for d in second.sample.documents
  }


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
  survey = held_out.survey(parts, 0.1, 1)
  by_version = survey.held_out.reshape(4, 60)
  assert survey.clustered
  assert (by_version == by_version[0]).all()
  assert by_version[0].sum() == 6


def test_a_sentence_of_every_article_does_not_hold_all_of_them_out(
  tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  texts = [[SENTENCES[0], f"{i} дугаар бүлэг."] for i in range(50)]
  parts = documents.weighted(_corpus(tmp_path / "a.txt", texts))
  survey = held_out.survey(parts, 0.1, 1)
  assert survey.held_out.sum() == 5
  assert not survey.clustered
  assert "sentences in common" in caplog.text


def test_what_repeats_held_out_documents_is_recognised() -> None:
  old = documents.Document(tuple(SENTENCES[:4]))
  likeness = held_out.Likeness([old])
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
  assert not held_out.survey(parts, 0.5, 1).held_out.any()
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
