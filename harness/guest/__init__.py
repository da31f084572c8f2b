# SPDX-License-Identifier: GPL-2.0-or-later
"""Talking to a guest and listening to it: SSH, console, kernel reports, PCI functions. Judges nothing."""
