"""Tests of the quality rules: what each drops, and that good text stays."""

import json
import pathlib
import re
from typing import Any

import pytest

from data_prep.base import options
from data_prep.corpus import corpora, corpus_options
from data_prep.files import documents, storage
from data_prep.sources import downloads, texts
from data_prep.text import cleaning, quality
from tests import running

GOOD = [
  "Их Монгол Улс хүчирхэгжиж, Ази, Европын олон орныг эзлэн авчээ.",
  "Тэр үед хотууд сэргэж, худалдаа хөгжин, элч нар алс газар хүрч байлаа.",
  "Хааны ордонд олон орны эрдэмтэн, урчууд ажиллаж, ном бичиж байв.",
  "Нүүдэлчид мал аж ахуйгаа эрхлэхийн хамт газар тариалан ч эрхэлдэг байжээ.",
  "Энэ үеийн бичиг үсэг, хууль цааз өнөөг хүртэл судлаачдын анхаарлыг татдаг.",
  "Манай улсын түүхэнд энэ зуун онцгой байр суурь эзэлдэг гэж үздэг юм.",
]
PHRASE = "хямд үнэтэй гутал"
# Rule → a document that it drops and, but for the rule, all other ones keep.
BAD = {
  "gopher_symbols": [f"{line} # # #" for line in GOOD],
  "gopher_bullets": [f"• {line}" for line in GOOD],
  "gopher_ellipses": [f"{line[:-1]}..." for line in GOOD],
  "gopher_letters": [f"{line[:-1]} 12 15 17." for line in GOOD],
  "gopher_word_length": [line.replace(" ", "-") + " " * 9 for line in GOOD] * 9,
  "gopher_small_words": ["Гутал, цүнх, малгай, бээлий, ороолт, хүрэм."] * 25,
  "gopher_repeated_lines": GOOD + GOOD[:4],
  "gopher_repeated_line_letters": [*GOOD, GOOD[0], GOOD[1]],
  "gopher_top_2gram": [line + " Хямд гутал!" * 6 for line in GOOD],
  "fineweb_line_ends": [line[:-1] for line in GOOD],
  "fineweb_short_lines": ["Нүүр", "Мэдээ", "Улс төр", "Спорт", "Урлаг"] * 9,
  "fineweb_repeated_line_letters": [*GOOD, GOOD[0]],
}


@pytest.mark.parametrize("name", BAD)
def test_a_rule_drops_its_documents(name: str) -> None:
  rule = next(rule for rule in quality.RULES if rule.name == name)
  judge = quality.chosen(name)
  assert judge.document(BAD[name], rule.raw) == name
  assert not judge.document(BAD[name], not rule.raw)
  assert not judge.document(GOOD, rule.raw)


@pytest.mark.parametrize("size", range(2, 11))
def test_text_that_says_the_same_again_and_again_is_dropped(size: int) -> None:
  kind = "top" if size < 5 else "repeated"
  name = f"gopher_{kind}_{size}gram" + ("" if size < 5 else "s")
  words = " ".join(GOOD[:2]).split()[:size]
  text = [*GOOD, *(" ".join(words) for _ in range(30))]
  assert quality.chosen(name).document(text, raw=False) == name
  assert not quality.chosen(name).document(GOOD, raw=False)


LINES = {
  "c4_placeholders": "Lorem ipsum dolor sit amet, consectetur.",
  "c4_braces": "a.menu { display: none; }",
  "c4_policies": "Нууцлалын бодлого | Үйлчилгээний нөхцөл",
  "c4_line_ends": "Хамгийн их уншсан",
  "c4_short_lines": "Дараагийн хуудас",
  "gopher_phrases": ", ".join([PHRASE] * 50),
  "oscar_foreign_lines": "Читайте также: что делать с этим на даче",
  "oscar_broken_lines": "ÐœÐ¾Ð½Ð³Ð¾Ð» ÑƒÐ»Ñ",
}


@pytest.mark.parametrize("name", LINES)
def test_a_rule_drops_its_lines_and_no_good_one(name: str) -> None:
  settings = cleaning.Options(quality_rules=name, min_words=0)
  result = cleaning.clean([*GOOD, LINES[name]], settings)
  assert result.verdict == cleaning.Keep(tuple(GOOD))
  assert result.lines == {name: [LINES[name]]}


