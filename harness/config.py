# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings, for command line and pytest alike.

In order: a flag, `IOV_HARNESS_*`, `./iov-harness.toml`, the user's configuration file, the default.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from harness import paths
from harness.errors import UsageError, unknown

PROJECT_FILE = Path("iov-harness.toml")
ENV_PREFIX = "IOV_HARNESS_"

OVERLAY, SANITIZED = Path("overlay"), Path("overlay-sanitized")
"""What are no paths of a QEMU, but the ones that are built here: with iov-overlay, and with the sanitizers besides."""
BUILT_QEMUS = (OVERLAY, SANITIZED)
_PATHS = ("modules", "qemu", "cache_dir")


class Accel(StrEnum):
    """Which accelerator to use; `auto` takes KVM only where it was proved usable."""

    AUTO = "auto"
    TCG = "tcg"
    KVM = "kvm"


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def _kernel(kernel: str) -> str:
    return str(_absolute(Path(kernel))) if kernel.startswith("~") else kernel


def _listed(value: Any) -> Any:
    """Take several folders in one text as PATH has them, which is all that an environment variable can hold."""
    return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value


def _qemu(path: Path) -> Path:
    return path if path in BUILT_QEMUS else _absolute(path)


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class Settings(BaseSettings):
    """What a user can set once for all commands."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    kernel: Annotated[str, AfterValidator(_kernel)] = Field(
        "debian-6.12", description="kernel by name, or by path (anything with a '/')"
    )
    modules: AbsolutePath | None = Field(None, description="folder of the modules of a kernel given by path")
    qemu: Annotated[Path, AfterValidator(_qemu)] | None = Field(
        None,
        description="QEMU binary to use instead of the host's or the provisioned one, or overlay, our own build",
    )
    accel: Accel = Field(Accel.AUTO, description="accelerator: auto, tcg or kvm")
    profile_dir: Annotated[tuple[AbsolutePath, ...], BeforeValidator(_listed), NoDecode] = Field(
        (), description="folders with profiles of your own"
    )
    cache_dir: AbsolutePath = Field(default_factory=paths.default_cache, description="where provisioned parts are kept")
    cache_limit: ByteSize = Field(ByteSize(20 * 1000**3), description="size that `harness cache prune` prunes to")
    debian_mirror: str | None = Field(None, description="Debian mirror, where the machine's apt configuration has none")
    boot_timeout: float = Field(
        90.0, gt=0, allow_inf_nan=False, description="seconds from the start of QEMU to the first SSH command"
    )

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
        return (init_settings, env_settings, *(InitSettingsSource(settings_cls, _read(file)) for file in _files()))


def load(**flags: Any) -> Settings:
    """Read the settings; a flag that is None or empty was not given. Raises `UsageError` naming what is wrong."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    for variable in os.environ:
        if variable.upper().startswith(ENV_PREFIX) and variable.upper() not in known:
            raise UsageError(unknown("environment variable", variable, known))
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{_origin(str(first['loc'][0]), given)}: {first['msg']} (got {first['input']!r})") from error


def _files() -> tuple[Path, ...]:
    return PROJECT_FILE, paths.user_config()


def _read(file: Path) -> dict[str, Any]:
    """Read a settings file, which need not exist. A relative path in it starts from the file's folder."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"settings file {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"settings file {file} is not TOML: {error}") from error
    for name in values:
        if name not in Settings.model_fields:
            raise UsageError(f"settings file {file}: {unknown('setting', name, Settings.model_fields)}")
    return {name: _based(name, value, file.absolute().parent) for name, value in values.items()}


def _based(name: str, value: Any, folder: Path) -> Any:
    if name == "profile_dir":
        several = [value] if isinstance(value, str) else value
        return [_placed(one, folder) for one in several] if isinstance(several, list) else value
    if name == "qemu" and value in map(str, BUILT_QEMUS):
        return value
    return _placed(value, folder) if name in _PATHS or (name == "kernel" and "/" in str(value)) else value


def _placed(path: Any, folder: Path) -> Any:
    return str(folder / path) if isinstance(path, str) and not path.startswith("~") else path


def _origin(name: str, flags: Mapping[str, Any]) -> str:
    """Say where the value of a setting comes from."""
    if name in flags:
        return f"--{name.replace('_', '-')}"
    variable = f"{ENV_PREFIX}{name.upper()}"
    if any(there.upper() == variable and value for there, value in os.environ.items()):
        return variable
    return next((f"settings file {file}: {name}" for file in _files() if name in _read(file)), name)
