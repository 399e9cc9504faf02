"""Tests of entities as tags, and of scores against seqeval."""

import numpy as np
import pytest

from albert_mn.scoring import entity_scores
from albert_mn.tasks import baseline, problems, tagging
from data_prep.base import options
from data_prep.classification import classifier_data
from data_prep.encoding import framing, tokenization

TEXT = "Д.Цогтбаатар  УИХ-ын\tгишүүн Баянгол дүүрэгт ирлээ 😀"


def _at(words: str, kind: str) -> tagging.Span:
  start = TEXT.index(words)
  return start, start + len(words), kind


def test_spans_go_to_pieces_and_back(tokenizer_file: str) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  (surfaces,) = tokenizer.segment([TEXT])
  assert "".join(surfaces) == TEXT
  pieces = tagging.places(TEXT, surfaces)
  for start, end in pieces:
    assert TEXT[start:end] == TEXT[start:end].strip()
  spans = (_at("Д.Цогтбаатар", "PER"), _at("Баянгол дүүрэг", "LOC"))
  tags = tagging.tags_of(spans, pieces)
  assert len(tags) == len(pieces)
  assert [
    (pieces[first][0], pieces[last][1], kind)
    for first, last, kind in tagging.stretches(tags)
  ] == list(spans)


def test_an_entity_inside_a_word_has_its_own_pieces() -> None:
  pieces = tagging.places("УИХ-ын гишүүн", ["УИХ", "-", "ын", " гишүүн"])
  assert pieces == [(0, 3), (3, 4), (4, 6), (7, 13)]
  assert tagging.tags_of([(0, 3, "ORG")], pieces) == ["B-ORG", "O", "O", "O"]
  # A piece that sticks out belongs to it all the same.
  assert tagging.tags_of([(0, 5, "ORG")], pieces) == [
    "B-ORG",
    "I-ORG",
    "I-ORG",
    "O",
  ]
  rows = [classifier_data.Row(2, "УИХ-ын", entities=((0, 3, "A"), (3, 5, "B")))]
  segment = lambda texts: [["УИХ", "-", "ын"]]  # noqa: E731
  assert tagging.unalignable(rows, segment) == 1


def test_neighbours_of_one_type_stay_apart_and_white_space_is_none() -> None:
  pieces = tagging.places("а б  в", ["а", " б", "  ", "в"])
  assert pieces == [(0, 1), (2, 3), (5, 5), (5, 6)]
  tags = tagging.tags_of([(0, 1, "X"), (2, 6, "X")], pieces)
  assert tags == ["B-X", "B-X", "I-X", "I-X"]
  assert tagging.stretches(tags) == [(0, 0, "X"), (1, 3, "X")]


def test_what_cannot_be_seen_is_no_part_of_a_piece() -> None:
  text = "\ufeff Дорж\u200b,\xad гуай "
  surfaces = ["\ufeff Дорж\u200b", ",\xad", " гуай "]
  assert tagging.places(text, surfaces) == [(2, 6), (7, 8), (10, 14)]
  # Of a model that takes ´ for white space.
  is_blank = "´ ".__contains__
  assert tagging.places("´ гуай", ["´ гуай"], is_blank) == [(2, 6)]


def test_white_space_in_front_of_a_text_moves_no_entity(
  tokenizer_file: str,
) -> None:
  text = " \t Баянгол  дүүрэг "
  surfaces = tokenization.Tokenizer(tokenizer_file).segment([text])[0]
  places = tagging.places(text, surfaces)
  assert (places[0][0], places[-1][1]) == (3, 18)
  letters = "".join(text[first:last] for first, last in places)
  assert letters == "Баянголдүүрэг"


@pytest.mark.parametrize(
  ("tags", "expected"),
  [
    ("O I-A I-A O", [(1, 2, "A")]),
    ("B-A I-B I-B", [(0, 0, "A"), (1, 2, "B")]),
    ("B-A B-A I-A", [(0, 0, "A"), (1, 2, "A")]),
    ("", []),
  ],
)
def test_tags_that_no_person_would_write_are_read_as_seqeval_does(
  tags: str, expected: list[tagging.Span]
) -> None:
  assert tagging.stretches(tags.split()) == expected


