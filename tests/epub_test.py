"""Tests of reading the chapters of good, odd and broken e-books."""

import io
import os
import pathlib
import time
import zipfile
from collections.abc import Mapping
from urllib import parse

import pytest

from data_prep.sources import epub
from data_prep.text import cleaning, typesetting
from tests import running

LONG = "Тэр өдөр бүгд хамт ирж, үдэш болтол сайхан ярилцан суув. " * 8
CONTAINER = (
  '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
  '<rootfiles><rootfile full-path="OEBPS/content.opf"/></rootfiles></container>'
)


def _book(
  pages: Mapping[str, str | bytes],
  opf: str = "",
  more: dict[str, bytes] | None = None,
) -> epub.Book:
  items = "".join(
    f'<item id="p{n}" href="{parse.quote(name)}"/>'
    for n, name in enumerate(pages)
  )
  spine = "".join(f'<itemref idref="p{n}"/>' for n in range(len(pages)))
  package = (
    '<package xmlns="http://www.idpf.org/2007/opf">'
    f"<manifest>{items}</manifest><spine>{spine}</spine>{opf}</package>"
  )
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w") as archive:
    archive.writestr("META-INF/container.xml", CONTAINER)
    archive.writestr("OEBPS/content.opf", package)
    for name, page in pages.items():
      if isinstance(page, str):
        page = f"<html><body>{page}</body></html>"
      archive.writestr(f"OEBPS/{name}", page)
    for name, content in (more or {}).items():
      archive.writestr(name, content)
  return epub.Book("ном.epub", buffer.getvalue())


def _paragraphs_of(page: str) -> list[str]:
  """Returns the paragraphs that a page gives, put before a long paragraph."""
  chapters = epub.chapters(_book({"a.xhtml": f"<h1>I</h1>{page}<p>{LONG}</p>"}))
  assert not isinstance(chapters, cleaning.Drop), chapters
  assert chapters[0][-1] == LONG.strip()
  return chapters[0][:-1]


@pytest.mark.parametrize(
  ("page", "paragraphs"),
  [
    (
      "<p>Монгол хэл-\nний сайхан\nном, УИХ-\nын гишүүн.</p>",
      ["Монгол хэлний сайхан ном, УИХ-ын гишүүн."],
    ),
    (
      "<p>Нам\u00adжил.</p><p>Тэр ирэв , суув ; ярив .</p>",
      ["Намжил.", "Тэр ирэв, суув; ярив."],
    ),
    (
      '<div class="calibre1">Нэгдүгээр.<br/><br/>Хоёр\nдугаар.</div>'
      '<div class="calibre1"><span>Гурав</span>дугаар.</div>',
      ["Нэгдүгээр.", "Хоёр дугаар.", "Гуравдугаар."],
    ),
    (
      '<p>1,5 сая; 3.14.</p><img alt="зураг"/><script>x()</script>',
      ["1,5 сая; 3.14."],
    ),
    (
      "<p>Тэр <!-- x -->явсаар</p><p>– 12 –</p><p>гэртээ ирэв</p><p>* * *</p>"
      "<p>нойрсов.</p><ul><li>нэг</li><li>хоёр</li></ul>",
      ["Тэр явсаар гэртээ ирэв", "нойрсов.", "нэг", "хоёр"],
    ),
    # The marks of notes go, numbers stay.
    (
      '<p>Дорж<sup>1</sup> ирэв<sup><a href="#n">2</a></sup>.<sup>[3]</sup>'
      '<a href="#x">[4]</a><a href="#fn5">5</a></p>',
      ["Дорж ирэв."],
    ),
    (
      "<p>5 км<sup>2</sup>, 10<sup>6</sup>, H<sub>2</sub>O, "
      '<a href="#ch5">5</a> дугаар</p>',
      ["5 км², 10⁶, H2O, 5 дугаар"],
    ),
    # Large first letters.
    (
      '<p><span class="cap">С</span>айн <b>бай</b>на&nbsp;уу.</p>'
      "<p><font>С</font>\n айн уу?</p><div>С</div><p>айн уу?</p>"
      '<p><img alt="С" src="s.jpg"/>айн уу?</p><p><b>Э</b> хувилбар.</p>',
      ["Сайн байна уу.", *["Сайн уу?"] * 3, "Э хувилбар."],
    ),
    # Imprints go, sentences about such things stay.
    (
      "<p>ISBN 978-99929</p><p>© 2020 он</p><p>ДАА 894.2</p><p>Үлдэнэ шүү.</p>",
      ["Үлдэнэ шүү."],
    ),
    (
      "<p>К. Окада, Ж. Баянсан нарын Монгол хэлний хэлц үгийн толь бичиг, арван "
      "мянган үгтэй, ISBN 99929-0-107-6, худалдаанд гарав.</p>",
      [
        "К. Окада, Ж. Баянсан нарын Монгол хэлний хэлц үгийн толь бичиг, арван "
        "мянган үгтэй, ISBN 99929-0-107-6, худалдаанд гарав."
      ],
    ),
    (
      "<p>Зохиолч Ц.</p><p>Дамдинсүрэн бичжээ.</p>",
      ["Зохиолч Ц. Дамдинсүрэн бичжээ."],
    ),
    (
      "<p>Тэр хэвлэлийн газарт ажиллав.</p><p>Номоо печатлахаар явлаа.</p>"
      "<p>Зохиогчийн эрхийн тухай ярив.</p><p>ISBN гэж юу вэ?</p>",
      [
        "Тэр хэвлэлийн газарт ажиллав.",
        "Номоо печатлахаар явлаа.",
        "Зохиогчийн эрхийн тухай ярив.",
        "ISBN гэж юу вэ?",
      ],
    ),
    # What the markup names.
    (
      "<p class='index'>Үлдэнэ.</p><p class='caption'>Зураг.</p>"
      "<p class='pagenum'>Хуудас.</p><aside epub:type='footnote'>Зүүлт.</aside>"
      "<section role='doc-endnotes'>Зүүлт.</section>",
      ["Үлдэнэ."],
    ),
  ],
)
def test_a_page_gives_the_paragraphs_a_reader_sees(
  page: str, paragraphs: list[str]
) -> None:
  assert _paragraphs_of(page) == paragraphs


