"""config.yaml -> Config, or every problem of the file at once, with place and remedy.

No message quotes a text of the file or a variable: any text may be a secret.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

import yaml
from pydantic import ValidationError

from exporter.config.contradictions import contradictions
from exporter.config.whole import CONFIG, KEYS, NEEDS, sections_in
from exporter.model.sections import CollectionSettings, Config, Database, Pipeline, Record, Section
from exporter.model.values import KeyPath
from exporter.text.exits import UsageError
from exporter.text.files import MB, FileRefusedError, read_text
from exporter.text.names import known_names, nearest

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Section)

LARGEST: Final = MB
"""Bytes of a config: 250 pipelines of the size of the tour.  Reading YAML takes 8 CPU seconds for each MB."""
MOST_LISTED: Final = 100
"""Problems of a message: a log and an answer have it, too."""
_LIKE_A_URL: Final = re.compile(r"://|:[^@]*@")
_LONGEST_STEP: Final = 100
"""Characters of a key in a message."""
MAX_DEPTH: Final = 20
"""Levels: twice the depth of a config.  The YAML reader is recursive."""

# As in a shell: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_06_02
_VARIABLE: Final = re.compile(r"\$(?:\$|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<wrong>\{))")

_YAML: Final = "tag:yaml.org,2002:"
_NULL_TAG: Final = f"{_YAML}null"
_TEXT_TAGS: Final = frozenset({f"{_YAML}str", f"{_YAML}value", f"{_YAML}merge"})
_KINDS: Final = {
    f"{_YAML}int": "a number",
    f"{_YAML}float": "a number",
    f"{_YAML}bool": "a boolean",
    f"{_YAML}timestamp": "a date",
    _NULL_TAG: "no value",
}
_ALIAS_TAG: Final = "*"
_NO_ALIASES: Final = (
    "anchors (&) and aliases (*) are not supported: write the value out, or quote text that begins with & or *"
)
_NO_TAGS: Final = (
    "tags (!) are not supported: remove the tag, or quote text that begins with !; for a variable write ${NAME}"
)

_SYNTAX: Final = (
    ("'\\t'", "the line is indented with a tab: use spaces"),
    ("another document", "a second document begins: keep one, and remove the ---"),
    ("tag handle", _NO_TAGS),
    (
        "mapping values are not allowed",
        "one colon too many, or a wrong indent: quote text with a colon and a space",
    ),
    (
        "could not find expected ':'",
        "a key has no colon, or a continued text has no indent: add the colon or the indent",
    ),
    (
        "expected <block end>",
        "the indent differs from the lines around it, or text follows a closing quote: align, or quote the whole text",
    ),
    ("expected ',' or", 'a bracket is not closed, or text inside brackets needs quotes, such as "${NAME}"'),
    ("cannot start any token", "text that begins with this character needs quotes"),
    ("unexpected end of stream", "a quote is not closed: close it"),
    ("unknown escape character", "a backslash in double quotes begins an escape: use single quotes"),
)

_MESSAGES: Final = {
    "string_type": "must be text: quote it, above all if it begins with [ or {",
    "too_short": "is empty: name at least one",
    "dict_type": "must be a mapping: write a name, a colon and a value for each entry",
    "tuple_type": "must be a list: write the values in [ ]",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
}
"""Messages by the error type of pydantic: https://docs.pydantic.dev/latest/errors/validation_errors/"""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: the path of keys (empty for the file), the fault with the remedy, and the line (None if unknown)."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.path}: {self.message}" if self.path else f"{place}{self.message}"


class ConfigError(UsageError):
    """The file cannot be used; `problems` has every mistake, in the order of the file."""

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        self.source = source
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = [f"{source}: {count}", *(f"  {problem}" for problem in problems[:MOST_LISTED])]
        if len(problems) > MOST_LISTED:
            lines.append(f"  and {len(problems) - MOST_LISTED} more: correct the first {MOST_LISTED} problems")
        super().__init__("\n".join(lines))

    @property
    def said(self) -> str:
        """The source, and one line for every problem."""
        return str(self)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A config, and `shown`: the text of the file for people without comments, secrets and values of variables."""

    config: Config
    shown: str


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Read the file at `path`; raises ConfigError."""
    return load_and_show(path, environ).config


