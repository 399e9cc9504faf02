"""Tests that web pages, alone and in WARC, and the texts of WET are read."""

import gzip
import io
import json
import pathlib
import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from data_prep.base import options
from data_prep.corpus import corpora, corpus_options, preparation
from data_prep.sources import downloads, texts, web_pages
from data_prep.text import cleaning
from tests import running
from tests.hostile import mutations

# Universal Declaration of Human Rights.
SENTENCES = (
  "Хүн бүр төрж мэндлэхдээ эрх чөлөөтэй, адилхан нэр төртэй, ижил эрхтэй"
  " байдаг.",
  "Оюун ухаан, нандин чанар заяасан хүн гэгч өөр хоорондоо ахан дүүгийн үзэл"
  " санаагаар харьцах учиртай.",
  "Хүн бүр энэхүү тунхаглалд заасан бүх эрх, эрх чөлөөг ямар нэгэн"
  " ялгаваргүйгээр адил эдлэх ёстой.",
  "Хүн бүр амьд явах, эрх чөлөөтэй байх, халдашгүй дархан байх эрхтэй.",
)
JUNK = ("Нүүр", "Их уншсан", "Зочин: сайн байна", "Бүх эрх хуулиар")


def _each(before: str, after: str) -> str:
  return "".join(f"{before}{sentence}{after}" for sentence in SENTENCES)


# Seven shapes in which pages set their main text.
SHAPES = {
  "paragraphs": f"<article>{_each('<p>', '</p>')}</article>",
  "breaks": "<div class=post-body>" + "<br><br>".join(SENTENCES) + "</div>",
  "list": f"<ul>{_each('<li>', '</li>')}</ul>",
  "table": f"<table>{_each('<tr><td>1</td><td>', '</td></tr>')}</table>",
  "comments": f'<div class="comments">{_each("<p>", "</p>")}</div>',
  "font": _each("<font face=Arial>", "</font><br>"),
  "posts": _each("<div class=post><b>Бат</b><div>", "</div></div>"),
}


def _page(markup: str, beside: bool = True) -> str:
  menu = "".join(
    f'<li><a href="/{name}">{name}</a></li>' for name in ("Нүүр", "Мэдээ")
  )
  links = "".join(
    f'<li><a href="/{n}">Сайд өнөөдөр хуралдаанд оролцлоо гэв {n}</a></li>'
    for n in range(8)
  )
  comments = '<div id="disqus"><p>Зочин: сайн байна шүү.</p></div>'
  return (
    "<!DOCTYPE html><html lang=mn><head><meta charset=utf-8><title>Эрх</title>"
    f"<script>var нүүр = 1;</script></head><body><nav><ul>{menu}</ul></nav>"
    f"<div class=content><h1>Эрх</h1>{markup}</div>"
    f"<aside><h3>Их уншсан</h3><ul>{links}</ul></aside>"
    f"{comments if beside else ''}"
    "<footer>© 2026 Бүх эрх хуулиар хамгаалагдсан</footer></body></html>"
  )


PAGE = _page(SHAPES["paragraphs"])


def _items(path: pathlib.Path) -> list[Any]:
  return list(texts.items(str(path), texts.Options()))


@pytest.fixture
def extractor() -> None:
  """Skips a test if trafilatura is not installed."""
  pytest.importorskip("trafilatura", reason="scripts/setup.sh installs it")


@pytest.mark.usefixtures("extractor")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_main_text_of_a_page_comes_once_and_nothing_else(
  tmp_path: pathlib.Path, shape: str
) -> None:
  path = tmp_path / "page"
  # Nothing tells comments that are the main text from comments.
  path.write_text(_page(SHAPES[shape], beside=shape != "comments"), "utf-8")
  (page,) = _items(path)
  lines = texts.resolved(page)
  assert isinstance(lines, tuple)
  text = " ".join(lines)
  assert [text.count(sentence) for sentence in SENTENCES] == [1] * 4
  assert not [junk for junk in JUNK if junk in text]
  assert not any(line.startswith(("|", "- ")) for line in lines)


@pytest.mark.usefixtures("extractor")
@pytest.mark.parametrize(
  ("declared", "encoding"),
  [
    ('<meta charset="windows-1251">', "cp1251"),
    ('<?xml version="1.0" encoding="utf-16"?>', "utf-16"),
    ("", "utf-8-sig"),
    ('<meta charset="windows-1251">', "utf-8-sig"),
  ],
)
def test_the_encoding_of_a_page_is_the_one_that_it_declares(
  tmp_path: pathlib.Path, declared: str, encoding: str
) -> None:
  # No ө and ү, which Windows-1251 lacks.
  text = "Монгол хэлээр бичсэн энэ бичиг нь Улаанбаатар хотын тухай юм. " * 3
  path = tmp_path / "page.html"
  page = f"{declared}<html><body><p>{text}</p></body></html>"
  path.write_bytes(page.encode(encoding))
  made = web_pages.main_text(web_pages.Page("a", path.read_bytes()))
  assert made == (text.strip(),)


