# SPDX-License-Identifier: GPL-2.0-or-later
"""What the integration and guest tests share, on Python's standard library alone."""
