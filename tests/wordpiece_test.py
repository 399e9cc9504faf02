"""Tests that WordPiece gives the ids of transformers."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from data_prep.base import options
from data_prep.encoding import length_buckets, tokenization, wordpiece

REFERENCE = pathlib.Path(__file__).parent / "reference" / "wordpiece.json"
# The settings of each of its lists: lower-casing, marks dropped.
KINDS = {
  "cased": (False, False),
  "uncased": (True, True),
  "lower_keep": (True, False),
}


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
  return dict(json.loads(REFERENCE.read_text("utf-8")))


@pytest.fixture(scope="module")
def vocab_file(
  reference: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> str:
  path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
  path.write_text("\n".join(reference["vocabulary"]) + "\n", encoding="utf-8")
  return str(path)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_transformers(
  reference: dict[str, Any], vocab_file: str, kind: str
) -> None:
  tokenizer = tokenization.Tokenizer(vocab_file, *KINDS[kind])
  for text, ids, expected in zip(
    reference["texts"],
    tokenizer.encode(reference["texts"]),
    reference["ids"][kind],
    strict=True,
  ):
    assert ids.tolist() == expected, repr(text)


def test_letters_with_marks_stay_where_the_model_kept_them(
  vocab_file: str,
) -> None:
  cased = tokenization.Tokenizer(vocab_file)
  assert cased.pieces(cased.encode(["сайн хоёр"])[0]) == ["сайн", "хоёр"]
  uncased = tokenization.Tokenizer(vocab_file, True, True)
  assert uncased.pieces(uncased.encode(["Сайн хоёр"])[0]) == ["саин", "хоер"]
  assert {"сайн", "хоёр", "Й"} <= set(uncased.unreachable())
  assert cased.unreachable() == []


@pytest.mark.parametrize("longest", [100, 200])
def test_a_word_above_the_longest_one_is_unknown(
  vocab_file: str, longest: int
) -> None:
  """google-research's limit is 200, transformers' 100."""
  tokenizer = tokenization.Tokenizer(vocab_file, longest_word=longest)
  known, unknown = tokenizer.encode(["й" * longest, "й" * (longest + 1)])
  assert len(known) == longest
  assert unknown.tolist() == [tokenizer.unk_id]


def test_a_manifest_of_before_the_longest_word_means_200() -> None:
  old = tokenization.Settings.of({"do_lower_case": True, "from": "Elsewhere"})
  assert old == tokenization.Settings(True, longest_word=200)
  assert old.parameters() == {"do_lower_case": True}
  new = tokenization.Settings(True, longest_word=100)
  assert new.parameters() == {"do_lower_case": True, "longest_word": 100}
  assert tokenization.Settings.of(new.parameters()) == new
  assert new.described() == "do-lower-case, longest-word 100"


def test_a_tokenizer_knows_special_pieces_word_starts_and_characters(
  vocab_file: str, reference: dict[str, Any]
) -> None:
  tokenizer = tokenization.Tokenizer(vocab_file)
  pieces = reference["vocabulary"]
  special = [pieces[i] for i in np.nonzero(tokenizer.special)[0]]
  assert special == "[PAD] [unused0] [UNK] [CLS] [SEP] [MASK]".split()
  ids = tokenizer.encode(["сайнгүй, 2026"])[0]
  assert tokenizer.word_starts[ids].tolist() == [True, False, True, True]
  assert tokenizer.characters()[ids].tolist() == [4, 3, 1, 4]
  assert tokenizer.segment(["сайнгүй"]) == [["сайн", "гүй"]]
  assert tokenizer.decode(ids) == "сайнгүй , 2026"
  assert tokenizer.pieces(tokenizer.inside("гүй", False)) == ["##гүй"]
  assert tokenizer.pieces(tokenizer.inside("уу", True)) == ["уу"]
  framed, _ = length_buckets.encode(tokenizer, ["уу"], 8)
  assert tokenizer.pieces(framed[0]) == ["[CLS]", "уу", "[SEP]"]


def test_a_text_file_that_is_no_vocabulary_is_refused(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "vocab.txt"
  path.write_text("сайн\nбайна\n", encoding="utf-8")
  with pytest.raises(options.InputError, match=r"vocabulary with \[UNK\]"):
    tokenization.Tokenizer(str(path))


def test_remembered_words_do_not_grow_without_end(
  vocab_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(wordpiece, "_MOST_KNOWN", 2)
  vocabulary = wordpiece.Vocabulary(vocab_file, False, False)
  first = vocabulary.encode(["сайн уу байна хоёр сайн"])
  assert first == vocabulary.encode(["сайн уу байна хоёр сайн"])
  assert len(vocabulary._known) <= 2
