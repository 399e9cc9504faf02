"""Tests that the kind of a file is recognised by its first bytes."""

import bz2
import gzip
import io
import json
import lzma
import pathlib
import sqlite3
import tarfile
import zipfile

import pytest
import zstandard

from bert_tweet import predictions
from data_prep.base import options
from data_prep.files import contents, documents, tables
from data_prep.sources import texts

SENTENCES = ["Хүн бүр төрж мэндлэхдээ эрх чөлөөтэй.", "Сайн уу.", "Баяртай."]


def _zip(*names: str) -> bytes:
  content = io.BytesIO()
  with zipfile.ZipFile(content, "w") as archive:
    for name in names:
      archive.writestr(name, "application/epub+zip")
  return content.getvalue()


def _tar() -> bytes:
  content = io.BytesIO()
  with tarfile.open(fileobj=content, mode="w") as archive:
    archive.addfile(tarfile.TarInfo("a.txt"))
  return content.getvalue()


def _database() -> bytes:
  with sqlite3.connect(":memory:") as database:
    database.execute("create table texts (text)")
    return database.serialize()


ROWS = "".join(
  json.dumps({"id": 1, "text": text}, ensure_ascii=False) + "\n"
  for text in SENTENCES
)
NOT_TEXT = {
  "a PDF document": b"%PDF-1.7\n",
  "an XML document": b'<?xml version="1.0"?><a>1</a>',
  "an XML dump of MediaWiki": b'<mediawiki xmlns="http://">',
  "a zip archive": _zip("a.txt"),
  "an e-book": _zip("mimetype"),
  "a tar archive": _tar(),
  "an SQLite database": _database(),
  "binary data": "Сайн\0уу".encode(),
  "a compressed file": gzip.compress(gzip.compress(b"a")),
}


@pytest.mark.parametrize("kind", NOT_TEXT)
@pytest.mark.parametrize("name", ["a.txt", "wiki_00", "a.csv"])
def test_what_is_no_text_is_refused_by_its_kind(
  tmp_path: pathlib.Path, kind: str, name: str
) -> None:
  path = tmp_path / name
  path.write_bytes(gzip.compress(NOT_TEXT[kind]))
  with pytest.raises(options.InputError, match=f"got {kind}:"):
    list(texts.items(str(path), texts.Options()))


@pytest.mark.parametrize(
  "text",
  [
    "[Хөгжим] Сайн уу.\n",
    "[1] Эх сурвалж\n[2] Сайн\n",
    "{Сайн} уу\n",
    "1. Сайн\n2. Уу\n",
    "1\tСайн\n",  # one line makes no numbered sentences
    "1\tСайн\n1\tУу\n1\tБаяртай\n",
    "2020\t2021\n2021\t1\n2022\t3\n",
    "<Сайн> гэж\n",
    "<main хэсэг\n",
    "<pre-тэй төстэй> гэж\n",
    "PARIS\n",
    "BZh гэж\n",
    "",
  ],
)
def test_running_text_is_taken_for_nothing_else(
  tmp_path: pathlib.Path, text: str
) -> None:
  path = tmp_path / "a"
  path.write_text(text, "utf-8")
  assert contents.kind(str(path)) == contents.TEXT


@pytest.mark.parametrize(
  "text",
  [
    "<!DOCTYPE html><p>Сайн",
    "<!-- а > б -->\n<!doctype HTML>",
    '<?xml version="1.0"?>\n<!-- а -->\n<html lang="mn">',
    "<title>Сайн</title>",
    '<div class="post">Сайн</div>',
    "<meta charset=utf-8><p>Сайн",
    "\n\n<P>Сайн",
  ],
)
def test_a_page_is_known_whatever_it_begins_with(text: str) -> None:
  assert contents.of(text.encode()) == contents.HTML


def test_many_comments_are_passed_over_in_linear_time() -> None:
  assert contents.of(b"<!-- a -->" * 6_000 + b"a") == contents.TEXT


