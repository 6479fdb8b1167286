"""Finding texts by their words, where no embeddings are to be had."""

from __future__ import annotations

import heapq
import math
import re
import sys
from collections import Counter

_WORD = re.compile(r"\w+")
_K1 = 1.2
_B = 0.75
_MAX_WORDS = 2_000


def words_of(text: str) -> set[str]:
    """Return the distinct words of a text in lower case, at most 2000."""
    words: set[str] = set()
    for match in _WORD.finditer(text.casefold()):
        words.add(match.group())
        if len(words) >= _MAX_WORDS:
            break
    return words


class LexicalIndex:
    """Ranks texts by BM25 with binary term frequency.

    ``score = Σ idf(t) / (1 + k1 · (1 - b + b · n / mean n))`` over the words ``t`` that query and text share, where
    ``n`` is the number of distinct words of the text, ``idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))``, k1 = 1.2 and
    b = 0.75; the constant factor ``k1 + 1`` is left out (Robertson & Zaragoza, "The Probabilistic Relevance
    Framework", 2009). Memories are short, so how often a word occurs within one says little, and leaving it out saves
    most of the space. One scan a search, no stemming.
    """

    __slots__ = ("_documents", "_frequency", "_total")

    def __init__(self) -> None:
        self._documents: dict[int, tuple[str, ...]] = {}
        self._frequency: Counter[str] = Counter()
        self._total = 0

    def __len__(self) -> int:
        return len(self._documents)

    def __contains__(self, number: object) -> bool:
        return number in self._documents

    def add(self, number: int, text: str) -> None:
        """Add a text under a number, or put it in the place of the one there."""
        self.discard(number)
        words = tuple(map(sys.intern, words_of(text)))
        self._documents[number] = words
        self._frequency.update(words)
        self._total += len(words)

    def discard(self, number: int) -> None:
        """Forget the text of a number; nothing happens where there is none."""
        words = self._documents.pop(number, ())
        self._total -= len(words)
        for word in words:
            if self._frequency[word] == 1:
                del self._frequency[word]
            else:
                self._frequency[word] -= 1

    def search(self, text: str, top_k: int) -> list[int]:
        """Return the numbers of the best matches, best first, later before earlier among equals.

        Texts that share no word with the query are left out.
        """
        size = len(self._documents)
        weights: dict[str, float] = {}
        for word in words_of(text):
            frequency = self._frequency.get(word)
            if frequency:
                weights[word] = math.log(1 + (size - frequency + 0.5) / (frequency + 0.5))
        if not weights:
            return []
        mean = self._total / size
        asked = frozenset(weights)
        found: list[tuple[float, int]] = []
        for number, words in self._documents.items():
            shared = asked.intersection(words)
            if shared:
                # fsum: an ordinary sum depends on the order, and the order of a set on the process.
                gain = math.fsum(weights[word] for word in shared)
                found.append((gain / (1 + _K1 * (1 - _B + _B * len(words) / mean)), number))
        return [number for _, number in heapq.nlargest(top_k, found)]
