"""Tests of reading Wikipedia dumps, and of rendering wikitext."""

import bz2
import collections
import gzip
import json
import lzma
import os
import pathlib
import pickle
import re
import time
import tracemalloc
from collections.abc import Callable

import hypothesis
import pytest
import zstandard
from hypothesis import strategies

from data_prep.base import options
from data_prep.sources import wikipedia, wikitext
from data_prep.text import cleaning
from tests import running

_SITEINFO = """
  <siteinfo>
    <sitename>Википедиа</sitename>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="1" case="first-letter">Хэлэлцүүлэг</namespace>
      <namespace key="6" case="first-letter">Файл</namespace>
      <namespace key="10" case="first-letter">Хэвлэмэл</namespace>
      <namespace key="14" case="first-letter">Бүлэг</namespace>
    </namespaces>
  </siteinfo>
"""


def _page(title: str, text: str, ns: str = "<ns>0</ns>", more: str = "") -> str:
  return (
    f"<page><title>{title}</title>{ns}<id>7</id>{more}<revision><id>8</id>"
    f"<contributor><username>Бат</username></contributor>"
    f'<text xml:space="preserve">{text}</text></revision></page>\n'
  )


def _dump(*pages: str) -> str:
  return (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" '
    f'version="0.10">{_SITEINFO}{"".join(pages)}</mediawiki>'
  )


_TUUL = "'''Туул гол''' нь [[Монгол Улс|Монгол]] орны гол."
_DUMP = _dump(
  _page("Туул гол", _TUUL),
  _page("Хэлэлцүүлэг:Туул", "Сайн байна уу?", "<ns>1</ns>"),
  _page("Туул", "#REDIRECT [[Туул гол]]", more='<redirect title="Туул гол" />'),
  _page("Орхон гол", "1124 км &amp;nbsp; урт."),
)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
  return tmp_path / "mnwiki-pages-articles.xml"


# Dumps.


def _multistream(text: str) -> bytes:
  middle = text.index("<page><title>Туул</title>")
  return bz2.compress(text[:middle].encode()) + bz2.compress(
    text[middle:].encode()
  )


@pytest.mark.parametrize(
  ("name", "content"),
  [
    ("plain.xml", _DUMP.encode()),
    ("bom.xml", b"\xef\xbb\xbf" + _DUMP.encode()),
    ("xml.bz2", bz2.compress(_DUMP.encode())),
    ("multistream.xml.bz2", _multistream(_DUMP)),
    ("xml.gz", gzip.compress(_DUMP.encode())),
    ("xml.xz", lzma.compress(_DUMP.encode())),
    ("xml.zst", zstandard.compress(_DUMP.encode())),
    ("utf-16.xml", _DUMP.encode("utf-16")),
    (
      "utf-16-be.xml.bz2",
      bz2.compress(b"\xfe\xff" + _DUMP.encode("utf-16-be")),
    ),
    (
      "declared.xml",
      b'<?xml version="1.0" encoding="windows-1251"?>\n'
      + _DUMP.encode("cp1251", "xmlcharrefreplace"),
    ),
  ],
)
def test_every_form_of_a_dump_gives_the_same_pages(
  tmp_path: pathlib.Path, name: str, content: bytes
) -> None:
  path = tmp_path / name
  path.write_bytes(content)
  assert [
    (page.title, page.dropped, page.text) for page in wikipedia.items(str(path))
  ] == [
    ("Туул гол", "", _TUUL),
    ("Хэлэлцүүлэг:Туул", "not in the article namespace", ""),
    ("Туул", "redirect", ""),
    ("Орхон гол", "", "1124 км &nbsp; урт."),
  ]


def test_a_dump_becomes_a_corpus_that_counts_what_it_drops(
  programs: running.Programs, tmp_path: pathlib.Path
) -> None:
  path = tmp_path / "mnwiki.xml.bz2"
  path.write_bytes(
    _multistream(_DUMP.replace("1124 км", "Орхон гол нь 10&lt;sup>6&lt;/sup>"))
  )
  log = programs.succeed(
    "-m",
    "data_prep.build_corpus",
    "--source=wikipedia",
    f"--input_file={path}",
    f"--output_dir={tmp_path}/out",
  )
  made = (tmp_path / "out/corpus-00000-of-00001.txt").read_text("utf-8")
  assert made == "Туул гол нь Монгол орны гол.\n\nОрхон гол нь 10⁶ урт.\n\n"
  stats = json.loads((tmp_path / "out/stats.json").read_text("utf-8"))
  assert stats["dropped: redirect"] == 1
  assert stats["dropped: not in the article namespace"] == 1
  assert stats["examples"]["redirect"] == ["Туул"]
  assert "dropping, for example: redirect: Туул" in log


def test_a_page_knows_its_wikis_own_namespaces(path: pathlib.Path) -> None:
  text = "{{Хэвлэмэл:nowrap|1 206 он}} [[Бүлэг:Он]][[Файл:а.jpg|thumb|Зураг]]."
  path.write_text(_dump(_page("1206 он", text)), encoding="utf-8")
  (page,) = wikipedia.items(str(path))
  assert wikipedia.rendered(page) == wikitext.Rendered(["1 206 он."])
  assert page.namespaces == wikitext.Namespaces(
    hidden=frozenset({"файл", "бүлэг"}), template=frozenset({"хэвлэмэл"})
  )


def test_dumps_without_ns_tell_the_namespace_by_the_title(
  path: pathlib.Path,
) -> None:
  pages = [
    _page(title, "Текст.", ns="")
    for title in ("Туул", "Файл:Туул.jpg", "Хэлэлцүүлэг:Туул", "Кино: 1-р анги")
  ]
  path.write_text(_dump(*pages), encoding="utf-8")
  read = wikipedia.items(str(path))
  kept = [page.title for page in read if not page.dropped]
  assert kept == ["Туул", "Кино: 1-р анги"]


