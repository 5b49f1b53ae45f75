"""The page of a service in a browser: what tests do with it, and what it must not do."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 375, "height": 740}}
CONTRAST = """() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parsed = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parsed(getComputedStyle(at).backgroundColor);
      if (colour[3] === undefined || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!(own || element.matches("textarea, select, input")) || !element.checkVisibility()) continue;
    const [one, two] = [light(parsed(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    found.push([element.tagName + "#" + element.id + "." + element.className, ratio]);
  }
  return found;
}"""


class Seen:
    """What a page did that it should not."""

    def __init__(self, page: Any, own: str) -> None:
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda one: None if one.url.startswith((own, "data:")) else self.elsewhere.append(one.url))

    def _hear(self, line: Any) -> None:
        refused = re.search(r"status of (401|413|422)", line.text)  # the browser itself notes what we show on the page
        if line.type in ("error", "warning") and not refused:
            self.errors.append(f"{line.text} ({line.location})")


def picture(page: Any, name: str) -> None:
    """A screenshot in the folder that ``SCREENSHOTS`` names, to be looked at."""
    if folder := os.environ.get("SCREENSHOTS"):
        size = page.viewport_size["width"]
        page.screenshot(path=str(Path(folder) / f"{name}-{size}.png"), full_page=True)


def translate(page: Any, text: str) -> None:
    """Has a text translated, and waits for it."""
    page.fill("#text", text)
    page.click("#translate")
    page.wait_for_selector("#status:text-matches('sentences? in [0-9.]+ s')")


def check_legible(page: Any) -> None:
    """WCAG AA: 4.5 for text of ordinary size; nothing is wider than the window."""
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) > 4
    assert [(name, round(ratio, 2)) for name, ratio in ratios if ratio < 4.5] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
