"""The one place where random generators are made."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(seed: int, purpose: str, case_id: str = "") -> int:
    """Return a 63-bit seed that depends on nothing but its three arguments.

    Each use of randomness names its purpose and, where there is one, its case. So batch size, order and
    neighbouring cases never change what a case draws.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{case_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rng(seed: int, purpose: str, case_id: str = "") -> np.random.Generator:
    """Return the NumPy generator of (seed, purpose, case)."""
    return np.random.Generator(np.random.PCG64(seed_of(seed, purpose, case_id)))
