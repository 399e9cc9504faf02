"""Wikipedia dumps: every trap of wikitext, and real dumps."""

import bz2
import os
import pathlib
import re

import pytest

from data_prep import cleaning, options, wikipedia
from tests import running

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">
<siteinfo><namespaces><namespace key="0" /><namespace key="6">Файл</namespace>
<namespace key="14">Ангилал</namespace></namespaces></siteinfo>"""


def _dump(*pages: tuple[str, str, str]) -> str:
  """A dump of pages: title, namespace, wikitext (already escaped)."""
  return HEAD + "".join(
    f"<page><title>{title}</title><ns>{ns}</ns>"
    + ("<redirect title='Б'/>" if text.startswith("#") else "")
    + f"<revision><text>{text}</text></revision></page>"
    for title, ns, text in pages
  ) + "</mediawiki>"  # fmt: skip


def _paragraphs(text: str) -> list[str] | cleaning.Drop:
  return wikipedia.paragraphs(
    wikipedia.Page("А", text, False, wikipedia._FILES_AND_CATEGORIES)
  )


@pytest.mark.parametrize(
  ("wikitext", "shown"),
  [
    ("'''Монгол Улс''' нь ''Төв'' [[Ази]]д оршдог.",
     "Монгол Улс нь Төв Азид оршдог."),
    ("[[Улаанбаатар хот|Нийслэл]]д 1,5 сая хүн [[#Хүн ам|суудаг]].",
     "Нийслэлд 1,5 сая хүн суудаг."),
    ("Гол нь {{convert|1124|км|миль}} урт, {{nowrap|5 000 га}} газартай.",
     "Гол нь 1124 км урт, 5 000 га газартай."),
    ("Тэр {{lang|zh|成吉思汗}} ({{lang-en|Genghis}}; {{IPA|x}}) байв.",
     "Тэр 成吉思汗 (Genghis;) байв."),
    ("Өндөр нь {{formatnum:4374}}&nbsp;м<ref>Атлас, 5-р тал</ref> юм.",
     "Өндөр нь 4374 м юм."),
    ("[[Файл:a.jpg|thumb|Зураг [[энд]] байна]]Тэр 1990 онд ирсэн.",
     "Тэр 1990 онд ирсэн."),
    ("[[Ангилал:Улс]][[en:Mongolia]]Тэр ([http://a.mn эх], {{x}}) ирсэн.",
     "Тэр (эх,) ирсэн."),
    ("{|class=a\n|нүд||нүд\n{|\n|дотор\n|}\n|}\nХүснэгтийн дараах өгүүлбэр.",
     "Хүснэгтийн дараах өгүүлбэр."),
    ("{{Инфобокс\n|нэр=[[А]]\n|x={{y|{{z}}}}\n}}\nИнфобоксын дараа ирэв.",
     "Инфобоксын дараа ирэв."),
    ("Томьёо <math>a<b</math> ба H<sub>2</sub>O, 3 < 5 <!-- нуусан --> юм.",
     "Томьёо ба H2O, 3 < 5 юм."),
    ("Нэг<br />хоёр, <span style='x'>гурав</span> {{хаагдаагүй|загвар.",
     "Нэг хоёр, гурав"),
    ("__NOTOC__Тэр (  , {{x}} ) ирээд ({{x}}) явсан билээ.",
     "Тэр ирээд явсан билээ."),
  ],
)  # fmt: skip
def test_wikitext_becomes_what_a_reader_sees(wikitext: str, shown: str) -> None:
  found = _paragraphs(wikitext + " Үүнийг тэр хожим бичсэн юм.")
  if "хаагдаагүй" in wikitext:
    found = _paragraphs("Эхний өгүүлбэр энд байна. " + wikitext)
    shown = f"Эхний өгүүлбэр энд байна. {shown}"
  else:
    shown += " Үүнийг тэр хожим бичсэн юм."
  assert found == [shown]


def test_sections_lists_and_labels() -> None:
  found = _paragraphs(
    "Эхлэл нь энд байна.\n\n== Түүх ==\nТүүх нь урт.\n"
    "* Энэ бол жагсаалтын бүтэн өгүүлбэр мөн.\n* [[Холбоос]]\n"
    "# Хоёр үг.\nРоманууд:\n\n=== Эрт үе ===\nЭрт үеийн түүх.\n"
    "== Эх сурвалж ==\nЭнэ ном бол эх сурвалж юм.\n"
    "=== Ном ===\nЭнэ ном ч бас эх сурвалж юм.\n== Шинэ үе ==\nШинэ үе ирэв."
  )
  assert found == [
    "Эхлэл нь энд байна.", "Түүх нь урт.",
    "Энэ бол жагсаалтын бүтэн өгүүлбэр мөн.", "Эрт үеийн түүх.",
    "Шинэ үе ирэв.",
  ]  # fmt: skip


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    ("{{Салаа утгатай}}\n* [[А (гол)]]", "disambiguation"),
    ("Тэр. __DISAMBIG__", "disambiguation"),
    ("{{Инфобокс|a=b}}\n* [[А]]", "no running text"),
    ("а" * (1 << 20) + "!", "page of more than 1 MB"),
  ],
)
def test_a_page_without_running_text_is_dropped(text: str, reason: str) -> None:
  assert _paragraphs(text) == cleaning.Drop(reason)


PAGES = [
  ("А", "0", "Энэ бол анхны өгүүлэл мөн."),
  ("Хэлэлцүүлэг:А", "1", "Энэ бол яриа юм."),
  ("В", "0", "#ЧИГЛҮҮЛЭГ [[А]]"),
  ("Б", "0", "Энэ бол хоёр дахь өгүүлэл мөн. &lt;ref>x&lt;/ref>"),
]
WANTED = "Энэ бол анхны өгүүлэл мөн.\n\nЭнэ бол хоёр дахь өгүүлэл мөн.\n\n"


@pytest.mark.parametrize("form", ["xml", "utf-16", "bz2", "multistream"])
def test_every_form_of_a_dump_gives_its_articles(
  programs: running.Programs, tmp_path: pathlib.Path, form: str
) -> None:
  text = _dump(*PAGES)
  path = tmp_path / ("dump.xml" if form == "xml" else "dump.xml.bz2")
  content = text.encode("utf-16" if form == "utf-16" else "utf-8")
  if form == "multistream":
    half = content.index(b"<page>")
    content = bz2.compress(content[:half]) + bz2.compress(content[half:])
  elif form != "xml":
    content = bz2.compress(content)
  path.write_bytes(content)
  log = programs.succeed(
    "-m", "data_prep.build_corpus", "--source=wikipedia",
    f"--input_file={path}", f"--output_dir={tmp_path}/out",
  )  # fmt: skip
  made = (tmp_path / "out/corpus-00000-of-00001.txt").read_text("utf-8")
  assert made == WANTED
  assert "dropped: redirect: 1" in log


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "no element found"),
    ("Сайн уу".encode(), "syntax error"),
    (b"<html><body/></html>", "got <html>"),
    (_dump(*PAGES).encode()[:-60], "expected a whole MediaWiki dump"),
    (b'<!DOCTYPE m [<!ENTITY a "b">]><mediawiki>&a;</mediawiki>', "DTD"),
    (b'<!DOCTYPE m SYSTEM "file:///etc/passwd"><mediawiki/>', "DTD"),
  ],
)
def test_what_is_no_whole_dump_ends_in_one_line(
  tmp_path: pathlib.Path, content: bytes, message: str
) -> None:
  (tmp_path / "dump.xml").write_bytes(content)
  with pytest.raises(options.InputError, match=message):
    list(wikipedia.items(str(tmp_path / "dump.xml")))


def test_real_dumps_leave_no_markup_behind() -> None:
  shared = os.environ.get("ALBERT_MN_SHARED")
  if not shared:
    pytest.skip("ALBERT_MN_SHARED is unset: no real dumps here")
  folder = pathlib.Path(shared) / "data" / "wiki_dumps"
  kept = marked = 0
  for path in sorted(folder.iterdir()):
    for page in wikipedia.items(str(path)):
      found = wikipedia.paragraphs(page)
      if isinstance(found, cleaning.Drop):
        continue
      kept += len(found)
      marked += sum(
        bool(re.search(r"\[\[|\]\]|\{\{|\}\}|''|==|</|\{\||__", paragraph))
        for paragraph in found
      )
  assert kept > 5000
  assert marked <= kept / 1000  # measured: 0 of 5,600
