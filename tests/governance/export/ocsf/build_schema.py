"""Makes `ocsf.schema.json` from a checkout of github.com/ocsf/ocsf-schema.

    python build_schema.py CHECKOUT COMMIT > ocsf.schema.json

The published schema is a set of JSON files with inheritance, includes and a dictionary, which no JSON Schema validator reads.
This resolves them for the classes that AIP exports, as the schema's own server does:

    extends        a class or object has what its parent has; its own words win
    $include       attributes of a profile, only where that profile is among `PROFILES`
    dictionary     the type of an attribute, whether it is an array, and its enum; a class may add values
    constraints    at_least_one, just_one
    unknown names  refused (`additionalProperties: false`), so that a misspelt attribute is found

Only objects the classes reach stay in the result. Nothing of AIP goes into it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CLASSES = {
    "base_event": 0,
    "detection_finding": 2004,
    "incident_finding": 2005,
    "entity_management": 3004,
    "user_management": 3007,
    "application_lifecycle": 6002,
    "api_activity": 6003,
    "application_error": 6008,
}
PROFILES = {"record_integrity", "ai_operation", "security_control", "incident"}
PRIMITIVES = {
    "boolean_t": "boolean",
    "float_t": "number",
    "integer_t": "integer",
    "long_t": "integer",
    "string_t": "string",
}
Json = dict[str, Any]


class Checkout:
    def __init__(self, root: Path) -> None:
        self.root = root
        dictionary = self.read("dictionary.json")
        self.attributes: Json = dictionary["attributes"]
        self.types: Json = dictionary["types"]["attributes"]
        self.categories: Json = self.read("categories.json")["attributes"]
        self.events = self._all("events")
        self.objects = self._all("objects")

    def read(self, path: str) -> Json:
        found: Json = json.loads((self.root / path).read_text(encoding="utf-8"))
        return found

    def _all(self, folder: str) -> dict[str, Json]:
        found = (
            json.loads(path.read_text(encoding="utf-8"))
            for path in sorted((self.root / folder).rglob("*.json"))
        )
        return {one["name"]: one for one in found if "name" in one}

    def resolved(self, family: dict[str, Json], name: str) -> Json:
        """A class or an object with all it inherits and includes."""
        own = family[name]
        parent = (
            self.resolved(family, own["extends"]) if "extends" in own and own["extends"] in family else {}
        )
        attributes = {key: dict(value) for key, value in parent.get("attributes", {}).items()}
        for include in own.get("attributes", {}).get("$include", ()):
            profile = self.read(include)
            if profile["name"] in PROFILES:
                for key, value in profile["attributes"].items():
                    self._add(attributes, key, value)
        for key, value in own.get("attributes", {}).items():
            if key != "$include" and (value.get("profile") is None or value["profile"] in PROFILES):
                self._add(attributes, key, value)
        return {**parent, **own, "attributes": attributes}

    @staticmethod
    def _add(attributes: Json, key: str, value: Json) -> None:
        known = attributes.get(key, {})
        enum = {**known.get("enum", {}), **value.get("enum", {})}
        attributes[key] = {**known, **value, **({"enum": enum} if enum else {})}


class Builder:
    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        self.definitions: Json = {}

    def attribute(self, name: str, stated: Json) -> Json:
        known = self.checkout.attributes.get(name, {})
        type_name = stated.get("type", known.get("type", "string_t"))
        schema = self.type(type_name)
        if type_name in ("integer_t", "string_t") and (
            enum := {**known.get("enum", {}), **stated.get("enum", {})}
        ):
            values = [int(value) if type_name == "integer_t" else value for value in enum]
            if name not in ("class_uid", "category_uid"):
                schema = {**schema, "enum": values}
        return {"type": "array", "items": schema} if known.get("is_array") else schema

    def type(self, name: str) -> Json:
        if name not in self.checkout.types:
            return self.object(name)
        found = self.checkout.types[name]
        primitive = found.get("type", name)
        schema: Json = {"type": PRIMITIVES[primitive]} if primitive in PRIMITIVES else {}
        if "regex" in found:
            schema["pattern"] = found["regex"]
        if "max_len" in found:
            schema["maxLength"] = found["max_len"]
        if "range" in found:
            schema["minimum"], schema["maximum"] = found["range"]
        return schema

    def object(self, name: str) -> Json:
        if name == "object":
            return {"type": "object"}
        if name not in self.definitions:
            self.definitions[name] = {}  # Objects name each other in circles.
            self.definitions[name] = self.body(self.checkout.resolved(self.checkout.objects, name))
        return {"$ref": f"#/$defs/{name}"}

    def body(self, found: Json) -> Json:
        attributes = found["attributes"]
        schema: Json = {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: self.attribute(name, stated) for name, stated in sorted(attributes.items())},
            "required": sorted(
                name for name, one in attributes.items() if one.get("requirement") == "required"
            ),
        }
        for rule, keyword in (("at_least_one", "anyOf"), ("just_one", "oneOf")):
            if names := found.get("constraints", {}).get(rule):
                schema[keyword] = [{"required": [name]} for name in names]
        return schema

    def event(self, name: str, uid: int) -> Json:
        found = self.checkout.resolved(self.checkout.events, name)
        category = self.checkout.categories.get(found["category"], {"uid": 0})["uid"]
        stated = category * 1000 + found.get("uid", 0)
        if stated != uid:
            raise SystemExit(f"{name} is class {stated} here, not {uid}")
        schema = self.body(found)
        activities = [
            int(one)
            for one in {
                **self.checkout.attributes["activity_id"]["enum"],
                **found["attributes"]["activity_id"]["enum"],
            }
        ]
        schema["properties"]["class_uid"] = {"const": uid}
        schema["properties"]["category_uid"] = {"const": category}
        schema["properties"]["type_uid"] = {"enum": [uid * 100 + activity for activity in sorted(activities)]}
        return schema


def main(root: Path, commit: str) -> None:
    checkout = Checkout(root)
    builder = Builder(checkout)
    events = {str(uid): builder.event(name, uid) for name, uid in CLASSES.items()}
    version = checkout.read("version.json")["version"]
    json.dump(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$comment": f"Made by build_schema.py from github.com/ocsf/ocsf-schema {version} at {commit} (Apache-2.0).",
            "events": events,
            "$defs": builder.definitions,
        },
        sys.stdout,
        separators=(",", ":"),
        sort_keys=True,
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