@pytest.mark.parametrize(
  "line",
  [
    "Read more about this",
    "Click here to subscribe now",
    "Қазақстан Республикасының үкіметі осы жылы",
  ],
)
def test_short_lines_of_other_languages_are_told(line: str) -> None:
  assert quality.chosen("oscar_foreign_lines").line(line)


@pytest.mark.parametrize(
  "line",
  [
    "Windows 11",
    "Тэр Windows 11 Pro суулгав",
    "XVIII зуун",
    "Сайн байна уу",
    "Vне vгээ хэлэв гэнэ",
    "Б.Бат: Би явна",
    "А. С. Пушкин",
    "Нью-Йорк хот",
  ],
)
def test_names_and_mongolian_are_not_foreign(line: str) -> None:
  assert not quality.chosen("oscar_foreign_lines").line(line)


def test_every_rule_is_tested() -> None:
  tested = {*BAD, *LINES, quality.MARKUP, quality.SITE_LINES}
  tested |= {f"gopher_top_{size}gram" for size in (2, 3, 4)}
  tested |= {f"gopher_repeated_{size}grams" for size in range(5, 11)}
  assert tested == set(quality.NAMES)


def test_the_sample_is_kept_whole() -> None:
  judge = quality.chosen("web")
  count = 0
  for path in ("wiki_articles.txt", "udhr.txt", "common_voice.txt"):
    patterns = str(running.ROOT / "sample/pretrain" / path)
    for document in documents.read(documents.weighted(patterns)):
      for begin in range(0, len(document.sentences), 12):
        part = list(document.sentences[begin : begin + 12])
        assert not judge.document(part, raw=True), part
        assert not judge.document(part, raw=False), part
        count += 1
  assert count > 200


@pytest.mark.parametrize(
  "names", ["gopher", "web,none2", "c4_braces;c4_policies"]
)
def test_rules_that_are_none_are_refused(names: str) -> None:
  with pytest.raises(options.InputError, match="--quality_rules of none, web"):
    cleaning.Options(quality_rules=names)


def test_none_has_no_rules_and_web_leaves_out_what_drops_verse() -> None:
  assert not quality.chosen("none").names
  left_out = set(quality.NAMES) - quality.chosen("web").names
  assert left_out == {"fineweb_line_ends", "c4_line_ends", "c4_short_lines"}


@pytest.mark.parametrize(
  ("line", "paragraphs"),
  [
    ("<p>Ном&nbsp;уншив.</p><p>Явна.</p>", ["Ном\xa0уншив.", "Явна."]),
    ("&amp;quot;Тийм&amp;quot; гэв<br/>Тэр", ['"Тийм" гэв', "Тэр"]),
    ("<b>Их</b> <a href='x'>хот</a>", ["Их хот"]),
    ("5 < 7, R&D; AT&T; a <- b", ["5 < 7, R&D; AT&T; a <- b"]),
    ("<бат> &бат; <pre>", ["<бат> &бат; <pre>"]),
    ("&#1084;&#x43E;", ["мо"]),
    ("<p></p>", []),
  ],
)
def test_markup_is_undone_and_signs_stay(
  line: str, paragraphs: list[str]
) -> None:
  assert quality.without_markup(line) == paragraphs


def _built(
  folder: pathlib.Path, pages: list[list[str]], rules: str
) -> tuple[str, dict[str, Any]]:
  (folder / "in.txt").write_text(
    "\n\n".join("\n".join(page) for page in pages), "utf-8"
  )
  out = folder / rules.replace(",", "-")
  corpora.build(
    corpus_options.Settings(
      corpus_options.Options(
        input_file=str(folder / "in.txt"), output_dir=str(out), num_workers=1
      ),
      cleaning.Options(quality_rules=rules),
      texts.Options(),
      downloads.Options(),
    )
  )
  stats = json.loads((out / "stats.json").read_text("utf-8"))
  return "\n".join(
    storage.lines(str(next(out.glob("corpus-*.txt"))))
  ).strip(), stats


