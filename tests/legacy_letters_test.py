"""Tests that legacy letters are repaired in Mongolian words alone."""

import os
import pathlib
import re
import unicodedata

import hypothesis
import pytest
from hypothesis import strategies

from data_prep.files import storage
from data_prep.text import legacy_letters
from tests import running

SAMPLE = pathlib.Path(__file__).resolve().parents[1] / "sample"
CLEAN = (
  "verne_20k",
  "wiki_articles",
  "udhr",
  "bible_mbspeech",
  "pos_blueblack",
  "wsd_mlub",
)


@pytest.mark.parametrize(
  ("typed", "meant"),
  [
    ("бєгєєд їйлдвэр", "бөгөөд үйлдвэр"),
    ("Тэмvжин тvvх БYЛЭГ", "Тэмүжин түүх БҮЛЭГ"),
    ("Єнєєдєр хїмїїс нїдний", "Өнөөдөр хүмүүс нүдний"),
    ("Хvн тєрєлхтєн", "Хүн төрөлхтөн"),
    ("Yндэсний YНДЭСНИЙ", "Үндэсний ҮНДЭСНИЙ"),
    ("тѳв Єнөөдөр", "төв Өнөөдөр"),
    ("байхгїй боломжгvй", "байхгүй боломжгүй"),
  ],
)
def test_words_with_evidence_are_repaired(typed: str, meant: str) -> None:
  for word, wanted in zip(typed.split(), meant.split(), strict=True):
    assert legacy_letters.repair(word) == wanted


@pytest.mark.parametrize(
  ("typed", "meant"),
  [
    ("їе", "їе"),
    ("Шинэ їе, эхний їр.", "Шинэ їе, эхний їр."),
    ("Шинэ їе, эхний їр бїгд.", "Шинэ үе, эхний үр бүгд."),
    ("Чи явах vv, хvн?", "Чи явах үү, хүн?"),
    ("Батмєнх Ємнєговьд.", "Батмєнх Ємнєговьд."),
    ("Батмєнх Ємнєговьд тєржээ.", "Батмөнх Өмнөговьд төржээ."),
    ("Київ їх бїгд.", "Київ їх бүгд."),
    ("Він їх бїгд.", "Він їх бүгд."),
  ],
)
def test_doubtful_words_go_with_the_others_of_their_line(
  typed: str, meant: str
) -> None:
  assert legacy_letters.repair(typed) == meant


@pytest.mark.parametrize(
  "text",
  [
    # Ukrainian
    "Європа моє своїх неї Київ Україна є її має їхній",
    "Усі люди народжуються вільними і рівними у своїй гідності та правах.",
    "Вони наділені розумом і совістю і повинні діяти в дусі братерства.",
    "Моє серце співає, коли я бачу її синє море й домашнє вогнище.",
    "Їх було двоє: Євген і Андрєєв. Її їжа ще на столі, а їй їхати.",
    "Єдине середнє коло їде з'їздом у під'їзд.",
    # Kazakh
    "Барлық адамдар тумысынан азат және қадір-қасиеті мен құқықтары тең.",
    "Өз үйімізде XV ғасырда YouTube пен TV болған жоқ.",
    # Russian of before 1918, Macedonian
    "Ѳома и Ѳедоръ учили ариѳметику, миѳы и каѳедру.",
    "Сите човечки суштества се раѓаат слободни.",
    # Latin
    "Omnes homines vivi liberi et Veritas vincit. V. Vox populi, vox Dei",
    "very nice v. V век XV зуун",
    "YouTube Yahoo Y",
    # Latin letters among Cyrillic ones, for what they look like
    "ХV, ХХV зуун, ТV үзэв, Yлаанбаатар, Vитамин, Covid",
  ],
)
def test_other_languages_and_numerals_are_left_alone(text: str) -> None:
  assert legacy_letters.repair(text) == text


@hypothesis.given(
  strategies.lists(
    strategies.sampled_from(
      "бєгєєд хїн їе Тэмvжин vv Київ моє і ХV Yлаан v хүн їй ѳрѳг".split()
    )
    | strategies.text("аөүэбєїѳvY", max_size=6)
  )
)
def test_repairing_twice_changes_nothing(words: list[str]) -> None:
  once = legacy_letters.repair(" ".join(words))
  assert legacy_letters.repair(once) == once


def test_the_table_holds_what_the_sample_teaches(
  programs: running.Programs, tmp_path: pathlib.Path
) -> None:
  programs.succeed(
    "-m",
    "data_prep.learn_letter_runs",
    f"--input_file={SAMPLE}/pretrain/wiki_articles.txt,"
    f"{SAMPLE}/pretrain/udhr.txt,{SAMPLE}/sib200/*.tsv",
    f"--output_file={tmp_path}/table.tsv",
  )
  learnt, known = (
    dict(line.split("\t") for line in storage.lines(path))
    for path in (f"{tmp_path}/table.tsv", legacy_letters.TABLE)
  )
  assert len(learnt) > 300
  for two, thirds in learnt.items():
    assert set(thirds) <= set(known[two]), two


def test_learning_counts_only_front_words() -> None:
  assert legacy_letters.learn(["Хүн хүнд 1 ба аргагүй.", "Very їх."]) == {
    "^х": "ү",
    "нд": "$",
    "хү": "н",
    "үн": "$д",
  }


def _shared(name: str) -> str:
  folder = os.environ.get("ALBERT_MN_SHARED")
  if not folder:
    pytest.skip("ALBERT_MN_SHARED names no folder with texts")
  path = pathlib.Path(folder, "data/pretrain", f"{name}.txt")
  return unicodedata.normalize("NFC", path.read_text(encoding="utf-8"))


def test_no_word_of_the_clean_sample_is_touched() -> None:
  for path in SAMPLE.glob("*/*"):
    text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8"))
    assert legacy_letters.repair(text) == text, path.name


@pytest.mark.parametrize("name", CLEAN)
def test_no_word_of_clean_books_and_news_is_touched(name: str) -> None:
  for line in _shared(name).splitlines():
    assert legacy_letters.repair(line) == line


@pytest.mark.parametrize(
  ("name", "wanted"), [("secret_history", 0.994), ("lingua", 0.97)]
)
def test_most_legacy_words_of_real_text_are_repaired(
  name: str, wanted: float
) -> None:
  broken = left = 0
  for line in _shared(name).splitlines():
    for word in re.findall(r"[^\W\d_]+", line):
      broken += _is_broken(word)
    for word in re.findall(r"[^\W\d_]+", legacy_letters.repair(line)):
      left += _is_broken(word)
  print(f"{name}: {1 - left / broken:.4f} of {broken} repaired")
  assert 1 - left / broken > wanted


def _is_broken(word: str) -> bool:
  return bool(
    re.search("[а-яА-ЯёөүЁӨҮ]", word) and re.search("[єїѳvЄЇѲVY]", word)
  )
