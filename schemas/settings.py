"""Every setting of every Sealtrail process, in one typed model: file < environment < flag.

- The file is TOML, one flat table. The environment is `SEALTRAIL_<NAME>` in capitals. Flags: what a command passes.
- An unknown name in the file, or a value of the wrong type, is a ConfigError that names the setting, never its value.
- Secrets are `SecretStr`: they never show in a repr, a log or a dump.

A process reads its settings once, at the start. Which settings a command needs is checked by `require`, not here: each
role's file holds only what that role may have.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from sealtrail.errors import ConfigError

PREFIX = "SEALTRAIL_"
NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
MIB = 1 << 20


class Settings(BaseSettings):
    """The settings of one process. Make it with `Settings.load`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    role: Annotated[str, Field(pattern=NAME, description="Who this process is: the name in its certificate.")] = "reader"
    authority: Annotated[
        str, Field(pattern=NAME, description="Who vouches for the trail: the first part of every chain's name.")
    ] = "audit.example"
    deployment: Annotated[
        str,
        Field(pattern=NAME, description="This deployment: second part of chain names, prefix of transactional ids."),
    ] = "local"
    region: Annotated[str, Field(pattern=NAME, description="The one region whose events are accepted.")] = "eu-central"
    topic_prefix: Annotated[
        str, Field(pattern=r"^[a-zA-Z0-9._-]{0,80}$", description="Put in front of every topic and consumer group.")
    ] = ""

    kafka_bootstrap: Annotated[str, Field(description="Kafka's first addresses, host:port, comma-separated.")] = ""
    kafka_ca: Annotated[Path | None, Field(description="PEM file of the authority that signed the brokers.")] = None
    kafka_certificate: Annotated[Path | None, Field(description="PEM file of this role's client certificate.")] = None
    kafka_key: Annotated[Path | None, Field(description="PEM file of the private key to kafka_certificate.")] = None

    archive_endpoint: Annotated[str, Field(description="Address of the S3 server; empty for the provider's own.")] = ""
    archive_ca: Annotated[Path | None, Field(description="PEM file of the authority that signed the S3 server.")] = None
    archive_bucket: Annotated[str, Field(description="The bucket with Object Lock that is the archive.")] = ""
    archive_access_key: Annotated[
        SecretStr | None, Field(description="S3 access key; without it the provider's own chain of credentials.")
    ] = None
    archive_secret_key: Annotated[SecretStr | None, Field(description="The secret to archive_access_key.")] = None

    search_endpoint: Annotated[str, Field(description="Address of OpenSearch.")] = ""
    search_ca: Annotated[Path | None, Field(description="PEM file of the authority that signed OpenSearch.")] = None
    search_username: Annotated[str, Field(description="User of OpenSearch, where it has users.")] = ""
    search_password: Annotated[SecretStr | None, Field(description="The password to search_username.")] = None
    search_document_bytes: Annotated[
        int, Field(gt=0, description="The largest document that is indexed; a larger one becomes a dead letter.")
    ] = 2 * MIB

    siem_ocsf_version: Annotated[Literal["1.9.0", "1.5.0"], Field(description="Version of OCSF that the SIEM gets.")] = "1.9.0"
    siem_hec_url: Annotated[str, Field(description="Base address of a collector that speaks Splunk's HEC protocol.")] = ""
    siem_hec_token: Annotated[SecretStr | None, Field(description="The collector's token.")] = None
    siem_hec_ca: Annotated[Path | None, Field(description="PEM file of the authority that signed the collector.")] = None
    siem_hec_ack: Annotated[
        bool, Field(description="Wait for the collector's acknowledgement; without it a record may be lost in the collector.")
    ] = True
    siem_ack_seconds: Annotated[
        float, Field(gt=0, le=200, description="Seconds after which a batch that was not acknowledged is sent again.")
    ] = 60.0
    siem_syslog_address: Annotated[str, Field(description="host:port of a syslog peer (RFC 5425, TLS).")] = ""
    siem_syslog_ca: Annotated[Path | None, Field(description="PEM file of the authority that signed the peer.")] = None
    siem_syslog_certificate: Annotated[
        Path | None, Field(description="PEM file with our certificate, where the peer asks for one.")
    ] = None
    siem_syslog_key: Annotated[Path | None, Field(description="PEM file with the key to siem_syslog_certificate.")] = None
    siem_syslog_bytes: Annotated[
        int, Field(gt=0, description="The largest message that the peer takes whole; a larger one becomes a dead letter.")
    ] = 65536
    siem_enterprise_number: Annotated[
        int, Field(gt=0, description="Your private enterprise number, in structured data; the default is the one for examples.")
    ] = 32473

    reader_role: Annotated[str, Field(description="What this reader is in the class policy's terms: auditor, operator.")] = ""
    reader_tenant: Annotated[str, Field(description="The one tenant that this reader is for; empty for all.")] = ""
    person: Annotated[str, Field(description="Who reads, as the trail names people; hashed in the event.")] = ""

    keys: Annotated[str, Field(description="This role's private keys, as a URI: file:DIRECTORY.")] = ""
    root_vkey: Annotated[
        Path | None, Field(description="File with the root's public key (signed-note verifier key): the trust anchor.")
    ] = None
    certificates: Annotated[
        Path | None, Field(description="Folder of all public keys' certificates, each signed by the root.")
    ] = None
    policy: Annotated[
        Path | None, Field(description="Folder of the class policy; empty for the one that ships with the package.")
    ] = None

    heartbeat_s: Annotated[
        float, Field(gt=0, description="Seconds after which an idle chain gets a heartbeat, so silence is provable.")
    ] = 15.0
    batch_ms: Annotated[int, Field(gt=0, description="Milliseconds that the sealer collects before it commits.")] = 100
    batch_records: Annotated[int, Field(gt=0, description="Records after which the sealer commits at once.")] = 2000
    native: Annotated[
        bool, Field(description="Seal with the native kernel where it was built; without it more slowly, and the same bytes.")
    ] = True
    segment_seals: Annotated[int, Field(gt=0, description="Seals after which a segment is cut.")] = 50_000
    segment_bytes: Annotated[int, Field(gt=0, description="Bytes of content after which a segment is cut.")] = 32 * MIB
    segment_seconds: Annotated[float, Field(gt=0, description="Seconds of record time after which a segment is cut.")] = 30.0
    segment_idle_seconds: Annotated[
        float, Field(gt=0, description="Seconds of record time after which heartbeats alone are cut into a segment.")
    ] = 3600.0
    accept_weak_store: Annotated[
        bool, Field(description="Run although the archive's locks were not tested; verification says so for ever.")
    ] = False
    pulse_s: Annotated[float, Field(gt=0, description="Seconds of idleness after which an emitter says that it is alive.")] = (
        15.0
    )
    spool: Annotated[
        Path | None, Field(description="Folder on a local disk in which an emitter keeps what Kafka has not; empty for none.")
    ] = None
    spool_mib: Annotated[int, Field(ge=8, description="MiB of disk that one emitter's spool may take.")] = 1024
    spool_set_damaged_aside: Annotated[
        bool, Field(description="Go on once without what cannot be read of a spool; its files are kept as *.damaged.")
    ] = False
    when_full: Annotated[
        Literal["wait", "refuse"],
        Field(description="What an emitter does without room, in spool or memory: let the caller wait, or refuse the event."),
    ] = "wait"
    intake_listen: Annotated[
        str, Field(description="host:port on which the HTTP intake listens; other than loopback only with TLS.")
    ] = "127.0.0.1:8443"
    intake_tokens: Annotated[
        Path | None, Field(description="File of who may speak through the intake: sources, digests of tokens, webhooks.")
    ] = None
    intake_certificate: Annotated[
        Path | None, Field(description="PEM file with the intake's certificate and its chain; empty for plaintext on loopback.")
    ] = None
    intake_key: Annotated[Path | None, Field(description="PEM file with the private key to intake_certificate.")] = None
    intake_body_bytes: Annotated[int, Field(gt=0, le=16 * MIB, description="The largest body that POST /v1/events takes.")] = (
        MIB
    )
    intake_body_s: Annotated[float, Field(gt=0, description="Seconds in which a body must be whole.")] = 10.0
    intake_durable_s: Annotated[
        float, Field(gt=0, description="Seconds in which a request must be durable, or its caller is told to ask again.")
    ] = 10.0
    metrics_port: Annotated[int, Field(ge=0, le=65535, description="Loopback port of the metrics page; 0 for none.")] = 0
    silence_s: Annotated[
        float,
        Field(gt=0, le=1800, description="Seconds of a chain's running time after which a source is silent: three pulses."),
    ] = 45.0
    verify_new_s: Annotated[float, Field(gt=0, description="Seconds after which the verifier looks for new segments.")] = 30.0
    verify_cycle_s: Annotated[float, Field(gt=0, description="Seconds after which the verifier reads everything again.")] = (
        86_400.0
    )
    verifier_state: Annotated[
        Path | None, Field(description="Folder in which the verifier keeps the last good checkpoint of each chain.")
    ] = None
    detect_rules: Annotated[Path | None, Field(description="Folder of detection rules instead of the packaged ones.")] = None

    @classmethod
    def load(cls, config: Path | None = None, **flags: object) -> Self:
        """The settings from `config`, the environment and `flags`, the later over the earlier.

        A flag of None counts as not given. Raises ConfigError, which names the file or the setting.
        """
        values = _read(config) if config else {}
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            raise ConfigError(f"{config}: unknown setting {', '.join(unknown)}")

        class Loaded(cls):  # type: ignore[valid-type, misc]  # the way pydantic-settings takes sources known at run time
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,
                dotenv_settings: PydanticBaseSettingsSource,
                file_secret_settings: PydanticBaseSettingsSource,
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=values)

        Loaded.__name__ = Loaded.__qualname__ = cls.__name__
        given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
        try:
            loaded: Self = Loaded(**given)
        except ValidationError as error:
            raise ConfigError(_explain(error, config)) from None  # the cause would show the value
        return loaded

    def require(self, *names: str) -> None:
        """Raise ConfigError naming the first of `names` that is empty."""
        for name in names:
            if getattr(self, name) in (None, ""):
                raise ConfigError(f"setting {name} is missing (role {self.role}; file, or {PREFIX}{name.upper()})")


def _read(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text())
    except FileNotFoundError:
        raise ConfigError(f"no settings file at {config}") from None
    except OSError as error:
        raise ConfigError(f"settings file {config}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ConfigError(f"settings file {config} is not TOML") from None  # the parser's message may quote a secret


def _explain(error: ValidationError, config: Path | None) -> str:
    problems = "; ".join(
        f"setting {'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
        for problem in error.errors(include_input=False, include_context=False, include_url=False)
    )
    return f"{config}: {problems}" if config else problems
