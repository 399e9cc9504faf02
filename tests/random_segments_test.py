"""Tests of the pool of random second segments: size, content and order."""

import pathlib

import numpy as np
import pytest

from data_prep.encoding import tokenization
from data_prep.pretraining import random_segments

_LEAST, _MOST = 20_000, 60_000


def _document(number: int, sentences: int) -> tuple[int, list[str]]:
  return number, [f"{number} дэх {i:06d} өгүүлбэр" for i in range(sentences)]


def _chosen(
  documents: list[tuple[int, list[str]]], seed: int = 1
) -> list[random_segments.Excerpt]:
  letters = sum(len(s) for _, sentences in documents for s in sentences)
  choice = random_segments.Choice(16, seed, letters, _LEAST, _MOST)
  for number, sentences in documents:
    choice.show(number, sentences)
  return choice.excerpts()


def _letters(excerpts: list[random_segments.Excerpt]) -> int:
  return sum(len(s) for e in excerpts for s in e.sentences)


@pytest.mark.parametrize("count", [10, 100, 300, 2000])
def test_the_pool_is_an_eighth_of_the_text_within_bounds(count: int) -> None:
  documents = [_document(i, 42) for i in range(count)]
  total = sum(len(s) for _, sentences in documents for s in sentences)
  wanted = min(max(total / 8, _LEAST), _MOST, total)
  assert wanted <= _letters(_chosen(documents)) < wanted + 256


def test_half_of_the_pool_is_of_one_document_at_most() -> None:
  book, small = _document(0, 20_000), [_document(i, 20) for i in range(1, 99)]
  for documents in ([book, *small], [*small, book]):
    excerpts = _chosen(documents)
    own = _letters([e for e in excerpts if e.id == 0])
    total = sum(len(s) for _, sentences in documents for s in sentences)
    assert 0.4 * total / 8 < own <= 0.5 * total / 8
    assert len({e.id for e in excerpts}) > 50


def test_neither_order_nor_other_documents_matter_but_the_seed_does() -> None:
  documents = [_document(i, 7 * i) for i in range(1, 150)]
  chosen = _chosen(documents)
  assert chosen == _chosen(documents[::-1])
  assert chosen != _chosen(documents, seed=2)
  places = [(e.id, e.number) for e in chosen]
  assert places == sorted(set(places))


def test_long_lines_are_divided_so_that_no_document_is_left_without() -> None:
  words, letters = "үг " * 20_000, "ү" * 60_000
  chosen = _chosen([(1, [words]), (2, [letters])])
  for number in (1, 2):
    own = [e for e in chosen if e.id == number]
    assert 9_000 < _letters(own) <= 10_000
    assert max(e.letters for e in own) <= 256
  spaced = [s for e in chosen if e.id == 1 for s in e.sentences]
  assert all(set(s.split()) == {"үг"} for s in spaced)


def test_a_pool_survives_its_file_and_never_draws_from_the_own_document(
  tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  documents = [_document(i, 40) for i in (2**64 - 1, 5, 7)]
  pool = random_segments.encoded(_chosen(documents), tokenizer, 16)
  assert pool is not None
  path = random_segments.save(pool, str(tmp_path), "train")
  again = random_segments.load(path)
  assert (again.pieces == pool.pieces).all()
  own = np.repeat(np.array([2**64 - 1, 5, 7, 6], np.uint64), 500)
  begin, first, last = again.draw(
    own, np.tile(np.linspace(0, 1, 500, False), 4)
  )
  assert ((first <= begin) & (begin < last)).all()
  source = np.searchsorted(pool.borders.ends, begin, "right")
  of = pool.documents[source]
  assert (of != own).all()
  assert len(set(of[:500])) == 2
  assert len(set(of[1500:])) == 3
  # Excerpts that are neighbours are one running text.
  assert len(set(zip(first.tolist(), last.tolist(), strict=True))) == 3


def test_the_text_of_one_document_is_no_pool(tokenizer_file: str) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  chosen = _chosen([_document(3, 400)])
  assert chosen
  assert random_segments.encoded(chosen, tokenizer, 16) is None
  assert random_segments.encoded([], tokenizer, 16) is None
