"""Tests of the server's pages in a real browser, with hostile texts too."""

import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from playwright import sync_api

from albert_mn.inference import explainers, explanation, mask_filling
from albert_mn.models import shipped
from bert_tweet import attention, web_pages
from tests import running, serving

WEB = running.ROOT / "bert_tweet/web"
BIN = pathlib.Path(sys.executable).parent
TEXT = "хүн бүр эрхтэй"
ATTACK = "</script><script>window.hit = 1</script><img src=x onerror='hit = 1'>"
FLAGS = (
  "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
  "--disable-background-networking --disable-component-update --disable-sync"
).split()
OPEN = (
  # A site that has taken a name for this machine's address.
  "--host-resolver-rules=MAP rebound.example 127.0.0.1",
  # Chromium's own guard, which other browsers lack.
  "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
  """The system's Chromium, which scripts/test.sh --slow installs."""
  program = shutil.which("chromium") or shutil.which("google-chrome")
  if not program:
    pytest.skip("needs a Chromium: apt-get install chromium")
  with sync_api.sync_playwright() as playwright:
    started = playwright.chromium.launch(
      executable_path=program, args=[*FLAGS, *OPEN]
    )
    yield started
    started.close()


class Watched:
  """A page that records its errors, its messages and its requests."""

  def __init__(self, browser: sync_api.Browser, **context: object) -> None:
    self.context = browser.new_context(**context)  # type: ignore[arg-type]
    self.page = self.context.new_page()
    self.page.set_default_timeout(30_000)
    self.wrong: list[str] = []
    self.fetched: list[str] = []
    self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
    self.page.on("console", lambda m: self.wrong.append(m.text))
    self.page.on("request", lambda request: self.fetched.append(request.url))


@pytest.fixture
def watched(browser: sync_api.Browser) -> Iterator[Watched]:
  watched_page = Watched(browser)
  yield watched_page
  watched_page.context.close()
  assert not watched_page.wrong


@pytest.fixture(scope="module")
def served(
  topics: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[serving.Serving]:
  log = tmp_path_factory.mktemp("page") / "log"
  with serving.serving(topics, log) as server:
    yield server


@pytest.fixture(scope="module")
def explainer(topics: str) -> explanation.Explainer:
  return explainers.load(topics)


def _typed(page: sync_api.Page, text: str) -> None:
  page.fill("#text", text)
  page.get_by_role("button", name="Predict").click()


def _answered(page: sync_api.Page) -> sync_api.Locator:
  """Waits until the whole answer is shown; returns its labels' elements."""
  page.wait_for_selector("#one-head")
  page.wait_for_selector("#view[aria-busy=false]")
  return page.locator("#labels li")


@pytest.mark.slow
def test_who_types_sees_labels_words_and_all_heads(
  watched: Watched, served: serving.Serving, explainer: explanation.Explainer
) -> None:
  page = watched.page
  page.goto(f"{served.url}/#en")
  _typed(page, TEXT)
  labels = _answered(page)
  explained = explainer.explain(TEXT)
  assert explained.answer
  share = 100 * explained.answer.probabilities.max()
  assert labels.count() == 2
  assert labels.first.locator(".name").text_content() == "эрх"
  shown = labels.first.locator(".number").text_content() or ""
  assert float(shown.split()[0]) == pytest.approx(share, abs=0.06)
  assert page.get_by_role("status").text_content() == f"эрх: {shown}"
  assert page.locator(".head").count() == 8
  assert {page.url, *watched.fetched} == {
    f"{served.url}/#en",
    f"{served.url}/",
    f"{served.url}/api/predict",
    f"{served.url}/api/attention",
  }


@pytest.mark.slow
def test_a_click_on_an_example_and_the_other_language(
  watched: Watched, served: serving.Serving
) -> None:
  page = watched.page
  page.goto(served.url)
  assert page.locator("html").get_attribute("lang") == "mn"
  example = page.locator(".example").nth(1)
  example.click()
  _answered(page)
  assert page.input_value("#text") == example.text_content()
  texts = ("h1", "#answer-title", "#one-head h3", "form > label", "#language")
  mongolian = [page.locator(text).text_content() for text in texts]
  page.click("#language")
  english = [page.locator(text).text_content() for text in texts]
  assert english == [
    "What does the model think?",
    "Answer",
    "Layer 1, head 1",
    "Type or paste a text",
    "Монгол",
  ]
  assert all(re.search("[а-яөү]", text or "") for text in mongolian[:-1])
  page.reload()
  assert page.locator("h1").text_content() == english[0], "it is remembered"


def _percents(page: sync_api.Page) -> list[float]:
  texts = page.locator(".strongest .number").all_text_contents()
  return [float(text.split()[0]) for text in texts]


@pytest.mark.slow
def test_layers_heads_and_words_show_the_models_own_numbers(
  watched: Watched, explainer: explanation.Explainer, tmp_path: pathlib.Path
) -> None:
  explained = explainer.explain(TEXT)
  path = tmp_path / "attention.html"
  path.write_text(attention.page(explained), "utf-8")
  page = watched.page
  page.goto(f"{path.as_uri()}#en")
  words = np.array(explained.words)
  for layer, head, direction, joined in (
    (0, 0, "from", False),
    (1, 3, "from", False),
    (1, 3, "to", False),
    (1, 2, "from", True),
    (0, 1, "to", True),
  ):
    page.get_by_role(
      "button", name=f"Layer {layer + 1}, head {head + 1}"
    ).click()
    page.select_option("#direction", direction)
    page.set_checked("#join", joined)
    matrix = explained.attention[layer, head].astype(float)
    if joined:
      member = words[None] == np.arange(words[-1] + 1)[:, None]
      matrix = member @ matrix @ member.T / member.sum(1, keepdims=True)
    for place in (0, 2):
      page.locator("button.word").nth(place).click()
      page.mouse.move(0, 0)
      row = matrix[place] if direction == "from" else matrix[:, place]
      expected = 100 * np.sort(row)[::-1][:6]
      off = 100 * matrix.max() / 510 + 0.05  # joined or not: rows' means
      np.testing.assert_allclose(_percents(page), expected, atol=off)
      page.keyboard.press("Escape")
  assert watched.fetched == [path.as_uri()], "and nothing else was fetched"


@pytest.mark.slow
def test_all_of_it_goes_without_a_mouse(
  watched: Watched, served: serving.Serving
) -> None:
  page = watched.page
  page.goto(f"{served.url}/#en")
  focused = "document.activeElement"
  page.keyboard.press("Tab")
  assert page.evaluate(f"{focused}.id") == "language"
  page.keyboard.press("Tab")
  page.keyboard.type(TEXT)
  page.keyboard.press("Control+Enter")
  _answered(page)
  for _ in range(20):
    page.keyboard.press("Tab")
    if page.evaluate(f"{focused}.className") == "head":
      break
  page.keyboard.press("ArrowDown")
  page.keyboard.press("ArrowRight")
  assert page.evaluate(f"{focused}.ariaLabel") == "Layer 2, head 2"
  assert page.locator("#one-head h3").text_content() == "Layer 2, head 2"
  for key in ["Tab"] * 6 + ["ArrowDown"]:
    page.keyboard.press(key)
  assert page.evaluate(f"{focused}.dataset.unit") == "1"
  assert page.locator(".strongest h4").text_content() == "“хүн” looks at"
  page.keyboard.press("Escape")
  assert page.locator(".strongest h4").count() == 0
  nameless = page.evaluate(
    "[...document.querySelectorAll('button, select, input, textarea')].filter("
    "x => !(x.ariaLabel || x.textContent.trim() || x.labels?.length)).length"
  )
  assert nameless == 0


@pytest.mark.slow
def test_markup_in_a_text_or_a_label_stays_text(
  watched: Watched,
  served: serving.Serving,
  explainer: explanation.Explainer,
  tmp_path: pathlib.Path,
) -> None:
  page = watched.page
  page.goto(f"{served.url}/#en")
  _typed(page, ATTACK)
  _answered(page)
  page.set_checked("#join", True)
  words = "".join(page.locator(".left .unit").all_text_contents())
  assert words == f"[CLS]{ATTACK.replace(' ', '')}[SEP]"
  explained = explainer.explain(ATTACK)
  assert explained.answer
  explained.answer.names[:] = [ATTACK, f"{ATTACK}!"]
  path = tmp_path / "attack.html"
  path.write_text(attention.page(explained), "utf-8")
  page.goto(path.as_uri())
  assert ATTACK in (page.locator("#view h2").first.text_content() or "")
  assert page.evaluate("window.hit") is None
  assert page.locator("img").count() == 0


@pytest.mark.slow
def test_an_inline_script_of_somebody_else_does_not_run(
  browser: sync_api.Browser, served: serving.Serving
) -> None:
  """The policy prevents it: without it, the first half would fail."""
  watched = Watched(browser)
  watched.page.goto(served.url)
  watched.page.evaluate(
    "document.body.append(Object.assign(document.createElement('script'),"
    "{textContent: 'window.hit = 1'}))"
  )
  assert watched.page.evaluate("window.hit") is None
  assert "Content Security Policy" in watched.wrong[0]
  watched.context.close()


@pytest.mark.slow
def test_texts_that_are_empty_or_too_long_are_told_in_words(
  browser: sync_api.Browser, served: serving.Serving
) -> None:
  watched = Watched(browser)
  page = watched.page
  page.goto(f"{served.url}/#en")
  status = page.get_by_role("status")
  _typed(page, "  ")
  sync_api.expect(status).to_have_text("Type a text first.")
  _typed(page, "ө" * 10_001)
  sync_api.expect(status).to_have_text("The text is too long.")
  _typed(page, "хүн бүр эрхтэй " * 300)  # far more than the model reads
  _answered(page)
  assert "were not read" in (page.locator("#view").text_content() or "")
  assert [text for text in watched.wrong if "413" not in text] == []
  watched.context.close()


def _rows(shape: tuple[int, ...]) -> np.ndarray:
  shares = np.exp(np.random.default_rng(5).normal(size=shape))
  return (shares / shares.sum(-1, keepdims=True)).astype(np.float32)


@pytest.mark.slow
def test_512_pieces_can_be_read_and_walked_through(
  watched: Watched, explainer: explanation.Explainer, tmp_path: pathlib.Path
) -> None:
  answer = explainer.explain(TEXT).answer
  assert answer
  parts = np.linspace(-1, 1, 512)
  explained = explanation.Explanation(
    [f"▁үг{i}" for i in range(512)],
    [*range(512)],
    [f"үг{i}" for i in range(512)],
    [0] * 512,
    9,
    3,
    _rows((12, 4, 512, 512)),
    explanation.Answer(answer.names, answer.probabilities, parts, 1, 0, 32),
  )
  path = tmp_path / "long.html"
  path.write_text(attention.page(explained), "utf-8")
  page = watched.page
  # A core that other tests share draws so long a page in up to 30 seconds.
  page.set_default_timeout(120_000)
  page.goto(f"{path.as_uri()}#en")
  page.locator("button.word").nth(511).wait_for()
  assert page.locator("button.word").count() == 512
  page.locator("button.word").nth(400).click()
  page.mouse.move(0, 0)
  expected = 100 * np.sort(explained.attention[0, 0, 400])[::-1][:6]
  np.testing.assert_allclose(_percents(page), expected, atol=0.06)
  page.get_by_role("button", name="Layer 12, head 4").click()
  assert page.locator("#one-head h3").text_content() == "Layer 12, head 4"
  page.select_option("#shown", "lines")
  assert page.locator(".lines path").count() > 0
  shown = page.locator("#view").text_content() or ""
  assert "of the attention" in shown
  assert "text in 3 windows" in shown


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(
  browser: sync_api.Browser, served: serving.Serving, scheme: str
) -> None:
  watched = Watched(
    browser,
    viewport={"width": 360, "height": 740},
    is_mobile=True,
    has_touch=True,
    color_scheme=scheme,
  )
  page = watched.page
  page.goto(served.url)
  page.locator(".example").first.tap()
  _answered(page)
  page.locator("button.word").nth(3).tap()
  assert page.locator(".strongest li").count() == 6
  assert page.evaluate("document.documentElement.scrollWidth") <= 360
  watched.context.close()
  assert not watched.wrong


@pytest.mark.slow
def test_200_requests_at_once_leave_the_page_at_work(
  watched: Watched, served: serving.Serving
) -> None:
  page = watched.page
  page.goto(f"{served.url}/#en")
  statuses = page.evaluate(
    """text => Promise.all([...Array(200).keys()].map(i =>
      fetch("api/predict", {
        method: "POST", headers: {"Content-Type": "application/json"},
        body: JSON.stringify({text: text + " " + i}),
      }).then(r => r.status)))""",
    TEXT,
  )
  assert statuses == [200] * 200
  _typed(page, TEXT)
  assert _answered(page).count() == 2


@pytest.mark.slow
def test_pages_of_other_sites_do_not_get_an_answer(
  browser: sync_api.Browser, served: serving.Serving
) -> None:
  """In the bug report "Nothing lost, no one let in", any page could ask."""
  page = browser.new_page()
  port = served.url.rpartition(":")[2]
  answer = page.goto(f"http://rebound.example:{port}/")
  assert answer
  assert answer.status == 421
  page.route(
    "http://127.0.0.1:9/*",
    lambda route: route.fulfill(
      body="<p>another site", content_type="text/html"
    ),
  )
  page.goto("http://127.0.0.1:9/")
  size = len(served.log.read_text())
  page.evaluate(
    """async url => {
      const body = JSON.stringify({text: "a"});
      for (const type of ["text/plain", "application/x-www-form-urlencoded"])
        await fetch(url + "/api/predict", {
          method: "POST", mode: "no-cors", headers: {"Content-Type": type}, body,
        }).catch(() => 0);
      await fetch(url + "/api/predict", {
        method: "POST", headers: {"Content-Type": "application/json"}, body,
      }).catch(() => 0);
      await fetch(url + "/api/to_back_end/predict?text=a", {mode: "no-cors"})
        .catch(() => 0);
    }""",
    served.url,
  )
  lines: list[str] = []
  while len(lines) < 4:  # an answer may come before its line
    page.wait_for_timeout(20)
    lines = served.log.read_text()[size:].splitlines()
  page.close()
  refused = [line.rpartition(",")[0].split(" ", 1)[1] for line in lines]
  assert refused == [
    *["POST /api/predict 403"] * 3,
    "GET /api/to_back_end/predict 403",
  ]


@pytest.mark.slow
def test_a_server_that_is_killed_is_told_of_and_its_return_is_noticed(
  browser: sync_api.Browser, topics: str, tmp_path: pathlib.Path
) -> None:
  watched = Watched(browser)
  page = watched.page
  status = page.get_by_role("status")
  with serving.serving(topics, tmp_path / "log") as first:
    port = first.url.rpartition(":")[2]
    page.goto(f"{first.url}/#en")
    _typed(page, TEXT)
    _answered(page)
    first.process.kill()
    first.process.wait()
    _typed(page, "үүрэг хуулиар")
    sync_api.expect(status).to_contain_text("The server does not answer")
    assert page.input_value("#text") == "үүрэг хуулиар"
  with serving.serving(topics, tmp_path / "log", f"--port={port}"):
    sync_api.expect(status).to_contain_text("үүрэг: ", timeout=30_000)
    assert _answered(page).first.locator(".name").text_content() == "үүрэг"
  watched.context.close()
  assert all("ERR_" in text for text in watched.wrong)


@pytest.mark.slow
def test_the_pictures_of_the_readme_can_be_taken_again(
  browser: sync_api.Browser, topics: str, tmp_path: pathlib.Path
) -> None:
  del browser  # there is one
  subprocess.run(
    ["scripts/screenshots.sh", topics, str(tmp_path / "docs")],
    cwd=running.ROOT,
    check=True,
    env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
  )
  taken = sorted((tmp_path / "docs").iterdir())
  assert [path.name for path in taken] == ["attention.png", "page.png"]
  for path in taken:
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    assert width == 980
    assert 400 < height < 3000


def _luminance(colour: str) -> float:
  """Returns the relative luminance of a colour such as #abc (WCAG 2.2)."""
  letters = colour.lstrip("#")
  letters = "".join(2 * x for x in letters) if len(letters) == 3 else letters
  parts = [int(letters[i : i + 2], 16) / 255 for i in (0, 2, 4)]
  linear = [
    x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts
  ]
  return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_every_text_stands_out_from_what_is_behind_it() -> None:
  """WCAG 2.2, 1.4.3, asks for a contrast of 4.5 to 1, in light and in dark."""
  style = (WEB / "style.css").read_text("utf-8")
  light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
  for scheme in (light, dark):
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", scheme))
    for front, back in (
      ("text", "page"),
      ("text", "card"),
      ("soft", "page"),
      ("soft", "card"),
      ("wrong", "card"),
      ("on-ink", "ink"),
    ):
      darker, lighter = sorted(_luminance(colours[x]) for x in (front, back))
      assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (front, back, colours)


def test_both_languages_say_the_same_things() -> None:
  texts = (WEB / "texts.js").read_text("utf-8")
  mongolian, english = (
    re.findall(r"^    (\w+):", part, re.MULTILINE)
    for part in re.search(  # type: ignore[union-attr]
      r"mn: \{(.*?)\n  \},\n  en: \{(.*?)\n  \},", texts, re.DOTALL
    ).groups()
  )
  assert mongolian == english
  used = {
    name
    for path in WEB.iterdir()
    for name in re.findall(
      r'said\("(\w+)"|data-text="(\w+)"', path.read_text("utf-8")
    )
    for name in name
    if name
  }
  assert used <= set(mongolian)


def test_what_goes_into_a_page_cannot_end_its_script() -> None:
  page = web_pages.document(
    "file.html", scripts=["file.js"], data=json.dumps({"a": ATTACK})
  )
  assert page.count("</script>") == 2
  held = re.search(r'id="data">(.*?)</script>', page)
  assert held
  assert json.loads(held[1]) == {"a": ATTACK}


@pytest.mark.slow
def test_who_types_a_mask_sees_the_words_of_a_pretrained_model(
  watched: Watched, tmp_path: pathlib.Path
) -> None:
  page = watched.page
  folder = shipped.model_path()
  (mask,) = mask_filling.load(folder).fill("Монгол [MASK] хот", 8)
  with serving.serving(folder, tmp_path / "log") as server:
    page.goto(f"{server.url}/#en")
    assert page.locator("h1").text_content() == "Which word is missing?"
    page.fill("#text", "Монгол хот")
    page.get_by_role("button", name="Fill").click()
    assert "Type [MASK]" in (page.get_by_role("status").text_content() or "")
    page.fill("#text", "Монгол [MASK] хот")
    page.get_by_role("button", name="Fill").click()
    page.wait_for_selector("#labels li")
    names = page.locator("#labels .name").all_text_contents()
    expected = [c.text for c in (*mask.words, *mask.pieces)]
    assert names == expected
    page.click("#language")
    assert page.locator("h1").text_content() == "Ямар үг дутуу вэ?"
    assert page.locator("#labels h4").all_text_contents()[0] == "Үг"
    assert page.evaluate("document.body.scrollWidth <= innerWidth")
