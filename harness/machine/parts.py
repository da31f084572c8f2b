# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts that a machine is made of, gathered as the settings say."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.config import BUILT_QEMUS, OVERLAY, SANITIZED, Settings
from harness.device.overlay import QOM_TYPE
from harness.errors import UsageError
from harness.provision import guest_module, initramfs, kernel, keys, qemu
from harness.provision.apt import AptRoot
from harness.provision.cache import Cache
from harness.provision.kernel import Kernel
from harness.provision.keys import Keys
from harness.provision.progress import Progress
from harness.provision.qemu import Qemu
from harness.qemu import accel
from harness.qemu.library import Library, joined
from harness.qemu.profile import Profile

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """Everything but the profile: QEMU with its accelerator, a kernel with its guest root, keys."""

    qemu: Qemu
    accel: accel.Choice
    kernel: Kernel
    initramfs: Path
    keys: Keys

    def check(self, profile: Profile) -> None:
        """Refuse what cannot work: raises `UsageError` naming what QEMU or the kernel lacks for `profile`."""
        _check_qemu(self.qemu, profile)
        _check_kernel(self.kernel, profile)


class Store:
    """Provides parts; one per process, so that package lists are fetched once."""

    def __init__(self, settings: Settings, progress: Progress | None = None) -> None:
        self.settings = settings
        self.cache = Cache(settings.cache_dir, progress)
        self.library = Library(settings.profile_dir)
        self.apt = AptRoot(self.cache, settings.debian_mirror)

    def on(self, kernel: str) -> Store:
        """Give what provides the same parts with another kernel, which has no modules but those that it brings."""
        return Store(self.settings.model_copy(update={"kernel": kernel, "modules": None}), self.cache.progress)

    def qemu(self, *, refresh: bool = False) -> Qemu:
        """Give the QEMU of the settings, or one that has what all built-in profiles need."""
        required = self.required_devices()
        if self.settings.qemu in BUILT_QEMUS:
            return self.overlay_qemu(sanitize=self.settings.qemu == SANITIZED, refresh=refresh)
        if self.settings.qemu is not None:
            return qemu.ask(self.settings.qemu, required, "given by --qemu")
        return qemu.provide(self.cache, self.apt, required, refresh=refresh)

    def overlay_qemu(self, *, tree: Path | None = None, sanitize: bool = False, refresh: bool = False) -> Qemu:
        """Give a QEMU with the configuration-space overlay, from the folder `tree` or the distribution's source."""
        return qemu.provide_overlay(
            self.cache, self.apt, self.settings.debian_mirror, self.required_devices(),
            tree=tree, sanitize=sanitize, refresh=refresh,
        )  # fmt: skip

    def required_devices(self) -> Mapping[str, frozenset[str]]:
        """Give the devices and properties that the built-in profiles need of QEMU."""
        builtin = Library()
        return joined(builtin.get(name).requires for name in builtin.names()).devices

    def kernel(self, name: str | None = None, *, refresh: bool = False) -> Kernel:
        """Give a kernel by name, or the one of the settings."""
        if name is not None:
            return kernel.provide(self.cache, self.apt, name, refresh=refresh)
        wanted = self.settings
        return kernel.provide(self.cache, self.apt, wanted.kernel, wanted.modules, refresh=refresh)

    def module(self, image: Kernel, source: Path) -> Path:
        """Give the kernel module whose sources lie in a folder, built for `image`; raises as `guest_module.provide`."""
        return guest_module.provide(self.cache, self.apt, image, source)

    def parts(self, *, refresh: bool = False, profile: Profile | None = None) -> Parts:
        """Give all parts that the settings ask for, fetched and built where they are not in the cache.

        What the user gave is looked at, and held against what `profile` needs, before anything is fetched.
        """
        choice = accel.choose(self.settings.accel)
        given = self.qemu(refresh=refresh) if self.settings.qemu is not None else None
        if given is not None and profile is not None:
            _check_qemu(given, profile)
        image = self.kernel(refresh=refresh)
        if profile is not None:
            _check_kernel(image, profile)
        return self._complete(given or self.qemu(refresh=refresh), choice, image, refresh=refresh)

    def with_kernel(self, parts: Parts, name: str) -> Parts:
        """Give the same parts with another kernel."""
        other = self.kernel(name)
        return dataclasses.replace(parts, kernel=other, initramfs=self._initramfs(other, parts.keys, refresh=False))

    def _complete(self, binary: Qemu, choice: accel.Choice, image: Kernel, *, refresh: bool) -> Parts:
        pair = keys.provide(self.cache)
        root = self._initramfs(image, pair, refresh=refresh)
        _log.info("QEMU %s, %s: %s", binary.version, binary.origin, binary.path)
        _log.info("accelerator %s: %s", choice.name, choice.reason)
        _log.info("kernel %s, release %s, %s: %s", image.name, image.release or "unknown", image.origin, image.image)
        _log.info("guest root: %s", root)
        return Parts(binary, choice, image, root, pair)

    def _initramfs(self, image: Kernel, pair: Keys, *, refresh: bool) -> Path:
        return initramfs.provide(self.cache, self.apt, image, pair, refresh=refresh)


def _check_qemu(binary: Qemu, profile: Profile) -> None:
    if needs_overlay(profile) and not binary.has_overlay:
        raise UsageError(f"profile {profile.name}: {without_overlay(binary)}")
    asked = qemu.ask(binary.path, profile.requires.devices, binary.origin)
    missing = asked.lacks(profile.requires.devices)
    if missing:
        raise UsageError(
            f"QEMU {asked.version} ({asked.path}) lacks {', '.join(missing)}, which profile {profile.name} needs"
        )


def needs_overlay(profile: Profile) -> bool:
    """Tell whether a profile has configuration-space overlays, which only a QEMU of our own build knows."""
    return QOM_TYPE in profile.requires.objects


def without_overlay(binary: Qemu) -> str:
    """Say of a QEMU without the overlay that it is one, and how to come by another."""
    return f"QEMU {binary.version} ({binary.origin}) has no {QOM_TYPE}: make qemu, then --qemu {OVERLAY}"


def _check_kernel(image: Kernel, profile: Profile) -> None:
    options = image.missing(profile.requires.kernel)
    if options:
        raise UsageError(f"kernel {image.name} lacks {', '.join(options)}, which profile {profile.name} needs")
