"""The board's page in headless Chromium: how it looks at two widths, labelling, hostile texts, other sites.

    page_check.py --edgeblip PROGRAM [--pictures FOLDER] [--write]

Chromium is Debian's; Playwright drives it. The pictures of the page are compared, coarsely, with those in docs/page: fonts
differ from machine to machine, what stands where does not. `--write` writes them anew.
"""

import argparse
import functools
import http.server
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading

import numpy
import prometheus_client.parser
from PIL import Image
from playwright.sync_api import sync_playwright

from board import PICTURES, ROOT, Board, wait_for

SHOWN = ROOT / "docs" / "page"
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
HOSTILE = 'an owl <script>document.title="taken over"</script><img src=x onerror=alert(1)> on sand'
# Mean difference of pictures that are 40 pixels wide, of 255. Text in another font moves it by about 2.
LIKE = 12.0


def chromium(playwright, *arguments):
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
    return playwright.chromium.launch(executable_path="/usr/bin/chromium", args=[*flags, *arguments])


class Watched:
    """A page whose every fault is kept."""

    def __init__(self, context, base):
        self.page = context.new_page()
        self.faults = []
        self.page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.check(request.url, base))

    def check(self, url, base):
        if not url.startswith(base):
            self.faults.append(f"asks elsewhere: {url}")

    def done(self):
        assert not self.faults, self.faults
        self.page.close()


def until(page, condition):
    """Waits for a condition; the page's own policy forbids what Playwright would wait with."""
    wait_for(condition, lambda: page.evaluate(condition))


def link(board):
    address = board.address()
    return re.sub(r"//[^/]*/", f"//{address}/", board.json("page", "link")[0]["links"][0])


