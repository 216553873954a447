"""The report in a real browser where there is one: on a phone, and dark."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from made_reports import write_outputs


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return write_outputs(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def text(outputs):
    return outputs.page()


BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
PROBE = """<script>
const root = document.documentElement;
const out = {width: innerWidth, client: root.clientWidth, scroll: root.scrollWidth, shown: 0, empty: []};
for (const chart of document.querySelectorAll("svg.chart")) {
  if (!chart.getClientRects().length) continue;
  const box = chart.getBBox();
  if (box.width > 50 && box.height > 30 && chart.querySelectorAll("path").length > 3) out.shown++;
  else out.empty.push(chart.getAttribute("aria-label"));
}
const rows = () => [...document.querySelectorAll(".row")].filter(row => !row.hidden).map(row => row.id);
const select = document.querySelector(".chooser select");
out.before = rows();
select.value = select.options[1].value;
select.dispatchEvent(new Event("change", {bubbles: true}));
out.row = rows();
const key = document.querySelector(".keys button"), mark = document.querySelector(".curves ." + key.dataset.row);
key.click();
out.toggled = [key.getAttribute("aria-pressed"), getComputedStyle(mark).display];
key.click();
out.again = [key.getAttribute("aria-pressed"), getComputedStyle(mark).display !== "none"];
const paint = getComputedStyle(document.body);
out.dark = matchMedia("(prefers-color-scheme: dark)").matches;
out.page = paint.backgroundColor;
out.chart = getComputedStyle(document.querySelector("svg.chart text")).fill;
out.pictures = [...document.images].map(image => image.naturalWidth > 0 && image.getBoundingClientRect().width > 200);
out.requests = performance.getEntriesByType("resource").map(entry => entry.name);
parent.document.documentElement.dataset.found = JSON.stringify(out);
</script></body>"""


def looked_at(path, text, profile, extra="", flags=()):
    """What a browser makes of a page 390 pixels wide, and what it says on its console.

    The page is a frame, as no window of the browser is narrower than 500.
    """
    framed = html.escape(text.replace("</body>", extra + PROBE))
    frame = f'<iframe style="width: 390px; height: 844px; border: 0" srcdoc="{framed}"></iframe>'
    path.write_text(f'<!doctype html><html><head><meta charset="utf-8"></head><body>{frame}</body></html>', encoding="utf-8")
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=800,900", f"--user-data-dir={profile}"]
    command += ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=2000", "--dump-dom", *flags, path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")
def test_in_a_browser_on_a_phone(text, tmp_path):
    found, console = looked_at(tmp_path / "page.html", text, tmp_path / "profile")
    assert console == []
    assert found["requests"] == []
    assert found["width"] == 390
    assert found["scroll"] == found["client"]
    assert found["empty"] == []
    assert found["pictures"] == [True, True]
    # 1 of differences, 3 together, 3 of the first row alone
    assert found["shown"] == 7
    assert (found["before"], found["row"]) == (["curves-0-0"], ["curves-0-1"])
    assert (found["toggled"], found["again"]) == (["false", "none"], ["true", True])


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")
def test_dark_where_the_reader_has_it_dark(text, tmp_path):
    """Page and text of charts change places: light on dark by more than half of the scale, and the other way round."""
    for name, setting, sign in (("dark", 0, 1), ("light", 1, -1)):
        flags = [f"--blink-settings=preferredColorScheme={setting}"]
        found, _ = looked_at(tmp_path / f"{name}.html", text, tmp_path / name, flags=flags)
        page, chart = ([int(v) for v in re.findall(r"\d+", found[what])[:3]] for what in ("page", "chart"))
        assert found["dark"] == (name == "dark")
        assert sign * (np.mean(chart) - np.mean(page)) > 128


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")
def test_the_browser_would_see_what_is_wrong(text, tmp_path):
    """The test above can fail: an error, a request and something wide are planted."""
    bad = '<div style="width: 2000px">wide</div><img src="http://127.0.0.1:9/x.png"><script>nowhere.to();</script>'
    found, console = looked_at(tmp_path / "page.html", text, tmp_path / "profile", bad)
    assert found["scroll"] > found["client"]
    assert any("nowhere is not defined" in line for line in console)
    assert any("Content Security Policy" in line for line in console)
