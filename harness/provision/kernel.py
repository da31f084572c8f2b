# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels: by name from the distribution, as the recipes in `guest-images/kernels/` say, or a user's own by path."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from harness import paths
from harness.errors import CouldNotRun, UsageError
from harness.provision import debuginfo, headers, kconfig, toml
from harness.provision import image as kernel_image
from harness.provision import modules as kernel_modules
from harness.provision.apt import AptRoot, FetchFailed, unpack
from harness.provision.cache import Cache, Entry, digest
from harness.provision.headers import BuiltHeaders, Headers, HeadersRecipe
from harness.provision.kbuild import build, result
from harness.provision.kbuild.arch import NATIVE
from harness.provision.kbuild.order import Order
from harness.provision.kconfig import KernelConfig

REFERENCE = "debian-6.12"
"""The kernel that tells a broken harness from a broken kernel: where it boots, QEMU and guest root are sound."""


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    return text


_PASSING = re.compile(r"v-[0-9a-f]{12}-.*|mutant|bisected")
"""Kernels of one patch of a series, of a mutant: nobody asks for them by name."""
_NAMES_SOURCE = re.compile(rb"^source\s*=", re.MULTILINE)
_Named = Annotated[str, Field(pattern=r"^[^{}]*\{release\}[^{}]*$")]
"""A text in which one `{release}`, and nothing else, is filled in."""