@pytest.mark.parametrize(
  "compress",
  [gzip.compress, bz2.compress, lzma.compress, zstandard.compress, bytes],
)
def test_json_lines_are_known_without_their_ending(
  tmp_path: pathlib.Path, compress: type
) -> None:
  path = tmp_path / "khk_Cyrl-part_1"
  path.write_bytes(compress(ROWS.encode()))
  assert contents.kind(str(path)) == contents.JSON_LINES
  items = list(texts.items(str(path), texts.Options()))
  assert items == [(text,) for text in SENTENCES]


def test_numbered_sentences_are_documents_without_their_numbers(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "mon_news_2020_10K-sentences.txt"
  path.write_text(
    "".join(f"{number}\t{text}\n" for number, text in enumerate(SENTENCES, 7)),
    "utf-8",
  )
  items = list(texts.items(str(path), texts.Options()))
  assert items == [(text,) for text in SENTENCES]


def test_an_article_of_wikiextractor_is_one_document(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "AA" / "wiki_00"
  path.parent.mkdir()
  path.write_text(
    '<doc id="1" url="https://mn.wikipedia.org/wiki?curid=1" title="Эрх">\n'
    "Эрх\n\nХүн бүр эрхтэй.\n\nЭрх &lt; үүрэг.\n\n</doc>\n"
    '<doc id="2" url="https://mn.wikipedia.org/wiki?curid=2" title="Чоно">\n'
    "Чоно\n\nЧоно бол амьтан.\n\n</doc>\n"
    '<doc id="3" url="https://mn.wikipedia.org/wiki?curid=3" title="Хоосон">\n'
    "Хоосон\n\n</doc>\n",
    "utf-8",
  )
  items = list(texts.items(str(path), texts.Options()))
  assert items == [("Хүн бүр эрхтэй.", "Эрх < үүрэг."), ("Чоно бол амьтан.",)]


def test_an_archive_with_text_of_another_form_is_refused(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("а.txt", "Сайн уу.")
    archive.writestr("б.pdf", b"%PDF-1.7")
  with pytest.raises(
    options.InputError, match=r"a\.zip:б\.pdf; got a PDF document"
  ):
    list(texts.items(str(path), texts.Options()))
  path.write_bytes(_zip("mimetype", "chapter.xhtml"))
  with pytest.raises(options.InputError, match="--source=epub"):
    list(texts.items(str(path), texts.Options()))


def test_a_corpus_of_rows_makes_no_examples(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "corpus.txt"
  for kind, content in (
    ("JSON lines", ROWS.encode()),
    ("a JSON array", b'["a"]'),
    ("Parquet", b"PAR1\x15\x04\x15"),
    ("Arrow", b"\xff\xff\xff\xff\x90\x00\x00\x00"),
  ):
    path.write_bytes(content)
    with pytest.raises(options.InputError, match=f"got {kind}.*build_corpus"):
      documents.weighted(str(path))


@pytest.mark.parametrize(
  ("name", "content"),
  [("rows.csv", "text\nСайн\n"), ("rows", ROWS), ("a.html", "<html>")],
)
def test_a_table_is_not_predicted_line_by_line(
  tmp_path: pathlib.Path, name: str, content: str
) -> None:
  path = tmp_path / name
  path.write_text(content, "utf-8")
  settings = predictions.Options(model_dir="model", input_file=str(path))
  with pytest.raises(options.InputError, match="a text in each line"):
    list(settings.lines())


def test_json_lines_of_any_name_report_their_bad_row(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "part"
  path.write_text(ROWS + "[]\n", "utf-8")
  rows = dict(tables.objects(str(path), [tables.Wanted("text", "--x")]))
  assert [row for row in rows.values() if isinstance(row, tuple)] == [
    (text,) for text in SENTENCES
  ]
  assert isinstance(rows[4], tables.Bad)
