# SPDX-License-Identifier: GPL-2.0-or-later
"""From a profile to a running QEMU: options, accelerator, process, QMP. Knows nothing of what runs inside."""
