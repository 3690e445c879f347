"""What is live, in this process: loaded beside the old one, then swapped; a broken artifact never takes traffic."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ray_app.catalog.plane import Space
from ray_app.catalog.rows import FIRST, Epoch
from ray_app.catalog.scenario import BEST
from ray_app.errors import LemoError, OtherEpoch, Unavailable
from ray_app.features.content import space_of
from ray_app.models.base import Arrays, Embedder, Ranker, Recaller
from ray_app.models.covisit import Covisit
from ray_app.models.factors import Factors
from ray_app.models.itemcf import ItemCF
from ray_app.models.popularity import Popularity
from ray_app.models.precomputed import Precomputed
from ray_app.models.ranker import KINDS, load
from ray_app.models.two_tower import TwoTower
from ray_app.registry.pointer import ROWS, Pointer
from ray_app.registry.registry import Registry
from ray_app.registry.version import Version, epoch_of
from ray_app.types import Matrix

logger = logging.getLogger(__name__)
POLL_S = 1.0
EMBEDDER, ITEM_CF, RANKER = "embedder", ItemCF.name, "ranker"
SHADOW = f"{RANKER}.shadow"  # in `versions`: the ranker beside the live one
RECALLERS: Mapping[str, type[Recaller]] = MappingProxyType(
    {c.name: c for c in (ItemCF, Covisit, Factors, TwoTower, Precomputed)}
)
OF_KIND: Mapping[str, str] = MappingProxyType(
    {kind: f"{RANKER}.{kind}" for kind in KINDS if kind != Popularity.kind}
)  # what a scenario that names a kind of ranker is ranked by
NAMES = (EMBEDDER, RANKER, *OF_KIND.values(), *RECALLERS)  # whose live version an answer is made with
VECTORS = "vectors"  # the array of an embedder's version that has the catalogue as it was then


@dataclass(frozen=True)
class Models:
    """One tenant's live models; `versions` by name, as answers carry them. `base`: the text vectors of the rows
    that the embedder's version covers, float32 [m, d], mapped from its file. `shadow`: a ranker beside the live one,
    whose scores are logged and choose nothing. `rankers`: by kind, for scenarios that name one. All know the rows
    of `epoch`; `before`: what was live in the epoch before, for requests whose shelf has not moved yet."""

    embedder: Embedder | None = None
    recallers: Mapping[str, Recaller] = field(default_factory=dict)
    ranker: Ranker | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    base: Matrix | None = None
    shadow: Ranker | None = None
    rankers: Mapping[str, Ranker] = field(default_factory=dict)
    epoch: Epoch = FIRST
    before: Models | None = None

    def at(self, epoch: str) -> Models | None:
        """Those that know the rows of this epoch; None when it is neither the live one nor the one before."""
        return self if self.epoch.id == epoch else self.before.at(epoch) if self.before else None

    def ranked_by(self, kind: str) -> Models | None:
        """With the ranker that a scenario asks for in the place of the best, whose shadow is not beside it; None where
        no version of it is live."""
        if kind == BEST:
            return self
        others = {n: id for n, id in self.versions.items() if n not in (RANKER, SHADOW)}
        if kind == Popularity.kind:
            return replace(self, ranker=None, shadow=None, versions=others)
        ranker = self.rankers.get(kind)
        return (
            replace(self, ranker=ranker, shadow=None, versions={**others, RANKER: ranker.version}) if ranker else None
        )

    def space(self) -> Space | None:
        """The live embedder's; None before there is one."""
        return space_of(self.embedder, self.base)