def test_the_frame_of_a_site_goes_and_is_counted_with_examples(
  tmp_path: pathlib.Path,
) -> None:
  pages = [["Нүүр", "Холбоо барих", line, "Тийм."] for line in GOOD[:4]]
  kept, stats = _built(tmp_path, pages, "web")
  assert "Нүүр" not in kept
  assert "Холбоо барих" not in kept
  assert kept.count("Тийм.") == 4
  assert stats["lines: ccnet_site_lines"] == 8
  assert stats["examples"]["ccnet_site_lines"][:2] == ["Нүүр", "Холбоо барих"]
  assert stats["documents"] == 4
  kept, stats = _built(tmp_path, pages, "none")
  assert kept.count("Нүүр") == 4


def test_a_page_with_markup_and_repeats_is_cleaned_and_told(
  tmp_path: pathlib.Path,
) -> None:
  pages = [
    [f"<p>{GOOD[0]}</p>", "Ном &quot;А&quot; гарав.", ", ".join([PHRASE] * 50)],
    GOOD,
  ]
  # First, since a file that begins with a tag is a web page.
  pages.insert(0, GOOD + GOOD)
  kept, stats = _built(tmp_path, pages, "web")
  assert kept.split("\n\n") == [f'{GOOD[0]}\nНом "А" гарав.', "\n".join(GOOD)]
  assert stats["lines: markup undone"] == 2
  assert stats["lines: gopher_phrases"] == 1
  assert stats["dropped: gopher_repeated_lines"] == 1


@pytest.mark.parametrize(
  ("text", "scrubbed"),
  [
    ("Утас (976) 88-11-22-33", "Утас [утас]"),
    ("Залга: +976 88 11 22 33.", "Залга: [утас]."),
    ("Утас: 88-11-22-33, 9911-2233", "Утас: [утас], [утас]"),
    ("Данс: 5012345678 Хаан банк", "Данс: [данс] Хаан банк"),
    ("Утас нь 99189158 шүү дээ", "Утас нь [утас] шүү дээ"),
    ("МАХНын данс 5012345678901234", "МАХНын данс [данс]"),
    ("Хаан банк 5012345678 данс", "Хаан банк [данс] данс"),
    ("дансны дугаар: 490123456", "дансны дугаар: [данс]"),
    ("IBAN MN12 0005 0050 1234 5678", "IBAN [данс]"),
    ("DE89370400440532013000 данс", "[данс] данс"),
    ("Надад @bat_erdene бич", "Надад [нэр] бич"),
    ("https://www.facebook.com/bat.dorj.5, үз", "[холбоос], үз"),
    ("(www.bat.mn) ба facebook.com/bat", "([холбоос]) ба [холбоос]"),
    ("Хаан банк 50000000 төгрөг зээлэв", "Хаан банк 50000000 төгрөг зээлэв"),
    (
      "Дансанд 1990-2021 онд 12 345 678 ₮",
      "Дансанд 1990-2021 онд 12 345 678 ₮",
    ),
    (
      "ikon.mn сайт, 3.5/5 оноо, ба/эсвэл",
      "ikon.mn сайт, 3.5/5 оноо, ба/эсвэл",
    ),
    ("55-60-65-70 кг жин", "55-60-65-70 кг жин"),
  ],
)
def test_personal_data_of_all_kinds_is_scrubbed(
  text: str, scrubbed: str
) -> None:
  assert cleaning.scrub(text) == scrubbed


def test_no_price_and_no_year_of_the_sample_is_scrubbed() -> None:
  count = 0
  for path in sorted((running.ROOT / "sample/pretrain").glob("*.txt")):
    for line in storage.lines(str(path)):
      if re.search(r"\d", line):
        count += 1
        assert re.findall(r"\d+", cleaning.scrub(line)) == re.findall(
          r"\d+", line
        ), line
  assert count > 500


def test_documentation_lists_every_rule_with_its_limit() -> None:
  page = (running.ROOT / "docs/corpora.md").read_text("utf-8")
  for rule in quality.RULES:
    row = next(x for x in page.split("\n") if x.startswith(f"| `{rule.name}`"))
    limit = rule.most if rule.most < float("inf") else rule.least
    assert f"{limit:g}" in row.split("|")[3], row
  for line_rule in quality.LINE_RULES:
    assert f"| `{line_rule.name}`" in page


def test_rules_for_documents_leave_short_ones_alone() -> None:
  for rule in quality.RULES:
    assert rule.words >= 50
