"""Tests of reading subtitles, Word documents, posts, and archives of files."""

import io
import json
import pathlib
import random
import zipfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.base import options
from data_prep.sources import texts
from data_prep.text import cleaning
from tests.hostile import mutations

SRT = """\
1
00:00:01,000 --> 00:00:02,500
<i>- Сайн байна уу,</i>

2
00:00:02,500 --> 00:00:04,000 X1:40 X2:600
{\\an8}дүү минь.
- Сайн, сайн.

3
00:00:05,000 --> 00:00:06,000
[ХӨГЖИМ]

4
00:00:07,000 --> 00:00:08,000
♪ Монгол орон минь ♪
"""
VTT = """\
WEBVTT - Нэвтрүүлэг
Kind: captions

NOTE энэ бол тайлбар

STYLE
::cue { color: red }

a-1
00:01.000 --> 00:02.000 align:start
<v Бат>Өнөөдөр бид</v>

00:02.000 --> 00:03.000
Өнөөдөр бид
ирлээ<00:02.500><c> шүү.</c>

01:00:03.000 --> 01:00:04.000
Тийм &amp; үгүй.
"""


def _items(path: pathlib.Path, **settings: Any) -> list[Any]:
  return list(texts.items(str(path), texts.Options(**settings)))


@pytest.mark.parametrize(
  ("text", "lines"),
  [
    (
      SRT,
      ("Сайн байна уу, дүү минь.", "Сайн, сайн.", "Монгол орон минь"),
    ),
    (VTT, ("Өнөөдөр бид ирлээ шүү.", "Тийм & үгүй.")),
  ],
)
def test_what_subtitles_say_is_one_document(
  tmp_path: pathlib.Path, text: str, lines: tuple[str, ...]
) -> None:
  for encoded in (text, text.replace("\n", "\r\n"), f"\ufeff{text}"):
    path = tmp_path / "film"
    path.write_bytes(encoded.encode())
    assert _items(path) == [lines]


def _word() -> bytes:
  docx = pytest.importorskip("docx", reason="scripts/setup.sh --dev adds it")
  document = docx.Document()
  document.add_heading("Эрх", level=1)
  paragraph = document.add_paragraph("Хүн бүр ")
  paragraph.add_run("эрхтэй").bold = True
  paragraph.add_run(".\nТэгш.")
  document.add_table(1, 1).cell(0, 0).text = "Нүд & нүд"
  document.sections[0].header.paragraphs[0].text = "Хуудасны толгой"
  content = io.BytesIO()
  document.save(content)
  return content.getvalue()


