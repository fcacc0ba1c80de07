"""The models -> a JSON Schema of the file: editors complete keys, explain keys and mark mistakes.

The schema describes the file as written: before variables, shorthands and inheritance.  Contradictions between keys,
and the conversions of YAML, are found by `exporter.config.read`.
"""

import ast
import inspect
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from exporter.config.contradictions import WITH_ROWS
from exporter.config.whole import CONFIG, MODELS
from exporter.model.sections import Section

_WITH_VARIABLE: Final = {"type": "string", "pattern": r"\$\{"}
_DECIMALS: Final = {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?$|^[0-9]{1,3}(\.[0-9]{1,9})? ?%$|\$\{"}
_DIGITS: Final = {"type": "string", "pattern": r"^[0-9]{1,9}$|\$\{"}


def config_schema() -> dict[str, Any]:
    """The schema, in draft 2020-12."""
    made = CONFIG.model_json_schema(schema_generator=_AsWritten)
    sections = made["$defs"]
    pipeline, record = sections["Pipeline"], sections["Record"]
    # Shorthand and inheritance, as `exporter.config.read` settles them.
    pipeline["required"] = [key for key in pipeline["required"] if key not in {"database", "interval"}]
    del record["properties"]["grace"]["default"]
    shorthand = {"$ref": "#/$defs/Database", "description": "The database, if the file has only one."}
    # Contradictions between keys that a schema can express.
    sections["Database"]["dependentSchemas"] = {"url": {"properties": {"url_file": False}}}
    for name in ("CountThresholds", "RatioThresholds", "AgeThresholds"):
        sections[name]["anyOf"] = [{"required": ["warning"]}, {"required": ["critical"]}]
    sections["Window"]["oneOf"] = [{"required": ["since"]}, {"required": ["last"]}]
    del record["required"]
    record["anyOf"] = [{"required": ["table", "session_key"]}, {"required": ["exists"]}]
    excluded = sorted({*WITH_ROWS, "table", "session_key"})
    record["dependentSchemas"] = {"exists": {"properties": dict.fromkeys(excluded, False)}}
    for model in MODELS:
        for old, new in model.renamed.items():
            section = sections[model.__name__]
            keys = section["properties"]
            keys[old] = {**keys[new], "description": f"Former name of {new}.", "deprecated": True}
            section.setdefault("dependentSchemas", {})[new] = {"properties": {old: False}}
    for section in (made, *sections.values()):
        for key in section["properties"].values():
            if default := key.get("default"):
                key["description"] += f" Default: {default}."
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$comment": "Generated from exporter/model and exporter/dimensions by `make generate`: change it there.",
        "title": "Config of the session-health-exporter",
        "type": "object",
        "properties": {"database": shorthand, **made["properties"]},
        "required": ["pipelines"],
        "oneOf": [{"required": ["database"]}, {"required": ["databases"]}],
        "if": {"properties": {"databases": {"minProperties": 2}}, "required": ["databases"]},
        "then": {"properties": {"pipelines": {"additionalProperties": {"required": ["database"]}}}},
        "additionalProperties": False,
        "$defs": sections,
    }


def _told_below(model: type) -> dict[str, str]:
    """The docstring of each key of a section.  Pydantic's own way would read the sources at every start."""
    found = {}
    for part in model.__mro__:
        # A model composed of dimensions has no source; its base class has.
        if issubclass(part, Section) and part.__module__ != CONFIG.__module__:
            [definition] = ast.parse(inspect.getsource(part)).body
            for key, text in pairwise(definition.body if isinstance(definition, ast.ClassDef) else []):
                match key, text:
                    case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(said))):
                        found[name] = inspect.cleandoc(said)
    return found


class _AsWritten(GenerateJsonSchema):
    """Describes the values of a file, not the values of the models."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Without null: a file leaves the key out."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """The default of the model, except None."""
        made = super().default_schema(schema)
        return {key: value for key, value in made.items() if (key, value) != ("default", None)}

    def encode_default(self, dft: Any) -> Any:  # noqa: ANN401 - a default is anything
        """A duration as a file has it, such as 30s or 5m."""
        if not isinstance(dft, timedelta):
            return super().encode_default(dft)
        minutes, rest = divmod(dft, timedelta(minutes=1))
        return f"{minutes}m" if minutes and not rest else f"{dft.total_seconds():g}s"

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        """A whole number, or a text with a variable."""
        return {"anyOf": [super().int_schema(schema), _DIGITS]}

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        """A number, or a text with a variable."""
        return {"anyOf": [super().float_schema(schema), _DECIMALS]}

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        """One of the values, or a text with a variable."""
        return {"anyOf": [super().literal_schema(schema), _WITH_VARIABLE]}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Only names that match the pattern."""
        return {**super().dict_schema(schema), "additionalProperties": False}

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Without the class name as title; with the docstrings of the keys."""
        made = super().model_schema(schema)
        made.pop("title")
        for key, text in _told_below(schema["cls"]).items():
            made["properties"][key].setdefault("description", text)
        return made

    def field_title_should_be_set(self, schema: core_schema.CoreSchema | Any) -> bool:  # noqa: ANN401, ARG002
        """No: the key is the title."""
        return False
