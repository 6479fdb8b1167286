"""Settings: where they come from, what they may hold, and what is said when they are wrong."""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinytroupe
from tinytroupe.config import SETTINGS, ConfigError, ConfigManager, config_manager, parse_ini

SOURCE = Path(tinytroupe.__file__).parent


@pytest.fixture
def settings(tmp_path):
    return ConfigManager(lambda: tmp_path, {})


def in_directory(tmp_path, text, environment=None, encoding="utf-8"):
    (tmp_path / "config.ini").write_text(text, encoding)
    return ConfigManager(lambda: tmp_path, environment or {})


# ---------------------------------------------------------------- where they come from


def test_the_packaged_file_holds_every_setting_in_its_section_and_nothing_else():
    values = parse_ini((SOURCE / "config.ini").read_text("utf-8"), "config.ini")
    assert values.keys() == SETTINGS.keys()


def test_no_setting_does_nothing():
    code = "\n".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    assert [key for key in SETTINGS if code.count(f'"{key}"') < 2] == []


def test_later_sources_win_key_by_key(tmp_path):
    text = "[Simulation]\nMAX_WORKERS=3\nSEED=7\n[Memory]\nMEMORY_CLEANUP_STRATEGY=age\n"
    settings = in_directory(tmp_path, text, {"TINYTROUPE_SEED": "8", "tinytroupe_timeout": "5", "HOME": "/x"})
    assert settings.get("max_workers") == 3
    assert settings.get("seed") == 8
    assert settings.get("timeout") == 5.0
    assert settings.get("memory_cleanup_strategy") == "age"
    assert settings.get("auto_consolidation_threshold") == 500
    settings.set("seed", 9)
    assert settings.get("seed") == 9
    settings.reset()
    assert settings.get("seed") == 8


def test_nothing_is_read_before_the_first_look_up(tmp_path):
    settings = in_directory(tmp_path, "NOT A KEY AT ALL")
    assert repr(settings) == "<ConfigManager: not read yet>"
    with pytest.raises(ConfigError):
        settings.get("seed")
    (tmp_path / "config.ini").unlink()
    assert settings.get("seed") == 0
    assert repr(settings) == f"<ConfigManager: {len(SETTINGS)} settings>"


# ---------------------------------------------------------------- the file


def test_the_guide_s_comments_on_the_same_line_and_none_are_understood(tmp_path):
    settings = in_directory(
        tmp_path,
        "[Simulation]\n"
        "PARALLEL_AGENT_ACTIONS=True\n"
        "MAX_WORKERS=None  # Auto-detect optimal thread count\n"
        "PARALLEL_EXECUTION_TIMEOUT=600  ; 10 minutes\n"
        "COLLECT_PARALLEL_METRICS=off\n",
    )
    assert settings.get("max_workers") is None
    assert settings.get("parallel_execution_timeout") == 600.0
    assert settings.get("collect_parallel_metrics") is False


def test_keys_may_stand_before_any_section(tmp_path):
    settings = in_directory(tmp_path, "# Increase timeout\nPARALLEL_EXECUTION_TIMEOUT=600\nmax_workers = 2\n")
    assert settings.get("parallel_execution_timeout") == 600.0
    assert settings.get("max_workers") == 2


def test_a_file_that_serves_other_programs_too_is_read_past_their_sections(tmp_path):
    settings = in_directory(tmp_path, "[DEFAULT]\nx=1\n[other]\nMAX_WORKER=9\n[Simulation]\nSEED=4\n")
    assert settings.get("seed") == 4
    assert settings.get("max_workers") is None


def test_section_names_are_known_in_any_case(tmp_path):
    assert in_directory(tmp_path, "[simulation]\nSEED=4\n").get("seed") == 4


def test_a_byte_order_mark_is_no_content(tmp_path):
    assert in_directory(tmp_path, "[Simulation]\nSEED=4\n", encoding="utf-8-sig").get("seed") == 4


