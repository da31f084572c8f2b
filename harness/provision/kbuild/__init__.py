# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels from source: a tree, a patch series on top, a configuration of fragments, and the host's compiler."""
