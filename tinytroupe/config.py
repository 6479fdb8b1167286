"""Settings: the packaged ``config.ini`` < ``config.ini`` in the working directory < environment < the program."""

from __future__ import annotations

import configparser
import difflib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

ENVIRONMENT_PREFIX = "TINYTROUPE_"
_MISSING = object()

logger = logging.getLogger("tinytroupe.config")


class ConfigError(ValueError):
    """A setting is unknown, in the wrong place, of the wrong type or out of range."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a key may hold."""

    section: str
    kind: type
    optional: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> Any:
        """Turn the text of an ini file or of the environment into a value of the right type."""
        text = text.strip()
        if text.lower() in ("none", ""):
            value: Any = None
        elif self.kind is bool:
            truth = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False}
            value = truth.get(text.lower(), False if text == "0" else text)
        elif self.kind is str:
            value = text
        else:
            try:
                value = int(text)
            except ValueError:
                try:
                    value = float(text)
                except ValueError:
                    value = text
        return self.check(value)

    def check(self, value: Any) -> Any:
        """Return `value`, or raise `ConfigError` saying what is expected."""
        if value is None:
            if self.optional:
                return None
            raise ConfigError(f"needs {self._expected()}, got None")
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind is float and is_number:
            value = float(value)
        if (self.kind is not bool and isinstance(value, bool)) or not isinstance(value, self.kind):
            raise ConfigError(f"needs {self._expected()}, got {value!r} ({type(value).__name__})")
        if self.choices:
            given = str(value)
            value = given.lower() if given.lower() in self.choices else given.upper()
            if value not in self.choices:
                near = difflib.get_close_matches(given, self.choices, 1, cutoff=0.5)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"needs {self._expected()}, got {given!r}{hint}")
        too_low = self.minimum is not None and not value >= self.minimum
        too_high = self.maximum is not None and not value <= self.maximum
        if too_low or too_high:
            raise ConfigError(f"needs {self._expected()}, got {value!r}")
        return value

    def _expected(self) -> str:
        if self.choices:
            text = "one of " + ", ".join(self.choices)
        else:
            text = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}[self.kind]
        if self.minimum is not None and self.maximum is not None:
            text += f" from {self.minimum:g} to {self.maximum:g}"
        elif self.minimum is not None:
            text += f" of at least {self.minimum:g}"
        return text + (" or None" if self.optional else "")


