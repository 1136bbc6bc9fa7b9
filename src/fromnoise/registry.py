"""Components by name: what lets a configuration, which is data, name a schedule, a network or a sampler.

A component is a class whose constructor's signature is its schema: names, types, ranges (`Annotated[int, Field(ge=1)]`)
and defaults. Registering it

- makes construction check its arguments, whether they come from Python, a TOML file or a checkpoint;
- makes it remember them, so that a run can write down what it was built from;
- makes it findable by name, which is all that a checkpoint stores. Nothing is ever imported by path.

    @schedules.register("linear")
    @dataclass(frozen=True)
    class LinearBeta(TableSchedule):
        T: Annotated[int, Field(ge=1)] = 1000

    schedules.build({"name": "linear", "T": 500})     ->  LinearBeta(T=500)
    schedules.settings(LinearBeta(T=500))             ->  {"name": "linear", "T": 500, ...}
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from fromnoise import deprecated
from fromnoise.errors import ConfigError, UnknownName, one_line, shown

T = TypeVar("T")
C = TypeVar("C", bound=type)

Settings = dict[str, Any]
"""A component as data: its registered `name` and its constructor's arguments."""

STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True, defer_build=True)
"""Unknown keys and values out of range are refused; a schema is built when first used, not when imported."""


def explain(error: ValidationError, where: str, known: Iterable[str] = ()) -> ConfigError:
    """Return an error that says in one line what pydantic found wrong.

    Args:
        error: what pydantic raised.
        where: the thing that was configured, as a user would name it.
        known: the settings it has, of which a misspelt one may be.
    """
    parts, count = [], error.error_count()
    if count > 1000:
        return ConfigError(f"{where}: {count:,} settings cannot be used")
    for item in error.errors(include_url=False)[:10]:
        place = ".".join(str(p) for p in item["loc"])
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(place, known, n=1, cutoff=0.7)
            hint = f" (did you mean {near[0]}?)" if near else ""
            parts.append(f"{place} is not a setting of {where}{hint}")
        elif item["type"] == "missing":
            parts.append(f"{place} is missing")
        else:
            parts.append(_said(place, item))
    more = count - len(parts)
    return ConfigError(one_line(f"{where}: {'; '.join(parts)}{f'; and {more} more' if more else ''}"))


def _said(place: str, item: Any) -> str:
    """Return what pydantic says of a value at a place."""
    context = item.get("ctx", {})
    if isinstance(context.get("error"), (ConfigError, UnknownName)):  # of a component, which names itself and its value
        return str(context["error"])
    if item["type"] in ("too_short", "too_long"):
        most = "least" if item["type"] == "too_short" else "most"
        count = context.get("min_length", context.get("max_length"))
        text = f"should have at {most} {count} item{'' if count == 1 else 's'}"
    elif item["type"] == "int_parsing_size":
        text = "should be a smaller whole number"
    else:
        text = item["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return f"{place} {text}, not {shown(item['input'])}" if place else text


def _schema(cls: type, name: str) -> type[BaseModel]:
    """Make the pydantic model whose fields are the constructor's arguments."""
    try:
        hints = get_type_hints(cls.__init__, include_extras=True)
    except NameError:  # a data class of another module's data class, whose names are not known where __init__ is made
        hints = get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hints.get(parameter.name, Any), default)
    return create_model(name, __config__=STRICT, **fields)


_OWN = "; one of your own is known once its module is imported, on the command line with --plugin FILE"