def load_and_show(path: Path, environ: Mapping[str, str]) -> Loaded:
    """Read the file at `path`, also for people; raises ConfigError."""
    try:
        text = read_text(path, LARGEST)
    except OSError as error:
        absent = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
        remedy = "name the file with --config.file" if absent else "check its permissions"
        raise ConfigError(str(path), (Problem("", f"cannot be read ({error.strerror}): {remedy}"),)) from None
    except FileRefusedError as error:
        remedy = "save the config as a file of its own, and name the file with --config.file"
        raise ConfigError(str(path), (Problem("", f"is {error}: {remedy}"),)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), (Problem("", f"is not UTF-8 at byte {error.start}: save it as UTF-8"),)) from None
    return Loaded(parse_config(text, environ, source=str(path)), _masked(text))


_HIDDEN: Final = frozenset({"url", "url_file", "password_file", "state_dir", "pause_file"})
"""Keys with a secret, or with a path of the host."""
_ONLY_A_VARIABLE: Final = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


def _masked(text: str) -> str:
    """A valid config without comments and secrets, with variables as written."""
    root = _Loader(text).get_single_node()
    left = [root]
    while left:
        node = left.pop()
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value in _HIDDEN and not _ONLY_A_VARIABLE.fullmatch(str(value.value)):
                    value.value, value.style = "<secret>", None
                left.append(value)
        elif isinstance(node, yaml.SequenceNode):
            left += node.value
    shown: str = yaml.serialize(root, Dumper=yaml.SafeDumper, allow_unicode=True, width=120)
    return shown


def parse_sections(
    text: str,
    model: type[S],
    source: str,
    is_secret: Callable[[KeyPath], bool],
    contradictions: Callable[[Mapping[str, Any]], Iterable[tuple[KeyPath, str]]],
) -> S:
    """Read the text of another file into `model`, with neither variables nor shorthand.  Raises ConfigError.

    `is_secret` says which keys have a secret.  `contradictions` gets the values as written, also invalid values.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        raise ConfigError(source, (_syntax_problem(error, text),)) from None
    known = ", ".join(_known_keys(model))
    if root is None or root.tag == _NULL_TAG:
        raise ConfigError(source, (Problem("", f"is empty: write at least one of {known}"),))
    reading = _Reading(None, loader.anchored, model, is_secret)
    written = reading.read(root, ())
    found = None
    if isinstance(written, dict):
        try:
            found = model.model_validate(written)
        except ValidationError as error:
            reading.report_invalid(error, written)
        for path, message in contradictions(written):
            reading.report(path, message)
    else:
        reading.report((), f"must be a mapping with the keys {known}")
    if reading.found or found is None:
        raise ConfigError(source, reading.problems)
    return found


def parse_config(text: str, environ: Mapping[str, str], source: str = "config") -> Config:
    """Read the text of a config; `environ` fills `${VAR}` and `${VAR:-default}`.  Raises ConfigError."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        raise ConfigError(source, (_syntax_problem(error, text),)) from None
    if root is None or root.tag == _NULL_TAG:
        raise ConfigError(source, (Problem("", "is empty: start from the commented example config.yaml"),))
    reading = _Reading(environ, loader.anchored, CONFIG, _is_secret)
    written = reading.read(root, ())
    config = None
    if isinstance(written, dict):
        settled = _settle(written)
        reading.rename(settled, CONFIG, ())
        try:
            config = CONFIG.model_validate(settled)
        except ValidationError as error:
            reading.report_invalid(error, settled)
        for path, message in contradictions(settled, NEEDS, KEYS):
            reading.report(reading.as_written(path), message)
        for path in reading.marks:
            if path[-1:] == ("name",) and issubclass(_section(path[:-1]) or Section, Pipeline | Record):
                reading.report(path, "is not a key: the name is the key above; remove this line")
    else:
        reading.report((), "must be a mapping: begin with databases: and pipelines:")
    if reading.found or config is None:
        raise ConfigError(source, reading.problems)
    for path, old in reading.renamed.items():
        log.warning(
            "config.deprecated",
            extra={
                "file": source,
                "key": dotted(reading.as_written(path)),
                "error": f"{old} is now {path[-1]}: rename the key, because a later release refuses the old name",
            },
        )
    return config


def parse_database(url: str | None, source: str) -> Database:
    """A database with only a URL, or None for the PG* variables; raises ConfigError."""
    try:
        return Database(url=url)
    except ValidationError as error:
        [detail] = error.errors(include_url=False, include_input=False)
        messages = map(str, detail["ctx"]["error"].args)
        raise ConfigError(source, tuple(Problem("", message) for message in messages)) from None


