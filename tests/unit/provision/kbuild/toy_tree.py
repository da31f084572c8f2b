# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree that builds as a kernel's does, in no time: Kbuild's targets, in a Makefile of twenty lines."""

from __future__ import annotations

from pathlib import Path

_MAKEFILE = r"""
release := 7.9.0
srctree := $(CURDIR)
quiet = printf '  %-7s %s\n'
all: $(O)/vmlinux $(O)/arch/x86/boot/bzImage
vmlinux: $(O)/vmlinux
allnoconfig:
	@grep -v -e UNKNOWN -e DROPPED $(KCONFIG_ALLCONFIG) >$(O)/.config || true
$(O)/iov.o: drivers/pci/iov.c
	@$(quiet) CC drivers/pci/iov.o
	@gcc -c -o $@ $<
$(O)/vmlinux: $(O)/iov.o
	@mkdir -p $(O)/include/config
	@echo $(release) >$(O)/include/config/kernel.release
	@$(quiet) LD vmlinux
	@cp $< $@
$(O)/arch/x86/boot/bzImage: $(O)/vmlinux
	@mkdir -p $(dir $@)
	@echo image >$@
modules_install:
	@mkdir -p $(INSTALL_MOD_PATH)/lib/modules/$(release)
	@echo kernel/drivers/pci/pci-pf-stub.ko >$(INSTALL_MOD_PATH)/lib/modules/$(release)/modules.builtin
	@ln -s $(O) $(INSTALL_MOD_PATH)/lib/modules/$(release)/build
run-command:
	@$(KBUILD_RUN_COMMAND)
"""
_KCONFIG = 'config PCI\n\tbool "PCI"\n\nconfig DROPPED\n\tbool "never"\n\tdepends on NOWHERE\n'
_PACK = '#!/bin/sh\nmkdir -p $1\ncd "$(dirname "$0")/../.." && tar -cf - include | tar -xf - -C $1\n'


def plant(folder: Path) -> Path:
    """Make the tree in a folder, and give it back."""
    files = {
        "Makefile": _MAKEFILE, "Kconfig": _KCONFIG, "kernel/fork.c": "", "drivers/pci/iov.c": "int total = 1;\n",
        "scripts/package/install-extmod-build": _PACK, "include/iov.h": "headers\n",
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "scripts/package/install-extmod-build").chmod(0o755)
    (folder / "include/again.h").symlink_to("iov.h")
    return folder