class Live:
    """`of` never waits. `refresh` loads what was promoted since; `follow` does so for ever. `names`: what is loaded;
    SHADOW is one more, for who logs what it says. `move`: brings a live ranker to where it ranks, before it does. When
    the rows change, everything is loaded anew beside what serves, and then swapped at once."""

    def __init__(
        self, registry: Registry, names: Iterable[str] = NAMES, move: Callable[[Ranker], Ranker] | None = None
    ) -> None:
        self._registry, self._names, self._move = registry, frozenset(names), move
        self._held: dict[str, Models] = {}
        self._refused: set[tuple[str, str, str]] = set()
        self._looked_at: dict[str, float] = {}

    def of(self, tenant: str) -> Models:
        """As last loaded; nothing before the first `refresh`. From now on `follow` looks after this tenant too."""
        return self._held.get(tenant) or self._held.setdefault(tenant, Models())

    def tenants(self) -> list[str]:
        return list(self._held)

    def moved_to(self, tenant: str, epoch: str) -> None:
        """The shelf has these rows: where they are the live ones, nobody needs the models of the epoch before."""
        models = self.of(tenant)
        if models.before is not None and models.epoch.id == epoch:
            self._held[tenant] = replace(models, before=None)

    async def refresh(self, tenant: str) -> Models:
        """Raises Unavailable; what a replica cannot serve is logged, and what was live goes on."""
        models, wanted = self.of(tenant), await self._wanted(tenant)
        rows = wanted.get(ROWS, models.epoch.id)
        if moves := rows != models.epoch.id:
            models = await self._loaded(tenant, ROWS, rows, models)
            if models.epoch.id != rows:  # they cannot be read; all others are of these rows
                return models
        for name in sorted(set(models.versions) - set(wanted)):
            models = self._held[tenant] = _without(models, name)
        for name, id in sorted(wanted.items()):
            if models.versions.get(name) != id:
                models = await self._loaded(tenant, name, id, models)
                if not moves:
                    self._held[tenant] = models
        self._held[tenant] = models
        return models

    async def _wanted(self, tenant: str) -> dict[str, str]:
        """The ids that `versions` should have."""
        found = await self._registry.pointers(tenant)
        wanted = {**{n: p.live for n, p in found.items()}, SHADOW: found.get(RANKER, Pointer()).shadow}
        return {n: id for n, id in wanted.items() if id and (n in self._names or n == ROWS)}

    async def embedder_of(self, tenant: str) -> Embedder | None:
        """The live embedder, at most POLL_S old: for a flow, which may wait."""
        now = asyncio.get_running_loop().time()
        if now - self._looked_at.get(tenant, float("-inf")) > POLL_S:
            await self.refresh(tenant)
            self._looked_at[tenant] = now
        return self.of(tenant).embedder

    async def _loaded(self, tenant: str, name: str, id: str, models: Models) -> Models:
        """`models` with this version, or as they are when it cannot serve."""
        if (tenant, name, id) in self._refused:
            return models
        try:
            version = await self._registry.get(tenant, RANKER if name == SHADOW else name, id)
            found = await loaded(self._registry, tenant, version, models, name)
            return await asyncio.to_thread(self._moved, found, name)
        except Unavailable:  # the store's fault and not the version's: it is tried again
            raise
        except Exception as e:  # whatever a foreign artifact can raise: what is live must go on
            self._refused.add((tenant, name, id))
            logger.error(
                "a version cannot be served; what was live goes on", extra={"version": id, "why": str(e)[:300]}
            )
            return models

    def _moved(self, models: Models, name: str) -> Models:
        if self._move is None:
            return models
        if name == RANKER and models.ranker is not None:
            return replace(models, ranker=self._move(models.ranker))
        mine = {k: self._move(r) if OF_KIND[k] == name else r for k, r in models.rankers.items()}
        return replace(models, rankers=mine)

    async def follow(self) -> None:
        while True:
            for tenant in self.tenants():
                try:
                    await self.refresh(tenant)
                except (LemoError, OSError) as e:
                    logger.warning("the registry cannot be read", extra={"tenant": tenant, "why": str(e)[:200]})
                except Exception:  # of ours: it may not end this loop for every tenant
                    logger.exception("versions cannot be followed", extra={"tenant": tenant})
            await asyncio.sleep(POLL_S)


