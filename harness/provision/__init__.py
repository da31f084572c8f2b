# SPDX-License-Identifier: GPL-2.0-or-later
"""Getting the parts that a machine is made of: QEMU, kernels, the guest root, keys. All kept in one cache."""
