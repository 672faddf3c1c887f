"""Settings and the topic catalogue: file < environment < flag, nothing unknown, no secret shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kafkaio.admin import topic_config
from schemas import catalogue
from schemas.catalogue import ENVELOPE_BYTES
from schemas.settings import Settings
from sealtrail.errors import ConfigError

SECRET = "a-very-secret-value"


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "role.toml"
    path.write_text(text)
    return path


def test_a_flag_overrides_the_environment_and_that_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = file(tmp_path, 'deployment = "of-file"\nregion = "of-file"\nrole = "of-file"\n')
    monkeypatch.setenv("SEALTRAIL_REGION", "of-environment")
    monkeypatch.setenv("SEALTRAIL_ROLE", "of-environment")
    settings = Settings.load(config, role="of-flag", authority=None)
    assert (settings.deployment, settings.region, settings.role) == ("of-file", "of-environment", "of-flag")
    assert settings.authority == "audit.example"  # a flag of None is one that was not given


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("heartbeat_s = 0", "heartbeat_s"),
        ('batch_ms = "many"', "batch_ms"),
        ('role = "Not A Name"', "role"),
        ("metrics_port = 70000", "metrics_port"),
        ("unheard_of = 1", "unheard_of"),
        ("archive_secret_key = 17", "archive_secret_key"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Settings.load(file(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [f'archive_secret_key = ["{SECRET}"]', f'{SECRET} = 1 = 2\narchive_secret_key = "{SECRET}"', f'role = "{SECRET}!"'],
)
def test_an_error_never_shows_a_value(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.load(file(tmp_path, text))
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


def test_secrets_are_not_printed(tmp_path: Path) -> None:
    settings = Settings.load(file(tmp_path, f'archive_secret_key = "{SECRET}"\narchive_access_key = "{SECRET}"\n'))
    assert settings.archive_secret_key is not None and settings.archive_secret_key.get_secret_value() == SECRET
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert SECRET not in shown


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_missing_setting_is_named_with_its_environment_variable() -> None:
    with pytest.raises(ConfigError, match=r"kafka_bootstrap .*SEALTRAIL_KAFKA_BOOTSTRAP"):
        Settings.load().require("role", "kafka_bootstrap")


def test_no_file_is_an_error_and_no_config_is_none(tmp_path: Path) -> None:
    assert Settings.load().segment_seals == 50_000
    with pytest.raises(ConfigError, match="no settings file"):
        Settings.load(tmp_path / "absent.toml")


# -- the catalogue

SHIPPED = (Path(catalogue.__file__).parent / "catalogue.toml").read_text()


def test_each_outputs_limit_is_above_the_worst_of_its_input() -> None:
    loaded = catalogue.load()
    outputs = {"audit.archive", "audit.hot", "audit.siem", "audit.quarantine"}
    assert {topic.name for topic in loaded.topics if topic.fed_by == "audit.raw"} == outputs
    worst = loaded.topic("audit.raw").max_message_bytes + ENVELOPE_BYTES
    assert all(loaded.topic(name).max_message_bytes > worst for name in outputs)


def test_chain_topics_have_raws_partition_count() -> None:
    loaded = catalogue.load()
    same = {topic.name for topic in loaded.topics if topic.partition_count(7) == 7}
    assert same == {
        "audit.raw",
        "audit.archive",
        "audit.sources",
        "audit.activity",
        "audit.subject-keys",
    }


def test_the_log_that_a_sealer_reads_when_it_takes_a_chain_over_is_compacted_soon() -> None:
    loaded = catalogue.load()
    assert topic_config(loaded.topic("audit.sources"), loaded)["segment.ms"] == "600000"
    assert "segment.ms" not in topic_config(loaded.topic("audit.archive"), loaded)


def test_those_who_emit_seal_and_archive_are_told_apart() -> None:
    loaded = catalogue.load()
    raw, archive = loaded.topic("audit.raw"), loaded.topic("audit.archive")
    assert set(raw.writers).isdisjoint({*archive.writers, "sink-archive"})
    assert set(archive.readers).isdisjoint({"github", "chat", "loadgen", "ci"})
    assert archive.writers == ("sealer",)
    assert loaded.transactional_roles == ("sealer",)


@pytest.mark.parametrize(
    ("pattern", "replacement", "named"),
    [
        (r"version = 1", "version = 2", "version"),
        (r'purpose = "Sealed events for search."', 'purpose = "x"\ncolour = "red"', "colour"),
        (r'readers = \["sink-search"\]', "", "readers"),
        (r"raw_partitions = 4", "raw_partitions = 0", "raw_partitions"),
        (r"max_message_bytes = 3_145_728", "max_message_bytes = 2_097_152", "audit.archive: max_message_bytes"),
        (r'cleanup_policy = "delete"', 'cleanup_policy = "shred"', "cleanup_policy"),
        (r'"LogAppendTime" #', '"Whenever" #', "timestamp_type"),
        (r"retention_ms = 604_800_000 ", "retention_ms = 0 ", "retention_ms"),
        (r"segment_ms = 600_000", "segment_ms = 0", "audit.sources: segment_ms"),
        (r'name = "audit.hot"', 'name = "audit.siem"', "named twice"),
        (r'partitions = "raw"', "partitions = 4", "audit.raw: partitions"),
        (r"min_insync_replicas = 1", "min_insync_replicas = 2", "min_insync_replicas"),
        (r'writers = \["github", "chat", [^]]*\]', 'writers = "github"', "writers"),
    ],
)
def test_a_catalogue_with_a_mistake_is_refused(pattern: str, replacement: str, named: str) -> None:
    text, changed = re.subn(pattern, replacement, SHIPPED, count=1)
    assert changed == 1
    with pytest.raises(ConfigError, match=named):
        catalogue.parse(text)