PRINTED = """\
Эрт урьд цагт нэгэн өвгөн эмгэн хоёр
амьдран суудаг байжээ. Тэд гурван мод-
той, ганц алаг үнээтэй, тэр нь өглөө бүр
их сүү өгдөг байв. Нэг өдөр өвгөн Ц.
12
Дорж гэгч айлд очиж, эмгэн нь гэртээ
үлдэв.
– Хаа хүрэх нь вэ? гэж эмгэн асуухад нь
Дорж гэгч айлд очно гэж өвгөн хэлжээ.
Тэгээд тэр цаашаа явав."""
WHOLE = [
  "Эрт урьд цагт нэгэн өвгөн эмгэн хоёр амьдран суудаг байжээ. Тэд гурван "
  "модтой, ганц алаг үнээтэй, тэр нь өглөө бүр их сүү өгдөг байв. Нэг өдөр "
  "өвгөн Ц. Дорж гэгч айлд очиж, эмгэн нь гэртээ үлдэв.",
  "– Хаа хүрэх нь вэ? гэж эмгэн асуухад нь Дорж гэгч айлд очно гэж өвгөн "
  "хэлжээ. Тэгээд тэр цаашаа явав.",
]


def test_lines_of_print_become_paragraphs_again() -> None:
  lines = [f"<p class='calibre1'>{line}</p>" for line in PRINTED.split("\n")]
  book = _book({"a.xhtml": f"<h1>I</h1>{''.join(lines * 2)}"})
  assert epub.chapters(book) == [WHOLE * 2]


def test_verse_keeps_its_lines() -> None:
  verse = [
    "Хэнтий Хангай Саяны өндөр сайхан нуруунууд",
    "Хойд зүгийн чимэг болсон ой хөвч уулнууд",
    "Мэнэн Шарга Номины өргөн их говиуд",
    "Өмнө зүгийн манлай болсон элсэн манхан далайнууд",
  ]
  assert typesetting.paragraphs(verse, frozenset()) == verse


