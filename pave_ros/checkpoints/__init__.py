"""Weights: known published files, their download and cache, and their key layouts into our networks and back.

`files` finds and downloads them and needs no torch; `loading` reads them into a network.
"""

from __future__ import annotations