def test_of_many_revisions_the_last_is_read(path: pathlib.Path) -> None:
  page = _page("Туул", "Эхний.").replace(
    "</page>",
    "<revision><model>wikitext</model><text>Сүүлчийн.</text></revision></page>",
  )
  path.write_text(_dump(page), encoding="utf-8")
  (parsed,) = wikipedia.items(str(path))
  assert parsed.text == "Сүүлчийн."


def test_pages_go_to_other_processes_and_come_back() -> None:
  page = wikipedia.Page("Туул", _TUUL)
  assert pickle.loads(pickle.dumps(page)) == page


@pytest.mark.parametrize(
  ("title", "page", "reason"),
  [
    (
      "а.css",
      _page("а.css", "а {}").replace("<text", "<model>css</model><text"),
      "not wikitext",
    ),
    (
      "Туул",
      _page("Туул", "а" * (wikipedia.LONGEST_TEXT + 1)),
      "longer than MediaWiki allows",
    ),
  ],
)
def test_the_dump_says_what_is_no_article(
  path: pathlib.Path, title: str, page: str, reason: str
) -> None:
  path.write_text(_dump(page), encoding="utf-8")
  (parsed,) = wikipedia.items(str(path))
  assert parsed == wikipedia.Page(title, "", reason, parsed.namespaces)
  assert wikipedia.rendered(parsed) == cleaning.Drop(reason, title)


def _refuse(path: pathlib.Path) -> str:
  """Requires an InputError for a file that is no whole dump; returns `got`."""
  with pytest.raises(options.InputError) as caught:
    list(wikipedia.items(str(path)))
  assert "expected a whole " in str(caught.value)
  assert str(path) in str(caught.value)
  return caught.value.got


_PACKED = [
  ("xml", bytes),
  ("bz2", bz2.compress),
  ("gz", gzip.compress),
  ("xz", lzma.compress),
  ("zst", zstandard.compress),
]


@pytest.mark.parametrize(("ending", "pack"), _PACKED)
def test_a_dump_cut_anywhere_is_refused(
  tmp_path: pathlib.Path, ending: str, pack: Callable[[bytes], bytes]
) -> None:
  content = pack(_DUMP.encode())
  for end in range(0, len(content) - 1, 97):
    (tmp_path / f"cut.{ending}").write_bytes(content[:end])
    _refuse(tmp_path / f"cut.{ending}")


