"""What a person makes of the past: summaries, knowledge, documents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytroupe.agent import documents, prompt
from tinytroupe.agent.base import PersonBase
from tinytroupe.agent.memory import Memory, consolidate, should_consolidate
from tinytroupe.agent.memory.consolidation import updated
from tinytroupe.config import config_manager
from tinytroupe.llm import ChatReply, ChatRequest
from tinytroupe.llm.asking import instructed
from tinytroupe.runtime.telemetry import operation

if TYPE_CHECKING:
    from typing_extensions import Self

_SCAN = """\
You help {name} to recall. Say what of the text bears on the question, in the past tense, with names and figures,
in at most 150 words. Use nothing but the text. Where nothing bears on it, reply with the single word NOTHING."""


class Remembering(PersonBase):
    """The verbs of memory."""

    def should_consolidate(self) -> bool:
        """Tell whether old memories are due to be summarised (``AUTO_CONSOLIDATION_THRESHOLD``)."""
        return bool(config_manager.get("auto_consolidate_on_threshold")) and should_consolidate(
            self.episodic_memory.get_memory_stats(), config_manager.get("auto_consolidation_threshold")
        )

    def consolidate_episode_memories(self, force: bool = False) -> bool:
        """Have old memories summarised by the model, where they are due or `force` is given.

        Returns
        -------
        bool
            Whether anything was summarised.

        Raises
        ------
        ModelError
            The model does not answer; the memories stay as they are.
        """
        return bool(self._portal_call(self.consolidate_episode_memories_async, force))

    async def consolidate_episode_memories_async(self, force: bool = False) -> bool:
        """See `consolidate_episode_memories`."""
        if not force and not self.should_consolidate():
            return False
        with operation("update_memory", "", {"gen_ai.agent.name": self.name}):
            run = await consolidate(self.episodic_memory, self._summarise, force=force, person=self.name)
        if run is None:
            return False
        self._consolidation = updated(self._consolidation, run)
        return True

    def get_consolidation_metrics(self) -> dict[str, Any]:
        """Return how often memories were summarised, and what came of it."""
        return self._consolidation.as_dict()

    def last_remembered_action(self, ignore_done: bool = True) -> dict[str, Any] | None:
        """Return the last action in memory (type, content, target), None where there is none.

        `ignore_done` is accepted for programs that say so; ``DONE`` is never remembered.
        """
        for memory in reversed(self.episodic_memory.retrieve_all()):
            if memory.kind == "action":
                action: dict[str, Any] = memory.content["action"]
                return action
        return None

    # ------------------------------------------------------------------ knowledge

    def retrieve_relevant_memories(self, relevance_target: str, top_k: int = 20) -> list[Memory]:
        """Return the knowledge nearest in meaning to a text."""
        return self.semantic_memory.retrieve_relevant(relevance_target, top_k)

    def retrieve_relevant_memories_for_current_context(self, top_k: int = 7) -> list[Memory]:
        """Return the knowledge that bears on the person's situation: place, context, goals and latest events."""
        found: list[Memory] = self._portal_call(self.retrieve_relevant_memories_for_current_context_async, top_k)
        return found

    async def retrieve_relevant_memories_for_current_context_async(self, top_k: int = 7) -> list[Memory]:
        """See `retrieve_relevant_memories_for_current_context`."""
        if self.semantic_memory.count() == 0:
            return []
        with operation("search_memory", "", {"gen_ai.agent.name": self.name}):
            return await self.semantic_memory.retrieve_relevant_async(self._situation_text(), top_k)

    def _situation_text(self) -> str:
        state = self._state
        memories = self.episodic_memory.retrieve_last(10, include_omission_info=False)
        latest = prompt.recalled(memories, self.name, 10, 500)
        parts = (self._place, *self._context, *state.context, state.goals, state.attention, latest)
        return "\n".join(part for part in parts if part)

    def summarize_relevant_memories_via_full_scan(
        self, relevance_target: str, batch_size: int = 100, item_type: str | None = None
    ) -> str:
        """Have the model go through all episodic memories and say what bears on a question.

        Parameters
        ----------
        relevance_target
            The question.
        batch_size
            Memories a call looks at; batches are looked at at the same time.
        item_type
            Only memories of this kind.

        Returns
        -------
        str
            A summary, empty where nothing bears on it.
        """
        text: str = self._portal_call(
            self.summarize_relevant_memories_via_full_scan_async, relevance_target, batch_size, item_type
        )
        return text

    async def summarize_relevant_memories_via_full_scan_async(
        self, relevance_target: str, batch_size: int = 100, item_type: str | None = None
    ) -> str:
        """See `summarize_relevant_memories_via_full_scan`."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
        memories = self.episodic_memory.retrieve_all(item_type)
        batches = [memories[start : start + batch_size] for start in range(0, len(memories), batch_size)]
        texts = [prompt.recalled(batch, self.name, 10 * batch_size) for batch in batches]
        found = await asyncio.gather(*(self._scan(relevance_target, text) for text in texts))
        found = [text for text in found if text]
        return await self._scan(relevance_target, "\n\n".join(found)) if len(found) > 1 else "".join(found)

    async def _scan(self, question: str, text: str) -> str:
        messages = instructed(_SCAN.format(name=self.name), f"# Question\n{question}\n\n# Text\n{text}")
        reply = await self._summarise(ChatRequest(messages))
        return "" if reply.text.strip().strip(".").upper() == "NOTHING" else reply.text.strip()

    def _summarise(self, request: ChatRequest) -> Awaitable[ChatReply]:
        # The call gets its number now, not when its turn comes in the loop: what it is known by must not depend on
        # who was faster.
        numbered = self._request(request.messages, request.schema)

        async def answered() -> ChatReply:
            reply = await self._model().complete(numbered)
            self.usage += reply.usage
            self._latencies_s.append(reply.latency_s)
            return reply

        return answered()

    # ------------------------------------------------------------------ documents

    def read_document_from_file(self, file_path: str | Path) -> Self:
        """Read a document into semantic memory: text, Markdown, HTML; PDF and Word with the extra ``documents``.

        Raises
        ------
        DocumentError
            It can't be read; nothing of it is stored.
        """
        return self._learn(documents.text_of_file(file_path), str(file_path))

    def read_documents_from_folder(self, documents_path: str | Path) -> Self:
        """Read all readable documents in a folder into semantic memory."""
        for path in documents.files_of_folder(documents_path):
            self.read_document_from_file(path)
        return self

    def read_document_from_web(self, web_url: str) -> Self:
        """Read a page into semantic memory."""
        return self._learn(documents.text_of_page(web_url), web_url)

    def read_documents_from_web(self, web_urls: Iterable[str]) -> Self:
        """Read pages into semantic memory."""
        for url in web_urls:
            self.read_document_from_web(url)
        return self

    def _learn(self, text: str, source: str) -> Self:
        moment = self._moment()
        self.semantic_memory.store_all(
            Memory("document", "user", {"content": piece, "source": source}, moment) for piece in documents.pieces(text)
        )
        return self
