#!/usr/bin/env python3
"""
Check pages with axe-core in headless Chromium: `deploy/accessibility.py published/index.html [PAGE …]`.

Each page is looked at in both themes, as wide as a desk and as narrow as a phone, with everything unfolded. Needs npm (for
axe-core, at a pinned version and hash, fetched once into the cache) and Chromium or Chrome; no test depends on either.
The exit code is 1 if a rule of WCAG 2.2 A, AA or axe's best practices is violated, with the places of each.
"""

import argparse
import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

AXE = "axe-core@4.14.1"
AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LOOKS = [(theme, width) for theme in ("light", "dark") for width in (1280, 420)]
# How long axe may take, in the browser's own time, which passes faster than the clock on the wall.
_BUDGET_MS = 60_000
_TIMEOUT_S = 180
_RUN = """
document.documentElement.dataset.theme = %(theme)s;
for (const one of document.querySelectorAll('details')) one.open = true;
axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then(found => {
  const told = document.createElement('pre');
  told.id = 'axe';
  told.textContent = JSON.stringify({
    passes: found.passes.length,
    violations: found.violations.map(one => ({
      id: one.id, help: one.help, impact: one.impact,
      places: one.nodes.map(node => node.target.join(' ') + ': ' + (node.any[0] || node.all[0] || node.none[0] || {}).message),
    })),
  });
  document.body.replaceChildren(told);
});
"""


def axe() -> str:
    """Fetch axe-core, once, and give its source."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slipway" / f"{AXE}.tgz"
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.parent) as directory:
            subprocess.run(["npm", "pack", AXE, "--silent"], cwd=directory, check=True, stdout=subprocess.DEVNULL)
            (packed,) = Path(directory).glob("*.tgz")
            packed.rename(cache)
    found = base64.b64encode(hashlib.sha512(cache.read_bytes()).digest()).decode()
    if found != AXE_SHA512:
        raise SystemExit(f"{cache}: expected sha512-{AXE_SHA512}, found sha512-{found}. Delete it and try again.")
    with tarfile.open(cache) as package:
        member = package.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def browser() -> str:
    """Find Chromium."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise SystemExit(f"no browser: looked for {', '.join(BROWSERS)}. apt-get install chromium")


def look(page: Path, source: str, theme: str, width: int) -> dict[str, Any]:
    """Run axe on *page*; its own policy, which allows no script but its own, is taken out for that."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    script = f"<script>{source}</script><script>{_RUN % {'theme': json.dumps(theme)}}</script>"
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "page.html")
        copy.write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")
        done = subprocess.run(
            [
                browser(),
                *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
                *(f"--user-data-dir={directory}/profile", f"--virtual-time-budget={_BUDGET_MS}"),
                *(f"--window-size={width},1000", "--dump-dom", f"file://{copy}"),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=_TIMEOUT_S,
        )
    told = re.search(r'<pre id="axe">(.*?)</pre>', done.stdout, re.DOTALL)
    if told is None:
        raise SystemExit(f"{page}: axe did not end within {_BUDGET_MS / 1000:.0f} s")
    found: dict[str, Any] = json.loads(html.unescape(told[1]))
    return found


def main() -> int:
    """Look at every page in every way; print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=Path, nargs="+", metavar="PAGE", help="an HTML file")
    pages: list[Path] = parser.parse_args().pages
    source, bad = axe(), 0
    for page in pages:
        for theme, width in LOOKS:
            found = look(page, source, theme, width)
            bad += len(found["violations"])
            sys.stdout.write(
                f"{page}, {theme}, {width} px: {found['passes']} rules kept, {len(found['violations'])} violated\n"
            )
            for one in found["violations"]:
                sys.stdout.write(f"  {one['id']} ({one['impact']}): {one['help']}\n")
                sys.stdout.writelines(f"    {place}\n" for place in one["places"][:5])
                if len(one["places"]) > 5:
                    sys.stdout.write(f"    … {len(one['places']) - 5} more places\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
