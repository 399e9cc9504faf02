"""E-books: chapters and nothing else, from good, odd and broken files."""

import io
import os
import pathlib
import zipfile
from urllib import parse

import pytest

from data_prep import cleaning, epub
from tests import running

LONG = "Тэр өдөр бүгд хамт ирж, үдэш болтол сайхан ярилцан суув. " * 8
CONTAINER = (
  '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
  '<rootfiles><rootfile full-path="OEBPS/content.opf"/></rootfiles></container>'
)


def _book(
  pages: dict[str, str], opf: str = "", more: dict[str, bytes] | None = None
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
      archive.writestr(f"OEBPS/{name}", f"<html><body>{page}</body></html>")
    for name, content in (more or {}).items():
      archive.writestr(name, content)
  return epub.Book("ном.epub", buffer.getvalue())


def _one(page: str) -> list[str]:
  """The paragraphs of a chapter in front of a long one."""
  found = epub.chapters(_book({"a.xhtml": f"<h1>I</h1>{page}<p>{LONG}</p>"}))
  assert not isinstance(found, cleaning.Drop), found
  assert found[0][-1] == LONG.strip()
  return found[0][:-1]


@pytest.mark.parametrize(
  ("page", "paragraphs"),
  [
    ("<p>Монгол хэл-\nний сайхан\nном, УИХ-\nын гишүүн.</p>",
     ["Монгол хэлний сайхан ном, УИХ-ын гишүүн."]),
    ("<p>Нам\u00adжил</p><p>Тэр ирэв ,яв .Энэ</p>",
     ["Намжил", "Тэр ирэв ,яв .Энэ"]),
    ("<p>Тэр ирэв , суув ; ярив .</p><p>Ирэв.Тэр суув,ярив.</p>",
     ["Тэр ирэв, суув; ярив.", "Ирэв. Тэр суув, ярив."]),
    ('<p><span class="cap">С</span>айн <b>бай</b>на&nbsp;уу<sup><a href="#n">'
     "1</a></sup></p>", ["Сайн байна уу"]),
    ('<div class="calibre1">Нэгдүгээр.<br/><br/>Хоёр\nдугаар.</div>'
     '<div class="calibre1"><span>Гурав</span>дугаар.</div>',
     ["Нэгдүгээр.", "Хоёр дугаар.", "Гуравдугаар."]),
    ('<p>1,5 сая; 3.14.</p><img alt="зураг"/><script>x()</script>',
     ["1,5 сая; 3.14."]),
    ("<p>ISBN 978-99929</p><p>© 2020 он</p><p>Үлдэнэ шүү.</p>",
     ["Үлдэнэ шүү."]),
  ],
)  # fmt: skip
def test_a_page_gives_the_paragraphs_a_reader_sees(
  page: str, paragraphs: list[str]
) -> None:
  assert _one(page) == paragraphs


def test_chapters_come_in_the_order_of_the_spine_without_other_matter() -> None:
  book = _book(
    {
      "cover.xhtml": "<p>Нүүр</p>",
      "front.xhtml": f"<h1>Гарчиг</h1><p>{LONG}</p>",
      "toc.xhtml": f"<p>{LONG}</p>",
      "b.xhtml": f"<h2>Нэг</h2><p>Б {LONG}</p>",
      "a b.xhtml": f"<p>Үргэлжлэл.</p><h2>Хоёр</h2><p>А {LONG}</p>",
      "dark.xhtml": f"<p>{LONG}</p>",
    },
    opf='<guide><reference type="copyright" href="dark.xhtml#x"/></guide>',
  )
  assert epub.chapters(book) == [
    [f"Б {LONG}".strip(), "Үргэлжлэл."],
    [f"А {LONG}".strip()],
  ]


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
  found = epub.chapters(book)
  assert isinstance(found, cleaning.Drop)
  assert found.reason == reason


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
    "-m", "data_prep.build_corpus", "--source=epub",
    f"--input_file={tmp_path}/*.epub", f"--output_dir={tmp_path}/out",
  )  # fmt: skip
  assert "documents: 2" in log and "dropped: broken book: 1" in log
  assert "a.epub: File is not a zip file" in log


def test_a_real_book_is_read_from_its_first_to_its_last_sentence() -> None:
  shared = os.environ.get("ALBERT_MN_SHARED")
  if not shared:
    pytest.skip("ALBERT_MN_SHARED is unset: no real book here")
  for name in ("alice.epub", "alice_broken.epub"):
    path = os.path.join(shared, "data", "epub", name)
    (book,) = epub.items(path)
    found = epub.chapters(book)
    assert not isinstance(found, cleaning.Drop)
    assert len(found) == 10
    assert found[0][0].startswith("Alice was beginning to get very tired")
    assert "strange adventures of hers" in found[-1][-1]
    text = "\n".join(p for chapter in found for p in chapter)
    assert 9500 < len(text.split()) < 9700
    for word in ("Gutenberg", "Copyright", "[Pg", "<", "\x00"):
      assert word not in text