@pytest.mark.parametrize(
  ("printed", "whole"),
  [
    ("хэл-\nний", "хэлний"),
    ("Мон-\nгол", "Монгол"),
    ("МОН-\nГОЛ", "МОНГОЛ"),
    ("УИХ-\nын", "УИХ-ын"),
    ("2019-\nний", "2019-ний"),
    ("Улаан-\nҮд", "Улаан-Үд"),
    ("Ми-\n8", "Ми-8"),
    ("Google-\nийн", "Google-ийн"),
    ("хэл\u00ad\nний", "хэлний"),
    ("гэр - орон", "гэр - орон"),
    ("эрэгтэй- эмэгтэй", "эрэгтэй- эмэгтэй"),
    ("аав-\nээжтэй", "аавээжтэй"),
  ],
)
def test_a_broken_word_is_put_together(printed: str, whole: str) -> None:
  assert typesetting.mended(f"Энэ {printed} үг", frozenset()) == (
    f"Энэ {whole} үг"
  )


def test_the_rest_of_the_book_decides_about_a_hyphen() -> None:
  broken = "аав-\nээжтэй, тол- гой, бо-\nлов"
  known = typesetting.words(["Аав-ээжтэй хүний", "толгой;", broken])
  assert typesetting.mended(broken, known) == "аав-ээжтэй, толгой, болов"


@pytest.mark.parametrize(
  ("spaced", "mended"),
  [
    ("Тэр , би .", "Тэр, би."),
    ("Яв аа ?!", "Яв аа?!"),
    ("« Сайн уу ? » гэв", "«Сайн уу?» гэв"),
    ("( жишээ нь ) , энд", "(жишээ нь), энд"),
    ("Тэр ... явав", "Тэр... явав"),
    ("гэв.Би ирлээ,тэр явав:Би", "гэв. Би ирлээ, тэр явав: Би"),
    *(
      (text, text)
      for text in (
        "3 , 4 ба 2 : 1; 0,5 ба 1.250.000 төгрөг, 12:30 цагт",
        "Ц.Элбэгдорж, УИХ-ын гишүүн, м.э.ө. 209 онд, ж.нь",
        "www.news.mn, a.b@c.mn, сайт .mn, инээв :) гэв",
        "Тэр – хүн, „Сайн“ гэв, ”Сайн” гэв, »Сайн« гэв",
      )
    ),
  ],
)
def test_spaces_around_punctuation_are_mended(spaced: str, mended: str) -> None:
  assert typesetting.respaced(spaced) == mended


def test_chapters_come_in_the_order_of_the_spine_without_other_matter() -> None:
  book = _book(
    {
      "cover.xhtml": "<p>Нүүр</p>",
      "front.xhtml": f"<h1>Гарчиг</h1><p>{LONG}</p>",
      "toc.xhtml": f"<p>{LONG}</p>",
      "b.xhtml": f"<h2>Нэг</h2><p>Б {LONG}</p>",
      "a b.xhtml": f"<p>Үргэлжлэл.</p><h2>Хоёр</h2><p>А {LONG}</p>",
      "dark.xhtml": f"<p>{LONG}</p>",
      "last.xhtml": f"<h2>Эрх</h2><p>Ном {LONG}</p><p>Тэр цааш</p>",
      "last2.xhtml": f"<p>явав.</p><p>{LONG}</p>",
    },
    opf='<guide><reference type="dedication" href="dark.xhtml"/>'
    '<reference type="toc" href="b.xhtml#toc"/></guide>',
  )
  assert epub.chapters(book) == [
    [f"Б {LONG}".strip(), "Үргэлжлэл."],
    [f"А {LONG}".strip()],
    [f"Ном {LONG}".strip(), "Тэр цааш явав.", LONG.strip()],
  ]


LEGAL = (
  "Энэ номыг зохиогчийн зөвшөөрөлгүйгээр хэвлэх, хуулбарлахыг хориглоно. " * 9
)


