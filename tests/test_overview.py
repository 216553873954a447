"""The page of all experiments, from folders as runs leave them."""

import json
import re
import shutil
import subprocess

import pytest

from mdm.commands.report import main
from mdm.report.overview import list_experiments, render_overview
from mdm.runs import records


def leave_run(outputs, name, penalty, seed, *files):
    """A run that has begun, and what else it left."""
    folder = outputs / name / "synthetic" / "lmf" / penalty / f"seed={seed}"
    folder.mkdir(parents=True)
    text = f"name: {name}\ndata: {{name: synthetic}}\nmodel: {{name: lmf}}\npenalty: {{name: {penalty}}}\nseed: {seed}\n"
    (folder / records.CONFIG).write_text(text)
    if records.METRICS in files:
        records.finish(folder, {"seed": seed}, [{"id": "a", "group": "v", "label": 1.0, "prediction": 0.5}])
    elif files:
        (folder / records.ERROR).write_text("Traceback\nValueError: loss nan\n")


@pytest.fixture
def outputs(tmp_path):
    """Of first, KL has two finished runs and one that failed, none has one that is open; other has one, debug is not counted."""
    root = tmp_path / "outputs"
    for seed in (0, 1):
        leave_run(root, "first", "kl", seed, records.METRICS)
    leave_run(root, "first", "kl", 2, records.ERROR)
    leave_run(root, "first", "none", 0)
    leave_run(root, "a/other", "none", 0, records.METRICS)
    leave_run(root / "debug", "first", "kl", 0, records.METRICS)
    (root / "first" / "table.html").write_text("")
    return root


def test_runs_are_counted_by_their_state(outputs):
    other, first = list_experiments(outputs, {"first": 10})
    assert (first.done, first.open, first.failed, first.missing) == (2, 1, 1, 6)
    assert [(g.penalty, g.done, g.failed, g.open) for g in first.groups] == [("kl", 2, 1, 0), ("none", 0, 0, 1)]
    assert first.pages == {"table.html": "first/table.html"}
    assert (other.name, other.done, other.missing) == ("a/other", 1, None)


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match=r"has no run; train first, or say paths\.outputs="):
        list_experiments(tmp_path, {})


def test_the_command_writes_the_page_of_all(outputs, capsys):
    main([f"paths.outputs={outputs}"])
    assert "index.html: 2 experiments, 3 runs done" in capsys.readouterr().out
    text = (outputs / "index.html").read_text()
    assert "2 done, 1 open" in text
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert main([f"paths.outputs={outputs}"]) is None
    assert (outputs / "index.html").read_text() == text


BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")
def test_choosing_a_penalty_hides_the_others(outputs, tmp_path):
    text = render_overview(list_experiments(outputs, {}))
    probe = """<script>
    const chooser = document.querySelector('select[data-key="penalty"]');
    chooser.value = "kl";
    chooser.dispatchEvent(new Event("change"));
    const rows = [...document.querySelectorAll("tbody tr")].filter(row => row.getClientRects().length)
      .map(row => row.dataset.penalty);
    const wide = document.documentElement.scrollWidth - innerWidth;
    document.documentElement.dataset.found = JSON.stringify({rows, wide});
    </script></body>"""
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", probe))
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(re.search(r'data-found="([^"]*)"', done.stdout)[1].replace("&quot;", '"'))
    assert found["rows"] == ["kl"]
    assert found["wide"] <= 0
