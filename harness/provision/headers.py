# SPDX-License-Identifier: GPL-2.0-or-later
"""What modules for a kernel are built against: where its headers are, and which compiler made it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_AUTO_CONF = Path("include/config/auto.conf")
"""The configuration as kbuild reads it; a tree without it was never built."""
_COMPILER = re.compile(r'^CONFIG_CC_VERSION_TEXT="(\S*gcc\S*) ', re.MULTILINE)
"""The name by which gcc was called for this kernel, for `gcc --version` begins with that."""
_BUILD_TREE = "../../.."
"""From arch/ARCH/boot/, where a build leaves the compressed image."""
_Package = Annotated[str, Field(pattern=r"^[^{}]*\{(release|version)\}[^{}]*$")]
"""A package's name in which one `{release}` or `{version}` is filled in."""


class HeadersRecipe(BaseModel):
    """The table `headers` of a kernel recipe: which packages have them, and which gcc they want.

    In a package's name `{release}` stands for the kernel's release, `{version}` for that without its last word (the
    flavour).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    packages: Annotated[tuple[_Package, ...], Field(min_length=1)]
    compiler: Annotated[str, Field(pattern=r"^gcc-\d+$")]

    def of(self, release: str, suite: str) -> DistributionHeaders:
        """Give the headers of one release."""
        version = release.rpartition("-")[0]
        names = tuple(name.format(release=release, version=version) for name in self.packages)
        return DistributionHeaders(suite, release, names, self.compiler)


@dataclass(frozen=True)
class DistributionHeaders:
    """Headers in packages of the distribution, which are fetched when they are wanted, as their `compiler` is."""

    suite: str
    release: str
    packages: tuple[str, ...]
    compiler: str


@dataclass(frozen=True)
class BuiltHeaders:
    """An archive (.tar.zst) of what scripts/package/install-extmod-build makes, by this machine's `compiler`."""

    archive: Path
    compiler: str


@dataclass(frozen=True)
class BuildTree:
    """The folder in which this machine's `compiler` built the kernel, as it was left."""

    folder: Path
    compiler: str


Headers = DistributionHeaders | BuiltHeaders | BuildTree


def beside(image: Path) -> BuildTree | None:
    """Give the build tree in which a kernel image lies, if it does and that is still fit to build modules."""
    folders = [image.parent]
    if image.parent.name == "boot":
        folders.append((image.parent / _BUILD_TREE).resolve())
    for folder in folders:
        if all((folder / name).is_file() for name in ("Makefile", "Module.symvers", _AUTO_CONF)):
            text = (folder / _AUTO_CONF).read_text(encoding="utf-8", errors="replace")
            named = _COMPILER.search(text)
            return BuildTree(folder, named[1] if named else "gcc")
    return None
