"""Tests of each rule of cleaning: what it drops, what it keeps, its switch."""

import dataclasses
import pathlib
from typing import Any

import pytest

from data_prep.files import documents
from data_prep.text import cleaning, language

OFF = cleaning.Options(
  language="any",
  min_words=0,
  drop_lines_without_letters=False,
  drop_repeated_lines=False,
  drop_boilerplate=False,
)
NEWS = (
  "Монцамэ агентлаг мэдээлэв.",
  "Өнөөдөр хоёр баг тоглож, хонгорчууд яллаа.",
  "Эх сурвалж: Монцамэ",
  "2 - 1",
  "Өнөөдөр хоёр баг тоглож, хонгорчууд яллаа.",
  "Утас 9911-2233, имэйл bat@mail.mn, регистр УБ88010101.",
  "Дэлгэрэнгүй...",
)


@pytest.mark.parametrize(
  ("rule", "reason", "gone"),
  [
    ({"drop_lines_without_letters": True}, "line without letters", [3]),
    ({"drop_repeated_lines": True}, "repeated line", [4]),
    ({"drop_boilerplate": True}, "boilerplate", [2, 6]),
    ({"drop_first_and_last_sentence": True}, "first or last sentence", [0, 6]),
  ],
)
def test_a_rule_takes_its_lines_and_names_them(
  rule: dict[str, Any], reason: str, gone: list[int]
) -> None:
  result = cleaning.clean(NEWS, dataclasses.replace(OFF, **rule))
  kept = tuple(s for i, s in enumerate(NEWS) if i not in gone)
  assert result.verdict == cleaning.Keep(kept)
  assert result.lines == {reason: [NEWS[i] for i in gone]}


def test_with_every_rule_off_nothing_changes() -> None:
  assert cleaning.clean(NEWS, OFF) == cleaning.Result(cleaning.Keep(NEWS), {})


@pytest.mark.parametrize(
  ("text", "scrubbed"),
  [
    (NEWS[5], "Утас [утас], имэйл [имэйл], регистр [регистр]."),
    ("Залгаарай: +976 88112233!", "Залгаарай: [утас]!"),
    ("Хүн ам 3 350 000, 1990-2021 онд.", "Хүн ам 3 350 000, 1990-2021 онд."),
    ("Төсөв 50000000 төгрөг, 99,5 хувь.", "Төсөв 50000000 төгрөг, 99,5 хувь."),
  ],
)
def test_personal_data_is_scrubbed(text: str, scrubbed: str) -> None:
  settings = dataclasses.replace(OFF, scrub_personal_data=True)
  verdict = cleaning.clean([text], settings).verdict
  assert verdict == cleaning.Keep((scrubbed,))


@pytest.mark.parametrize(
  ("bounds", "reason"),
  [
    ({"min_words": 40}, "too few words"),
    ({"min_characters": 1000}, "too few characters"),
    ({"min_sentences": 8}, "too few sentences"),
  ],
)
def test_short_documents_are_dropped(
  bounds: dict[str, Any], reason: str
) -> None:
  verdict = cleaning.clean(NEWS, dataclasses.replace(OFF, **bounds)).verdict
  assert isinstance(verdict, cleaning.Drop)
  assert verdict.reason == reason
  assert verdict.example


# Written for this test.
FOREIGN = {
  "ru": "Вчера вечером мы вместе с друзьями ходили в новый театр, который "
  "открылся на площади города. Спектакль был хорошим, и все были довольны.",
  "kk": "Қазақстан — Еуразия құрлығының орталығында орналасқан мемлекет және "
  "жері өте үлкен, халқының саны жыл сайын өсіп келеді.",
  "ky": "Кыргызстан — Борбор Азияда жайгашкан мамлекет, анын борбору Бишкек. "
  "Көлдөрү көп жана суусу таза, тоолору бийик жана кооз.",
  "uk": "Вчора ввечері ми разом із друзями ходили до нового театру, який "
  "відкрився на площі міста, і вистава була дуже гарною.",
  "bg": "Вчера вечерта с приятели ходихме на новия театър, който беше открит "
  "на площада. Представлението беше хубаво и всички са доволни.",
  "bxr": "Буряад хэлэн хадаа монгол хэлэнүүдэй бүлэгтэ ородог. Байгал далайн "
  "хойто талаар ажаһуудаг буряадууд энэ хэлээр дуугарна, һургуулида үзэнэ.",
  "latin": "Yesterday evening we went with our friends to the new theatre that "
  "was opened at the main square of the town.",
}
OURS = (
  "Өчигдөр орой бид найзуудтайгаа шинэ театрт очиж, жүжиг үзлээ. Жүжиг маш "
  "сайхан болсон бөгөөд бүгд сэтгэл хангалуун байв."
)


@pytest.mark.parametrize("name", FOREIGN)
def test_other_languages_are_told_from_mongolian(name: str) -> None:
  assert language.identify(FOREIGN[name]) == name
  settings = cleaning.Options()
  verdict = cleaning.clean([FOREIGN[name]], settings).verdict
  assert isinstance(verdict, cleaning.Drop)
  assert verdict.reason == f"not Mongolian: {name}"
  assert isinstance(
    cleaning.clean(
      [FOREIGN[name]], dataclasses.replace(settings, language="any")
    ).verdict,
    cleaning.Keep,
  )


@pytest.mark.parametrize(
  "text",
  [
    OURS,
    OURS.replace("ө", "є").replace("ү", "v"),
    OURS.replace("ө", "ѳ").replace("ү", "ї"),
    OURS.lower(),
    OURS.upper(),
  ],
)
def test_mongolian_is_told_in_every_font_and_case(text: str) -> None:
  assert language.identify(text) == "mn"


@pytest.mark.parametrize(
  "text",
  [OURS.encode().decode("latin-1"), OURS.encode().decode("cp1252", "ignore")],
)
def test_mojibake_is_told(text: str) -> None:
  assert language.identify(text) == "mojibake"


def test_a_line_too_short_to_tell_is_kept() -> None:
  assert language.identify("Театр, концерт") == "unknown"


def test_every_passage_of_the_sample_is_mongolian() -> None:
  folder = pathlib.Path(__file__).resolve().parents[1] / "sample" / "pretrain"
  count = 0
  for document in documents.read(documents.weighted(f"{folder}/*.txt")):
    for i in range(0, len(document.sentences), 8):
      text = " ".join(document.sentences[i : i + 8])
      assert language.identify(text) in ("mn", "unknown"), text
      count += 1
  assert count > 250


@pytest.mark.parametrize(
  ("text", "scrubbed"),
  [
    ("a.b+c-d@e-f.mn, x@y.z.", "[имэйл], [имэйл]."),
    ("a@b@c.mn a@b a@ @b.mn @@", "a@[имэйл] a@b a@ [нэр] @@"),
    ("a@b.mn+c@d.mn", "[имэйл][имэйл]"),
    ("_" * 50_000, "_" * 50_000),
  ],
)
def test_addresses_are_scrubbed_and_their_likes_are_not(
  text: str, scrubbed: str
) -> None:
  assert cleaning.scrub(text) == scrubbed
