# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU device-model test harness for Linux PCI I/O virtualization."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("iov-harness")
except PackageNotFoundError:  # imported from a bare checkout that was never installed
    __version__ = "0+uninstalled"