SETTINGS: Mapping[str, Setting] = {
    "api_type": Setting("OpenAI", str, choices=("openai", "azure")),
    "base_url": Setting("OpenAI", str, optional=True),
    "azure_api_version": Setting("OpenAI", str, optional=True),
    "model": Setting("OpenAI", str),
    "embedding_model": Setting("OpenAI", str),
    "temperature": Setting("OpenAI", float, optional=True, minimum=0, maximum=2),
    "top_p": Setting("OpenAI", float, optional=True, minimum=0, maximum=1),
    "max_completion_tokens": Setting("OpenAI", int, optional=True, minimum=1),
    "reasoning_effort": Setting("OpenAI", str, optional=True),
    "http_client": Setting("OpenAI", str, choices=("aiohttp", "httpx")),
    "timeout": Setting("OpenAI", float, minimum=0.001),
    "max_attempts": Setting("OpenAI", int, minimum=1),
    "max_concurrent_model_calls": Setting("OpenAI", int, optional=True, minimum=1),
    "min_concurrent_model_calls": Setting("OpenAI", int, minimum=1),
    "max_adaptive_model_calls": Setting("OpenAI", int, minimum=1),
    "requests_per_minute": Setting("OpenAI", float, optional=True, minimum=0.001),
    "tokens_per_minute": Setting("OpenAI", float, optional=True, minimum=0.001),
    "max_actions_per_turn": Setting("Cognition", int, minimum=1),
    "max_reply_repairs": Setting("Cognition", int, minimum=0),
    "max_reply_characters": Setting("Cognition", int, minimum=1000),
    "max_content_characters": Setting("Cognition", int, minimum=100),
    "parallel_agent_actions": Setting("Simulation", bool),
    "scheduler": Setting("Simulation", str, choices=("auto", "sequential", "parallel", "dependency")),
    "max_steps_ahead": Setting("Simulation", int, minimum=0),
    "max_workers": Setting("Simulation", int, optional=True, minimum=1),
    "turn_timeout": Setting("Simulation", float, optional=True, minimum=0.001),
    "parallel_execution_timeout": Setting("Simulation", float, optional=True, minimum=0.001),
    "collect_parallel_metrics": Setting("Simulation", bool),
    "timeline_length": Setting("Simulation", int, minimum=1),
    "display": Setting("Logging", str, choices=("auto", "on", "off")),
    "progress": Setting("Logging", str, choices=("auto", "on", "off")),
    "ray_address": Setting("Simulation", str, optional=True),
    "backend": Setting("Simulation", str, choices=("local", "ray")),
    "shards": Setting("Simulation", int, optional=True, minimum=1),
    "on_error": Setting("Simulation", str, choices=("skip", "raise")),
    "seed": Setting("Simulation", int),
    "max_episodic_memory_size": Setting("Memory", int, optional=True, minimum=0),
    "memory_cleanup_strategy": Setting("Memory", str, choices=("fifo", "age", "relevance")),
    "memory_warning_threshold": Setting("Memory", float, minimum=0, maximum=1),
    "auto_consolidate_on_threshold": Setting("Memory", bool),
    "auto_consolidation_threshold": Setting("Memory", int, minimum=1),
    "recent_memories_in_prompt": Setting("Memory", int, minimum=1),
    "max_semantic_memory_size": Setting("Memory", int, optional=True, minimum=0),
    "loglevel": Setting("Logging", str, optional=True, choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
}

PASSED_OVER = frozenset(
    {
        "azure_embedding_model_api_version", "cache_api_calls", "cache_file_name",
        "enable_continuous_contextual_semantic_memory_retrieval", "enable_memory_consolidation",
        "episodic_memory_fixed_prefix_length", "episodic_memory_lookback_length", "exponential_backoff_factor",
        "freq_penalty", "log_include_thread_id", "loglevel_console", "loglevel_file", "max_content_display_length",
        "max_episode_length", "max_tokens", "min_episode_length", "parallel_agent_generation", "presence_penalty",
        "rai_copyright_infringement_prevention", "rai_harmful_content_prevention", "reasoning_model", "waiting_time",
    }
)  # fmt: skip
"""Keys of files written for the well-known TinyTroupe API that have no meaning here; a log message names them."""

_SECTIONS = {setting.section.lower(): setting.section for setting in SETTINGS.values()}


def _setting(key: object) -> tuple[str, Setting]:
    if not isinstance(key, str):
        raise ConfigError(f"a setting's name must be a text, got {key!r}")
    name = key.lower()
    try:
        return name, SETTINGS[name]
    except KeyError:
        near = difflib.get_close_matches(name, SETTINGS, 1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known settings: {', '.join(SETTINGS)}"
        raise ConfigError(f"unknown setting {key!r}{hint}") from None


def parse_ini(text: str, source: str) -> dict[str, Any]:
    """Read the settings of an ini text.

    Keys may stand before any section header. Sections that are not ours are passed over, since a ``config.ini``
    may serve several programs, and so are the keys in `PASSED_OVER`; a misspelt key or a bad value inside one of ours
    is an error, and so is a section that holds our keys under nearly our name.

    Parameters
    ----------
    text
        Content of the file; comments may follow a value on the same line.
    source
        Name of the file for error messages.

    Returns
    -------
    dict
        Values by lower-case key.

    Raises
    ------
    ConfigError
        Names the file, the key and the remedy.
    """
    parser = configparser.ConfigParser(
        interpolation=None,
        inline_comment_prefixes=("#", ";"),
        default_section="tinytroupe: none",  # [DEFAULT] is another program's, and must not reach into our sections
    )
    headless = "tinytroupe: keys before any section"
    try:
        parser.read_string(f"[{headless}]\n{text}", source)
    except configparser.Error as error:
        raise ConfigError(f"{source} is not a readable ini file: {error}") from error
    values: dict[str, Any] = {}
    passed_over: list[str] = []
    for header in parser.sections():
        section = _SECTIONS.get(header.lower(), "")
        if not section and header != headless:
            _refuse_misspelt(header, parser.options(header), source)
            continue
        for key, raw in parser.items(header):
            if key in PASSED_OVER:
                passed_over.append(key.upper())
                continue
            try:
                name, setting = _setting(key)
                if section and section != setting.section:
                    raise ConfigError(f"{key.upper()} belongs in section [{setting.section}], not in [{section}]")
                values[name] = setting.parse(raw)
            except ConfigError as error:
                where = f" [{section}]" if section else ""
                raise ConfigError(f"{source}{where} {key.upper()}: {error}") from error
    if passed_over:
        logger.info("%s: passed over, having no meaning here: %s", source, ", ".join(passed_over))
    return values


def _refuse_misspelt(header: str, keys: list[str], source: str) -> None:
    near = difflib.get_close_matches(header.lower(), _SECTIONS, 1, cutoff=0.8)
    if near and any(key in SETTINGS for key in keys):
        raise ConfigError(f"{source}: unknown section [{header}]; did you mean [{_SECTIONS[near[0]]}]?")


def _packaged() -> dict[str, Any]:
    return parse_ini(resources.files("tinytroupe").joinpath("config.ini").read_text("utf-8"), "tinytroupe/config.ini")


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, raw in environment.items():
        if variable.upper().startswith(ENVIRONMENT_PREFIX):
            try:
                name, setting = _setting(variable[len(ENVIRONMENT_PREFIX) :])
                values[name] = setting.parse(raw)
            except ConfigError as error:
                raise ConfigError(f"environment variable {variable}: {error}") from error
    return values


class ConfigManager:
    """The settings of this process. Thread-safe; nothing is read before the first look-up.

    Parameters
    ----------
    directory
        Called to learn where a ``config.ini`` may lie; default: the working directory.
    environment
        Variables to read; default: those of the process.
    on_change
        Called with the values before and after, also when they are read and when they are forgotten.
    """

    def __init__(
        self,
        directory: Callable[[], Path] = Path.cwd,
        environment: Mapping[str, str] | None = None,
        on_change: Callable[[Mapping[str, Any], Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._directory = directory
        self._environment = environment
        self._on_change = on_change
        self._lock = threading.RLock()
        self._values: dict[str, Any] | None = None

    def _load(self) -> dict[str, Any]:
        # Look-ups stand on the hot path of every turn: no lock once the settings are there.
        values = self._values
        if values is None:
            with self._lock:
                if self._values is None:
                    self._replace(self._read())
                values = self._values
        assert values is not None
        return values

    def _replace(self, values: dict[str, Any] | None) -> None:
        before, self._values = self._values, values
        if self._on_change is not None:
            self._on_change(before or {}, values or {})

    def _read(self) -> dict[str, Any]:
        values = _packaged()
        own = self._directory() / "config.ini"
        try:
            text = own.read_text("utf-8-sig")
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{own} can't be read: {error}") from error
        else:
            values.update(parse_ini(text, str(own)))
        values.update(_from_environment(os.environ if self._environment is None else self._environment))
        return values

    def get(self, key: str, default: Any = _MISSING) -> Any:
        """Return the value of a setting.

        Parameters
        ----------
        key
            Name of the setting, in any case.
        default
            Returned where the setting is None.

        Raises
        ------
        ConfigError
            The setting does not exist; the message names the nearest one.
        """
        values = self._load()
        try:
            value = values[key]
        except (KeyError, TypeError):
            value = values[_setting(key)[0]]
        return default if value is None and default is not _MISSING else value

    def set(self, key: str, value: Any) -> None:
        """Change a setting, effective at once.

        Raises
        ------
        ConfigError
            Unknown key, wrong type or out of range; nothing is changed.
        """
        self.update_multiple({key: value})

    update = set
    """The same as `set`."""

    def update_multiple(self, values: Mapping[str, Any]) -> None:
        """Change several settings: all of them, or none where one is wrong."""
        checked: dict[str, Any] = {}
        for key, value in values.items():
            if isinstance(key, str) and key.lower() in PASSED_OVER:
                logger.info("passed over, having no meaning here: %s", key)
                continue
            name, setting = _setting(key)
            try:
                checked[name] = setting.check(value)
            except ConfigError as error:
                raise ConfigError(f"setting {name!r} {error}") from error
        with self._lock:
            self._replace({**self._load(), **checked})

    def reset(self) -> None:
        """Forget what the program set; files and environment are read again at the next look-up."""
        with self._lock:
            self._replace(None)

    @contextmanager
    def override(self, **values: Any) -> Iterator[ConfigManager]:
        """Change settings inside a ``with`` block, for the whole process, and put the former values back after it."""
        with self._lock:
            before = {_setting(key)[0]: self.get(key) for key in values}
            self.update_multiple(values)
        try:
            yield self
        finally:
            self.update_multiple(before)

    def as_dict(self) -> dict[str, Any]:
        """Return a copy of all settings."""
        return dict(self._load())

    def __getitem__(self, key: str) -> Any:
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in SETTINGS

    def __repr__(self) -> str:
        state = "not read yet" if self._values is None else f"{len(self._values)} settings"
        return f"<ConfigManager: {state}>"


def _set_log_level(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    level = after.get("loglevel")
    if level != before.get("loglevel"):
        logging.getLogger("tinytroupe").setLevel(level or logging.NOTSET)


config_manager = ConfigManager(on_change=_set_log_level)