def test_a_document_of_word_has_its_paragraphs(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.docx"
  path.write_bytes(_word())
  lines = ("Эрх", "Хүн бүр эрхтэй.", "Тэгш.", "Нүд & нүд")
  assert _items(path) == [lines]


def test_the_text_around_a_text_box_of_word_is_kept(
  tmp_path: pathlib.Path,
) -> None:
  def text(content: str) -> str:
    return f"<w:r><w:t>{content}</w:t></w:r>"

  box = f"<w:txbxContent><w:p>{text('Хайрцаг.')}</w:p></w:txbxContent>"
  word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
  both = "http://schemas.openxmlformats.org/markup-compatibility/2006"
  path = tmp_path / "a.docx"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("[Content_Types].xml", "<Types/>")
    archive.writestr(
      "word/document.xml",
      f'<w:document xmlns:w="{word}" xmlns:mc="{both}"><w:body><w:p>'
      f"{text('Өмнө нь ')}<w:r><mc:AlternateContent>"
      f'<mc:Choice Requires="wps">{box}</mc:Choice>'
      f"<mc:Fallback>{box}</mc:Fallback>"
      f"</mc:AlternateContent></w:r>{text('дараа')}<mc:AlternateContent>"
      f"<mc:Fallback>{text(' 😀.')}</mc:Fallback></mc:AlternateContent></w:p>"
      f"<w:p>{text('Төгсөв.')}</w:p></w:body></w:document>",
    )
  assert _items(path) == [("Хайрцаг.", "Өмнө нь дараа 😀.", "Төгсөв.")]


def test_another_office_document_is_refused(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.xlsx"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("[Content_Types].xml", "<Types/>")
    archive.writestr("xl/workbook.xml", "<workbook/>")
  with pytest.raises(options.InputError, match="another office document"):
    _items(path)


def test_word_that_would_expand_entities_is_refused(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.docx"
  bomb = '<!DOCTYPE a [<!ENTITY a "аа"><!ENTITY b "&a;&a;">]><a>&b;</a>'
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("[Content_Types].xml", "<Types/>")
    archive.writestr("word/document.xml", bomb)
  with pytest.raises(options.InputError, match=r"a whole \.docx"):
    _items(path)


TWEETS = [
  {"tweet": {"full_text": "Сайн &amp; уу\nТийм https://t.co/aB1"}},
  {"tweet": {"full_text": "RT @bold: сайн уу"}},
  {"tweet": {"full_text": "https://t.co/aB1"}},
]
X = "window.YTD.tweets.part0 = " + json.dumps(TWEETS, ensure_ascii=False)
TELEGRAM = {
  "name": "Мэдээ",
  "type": "public_channel",
  "id": 1,
  "messages": [
    {"id": 1, "type": "service", "action": "create_channel", "text": ""},
    {"id": 2, "type": "message", "text": "Сайн уу.\nТийм."},
    {
      "id": 3,
      "type": "message",
      "text": [
        "Энэ ",
        {"type": "bold", "text": "мэдээ"},
        ".",
        {"type": "link", "text": "https://t.me/a"},
      ],
    },
  ],
}
FACEBOOK = [
  {
    "timestamp": 1_600_000_000,
    "data": [{"post": "Сайн уу.".encode().decode("latin-1")}],
    "title": "Бат",
  },
  {"timestamp": 1_600_000_001, "attachments": [{"data": []}]},
]
COMMENTS = {
  "comments_v2": [
    {"timestamp": 1, "data": [{"comment": {"comment": "Тийм.", "author": "Б"}}]}
  ]
}
MESSAGES = {
  "participants": [{"name": "Бат"}],
  "messages": [
    {"sender_name": "Бат", "timestamp_ms": 1, "content": "Сайн уу."},
    {"sender_name": "Бат", "timestamp_ms": 2, "photos": []},
  ],
}
NO_POST = cleaning.Drop("no post with text")


@pytest.mark.parametrize(
  ("content", "expected"),
  [
    (
      X,
      [
        ("Сайн & уу", "Тийм"),
        cleaning.Drop("retweet", "RT @bold: сайн уу"),
        NO_POST,
      ],
    ),
    (TELEGRAM, [NO_POST, ("Сайн уу.", "Тийм."), ("Энэ мэдээ.",)]),
    (
      {"about": "-", "chats": {"list": [TELEGRAM, TELEGRAM]}},
      [NO_POST, ("Сайн уу.", "Тийм."), ("Энэ мэдээ.",)] * 2,
    ),
    (FACEBOOK, [("Сайн уу.",), NO_POST]),
    (COMMENTS, [("Тийм.",)]),
    (MESSAGES, [("Сайн уу.",), NO_POST]),
  ],
  ids=["x", "telegram", "telegram's whole", "facebook", "comments", "messages"],
)
def test_each_post_of_an_export_is_a_document(
  tmp_path: pathlib.Path, content: Any, expected: list[Any]
) -> None:
  path = tmp_path / "export"
  text = content if isinstance(content, str) else json.dumps(content, indent=1)
  path.write_text(text, "utf-8")
  assert _items(path) == expected


def test_json_that_is_no_export_is_refused(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.json"
  path.write_text(json.dumps({"text": "Сайн"}, indent=1))
  with pytest.raises(options.InputError, match=r"posts in .*no export of X"):
    _items(path)


def test_an_archive_of_x_is_its_tweets_alone(
  tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  path = tmp_path / "twitter.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("README.txt", "Archive contents of your account.")
    archive.writestr("data/account.js", "window.YTD.account.part0 = [ {} ]")
    archive.writestr("data/tweets.js", X)
  with caplog.at_level("INFO", logger="absl"):
    assert _items(path)[0] == ("Сайн & уу", "Тийм")
  assert "2 beside the tweets of an archive of X" in caplog.text


def test_files_of_an_archive_are_read_by_what_they_hold(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.zip"
  parquet = io.BytesIO()
  pq.write_table(pa.table({"text": ["Нэг.", "Хоёр."]}), parquet)
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("а.txt", "Сайн уу.\n\nТийм.\n")
    archive.writestr("б.csv", "id,text\n1,Гурав.\n")
    archive.writestr("в/г.parquet", parquet.getvalue())
    archive.writestr("д.srt", SRT)
    archive.writestr("е.docx", _word())
    archive.writestr("ё.png", b"\x89PNG")
    archive.writestr("ж", json.dumps({"text": None}) + "\n")
  documents = _items(path, bad_rows="leave_out")
  first_lines = [d[0] for d in documents if isinstance(d, tuple)]
  assert first_lines == [
    "Сайн уу.",
    "Тийм.",
    "Гурав.",
    "Нэг.",
    "Хоёр.",
    "Сайн байна уу, дүү минь.",
    "Эрх",
  ]
  assert documents[-1].reason == "bad row"
  with pytest.raises(options.InputError, match=r"a\.zip:ж:1; got none"):
    _items(path)


@pytest.mark.parametrize("name", ["a.srt", "a.vtt", "a.docx", "a.js", "a.json"])
def test_a_damaged_file_is_read_or_refused_in_one_line(
  tmp_path: pathlib.Path, name: str
) -> None:
  whole = {
    "a.srt": SRT.encode(),
    "a.vtt": VTT.encode(),
    "a.docx": _word(),
    "a.js": X.encode(),
    "a.json": json.dumps(TELEGRAM, indent=1).encode(),
  }[name]
  path = tmp_path / name
  for seed in range(40):
    path.write_bytes(mutations.changed(random.Random(seed), whole))
    try:
      _items(path)
    except options.InputError as error:
      assert str(error).isprintable()
