"""The normaliser loses no letter and repairs only what is broken."""

import os
import pathlib
import re
import unicodedata

import hypothesis
import pytest
from hypothesis import strategies

from data_prep import (
  documents,
  normalization,
  tokenization,
  tokenizer_training,
)

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
  letter: str, form: str, tokenizer: tokenization.Tokenizer
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


@pytest.mark.parametrize(
  ("typed", "meant"),
  [
    ("бєгєєд їйлдвэр", "бөгөөд үйлдвэр"),
    ("Тэмvжин тvvх БYЛЭГ", "Тэмүжин түүх БҮЛЭГ"),
    ("Єнєєдєр хїмїїс нїдний", "Өнөөдөр хүмүүс нүдний"),
    ("Хvн тєрєлхтєн", "Хүн төрөлхтөн"),
  ],
)
def test_legacy_letters_are_repaired_in_mongolian_words(
  typed: str, meant: str
) -> None:
  assert normalization.repair_legacy_letters(typed) == meant
  assert normalization.normalize(typed) == typed, "only where it is asked for"


@pytest.mark.parametrize(
  "text",
  [
    "Європа моє своїх неї Київ Україна є її має їхній",
    "very nice v. V век XV зуун",
    "YouTube Yahoo Y",
    "қазақ тілі әлем",
  ],
)
def test_other_languages_are_left_alone(text: str) -> None:
  assert normalization.repair_legacy_letters(text) == text


def test_no_word_of_the_clean_sample_is_touched() -> None:
  for path in SAMPLE.glob("*.txt"):
    text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8"))
    assert normalization.repair_legacy_letters(text) == text, path.name


def test_most_legacy_words_of_a_real_book_are_repaired() -> None:
  shared = os.environ.get("ALBERT_MN_SHARED")
  if not shared:
    pytest.skip("ALBERT_MN_SHARED names no folder with the book")
  path = pathlib.Path(shared, "data/pretrain/secret_history.txt")
  words = re.findall(r"[^\W\d_]+", path.read_text(encoding="utf-8"))
  broken = [
    w for w in words if re.search("[а-яА-Я]", w) and re.search("[vєїѳ]", w)
  ]
  left = [w for w in broken if normalization.repair_legacy_letters(w) == w]
  share = 1 - len(left) / len(broken)
  print(f"{share:.4f} of {len(broken)} repaired; left: {left[:20]}")
  assert share > 0.97
