# SPDX-License-Identifier: GPL-2.0-or-later
"""Building a QEMU with the configuration-space overlay in it."""