# What seqeval 1.2.2's precision_recall_fscore_support gave for `_random_tags`:
# of each type, then averages.
SEQEVAL = {
  "LOC": [0.714286, 0.654206, 0.682927, 107],
  "ORG": [0.59375, 0.59375, 0.59375, 32],
  "PER": [0.692308, 0.725806, 0.708661, 62],
  "micro": [0.687179, 0.666667, 0.676768],
  "macro": [0.666781, 0.657921, 0.661779],
  "weighted": [0.688317, 0.666667, 0.676668],
}


def _random_tags() -> list[list[list[str]]]:
  """Returns [truth, answers]: random tags of 60 texts, of 1 to 12 tags each.

  Two tags in three agree.
  """
  rng = np.random.default_rng(11)
  names = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER", "B-ORG", "I-ORG"]
  chance = [0.4, 0.15, 0.15, 0.1, 0.1, 0.05, 0.05]
  truth, answers = [], []
  for _ in range(60):
    size = int(rng.integers(1, 13))
    true = [str(t) for t in rng.choice(names, size, p=chance)]
    drawn = [str(t) for t in rng.choice(names, size, p=chance)]
    keep = rng.random(size) < 0.67
    truth.append(true)
    answers.append(
      [a if k else b for a, b, k in zip(true, drawn, keep, strict=True)]
    )
  return [truth, answers]


def test_the_scores_are_seqevals() -> None:
  sets = []
  for side in _random_tags():
    spans = np.empty(len(side), object)
    for place, tags in enumerate(side):
      spans[place] = frozenset(tagging.stretches(tags))
    sets.append(spans)
  judged = entity_scores.Entities(["LOC", "MISC", "ORG", "PER"], *sets)
  scored = {name: row for name, *row in judged.per_label()}
  # seqeval does not know of a type that occurs nowhere.
  assert scored.pop("MISC") == [0.0, 0.0, 0.0, 0]
  scores = judged.scores()
  for kind in ("micro", "macro", "weighted"):
    scored[kind] = [
      scores[f"{kind}_{n}"] for n in ("precision", "recall", "f1")
    ]
  assert scored.keys() == SEQEVAL.keys()
  for name, row in SEQEVAL.items():
    assert scored[name] == pytest.approx(row, abs=1e-6), name
  assert "weighted avg" in judged.table()


def test_what_a_tagger_learns_from_is_cut_with_its_text(
  tokenizer_file: str,
) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  rows = [
    classifier_data.Row(2, TEXT, entities=(_at("Баянгол дүүрэг", "LOC"),)),
    classifier_data.Row(3, "үг", entities=()),
  ]
  problem = tagging.Tagging.of(rows)
  assert problem.names == ("O", "B-LOC", "I-LOC")
  whole = problem.numbers(framing.Framer(tokenizer, 128), rows)[0]
  _, examples = problem.examples(framing.Framer(tokenizer, 10, "windows"), rows)
  assert len(examples.targets) > 2
  for ids, tags in zip(examples.encoded, examples.targets, strict=True):
    assert len(ids) == len(tags)
    assert tags[0] == tags[-1] == -1
  last = list(examples.targets[-2][1:-1])
  assert last == whole[-8:]
  filled = problem.filled(examples.targets, np.array([0, 1]), (2, 16))
  assert filled.shape == (2, 16)
  assert (filled[:, 10:] == -1).all()
  # Rows that fill up a batch point to the first input, however long it is.
  short = len(examples.targets) - 1
  assert problem.filled(examples.targets, np.array([short, 0]), (2, 5)).shape
  with pytest.raises(options.InputError, match="'PER' on line 2"):
    problem.check([classifier_data.Row(2, "а", entities=((0, 1, "PER"),))])
  assert problem.TYPE != problems.CLASS


def test_the_baseline_finds_known_words_again() -> None:
  texts = ["Баянгол дүүрэг", "Баянгол гол", "гол цас"]
  spans = [[(0, 14, "LOC")], [(0, 7, "PER")], []]
  entities = baseline.entities(
    texts, spans, ["цас Баянгол дүүрэг, Баянгол гол"]
  )
  # Alone, the name is an entity once in its two places: no more than chance.
  assert entities == [[(4, 18, "LOC")]]


def test_a_way_to_read_texts_that_skips_pieces_is_refused() -> None:
  for way in (framing.HEAD, framing.WINDOWS):
    tagging.check(way)
  with pytest.raises(options.InputError, match="--long_text=head or windows"):
    tagging.check(framing.HEAD_TAIL)
