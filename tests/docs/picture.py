"""The picture of the report in the README: the sample project, asking one round more than its baselines know.

    python tests/docs/picture.py [--browser chromium]          writes docs/report.png

Needs Chromium or a browser that takes the same options.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "report.png"
SIZE = (1100, 640)
MOST_BYTES = 150_000


def report_of_sample(directory: Path) -> Path:
    """Run the sample project's perf tests with a needless round, and return the report's first page."""
    sample = directory / "price-panel"
    shutil.copytree(ROOT / "examples" / "downstream", sample, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    panel = sample / "src" / "price_panel" / "__init__.py"
    panel.write_text(panel.read_text("utf-8").replace("world.run(rounds,", "world.run(rounds + 1,"), "utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment["PYTEST_ADDOPTS"] = "-p no:cacheprovider -p no:randomly"  # the page shows what was typed
    command = [sys.executable, "-m", "pytest", "--perf"]
    subprocess.run(command, cwd=sample, env=environment, stdout=subprocess.DEVNULL)
    return sample / "perf-report" / "index.html"


def main() -> int:
    """Write the picture; status 1 where it is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", default="chromium", help="default: %(default)s")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        page = report_of_sample(Path(name))
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        places = [f"--user-data-dir={name}/browser", f"--screenshot={PICTURE}"]
        window = f"--window-size={SIZE[0]},{SIZE[1]}"
        command = [chosen.browser, *options, *places, window, page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")
    return 0 if PICTURE.stat().st_size < MOST_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
