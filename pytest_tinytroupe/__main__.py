"""``python -m pytest_tinytroupe compare A.json B.json``."""

from __future__ import annotations

import sys

from pytest_tinytroupe.compare import main

if __name__ == "__main__":
    sys.exit(main())