class _Loader(yaml.SafeLoader):
    """YAML text -> a tree of bounded depth; an alias becomes a leaf."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.anchored: set[yaml.Node] = set()
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            return yaml.ScalarNode(_ALIAS_TAG, "", event.start_mark, event.end_mark)
        if self._depth == MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MAX_DEPTH} levels: remove levels", problem_mark=event.start_mark
            )
        self._depth += 1
        self.anchors.clear()
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and event.anchor is not None:
            self.anchored.add(node)
        return node


def _syntax_problem(error: yaml.YAMLError, text: str) -> Problem:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Problem(
            "", f"the control character U+{error.character:04X}: remove it, and save the file as UTF-8", line
        )
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem is None:
        return Problem("", "is not YAML: compare with the commented example config.yaml")
    problem = error.problem
    message = next((remedy for symptom, remedy in _SYNTAX if symptom in problem), problem)
    mark, start = error.problem_mark or error.context_mark, error.context_mark
    if mark and start and start.line < mark.line and "document" not in problem:
        message += f" (the block begins in line {start.line + 1})"
    return Problem("", f"not YAML: {message}", mark.line + 1 if mark else None)


@dataclass(slots=True)
class _Reading:
    """The state of reading a file: nodes -> plain values, with the places and the problems so far.

    `environ` is None for a file without variables.  `model` is the model of the whole file.
    """

    environ: Mapping[str, str] | None
    anchored: set[yaml.Node]
    model: type[Section]
    is_secret: Callable[[KeyPath], bool]
    marks: dict[KeyPath, yaml.Mark] = field(default_factory=dict)
    scalars: dict[KeyPath, yaml.ScalarNode] = field(default_factory=dict)
    unset: set[str] = field(default_factory=set)
    unreadable: set[KeyPath] = field(default_factory=set)
    found: list[tuple[int, Problem]] = field(default_factory=list)
    renamed: dict[KeyPath, str] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems in the order of the file."""
        return tuple(problem for _, problem in sorted(self.found, key=lambda entry: entry[0]))

    def report(self, path: KeyPath, message: str, mark: yaml.Mark | None = None) -> None:
        """Add a problem, unless `refuse` has already rejected the value at `path`."""
        if path in self.unreadable:
            return
        if mark is None:
            mark = next(self.marks[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.marks)
        self.found.append((mark.index, Problem(dotted(path), message, mark.line + 1 if path else None)))

    def refuse(self, path: KeyPath, message: str, mark: yaml.Mark | None = None) -> None:
        """Add a problem, and ignore further problems at `path`."""
        self.report(path, message, mark)
        self.unreadable.add(path)

    def read(self, node: yaml.Node, path: KeyPath) -> Any:  # noqa: ANN401 - YAML
        """The value of a node with variables filled in; None if the node cannot be read."""
        self.marks.setdefault(path, node.start_mark)
        if node in self.anchored:
            self.report(path, _NO_ALIASES, node.start_mark)
        if self.is_secret(path) and not isinstance(node, yaml.ScalarNode):
            # Parts of a URL without quotes would become keys, and messages show keys.
            self.refuse(path, _MESSAGES["string_type"])
            return None
        match node:
            case yaml.MappingNode(tag="tag:yaml.org,2002:map"):
                return dict(self._items(node, path))
            case yaml.SequenceNode(tag="tag:yaml.org,2002:seq"):
                return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
            case yaml.ScalarNode() if node.tag in _TEXT_TAGS:
                return self._expand(node.value, path)
            case yaml.ScalarNode() if node.tag in _KINDS:
                return self._plain(node, path)
        self.refuse(path, _NO_ALIASES if node.tag == _ALIAS_TAG else _NO_TAGS, node.start_mark)
        return None

    def _items(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, Any]]:
        for key, value in node.value:
            mark = key.start_mark
            if not isinstance(key, yaml.ScalarNode):
                self.refuse(path, "a key must be text: quote text that begins with { or [", mark)
                continue
            if key.tag == f"{_YAML}merge":
                self.refuse(path, "merge keys (<<) are not supported: write the keys out", mark)
                continue
            place = (*path, key.value)
            if place in self.marks:
                self.report(place, f"is written twice, first in line {self.marks[place].line + 1}: keep one", mark)
                continue
            self.marks[place] = mark
            if key.tag in _KINDS:
                self.report(place, f'YAML reads this key as {_KINDS[key.tag]}: write "{key.value}"')
            elif key.tag not in _TEXT_TAGS:
                self.report(place, _NO_ALIASES if key.tag == _ALIAS_TAG else _NO_TAGS)
            yield key.value, self.read(value, place)

    def _plain(self, node: yaml.ScalarNode, path: KeyPath) -> Any:  # noqa: ANN401 - YAML
        self.scalars[path] = node
        if node.tag == _NULL_TAG:
            meant = f' (write "{node.value}" for this text)' if node.value and not self.is_secret(path) else ""
            self.refuse(path, f"has no value: write a value{meant}, or remove the key ({{}} is an empty section)")
            return None
        try:
            return yaml.constructor.SafeConstructor().construct_object(node)
        except ValueError:  # looks like a date but is not, such as 2025-13-01
            return node.value

    def _expand(self, text: str, path: KeyPath) -> str:
        """Fill in the variables, after parsing: a value never becomes YAML structure."""
        environ = self.environ
        if environ is None:
            return text

        def fill(match: re.Match[str]) -> str:
            name = match["name"]
            return "$" if name is None else environ.get(name) or match["default"] or ""

        variables = list(_VARIABLE.finditer(text))
        unset = dict.fromkeys(
            found["name"]
            for found in variables
            if found["name"] and found["default"] is None and not environ.get(found["name"])
        )
        for name in unset:
            if name not in self.unset:
                state = "empty" if name in environ else "not set"
                self.report(path, f"the environment variable {name} is {state}: set it, or write ${{{name}:-default}}")
        is_wrong = any(found["wrong"] for found in variables)
        if is_wrong:
            self.report(path, "has ${ without a name and a }: write ${NAME} or ${NAME:-default}, or $${ for a plain ${")
        if is_wrong or unset:
            self.unreadable.add(path)
        self.unset.update(unset)
        return _VARIABLE.sub(fill, text)

    def rename(self, value: Any, model: Any, path: KeyPath) -> None:  # noqa: ANN401 - YAML, and the type of a field
        """Rename former keys below `path`, in place; `model` is the type of the value."""
        if not isinstance(value, dict):
            return
        if get_origin(model) is dict:
            for name, item in value.items():
                self.rename(item, _below(get_args(model)[1]), (*path, name))
        elif isinstance(model, type) and issubclass(model, Section):
            for old, new in model.renamed.items():
                if old in value and new in value:
                    self.report(
                        self.as_written((*path, old)), f"is the former name of {new}, which is also here: keep {new}"
                    )
                    del value[old]
                elif old in value:
                    # Same position: problems are listed in the order of the file.
                    renamed = {new if key == old else key: item for key, item in value.items()}
                    value.clear()
                    value |= renamed
                    self.renamed[*path, new] = old
            for name, field_info in model.model_fields.items():
                if name in value:
                    self.rename(value[name], _below(field_info.annotation), (*path, name))

    def as_written(self, place: KeyPath) -> KeyPath:
        """The place in the file for a place in the settled config.

        The file may have `database` for `databases.main`, and former names of keys.
        """
        for new, old in self.renamed.items():
            if place[: len(new)] == new:
                place = (*new[:-1], old, *place[len(new) :])
        is_shorthand = place[:2] == ("databases", "main") and ("databases",) not in self.marks
        return ("database", *place[2:]) if is_shorthand else place

    def report_invalid(self, error: ValidationError, settled: dict[str, Any]) -> None:
        """Report the errors of the schema with places of the file."""
        details = error.errors(include_url=False, include_input=False)
        slips: set[KeyPath] = set()
        # Unknown keys first: a misspelt required key is not reported as missing too.
        for detail in sorted(details, key=lambda detail: detail["type"] != "extra_forbidden"):
            place = _existing(detail["loc"], settled)
            path = self.as_written(place)
            if detail["type"] == "missing":
                if place not in slips and path[:-1] not in self.unreadable:
                    self.report(path, _absent(place, self.model) or "is required: add it")
            elif detail["type"] == "extra_forbidden":
                message, meant = _unknown_key(_section(place[:-1], self.model), str(place[-1]))
                self.report(path, message)
                slips.add((*place[:-1], meant))
            elif path in self.marks:  # an inherited value is reported only at its origin
                for message in self._messages(detail, place, path):
                    self.report(path, message)

    def _messages(self, detail: Any, place: KeyPath, path: KeyPath) -> tuple[str, ...]:  # noqa: ANN401 - see below
        """Every mistake in a value: each argument of the error is one mistake."""
        if detail["type"] == "value_error":
            return tuple(map(str, detail["ctx"]["error"].args))
        return (self._message(detail, place, path),)

    def _message(self, detail: Any, place: KeyPath, path: KeyPath) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
        match detail["type"]:
            case "string_type" if (node := self.scalars.get(path)) and not self.is_secret(path):
                return f'must be text, but YAML reads {node.value} as {_KINDS[node.tag]}: write "{node.value}"'
            case "model_type" | "model_attributes_type":
                return f"must be a section with the keys {', '.join(_known_keys(_section(place, self.model)))}"
            case "too_short" if message := _absent(place, self.model):
                return message
            case "greater_than_equal":
                return f"must be at least {detail['ctx']['ge']:g}"
            case "less_than_equal":
                return f"must be at most {detail['ctx']['le']:g}"
            case "literal_error":
                return f"must be {detail['ctx']['expected'].replace(chr(39), '')}"
            case kind:
                return _MESSAGES[kind] if kind in _MESSAGES else str(detail["msg"])