@pytest.mark.parametrize(
  "page",
  [
    "<p>АЛТАН ӨДӨР</p><p>Роман</p><p>Улаанбаатар 2015</p>",
    "<p>Ээждээ зориулав.</p>",
    f"<p>ДАА 894.2</p><p>{LEGAL}</p><p>ISBN 978-99929-0-123-4</p>",
    f"<p>{LEGAL}</p><p>© Ц. Дорж, 2015</p>",
    f"<h1>Алтан өдөр</h1><p>ННА-84(5)</p><p>{LEGAL}</p><p>© Ц. Дорж</p>",
    "<p>ГАРЧИГ</p>" + "<p>Тэр өдрийн явдал ба уулзалт 5</p>" * 20,
    "<p>Хэсгүүд</p>" + "<p>Тэр өдрийн явдал ба уулзалт ...... 5</p>" * 20,
    "<p>Хэсгүүд</p>" + "<p><a href='#c'>Тэр өдрийн явдал ба</a></p>" * 20,
    "<hr/>" + "<li><a href='#c'>Тэр өдрийн явдал ба</a></li>" * 20,
    f"<h2>Зүүлт тайлбар</h2><p>{LONG}</p>",
    f"<h2>Ашигласан ном зүй</h2><p>{LONG}</p>",
  ],
)
@pytest.mark.parametrize("in_front", [True, False])
def test_front_and_back_matter_of_calibres_books_is_left_out(
  page: str, in_front: bool
) -> None:
  text = f"<p class='calibre1'>{LONG}</p>"
  names = ["index_split_000.html", "index_split_001.html"]
  pages = [page, text * 9] if in_front else [text * 9, page]
  chapters = epub.chapters(_book(dict(zip(names, pages, strict=True))))
  assert chapters == [[LONG.strip()] * 9]


def test_a_short_chapter_with_one_line_of_an_imprint_stays() -> None:
  pages = {"a.xhtml": f"<p>{LONG}</p>" * 9}
  pages["b.xhtml"] = f"<h1>Хэвлэл</h1><p>{LONG}</p><p>© Ц. Дорж</p>"
  assert epub.chapters(_book(pages)) == [[LONG.strip()] * 9, [LONG.strip()]]


def test_a_book_of_one_page_is_read_whatever_it_is_called() -> None:
  for name in ("cover.html", "toc.html"):
    chapters = epub.chapters(
      _book({"x.html": "<p>АЛТАН ӨДӨР</p>", name: f"<p>{LONG}</p>"})
    )
    assert chapters == [[LONG.strip()]]


def test_pages_are_read_in_the_encoding_that_they_state() -> None:
  text = "Сайн байна уу. " * 30
  page = f"<html><body><p>{text}</p></body></html>"
  stated = f'<?xml version="1.0" encoding="windows-1251"?>{page}'
  entity = f'<!DOCTYPE html [<!ENTITY x SYSTEM "file:///etc/hosts">]>{page}'
  for raw in (
    stated.encode("cp1251"),
    page.encode("utf-16"),
    page.encode("utf-8-sig"),
    entity.encode(),
  ):
    assert epub.chapters(_book({"a.xhtml": raw})) == [[text.strip()]]
  for raw in (page.encode("cp1251"), page.encode("utf-16-le")):
    drop = epub.chapters(_book({"a.xhtml": raw}))
    assert isinstance(drop, cleaning.Drop)
    assert drop.reason == "broken book"


def test_deep_and_broad_pages_take_linear_time() -> None:
  began = time.process_time()
  for page in (
    "<div>" * 1_000,
    "<a href='#x'>" * 1_000,
    "<br/>" * 20_000,
    "<p>" + "<sup>2</sup>" * 20_000,
    "<p>" + "<span>С</span> " * 20_000,
    "<p>" + "а" * 200_000,
    "<p>" + "а-\n" * 50_000,
    "<p>" + " , " * 50_000,
    "<p>а</p>" * 20_000,
  ):
    assert LONG.strip() in str(epub.chapters(_book({"a.xhtml": page + LONG})))
  assert time.process_time() - began < 5
  deep = epub.chapters(_book({"a.xhtml": "<div>" * 20_000 + LONG}))
  assert isinstance(deep, cleaning.Drop)
  assert "too deeply" in deep.example


def test_a_book_damaged_at_any_byte_is_dropped_or_read() -> None:
  """No error is raised: one bad book must not stop a shelf."""
  content = _book({"a.xhtml": f"<p>{LONG}</p>"}).content
  for place in range(0, len(content), 3):
    changed = bytearray(content)
    changed[place] ^= 0x55
    for damaged in (bytes(changed), content[:place]):
      chapters = epub.chapters(epub.Book("ном.epub", damaged))
      assert isinstance(chapters, cleaning.Drop) or chapters == [[LONG.strip()]]


