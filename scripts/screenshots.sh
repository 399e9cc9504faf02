#!/usr/bin/env bash
# Takes the pages' pictures of the server's page and of its attention view.
#
#   scripts/screenshots.sh [MODEL [FOLDER]]
#
# MODEL is a classifier's model directory; without one, that of quickstart.sh,
# which is run where it has not been. The pictures go to FOLDER (docs).
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:-runs/quickstart/classifier/model}
folder=${2:-docs}
text='Залуу бөх барилдаанд түрүүлж, мөрөөдлөө биелүүлэв.'

if [ -z "${1:-}" ] && [ ! -e "$model/manifest.json" ]; then
  scripts/quickstart.sh
fi
export PATH="$PWD/.venv/bin:$PATH"
scratch=$(mktemp -d)
trap 'kill "$server" 2> /dev/null || true; rm -r "$scratch"' EXIT
python -m bert_tweet.serve --model_dir="$model" --port=0 2> "$scratch/log" &
server=$!
until address=$(grep -os 'http://[^ ]*' "$scratch/log"); do
  kill -0 "$server" || { cat "$scratch/log" >&2; exit 1; }
  sleep 0.2
done

mkdir -p "$folder"
python - "$address" "$text" "$folder" << 'EOF'
import shutil, sys
from playwright import sync_api

address, text, folder = sys.argv[1:]
chromium = shutil.which("chromium") or shutil.which("google-chrome")
if not chromium:
  sys.exit("error: expected a Chromium; got none: apt-get install chromium")
with sync_api.sync_playwright() as playwright:
  browser = playwright.chromium.launch(
    executable_path=chromium,
    args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"],
  )
  page = browser.new_page(viewport={"width": 980, "height": 700})
  page.goto(f"{address}#en")
  page.fill("#text", text)
  page.click("button.main")
  page.wait_for_selector("#one-head")
  page.wait_for_selector("#view[aria-busy=false]")
  page.set_checked("#join", True)
  page.locator("button.word").nth(2).click()
  page.mouse.move(0, 0)
  page.evaluate("scrollTo(0, 0)")  # boxes are measured from the window
  everything = page.locator("main").bounding_box()
  below = page.locator("#view section").nth(1).bounding_box()
  page.screenshot(
    path=f"{folder}/page.png", full_page=True,
    clip={"x": 0, "y": 0, "width": 980, "height": below["y"]},
  )
  page.screenshot(
    path=f"{folder}/attention.png", full_page=True,
    clip={"x": 0, "y": below["y"] - 12, "width": 980,
          "height": everything["y"] + everything["height"] - below["y"] + 12},
  )
  browser.close()
EOF
