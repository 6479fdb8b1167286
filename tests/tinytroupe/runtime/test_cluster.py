"""Ray is an extra, of which a process has one connection: whoever asks for it is told what to install, or shares it."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from tinytroupe.runtime.cluster import connected


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'pytest-tinytroupe\[ray\]'"), connected():
        pass


class Ray(ModuleType):
    """Counts clusters, and knows one at a time, as the real one does."""

    def __init__(self):
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)
        self.clusters, self.initialized = 0, False

    def is_initialized(self):
        return self.initialized

    def init(self, **options):
        if self.initialized:
            raise RuntimeError("Maybe you called ray.init twice by accident?")
        time.sleep(0.05)
        self.clusters, self.initialized = self.clusters + 1, True

    def shutdown(self):
        self.initialized = False


@pytest.fixture
def ray(monkeypatch):
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    return ray


def test_blocks_at_the_same_time_share_one_cluster_which_ends_with_the_last_of_them(ray):
    together = threading.Barrier(4)

    def block(number):
        with connected():
            together.wait(10)
            time.sleep(0.02 * number)
            assert ray.is_initialized()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(block, range(4)))
    assert (ray.clusters, ray.is_initialized()) == (1, False)
    with connected():
        assert ray.is_initialized()
    assert (ray.clusters, ray.is_initialized()) == (2, False)


def test_what_the_program_is_connected_to_stays(ray):
    ray.init()
    with connected(), connected():
        pass
    assert (ray.clusters, ray.is_initialized()) == (1, True)
