# SPDX-License-Identifier: GPL-2.0-or-later
"""PCIe functions modelled in Python: their registers, their capabilities, and the protocol that serves them to QEMU."""