@pytest.mark.usefixtures("extractor")
@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (b"<html></html>", "page without main text"),
    (b"<html>\xd0\x00", "page that cannot be decoded"),
    (b"<html><meta charset=no-such>a", "page that cannot be decoded"),
    (
      b"<html><p " + b" ".join(b"a%d=1" % n for n in range(9_000)) + b">a</p>",
      "page that cannot be decoded",
    ),
    (b"<html>" + b"<div>" * 20_000 + b"a", "page without main text"),
  ],
)
def test_a_page_without_text_is_dropped_for_a_reason(
  content: bytes, reason: str
) -> None:
  made = web_pages.main_text(web_pages.Page("http://a.mn/", content))
  assert made == cleaning.Drop(reason, "http://a.mn/")


def test_a_page_that_is_too_large_is_dropped(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.setattr(web_pages, "LARGEST_PAGE", 10)
  assert isinstance(web_pages.page("a", b"1" * 10), web_pages.Page)
  assert isinstance(web_pages.page("a", b"1" * 11), cleaning.Drop)


def test_without_the_extractor_the_way_to_it_is_said(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
  path = tmp_path / "a.html"
  path.write_text(PAGE)
  with pytest.raises(options.InputError, match=r"setup\.sh, or pip install"):
    _items(path)


def _chunked(body: bytes) -> bytes:
  half = len(body) // 2
  parts = [body[:half], body[half:], b""]
  return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


# Header of an answer → how its body is sent.
ANSWERS: dict[str, Callable[[bytes], bytes]] = {
  "": bytes,
  "Transfer-Encoding: chunked\r\n": _chunked,
  "Content-Encoding: gzip\r\n": gzip.compress,
  "Content-Encoding: gzip\r\nX-Note: stored unpacked\r\n": bytes,
  "Content-Encoding: deflate\r\n": zlib.compress,
  "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n": lambda body: (
    _chunked(gzip.compress(body))
  ),
}


def _warc(members: bool) -> bytes:
  """Returns an archive of pages as warcio writes them, in gzip or plain."""
  warcwriter = pytest.importorskip(
    "warcio.warcwriter", reason="scripts/setup.sh --dev installs it"
  )
  content = io.BytesIO()
  writer = warcwriter.WARCWriter(content, gzip=members)

  def add(kind: str, number: int, payload: bytes, **how: Any) -> None:
    writer.write_record(
      writer.create_warc_record(
        f"http://a.mn/{number}", kind, payload=io.BytesIO(payload), **how
      )
    )

  writer.write_record(
    writer.create_warcinfo_record("a.warc", {"software": "a"})
  )
  for number, (header, send) in enumerate(ANSWERS.items()):
    head = (
      f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=UTF-8\r\n{header}"
    )
    add("request", number, b"GET / HTTP/1.1\r\n\r\n")
    add("response", number, f"{head}\r\n".encode() + send(PAGE.encode()))
  add("response", 97, b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n")
  add("response", 98, b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n\x89")
  add("resource", 99, PAGE.encode(), warc_content_type="text/html")
  return content.getvalue()


def _wet() -> bytes:
  warcwriter = pytest.importorskip(
    "warcio.warcwriter", reason="scripts/setup.sh --dev installs it"
  )
  content = io.BytesIO()
  writer = warcwriter.WARCWriter(content, gzip=True)
  for number in range(2):
    text = f"Нүүр\nЭнэ бол {number} дүгээр хуудас юм.\n"
    writer.write_record(
      writer.create_warc_record(
        f"http://a.mn/{number}",
        "conversion",
        payload=io.BytesIO(text.encode()),
        warc_content_type="text/plain",
      )
    )
  return content.getvalue()


@pytest.mark.usefixtures("extractor")
@pytest.mark.parametrize("packing", ["members", "one member", "plain"])
def test_each_page_of_a_web_archive_is_a_document(
  tmp_path: pathlib.Path, packing: str
) -> None:
  path = tmp_path / "CC-MAIN-0"
  plain = _warc(members=False)
  path.write_bytes(
    {
      "members": lambda: _warc(members=True),
      "one member": lambda: gzip.compress(plain),
      "plain": lambda: plain,
    }[packing]()
  )
  items = _items(path)
  assert items.pop(-2) == cleaning.Drop(
    "web record that is no page", "http://a.mn/98"
  )
  names = [page.name for page in items]
  numbers = [*range(len(ANSWERS)), 99]
  assert names == [f"http://a.mn/{number}" for number in numbers]
  assert {page.content.decode() for page in items} == {PAGE}
  assert {texts.resolved(page) for page in items} == {
    texts.resolved(web_pages.Page("a", PAGE.encode()))
  }


@pytest.mark.usefixtures("extractor")
def test_the_case_of_a_media_type_does_not_matter(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.warc"
  whole = _warc(members=False)
  path.write_bytes(whole)
  expected = _items(path)
  for kind in (b"text/html", b"application/http"):
    assert kind in whole
    whole = whole.replace(kind, kind.title())
  path.write_bytes(whole)
  assert _items(path) == expected


def test_each_text_of_wet_is_a_document(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.warc.wet.gz"
  for content in (_wet(), gzip.compress(gzip.decompress(_wet()))):
    path.write_bytes(content)
    assert _items(path) == [
      ("Нүүр", f"Энэ бол {number} дүгээр хуудас юм.") for number in range(2)
    ]


@pytest.mark.parametrize(
  ("cut", "message"),
  [
    (lambda raw: raw[:-40], "got a record that is cut off"),
    (lambda raw: raw[: raw.rindex(b"WARC-Date")], "got a header without an"),
    (lambda raw: raw + b"abc", "got b'abc'"),
    (lambda raw: raw.replace(b"Content-Length: ", b"Content-Length: x"), "'x"),
  ],
)
def test_a_damaged_archive_is_refused_at_the_record(
  tmp_path: pathlib.Path, cut: Callable[[bytes], bytes], message: str
) -> None:
  path = tmp_path / "a.wet"
  path.write_bytes(cut(gzip.decompress(_wet())))
  with pytest.raises(options.InputError, match=message):
    _items(path)


@pytest.mark.usefixtures("extractor")
def test_a_spoilt_archive_is_read_or_refused_in_one_line(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.warc"
  whole = _warc(members=False)
  for seed in range(60):
    path.write_bytes(mutations.changed(random.Random(seed), whole))
    try:
      for item in _items(path):
        texts.resolved(item)
    except options.InputError as error:
      assert str(error).isprintable()


@pytest.mark.usefixtures("extractor")
@pytest.mark.slow
def test_a_corpus_of_pages_does_not_depend_on_the_workers(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(preparation, "_LETTERS_A_TASK", 2_000)
  folder = tmp_path / "in"
  folder.mkdir()
  (folder / "a.warc.gz").write_bytes(_warc(members=True))
  (folder / "b.wet").write_bytes(_wet())
  for shape, markup in SHAPES.items():
    (folder / f"{shape}.html").write_text(_page(markup), "utf-8")
  digests = []
  for workers in (1, 2, 4):
    out = tmp_path / f"out{workers}"
    corpora.build(
      corpus_options.Settings(
        corpus_options.Options(
          input_file=str(folder),
          output_dir=str(out),
          num_workers=workers,
          num_shards=2,
        ),
        cleaning.Options(),
        texts.Options(),
        downloads.Options(),
      )
    )
    digests.append(running.digests(out))
  assert digests[0] == digests[1] == digests[2]
  stats = json.loads((tmp_path / "out1/stats.json").read_text())
  assert stats["dropped: web record that is no page"] == 1
  assert stats["dropped: exact duplicate"] >= len(ANSWERS)


def _record(kind: str, content: str, **header: str) -> bytes:
  fields = {name.replace("_", "-"): value for name, value in header.items()}
  fields |= {"WARC-Type": kind, "Content-Length": str(len(content.encode()))}
  lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
  return f"WARC/1.0\r\n{lines}\r\n{content}\r\n\r\n".encode()


def _kept(path: pathlib.Path, *keep: str) -> list[Any]:
  settings = texts.Options(keep=keep)
  return [
    item.reason if isinstance(item, cleaning.Drop) else item
    for item in texts.items(str(path), settings)
  ]


def test_texts_of_an_archive_are_kept_by_the_headers_of_their_records(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.wet"
  path.write_bytes(
    _record("warcinfo", "Software: a")
    + b"".join(
      _record(
        "conversion",
        f"Энэ бол {language} хуудас юм.",
        WARC_Target_URI=f"http://a.mn/{number}",
        WARC_Identified_Content_Language=language,
      )
      for number, language in enumerate(("mon", "rus,mon", "mon"))
    )
  )
  condition = 'WARC-Identified-Content-Language=="mon"'
  text = ("Энэ бол mon хуудас юм.",)
  assert _kept(path, condition) == [text, f"not {condition}", text]
  later = 'warc-target-uri>"http://a.mn/1"'
  assert _kept(path, condition, later)[2] == text
  assert _kept(path, later)[:2] == [f"not {later}"] * 2
  with pytest.raises(options.InputError, match="one field 'languag' among"):
    _kept(path, "Languag!=null")


@pytest.mark.usefixtures("extractor")
def test_pages_of_an_archive_are_kept_by_the_headers_of_their_answers(
  tmp_path: pathlib.Path,
) -> None:
  answers = [
    f"HTTP/1.1 200 OK\r\nContent-Type: text/html{charset}\r\nX-Age: {number}"
    f"\r\n\r\n{PAGE}"
    for number, charset in enumerate(("", "; charset=utf-8"))
  ]
  path = tmp_path / "a.warc"
  path.write_bytes(
    b"".join(
      _record("response", answer, Content_Type="application/http")
      for answer in answers
    )
  )
  condition = 'Content-Type=="text/html"'
  page, dropped = _kept(path, condition)
  assert isinstance(page, web_pages.Page)
  assert dropped == f"not {condition}"
  assert _kept(path, "X-Age>=1")[0] == "not X-Age>=1"
