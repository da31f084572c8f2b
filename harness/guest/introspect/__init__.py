# SPDX-License-Identifier: GPL-2.0-or-later
"""Looking into the guest's kernel from outside, by drgn over a second QMP socket: nothing of it runs in the guest."""
