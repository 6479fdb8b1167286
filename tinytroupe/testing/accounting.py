"""What the mock model counts: calls and tokens, the last exchanges, and the emulated prompt cache."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tinytroupe.testing.call import Call, text_of


@dataclass(slots=True)
class Tally:
    """Calls and tokens of one person, of one endpoint, or of all."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    errors: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, other: Tally) -> None:
        """Count what `other` has counted, too."""
        self.calls += other.calls
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.cached_tokens += other.cached_tokens
        self.errors += other.errors


MAX_PERSONS = 100_000
OTHERS = "(others)"


@dataclass(slots=True)
class Sums(Tally):
    """What a mock model has counted from reset to reset, added up."""

    by_person: dict[str, Tally] = field(default_factory=dict)
    latencies_s: Counter[float] = field(default_factory=Counter)

    def include(self, total: Tally, by_person: Mapping[str, Tally], latencies_s: Mapping[float, int]) -> None:
        """Add what was counted between two resets."""
        self.add(total)
        for person, tally in by_person.items():
            known = person in self.by_person or len(self.by_person) < MAX_PERSONS
            self.by_person.setdefault(person if known else OTHERS, Tally()).add(tally)
        self.latencies_s.update(latencies_s)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what was answered.

    Attributes
    ----------
    call
        The request.
    status
        HTTP status; 0 where the connection failed.
    text
        The model's words, or the error's message.
    fault
        Name of the fault, or ``""``.
    latency_s
        Seconds the answer took, unless the client's time-out came first.
    """

    call: Call
    status: int
    text: str
    fault: str
    latency_s: float


class Ring:
    """The last exchanges, bounded in number and in bytes."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        if max_count < 0 or max_bytes < 0:
            raise ValueError(f"the bounds on kept exchanges must be ≥ 0, not {max_count} and {max_bytes} bytes")
        self.max_count = max_count
        self.max_bytes = max_bytes
        self._kept: deque[tuple[Exchange, int]] = deque()
        self.bytes = 0

    def add(self, exchange: Exchange) -> None:
        """Keep `exchange` and let the oldest go; one that exceeds the bytes by itself is not kept."""
        # A token stands for four characters, so the prompt need not be measured again.
        size = 4 * exchange.call.prompt_tokens + len(exchange.text) + 500
        self._kept.append((exchange, size))
        self.bytes += size
        while self._kept and (len(self._kept) > self.max_count or self.bytes > self.max_bytes):
            self.bytes -= self._kept.popleft()[1]

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Exchange]:
        return iter([exchange for exchange, _ in self._kept])

    def __getitem__(self, position: int) -> Exchange:
        return self._kept[position][0]


class Repeats:
    """Counts how often the same was asked; it forgets the oldest of more than `max_count` different requests."""

    def __init__(self, max_count: int = 16_384) -> None:
        self._max_count = max_count
        self._seen: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, asked: str) -> int:
        """Return how often `asked` came before, and count it."""
        with self._lock:
            before = self._seen.get(asked, 0)
            self._seen[asked] = before + 1
            if len(self._seen) > self._max_count:
                del self._seen[next(iter(self._seen))]
        return before

    def clear(self) -> None:
        """Forget all."""
        self._seen.clear()


_BLOCK_TOKENS = 128
_FIRST_BLOCKS = 8  # providers cache prefixes from 1024 tokens on
_BLOCK_CHARACTERS = 4 * _BLOCK_TOKENS


class PromptCache:
    """A provider's prompt cache: prefixes of ≥ 1024 tokens, in blocks of 128, that an earlier prompt began with.

    It knows some two million tokens. Blocks live for two generations of half as many, and longer if they are asked for.
    """

    def __init__(self, max_blocks: int = 16_384) -> None:
        self._max_blocks = max_blocks
        self._young: set[int] = set()
        self._old: set[int] = set()
        # All messages but the last, by hash -> hash of their last whole block, number of blocks, text after them. They
        # are mostly the same from call to call, and need not be cut up and hashed again.
        self._heads: dict[int, tuple[int, int, str]] = {}

    def cached_tokens(self, call: Call) -> int:
        """Return how many of the call's prompt tokens are served from the cache, and remember its prefix."""
        if call.prompt_tokens < _FIRST_BLOCKS * _BLOCK_TOKENS:
            return 0
        parts = [call.model]
        for message in call.messages:
            parts.append(str(message.get("role", "")))
            content = message.get("content")
            parts.append(content if isinstance(content, str) else text_of(content))
        head = hash(tuple(parts[:-2]))
        found = self._heads.get(head)
        if found is None:
            running, shared, tail, blocks = self._walk("\n".join(parts[1:-2]), hash(call.model), True)
            self._heads[head] = running, blocks, tail
        else:
            running, blocks, tail = found
            shared = blocks
        rest = parts[-2:] if len(parts) == 3 else [tail, *parts[-2:]]
        _, more, _, _ = self._walk("\n".join(rest), running, shared == blocks)
        shared += more
        if len(self._young) > self._max_blocks // 2:
            self._old, self._young = self._young, set()
            self._heads.clear()  # what is still in use is walked again, and so joins the young
        elif len(self._heads) > self._max_blocks // 16:
            self._heads.clear()
        if shared < _FIRST_BLOCKS:
            return 0
        return min(shared, call.prompt_tokens // _BLOCK_TOKENS) * _BLOCK_TOKENS

    def _walk(self, text: str, running: int, hit: bool) -> tuple[int, int, str, int]:
        """Return the last block's hash, how many blocks from the first on are known, the text after them, and all."""
        young, old, shared, end = self._young, self._old, 0, 0
        for block in range(len(text) // _BLOCK_CHARACTERS):
            end = (block + 1) * _BLOCK_CHARACTERS
            running = hash((running, text[block * _BLOCK_CHARACTERS : end]))
            if running not in young:
                hit = hit and running in old
                young.add(running)
            if hit:
                shared = block + 1
        return running, shared, text[end:], end // _BLOCK_CHARACTERS

    def clear(self) -> None:
        """Forget all prefixes."""
        self._young.clear()
        self._old.clear()
        self._heads.clear()