def test_a_hash_within_a_value_is_part_of_it(tmp_path):
    assert in_directory(tmp_path, "[OpenAI]\nBASE_URL=http://x/#y\n").get("base_url") == "http://x/#y"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[Simulation]\nMAX_WORKER=4\n", r"\[Simulation\] MAX_WORKER: unknown setting .*did you mean 'max_workers'"),
        ("MAX_WORKER=4\n", r"MAX_WORKER: unknown setting .*did you mean 'max_workers'"),
        ("[Simulaton]\nMAX_WORKERS=4\n", r"\[Simulaton\].*did you mean \[Simulation\]"),
        ("[Memory]\nMAX_WORKERS=4\n", r"MAX_WORKERS belongs in section \[Simulation\], not in \[Memory\]"),
        ("[Simulation]\nMAX_WORKERS=many\n", r"MAX_WORKERS: needs a whole number of at least 1 or None, got 'many'"),
        ("[Simulation]\nMAX_WORKERS=2.5\n", r"MAX_WORKERS: needs a whole number"),
        ("[Simulation]\nMAX_WORKERS=0\n", r"MAX_WORKERS: needs a whole number of at least 1 or None, got 0"),
        ("[Simulation]\nSEED=None\n", r"SEED: needs a whole number, got None"),
        ("[Simulation]\nSEED=\n", r"SEED: needs a whole number, got None"),
        ("[Simulation]\nPARALLEL_AGENT_ACTIONS=maybe\n", r"needs True or False, got 'maybe'"),
        ("[Simulation]\nSCHEDULER=paralel\n", r"needs one of auto, sequential, parallel.*did you mean 'parallel'"),
        ("[Memory]\nMEMORY_WARNING_THRESHOLD=1.01\n", r"needs a number from 0 to 1, got 1\.01"),
        ("[Memory]\nMEMORY_WARNING_THRESHOLD=nan\n", r"needs a number from 0 to 1, got nan"),
        ("[Simulation\nSEED=1\n", r"not a readable ini file"),
        ("[Simulation]\nSEED=1\nSEED=2\n", r"not a readable ini file"),
        ("[Simulation]\njust words\n", r"not a readable ini file"),
    ],
)
def test_a_wrong_file_is_named_with_the_key_and_the_remedy(tmp_path, text, said):
    settings = in_directory(tmp_path, text)
    with pytest.raises(ConfigError, match=said) as caught:
        settings.get("seed")
    assert str(tmp_path / "config.ini") in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "config.ini").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(ConfigError, match=r"config\.ini can't be read"):
        ConfigManager(lambda: tmp_path, {}).get("seed")


def test_a_directory_in_place_of_the_file_is_named(tmp_path):
    (tmp_path / "config.ini").mkdir()
    with pytest.raises(ConfigError, match=r"config\.ini can't be read"):
        ConfigManager(lambda: tmp_path, {}).get("seed")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TINYTROUPE_MAX_WORKRES", "4", "did you mean 'max_workers'"),
        ("TINYTROUPE_MAX_WORKERS", "four", "needs a whole number"),
        ("TINYTROUPE_ON_ERROR", "stop", "needs one of skip, raise"),
    ],
)
def test_a_wrong_environment_variable_is_named(tmp_path, variable, value, said):
    with pytest.raises(ConfigError, match=said) as caught:
        ConfigManager(lambda: tmp_path, {variable: value}).get("seed")
    assert variable in str(caught.value)


# ---------------------------------------------------------------- the program


@pytest.mark.parametrize("verb", ["get", "set", "update", "[]", "[]=", "override"])
def test_an_unknown_key_names_the_nearest(settings, verb):
    use = {
        "get": lambda: settings.get("max_worker"),
        "set": lambda: settings.set("max_worker", 1),
        "update": lambda: settings.update("max_worker", 1),
        "[]": lambda: settings["max_worker"],
        "[]=": lambda: settings.__setitem__("max_worker", 1),
        "override": lambda: settings.override(max_worker=1).__enter__(),
    }[verb]
    with pytest.raises(ConfigError, match="unknown setting 'max_worker'; did you mean 'max_workers'"):
        use()
    assert "max_worker" not in settings
    assert "MAX_WORKERS" in settings


def test_a_key_like_no_other_lists_those_there_are(settings):
    with pytest.raises(ConfigError, match=r"known settings: api_type, .*max_workers"):
        settings.get("zzz")
    with pytest.raises(ConfigError, match="must be a text"):
        settings.get(3)
    with pytest.raises(ConfigError, match="must be a text"):
        settings.get(["unhashable"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_workers", "8"),
        ("max_workers", True),
        ("max_workers", 8.0),
        ("max_workers", 0),
        ("max_workers", -1),
        ("parallel_agent_actions", 1),
        ("parallel_agent_actions", "True"),
        ("parallel_execution_timeout", 0),
        ("parallel_execution_timeout", float("nan")),
        ("memory_warning_threshold", 1.5),
        ("model", None),
        ("model", 4),
        ("seed", None),
        ("memory_cleanup_strategy", "random"),
    ],
)
def test_a_wrong_value_is_refused_and_changes_nothing(settings, key, value):
    before = settings.as_dict()
    with pytest.raises(ConfigError, match=f"setting '{key}' needs"):
        settings.set(key, value)
    with pytest.raises(ConfigError):
        settings.update_multiple({"seed": 5, key: value})
    assert settings.as_dict() == before


