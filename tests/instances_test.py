"""Tests of cutting documents into examples that have all of their text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.base import randomness
from data_prep.pretraining import instances, random_segments, segment_borders

_DOCUMENTS = st.lists(
  st.lists(st.integers(0, 90), min_size=1, max_size=12), min_size=1, max_size=6
)


def _stream(
  documents: list[list[int]], word: int, uses: int = 1
) -> tuple[list[instances.Span], np.ndarray, np.ndarray]:
  """Returns (spans, ends of sentences, beginnings of words) of documents.

  A document is a list of the lengths of its sentences; a word has `word`
  pieces.
  """
  ends = np.cumsum([size for document in documents for size in document])
  last = np.cumsum([len(document) for document in documents]) - 1
  spans = [
    instances.Span(1000 + i, int(end), uses) for i, end in enumerate(ends[last])
  ]
  begins = np.arange(int(ends[-1])) % word == 0
  return spans, ends, begins


def _pool(
  documents: list[list[int]], begins: np.ndarray, longest: int
) -> random_segments.Pool:
  """Returns a pool that contains all text of the documents."""
  sizes = [sum(document) for document in documents]
  ends = np.cumsum([size for document in documents for size in document])
  borders = segment_borders.find(ends, begins, longest)
  lasts = np.cumsum(sizes)
  number = np.searchsorted(lasts, borders.ends)
  return random_segments.Pool(
    np.zeros(int(ends[-1]), np.int32),
    borders,
    1000 + number.astype(np.uint64),
    np.concatenate([[0], lasts])[number],
    lasts[number],
  )


def _created(
  spans: list[instances.Span],
  ends: np.ndarray,
  begins: np.ndarray,
  length: int,
  short: float = 0.1,
  pool: random_segments.Pool | None = None,
  random_next: bool = False,
) -> instances.Instances:
  return instances.create(
    spans,
    segment_borders.find(ends, begins, length - 3),
    max_seq_length=length,
    short_seq_prob=short,
    random_next_sentence=random_next,
    pool=pool,
    seed=1,
  )


def _times_shown(made: instances.Instances, size: int, use: int) -> np.ndarray:
  """Returns how many examples of a use show each piece of the stream."""
  rows = made.keys[:, 1] == use
  shown = np.zeros(size, int)
  for start, length in zip(
    made.starts[rows].ravel(), made.lengths[rows].ravel(), strict=True
  ):
    if start < size:
      shown[start : start + length] += 1
  return shown


@settings(max_examples=60, deadline=None)
@given(
  documents=_DOCUMENTS,
  word=st.integers(1, 120),
  length=st.sampled_from([8, 9, 16, 40, 128]),
  short=st.sampled_from([0.0, 0.1, 1.0]),
  random_next=st.booleans(),
)
def test_every_piece_stands_in_exactly_one_example_of_each_use(
  documents: list[list[int]],
  word: int,
  length: int,
  short: float,
  random_next: bool,
) -> None:
  spans, ends, begins = _stream(documents, word, uses=2)
  size = int(ends[-1])
  pool = None
  if random_next and size and sum(map(bool, map(sum, documents))) > 1:
    pool = _pool(documents, begins, length - 3)
  made = _created(spans, ends, begins, length, short, pool, random_next)
  for use in range(2):
    assert (_times_shown(made, size, use) == 1).all()
  paired = made.labels != instances.NO_PAIR
  assert (made.lengths.sum(1) <= np.where(paired, length - 3, length - 2)).all()
  assert (made.lengths[:, 0] > 0).all()
  assert ((made.lengths[:, 1] > 0) == paired).all()
  # Nothing ends inside of a word that would have fitted.
  borders = {0, size, *ends.tolist(), *np.nonzero(begins)[0].tolist()}
  own = made.starts < size
  stops = (made.starts + made.lengths)[own & (made.lengths > 0)].tolist()
  if word <= length - 3:
    assert borders.issuperset(stops)


def test_a_chunk_keeps_its_order_or_is_swapped_and_never_leaves_its_document() -> (
  None
):
  spans, ends, begins = _stream([[7] * 400, [4, 3]], 1)
  made = _created(spans, ends, begins, 40, short=0.0)
  second = made.keys[:, 0] == 1001
  assert made.starts[second].min() >= 2800, "documents follow each other"
  begin, stop = made.starts[~second], (made.starts + made.lengths)[~second]
  assert stop.max() <= 2800
  labels = made.labels[~second]
  assert ((begin[:, 0] < begin[:, 1]) == (labels == instances.IN_ORDER)).all()
  assert 0.4 < np.mean(labels) < 0.6
  assert set(labels) == {0, 1}
  # A and B touch: B goes on where A ends, or the other way round.
  first = np.where(labels == 1, 1, 0)
  row = np.arange(len(labels))
  assert (stop[row, first] == begin[row, 1 - first]).all()


def test_the_rest_of_a_long_example_begins_the_next_one() -> None:
  """In facebookresearch/fairseq 1103 and transformers 108 it was truncated."""
  spans, ends, begins = _stream([[20, 30, 20]], 5)
  made = _created(spans, ends, begins, 40, short=0.0)
  begin = made.starts.min(1, where=made.lengths > 0, initial=99)
  assert begin.tolist() == [0, 35], "37 fit, and a word begins at each fifth"
  assert made.lengths.sum(1).tolist() == [35, 35]


def test_a_sentence_of_several_examples_has_segments_between_words() -> None:
  spans, ends, begins = _stream([[2000]], 2)
  made = _created(spans, ends, begins, 128, short=0.0)
  assert len(made.labels) == 17, "124 pieces each, whole words of two"
  paired = made.labels >= 0
  assert paired.sum() >= 16, "the last one may be a single segment"
  assert (made.starts % 2 == 0).all()
  assert (made.lengths % 2 == 0).all()


def test_a_word_of_several_examples_is_cut_into_whole_examples() -> None:
  spans, ends, begins = _stream([[5000]], 5000)
  made = _created(spans, ends, begins, 128, short=0.0)
  assert set(made.labels) == {instances.NO_PAIR}
  assert made.lengths.sum() == 5000
  assert len(made.labels) == 40


@pytest.mark.parametrize(
  "documents",
  [
    [[15] * 4000] * 2,
    [[15] * 4000, *[[15] * 8] * 100],
    [[5] * 4] * 400,
    [[9000]] * 4,
  ],
  ids=["two books", "a book among articles", "short", "without sentences"],
)
def test_random_segments_are_anothers_half_the_time_and_as_long(
  documents: list[list[int]],
) -> None:
  """See NVIDIA/DeepLearningExamples 421 and google-research/bert 125."""
  spans, ends, begins = _stream(documents, 3)
  pool = _pool(documents, begins, 61)
  made = _created(spans, ends, begins, 64, 0.1, pool, True)
  size = int(ends[-1])
  random = made.labels == instances.SWAPPED
  pairs = made.labels != instances.NO_PAIR
  assert pairs.sum() > 100
  assert 0.42 < random[pairs].mean() < 0.58
  assert ((made.starts[:, 1] >= size) == random).all()
  # The length of B does not tell the label.
  in_order = made.lengths[pairs & ~random].sum(1)
  assert abs(made.lengths[random].sum(1).mean() / in_order.mean() - 1) < 0.1
  # B is of another document, and of one alone.
  stops = np.array([span.end for span in spans])
  begin = made.starts[random, 1] - size
  source = np.searchsorted(stops, begin, "right")
  assert (source + 1000 != made.keys[random, 0]).all()
  assert (begin + made.lengths[random, 1] <= stops[source]).all()


def test_without_another_document_no_label_is_constant_but_minus_one() -> None:
  spans, ends, begins = _stream([[15] * 400], 3)
  made = _created(spans, ends, begins, 64, random_next=True)
  assert set(made.labels) == {instances.NO_PAIR}
  assert (_times_shown(made, 6000, 0) == 1).all()


def test_a_long_document_has_its_share_of_short_examples_and_no_more() -> None:
  """In google-research/bert, all examples of a book are short, or none is."""
  book = [[10] * 3000]
  for number in range(20):
    spans, ends, begins = _stream(book, 2)
    spans = [instances.Span(number, spans[0].end)]
    made = _created(spans, ends, begins, 128, short=0.1)
    short = made.lengths.sum(1) < 115  # sentences end at 120, or reach beyond
    assert 0.04 < short.mean() < 0.16
    assert (made.labels == instances.NO_PAIR).mean() < 0.03


def test_isolated_lines_fill_their_examples_and_make_no_pairs() -> None:
  (span,), ends, begins = _stream([[8] * 300], 2)
  alone = [instances.Span(span.id, span.end, isolated=True)]
  made = _created(alone, ends, begins, 32, short=0.0)
  assert set(made.labels) == {instances.NO_PAIR}
  assert (made.lengths[:-1, 0] == 30).all(), "a second [SEP] needs no room"


def test_draws_one_by_one_are_those_of_whole_arrays() -> None:
  purpose = randomness.Purpose.SWAP
  number = np.arange(50)
  state = int(randomness.bits(purpose, 7, 2**64 - 1))
  drawn = [randomness.fraction(randomness.further(state, i)) for i in range(50)]
  assert drawn == randomness.uniform(purpose, 7, 2**64 - 1, number).tolist()
