"""What model calls cost: calls, tokens, and where they were spent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and calls of one model call, or of many added up.

    Attributes
    ----------
    calls
        Requests answered by the model (a retried request counts once, its retries in `retries`).
    prompt_tokens, completion_tokens
        Tokens sent and received, as the provider counted them.
    cached_tokens
        Those of `prompt_tokens` that the provider served from its prompt cache.
    retries
        Attempts that were repeated because of a transient fault.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    retries: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.retries + other.retries,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.calls - other.calls,
            self.prompt_tokens - other.prompt_tokens,
            self.completion_tokens - other.completion_tokens,
            self.cached_tokens - other.cached_tokens,
            self.retries - other.retries,
        )
