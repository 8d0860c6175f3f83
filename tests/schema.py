"""docs/protocol.schema.json, stricter than it is: a field it does not know is an error, so that it stays complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

PATH = Path(__file__).parent.parent / "docs/protocol.schema.json"
SCHEMA: dict[str, Any] = json.loads(PATH.read_text("utf-8"))
CLOSED = {
    name: definition | ({"additionalProperties": False} if "properties" in definition else {})
    for name, definition in SCHEMA["$defs"].items()
}


def validator(name: str) -> Draft202012Validator:
    """What checks values against one of the definitions."""
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": CLOSED})


_SERVER = validator("server")


def checked(message: dict[str, Any]) -> dict[str, Any]:
    """A message of the server, which the schema must know entirely."""
    _SERVER.validate(message)
    return message
