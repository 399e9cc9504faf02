#!/usr/bin/env bash
# trafilatura 2.3.1 and Resiliparse 2.0.1: main text that comes out twice, in
# part, or not at all.
#
# Both take the main text out of a web page, and both keep the four sentences of
# a page whose text stands in paragraphs. Seen on 2026-12-01, the four sentences
# in other elements, between a menu and a footer:
#
#   page                           trafilatura   favor_recall   Resiliparse
#   <div><p>…                      4             4              4
#   <ul><li>…, no other text       4             4              0
#   <div class="comments"><p>…     4, twice      4, twice       4
#   <font>…</font><br>             4             3, less!       4
#
# trafilatura takes a container called "comments" for the main text and for the
# comments, which its default output adds to the main text: a corpus of such
# pages has each sentence twice. favor_recall=True, which is there to keep more,
# loses the first sentence of a page that is set in <font>. Resiliparse's
# main_content=True drops a list that stands directly in <body>.
#
# In the product: data_prep/sources/web_pages.py takes trafilatura without
# comments, and with them where else nothing is left; its test has these shapes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  trafilatura==2.3.1 lxml==6.1.3 lxml_html_clean resiliparse==2.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import trafilatura
from resiliparse.extract import html2text

# Universal Declaration of Human Rights.
SENTENCES = [
  "Хүн бүр төрж мэндлэхдээ эрх чөлөөтэй, адилхан нэр төртэй, ижил эрхтэй "
  "байдаг.",
  "Оюун ухаан, нандин чанар заяасан хүн гэгч өөр хоорондоо ахан дүүгийн үзэл "
  "санаагаар харьцах учиртай.",
  "Хүн бүр энэхүү тунхаглалд заасан бүх эрх, эрх чөлөөг ямар нэгэн "
  "ялгаваргүйгээр адил эдлэх ёстой.",
  "Хүн бүр амьд явах, эрх чөлөөтэй байх, халдашгүй дархан байх эрхтэй.",
]


def inside(before, after):
  return "".join(before + sentence + after for sentence in SENTENCES)


# The markup of the sentences; then, for each of the three, how often each
# sentence comes out.
PAGES = {
  "paragraphs": (f"<div>{inside('<p>', '</p>')}</div>",
                 [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]),
  "list": (f"<ul>{inside('<li>', '</li>')}</ul>",
           [1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]),
  "comments": (f'<div class="comments">{inside("<p>", "</p>")}</div>',
               [2, 2, 2, 2], [2, 2, 2, 2], [1, 1, 1, 1]),
  "font": (inside("<font>", "</font><br>"),
           [1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]),
}
for name, (markup, *expected) in PAGES.items():
  html = (
    "<html><head><title>Гарчиг</title></head><body><div id=menu><a href=/>Нүүр"
    "</a> <a href=/a>Мэдээ</a></div><h1>Гарчиг</h1>" + markup +
    "<footer>© 2026 Бүх эрх хуулиар хамгаалагдсан</footer></body></html>")
  texts = [
    trafilatura.extract(html),
    trafilatura.extract(html, favor_recall=True),
    html2text.extract_plain_text(html, main_content=True),
  ]
  counts = [
    [(text or "").count(sentence) for sentence in SENTENCES] for text in texts
  ]
  print(f"{name}: trafilatura {counts[0]}, favor_recall {counts[1]}, "
        f"Resiliparse {counts[2]}")
  assert counts == expected, name
PYTHON
