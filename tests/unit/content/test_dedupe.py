"""Copies: which texts are alike, who came first, and that all processes agree on it."""

from __future__ import annotations

import asyncio
import re
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ray_app.content.dedupe import EXACT, NEAR, Copies, fingerprint, keys_of, likeness, original
from ray_app.content.document import Document, Found, Status
from tests.unit.content.pages import GARDEN, TEA

if TYPE_CHECKING:
    from redis.asyncio import Redis

DOCS = sorted((Path(__file__).resolve().parents[3] / "docs").glob("*.md"))


def document(id: str, text: str, canonical: str = "", **fields: object) -> Document:
    made = fingerprint(Found(text=text))
    keys = keys_of(made, canonical or f"http://{id}")
    known = {"hash": made.hash, "signature": made.signature, "keys": keys, "status": Status.INDEXED}
    return Document(**{"id": id, "url": f"http://{id}", "fetched_at": 1, **known, **fields})  # type: ignore[arg-type]


async def copies_of(copies: Copies, documents: list[Document]) -> dict[str, tuple[str, str]]:
    """By id what each is a copy of, as they come."""
    known: dict[str, Document] = {}
    found: dict[str, tuple[str, str]] = {}
    for d in documents:
        copy = original(d, await copies.place(d.id, d.keys), known, 0.8)
        known[d.id] = d
        if copy:
            found[d.id] = (copy.of, copy.kind)
            known[d.id] = document(d.id, "", status=Status.DUPLICATE, duplicate_of=copy.of)
    return found


def test_spelling_is_no_difference_and_words_are() -> None:
    text = " ".join(TEA)
    shouted = re.sub(r"[.,]", " -- ", text).upper()
    assert fingerprint(Found(text=text)).hash == fingerprint(Found(text=shouted)).hash
    assert fingerprint(Found(text=text)).hash != fingerprint(Found(text=text + " More.")).hash
    assert likeness(fingerprint(Found(text=text)).signature, fingerprint(Found(text=" ".join(GARDEN))).signature) < 0.1


def test_a_short_text_counts_with_its_title() -> None:
    one, two = Found(title="Goals of the week", text="Watch."), Found(title="How to knit a sock", text="Watch.")
    assert fingerprint(one).hash != fingerprint(two).hash


def test_texts_without_spaces_are_compared_by_their_characters() -> None:
    text = (
        "市议会周二投票决定重新开放海港街上的旧茶叶仓库，作为公共市场。商人可以按天租用摊位，楼上将成为一座小型博物馆。"
    )
    near = text.replace("周二", "周三")
    assert likeness(fingerprint(Found(text=text)).signature, fingerprint(Found(text=near)).signature) > 0.75


async def test_the_first_of_equal_texts_and_of_equal_urls_is_the_original(redis: Redis) -> None:
    text = " ".join(TEA)
    found = await copies_of(
        Copies(redis, "test", "t"),
        [document("a", text), document("b", text), document("c", " ".join(GARDEN), "http://same"),
         document("d", " ".join(GARDEN[:2]), "http://same"),
         document("e", "Something else, of a site that names one URL for all of its pages.", "http://same")],
    )  # fmt: skip
    assert found == {"b": ("a", EXACT), "d": ("c", EXACT)}


async def test_real_texts_are_told_from_their_edited_copies_and_from_each_other(redis: Redis) -> None:
    """Our own documents: every 25th sentence of a copy is gone, and it has another beginning and end."""
    assert len(DOCS) > 10
    originals, edited = [], []
    for file in DOCS:
        sentences = re.split(r"(?<=[.:|])\s+", file.read_text())
        kept = " ".join(s for k, s in enumerate(sentences) if k % 25)
        originals.append(document(file.stem, " ".join(sentences)))
        edited.append(document(f"{file.stem}-2", f"We read this elsewhere today. {kept} All rights reserved."))
    found = await copies_of(Copies(redis, "test", "t"), originals + edited)
    assert found == {f"{f.stem}-2": (f.stem, NEAR) for f in DOCS}
    assert max(likeness(a.signature, b.signature) for a, b in combinations(originals, 2)) < 0.5


async def test_of_copies_that_come_at_once_one_is_the_original(redis: Redis) -> None:
    """As from many processes: each looks at what came before it, by the one order that Redis gives."""
    text = " ".join(TEA)
    all_of_them = {f"d{k}": document(f"d{k}", text) for k in range(40)}
    copies = [Copies(redis, "test", "t") for _ in range(4)]

    async def place(k: int, d: Document) -> bool:
        return original(d, await copies[k % 4].place(d.id, d.keys), all_of_them, 0.8) is None

    firsts = await asyncio.gather(*(place(k, d) for k, d in enumerate(all_of_them.values())))
    assert sum(firsts) == 1
    again = await asyncio.gather(*(place(k, d) for k, d in enumerate(all_of_them.values())))
    assert again == firsts  # a task that runs again finds the same


async def test_what_is_forgotten_is_nobodys_original(redis: Redis) -> None:
    copies, one, two = Copies(redis, "test", "t"), document("a", "x " * 50), document("b", "x " * 50)
    await copies.place(one.id, one.keys)
    await copies.forget([one])
    assert not any((await copies.place(two.id, two.keys)).values())
    assert not any((await Copies(redis, "test", "other").place("c", one.keys)).values())  # another tenant's


async def test_a_text_that_changed_is_found_by_its_new_words_alone(redis: Redis) -> None:
    copies, old, new = Copies(redis, "test", "t"), document("a", " ".join(TEA)), document("a", " ".join(GARDEN))
    await copies.place(old.id, old.keys)
    await copies.place(new.id, new.keys, before=old.keys)
    late = document("b", " ".join(TEA))
    assert not any((await copies.place(late.id, late.keys)).values())


@pytest.mark.parametrize("text", ["", "!!!", "one"])
def test_hardly_a_text_has_a_print(text: str) -> None:
    assert len(fingerprint(Found(text=text)).bands) == 21
