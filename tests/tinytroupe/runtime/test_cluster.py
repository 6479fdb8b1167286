"""Ray is an extra: without it, whoever asks for it is told what to install."""

from __future__ import annotations

import sys

import pytest

from tinytroupe.runtime.cluster import connected


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'pytest-tinytroupe\[ray\]'"), connected():
        pass
