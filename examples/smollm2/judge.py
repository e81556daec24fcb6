"""A crude judge of politeness that training never sees: words of courtesy less words of contempt.

The reward model learns politeness from pairs; this file knows nothing of them. It counts each word
once, so that repeating a courtesy earns nothing, and it cannot tell a right answer from a wrong one.
"""

from __future__ import annotations

import re

COURTEOUS = frozenset(
    {
        *("please", "thank", "thanks", "kindly", "appreciate", "glad", "happy", "pleasure", "welcome"),
        *("certainly", "gladly", "delighted", "would", "could", "may", "perhaps", "suggest", "recommend"),
        *("indeed", "actually", "wonderful", "lovely"),
    }
)
RUDE = frozenset(
    {
        *("obviously", "duh", "stupid", "dumb", "idiot", "freaking", "look", "okay", "whatever"),
        *("ridiculous", "lame", "come", "seriously", "hell", "damn", "crap"),
    }
)


def score(prompt: str, response: str) -> float:
    """Different courteous words, at most three, less two for each rude one; −3 for an empty answer."""
    words = set(re.findall(r"[a-z']+", response.lower()))
    if not words:
        return -3.0
    courteous = min(3, len(words & COURTEOUS))
    return float(courteous - 2 * len(words & RUDE))
