# SPDX-License-Identifier: GPL-2.0-or-later
"""Serving a device to QEMU: the vfio-user protocol (docs/interop/vfio-user.rst in QEMU), the server's end."""
