"""A custom resource against its definition, as the API server would read it: defaults applied, unknown keys refused.

CEL rules (`x-kubernetes-validations`) are not evaluated; the controller's own rules stand in `kuberay.py`.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from tests.shape.tree import ROOT

CRDS = ROOT.parent / "shared" / "crds"


@cache
def schema(plural: str, version: str = "v1") -> dict[str, Any]:
    """The schema of this version in `ray.io_<plural>.yaml`."""
    definition = yaml.load((CRDS / f"ray.io_{plural}.yaml").read_text(), yaml.CSafeLoader)
    found = [v for v in definition["spec"]["versions"] if v["name"] == version]
    return dict(found[0]["schema"]["openAPIV3Schema"])


def present() -> bool:
    return CRDS.is_dir()


def problems(document: Any, rules: dict[str, Any]) -> list[str]:
    """Every way in which the document breaks the schema, with its place in the document."""
    filled = with_defaults(document, rules)
    found = Draft202012Validator(strict(rules)).iter_errors(filled)
    return [f"{'.'.join(str(p) for p in e.absolute_path)}: {e.message}" for e in found]


def with_defaults(value: Any, rules: dict[str, Any]) -> Any:
    """A copy with the server's defaults: what is "required" in the schema may be left out where a default stands."""
    if isinstance(value, dict):
        fields, rest = rules.get("properties", {}), rules.get("additionalProperties")
        filled = {k: copy.deepcopy(f["default"]) for k, f in fields.items() if "default" in f and k not in value}
        known = {k: fields.get(k, rest if isinstance(rest, dict) else {}) for k in value}
        return {**{k: with_defaults(v, known[k]) for k, v in value.items()}, **filled}
    if isinstance(value, list):
        return [with_defaults(v, rules.get("items", {})) for v in value]
    return value


def strict(rules: Any) -> Any:
    """A copy that refuses unknown keys and knows what the server means by an int-or-string."""
    if isinstance(rules, list):
        return [strict(r) for r in rules]
    if not isinstance(rules, dict):
        return rules
    out = {k: strict(v) for k, v in rules.items()}
    if rules.get("x-kubernetes-int-or-string") is True:
        out.pop("type", None)
    closed = isinstance(rules.get("properties"), dict) and "type" in rules
    if closed and "additionalProperties" not in rules and not rules.get("x-kubernetes-preserve-unknown-fields"):
        out["additionalProperties"] = False
    return out
