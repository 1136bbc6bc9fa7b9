"""Laws that every sampler must satisfy, each checked against an exact answer."""

from fromnoise.certify.checks import Check, certify, errors
from fromnoise.certify.contender import Contender, foreign, own

__all__ = [
    "Check",
    "Contender",
    "certify",
    "errors",
    "foreign",
    "own",
]