@pytest.mark.parametrize(
    ("key", "value", "held"),
    [
        ("max_workers", 1, 1),
        ("max_workers", None, None),
        ("memory_warning_threshold", 1, 1.0),
        ("memory_warning_threshold", 0, 0.0),
        ("parallel_execution_timeout", 300, 300.0),
        ("max_episodic_memory_size", 0, 0),
        ("memory_cleanup_strategy", "FIFO", "fifo"),
        ("loglevel", "debug", "DEBUG"),
    ],
)
def test_what_may_be_set_holds_in_every_way_of_asking(settings, key, value, held):
    settings[key.upper()] = value
    assert settings.get(key) == settings[key] == settings.get(key.upper()) == held
    assert type(settings[key]) is type(held)


def test_a_default_stands_in_for_none_alone(settings):
    assert settings.get("max_workers", 4) == 4
    settings.set("max_workers", 2)
    assert settings.get("max_workers", 4) == 2
    settings.set("max_episodic_memory_size", 0)
    assert settings.get("max_episodic_memory_size", 9) == 0


def test_override_puts_back_what_was_there_also_after_an_error(settings):
    settings.set("seed", 1)
    with settings.override(seed=2, MAX_WORKERS=3) as inside:
        assert (inside["seed"], inside["max_workers"]) == (2, 3)
        with pytest.raises(KeyError), settings.override(seed=4):
            raise KeyError
        assert inside["seed"] == 2
    assert (settings["seed"], settings["max_workers"]) == (1, None)


def test_override_with_a_wrong_value_changes_nothing(settings):
    before = settings.as_dict()
    with pytest.raises(ConfigError), settings.override(seed=2, max_workers="x"):
        pass
    assert settings.as_dict() == before


def test_what_is_returned_is_a_copy(settings):
    settings.as_dict()["seed"] = 99
    assert settings["seed"] == 0


def test_threads_see_whole_updates(settings):
    stop = threading.Event()
    torn = []

    def look():
        while not stop.is_set():
            values = settings.as_dict()
            if values["seed"] != values["timeline_length"] - 1:
                torn.append(values)

    settings.update_multiple({"seed": 0, "timeline_length": 1})
    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(300):
        settings.update_multiple({"seed": number, "timeline_length": number + 1})
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []


def test_the_process_has_one_manager_under_the_package():
    assert tinytroupe.config_manager is config_manager


def test_the_log_level_is_set_where_wanted_and_untouched_where_not():
    logger = logging.getLogger("tinytroupe")
    assert logger.level == logging.NOTSET
    with config_manager.override(loglevel="ERROR"):
        assert logger.level == logging.ERROR
        with config_manager.override(loglevel="debug"):
            assert logger.level == logging.DEBUG
        assert logger.level == logging.ERROR
    assert logger.level == logging.NOTSET


def test_a_reset_takes_back_the_log_level(monkeypatch):
    logger = logging.getLogger("tinytroupe")
    monkeypatch.setenv("TINYTROUPE_LOGLEVEL", "info")
    config_manager.reset()
    config_manager.get("seed")
    assert logger.level == logging.INFO
    monkeypatch.undo()
    config_manager.reset()
    config_manager.get("seed")
    assert logger.level == logging.NOTSET


# ---------------------------------------------------------------- whatever is written


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_a_clear_error(text):
    try:
        values = parse_ini(text, "somewhere/config.ini")
    except ConfigError as error:
        assert "somewhere/config.ini" in str(error)  # noqa: PT017
    else:
        assert values.keys() <= SETTINGS.keys()


numbers = st.integers(-5, 5) | st.floats(allow_nan=True)


@given(st.sampled_from(sorted(SETTINGS)), st.none() | st.booleans() | numbers | st.text(max_size=8))
def test_what_a_setting_takes_it_takes_again_and_reads_from_text(key, value):
    setting = SETTINGS[key]
    try:
        held = setting.check(value)
    except ConfigError as error:
        assert re.match(r"needs .+, got ", str(error))  # noqa: PT017
        return
    assert setting.check(held) == held
    if setting.kind is not str:
        assert setting.parse(str(held)) == held