class Recipe(BaseModel):
    """A `guest-images/kernels/*.toml`: where a distribution keeps one kernel series."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: str
    suite: str
    release: Annotated[str, AfterValidator(_regular_expression)]
    packages: Annotated[tuple[_Named, ...], Field(min_length=1)]
    image: _Named
    modules: _Named
    headers: HeadersRecipe | None = None


class BuildRecipe(BaseModel):
    """A `guest-images/kernels/*.toml` that names a source: a kernel that is built here when it is first asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: str
    source: str
    series: tuple[str, ...] = ()
    """Folders of patches beside the recipe."""
    config: tuple[str, ...] = ()

    @property
    def order(self) -> Order:
        """What is to be built."""
        return Order(self.source, tuple(paths.kernels() / name for name in self.series), self.config)


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be started, with its modules where it has any, and what it says of itself."""

    name: str
    image: Path
    release: str
    modules: Path | None
    config: KernelConfig | None
    content: str
    origin: str
    vmlinux: Path | None = None
    """The kernel with its debug information, where there is any."""
    headers: Headers | None = None
    """What modules for it are built against, where that is known."""

    @property
    def is_reference(self) -> bool:
        """Whether this is the reference kernel."""
        return self.name == REFERENCE

    def missing(self, options: frozenset[str]) -> list[str]:
        """Name the options that the run needs and the kernel lacks, as far as its configuration is known."""
        if self.config is None:
            return []
        return kconfig.missing(self.config, sorted(options), modules=self.modules is not None)


def recipes() -> dict[str, Recipe | BuildRecipe]:
    """Read all recipes, by name."""
    return {path.stem: _read(path) for path in sorted(paths.kernels().glob("*.toml"))}


def order(name: str) -> Order:
    """Give what a kernel that comes with the harness is built from; raises `UsageError` where it is not built."""
    recipe = recipes().get(name)
    if not isinstance(recipe, BuildRecipe):
        raise UsageError(f"{name} is no kernel that is built from a recipe")
    return recipe.order


def _read(path: Path) -> Recipe | BuildRecipe:
    what = "kernel recipe"
    is_built = path.is_file() and _NAMES_SOURCE.search(path.read_bytes())
    return toml.read(path, BuildRecipe, what) if is_built else toml.read(path, Recipe, what)


def names(cache: Cache) -> list[str]:
    """Name all kernels to choose from: those with a recipe, and those that were built and boot here."""
    built = {name: build.found(cache, name) for name in build.names(cache)}
    own = {name for name, entry in built.items() if entry and entry.about["arch"] == NATIVE.name}
    return sorted({*recipes(), *(name for name in own if not _PASSING.fullmatch(name))})


def provide(cache: Cache, apt: AptRoot, wanted: str, modules: Path | None = None, *, refresh: bool = False) -> Kernel:
    """Give the kernel `wanted`: a path when it contains a '/', otherwise a name.

    Raises `UsageError` for an unknown name or a file that is no kernel, `CouldNotRun` when it cannot be fetched.
    """
    if "/" in wanted:
        return _own(Path(wanted), modules)
    if modules is not None:
        raise UsageError(f"--modules goes with a kernel given by path; {wanted!r} is a name and brings its own")
    recipe = recipes().get(wanted)
    if isinstance(recipe, Recipe):
        return _distribution(cache, apt, wanted, recipe, refresh=refresh)
    if recipe is not None:
        return _built(build.provide(cache, apt, wanted, recipe.order, refresh=refresh))
    entry = build.used(cache, wanted)
    if entry is None:
        hint = f" (a file? write ./{wanted})" if os.access(wanted, os.F_OK) else ""
        listed = ", ".join(names(cache))
        raise UsageError(f"unknown kernel {wanted!r}{hint}: choose from {listed}, or give a path with a '/'")
    return _built(entry)


def _built(entry: Entry) -> Kernel:
    about = entry.about
    if about["arch"] != NATIVE.name:
        raise UsageError(f"kernel {entry.key} was built for {about['arch']}, and does not boot here")
    image, vmlinux = entry.path / result.IMAGE, entry.path / result.VMLINUX
    config = kconfig.parse((entry.path / result.CONFIG).read_text(encoding="utf-8"))
    packed = entry.path / result.HEADERS
    against = BuiltHeaders(packed, about["cc"]) if packed.is_file() else None
    return Kernel(
        entry.key, image, about["release"], entry.path, config, about["content"], build.origin(entry),
        vmlinux if debuginfo.has_dwarf(vmlinux) else None, against,
    )  # fmt: skip


def _own(path: Path, modules: Path | None) -> Kernel:
    image = kernel_image.inspect(path)
    if modules is not None and not os.access(f"{modules}/.", os.R_OK | os.X_OK):
        raise UsageError(f"--modules {modules}: no such folder; expected one that holds lib/modules/RELEASE")
    resolved = path.resolve()
    files = [resolved]
    if modules is not None:
        tree = kernel_modules.find(modules, image.release)
        files += [*tree.files.values(), *sorted(tree.directory.glob("modules.*"))]
    content = digest(*map(_fingerprint, files))
    config = kconfig.of(resolved, image.release)
    vmlinux = debuginfo.of(resolved)
    return Kernel(
        str(path), resolved, image.release, modules, config, content, "given by path", vmlinux, headers.beside(resolved)
    )


def _fingerprint(path: Path) -> tuple[str, int, int]:
    """Give what changes when a file is built again in its place."""
    status = path.stat(follow_symlinks=path.exists())
    return str(path.absolute()), status.st_size, status.st_mtime_ns


def _distribution(cache: Cache, apt: AptRoot, name: str, recipe: Recipe, *, refresh: bool) -> Kernel:
    def build(draft: Path) -> dict[str, Any]:
        return _fetch(cache, apt, name, recipe, draft)

    key = f"{name}-{digest(recipe.model_dump(exclude={'headers'}))}"  # which are fetched by themselves
    entry = cache.entry("kernels", key, f"kernel {name}", build, refresh=refresh)
    release = entry.about["release"]
    image = entry.path / recipe.image.format(release=release)
    modules = entry.path / recipe.modules.format(release=release)
    origin = ", ".join(f"{package} {version}" for package, version in entry.about["packages"].items())
    against = recipe.headers.of(release, recipe.suite) if recipe.headers else None
    config = kconfig.of(image, release)
    return Kernel(name, image, release, modules, config, entry.content, origin, headers=against)


def _fetch(cache: Cache, apt: AptRoot, name: str, recipe: Recipe, draft: Path) -> dict[str, Any]:
    """Fetch the newest release that the mirror really serves: it may list files that it no longer has."""
    prefix, suffix = recipe.packages[0].split("{release}")
    releases = [found.removeprefix(prefix).removesuffix(suffix) for found in _listed(apt, recipe)]
    if not releases:
        raise CouldNotRun(
            f"kernel {name}: the mirror has no package {recipe.packages[0].format(release=recipe.release)} "
            f"in {recipe.suite}; choose another kernel"
        )
    failure: FetchFailed | None = None
    for release in releases:
        debs = draft / "debs"
        try:
            with cache.progress.task(f"kernel {name} ({release}): download") as advance:
                names = [package.format(release=release) for package in recipe.packages]
                packages = apt.download(names, debs, suite=recipe.suite, closure=False, advance=advance)
        except FetchFailed as error:
            failure = failure or error
            shutil.rmtree(debs, ignore_errors=True)
            continue
        with cache.progress.task(f"kernel {name}: unpack"):
            unpack(packages, draft, cache)
            shutil.rmtree(debs)
        image = recipe.image.format(release=release)
        if not (draft / image).is_file():
            raise CouldNotRun(f"kernel {name}: no {image} in {', '.join(names)}, where the recipe has it")
        return {"release": release, "packages": {package.name: package.version for package in packages}}
    assert failure is not None  # noqa: S101 - releases was not empty, so one of them failed
    raise failure


def _listed(apt: AptRoot, recipe: Recipe) -> list[str]:
    prefix, suffix = map(re.escape, recipe.packages[0].split("{release}"))
    return apt.names(f"{prefix}{recipe.release}{suffix}")