async def loaded(registry: Registry, tenant: str, version: Version, models: Models, name: str = "") -> Models:
    """`models` with this version, as `name` where that is not its own. Raises OtherEpoch for one that has other rows,
    BrokenArtifact, and whatever a foreign artifact can raise."""
    if version.name != ROWS and epoch_of(version) != models.epoch.id:
        raise OtherEpoch(version.name, version.id, epoch_of(version), models.epoch.id)
    arrays = await registry.load(tenant, version)
    return await asyncio.to_thread(_with, models, version, arrays, name or version.name)


async def tried(registry: Registry, tenant: str, version: Version) -> str:
    """Why a replica could not serve this version; "" when it loads and answers."""
    try:
        arrays = await registry.load(tenant, version)
        await asyncio.to_thread(_with, Models(), version, arrays, version.name)
    except Unavailable:
        raise
    except Exception as e:  # whatever a foreign artifact can raise
        return f"{type(e).__name__}: {e}"[:300]
    return ""


def _without(models: Models, name: str) -> Models:
    """As before its first version."""
    left = replace(models, versions={n: id for n, id in models.versions.items() if n != name})
    if name == EMBEDDER:
        return replace(left, embedder=None, base=None)
    if name == RANKER:
        return replace(left, ranker=None)
    if name == SHADOW:
        return replace(left, shadow=None)
    if name in OF_KIND.values():
        return replace(left, rankers={k: r for k, r in models.rankers.items() if OF_KIND[k] != name})
    return replace(left, recallers={n: r for n, r in models.recallers.items() if n != name})


def _with(models: Models, version: Version, arrays: Arrays, name: str) -> Models:
    """Loads and warms up; the heavy imports happen here, off the event loop."""
    loaded = LOADERS[name](models, version, arrays)
    return replace(loaded, versions={**loaded.versions, name: version.id})


def _rows(models: Models, version: Version, arrays: Arrays) -> Models:
    """Nothing but them: what was live with the rows before cannot serve with these."""
    return Models(epoch=Epoch(version.id, arrays[ROWS]), before=replace(models, before=None))


def _embedder(models: Models, version: Version, arrays: Arrays) -> Models:
    base: Any = arrays.get(VECTORS)
    if version.about.get("kind") == "sentence":
        from ray_app.models.sentence import SentenceEmbedder

        return replace(models, embedder=SentenceEmbedder(Path(version.about["path"])), base=base)
    from ray_app.models.text import TextEmbedder

    embedder = TextEmbedder.load(arrays)
    embedder.embed(["warm up"])
    return replace(models, embedder=embedder, base=base)


def _recaller(models: Models, version: Version, arrays: Arrays) -> Models:
    found = RECALLERS[version.name].load(arrays)
    return replace(models, recallers={**models.recallers, version.name: found})


def _ranker(models: Models, version: Version, arrays: Arrays) -> Models:
    return replace(models, ranker=ranker_of(version, arrays))


def _of_kind(models: Models, version: Version, arrays: Arrays) -> Models:
    kind = version.name.removeprefix(f"{RANKER}.")
    return replace(models, rankers={**models.rankers, kind: ranker_of(version, arrays)})


def _shadow(models: Models, version: Version, arrays: Arrays) -> Models:
    return replace(models, shadow=ranker_of(version, arrays))


def ranker_of(version: Version, arrays: Arrays) -> Ranker:
    """Warmed up. Raises BrokenArtifact for one of another view or kind, and whatever foreign arrays can."""
    from ray_app.features.view import NAMES

    about: Any = version.about
    return load(version.id, about.get("kind", ""), about.get("features", ()), NAMES, arrays)


LOADERS: Mapping[str, Callable[[Models, Version, Arrays], Models]] = MappingProxyType(
    {
        ROWS: _rows,
        EMBEDDER: _embedder,
        RANKER: _ranker,
        SHADOW: _shadow,
        **dict.fromkeys(OF_KIND.values(), _of_kind),
        **dict.fromkeys(RECALLERS, _recaller),
    }
)
