"""Artifacts as files: under a directory of the program's choice, with names that can't leave it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

from tinytroupe.runtime.files import write_atomically

FORMATS = ("txt", "md", "json")

_NAME_CHARACTERS = 80
_FORBIDDEN = re.compile(r"[^\w \-]+")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)


class ArtifactExporter:
    """Writes what people made into files.

    Parameters
    ----------
    base_output_folder
        Where the files go; made when the first one is written.
    """

    def __init__(self, base_output_folder: str | os.PathLike[str]) -> None:
        self.base_output_folder = Path(base_output_folder)

    def export(
        self,
        artifact_name: str,
        artifact_data: Any,
        content_type: str = "",
        content_format: str | None = None,
        target_format: str = "txt",
        verbose: bool = False,
    ) -> Path:
        """Write one artifact, whole or not at all, and return its path.

        Parameters
        ----------
        artifact_name
            Any text; what is not fit for a file name is replaced. The same name writes the same file anew.
        artifact_data
            A text, a dict with the text under ``content``, or for ``json`` anything JSON can hold.
        content_type
            Kind of artifact, such as ``Document``: a folder of its own.
        content_format, verbose
            Accepted for programs that say so.
        target_format
            ``txt``, ``md`` or ``json``.

        Raises
        ------
        ValueError
            Unknown format, or the folder leads out of the base folder.
        TypeError
            Data that the format can't hold.
        OSError
            The file can't be written; an earlier one is as it was.
        """
        if target_format not in FORMATS:
            raise ValueError(f"target_format must be one of {', '.join(FORMATS)}, got {target_format!r}")
        folder = self.base_output_folder / safe_name(content_type) if content_type else self.base_output_folder
        if not folder.resolve().is_relative_to(self.base_output_folder.resolve()):
            raise ValueError(f"{folder} leads out of {self.base_output_folder}")
        if target_format == "json":
            text = json.dumps(artifact_data, indent=2, ensure_ascii=False) + "\n"
        else:
            content = artifact_data.get("content") if isinstance(artifact_data, dict) else artifact_data
            if not isinstance(content, str):
                raise TypeError(f"artifact {artifact_name[:80]!r} has no text to write as {target_format}")
            text = content
        return write_atomically(folder / f"{safe_name(artifact_name)}.{target_format}", text)


def safe_name(text: str) -> str:
    """Return `text` as the stem of a file name, fit for every platform.

    Letters, digits, spaces, ``-`` and ``_`` are kept. Where anything else had to go, a short hash of the whole is
    added, so that different texts stay different files.
    """
    normal = unicodedata.normalize("NFC", text)
    stem = _FORBIDDEN.sub("_", normal).strip(" _")[:_NAME_CHARACTERS].strip() or "untitled"
    if _RESERVED.fullmatch(stem):
        stem = f"_{stem}"
    # File systems count bytes: 80 characters of some scripts are more than the 255 that a name may have.
    stem = stem.encode("utf-8")[:200].decode("utf-8", "ignore")
    if stem == text:
        return stem
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{stem}-{digest}"
