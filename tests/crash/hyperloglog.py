"""The HyperLogLog of Redis, by its definition: which register a member sets, and to what."""

from __future__ import annotations

from functools import cache

SEED, MULTIPLY, ALL = 0xADC83B19, 0xC6A4A7935BD1E995, 2**64 - 1
REGISTER_BITS, HASH_BITS = 14, 64


@cache
def hyperloglog(member: str) -> tuple[int, int]:
    """(register, rank): the length of the run of zeros that its hash begins with, and one."""
    hashed = murmur(member.encode())
    rest = hashed >> REGISTER_BITS | 1 << HASH_BITS - REGISTER_BITS
    return hashed & (1 << REGISTER_BITS) - 1, (rest & -rest).bit_length()


def murmur(data: bytes) -> int:
    """MurmurHash64A (Austin Appleby)."""
    h = SEED ^ len(data) * MULTIPLY & ALL
    whole = len(data) // 8 * 8
    for at in range(0, whole, 8):
        k = int.from_bytes(data[at : at + 8], "little") * MULTIPLY & ALL
        h = (h ^ (k ^ k >> 47) * MULTIPLY & ALL) * MULTIPLY & ALL
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * MULTIPLY & ALL
    h = (h ^ h >> 47) * MULTIPLY & ALL
    return h ^ h >> 47
