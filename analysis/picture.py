# SPDX-License-Identifier: GPL-3.0-or-later
"""The README's picture of a report: its head and two of its plots.

    python3 analysis/picture.py quick-report analysis/pictures/report.png

Needs chromium (Debian: chromium).
"""

import pathlib
import re
import subprocess
import sys
import tempfile

SECTIONS = ("dnll-bits", "predicted-measured")
WIDTH, HEIGHT = 1000, 1740


def shorten(page):
    """The page with only the chosen sections, without its links."""
    start, end = page.index("<main>"), page.index("</main>")
    parts = re.split(r'(?=<h2 id=")', page[start + len("<main>"):end])
    kept = [p for s in SECTIONS for p in parts if p.startswith(f'<h2 id="{s}"')]
    if len(kept) != len(SECTIONS):
        sys.exit(f"the report has no plots {', '.join(SECTIONS)}")
    page = page[:start] + "<main>" + "".join(kept) + "</main></body></html>"
    return re.sub(r"<nav>.*?</nav>|<span class=\"files\">.*?</span>", "", page,
                  flags=re.DOTALL)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    report, out = map(pathlib.Path, sys.argv[1:])
    page = (report / "index.html").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as temp:
        short = pathlib.Path(temp) / "page.html"
        short.write_text(shorten(page), encoding="utf-8")
        out.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu",
             "--hide-scrollbars", f"--user-data-dir={temp}/profile",
             f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={out}",
             short.as_uri()],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


main()