def _bomb() -> epub.Book:
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("META-INF/container.xml", b" " * (21 << 20))
  return epub.Book("бөмбөг.epub", buffer.getvalue())


@pytest.mark.parametrize(
  ("book", "reason"),
  [
    (epub.Book("a.epub", b"no zip"), "broken book"),
    (
      epub.Book("a.epub", _book({"a.xhtml": LONG}).content[:-40]),
      "broken book",
    ),
    (_bomb(), "broken book"),
    (_book({"a.xhtml": "<p>Богино.</p>"}), "book without running text"),
    (
      _book(
        {"a.xhtml": f"<p>{LONG}</p>"},
        more={
          "META-INF/encryption.xml": b"<e><CipherReference URI='a.xhtml'/></e>"
        },
      ),
      "encrypted book",
    ),
    (
      _book(
        {"a.xhtml": f"<p>{LONG}</p>"},
        more={
          "META-INF/encryption.xml": (
            b'<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]><e>&x;</e>'
          )
        },
      ),
      "broken book",
    ),
  ],
)
def test_what_cannot_be_read_is_dropped_with_its_reason(
  book: epub.Book, reason: str
) -> None:
  drop = epub.chapters(book)
  assert isinstance(drop, cleaning.Drop)
  assert drop.reason == reason


def test_a_shelf_is_built_into_a_corpus_and_a_broken_book_is_counted(
  programs: running.Programs, tmp_path: pathlib.Path
) -> None:
  (tmp_path / "a.epub").write_bytes(b"no zip")
  (tmp_path / "b.epub").write_bytes(
    _book(
      {"x.xhtml": f"<h1>I</h1><p>{LONG}</p><h1>II</h1><p>Б {LONG}</p>"}
    ).content
  )
  log = programs.succeed(
    "-m",
    "data_prep.build_corpus",
    "--source=epub",
    f"--input_file={tmp_path}/*.epub",
    f"--output_dir={tmp_path}/out",
  )
  assert "documents: 2" in log
  assert "dropped: broken book: 1" in log
  assert "a.epub: File is not a zip file" in log


def test_a_real_book_is_read_from_its_first_to_its_last_sentence() -> None:
  shared = os.environ.get("ALBERT_MN_SHARED")
  if not shared:
    pytest.skip("ALBERT_MN_SHARED is unset: no real book here")
  for name in ("alice.epub", "alice_broken.epub"):
    path = os.path.join(shared, "data", "epub", name)
    (book,) = epub.items(path)
    chapters = epub.chapters(book)
    assert not isinstance(chapters, cleaning.Drop)
    assert len(chapters) == 10
    assert chapters[0][0].startswith("Alice was beginning to get very tired")
    assert chapters[-1][-1].endswith("what a wonderful dream it had been.")
    text = "\n".join(p for chapter in chapters for p in chapter)
    assert len(text.split()) == 9601
    for word in ("Gutenberg", "Copyright", "[Pg", "<", "\x00", "Tea Party."):
      assert word not in text


def test_a_page_that_the_spine_names_often_is_read_once() -> None:
  page = f"<h1>I</h1><p>{LONG}</p>"
  book = _book(
    {"a.xhtml": page}, "<spine>" + 9 * '<itemref idref="p0"/>' + "</spine>"
  )
  assert epub.chapters(book) == epub.chapters(_book({"a.xhtml": page}))


def test_deep_marks_are_text_and_broad_tags_are_refused() -> None:
  assert _paragraphs_of(
    "<p>Дорж" + 7 * "<sup>" + "1" + 7 * "</sup>" + "ирэв.</p>"
  ) == ["Доржирэв."]
  picture = f'<p>Дорж ирэв.<img src="data:{9_000 * "a b"}"/></p>'
  assert _paragraphs_of(picture) == ["Дорж ирэв."]
  broad = "<p " + " ".join(f"a{number}=1" for number in range(1_001)) + ">а</p>"
  dropped = epub.chapters(_book({"a.xhtml": broad}))
  assert isinstance(dropped, cleaning.Drop)
  assert "a tag has more than 1,000 attributes" in dropped.example