class Registry(Generic[T]):
    """The components of one kind.

    Args:
        kind: the word for one of them in messages ("schedule").
        many: the word for several of them, `<kind>s` when not given; installed packages offer theirs as entry points of
            the group `fromnoise.<many>`.
    """

    def __init__(self, kind: str, many: str | None = None) -> None:
        self.kind, self.many = kind, many or f"{kind}s"
        self._classes: dict[str, type] = {}
        self._schemas: dict[str, type[BaseModel]] = {}
        self._formerly: dict[str, str] = {}
        self._renamed: dict[str, Mapping[str, str]] = {}
        self._asked_others = False

    def register(
        self, name: str, *, formerly: Sequence[str] = (), renamed: Mapping[str, str] = MappingProxyType({})
    ) -> Callable[[C], C]:
        """Register the decorated class under `name`; its constructor then checks and remembers its arguments.

        Args:
            name: its name in configurations.
            formerly: its names in earlier releases, which still work, with a DeprecationWarning.
            renamed: its settings' names in earlier releases and what they are called now; the old ones still work too.
        """
        self._formerly.update(dict.fromkeys(formerly, name))
        self._renamed[name] = renamed

        def decorate(cls: C) -> C:
            init = cls.__init__
            signature = inspect.signature(init)

            @functools.wraps(init)
            def checked(self: Any, *args: Any, **kwargs: Any) -> None:
                if type(self) is not cls:  # a subclass calls its parent: only the outermost arguments count
                    init(self, *args, **kwargs)
                    return
                try:
                    bound = signature.bind(self, *args, **kwargs).arguments
                except TypeError as error:
                    raise ConfigError(f"{self_name}: {error}") from None
                values = self_registry._check(name, dict(list(bound.items())[1:]))
                init(self, **values)
                object.__setattr__(self, "_settings", {"name": name, **values})

            self_registry, self_name = self, f"{self.kind} {name!r}"
            cls.__init__ = checked
            self._classes[name] = cls
            return cls

        return decorate

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        self._ask_others()
        return sorted(self._classes)

    def find(self, name: str) -> type[T]:
        """Return the class registered under `name`.

        Raises:
            UnknownName: if there is none.
        """
        if name not in self._classes:
            self._ask_others()
        if name not in self._classes:
            raise UnknownName(self.kind, name, self._classes, _OWN)
        return self._classes[name]

    def schema(self, name: str) -> type[BaseModel]:
        """Return the pydantic model of the settings of `name` (without the name itself)."""
        cls = self.find(name)
        if name not in self._schemas:
            self._schemas[name] = _schema(cls, f"{cls.__name__}Settings")
        return self._schemas[name]

    def build(self, settings: Mapping[str, Any] | str) -> T:
        """Make a component from its settings, or from its name alone.

        Raises:
            UnknownName: if no component has that name.
            ConfigError: if a setting is unknown, missing or out of range.
        """
        arguments = self.complete(settings)
        return self.find(arguments.pop("name"))(**arguments)

    def get(self, given: T | Mapping[str, Any] | str) -> T:
        """Return a component that is given as itself, by name, or by settings.

        Raises:
            ConfigError: if its class is given in its place; otherwise as `build` does.
        """
        if isinstance(given, type):
            raise ConfigError(f"{self.kind}: give an object, {given.__name__}(...), and not its class")
        return self.build(given) if isinstance(given, str | Mapping) else given

    def complete(self, settings: Any) -> Settings:
        """Check settings, a name or a component, and fill in the defaults. Raises as `build` does."""
        if type(settings) in self._classes.values():
            settings = self.settings(settings)
        if not isinstance(settings, str | Mapping):
            raise ConfigError(f"{self.kind}: a name or settings are expected, not {shown(settings)}")
        given = {"name": settings} if isinstance(settings, str) else dict(settings)
        if "name" not in given:
            raise ConfigError(f"{self.kind}: name is missing; known: {', '.join(self.names())}")
        if not isinstance(given["name"], str):
            raise UnknownName(self.kind, given["name"], self.names())
        name, given = self.current(given.pop("name"), given, warn=True)
        return {"name": name, **self._check(name, given)}

    def current(self, name: str, given: Mapping[str, Any], *, warn: bool = False) -> tuple[str, dict[str, Any]]:
        """Return a component's name and settings with the names of earlier releases brought up to date."""
        now = self._formerly.get(name, name)
        renamed = self._renamed.get(now, {})
        old = [name] * (now != name) + [key for key in given if key in renamed]
        if warn and old:
            new = ", ".join(repr(renamed.get(word, now)) for word in old)
            deprecated.warn(f"{self.kind} {now!r}: {', '.join(map(repr, old))}", new, stacklevel=4)
        return now, {renamed.get(key, key): value for key, value in given.items()}

    def changed(self, component: T) -> Settings:
        """Return the component's name and those of its settings that are not the defaults."""
        settings = self.settings(component)
        try:
            usual = self.settings(self.build(settings["name"]))
        except ConfigError:  # it has settings without a default
            usual = {}
        return {key: value for key, value in settings.items() if key == "name" or value != usual.get(key)}

    def settings(self, component: T) -> Settings:
        """Return the component as data, every argument spelled out.

        Raises:
            ConfigError: if its class was never registered, so that a run could not name it.
        """
        try:
            settings = dict(component._settings)  # pyright: ignore[reportAttributeAccessIssue] set by `register`
        except AttributeError:
            raise ConfigError(
                f"{type(component).__name__} is not a registered {self.kind}: decorate the class with "
                f"@fromnoise.register.{self.kind}('a-name') so that a run can be saved and loaded"
            ) from None
        fields = self.schema(settings["name"]).model_fields
        for key, value in settings.items():
            if value is None and fields[key].default is not None:
                raise ConfigError(
                    f"{self.kind} {settings['name']!r}: {key} cannot be kept as None, which TOML cannot say"
                )
        return settings

    def as_settings(self, given: T | Mapping[str, Any] | str | None) -> Mapping[str, Any] | str | None:
        """Return a component as data; its name, its settings or None are returned as they are. Raises as `settings`."""
        return given if given is None or isinstance(given, str | Mapping) else self.settings(given)

    def _check(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        try:
            model = self.schema(name)(**given)
        except ValidationError as error:
            raise explain(error, f"{self.kind} {name!r}", self.schema(name).model_fields) from None
        return {field: getattr(model, field) for field in type(model).model_fields}

    def _ask_others(self) -> None:
        """Load the components that installed packages offer, once."""
        if self._asked_others:
            return
        self._asked_others = True
        for entry in entry_points(group=f"fromnoise.{self.many}"):
            if entry.name not in self._classes:
                self.register(entry.name)(entry.load())