def coarse(path):
    with Image.open(path) as image:
        grey = image.convert("L")
        return numpy.asarray(grey.resize((40, 40 * grey.height // grey.width), Image.BOX), dtype=float)


def looks_as_shown(name, picture, write):
    shown = SHOWN / f"{name}.png"
    if write:
        SHOWN.mkdir(parents=True, exist_ok=True)
        with Image.open(picture) as image:
            image.convert("P", palette=Image.ADAPTIVE, colors=128).save(shown, optimize=True)
    old, new = coarse(shown), coarse(picture)
    rows = min(len(old), len(new))
    assert abs(len(old) - len(new)) <= max(2, len(old) // 10), f"{name}: {len(old)} rows were {len(new)}"
    difference = numpy.abs(old[:rows] - new[:rows]).mean()
    assert difference <= LIKE, f"{name}: differs from {shown} by {difference:.1f}"
    return difference


def look(browser, base, board, folder, write):
    """Layout at two widths, with and without a session."""
    for name, (width, height) in SIZES.items():
        context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=1)
        watched = Watched(context, base)
        page = watched.page
        page.goto(base + "/", wait_until="networkidle")
        assert page.locator("form.label").count() == 0, "a visitor is offered what only people who are let in may do"
        page.goto(link(board), wait_until="networkidle")
        assert page.locator("form.label").count() > 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}: it scrolls sideways"
        low = page.evaluate(
            "[...document.querySelectorAll('button, input:not([type=hidden])')]"
            ".filter(one => one.getClientRects().length && one.getBoundingClientRect().height < 44).length"
        )
        assert low == 0, f"{name}: {low} buttons are too low for a finger"
        page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
        until(page, "[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        # Times and names differ from run to run.
        page.evaluate("document.querySelectorAll('dd, .home').forEach(part => part.style.visibility = 'hidden')")
        picture = folder / f"{name}.png"
        page.screenshot(path=str(picture), full_page=True)
        difference = looks_as_shown(name, picture, write)
        watched.done()
        context.close()
        print(f"{name}, {width} x {height}: as shown, coarse difference {difference:.1f} of 255")


def label(browser, base, board, uses_scripts):
    """Accept, reject and rewrite, as a person does, with scripts and without."""
    context = browser.new_context(java_script_enabled=uses_scripts)
    watched = Watched(context, base)
    page = watched.page
    page.goto(link(board))
    pairs = [pair["pair"] for pair in board.pairs() if pair["picture"]]
    accepted, rejected, rewritten = pairs[:3]
    words = "my words, with scripts" if uses_scripts else "my words, without scripts"
    card = lambda pair: page.locator(f"#pair-{pair}")
    card(accepted).get_by_role("button", name="Accept").click()
    card(rejected).get_by_role("button", name="Reject").click()
    field = card(rewritten).get_by_role("textbox")
    field.fill(words)
    field.press("Enter")
    page.wait_for_load_state()
    assert card(rewritten).locator(".headline").inner_text() == words
    assert "rejected" in card(rejected).get_attribute("class")
    for pair, action in [(accepted, "accept"), (rejected, "reject"), (rewritten, {"rewrite": words})]:
        labels = board.json("pairs", "show", pair)[0]["labels"]
        assert labels[-1]["action"] == action, (pair, labels)
    # So that the next time is like the first.
    card(rejected).get_by_role("button", name="Accept").click()
    page.wait_for_load_state()
    watched.done()
    context.close()
    print(f"labels {'with' if uses_scripts else 'without'} scripts: accept, reject, rewrite are in the store")


def hostile(browser, base, board):
    """Texts that are markup, or command a terminal, are text."""
    context = browser.new_context()
    watched = Watched(context, base)
    page = watched.page
    pair = next(pair["pair"] for pair in board.pairs() if any("<script>" in text["words"] for text in pair["texts"]))
    for path in ["/", "/pairs", f"/pairs/{pair}", "/search?q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%1b[31mowl"]:
        page.goto(base + path)
        assert page.title() != "taken over"
        assert page.locator("main script, [onerror]").count() == 0
        assert "\x1b" not in page.content()
    page.goto(f"{base}/pairs/{pair}")
    assert page.get_by_text(HOSTILE).count() == 1, "the text is shown as it is"
    watched.done()
    context.close()
    assert "left out" in board.log.read_text(), "a text with an escape is not stored"
    listed = subprocess.run(
        [board.program, "pairs", "list", "--config", board.config], capture_output=True, check=True
    ).stdout
    assert b"\x1b" not in listed
    print("a caption of <script>, and one with escapes of a terminal: shown as text, or not stored")


def fresh(browser, base, board):
    """What is new comes by itself, and does not disturb who types."""
    context = browser.new_context()
    watched = Watched(context, base)
    page = watched.page
    page.goto(link(board), wait_until="networkidle")
    field = page.locator("form.label input[type=text]").first
    field.fill("half a sent")
    before = page.locator("#sight").get_attribute("data-number")
    # A picture with a text of its own is looked at however like the last ones it is.
    (board.camera / "another.txt").write_text("two bears\n")
    shutil.copy(PICTURES / "07.png", board.camera / "another.png")
    until(page, f"document.getElementById('sight').dataset.number !== '{before}'")
    until(page, "document.getElementById('caption').textContent === 'two bears on sand'")
    assert field.input_value() == "half a sent"
    page.get_by_role("button", name="Live picture").click()
    until(page, "document.getElementById('picture').src.includes('/live.jpg')")
    until(page, "document.getElementById('picture').naturalWidth > 0")
    watched.done()
    context.close()
    print("a new picture appears by itself; a text that is being typed stays")


class Evil(http.server.BaseHTTPRequestHandler):
    """A site that a person visits who is let in at the board."""

    board = ""
    pair = ""

    def do_GET(self):
        body = f"""<!doctype html><title>waiting</title><iframe name=out></iframe>
            <form method=post target=out action="{self.board}/pairs/{self.pair}/label">
            <input name=action value=reject></form><img id=i src="{self.board}/look.jpg">
            <script>
              const results = [];
              const tell = (name, value) => {{ results.push(name + "=" + value);
                if (results.length === 3) document.title = results.sort().join(" "); }};
              i.onerror = () => tell("image", "refused"); i.onload = () => tell("image", "shown");
              fetch("{self.board}/state").then(r => tell("read", r.status), () => tell("read", "refused"));
              fetch("{self.board}/pairs/{self.pair}/label", {{method: "POST", mode: "no-cors", credentials: "include",
                body: new URLSearchParams({{action: "reject"}})}}).then(r => tell("post", r.type), () => tell("post", "refused"));
              document.forms[0].submit();
            </script>"""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def foreign(playwright, browser, base, board):
    """Another site can neither read nor change anything, under its own name or by one that points at the board."""
    pair = next(pair["pair"] for pair in board.pairs() if pair["picture"])
    labels = lambda: len(board.json("pairs", "show", pair)[0]["labels"])
    before = labels()
    handler = type("Handler", (Evil,), {"board": base, "pair": pair})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    context = browser.new_context()
    page = context.new_page()
    page.goto(link(board), wait_until="networkidle")
    statuses = []
    page.goto("about:blank")
    page.on("response", lambda response: statuses.append((response.url, response.status)))
    page.goto(f"http://localhost:{server.server_port}/")
    wait_for("the other site's script", lambda: page.title() != "waiting")
    assert page.title() == "image=refused post=refused read=refused", page.title()
    tried = [status for url, status in statuses if url.startswith(base)]
    assert tried and all(status == 403 for status in tried), statuses
    assert labels() == before, "another site has changed something"
    context.close()
    # A name of the other site that points at the board: DNS rebinding.
    port = base.rsplit(":", 1)[1]
    rebound = chromium(playwright, "--host-resolver-rules=MAP evil.example 127.0.0.1")
    response = rebound.new_page().goto(f"http://evil.example:{port}/")
    assert response.status == 421, response.status
    rebound.close()
    # Without a token nothing changes, though the request is the page's own.
    context = browser.new_context()
    page = context.new_page()
    page.goto(base + "/")
    post = f"fetch('/pairs/{pair}/label', {{method: 'POST', body: new URLSearchParams({{action: 'reject'}})}}).then(r => r.status)"
    assert page.evaluate(post) == 401
    assert labels() == before
    context.close()
    server.shutdown()
    print("another site: refused (403), by a name of its own that points here: refused (421), without a token: refused (401)")


def code(board, folder):
    """The code that --lan prints is the link. zbarimg reads it."""
    said = wait_for("the link", lambda: (board.work / "said").read_text())
    lines = wait_for("the code", lambda: (lines := said.splitlines()) and any("█" in line for line in lines) and lines)
    links = [line for line in lines if line.startswith("http://")]
    rows = [line for line in lines if set(line) & set("█▀▄")]
    halves = {"█": (255, 255), "▀": (255, 0), "▄": (0, 255), " ": (0, 0)}
    width = max(map(len, rows))
    pixels = numpy.zeros((2 * len(rows), width), dtype=numpy.uint8)
    for y, row in enumerate(rows):
        for x, mark in enumerate(row):
            pixels[2 * y : 2 * y + 2, x] = halves[mark]
    picture = folder / "code.png"
    Image.fromarray(numpy.kron(pixels, numpy.full((8, 8), 1, dtype=numpy.uint8))).save(picture)
    read = subprocess.run(["zbarimg", "-q", "--raw", picture], capture_output=True, text=True, check=True).stdout.strip()
    assert read == links[0], (read, links)
    assert re.fullmatch(r"http://[^/]+:\d+/enter\?link=l\.[0-9a-f.]+", read), read
    print("--lan prints a link, and a code that a reader of codes reads as the same link")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edgeblip", required=True, type=pathlib.Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    program = arguments.edgeblip.resolve()
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        folder = pathlib.Path(work)
        board = Board(program, folder / "board")
        (board.camera / "10.txt").write_text(HOSTILE + "\n")
        (board.camera / "11.txt").write_text("an elephant \x1b[31mon grass\n")
        with board, chromium(playwright) as browser:
            base = f"http://{board.address()}"
            board.until(" frame=", 6)
            board.pairs(6)
            look(browser, base, board, folder, arguments.write)
            hostile(browser, base, board)
            for uses_scripts in [True, False]:
                label(browser, base, board, uses_scripts)
            fresh(browser, base, board)
            foreign(playwright, browser, base, board)
            context = browser.new_context()
            text = context.request.get(base + "/metrics").text()
            families = {family.name for family in prometheus_client.parser.text_string_to_metric_families(text)}
            assert {"edgeblip_up", "edgeblip_frames", "edgeblip_pairs"} <= families, families
            print(f"metrics: {len(families)} families read by Prometheus' own parser")
        lan = Board(program, folder / "lan", page="127.0.0.1:18021", arguments=["--lan"])
        with lan:
            assert lan.address() == "0.0.0.0:18021"
            code(lan, folder)


if __name__ == "__main__":
    main()
