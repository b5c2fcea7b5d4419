"""A page of a report in headless Chromium."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP, PHONE = {"width": 1200, "height": 760}, {"width": 390, "height": 844}


class Visit:
    """A page opened from disk, with all that it requested and all that went wrong."""

    def __init__(self, browser: "Browser", path: Path, *, init: str = "", **options: Any) -> None:
        settings: dict[str, Any] = {"viewport": DESKTOP, "reduced_motion": "reduce", **options}
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        if init:
            self.page.add_init_script(init)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.querySelector('#content h2') !== null")

    def go(self, address: str) -> None:
        self.page.evaluate("address => { location.hash = address; }", address)
        self.settle()

    def settle(self) -> None:
        """Wait until what was requested of the page is on screen: two frames later, however slow the machine is."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def is_drawn(self, selector: str, least: float) -> bool:
        """Whether an element gets more than one colour; pictures come when they are decoded."""
        for _ in range(100):
            if spread(self.pixels(selector)) > least:
                return True
            self.page.wait_for_timeout(100)
        return False

    def text(self, selector: str = "#content") -> str:
        return self.page.locator(selector).first.inner_text()

    def pixels(self, selector: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self.page.locator(selector).first.screenshot())).convert("RGB"))


def spread(pixels: np.ndarray) -> float:
    return float(pixels.reshape(-1, 3).astype(float).std(0).max())
