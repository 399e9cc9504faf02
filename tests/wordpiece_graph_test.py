"""Tests that WordPiece in a graph gives the words and ids of Python's."""

import json
import os
import pathlib
import random
from typing import Any

import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies

from albert_mn.export import wordpiece_graph
from data_prep.encoding import tokenization, wordpiece
from tests import running

REFERENCE = pathlib.Path(__file__).parent / "reference" / "wordpiece.json"
# Lower-casing, marks dropped.
CASED, UNCASED, LOWER, BARE = (0, 0), (1, 1), (1, 0), (0, 1)

# Σ at a word's end and what it looks at; marks that change places, also those
# that stay (𝅥〮); İ, which becomes two; what is dropped, and what divides.
_TROUBLE = [
  *"ΣΣΣσςAбΑ.:'’aИй\u0345\u0301\u0300\u0306\u0315\u0327\u05b0\u0f39\u302e\U0001d165\U0001d16d",
  *"İẞé한ﬁ漢가각#[]_▁ \t\n\r\x00\x1c\x85\xa0\xad\u200b\u200d\u2028\u2029\u3000",
  *"\ud7ff\ue000\ufeff\ufffd\ufffe\uffff\U0001f600\U000f0000\U0010ffff\u2e52\ua7dc",
]
# What UTF-8 can hold.
_EVERY = [*map(chr, range(0xD800)), *map(chr, range(0xE000, 0x110000))]


def _fuzz() -> list[str]:
  draw = random.Random(7)
  return [
    "".join(draw.choices(letters, k=draw.randint(0, 20)))
    for letters in (_TROUBLE, _EVERY)
    for _ in range(2_000)
  ]


@pytest.fixture(scope="module")
def vocab_file(tmp_path_factory: pytest.TempPathFactory) -> str:
  known = json.loads(REFERENCE.read_text("utf-8"))["vocabulary"]
  path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
  # A piece that is there twice has the id of its last place.
  path.write_text("\n".join([*known, "сайн", "", "x" * 150, "##🙂"]), "utf-8")
  return str(path)


@pytest.fixture(scope="module")
def words_of(vocab_file: str) -> Any:
  """A function from (kind, texts) to the words of each text, by the graph."""
  made: dict[tuple[int, int], Any] = {}

  def words(kind: tuple[int, int], texts: list[str]) -> list[list[str]]:
    if kind not in made:
      tokenizer = tokenization.Tokenizer(vocab_file, *map(bool, kind))
      module = wordpiece_graph.WordPiece(tokenizer)
      made[kind] = (
        module,
        tf.function(
          lambda given: tf.strings.unicode_encode(module.words(given), "UTF-8"),
          input_signature=[tf.TensorSpec([None], tf.string)],
        ),
      )
    encoded = made[kind][1](tf.constant(texts, tf.string)).to_list()
    return [[word.decode() for word in row] for row in encoded]

  return words


def _assert_same_words(
  words_of: Any, kind: tuple[int, int], texts: list[str]
) -> None:
  expected = [wordpiece.words(text, *map(bool, kind)) for text in texts]
  for text, by_graph, words in zip(
    texts, words_of(kind, texts), expected, strict=True
  ):
    assert by_graph == words, ascii(text)


@pytest.mark.parametrize(
  "kind",
  [
    UNCASED,
    *(pytest.param(k, marks=pytest.mark.slow) for k in (CASED, LOWER, BARE)),
  ],
)
def test_words_of_every_character_and_of_random_ones_are_pythons(
  kind: tuple[int, int], words_of: Any
) -> None:
  lines = ["".join(_EVERY[i : i + 64]) for i in range(0, len(_EVERY), 64)]
  _assert_same_words(words_of, kind, lines)
  _assert_same_words(words_of, kind, _fuzz())


@settings(max_examples=300, deadline=None)
@given(text=strategies.text(strategies.sampled_from(_TROUBLE)))
def test_words_of_any_trouble_are_pythons(words_of: Any, text: str) -> None:
  # Nothing may come from the texts beside it.
  for kind in (UNCASED, LOWER):
    _assert_same_words(words_of, kind, ["Α\u0327", text, "\u0301Σ", text])


def test_what_is_no_utf_8_is_dropped(words_of: Any, vocab_file: str) -> None:
  module = wordpiece_graph.WordPiece(tokenization.Tokenizer(vocab_file))
  words = module.words(tf.constant([b"\xffab \xed\xa0\x80c\xf0\x9f"]))
  assert tf.strings.unicode_encode(words, "UTF-8").to_list() == [[b"ab", b"c"]]


@pytest.mark.parametrize("longest", [100, 200])
@pytest.mark.parametrize("kind", [CASED, UNCASED])
def test_ids_are_pythons(
  kind: tuple[int, int], longest: int, vocab_file: str
) -> None:
  lower, strip = map(bool, kind)
  tokenizer = tokenization.Tokenizer(
    vocab_file, lower, strip, longest_word=longest
  )
  reference = json.loads(REFERENCE.read_text("utf-8"))
  texts = [*reference["texts"], *_fuzz(), "", " ", "сайн Сайн"]
  for size in (99, 100, 101, 150, 199, 200, 201, 800, 801):
    texts += ["x" * size, "é" * size, "🙂" * size]
  ids_of_graph = wordpiece_graph.WordPiece(tokenizer)(
    tf.constant(texts)
  ).to_list()
  for text, ours, ids in zip(
    texts, ids_of_graph, tokenizer.encode(texts), strict=True
  ):
    assert ours == ids.tolist(), ascii(text)
  assert wordpiece_graph.WordPiece(tokenizer)(
    tf.constant([], tf.string)
  ).shape == (0, None)


@pytest.mark.slow
def test_ids_of_real_lines_are_pythons(vocab_file: str) -> None:
  folders = [running.ROOT / "sample/pretrain"]
  if shared := os.environ.get("ALBERT_MN_SHARED"):
    folders.append(pathlib.Path(shared) / "data/pretrain")
  lines = [
    line
    for folder in folders
    for path in sorted(folder.glob("*.txt"))
    for line in path.read_text("utf-8").splitlines()
  ]
  lines = random.Random(1).sample(lines, min(len(lines), 10_000))
  for kind in (CASED, UNCASED):
    tokenizer = tokenization.Tokenizer(vocab_file, *map(bool, kind))
    module = wordpiece_graph.WordPiece(tokenizer)
    ids_of_graph = module(tf.constant(lines)).to_list()
    assert ids_of_graph == [ids.tolist() for ids in tokenizer.encode(lines)]
