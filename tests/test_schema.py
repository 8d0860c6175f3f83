"""docs/protocol.schema.json against what is really sent; what other tests hear goes through it too."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from schema import SCHEMA, checked, validator
from test_hub import GAP, HELLO, final, hub_of, partial
from test_server import captions
from test_sessions import END, VOICES, config, everything, serving, speaking
from waiting import asynchronous

from streamer.events import PROTOCOL
from streamer.model import AcousticModel
from streamer.server import serve
from streamer.session_config import Config, ConfigError, load_config

DOCS = Path(__file__).parent.parent / "docs"
CONFIG = SCHEMA["$defs"]["config"]["properties"]
SERVER_TYPES = {part["$ref"].rpartition("/")[2] for part in SCHEMA["$defs"]["server"]["oneOf"]}


def test_the_schema_is_one_and_of_this_version() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["hello"]["properties"]["protocol"]["const"] == PROTOCOL
    assert f"version {PROTOCOL}" in SCHEMA["title"]


@asynchronous
async def test_all_that_sessions_hear_is_in_the_schema(model: AcousticModel) -> None:
    heard = []
    async with serving(model) as (address, _):
        for messages in (
            [VOICES[0].tobytes(), END],
            [config(words=False, sample_rate=8000), VOICES[1].tobytes(), END],
            ["nonsense"],
        ):
            async with speaking(address) as client:
                for message in messages:
                    await client.send(message)
                heard += await everything(client)
    assert {checked(message)["type"] for message in heard} == SERVER_TYPES - {"gap"}


@asynchronous
async def test_all_that_readers_of_captions_hear_is_in_the_schema() -> None:
    hub = hub_of(HELLO, final(0), GAP, partial(1, "now"))
    async with serve(hub, port=0) as address, captions(address) as client:
        heard = [json.loads(await client.recv()) for _ in range(4)]
        await client.send("hello?")
        heard += await everything(client)
    assert {checked(message)["type"] for message in heard} == SERVER_TYPES


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "error"},
        {"type": "error", "message": "no", "code": 1},
        {"type": "farewell"},
        {"type": "gap", "start": -1, "end": 0, "reason": "x"},
        {"type": "final", "segment": 0, "start": 0, "end": 1, "text": "a", "words": [{"text": "a"}]},
    ],
)
def test_what_the_server_does_not_say_is_not_in_the_schema(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        checked(wrong)


def test_the_examples_of_the_document_are_in_the_schema() -> None:
    text = DOCS.joinpath("protocol.md").read_text("utf-8")
    examples = re.findall(r"^```json\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert {checked(json.loads(example))["type"] for example in examples} == SERVER_TYPES
    configs = re.findall(r'^ *(\{"type":"config".*\})$', text, re.MULTILINE)
    assert configs
    for example in [*configs, END]:
        validator("client").validate(json.loads(example))


def test_the_defaults_of_a_configuration_are_those_of_the_server() -> None:
    defaults = {name: fact["default"] for name, fact in CONFIG.items() if name != "type"}
    assert load_config(defaults) == load_config({}) == Config()
    assert defaults.keys() <= {field.name for field in dataclasses.fields(Config)}


ANY = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=3)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "sample_rate": st.sampled_from([3999, 4000, 44100, 192_000, 192_001]),
    "format": st.sampled_from(["s16le", "f32le", "u8"]),
    "partials": st.booleans(),
    "words": st.booleans(),
    "hotwords": st.lists(st.sampled_from(["", "a b ", "ä" * 40, "ä" * 41, " c\n", 7])),
    "pause_seconds": st.sampled_from([0, 0.09, 0.1, 1, 9.5, 10, 11]),
    "colour": st.just("red"),
}


def not_whole(value: Any) -> bool:
    """JSON Schema holds 4000.0 to be a whole number, the server does not."""
    return not (isinstance(value, float) and value.is_integer())


@settings(deadline=None)
@given(st.fixed_dictionaries({}, optional={name: value | ANY.filter(not_whole) for name, value in VALUES.items()}))
def test_the_schema_and_the_server_take_the_same_configurations(facts: dict[str, Any]) -> None:
    try:
        load_config(facts)
        taken = True
    except ConfigError:
        taken = False
    assert validator("client").is_valid({"type": "config"} | facts) == taken