def _absent(place: KeyPath, model: type[Section]) -> str | None:
    """The message of a section for a required key that is absent or empty; None without one of its own."""
    section = _section(place[:-1], model)
    return section.absent.get(str(place[-1])) if section is not None else None


def _settle(written: dict[str, Any]) -> dict[str, Any]:
    """Expand shorthand and inheritance, so that the schema has one form."""
    settled = dict(written)
    if "database" in settled and "databases" not in settled:
        settled["databases"] = {"main": settled.pop("database")}
    collection, databases = settled.get("collection"), settled.get("databases")
    own = collection.get("interval") if isinstance(collection, dict) else None
    inherited: dict[str, Any] = {"interval": CollectionSettings().interval if own is None else own}
    names = list(databases) if isinstance(databases, dict) else []
    if len(names) <= 1:
        inherited["database"] = names[0] if names else "main"
    if "pipelines" in settled:
        settled["pipelines"] = pipelines = _inherit(settled["pipelines"], inherited)
        for pipeline in pipelines.values() if isinstance(pipelines, dict) else ():
            if isinstance(pipeline, dict) and "records" in pipeline:
                grace = {"grace": pipeline["grace"]} if "grace" in pipeline else {}
                pipeline["records"] = _inherit(pipeline["records"], grace)
    return settled


