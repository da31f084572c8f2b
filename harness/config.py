# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings, for command line and pytest alike.

In order: a flag, `IOV_HARNESS_*`, `./iov-harness.toml`, the user's configuration file, the default.
"""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from harness import paths
from harness.errors import UsageError

PROJECT_FILE = Path("iov-harness.toml")
ENV_PREFIX = "IOV_HARNESS_"


class Accel(StrEnum):
    """Which accelerator to use; `auto` takes KVM only where it was proved usable."""

    AUTO = "auto"
    TCG = "tcg"
    KVM = "kvm"


class Settings(BaseSettings):
    """What a user can set once for all commands."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    kernel: str = Field("debian-6.12", description="kernel by name, or by path (anything with a '/')")
    modules: Path | None = Field(None, description="folder of the modules of a kernel given by path")
    qemu: Path | None = Field(None, description="QEMU binary to use instead of the host's or the provisioned one")
    accel: Accel = Field(Accel.AUTO, description="accelerator: auto, tcg or kvm")
    profile_dir: tuple[Path, ...] = Field((), description="folders with profiles of your own")
    cache_dir: Path = Field(default_factory=paths.default_cache, description="where provisioned parts are kept")
    cache_limit: ByteSize = Field(ByteSize(20 * 1000**3), description="size that `harness cache prune` prunes to")
    debian_mirror: str | None = Field(None, description="Debian mirror, where the machine's apt configuration has none")
    boot_timeout: float = Field(90.0, gt=0, description="seconds from the start of QEMU to the first SSH command")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: flags, environment, the project's file, the user's file."""
        del dotenv_settings, file_secret_settings
        files = (TomlConfigSettingsSource(settings_cls, file) for file in (PROJECT_FILE, paths.user_config()))
        return (init_settings, env_settings, *files)


def load(**flags: Any) -> Settings:
    """Read the settings; a flag that is None or empty was not given. Raises `UsageError` naming what is wrong."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"setting {name!r}: {first['msg']} (got {first['input']!r}; "
            f"look at the flags, {ENV_PREFIX}*, {PROJECT_FILE} and {paths.user_config()})"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{PROJECT_FILE} or {paths.user_config()} is not TOML: {error}") from error
