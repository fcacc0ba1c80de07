"""Schema + dimensions -> the model of the whole file: each dimension adds keys and limits.

https://docs.pydantic.dev/latest/concepts/models/#dynamic-model-creation
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, get_args

from pydantic import AfterValidator, Field, create_model

from exporter.dimensions import DIMENSIONS
from exporter.model.judging import Limit
from exporter.model.sections import THRESHOLDS, Config, Key, Limits, Pipeline, Record, Section, Sessions, Thresholds
from exporter.model.values import Name

LIMITS: Final[tuple[Limit, ...]] = tuple(limit for dimension in DIMENSIONS for limit in dimension.limits)
"""Every limit of the config format, in the order of the dimensions."""

NEEDS: Final = {limit.name: limit.needs for limit in LIMITS}
"""By the name of a limit: the keys of the pipeline without which the limit would judge nothing."""


KEYS: Final[tuple[Key[Any], ...]] = tuple(key for dimension in DIMENSIONS for key in dimension.keys)
"""Every key that a dimension adds."""


def _with_keys(model: type[Section], keys: Iterable[Key[Any]]) -> type[Section]:
    fields: dict[str, Any] = {key.name: (key.kind, Field(default=key.default, description=key.help)) for key in keys}
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, **fields)


def _limits() -> type[Section]:
    fields: dict[str, Any] = {}
    for limit in LIMITS:
        ordered = AfterValidator(_falling if limit.below else _rising)
        side = "below" if limit.below else "above"
        model: Any = THRESHOLDS[limit.unit]
        fields[limit.name] = (
            Annotated[model, ordered] | None,
            Field(default=None, description=f"{limit.what}: broken {side} the threshold."),
        )
    made = create_model(Limits.__name__, __base__=Limits, __doc__=Limits.__doc__, **fields)
    made.renamed = {limit.former_name: limit.name for limit in LIMITS if limit.former_name}
    return made


def _rising(thresholds: Thresholds) -> Thresholds:
    return _check_order(thresholds, below=False)


def _falling(thresholds: Thresholds) -> Thresholds:
    return _check_order(thresholds, below=True)


def _check_order(given: Thresholds, *, below: bool) -> Thresholds:
    warning: Any = given.warning
    critical: Any = given.critical
    if warning is not None and critical is not None and (critical > warning if below else critical < warning):
        side = "above" if below else "below"
        raise ValueError(f"has critical {side} warning, so that warning never applies: exchange the two numbers")
    return given


def _whole() -> type[Config]:
    sessions = _with_keys(Sessions, (key for key in KEYS if key.section == "sessions"))
    record = _with_keys(Record, (key for key in KEYS if key.section == "record"))
    limits = _limits()
    pipeline = create_model(
        Pipeline.__name__,
        __base__=Pipeline,
        __doc__=Pipeline.__doc__,
        sessions=(sessions, ...),
        records=(_named(record), ...),
        limits=(limits, Field(default_factory=limits)),
    )
    return create_model(
        Config.__name__,
        __base__=Config,
        __doc__=Config.__doc__,
        pipelines=(_named(pipeline), ...),
    )


def _named(model: Any) -> Any:  # noqa: ANN401 - a type that exists only when this runs
    return Annotated[dict[Name, model], Field(min_length=1)]


CONFIG: Final[type[Config]] = _whole()
"""The model of a config file."""


def _models(model: type[Section]) -> Iterator[type[Section]]:
    yield model
    for field in model.model_fields.values():
        for part in sections_in(field.annotation):
            yield from _models(part)


def sections_in(annotation: Any) -> Iterator[type[Section]]:  # noqa: ANN401 - any type
    """The section models in a type: the type itself, and every type inside the brackets."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from sections_in(part)


MODELS: Final[tuple[type[Section], ...]] = tuple(dict.fromkeys(_models(CONFIG)))
"""The model of each section of a file."""
