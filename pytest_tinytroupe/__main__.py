"""``python -m pytest_tinytroupe``: see `pytest_tinytroupe.commands`."""

from __future__ import annotations

import sys

from pytest_tinytroupe.commands import main

if __name__ == "__main__":
    sys.exit(main())
