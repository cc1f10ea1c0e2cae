"""Looks at the built site in headless Chromium, at the width of a desk and of a phone.

    python tools/site_check.py build/docs            # build/docs FOLDER: and pictures of all pages

Every page: no dead link of the site's own, no error on the console, pictures loaded, no sideways
scroll on a phone, formulas typeset; and the search finds a function. Prints what it saw; exits with
1 where something is wrong.
"""

from __future__ import annotations

import functools
import http.server
import json
import re
import sys
import tempfile
import threading
from pathlib import Path
from urllib.parse import unquote

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

SIZES = {"desk": (1280, 900), "phone": (390, 844)}
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# Of the whole page in one answer.
LOOK = """
const boxes = [...document.querySelectorAll('math')].map(m => m.getBoundingClientRect());
return JSON.stringify({
  broken: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
  formulas: boxes.length,
  empty: boxes.filter(b => b.width < 1 || b.height < 1).length,
  raw: /\\$\\$|\\\\\\\\frac/.test(document.querySelector('article').innerText),
  wide: document.documentElement.scrollWidth - window.innerWidth,
});
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def serve(folder: Path) -> str:
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def browser(profile: str) -> webdriver.Chrome:
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, Service("/usr/bin/chromedriver"))


def look(driver: webdriver.Chrome, where: str, size: str) -> list[str]:
    """What is wrong with the page that is open."""
    seen = json.loads(driver.execute_script(LOOK))
    problems = [f"picture {src}" for src in seen["broken"]]
    problems += [f"{seen['empty']} formulas without a size"] if seen["empty"] else []
    problems += ["a formula as it is written"] if seen["raw"] else []
    problems += [f"{seen['wide']} pixels too wide"] if seen["wide"] > 0 else []
    problems += [e["message"] for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    return [f"{where}, {size}: {p}" for p in problems]


def dead_links(folder: Path) -> list[str]:
    """Of the site's own: files that are not there, and places that no page has."""
    pages = {p: p.read_text() for p in folder.rglob("*.html")}
    places = {p: set(re.findall(r'id="([^"]+)"', text)) for p, text in pages.items()}
    dead = []
    for page, text in pages.items():
        for link in set(re.findall(r'(?:href|src)="([^"]+)"', text)):
            path, _, place = unquote(link).partition("#")
            if re.match(r"[a-z]+:|//", link):
                continue
            target = (page.parent / path.partition("?")[0]).resolve() if path else page
            if not target.exists() or (place and place not in places.get(target, {place})):
                dead.append(f"{page.relative_to(folder)}: {link} is not there")
    return dead


def search(driver: webdriver.Chrome, root: str) -> list[str]:
    driver.get(f"{root}/search.html?q=gaussian_kl")
    WebDriverWait(driver, 20).until(
        lambda d: d.find_elements(By.CSS_SELECTOR, "ul.search li a[href*='sampling']")
    )
    return look(driver, "search", "desk")


def main() -> int:
    folder = Path(sys.argv[1])
    pages = sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*.html") if "_" not in p.parts[0]
    )
    root, problems, formulas = serve(folder), dead_links(folder), 0
    with tempfile.TemporaryDirectory() as profile:
        driver = browser(profile)
        for size, (width, height) in SIZES.items():
            driver.set_window_size(width, height)
            for page in pages:
                driver.get(f"{root}/{page}")
                problems += look(driver, page, size)
                formulas += len(driver.find_elements(By.TAG_NAME, "math"))
                if len(sys.argv) > 2:
                    driver.save_screenshot(f"{sys.argv[2]}/{size}-{page.replace('/', '-')}.png")
        driver.set_window_size(*SIZES["desk"])
        problems += search(driver, root)
        driver.quit()
    print(*problems, sep="\n")
    print(f"{len(pages)} pages, {formulas} formulas at two widths, {len(problems)} problems")
    return 1 if problems or not formulas else 0


if __name__ == "__main__":
    sys.exit(main())