def _inherit(value: Any, defaults: dict[str, Any]) -> Any:  # noqa: ANN401 - YAML
    if not isinstance(value, dict):
        return value
    return {name: defaults | item | {"name": name} if isinstance(item, dict) else item for name, item in value.items()}


def _existing(location: KeyPath, data: Any) -> KeyPath:  # noqa: ANN401 - YAML
    """The path in the config for a location of pydantic, without pydantic's own steps."""
    path: list[str | int] = []
    for step in location:
        if isinstance(data, dict) and isinstance(step, str) and (step in data or step != "[key]"):
            path.append(step)
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            path.append(step)
            data = data[step]
    return tuple(path)


def _unknown_key(section: type[Section] | None, key: str) -> tuple[str, str]:
    """The message about an unknown key, and the nearest known key (empty if there is no near key)."""
    if section and key in section.refused:
        return section.refused[key], ""
    known = _known_keys(section)
    return f"unknown key{known_names(key, known)}", nearest(key, known) or ""


def _known_keys(section: type[Section] | None) -> list[str]:
    return sorted(section.model_fields.keys() - {"name"}) if section else []


def _section(place: KeyPath, model: type[Section] = CONFIG) -> type[Section] | None:
    """The model of the section at `place` of a settled config; None if there is no section."""
    current: Any = model
    for step in place:
        if get_origin(current) is dict:
            current = get_args(current)[1]
        elif isinstance(current, type) and issubclass(current, Section) and step in current.model_fields:
            current = current.model_fields[str(step)].annotation
        elif not isinstance(step, int):
            return None
        if get_origin(current) is not dict:
            current = next(sections_in(current), current)
    return current if isinstance(current, type) and issubclass(current, Section) else None


def _below(annotation: Any) -> Any:  # noqa: ANN401 - any type
    """The type of the value of a field: the mapping, or the section."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation if get_origin(annotation) is dict else next(sections_in(annotation), annotation)


def _is_secret(path: KeyPath) -> bool:
    """Whether the key has a secret, or may have one by mistake."""
    place = path[1:] if path[:1] == ("database",) else path[2:] if path[:1] == ("databases",) else ()
    return place in {("url",), ("url_file",), ("password_file",)}


def dotted(path: KeyPath) -> str:
    """A path of keys as text, such as a.b[0]; hides a URL or the hash of a password that is a key by mistake."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        elif _LIKE_A_URL.search(step):
            shown += ".<a url>"
        elif step.startswith("$2"):
            shown += ".<a hash>"
        else:
            short = step if len(step) <= _LONGEST_STEP else f"{step[:_LONGEST_STEP]}…"
            shown += "." * bool(shown) + (short if re.fullmatch(r"[\w-]+", short) else json.dumps(short))
    return shown