def test_a_multistream_dump_that_ends_between_streams_is_refused(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "cut.bz2"
  path.write_bytes(bz2.compress(_DUMP[: _DUMP.index("<page>")].encode()))
  assert "no element found" in _refuse(path)


@pytest.mark.parametrize(("ending", "pack"), _PACKED[1:3])
def test_a_damaged_file_is_refused(
  tmp_path: pathlib.Path, ending: str, pack: Callable[[bytes], bytes]
) -> None:
  content = bytearray(pack(_DUMP.encode() * 20))
  content[len(content) // 2] ^= 0xFF
  (tmp_path / f"damaged.{ending}").write_bytes(bytes(content))
  _refuse(tmp_path / f"damaged.{ending}")


_BOMB = (
  '<?xml version="1.0"?><!DOCTYPE mediawiki [<!ENTITY a "аааааааааа">'
  '<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>' + _dump(_page("Туул", "&b;"))
)
_THIEF = (
  '<!DOCTYPE mediawiki [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
  + _dump(_page("Туул", "&a;"))
)


@pytest.mark.parametrize(
  ("content", "got"),
  [
    (b"", "no element found"),
    ("Сайн байна уу".encode(), "syntax error"),
    (b"<html><head><title>404</title></head></html>", "XML of <html>"),
    (b'{"error": "not found"}', "not well-formed"),
    (_BOMB.encode(), "DTDForbidden"),
    (_THIEF.encode(), "DTDForbidden"),
    (_dump(_page("Туул", "&b;")).encode(), "undefined entity"),
    (b"<mediawiki>" + b"<a>" * 100_001, "more than 100,000 tags"),
    (b'<mediawiki a="' + b"a" * (33 << 20), "more than 32 MB without a page"),
    (b'<?xml version="1.0" encoding="martian"?><mediawiki/>', "martian"),
    (b'<?xml version="1.0" encoding="big5"?><mediawiki/>', "multi-byte"),
    (_DUMP.encode() + b"<mediawiki/>", "junk after document element"),
    (_DUMP.encode("cp1251", "replace"), "not well-formed"),
  ],
)
def test_what_is_no_dump_is_refused(
  path: pathlib.Path, content: bytes, got: str
) -> None:
  path.write_bytes(content)
  assert got in _refuse(path)


def test_a_missing_file_is_the_systems_error(path: pathlib.Path) -> None:
  with pytest.raises(FileNotFoundError):
    list(wikipedia.items(str(path)))


def test_the_bounds_of_a_page_are_not_those_of_a_dump(
  path: pathlib.Path,
) -> None:
  pages = [_page("Орхон гол", "а" * (1 << 19))] * 40 + [_page("Эг", "а")] * 6000
  path.write_text(_dump(*pages), encoding="utf-8")
  assert path.stat().st_size > 33 << 20
  assert sum(1 for _ in wikipedia.items(str(path))) == len(pages)


def test_memory_stays_flat_as_the_dump_grows(path: pathlib.Path) -> None:
  text = "Туул гол нь Монгол орны төв хэсгээр урсана. " * 2000
  peaks = []
  for count in (10, 100):
    pages = [_page(f"Гол {number}", text) for number in range(count)]
    packed = path.with_suffix(".gz")
    packed.write_bytes(gzip.compress(_dump(*pages).encode(), 1))
    del pages
    tracemalloc.start()
    assert sum(1 for _ in wikipedia.items(str(packed))) == count
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert peaks[1] < peaks[0] + (4 << 20), peaks


# Pages.


def _said(text: str, title: str = "Туул гол") -> list[str]:
  article = wikipedia.rendered(wikipedia.Page(title, text))
  assert not isinstance(article, cleaning.Drop), article
  return [
    "".join(
      f"{{{{{article.holes[x]}}}}}" if x in article.holes else x for x in p
    )
    for p in article.paragraphs
  ]


@pytest.mark.parametrize(
  ("page", "reason"),
  [
    (wikipedia.Page("Туул", "#REDIRECT [[Туул гол]]"), "redirect"),
    (wikipedia.Page("Туул", "#ЧИГЛҮҮЛЭГ [[Туул гол]]"), "redirect"),
    (wikipedia.Page("Туул", "#виж: [[Туул гол]]"), "redirect"),
    (wikipedia.Page("Т", "'''Т''' нь үсэг.\n{{disambig}}"), "disambiguation"),
    (wikipedia.Page("Т", "{{Салаа утгатай}}\n* [[Тэ]]"), "disambiguation"),
    (wikipedia.Page("Т", "{{салаа|нэр}}\n* [[Тэ]]"), "disambiguation"),
    (wikipedia.Page("Т", "{{Загвар:Салаа_утга}}"), "disambiguation"),
    (wikipedia.Page("Т", "{{пояснение}}"), "disambiguation"),
    (wikipedia.Page("Т", "{{Утга салаалах}}"), "disambiguation"),
    (wikipedia.Page("Бат", "{{surname}}\n* [[Д. Бат]]"), "disambiguation"),
    (wikipedia.Page("Т", "{{Place name disambiguation}}"), "disambiguation"),
    (wikipedia.Page("Т", "Үсэг. __DISAMBIG__"), "disambiguation"),
    (wikipedia.Page("Т (салаа утгатай)", "Т бол үсэг."), "disambiguation"),
    (wikipedia.Page("Туул", ""), "no running text"),
    (wikipedia.Page("Туул", "{{Хайрцаг|урт=704}}"), "no running text"),
    (wikipedia.Page("Голууд", "* [[Туул]]\n* [[Орхон]]"), "no running text"),
    (wikipedia.Page("Туул", "{{а|" * 100 + "}}" * 100), "broken markup"),
  ],
)
def test_a_page_without_running_text_is_dropped_for_a_reason(
  page: wikipedia.Page, reason: str
) -> None:
  assert wikipedia.rendered(page) == cleaning.Drop(reason, page.title)


def test_a_note_about_other_meanings_makes_no_disambiguation() -> None:
  assert _said("{{Disambiguation needed}}{{For|гол|Туул (disambiguation)}}Гол.")


# Running text.

_GOLDEN = {
  "bold, italics and links": (
    "'''''Туул''''' нь ''[[Монгол Улс|Монгол]]'' [[орон|орны]] [[гол]]ууд.",
    ["Туул нь Монгол орны голууд."],
  ),
  "a link's tail, a section, a namespace that shows": (
    "[[Чингис хаан]]ы [[#Намтар|намтар]], [[:Ангилал:Хаан]], [[wikt:гол|гол]], "
    "[[Туул гол#Урт]]ын [[#Урт]].",
    ["Чингис хааны намтар, Ангилал:Хаан, гол, Туул голын Урт."],
  ),
  "numbers, dates and units in templates": (
    "Урт {{convert|704|km|mi}}, {{convert|49840|km2|sqmi}}, {{nowrap|1 206 он}}, "
    "{{formatnum:3407000}} хүн, {{date|2020|5|3}}, {{date|2020-05-03}}, "
    "{{Start date|1921|7|11|df=y}}, 5{{frac|1|2}}, {{val|6.02|e=23|u=mol}}, "
    "{{convert|5|to|10|°C}}, {{lang|en|Mongolia}}, {{lang-ru|Улан-Батор}}.",
    [
      "Урт 704 km, 49840 km², 1 206 он, 3407000 хүн, 2020-05-03, 2020-05-03, "
      "1921-07-11, 5¹⁄₂, 6.02×10²³ mol, 5–10 °C, Mongolia, Улан-Батор."
    ],
  ),
  "entities": (
    "5&nbsp;000&thinsp;км&sup2; &mdash; 3&#160;&#x441;ая, A&amp;B, 5 &lt; 6 &хүн;",
    ["5 000 км² — 3 сая, A&B, 5 < 6 &хүн;"],
  ),
  "small digits keep their value": (
    "10<sup>6</sup> м<sup>2</sup>, [[шоо метр|м<sup>3</sup>]], H<sub>2</sub>O, "
    "10<sup>{{nowrap|&minus;3}}</sup>, 10<sup>1,5</sup>, 21<sup>st</sup>, "
    "{{chem2|2CO2}}, {{chem|SO|4|2-}}, 10{{sup|-3}}.",
    ["10⁶ м², м³, H₂O, 10⁻³, 10^1,5, 21st, 2CO₂, SO₄²⁻, 10⁻³."],
  ),
  "measures of several parts": (
    "{{convert|5|ft|10|in|m}}, {{cvt|3|x|4|m|ft}}, {{convert|5|km|mi|1}}, "
    "{{val|5|-|7|u=м}}, {{val|1.5|0.1}}, {{frac|1|2|3}}, {{frac|а|б}}.",
    ["5 ft 10 in, 3 × 4 m, 5 km, 5–7 м, 1.5±0.1, 1²⁄₃, а/б."],
  ),
  "formulas that fit in a line": (
    "<math>6{,}02 \\times 10^{23}</math>, <math>x_1^2 < y^{ab}</math>, "
    "<math>90^\\circ</math>, <chem>SO4^2-</chem>, <ce>\\alpha</ce> "
    "<math>5\\,\\mathrm{км}</math>.",
    ["6,02 × 10²³, x₁² < y^(ab), 90°, SO₄²⁻, {{<ce>}} 5 км."],
  ),
  "references, comments and what they leave behind": (
    'Хүн<ref name="а">{{cite web|title=[[Ном]]}}</ref> ам<ref name=а /> '
    "3 сая<!-- 2015 он -->.<ref>Х. 5</ref>\n\nТөв ({{IPA|tʊ}}; {{audio-х}}, "
    "төв) нь ({{IPA|а}}) хот <ref>а</ref>.",
    ["Хүн ам 3 сая.", "Төв (төв) нь хот."],
  ),
  "half a tag": (
    "Хүн ам 3 сая.<ref name=а\n\n5 <br 6 ба 5 < 6, а<б.",
    ["Хүн ам 3 сая. name=а", "5 6 ба 5 < 6, а<б."],
  ),
  "a reference that is never closed costs its line": (
    "Хүн ам 3 сая.<ref name=а>Статистик\nНийслэл нь Улаанбаатар.",
    ["Хүн ам 3 сая. Нийслэл нь Улаанбаатар."],
  ),
  "a comment that is never closed runs to the end": (
    "Хүн ам.\n\n<!-- Нийслэл",
    ["Хүн ам."],
  ),
  "files, categories and other languages": (
    "[[Файл:Туул.jpg|thumb|[[Туул гол|Туул]] [http://а.mn эх]]]Гол.\n"
    "[[Зураг:а.png|100px]] [[Ангилал:Гол|Туул]] [[en:Tuul River]]\n"
    "[[Image:а.jpg|thumb|{{nowrap|а}}]] [[Категория:Реки]] [[zh-yue:土拉河]]",
    ["Гол."],
  ),
  "headings and sections of links": (
    "Эхлэл.\n== Түүх ==\nТүүх.\n=== Эрт ===\nЭрт үе.\n==Эх сурвалж==\n"
    "Ном, 5-р хуудас.\n===Бас===\nӨөр ном.\n== [[Соёл]] ==\nСоёл.\n"
    "== '''External links''': ==\n[http://а.mn Сайт].\n",
    ["Эхлэл.", "Түүх.", "Эрт үе.", "Соёл."],
  ),
  "line ends of Windows": (
    "Эхлэл.\r\n== Түүх ==\r\nТүүх\r\nэрт.\r\n\r\n== Мөн үзэх ==\r\nҮз.",
    ["Эхлэл.", "Түүх эрт."],
  ),
  "headings of the first level, and half of one": (
    "Эхлэл.\n= Гадаад холбоос =\nХолбоос.\n== Мөн үзэх ==\nҮз.\n= Түүх =\n"
    "Түүх.\n== Хагас\nҮлдсэн.",
    ["Эхлэл.", "Түүх.", "Хагас Үлдсэн."],
  ),
  "tables, nested": (
    'Өмнө.\n{| class="wikitable"\n! Он !! Тоо\n|-\n| 1990 || 5\n'
    "{| \n| дотор\n|}\n| төгсгөл {{nowrap|а}}\n|}\nДараа.",
    ["Өмнө.", "Дараа."],
  ),
  "a table that is never closed": (
    "Өмнө.\n{| class=wikitable\n|-\n| 1990 || 5\n! Он\n\nДараа.",
    ["Өмнө.", "Дараа."],
  ),
  "a table of HTML": (
    "Өмнө.<table><tr><td>1990<td>5</table>Дараа.",
    ["Өмнө.", "Дараа."],
  ),
  "a box that is never closed": (
    "{{Хайрцаг гол\n| нэр = Туул\n| урт = [[704]] км\n\n'''Туул''' нь гол.",
    ["Туул нь гол."],
  ),
  "a box within a box, with references and tables": (
    "{{Хайрцаг\n| а = {{plainlist|\n* б\n}}\n| в = <ref>{{cite|а=б}}</ref>\n"
    "| г =\n{|\n| д\n|}\n}}\nТуул нь гол.",
    ["Туул нь гол."],
  ),
  "links that are never closed, and brackets never opened": (
    "Туул [[гол|гол нь урт. {{cite web|а=б Орхонд\n\nХангайд]] цутгана.}} [[Файл:а|б.",
    ["Туул гол нь урт.", "Хангайд цутгана. б."],
  ),
  "list items are text if they are sentences": (
    "Гурван гол:\n* [[Туул]]\n* Туул, 704 км.\n* Туул гол нь Хэнтийн нуруунаас эх авдаг.\n"
    "* [[Гол|Туул гол нь Хэнтийн нуруунаас эх авч урсдаг]].\n"
    "# Бат Д. (1990). Монгол орны гол мөрөн. Улаанбаатар. ISBN 99929-0\n"
    ":: [[Орхон гол]] нь [[1206 он]]ы үед [[Сэлэнгэ]]д цутгадаг.\n; Тодорхойлолт",
    [
      "Туул гол нь Хэнтийн нуруунаас эх авдаг.",
      "Орхон гол нь 1206 оны үед Сэлэнгэд цутгадаг.",
    ],
  ),
  "labels and captions are no text": (
    "Романууд:\n\nЗураг 1\n\nТуул гол.\n\nТөрийн дуулал нь Монгол Улсынх",
    ["Туул гол.", "Төрийн дуулал нь Монгол Улсынх"],
  ),
  "lines are joined, paragraphs are not, breaks are spaces": (
    "Туул гол\nурт.\n\nОрхон<br>гол.<br /><br/>Хэрлэн.<p>Онон.</p>----\nЭг.",
    ["Туул гол урт.", "Орхон гол.", "Хэрлэн.", "Онон.", "Эг."],
  ),
  "external links": (
    "[http://а.mn/б?в=г Сайт], [https://а.mn] (http://а.mn/б) [//а.mn Өөр].",
    ["Сайт, (http://а.mn/б) Өөр."],
  ),
  "addresses that stand for themselves": (
    "Хаяг нь http://a.mn/б_в?г=1&amp;д, ''https://a.mn/(е)'' хоёр юм.\n"
    "* https://a.mn/ж\n* Өөр нэг ном: https://a.mn/" + "з" * 60 + " юм даа.",
    ["Хаяг нь http://a.mn/б_в?г=1&д, https://a.mn/(е) хоёр юм."],
  ),
  "what templates leave in brackets": (
    "__NOTOC__Тэр (  , {{efn|а}} ) ирээд ([http://а.mn эх], {{IPA|а}}) явсан ({{cn}}).",
    ["Тэр ирээд (эх) явсан."],
  ),
  "nowiki, formulas and code": (
    "<nowiki>[[а]] ''б''</nowiki>, <math>x + 1</math>, <math>\\frac{1}{2}</math>"
    "<source lang=c>int x;</source> <code>y</code>.",
    ["[[а]] ''б'', x + 1, {{<math>}} y."],
  ),
  "galleries, timelines, magic words": (
    "__NOTOC__ __БЕЗСЪДЪРЖАНИЕ__<gallery>\nФайл:а.jpg|Тайлбар\n</gallery>"
    "<timeline>а</timeline>Туул. ~~~~ <references />",
    ["Туул."],
  ),
  "the page's name, arguments and hidden text": (
    "'''{{PAGENAME}}''' {{{1|гол}}}<span style=\"display:none\">а</span>.",
    ["Туул гол гол."],
  ),
  "quotations in templates and in angle brackets": (
    "Тэр хэлэв:{{цитат|Морь сайн.|Бат}}Гэв. <<Үнэн>> сонин.",
    ["Морь сайн.", "Гэв. <<Үнэн>> сонин."],
  ),
  "a bold line is a heading": (
    "'''Түүх'''\nТүүх.\n\n'''Гол.'''",
    ["Түүх.", "Гол."],
  ),
  "apostrophes": ("О'''нон''' ба Д''''Артаньян'''.", ["Онон ба Д'Артаньян."]),
  "й and ё stay": (
    "Хоёр аймгийн сайн ай&#x0306;маг.",
    ["Хоёр аймгийн сайн ай̆маг."],
  ),
}


@pytest.mark.parametrize("name", _GOLDEN)
def test_running_text_of(name: str) -> None:
  text, expected = _GOLDEN[name]
  assert _said(text) == expected


# Unknown templates leave holes, which are shown by their names.
_HOLES = {
  "in the middle": (
    "Хүн ам нь {{хүн ам|Нэг}} орчим.",
    "Хүн ам нь {{хүн ам}} орчим.",
  ),
  "in bold": ("Хүн ам '''нь {{Тоо}} орчим'''.", "Хүн ам нь {{Тоо}} орчим."),
  "in a link": ("Хүн ам [[Тоо|{{Тоо|5}} сая]].", "Хүн ам {{Тоо}} сая."),
  "in a link's target": ("Хүн [[{{Тоо}}|ам]] өссөн.", "Хүн ам өссөн."),
  "in a known template": (
    "Хүн {{nowrap|{{Тоо}} км}} урт.",
    "Хүн {{Тоо}} км урт.",
  ),
  "in an unknown template": (
    "Хүн {{Тоо|{{Өөр}}}} урт юм.",
    "Хүн {{Тоо}} урт юм.",
  ),
  "in a list": (
    "* Хүн ам нь ойролцоогоор {{Тоо}} сая орчим байна.",
    "Хүн ам нь ойролцоогоор {{Тоо}} сая орчим байна.",
  ),
  "in brackets": ("Хүн ам ({{Тоо}}) өссөн.", "Хүн ам ({{Тоо}}) өссөн."),
  "of several lines": (
    "Хүн ам {{Тоо\n|а=б\n}} өссөн.",
    "Хүн ам {{Тоо}} өссөн.",
  ),
  "in a reference": ("Хүн ам<ref>{{Тоо}}</ref> өссөн.", "Хүн ам өссөн."),
  "a note behind a sentence": ("Хүн өссөн.{{Тоо}} Ам.", "Хүн өссөн. Ам."),
  "behind a stop within a sentence": (
    "Хүн явав.{{Тоо}} хүн ирэв.",
    "Хүн явав.{{Тоо}} хүн ирэв.",
  ),
  "behind the last sentence": ("Хүн өссөн. {{Тоо}} {{Өөр}}", "Хүн өссөн."),
  "how a word is spoken": (
    "Хүн ({{IPA|а}} {{respell|а}}; ам) {{IPA|а}} юм.",
    "Хүн (ам) {{IPA}} юм.",
  ),
  "never closed": (
    "Улсын нийт хүн ам нь {{Тоо|5 сая юм.",
    "Улсын нийт хүн ам нь {{Тоо}}",
  ),
  "an argument": ("Хүн {{{1}}} сая, {{{а|б}}}.", "Хүн {{{{{1}}}}} сая, б."),
  "coordinates": ("Хот {{coord|47|N|106|E}} юм.", "Хот {{coord}} юм."),
  "a line break": ("Хот{{br}}юм.", "Хот юм."),
  "behind a number": ("Хүн 3.{{Тоо}} сая.", "Хүн 3.{{Тоо}} сая."),
  "a box before the text": ("{{Мужийн хайрцаг|а=б\n|в=г}}Хүн ам.", "Хүн ам."),
  "a box of one line": ("{{Infobox хот|а=б}} '''Хот''' юм.", "Хот юм."),
  "a line of its own": ("{{Тоо}}\n{{Бусад}} {{Мөн}}\nХүн ам.", "Хүн ам."),
  "in a table": ("{|\n| {{Тоо}}\n|}\nХүн ам.", "Хүн ам."),
  "a variable": ("Одоо {{CURRENTYEAR}} он.", "Одоо {{CURRENTYEAR}} он."),
  "a module": ("Нийт {{#invoke:Тоо|main}} он.", "Нийт {{#invoke:Тоо}} он."),
  "if": ("Энэ {{#if:1|тийм|{{Тоо}}}} {{#if: |а|үгүй}}.", "Энэ тийм үгүй."),
  "if of a hole": ("Энэ {{#if:{{Тоо}}|тийм}} юм.", "Энэ {{#if}} юм."),
  "ifeq": ("Энэ {{#ifeq:01|1|тийм|үгүй}} {{#ifeq:а|б|а|б}}.", "Энэ тийм б."),
  "switch": (
    "Энэ {{#switch:б|а=1|б|в=2|#default=3}} {{#switch:я|а=1|4}}.",
    "Энэ 2 4.",
  ),
  "expr": (
    "Энэ {{#expr:(2015-1990)*2}} {{#expr:10/4 round 0}} {{#expr:1/3}}.",
    "Энэ 50 3 0.33333333333333.",
  ),
  "expr of letters": ("Энэ {{#expr:хоёр}} юм.", "Энэ {{#expr}} юм."),
  "ifexpr": ("Энэ {{#ifexpr:5 > 3|тийм|үгүй}} юм.", "Энэ тийм юм."),
  "time": ("Энэ {{#time:Y}} он.", "Энэ {{#time}} он."),
  "letter case": ("{{ucfirst:энэ}} {{lc:БАС}} {{uc:энэ}}.", "Энэ бас ЭНЭ."),
  "plural": ("Энэ {{plural:2|ном|номууд}} юм.", "Энэ {{plural}} юм."),
  "if on several lines": (
    "Энэ {{#if:\n 1\n|\nтийм\n|үгүй}} юм.",
    "Энэ тийм юм.",
  ),
  "on a line of its own within a sentence": (
    "Хүн ам нь\n{{Тоо}}\nорчим юм.",
    "Хүн ам нь {{Тоо}} орчим юм.",
  ),
  "before a name within a sentence": (
    "Нийслэл нь\n{{туг|МН}}\nМонгол юм.",
    "Нийслэл нь {{туг}} Монгол юм.",
  ),
  "on a line of its own behind a colon": (
    "Жагсаалт:\n{{Тоо}}\nХүн ам.",
    "Хүн ам.",
  ),
  "only named values": ("Энэ {{zh|s=中国}} юм.", "Энэ {{zh}} юм."),
  "the language alone": ("Энэ {{lang|mn}} юм.", "Энэ {{lang}} юм."),
  "a transliteration": (
    "Энэ {{transl|mn|сайн}} {{transl|mn|text=муу}} {{transl|mn}} юм.",
    "Энэ сайн муу {{transl}} юм.",
  ),
  "no values": ("Энэ {{convert}} {{nowrap|}} юм.", "Энэ {{convert}} юм."),
  "ifeq with a hole": ("Энэ {{#ifeq:а|{{Тоо}}|б|в}} юм.", "Энэ {{#ifeq}} юм."),
  "ifeq of words that Python takes for numbers": (
    "Энэ {{#ifeq:nan|nan|тийм|үгүй}} {{#ifeq:1_0|10|тийм|үгүй}}.",
    "Энэ тийм үгүй.",
  ),
  "switch with a hole for a case": (
    "Энэ {{#switch:а|{{Тоо}}=б|в}} юм.",
    "Энэ {{#switch}} юм.",
  ),
  "switch with a hole behind the case": (
    "Энэ {{#switch:а|а=б|{{Тоо}}=в}} юм.",
    "Энэ б юм.",
  ),
  "several lines at the beginning of a sentence": (
    "{{Тоо\n|а=б\n}} хүнтэй хот юм.",
    "{{Тоо}} хүнтэй хот юм.",
  ),
  "several lines before a linked word": (
    "{{Тоо\n|а=б\n}} [[хүн]]тэй хот юм.",
    "{{Тоо}} хүнтэй хот юм.",
  ),
  "an entity of a private character": (
    "Энэ &#983040;&#xF0000; {{Тоо}} юм.",
    "Энэ {{Тоо}} юм.",
  ),
}


@pytest.mark.parametrize("name", _HOLES)
def test_an_unknown_template_leaves_a_hole_that_is_known(name: str) -> None:
  """See WikiExtractor 189; common-voice/cv-sentence-extractor 154 and 72."""
  text, expected = _HOLES[name]
  assert _said(text) == [expected]


@pytest.mark.parametrize(
  ("link", "shown"),
  [
    ("[[doi:10.1/2|өгүүлэл]]", "өгүүлэл"),
    ("[[arxiv:1.2|өгүүлэл]]", "өгүүлэл"),
    ("[[wikt:гол|гол]]", "гол"),
    ("[[b:ном|ном]]", "ном"),
    ("[[voy:Хот|хот]]", "хот"),
    ("[[Медиа:а.ogg|дуу]]", "дуу"),
    ("[[:en:Tuul|Туул]]", "Туул"),
    ("[[en:Tuul|Туул]]", ""),
    ("[[epo:Tuul|Туул]][[Cmn:Tuul|Туул]][[en-simple:Tuul]][[egl:Tuul]]", ""),
    (
      "[[zh-cn:Tuul]][[zh-tw:Tuul]][[nb:Tuul]][[dk:Tuul]][[jp:Tuul]][[cz:Tuul]]",
      "",
    ),
    ("[[EN: Tuul]]", ""),
    ("[[be-tarask:Туул|Туул]]", ""),
    ("[[simple:Tuul]]", ""),
  ],
)
def test_only_links_to_languages_lose_their_text(link: str, shown: str) -> None:
  assert _said(f"Энэ {link} юм.") == [" ".join(f"Энэ {shown} юм.".split())]


def test_sentences_with_holes_are_dropped_and_counted_by_template(
  programs: running.Programs, path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  text = (
    "Нийслэл нь Улаанбаатар хот юм. Хүн ам нь {{хүн ам|Нэг}} орчим. "
    "Төв нь {{Хүн ам}} ба {{Inflation|US}} байна. Гол нь Туул гол юм."
  )
  path.write_text(_dump(_page("Нэг", text)), encoding="utf-8")
  programs.succeed(
    "-m",
    "data_prep.build_corpus",
    "--source=wikipedia",
    f"--input_file={path}",
    f"--output_dir={tmp_path}/out",
  )
  made = (tmp_path / "out/corpus-00000-of-00001.txt").read_text("utf-8")
  assert made == "Нийслэл нь Улаанбаатар хот юм.\nГол нь Туул гол юм.\n\n"
  stats = json.loads((tmp_path / "out/stats.json").read_text("utf-8"))
  assert stats["lines: unknown template"] == 2
  assert stats["templates"] == {"хүн ам": 2, "Inflation": 1}
  assert stats["sentences read"] == 4
  assert stats["examples"]["unknown template"][0] == (
    "Хүн ам нь {{хүн ам}} орчим."
  )
  report = (tmp_path / "out/corpus_report.html").read_text("utf-8")
  assert "Unknown templates of the wiki" in report
  assert "Inflation" in report


_WRAPPERS = (
  "{}",
  "'''{}'''",
  "''{}''",
  "[[Гол|{}]]",
  "{{{{nowrap|{}}}}}",
  "<small>{}</small>",
  "<span style='color:red'>{}</span>",
  "{{{{lang|mn|{}}}}}",
  "{}<ref>а</ref>",
  "{}<!-- а -->",
  "<nowiki>{}</nowiki>",
  "[http://а.mn {}]",
  "{}{{{{efn|а}}}}",
  "{{{{small|'''{}'''}}}}",
  "{{{{color|red|[[а|{}]]}}}}",
)
_MEASURES = strategies.sampled_from(
  ["1206", "3,4 сая", "12:30", "704 км", "−40 °C", "2020.05.03", "1/2", "50%"]
)


@hypothesis.given(
  strategies.lists(
    strategies.tuples(_MEASURES, strategies.sampled_from(_WRAPPERS)),
    min_size=1,
    max_size=6,
  )
)
def test_no_number_in_running_text_is_lost(
  parts: list[tuple[str, str]],
) -> None:
  text = " ".join(f"тоо {wrapper.format(part)}" for part, wrapper in parts)
  shown = " ".join(_said(f"{text}."))
  assert shown == " ".join(f"тоо {part}" for part, _ in parts) + "."


_FRAGMENTS = [
  *"""\n  {{ }} [[ ]] {| |} | = { } [ ] '' ''' < > <ref> </ref> <ref/> <!-- --> <b> </b>\n  <div> </div> <br> <nowiki> </nowiki> <math> </math> <table> <td> </table> {{{\n  }}} ! == http:// [http://a.b ---- &lt; & ; * # : а хүн {{convert|1|km}} {{nowrap|\n  [[Файл:а| {{#if: ( ) , ~~~~ __TOC__ {{lang| -{ }- [// mailto:а\n  """.split(),
  "\n",
  "\n\n",
  "\n* ",
  "\n{|\n",
  "\n|}\n",
  "\n| ",
  "\n|-\n",
  " ",
]
_MARKUP = ("[[", "]]", "{{", "}}", "{|", "<ref", "<!--", "__TOC__")


@hypothesis.settings(max_examples=300)
@hypothesis.given(
  strategies.lists(strategies.sampled_from(_FRAGMENTS), max_size=40)
)
def test_no_mess_leaves_markup_or_an_error(fragments: list[str]) -> None:
  text = "".join(fragments)
  # What stands within <nowiki> is to be seen; a long row of braces is broken.
  hypothesis.assume("<nowiki>" not in text)
  verdict = wikipedia.rendered(wikipedia.Page("Туул", text))
  for paragraph in (
    () if isinstance(verdict, cleaning.Drop) else verdict.paragraphs
  ):
    assert paragraph == " ".join(paragraph.split())
    assert any(map(str.isalpha, paragraph))
    assert not re.search("[\x00-\x1f]", paragraph)
    assert not [mark for mark in _MARKUP if mark in paragraph], paragraph


@pytest.mark.parametrize(
  "motif",
  [
    "{{а|",
    "[[а|",
    "{{{а|",
    "\n{|\n| а",
    "<ref>",
    "<math>",
    "<!--",
    "[http://а.б ",
    "{{а|\n==",
    "{{а|}}",
    "\n* ",
    "'''",
    "<div>\n*",
    "{{а|[[б|",
    "}}",
    "(,",
    "&lt;",
    ("{{а|" * 30 + "}}" * 30),
    ("[[а|\n==" * 30 + "]]" * 30),
    "<span style=display:none>",
    ("{{{а|" * 20 + "}}}" * 20),
    "{|\n|}",
    "<sup>1",
    "а ",
    "#REDIRECT" + " " * 100_000,
    "{{" + " " * 100_000,
  ],
)
def test_no_page_takes_long(motif: str) -> None:
  began = time.process_time()
  page = wikipedia.Page("Туул", motif * max(1, 100_000 // len(motif)))
  wikipedia.rendered(page)
  # 0.1 to 0.5 s; what is not linear takes minutes.
  assert time.process_time() - began < 5


# Real dumps.

_SHARED = os.environ.get("ALBERT_MN_SHARED")
_REAL = pathlib.Path(_SHARED or "") / "data" / "wiki_dumps"
needs_dumps = pytest.mark.skipif(
  not _SHARED, reason="ALBERT_MN_SHARED does not name the shared folder"
)


_Verdicts = list[tuple[wikipedia.Page, wikitext.Rendered | cleaning.Drop]]


def _verdicts(name: str) -> _Verdicts:
  (path,) = _REAL.glob(name)
  return [
    (page, wikipedia.rendered(page)) for page in wikipedia.items(str(path))
  ]


@pytest.fixture(scope="module")
def real() -> dict[str, _Verdicts]:
  return {
    name: _verdicts(f"{name}*") for name in ("bgwiki", "enwiki-l", "enwiki-t")
  }


@needs_dumps
def test_real_dumps_give_these_pages(real: dict[str, _Verdicts]) -> None:
  reasons = {
    name: collections.Counter(
      verdict.reason if isinstance(verdict, cleaning.Drop) else "kept"
      for _, verdict in verdicts
    )
    for name, verdicts in real.items()
  }
  assert reasons == {
    "bgwiki": {"kept": 1, "not in the article namespace": 2},  # UTF-16
    "enwiki-l": {
      "kept": 97,
      "redirect": 99,
      "disambiguation": 8,
      "no running text": 1,
      "not in the article namespace": 1,
    },
    "enwiki-t": {"kept": 5},
  }


@needs_dumps
def test_hardly_a_paragraph_of_real_dumps_holds_markup(
  real: dict[str, _Verdicts],
) -> None:
  paragraphs = [
    paragraph
    for verdicts in real.values()
    for _, verdict in verdicts
    if not isinstance(verdict, cleaning.Drop)
    for paragraph in verdict.paragraphs
  ]
  marks = "[[ ]] {{ }} {| '' == __ <ref </ &nbsp;".split()
  assert len(paragraphs) > 5000
  assert not [p for p in paragraphs if any(mark in p for mark in marks)]
  # 4 of 5,900: three speak of the sign, one is a reference without its start.
  piped = [p for p in paragraphs if "|" in p]
  assert len(piped) < 0.001 * len(paragraphs), piped


@needs_dumps
def test_a_real_article_keeps_its_numbers_dates_and_units(
  real: dict[str, _Verdicts],
) -> None:
  (gregorian,) = [
    verdict.paragraphs
    for _, verdict in real["bgwiki"]
    if not isinstance(verdict, cleaning.Drop)
  ]
  assert gregorian[1].startswith(
    "Григорианският календар е въведен в употреба на 4 октомври 1582 г."
  )
  assert any("е 365,242 190 419 дни" in paragraph for paragraph in gregorian)
  (alberta,) = [
    "\n".join(verdict.paragraphs)
    for page, verdict in real["enwiki-l"]
    if page.title == "Alberta" and not isinstance(verdict, cleaning.Drop)
  ]
  assert "Alberta, with an area of 661848 km², is the fourth" in alberta
  assert "an estimated population of 4,196,457 as of July 1, 2015" in alberta


@pytest.mark.parametrize(
  ("text", "shown"),
  [
    (
      "{{" + 5_000 * "Загвар: " + "nowrap|Туул гол}} урсана.",
      "Туул гол урсана.",
    ),
    ("{{Template:Талх:nowrap|а}}Туул гол урсана уу.", None),
    (
      "{{convert|5" + 4_000 * "|to|5" + "|km}} урт гол байна уу.",
      "5" + 4_000 * "–5" + " km урт гол байна уу.",
    ),
    (
      "Тэр {{#switch:" + 9_000 * "а" + 2_000 * "|б=в" + "|ирсэн}} байна уу.",
      "Тэр ирсэн байна уу.",
    ),
    ("Нас {{#expr:7.126 round 2}} хүрчээ.", "Нас 7.13 хүрчээ."),
    ("Нас {{#expr:1" + 3_000 * " round 1" + "}} хүрчээ.", None),
    (
      "Тэр <span class='a' style='display: none'>x</span>ирсэн байна уу.",
      "Тэр ирсэн байна уу.",
    ),
    ("Тэр <div " + 20_000 * "display:none ", None),
  ],
)
def test_what_took_the_square_of_time_gives_the_same_text(
  text: str, shown: str | None
) -> None:
  paragraphs = wikitext.rendered(text).paragraphs
  if shown is not None:
    assert paragraphs == [shown]
