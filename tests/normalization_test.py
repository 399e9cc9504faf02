"""Tests that the normaliser loses no letter, and drops what is invisible."""

import pathlib
import unicodedata
from typing import Literal

import hypothesis
import pytest
from hypothesis import strategies

from data_prep.encoding import tokenization, tokenizer_training
from data_prep.files import documents
from data_prep.text import alignment, normalization

SAMPLE = pathlib.Path(__file__).resolve().parents[1] / "sample" / "pretrain"
LETTERS = normalization.ALPHABET + normalization.ALPHABET.upper()
MONGOLIAN = strategies.text(LETTERS + " .,-", max_size=60)


def test_the_alphabet_has_the_35_letters() -> None:
  assert len(set(normalization.ALPHABET)) == 35


@hypothesis.given(MONGOLIAN)
def test_every_letter_survives_composed_or_decomposed(text: str) -> None:
  wanted = " ".join(text.split())
  for form in ("NFC", "NFD"):
    typed = unicodedata.normalize(form, text)
    assert normalization.normalize(typed) == wanted
    assert normalization.normalize(typed, repair_legacy=True) == wanted


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_every_letter_survives_into_the_corpus_and_the_tokenizer(
  letter: str, form: Literal["NFC", "NFD"], tokenizer: tokenization.Tokenizer
) -> None:
  word = f"а{letter}а"
  typed = unicodedata.normalize(form, word)
  assert normalization.normalize(typed, repair_legacy=True) == word
  assert list(documents.split([typed]))  # no letter is taken for white space
  (ids,) = tokenizer.encode([typed])
  assert tokenizer.decode(ids.tolist()) == word


@pytest.fixture(scope="module")
def tokenizer(
  tmp_path_factory: pytest.TempPathFactory,
) -> tokenization.Tokenizer:
  folder = tmp_path_factory.mktemp("spm")
  corpus = folder / "corpus.txt"
  text = (SAMPLE / "udhr.txt").read_text(encoding="utf-8")
  letters = "\n".join(f"а{letter}а {letter}" for letter in LETTERS)
  corpus.write_text(text + letters, encoding="utf-8")
  tokenizer_training.train(
    tokenizer_training.Options(
      input_file=str(corpus),
      output_dir=str(folder),
      vocab_size=500,
      character_coverage=1.0,
    )
  )
  return tokenization.Tokenizer(str(folder / tokenization.MODEL_NAME))


@hypothesis.given(strategies.text(max_size=60), strategies.booleans())
def test_normalising_twice_changes_nothing(text: str, repair: bool) -> None:
  once = normalization.normalize(text, repair)
  assert normalization.normalize(once, repair) == once


def test_white_space_becomes_one_space_and_control_characters_go() -> None:
  typed = "\ufeff Сайн\u00a0\u3000байна\tуу\x00\x07\u00ad\u200b\r\n"
  assert normalization.normalize(typed) == "Сайн байна уу"


def test_what_is_invisible_is_what_unicode_says() -> None:
  for code in range(0x110000):
    letter = chr(code)
    kept = letter.isspace() or letter in "\u200c\u200d\u180e"
    if unicodedata.category(letter) in ("Cc", "Cf") and not kept:
      assert normalization.normalize(f"а{letter}б") == "аб", hex(code)
    elif normalization._INVISIBLE.match(letter):
      # Assigned in a later Unicode than this Python's.
      assert unicodedata.category(letter) == "Cn", hex(code)


def test_emoji_compatibility_forms_and_the_old_script_stay() -> None:
  for text in ("№ 5 ½ м²", "👨\u200d👩\u200d👧", "ᠮᠣᠩᠭᠣᠯ ᠬᠡᠯᠡ\u180eᠡ"):
    assert normalization.normalize(text) == text


def test_legacy_letters_are_repaired_only_where_it_is_asked_for() -> None:
  assert normalization.normalize("Тэмvжин\u00a0бєгєєд") == "Тэмvжин бєгєєд"
  repaired = normalization.normalize("Тэмvжин\u00a0бєгєєд", repair_legacy=True)
  assert repaired == "Тэмүжин бөгөөд"


@pytest.mark.parametrize("mark", ["\u0301", "\u0316\u0301", "\u0344", "\u0f73"])
def test_a_long_run_of_marks_is_interrupted_by_a_joiner(mark: str) -> None:
  """Unicode's UAX #15 allows 30 in a row, so that NFC takes linear time."""
  text = f"а{5_000 * mark}б"
  shown = normalization.normalize(text)
  assert normalization.normalize(shown) == shown
  assert unicodedata.is_normalized("NFC", shown)
  assert max(map(len, shown.split("\u034f"))) <= 62
  apart = unicodedata.normalize("NFD", shown.replace("\u034f", ""))
  marks = unicodedata.normalize("NFD", mark)
  assert sorted(apart) == sorted(f"аб{5_000 * marks}")
  traced = normalization.traced(alignment.Traced.of(text))
  assert traced.text == shown


def test_marks_that_a_language_may_write_stay_alone() -> None:
  text = "x" + "\u0316" * 30
  assert normalization.normalize(text) == text
