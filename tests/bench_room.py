"""The room's speed: `make bench-room` opens a study in a browser, then lets fifty readers scroll, type and mark.

Each reader has a study of 304 slices of 512 x 512 of their own, fetches its chunks one after the other, saves what they
said every second and marks a nodule every twenty. The readers are one process beside the service's two.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from report_examples import key_of, make_lungs
from room_factory import PASSWORD, graded_finding, one_report, write_studies

from lungscreen.geometry import Geometry
from lungscreen.outputs.outlines import outline_polygons
from lungscreen.outputs.room_pack import PACK_FILE, write_pack
from lungscreen.records import Outline, Series, Volume
from lungscreen.results.folder import ResultsFolder
from lungscreen.room.core import open_room

SHAPE = (304, 512, 512)
SAVE_S, CHUNK_S, MARK_S = 1.0, 3.0, 20.0
SERVER = """
import sys
from pathlib import Path
from argon2 import PasswordHasher
from lungscreen.room.core import open_room
from lungscreen.room.serve import Listener, serve
serve(open_room(Path(sys.argv[1]), hasher=PasswordHasher(1, 8, 1)), Listener("127.0.0.1", int(sys.argv[2])),
      with_batch=False)
"""


def make_results(folder: Path, readers: int) -> list[str]:
    """A study a reader; all have the same voxels, in one file. Returns their keys."""
    from argon2 import PasswordHasher

    reports = [one_report(f"1.2.3.{n}", graded_finding()) for n in range(readers)]
    write_studies(folder, *reports, masks=False)
    affine = np.diag([0.7, 0.7, 1.25, 1.0])[:, [2, 1, 0, 3]]
    affine[:3, 3] = (-180.0, -180.0, -380.0)
    hu = np.random.default_rng(0).integers(-900, -780, SHAPE, np.int16)
    hu[148:156, 252:260, 152:160] = 30
    volume = Volume(
        hu, Geometry(affine, SHAPE, ""), Series("dicom", "1.2.3.4.5", *_about(reports[0])), tuple(range(SHAPE[0]))
    )
    shape = outline_polygons(Outline((150, 254, 154), np.ones((4, 4, 4), bool)), volume.geometry)
    whole = folder.parent / PACK_FILE
    with whole.open("wb") as file:
        write_pack(file, volume, make_lungs(volume), {1: shape})
    for report in reports:
        pack = ResultsFolder(folder).study(key_of(report)) / PACK_FILE
        pack.unlink()
        os.link(whole, pack)
    room = open_room(folder, hasher=PasswordHasher(1, 8, 1), in_process=True)
    with room.store.write() as connection:
        for n in range(readers):
            room.accounts.add(connection, f"reader-{n}", "reader", PASSWORD)
    room.sync()
    room.close()
    return [key_of(report) for report in reports]


def _about(report: Any) -> tuple[Any, Any, Any]:
    series = report.volume.series
    return series.patient, series.exam, series.acquisition


class Reader:
    """One person at work."""

    def __init__(self, url: str, number: int, key: str, times: dict[str, list[float]], wrong: list[str]) -> None:
        headers = {"Sec-Fetch-Site": "same-origin", "Accept-Encoding": "zstd"}
        self.http = httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False)
        self.number, self.key, self.times, self.wrong = number, key, times, wrong
        self.read: dict[str, Any] = {}
        self.lock = asyncio.Lock()

    async def ask(self, what: str, method: str, path: str, **more: Any) -> Any:
        """Send, take the time until the last byte, and count what is no success."""
        start = time.perf_counter()
        try:
            async with self.http.stream(method, path, **more) as answer:
                body = b"".join([part async for part in answer.aiter_raw()])
        except httpx.HTTPError as error:
            self.wrong.append(f"{what}: {type(error).__name__}")
            return None
        self.times[what].append(time.perf_counter() - start)
        if answer.status_code >= 400:
            self.wrong.append(f"{what}: {answer.status_code} {body[:120]!r}")
            return None
        return json.loads(body) if "json" in answer.headers.get("content-type", "") else None

    async def begin(self) -> None:
        """Sign in and open the study."""
        await self.ask("login", "POST", "/api/v1/login", json={"name": f"reader-{self.number}", "password": PASSWORD})
        await self.ask("worklist", "GET", "/api/v1/worklist")
        self.read = await self.ask("open", "POST", f"/api/v1/studies/{self.key}/reads")
        await self.ask("study", "GET", f"/api/v1/studies/{self.key}")

    async def work(self, seconds: float) -> None:
        """Scroll, type and mark."""
        ends = time.monotonic() + seconds
        await asyncio.gather(
            self._again(ends, CHUNK_S, self._scroll), self._again(ends, SAVE_S, self._save),
            self._again(ends, MARK_S, self._mark),
        )  # fmt: skip
        await self.http.aclose()

    async def _again(self, ends: float, every_s: float, step: Any) -> None:
        await asyncio.sleep(every_s * (self.number % 50) / 50)
        n = 0
        while time.monotonic() < ends:
            start = time.monotonic()
            await step(n)
            n += 1
            await asyncio.sleep(max(0.0, every_s - (time.monotonic() - start)))

    async def _scroll(self, n: int) -> None:
        first = 16 * (n % (SHAPE[0] // 16))
        await self.ask("slices", "GET", f"/api/v1/studies/{self.key}/slices/{first}/{first + 16}")

    async def _save(self, n: int) -> None:
        async with self.lock:
            content = {**self.read["content"], "exam": {"quality": "good", "text": f"step {n}"}}
            saved = await self.ask("save", "PUT", f"/api/v1/reads/{self.read['id']}", json=content, headers=self._tag())
            self.read = saved or self.read

    async def _mark(self, n: int) -> None:
        place = [-180.0 + 0.7 * 156, -180.0 + 0.7 * (256 + n), -380.0 + 1.25 * 152]
        async with self.lock:
            made = await self.ask(
                "mark",
                "POST",
                f"/api/v1/reads/{self.read['id']}/marks",
                json={"position_mm": place},
                headers=self._tag(),
            )
            self.read = made["read"] if made else self.read

    def _tag(self) -> dict[str, str]:
        return {"If-Match": f'"{self.read["version"]}"'}


async def load(url: str, keys: list[str], seconds: float) -> tuple[dict[str, list[float]], list[str]]:
    """All readers at once. Returns seconds by what was asked, and what went wrong."""
    times: dict[str, list[float]] = defaultdict(list)
    wrong: list[str] = []
    readers = [Reader(url, n, key, times, wrong) for n, key in enumerate(keys)]
    await asyncio.gather(*(reader.begin() for reader in readers))
    await asyncio.gather(*(reader.work(seconds) for reader in readers))
    return times, wrong


STEP = """() => new Promise((done) => {
    const { viewer } = window.room, times = [];
    const next = () => {
        times.push(Number(viewer.root.dataset.frameMs));
        if (times.length === 100) return done(times);
        viewer.scroll(1, viewer.panes[0]);
        requestAnimationFrame(() => requestAnimationFrame(next));
    };
    viewer.moveTo([SLICES - 1, 256, 256]);
    requestAnimationFrame(() => requestAnimationFrame(next));
})"""


def look(url: str, key: str) -> None:
    """One reader's tab on a study of 304 slices that nobody else asks for: what it shows when, and what it holds."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("the browser's times are not measured: no Chromium or no Playwright here (make browser)")
        return
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--enable-precise-memory-info"]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"{url}/static/login.html")
        page.get_by_label("Name").fill("reader-0")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector("a.open")
        page.goto(f"{url}/static/read.html?study={key}&watch=1")
        page.wait_for_selector("#panes[data-complete]", state="attached", timeout=60_000)
        page.wait_for_selector("html[data-ready=yes]", state="attached")
        first, whole = (float(page.locator("#panes").get_attribute(f"data-{n}")) / 1000 for n in ("first", "complete"))
        frames = page.evaluate(STEP.replace("SLICES", str(SHAPE[0])))
        page.context.new_cdp_session(page).send("HeapProfiler.collectGarbage")
        held = page.evaluate("() => performance.memory.usedJSHeapSize") / 2**20
        browser.close()
    half, most = np.percentile(frames, (50, 95))
    print(
        f"browser, load of the machine {os.getloadavg()[0]:.1f}: first image {first:.2f} s, all slices {whole:.2f} s,"
    )
    print(
        f"  an axial step draws four panes in {half:.0f} ms (95 % within {most:.0f} ms), the tab's heap {held:.0f} MB"
    )


def main() -> int:
    """Print a line for each kind of request; 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--port", type=int, default=8931)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        keys = make_results(results, options.readers)
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(results), str(options.port)])
        url = f"http://127.0.0.1:{options.port}"
        try:
            for _ in range(600):
                try:
                    httpx.get(f"{url}/readyz", trust_env=False)
                    break
                except httpx.HTTPError:
                    time.sleep(0.1)
            look(url, keys[0])
            times, wrong = asyncio.run(load(url, keys, options.seconds))
        finally:
            server.terminate()
            server.wait()
    print(f"{options.readers} readers, {options.seconds:g} s, load of the machine {os.getloadavg()[0]:.1f}")
    for what, found in sorted(times.items()):
        half, most, last = np.percentile(found, (50, 95, 100))
        print(
            f"{what:9} {len(found):6} requests   median {half:.3f} s   95 % within {most:.3f} s   longest {last:.3f} s"
        )
    print(f"{len(wrong)} errors", *sorted(set(wrong))[:10], sep="\n  ")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
