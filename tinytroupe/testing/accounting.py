"""What the mock model counts: calls and tokens, the last exchanges, and the emulated prompt cache."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

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


_BLOCK_TOKENS = 128
_FIRST_BLOCKS = 8  # providers cache prefixes from 1024 tokens on
_BLOCK_CHARACTERS = 4 * _BLOCK_TOKENS


class PromptCache:
    """A provider's prompt cache: prefixes of ≥ 1024 tokens, in blocks of 128, that an earlier prompt began with."""

    def __init__(self, max_blocks: int = 16_384) -> None:
        self._max_blocks = max_blocks
        self._known: dict[int, None] = {}

    def cached_tokens(self, call: Call) -> int:
        """Return how many of the call's prompt tokens are served from the cache, and remember its prefix."""
        if call.prompt_tokens < _FIRST_BLOCKS * _BLOCK_TOKENS:
            return 0
        parts = []
        for message in call.messages:
            parts.append(str(message.get("role", "")))
            content = message.get("content")
            parts.append(content if isinstance(content, str) else text_of(content))
        prompt = "\n".join(parts)
        known, shared, running = self._known, 0, hash(call.model)
        hit = True
        for block in range(len(prompt) // _BLOCK_CHARACTERS):
            running = hash((running, prompt[block * _BLOCK_CHARACTERS : (block + 1) * _BLOCK_CHARACTERS]))
            if running not in known:
                hit = False
                known[running] = None
            elif hit:
                shared = block + 1
        while len(known) > self._max_blocks:
            del known[next(iter(known))]
        if shared < _FIRST_BLOCKS:
            return 0
        return min(shared, call.prompt_tokens // _BLOCK_TOKENS) * _BLOCK_TOKENS

    def clear(self) -> None:
        """Forget all prefixes."""
        self._known.clear()
